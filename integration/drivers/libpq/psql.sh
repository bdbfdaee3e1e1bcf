# psql: simple queries, COPY, and since version 10 variables that libpq sends as they are.
# shellcheck source=SCRIPTDIR/check.sh
. "$(dirname "$0")/check.sh"
declare -A absent=(
    [pipeline]="psql has no pipeline mode before version 18; see pgbench"
)

check_tls() {
    has "$(psql -X -c '\conninfo')" 'protocol: TLSv1.3'
    has "$(PGSSLROOTCERT=$DRIVER_STRANGER sql -c 'SELECT 1')" 'certificate verify failed'
    has "$(PGSSLMODE=disable sql -c 'SELECT 1')" 'FATAL'
}

check_scram() {
    same "$(sql -c 'SELECT current_user')" "$PGUSER"
    has "$(PGPASSWORD=wrong sql -c 'SELECT 1')" 'password authentication failed for user "app"'
}

check_numbers() {
    same "$(sql -c "SELECT -32768::int, 9223372036854775807, 12345678901234567890.123456789, 0.1::float8, true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid")" \
        '-32768|9223372036854775807|12345678901234567890.123456789|0.1|t|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'
}

check_text() {
    local odd="Zażółć 日本語 🐘 'single' \"double\" \\back\\"
    same "$(sql -v odd="$odd" <<<'SELECT :'"'odd'")" "$odd"
    # Bytes of another encoding pass as they are.
    same "$(PGCLIENTENCODING=LATIN1 sql -c "$(printf "SELECT 'gr\xfc\xdfe', length('gr\xfc\xdfe')")" | od -An -c | tr -d ' \n')" 'gr374337e|5\n'
}

check_bytea() { same "$(sql -c "SELECT '\x00ff5c27'::bytea, decode('ZA==', 'base64')")" '\x00ff5c27|\x64'; }
check_nulls() { same "$(sql -P null=nothing -c 'SELECT NULL::int, NULL::text, NULL::bytea')" 'nothing|nothing|nothing'; }
check_arrays() { same "$(sql -c "SELECT ARRAY[1, NULL, -3], '{{1,2},{3,4}}'::int[], '{a,\"b c\"}'::text[]")" '{1,NULL,-3}|{{1,2},{3,4}}|{a,"b c"}'; }
check_json() { same "$(sql -c "SELECT '{\"ü\": [1, null]}'::jsonb, '{\"a\":  1}'::json")" '{"ü": [1, null]}|{"a":  1}'; }
check_times() {
    same "$(PGTZ=Asia/Kolkata sql -c "SELECT '2024-02-29 23:59:59.123456+00'::timestamptz, '2024-02-29 23:59:59.123456'::timestamp, date '2024-02-29', interval '3 days 5 s'")" \
        '2024-03-01 05:29:59.123456+05:30|2024-02-29 23:59:59.123456|2024-02-29|3 days 00:00:05'
}

check_large() {
    same "$(sql -c "SELECT repeat('1234567ü', 131072)" | md5sum)" "$(yes 1234567ü | head -131072 | tr -d '\n' | sed 's/$/\n/' | md5sum)"
    local long
    long=$(yes 1234567ü | head -131072 | tr -d '\n')
    same "$(sql <<<"SELECT length('$long'), md5('$long')")" "1048576|$(printf %s "$long" | md5sum | cut -d' ' -f1)"
    same "$(sql -c "SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n" | awk -F'|' '{ sum += $1 } END { print sum, NR }')" '200010000 20000'
}

# PREPARE of the same name with another text in each of eight sessions, all open at once.
check_prepared() {
    local n pipes=()
    for n in $(seq "$clients"); do
        { echo "PREPARE mine (int) AS SELECT 'client $n', \$1 + $n;"; for turn in 1 2 3 4 5; do echo "EXECUTE mine ($turn);"; done; } |
            sql >"session$n" &
        pipes+=($!)
    done
    for n in "${pipes[@]}"; do wait "$n"; done
    for n in $(seq "$clients"); do
        same "$(cat "session$n")" "$(for turn in 1 2 3 4 5; do echo "client $n|$((turn + n))"; done)"
    done
}

check_clients() {
    local n all=()
    for n in $(seq "$clients"); do
        for turn in 1 2 3 4 5; do
            echo "BEGIN; INSERT INTO $table (id, name) VALUES ($((1000 + n * 10 + turn)), 'client $n'); SELECT count(*) FROM $table WHERE name = 'client $n'; COMMIT;"
        done | sql >"session$n" &
        all+=($!)
    done
    for n in "${all[@]}"; do wait "$n"; done
    for n in $(seq "$clients"); do same "$(cat "session$n")" "$(seq 5)"; done
}

check_cursor() {
    same "$(sql -v FETCH_COUNT=100 -c "SELECT n FROM generate_series(1, 1000) n" | md5sum)" "$(seq 1000 | md5sum)"
    same "$(sql -c 'BEGIN; DECLARE c SCROLL CURSOR FOR SELECT n FROM generate_series(1, 10) n; FETCH 2 FROM c; FETCH LAST FROM c; COMMIT')" "$(printf '1\n2\n10')"
    same "$(printf '%s\n' 'DECLARE held CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 3) n;' 'SELECT 0;' 'FETCH ALL FROM held;' 'CLOSE held;' | sql)" "$(seq 0 3)"
}

check_copy() {
    seq 3000 3999 | sed 's/.*/&\tcopied &/' >rows
    same "$(sql -c "\\copy $table (id, name) FROM rows")" ''
    same "$(sql -c "\\copy (SELECT id, name FROM $table WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT" | md5sum)" "$(md5sum <rows)"
    same "$(sql -c "COPY (SELECT id, name FROM $table WHERE id = 3000) TO STDOUT (FORMAT csv, HEADER)")" "$(printf 'id,name\n3000,copied 3000')"
    has "$(echo 'not a number' | sql -c "COPY $table (id) FROM STDIN")" 'invalid input syntax for type bigint: "not a number"'
}

check_cancel() {
    # Interrupted by SIGINT, psql sends a CancelRequest and goes on.
    printf '%s\n' 'SELECT pg_sleep(20);' "SELECT 'alive';" >statements
    psql -X -q -A -t -f statements &>said &
    local psql=$!
    for _ in $(seq 50); do
        sleep 0.2
        kill -INT $psql 2>/dev/null || break
        grep -q canceling said && break
    done
    wait $psql
    has "$(cat said)" 'canceling statement due to user request'
}

check_errors() {
    local found
    found=$(psql -X -q -A -t -v VERBOSITY=verbose <<SQL 2>&1
BEGIN;
INSERT INTO $table (id) VALUES (1);
INSERT INTO $table (id) VALUES (1);
SELECT 'not run';
ROLLBACK;
SELECT count(*) FROM $table WHERE id = 1;
BEGIN;
INSERT INTO $table (id) VALUES (1);
SAVEPOINT s;
SELECT 1 / 0;
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM $table WHERE id = 1;
DO \$\$ BEGIN RAISE NOTICE 'hello'; END \$\$;
SQL
    )
    has "$found" 'ERROR:  23505: duplicate key'
    has "$found" "CONSTRAINT NAME:  ${table}_pkey"
    has "$found" 'ERROR:  25P02: current transaction is aborted'
    has "$found" 'ERROR:  22012: division by zero'
    has "$found" 'NOTICE:  00000: hello'
    same "$(grep -E '^[01]$|not run' <<<"$found" | tr '\n' ' ')" '0 1 '
    # Several statements in one text are one transaction.
    has "$(sql -c "INSERT INTO $table (id) VALUES (2); SELECT 1 / 0")" 'division by zero'
    same "$(sql -c "SELECT count(*) FROM $table WHERE id = 2")" 0
}

check_settings() {
    local n all=()
    for n in $(seq "$clients"); do
        { echo "SET TIME ZONE 'Etc/GMT+$n'; SET search_path = s$n, public;"; for turn in 1 2 3 4 5; do echo "SELECT current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout');"; done; } |
            PGAPPNAME="client $n" PGOPTIONS="-c statement_timeout=${n}min" sql >"session$n" &
        all+=($!)
    done
    for n in "${all[@]}"; do wait "$n"; done
    for n in $(seq "$clients"); do same "$(uniq -c "session$n" | sed 's/^ *//')" "5 client $n|Etc/GMT+$n|s$n, public|${n}min"; done
}

check_listen() {
    # psql prints what has come after each statement.
    has "$(printf '%s\n' 'LISTEN psql;' "NOTIFY psql, 'message';" 'SELECT 1;' | sql)" 'Asynchronous notification "psql" with payload "message" received'
}

check_keyed() {
    local n key
    for n in 0 1 2 3 4 5 6 7; do
        key=$((100 + n))
        same "$(sql <<SQL
INSERT INTO $table (id, name) VALUES ($key, 'name $n');
SELECT name FROM $table WHERE id = $key;
UPDATE $table SET amount = $n WHERE id = $key;
SELECT amount FROM $table WHERE id = $key;
BEGIN;
UPDATE $table SET amount = amount + 1 WHERE id = $key;
COMMIT;
SELECT amount FROM $table WHERE id = $key;
DELETE FROM $table WHERE id = $key;
SELECT count(*) FROM $table WHERE id = $key;
SQL
        )" "$(printf 'name %s\n%s.00\n%s.00\n0' "$n" "$n" "$((n + 1))")"
    done
}

run "$(psql --version | sed 's/ (PostgreSQL)//; s/ (Debian.*//') (libpq)"
