"""psycopg 3, over its own libpq."""

import threading

import psycopg
from psycopg.types.json import Json, Jsonb

import os
from check import CLIENTS, DOCUMENT, LONG_BYTES, LONG_TEXT, ROUNDS, TABLE, VALUES, expect, raises, repeatedly, run


def code(error):
    return getattr(error, "sqlstate", None)


def connect(**more):
    return psycopg.connect(autocommit=True, **more)


def tls():
    with connect() as db:
        expect(db.pgconn.ssl_in_use, True)
        expect(db.execute("SELECT 1").fetchone(), (1,))
    try:
        connect(sslrootcert=os.environ["DRIVER_STRANGER"]).close()
    except psycopg.OperationalError as error:
        assert "certificate verify failed" in str(error), error
    else:
        raise AssertionError("a stranger's certificate was trusted")


def scram():
    with connect() as db:
        expect(db.pgconn.used_password, True)
    try:
        connect(password="wrong").close()
    except psycopg.OperationalError as error:
        assert "password authentication failed" in str(error), error
    else:
        raise AssertionError("a wrong password was let in")


def values(capability):
    def check():
        for binary in (False, True):
            with connect() as db, db.cursor(binary=binary) as cursor:
                for name, kind, value, text in VALUES:
                    if name != capability:
                        continue
                    # Three times in each way: the third is past the first preparation.
                    for prepare in (False, False, True, True):
                        cursor.execute(f"SELECT CAST(%s AS {kind}), CAST(CAST(%s AS {kind}) AS text)", (value, value), prepare=prepare)
                        found, as_text = cursor.fetchone()
                        expect(found, value, kind)
                        if text is not None:
                            expect(as_text, text, kind)

    return check


def json():
    with connect() as db:
        for kind, wrap in (("json", Json), ("jsonb", Jsonb)):
            for binary in (False, True):
                cursor = db.cursor(binary=binary)
                cursor.execute(f"SELECT %s, (%s::{kind})->'a'->>0", (wrap(DOCUMENT), wrap(DOCUMENT)))
                expect(cursor.fetchone(), (DOCUMENT, "1"), kind)


def large():
    with connect() as db:
        for binary in (False, True):
            cursor = db.cursor(binary=binary)
            for _ in range(3):
                cursor.execute("SELECT %s::text, %s::bytea", (LONG_TEXT, LONG_BYTES))
                expect(cursor.fetchone(), (LONG_TEXT, LONG_BYTES))
            cursor.execute("SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n")
            expect(sum(n for n, _ in cursor), 200010000)


def prepared():
    """psycopg names its statements _pg3_0, _pg3_1, …: the same names on every connection."""
    clients = [connect(prepare_threshold=0) for _ in range(CLIENTS)]
    try:
        for turn in range(ROUNDS):
            for n, db in enumerate(clients):
                expect(db.execute(f"SELECT 'client {n}', %s::int + {n}", (turn,)).fetchone(), (f"client {n}", turn + n))
                with raises("22012", code):
                    db.execute(f"SELECT {n} / %s::int", (0,))
                expect(db.execute(f"SELECT {n} / %s::int", (1,)).fetchone(), (n,))
        # Beyond prepared_max, psycopg closes the oldest with DEALLOCATE or Close.
        db = clients[0]
        db.prepared_max = 3
        for turn in range(3):
            for n in range(10):
                expect(db.execute(f"SELECT {n} + %s::int", (turn,)).fetchone(), (n + turn,))
        # The same text in text and in binary, with other parameter types.
        for value, kind in ((1, "smallint"), (1 << 40, "bigint"), (2.5, "double precision"), (b"a", "bytea")):
            for _ in range(3):
                expect(db.execute("SELECT pg_typeof(%s)::text", (value,), prepare=True).fetchone(), (kind,))
    finally:
        for db in clients:
            db.close()


def clients():
    def work(n, failures):
        try:
            with connect() as db:
                for turn in range(ROUNDS):
                    with db.transaction():
                        key = 1000 + n * ROUNDS + turn
                        db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (%s, %s)", (key, f"client {n}"))
                        row = db.execute(f"SELECT name FROM {TABLE} WHERE id = %s", (key,)).fetchone()
                        expect(row, (f"client {n}",))
                    row = db.execute(f"SELECT count(*) FROM {TABLE} WHERE name = %s", (f"client {n}",)).fetchone()
                    expect(row, (turn + 1,))
        except Exception as error:
            failures.append(error)

    failures = []
    threads = [threading.Thread(target=work, args=(n, failures)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def pipeline():
    with connect() as db:
        with db.pipeline():
            cursors = [db.execute("SELECT %s::int", (n,)) for n in range(100)]
            expect([c.fetchone()[0] for c in cursors], list(range(100)))
        # An error spoils what follows until the next Sync, and no more.
        with db.pipeline() as pipe:
            first = db.execute("SELECT 1")
            pipe.sync()
            try:
                db.execute("SELECT 1 / %s::int", (0,))
                db.execute(f"INSERT INTO {TABLE} (id) VALUES (1999)")
                pipe.sync()
            except (psycopg.errors.DivisionByZero, psycopg.errors.PipelineAborted):
                pass
            else:
                raise AssertionError("no error from a division by zero")
            later = db.execute("SELECT 3")
        expect((first.fetchone(), later.fetchone()), ((1,), (3,)))
        expect(db.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 1999").fetchone(), (0,))
        # A transaction in one pipeline.
        with db.pipeline(), db.transaction():
            for n in range(50):
                db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (%s, 'pipeline')", (2000 + n,))
        expect(db.execute(f"SELECT count(*) FROM {TABLE} WHERE name = 'pipeline'").fetchone(), (50,))
        cursor = db.cursor()
        cursor.executemany(f"UPDATE {TABLE} SET amount = %s WHERE id = %s RETURNING id", [(n, 2000 + n) for n in range(50)], returning=True)
        ids = [cursor.fetchone()[0]]
        while cursor.nextset():
            ids.append(cursor.fetchone()[0])
        expect(ids, [2000 + n for n in range(50)])


def cursor():
    with connect() as db:
        with db.transaction(), db.cursor(name="Named cursor") as named:
            named.itersize = 100
            named.execute("SELECT n FROM generate_series(1, 1000) n")
            expect([n for (n,) in named], list(range(1, 1001)))
        with db.transaction(), db.cursor(name="scrolling", scrollable=True) as named:
            named.execute("SELECT n FROM generate_series(1, 1000) n")
            expect(named.fetchmany(3), [(1,), (2,), (3,)])
            named.scroll(500, mode="absolute")
            expect(named.fetchone(), (501,))
            named.scroll(-2)
            expect(named.fetchone(), (500,))
    # WITH HOLD outlives its transaction; eight clients do so over two servers, one after another.
    for n in range(CLIENTS):
        with connect() as db, db.cursor(name="held", withhold=True) as held:
            held.execute("SELECT n FROM generate_series(%s::int, 1000) n", (n,))
            expect(held.fetchone(), (n,))
            db.execute("SELECT 1")
            expect(held.fetchone(), (n + 1,))
    # Rows one by one and in chunks, without a cursor on the server.
    with connect() as db, db.cursor() as plain:
        expect([n for (n,) in plain.stream("SELECT n FROM generate_series(1, 1000) n")], list(range(1, 1001)))


def copy():
    with connect() as db, db.cursor() as cursor:
        rows = [(3000 + n, f"copied\t{n}\n\\", b"\x00\xff", ["a", None]) for n in range(1000)]
        with cursor.copy(f"COPY {TABLE} (id, name, raw, tags) FROM STDIN") as stream:
            for row in rows:
                stream.write_row(row)
        expect(cursor.rowcount, 1000)
        with cursor.copy(f"COPY (SELECT id, name, raw, tags FROM {TABLE} WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT") as stream:
            stream.set_types(["int8", "text", "bytea", "text[]"])
            expect(list(stream.rows()), rows)
        with cursor.copy(f"COPY {TABLE} (id, name) FROM STDIN (FORMAT BINARY)") as stream:
            stream.set_types(["int8", "text"])
            for n in range(1000):
                stream.write_row((4000 + n, LONG_TEXT[:2000]))
        with cursor.copy(f"COPY (SELECT id, name FROM {TABLE} WHERE id BETWEEN 4000 AND 4999 ORDER BY id) TO STDOUT (FORMAT BINARY)") as stream:
            stream.set_types(["int8", "text"])
            expect(list(stream.rows()), [(4000 + n, LONG_TEXT[:2000]) for n in range(1000)])
        # The client gives up, the server refuses; each time the connection goes on.
        try:
            with cursor.copy(f"COPY {TABLE} (id) FROM STDIN") as stream:
                stream.write_row((5000,))
                raise KeyError("the client gives up")
        except KeyError:
            pass
        with raises("22P02", code):
            with cursor.copy(f"COPY {TABLE} (id) FROM STDIN") as stream:
                stream.write("not a number\n")
        with raises("23505", code):
            with cursor.copy(f"COPY {TABLE} (id) FROM STDIN") as stream:
                stream.write("5000\n5000\n")
        expect(cursor.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 5000").fetchone(), (0,))


def cancel():
    with connect() as db:
        for stop in (db.cancel, db.cancel_safe):
            with repeatedly(stop), raises("57014", code):
                db.execute("SELECT pg_sleep(20)")
            expect(db.execute("SELECT 1").fetchone(), (1,))
        # Nothing runs: nothing is hit.
        db.cancel()
        for _ in range(20):
            expect(db.execute("SELECT 1").fetchone(), (1,))


def errors():
    with connect() as db:
        db.autocommit = False
        db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (1, 'one')")
        with raises("23505", code) as caught:
            db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (1, 'again')")
        expect(caught.error.diag.constraint_name, f"{TABLE}_pkey")
        expect(caught.error.diag.message_detail, "Key (id)=(1) already exists.")
        expect(db.info.transaction_status.name, "INERROR")
        with raises("25P02", code):
            db.execute("SELECT 1")
        db.rollback()
        expect(db.info.transaction_status.name, "IDLE")
        expect(db.execute(f"SELECT count(*) FROM {TABLE} WHERE id = 1").fetchone(), (0,))
        db.rollback()
        with db.transaction():
            db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (1, 'outer')")
            with raises("22012", code):
                with db.transaction():
                    db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (2, 'inner')")
                    db.execute("SELECT 1 / 0")
            db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (3, 'after')")
        db.autocommit = True
        expect(db.execute(f"SELECT id FROM {TABLE} WHERE id < 10 ORDER BY id").fetchall(), [(1,), (3,)])
        with raises("42601", code) as caught:
            db.execute("SELECT 1 FROM FROM")
        expect(caught.error.diag.statement_position, "15")
        notices = []
        db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        db.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        expect(notices, ["hello"])


def settings():
    clients = [connect(application_name=f"client {n}", options=f"-c statement_timeout={n + 1}min") for n in range(CLIENTS)]
    try:
        for n, db in enumerate(clients):
            db.execute(f"SET TIME ZONE 'Etc/GMT+{n}'")
            db.execute("SELECT set_config('search_path', %s, false)", (f"s{n}, public",))
        for _ in range(ROUNDS):
            for n, db in enumerate(clients):
                row = db.execute("SELECT current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout')").fetchone()
                expect(row, (f"client {n}", f"Etc/GMT+{n}", f"s{n}, public", f"{n + 1}min"))
                expect(db.info.parameter_status("TimeZone"), f"Etc/GMT+{n}")
        with clients[0].transaction():
            clients[0].execute("SET LOCAL lock_timeout = '7s'")
            expect(clients[0].execute("SHOW lock_timeout").fetchone(), ("7s",))
        expect(clients[0].execute("SHOW lock_timeout").fetchone(), ("0",))
        clients[1].execute("RESET search_path")
        expect(clients[1].execute("SHOW search_path").fetchone(), ('"$user", public',))
    finally:
        for db in clients:
            db.close()


def listen():
    with connect() as listener, connect() as sender:
        listener.execute('LISTEN "Psycopg 3"')
        for n in range(3):
            sender.execute("SELECT pg_notify('Psycopg 3', %s)", (f"message {n}",))
        found = [(n.channel, n.payload) for n in listener.notifies(timeout=10, stop_after=3)]
        expect(found, [("Psycopg 3", f"message {n}") for n in range(3)])
        listener.execute('UNLISTEN "Psycopg 3"')
        expect(listener.execute("SELECT 1").fetchone(), (1,))


def keyed():
    with connect(prepare_threshold=2) as db:
        for n in range(20):
            db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (%s, %s)", (100 + n, f"name {n}"))
            expect(db.execute(f"SELECT name FROM {TABLE} WHERE id = %s", (100 + n,)).fetchall(), [(f"name {n}",)])
            expect(db.execute(f"UPDATE {TABLE} SET amount = %s WHERE id = %s", (n, 100 + n)).rowcount, 1)
            with db.transaction():
                db.execute(f"UPDATE {TABLE} SET amount = amount + 1 WHERE id = %s", (100 + n,))
                expect(db.execute(f"SELECT amount::int FROM {TABLE} WHERE id = %s", (100 + n,)).fetchone(), (n + 1,))
            expect(db.execute(f"SELECT amount::int FROM {TABLE} WHERE id = %s", (100 + n,)).fetchone(), (n + 1,))
        for binary in (False, True):
            with db.transaction(), db.cursor(name="All of them", binary=binary) as named:
                named.itersize = 7
                named.execute(f"SELECT id FROM {TABLE} WHERE id BETWEEN %s AND 119 ORDER BY id", (100,))
                expect([n for (n,) in named], list(range(100, 120)))
            with db.cursor(name="held", withhold=True, binary=binary) as held:
                held.execute(f"SELECT id FROM {TABLE} WHERE id BETWEEN 100 AND %s ORDER BY id", (119,))
                expect(held.fetchone(), (100,))
                expect(db.execute("SELECT 1").fetchone(), (1,))
                expect(held.fetchmany(2), [(101,), (102,)])
        expect(db.execute(f"DELETE FROM {TABLE} WHERE id = %s", (100,)).rowcount, 1)
        expect(db.execute(f"SELECT name FROM {TABLE} WHERE id = %s", (100,)).fetchall(), [])


checks = {name: values(name) for name, *_ in VALUES}
for check in (tls, scram, json, large, prepared, clients, pipeline, cursor, copy, cancel, errors, settings, listen, keyed):
    checks[check.__name__] = check
run(f"psycopg {psycopg.__version__} (libpq {psycopg.pq.version()})", checks)
