# pgbench: many clients at once in each protocol, with its pipelines.
# shellcheck source=SCRIPTDIR/check.sh
. "$(dirname "$0")/check.sh"
declare -A absent
for name in scram numbers text bytea nulls arrays json times large cursor copy cancel errors settings listen; do
    absent[$name]="pgbench only measures; see psql"
done

bench=$(command -v pgbench || ls /usr/lib/postgresql/*/bin/pgbench 2>/dev/null | tail -1)

# bench ARGUMENTS: no client may have failed. Each has a thread of its own: pgbench waits for the
# answer to a Parse in a way that stops the other clients of the thread, in open transactions too.
bench() {
    local output
    output=$("$bench" -n -c "$clients" -j "$clients" "$@" 2>&1) || { echo "$output"; exit 1; }
    has "$output" 'number of failed transactions: 0 (0.000%)'
}

check_tls() {
    echo 'SELECT 1' >one
    bench -t 5 -f one
    has "$(PGSSLROOTCERT=$DRIVER_STRANGER "$bench" -n -t 1 -f one 2>&1)" 'certificate verify failed'
}

check_prepared() {
    echo "SELECT :client_id + 1;" >first
    printf '\\set k random(1, 100)\n%s\n%s\n' 'SELECT :k::int + :client_id;' 'SELECT :k::int * 2 AS x' >second
    for mode in simple extended prepared; do bench -t 50 -M $mode -f first -f second; done
}

check_clients() {
    # TPC-B: its tables, transactions, and sums that must agree. One program at a time uses them.
    [ "$DRIVER_TARGET" = sharded ] || {
        same "$("$bench" -i -s 1 -q 2>&1 | grep -ciE 'error|fatal')" 0
        for mode in simple extended prepared; do bench -t 30 -M $mode; done
        same "$(sql -c 'BEGIN; SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history), (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT count(*) FROM pgbench_history); COMMIT')" 't|t|720'
        for mode in simple extended prepared; do bench -t 50 -S -M $mode; done
        same "$("$bench" -i -I d -q 2>&1 | grep -ciE 'error|fatal')" 0
    }
}

check_pipeline() {
    cat >script <<'SQL'
\set k random(1, 1000000)
\startpipeline
BEGIN;
SELECT :k::int;
SELECT :k::int + 1;
COMMIT;
SELECT 'after';
\endpipeline
SQL
    for mode in extended prepared; do bench -t 50 -M $mode -f script; done
}

check_keyed() {
    cat >script <<SQL
\set id 1000000 * (:client_id + 1) + random(1, 1000000)
INSERT INTO $table (id, name) VALUES (:id, 'x') ON CONFLICT (id) DO NOTHING;
UPDATE $table SET amount = 1 WHERE id = :id;
SELECT name, 1 / amount::int AS one FROM $table WHERE id = :id \gset
BEGIN;
SELECT amount FROM $table WHERE id = :id FOR UPDATE;
DELETE FROM $table WHERE id = :id;
COMMIT;
SQL
    for mode in simple extended prepared; do bench -t 20 -M $mode -f script; done
    same "$(sql -c "BEGIN; SELECT count(*) FROM $table WHERE id = 1; COMMIT")" 0
}

run "$("$bench" --version | sed 's/ (PostgreSQL)//; s/ (Debian.*//') (libpq)"
