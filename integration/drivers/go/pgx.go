// pgx 4: binary values, a cache of statements named lrupsc_1_0, …, batches that are pipelines.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

var forever = context.Background()

// pgx reads libpq's variables.
func open(change ...func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("")
	must(err)
	for _, each := range change {
		each(config)
	}
	return pgx.ConnectConfig(forever, config)
}

func connect(change ...func(*pgx.ConnConfig)) *pgx.Conn {
	db, err := open(change...)
	must(err)
	return db
}

func code(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return fmt.Sprint(err)
}

type querier interface {
	QueryRow(ctx context.Context, sql string, values ...interface{}) pgx.Row
}

func scan(db querier, into interface{}, sql string, values ...interface{}) {
	must(db.QueryRow(forever, sql, values...).Scan(into))
}

// Three times with a prepared statement, then as a simple query.
func value[T any](kind string, value T, text string) {
	db := connect()
	defer db.Close(forever)
	for turn := 0; turn < 3; turn++ {
		var found T
		var asText string
		sql := fmt.Sprintf("SELECT $1::%s, ($1::%s)::text", kind, kind)
		must(db.QueryRow(forever, sql, value).Scan(&found, &asText))
		same(found, value)
		same(asText, text)
	}
}

func null(kind string) {
	db := connect()
	defer db.Close(forever)
	var found *string
	scan(db, &found, "SELECT ($1::"+kind+")::text", nil)
	same(found, (*string)(nil))
}

func main() {
	run("pgx 4.15.0", checks{
		"tls": func() {
			db := connect()
			defer db.Close(forever)
			var found int
			scan(db, &found, "SELECT 1")
			same(found, 1)
			must(os.Setenv("PGSSLROOTCERT", os.Getenv("DRIVER_STRANGER")))
			_, err := open()
			must(os.Setenv("PGSSLROOTCERT", authority))
			same(strings.Contains(fmt.Sprint(err), "unknown authority"), true)
		},
		"scram": func() {
			_, err := open(func(c *pgx.ConnConfig) { c.Password = "wrong" })
			same(code(err), "28P01")
		},
		"numbers": func() {
			value("int2", int16(-32768), "-32768")
			value("int8", int64(-9223372036854775808), "-9223372036854775808")
			value("float8", 0.1, "0.1")
			value("bool", true, "true")
			db := connect()
			defer db.Close(forever)
			var found string
			scan(db, &found, "SELECT ($1::numeric)::text", "12345678901234567890.123456789")
			same(found, "12345678901234567890.123456789")
			scan(db, &found, "SELECT ($1::uuid)::text", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
			same(found, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
		},
		"text":   func() { value("text", oddText, oddText); value("text", "", "") },
		"bytea":  func() { value("bytea", allBytes(), fmt.Sprintf("\\x%x", allBytes())) },
		"nulls":  func() { null("int4"); null("text"); null("bytea"); null("timestamptz") },
		"arrays": func() {
			three := int64(-3)
			one := int64(1)
			value("int8[]", []*int64{&one, nil, &three}, "{1,NULL,-3}")
			value("text[]", []string{"a", "b c", "q\"uo\\te", "", "NULL", "ü,{}"}, `{a,"b c","q\"uo\\te","","NULL","ü,{}"}`)
		},
		"json": func() {
			document := map[string]interface{}{"a": []interface{}{1.0, 2.5, map[string]interface{}{"b": nil}}, "ü": "☃"}
			value("jsonb", document, `{"a": [1, 2.5, {"b": null}], "ü": "☃"}`)
		},
		"times": func() {
			at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
			db := connect()
			defer db.Close(forever)
			for turn := 0; turn < 3; turn++ {
				var zoned, local, day time.Time
				var text string
				sql := "SELECT $1::timestamptz, $2::timestamp, $3::date, concat_ws(' / ', $1, $2, $3)"
				must(db.QueryRow(forever, sql, at, at, at.Truncate(24*time.Hour)).Scan(&zoned, &local, &day, &text))
				same(zoned.Equal(at) && local.Equal(at) && day.Equal(at.Truncate(24*time.Hour)), true)
				same(text, "2024-02-29 23:59:59.123456+00 / 2024-02-29 23:59:59.123456 / 2024-02-29")
			}
		},
		"large": func() {
			db := connect()
			defer db.Close(forever)
			text, bytes := longText(), longBytes()
			for turn := 0; turn < 3; turn++ {
				var foundText string
				var foundBytes []byte
				must(db.QueryRow(forever, "SELECT $1::text, $2::bytea", text, bytes).Scan(&foundText, &foundBytes))
				same(foundText == text, true)
				same(foundBytes, bytes)
			}
			rows, err := db.Query(forever, "SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n")
			must(err)
			sum := 0
			for rows.Next() {
				values, err := rows.Values()
				must(err)
				sum += int(values[0].(int32))
			}
			must(rows.Err())
			same(sum, 200010000)
		},
		"prepared": func() {
			var dbs []*pgx.Conn
			for n := 0; n < clients; n++ {
				db := connect()
				defer db.Close(forever)
				_, err := db.Prepare(forever, "mine", fmt.Sprintf("SELECT 'client %d: ' || ($1::int + %d)", n, n))
				must(err)
				dbs = append(dbs, db)
			}
			for turn := 0; turn < rounds; turn++ {
				for n, db := range dbs {
					var text string
					scan(db, &text, "mine", turn)
					same(text, fmt.Sprintf("client %d: %d", n, turn+n))
					var number int
					division := fmt.Sprintf("SELECT %d / $1::int", n)
					same(code(db.QueryRow(forever, division, 0).Scan(&number)), "22012")
					scan(db, &number, division, 1)
					same(number, n)
				}
			}
			must(dbs[0].Deallocate(forever, "mine"))
			together(func(n int) {
				// Only described, never kept: pgx's way for poolers that know no statements.
				db := connect(func(c *pgx.ConnConfig) { c.PreferSimpleProtocol = n%2 == 0 })
				defer db.Close(forever)
				for turn := 0; turn < rounds; turn++ {
					var number int
					scan(db, &number, fmt.Sprintf("SELECT $1::int + %d", n), turn)
					same(number, turn+n)
				}
			})
		},
		"clients": func() {
			config, err := pgxpool.ParseConfig("")
			must(err)
			config.MaxConns = clients
			pool, err := pgxpool.ConnectConfig(forever, config)
			must(err)
			defer pool.Close()
			together(func(n int) {
				db, err := pool.Acquire(forever)
				must(err)
				defer db.Release()
				name := fmt.Sprint("client ", n)
				for turn := 0; turn < rounds; turn++ {
					key := 1000 + n*rounds + turn
					must(db.BeginFunc(forever, func(block pgx.Tx) error {
						_, err := block.Exec(forever, "INSERT INTO "+table+" (id, name) VALUES ($1, $2)", key, name)
						must(err)
						var found string
						scan(block, &found, "SELECT name FROM "+table+" WHERE id = $1", key)
						same(found, name)
						return nil
					}))
					var count int
					scan(db, &count, "SELECT count(*) FROM "+table+" WHERE name = $1", name)
					same(count, turn+1)
				}
			})
		},
		"pipeline": func() {
			db := connect()
			defer db.Close(forever)
			batch := &pgx.Batch{}
			for n := 0; n < 100; n++ {
				batch.Queue("SELECT $1::int", n)
			}
			results := db.SendBatch(forever, batch)
			for n := 0; n < 100; n++ {
				var found int
				must(results.QueryRow().Scan(&found))
				same(found, n)
			}
			must(results.Close())
			// One transaction: an error undoes all of the batch.
			batch = &pgx.Batch{}
			batch.Queue("INSERT INTO "+table+" (id) VALUES ($1)", 2000)
			batch.Queue("SELECT 1 / $1::int", 0)
			batch.Queue("INSERT INTO "+table+" (id) VALUES ($1)", 2001)
			results = db.SendBatch(forever, batch)
			_, err := results.Exec()
			must(err)
			var found int
			same(code(results.QueryRow().Scan(&found)), "22012")
			_ = results.Close()
			scan(db, &found, "SELECT count(*) FROM "+table+" WHERE id IN (2000, 2001)")
			same(found, 0)
		},
		"cursor": func() {
			db := connect()
			defer db.Close(forever)
			must(db.BeginFunc(forever, func(block pgx.Tx) error {
				_, err := block.Exec(forever, "DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 10) n")
				must(err)
				for n := 1; n <= 10; n++ {
					var found int
					scan(block, &found, "FETCH NEXT FROM c")
					same(found, n)
				}
				return nil
			}))
		},
		"copy": func() {
			db := connect()
			defer db.Close(forever)
			rows := [][]interface{}{}
			for n := 0; n < 1000; n++ {
				rows = append(rows, []interface{}{int64(3000 + n), fmt.Sprintf("copied\t%d\n\\", n), []byte{0, 255}})
			}
			columns := []string{"id", "name", "raw"}
			count, err := db.CopyFrom(forever, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
			must(err)
			same(count, int64(1000))
			var name string
			scan(db, &name, "SELECT name FROM "+table+" WHERE id = $1", 3999)
			same(name, "copied\t999\n\\")
			var out strings.Builder
			_, err = db.PgConn().CopyTo(forever, &out, "COPY (SELECT id FROM "+table+" WHERE id BETWEEN 3000 AND 3001 ORDER BY id) TO STDOUT")
			must(err)
			same(out.String(), "3000\n3001\n")
			_, err = db.CopyFrom(forever, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows[:1]))
			same(code(err), "23505")
			_, err = db.PgConn().CopyFrom(forever, strings.NewReader("not a number\n"), "COPY "+table+" (id) FROM STDIN")
			same(code(err), "22P02")
			scan(db, &name, "SELECT 'alive'")
			same(name, "alive")
		},
		"cancel": func() {
			db := connect()
			defer db.Close(forever)
			ended := make(chan struct{})
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-ended:
						return
					case <-time.After(200 * time.Millisecond):
						must(db.PgConn().CancelRequest(forever))
					}
				}
			}()
			_, err := db.Exec(forever, "SELECT pg_sleep(20)")
			close(ended)
			<-stopped
			same(code(err), "57014")
			for n := 0; n < 20; n++ {
				var found int
				scan(db, &found, "SELECT $1::int", n)
				same(found, n)
			}
		},
		"errors": func() {
			db := connect()
			defer db.Close(forever)
			insert := "INSERT INTO " + table + " (id) VALUES ($1)"
			block, err := db.Begin(forever)
			must(err)
			_, err = block.Exec(forever, insert, 1)
			must(err)
			_, err = block.Exec(forever, insert, 1)
			same(code(err), "23505")
			var server *pgconn.PgError
			errors.As(err, &server)
			same(server.ConstraintName, table+"_pkey")
			_, err = block.Exec(forever, "SELECT 1")
			same(code(err), "25P02")
			must(block.Rollback(forever))
			block, err = db.Begin(forever)
			must(err)
			_, err = block.Exec(forever, insert, 1)
			must(err)
			inner, err := block.Begin(forever)
			must(err)
			_, err = inner.Exec(forever, insert, 2)
			must(err)
			_, err = inner.Exec(forever, "SELECT 1 / 0")
			same(code(err), "22012")
			must(inner.Rollback(forever))
			must(block.Commit(forever))
			var count int
			scan(db, &count, "SELECT count(*) FROM "+table+" WHERE id < 10")
			same(count, 1)
		},
		"settings": func() {
			var dbs []*pgx.Conn
			for n := 0; n < clients; n++ {
				db := connect(func(c *pgx.ConnConfig) {
					c.RuntimeParams["application_name"] = fmt.Sprint("client ", n)
					c.RuntimeParams["statement_timeout"] = fmt.Sprint(n+1, "min")
				})
				defer db.Close(forever)
				for _, sql := range []string{"SET TIME ZONE 'Etc/GMT+%d'", "SET search_path = s%d, public"} {
					_, err := db.Exec(forever, fmt.Sprintf(sql, n))
					must(err)
				}
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
			listener, sender := connect(), connect()
			defer listener.Close(forever)
			defer sender.Close(forever)
			_, err := listener.Exec(forever, "LISTEN pgx")
			must(err)
			for n := 0; n < 3; n++ {
				_, err := sender.Exec(forever, "SELECT pg_notify('pgx', $1)", fmt.Sprint("message ", n))
				must(err)
			}
			limit, cancel := context.WithTimeout(forever, 10*time.Second)
			defer cancel()
			for n := 0; n < 3; n++ {
				message, err := listener.WaitForNotification(limit)
				must(err)
				same(message.Channel+" "+message.Payload, fmt.Sprint("pgx message ", n))
			}
		},
		"keyed": func() {
			db := connect()
			defer db.Close(forever)
			for n := 0; n < 20; n++ {
				key, name := 100+n, fmt.Sprint("name ", n)
				_, err := db.Exec(forever, "INSERT INTO "+table+" (id, name) VALUES ($1, $2)", key, name)
				must(err)
				var found string
				scan(db, &found, "SELECT name FROM "+table+" WHERE id = $1", key)
				same(found, name)
				tag, err := db.Exec(forever, "UPDATE "+table+" SET amount = $1 WHERE id = $2", n, key)
				must(err)
				same(tag.String(), "UPDATE 1")
				must(db.BeginFunc(forever, func(block pgx.Tx) error {
					_, err := block.Exec(forever, "UPDATE "+table+" SET amount = amount + 1 WHERE id = $1", key)
					return err
				}))
				var amount float64
				scan(db, &amount, "SELECT amount::float8 FROM "+table+" WHERE id = $1", key)
				same(amount, float64(n+1))
			}
			tag, err := db.Exec(forever, "DELETE FROM "+table+" WHERE id = $1", 100)
			must(err)
			same(tag.String(), "DELETE 1")
			same(errors.Is(db.QueryRow(forever, "SELECT name FROM "+table+" WHERE id = $1", 100).Scan(nil), pgx.ErrNoRows), true)
		},
	}, nil)
}

var authority = os.Getenv("PGSSLROOTCERT")
