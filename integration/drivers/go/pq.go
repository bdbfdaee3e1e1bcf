// lib/pq through database/sql: text values, an unnamed statement per query, statements named 1, 2, ….
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lib/pq"
)

// lib/pq reads libpq's variables.
func open(size int, more string) *sql.DB {
	db, err := sql.Open("postgres", more)
	must(err)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db
}

func code(err error) string {
	var server *pq.Error
	if errors.As(err, &server) {
		return string(server.Code)
	}
	return fmt.Sprint(err)
}

type querier interface {
	QueryRow(sql string, values ...interface{}) *sql.Row
}

func scan(db querier, into interface{}, text string, values ...interface{}) {
	must(db.QueryRow(text, values...).Scan(into))
}

func exec(db *sql.DB, text string, values ...interface{}) int64 {
	result, err := db.Exec(text, values...)
	must(err)
	count, err := result.RowsAffected()
	must(err)
	return count
}

// By itself, and with one prepared statement.
func value[T any](kind string, value interface{}, text string) {
	db := open(1, "")
	defer db.Close()
	query := fmt.Sprintf("SELECT $1::%s, ($1::%s)::text", kind, kind)
	statement, err := db.Prepare(query)
	must(err)
	for turn := 0; turn < 3; turn++ {
		var found T
		var asText string
		must(statement.QueryRow(value).Scan(&found, &asText))
		same(asText, text)
		must(db.QueryRow(query, value).Scan(&found, &asText))
		same(asText, text)
		same(fmt.Sprint(found), fmt.Sprint(value))
	}
}

func main() {
	run("lib/pq 1.10.7", checks{
		"tls": func() {
			db := open(1, "")
			defer db.Close()
			must(db.Ping())
			stranger := open(1, "sslrootcert='"+os.Getenv("DRIVER_STRANGER")+"'")
			defer stranger.Close()
			same(strings.Contains(fmt.Sprint(stranger.Ping()), "unknown authority"), true)
		},
		"scram": func() {
			db := open(1, "password=wrong")
			defer db.Close()
			same(code(db.Ping()), "28P01")
		},
		"numbers": func() {
			value[int64]("int2", int64(-32768), "-32768")
			value[int64]("int8", int64(-9223372036854775808), "-9223372036854775808")
			value[float64]("float8", 0.1, "0.1")
			value[bool]("bool", true, "true")
			value[string]("numeric", "12345678901234567890.123456789", "12345678901234567890.123456789")
			value[string]("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
		},
		"text":  func() { value[string]("text", oddText, oddText); value[string]("text", "", "") },
		"bytea": func() { value[[]byte]("bytea", allBytes(), fmt.Sprintf("\\x%x", allBytes())) },
		"nulls": func() {
			db := open(1, "")
			defer db.Close()
			for _, kind := range []string{"int4", "text", "bytea", "timestamptz"} {
				var found sql.NullString
				scan(db, &found, "SELECT $1::"+kind, nil)
				same(found.Valid, false)
			}
		},
		"arrays": func() {
			db := open(1, "")
			defer db.Close()
			texts := []string{"a", "b c", "q\"uo\\te", "", "NULL", "ü,{}"}
			var foundTexts []string
			scan(db, pq.Array(&foundTexts), "SELECT $1::text[]", pq.Array(texts))
			same(foundTexts, texts)
			var numbers []sql.NullInt64
			scan(db, pq.Array(&numbers), "SELECT '{1,NULL,-3}'::int8[]")
			same(numbers, []sql.NullInt64{{Int64: 1, Valid: true}, {}, {Int64: -3, Valid: true}})
		},
		"json": func() {
			value[string]("jsonb", `{"a": [1, 2.5, {"b": null}], "ü": "☃"}`, `{"a": [1, 2.5, {"b": null}], "ü": "☃"}`)
		},
		"times": func() {
			db := open(1, "")
			defer db.Close()
			at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
			var zoned, local time.Time
			var text string
			row := db.QueryRow("SELECT $1::timestamptz, $1::timestamptz::timestamp, concat_ws(' / ', $1::timestamptz, $1::timestamptz::date)", at)
			must(row.Scan(&zoned, &local, &text))
			same(zoned.Equal(at) && local.Equal(at), true)
			same(text, "2024-02-29 23:59:59.123456+00 / 2024-02-29")
		},
		"large": func() {
			db := open(1, "")
			defer db.Close()
			text, bytes := longText(), longBytes()
			for turn := 0; turn < 3; turn++ {
				var foundText string
				var foundBytes []byte
				must(db.QueryRow("SELECT $1::text, $2::bytea", text, bytes).Scan(&foundText, &foundBytes))
				same(foundText == text, true)
				same(foundBytes, bytes)
			}
		},
		"prepared": func() {
			var dbs []*sql.DB
			var own []*sql.Stmt
			for n := 0; n < clients; n++ {
				db := open(1, "")
				defer db.Close()
				statement, err := db.Prepare(fmt.Sprintf("SELECT 'client %d: ' || ($1::int + %d)", n, n))
				must(err)
				dbs, own = append(dbs, db), append(own, statement)
			}
			for turn := 0; turn < rounds; turn++ {
				for n, db := range dbs {
					var text string
					must(own[n].QueryRow(turn).Scan(&text))
					same(text, fmt.Sprintf("client %d: %d", n, turn+n))
					var number int
					division, err := db.Prepare(fmt.Sprintf("SELECT %d / $1::int", n))
					must(err)
					same(code(division.QueryRow(0).Scan(&number)), "22012")
					must(division.QueryRow(1).Scan(&number))
					same(number, n)
					must(division.Close())
				}
			}
		},
		"clients": func() {
			db := open(clients, "")
			defer db.Close()
			together(func(n int) {
				name := fmt.Sprint("client ", n)
				for turn := 0; turn < rounds; turn++ {
					key := 1000 + n*rounds + turn
					block, err := db.Begin()
					must(err)
					_, err = block.Exec("INSERT INTO "+table+" (id, name) VALUES ($1, $2)", key, name)
					must(err)
					var count int
					scan(block, &count, "SELECT count(*) FROM "+table+" WHERE name = $1", name)
					same(count, turn+1)
					must(block.Commit())
				}
			})
		},
		"cursor": func() {
			db := open(1, "")
			defer db.Close()
			block, err := db.Begin()
			must(err)
			_, err = block.Exec("DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 10) n")
			must(err)
			for n := 1; n <= 10; n++ {
				var found int
				scan(block, &found, "FETCH NEXT FROM c")
				same(found, n)
			}
			must(block.Commit())
		},
		"copy": func() {
			db := open(1, "")
			defer db.Close()
			copy := func(id interface{}) error {
				block, err := db.Begin()
				must(err)
				statement, err := block.Prepare(pq.CopyIn(table, "id", "name"))
				must(err)
				for n := 0; n < 500; n++ {
					if number, ok := id.(int); ok {
						_, err = statement.Exec(number+n, fmt.Sprintf("copied\t%d\n\\", n))
					} else {
						_, err = statement.Exec(id, "x")
					}
					must(err)
				}
				if _, err = statement.Exec(); err != nil {
					_ = block.Rollback()
					return err
				}
				must(statement.Close())
				return block.Commit()
			}
			must(copy(3000))
			var name string
			scan(db, &name, "SELECT name FROM "+table+" WHERE id = $1", 3499)
			same(name, "copied\t499\n\\")
			same(code(copy(3000)), "23505")
			scan(db, &name, "SELECT 'alive'")
			same(name, "alive")
		},
		"cancel": func() {
			db := open(1, "")
			defer db.Close()
			// The end of a context sends a CancelRequest.
			limit, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			defer cancel()
			_, err := db.ExecContext(limit, "SELECT pg_sleep(20)")
			same(code(err), "57014")
			for n := 0; n < 20; n++ {
				var found int
				scan(db, &found, "SELECT $1::int", n)
				same(found, n)
			}
		},
		"errors": func() {
			db := open(1, "")
			defer db.Close()
			insert := "INSERT INTO " + table + " (id) VALUES ($1)"
			block, err := db.Begin()
			must(err)
			_, err = block.Exec(insert, 1)
			must(err)
			_, err = block.Exec(insert, 1)
			same(code(err), "23505")
			var server *pq.Error
			errors.As(err, &server)
			same(server.Constraint, table+"_pkey")
			_, err = block.Exec("SELECT 1")
			same(code(err), "25P02")
			must(block.Rollback())
			block, err = db.Begin()
			must(err)
			for _, text := range []string{"INSERT INTO " + table + " (id) VALUES (1)", "SAVEPOINT s", "SELECT 1 / 0", "ROLLBACK TO s"} {
				if _, err = block.Exec(text); err != nil {
					same(code(err), "22012")
				}
			}
			must(block.Commit())
			var count int
			scan(db, &count, "SELECT count(*) FROM "+table+" WHERE id < 10")
			same(count, 1)
		},
		"settings": func() {
			var dbs []*sql.DB
			for n := 0; n < clients; n++ {
				db := open(1, fmt.Sprintf("application_name='client %d' statement_timeout=%d", n, (n+1)*60000))
				defer db.Close()
				exec(db, fmt.Sprintf("SET TIME ZONE 'Etc/GMT+%d'", n))
				exec(db, fmt.Sprintf("SET search_path = s%d, public", n))
				dbs = append(dbs, db)
			}
			for turn := 0; turn < rounds; turn++ {
				for n, db := range dbs {
					var found string
					scan(db, &found, "SELECT concat_ws(' / ', current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout'))")
					same(found, fmt.Sprintf("client %d / Etc/GMT+%d / s%d, public / %dmin", n, n, n, n+1))
				}
			}
		},
		"listen": func() {
			db := open(1, "")
			defer db.Close()
			listener := pq.NewListener("", time.Second, time.Second, nil)
			defer listener.Close()
			must(listener.Listen("lib_pq"))
			for n := 0; n < 3; n++ {
				exec(db, "SELECT pg_notify('lib_pq', $1)", fmt.Sprint("message ", n))
			}
			for n := 0; n < 3; n++ {
				select {
				case message := <-listener.Notify:
					same(message.Channel+" "+message.Extra, fmt.Sprint("lib_pq message ", n))
				case <-time.After(10 * time.Second):
					panic("nothing came within 10 s")
				}
			}
			must(listener.Ping())
		},
		"keyed": func() {
			db := open(1, "")
			defer db.Close()
			for n := 0; n < 20; n++ {
				key, name := 100+n, fmt.Sprint("name ", n)
				same(exec(db, "INSERT INTO "+table+" (id, name) VALUES ($1, $2)", key, name), int64(1))
				var found string
				scan(db, &found, "SELECT name FROM "+table+" WHERE id = $1", key)
				same(found, name)
				same(exec(db, "UPDATE "+table+" SET amount = $1 WHERE id = $2", n, key), int64(1))
				var amount float64
				scan(db, &amount, "SELECT amount::float8 FROM "+table+" WHERE id = $1", key)
				same(amount, float64(n))
			}
			same(exec(db, "DELETE FROM "+table+" WHERE id = $1", 100), int64(1))
			var count int
			scan(db, &count, "SELECT count(*) FROM "+table+" WHERE id = $1", 100)
			same(count, 0)
		},
	}, map[string]string{"pipeline": "lib/pq sends a query when the one before it was answered"})
}
