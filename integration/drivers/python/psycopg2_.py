"""psycopg2, over its own libpq. It sends simple queries only and writes values into their text."""

import json as jsonlib
import os
import select
import threading

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from check import (
    CLIENTS, DOCUMENT, LONG_BYTES, LONG_TEXT, ROUNDS, TABLE, VALUES, expect, raises, repeatedly, run,
)

psycopg2.extras.register_uuid()


def code(error):
    return getattr(error, "pgcode", None)


class connect:
    """A connection with autocommit, closed when the block ends."""

    def __init__(self, **more):
        self.db = psycopg2.connect("", **more)
        self.db.autocommit = True

    def __enter__(self):
        return self.db

    def __exit__(self, *_):
        self.db.close()


def query(db, sql, values=None):
    with db.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else cursor.rowcount


def tls():
    with connect() as db:
        expect(db.info.ssl_in_use, True)
        expect(query(db, "SELECT 1"), [(1,)])
    try:
        connect(sslrootcert=os.environ["DRIVER_STRANGER"])
    except psycopg2.OperationalError as error:
        assert "certificate verify failed" in str(error), error
    else:
        raise AssertionError("a stranger's certificate was trusted")


def scram():
    with connect() as db:
        expect(db.info.used_password, True)
    try:
        connect(password="wrong")
    except psycopg2.OperationalError as error:
        assert "password authentication failed" in str(error), error
    else:
        raise AssertionError("a wrong password was let in")


def values(capability):
    def check():
        with connect() as db:
            for name, kind, value, text in VALUES:
                if name != capability:
                    continue
                ((found, as_text),) = query(db, f"SELECT CAST(%s AS {kind}), CAST(CAST(%s AS {kind}) AS text)", (value, value))
                expect(bytes(found) if isinstance(found, memoryview) else found, value, kind)
                if text is not None:
                    expect(as_text, text, kind)

    return check


def json():
    with connect() as db:
        for kind in ("json", "jsonb"):
            value = psycopg2.extras.Json(DOCUMENT, dumps=lambda v: jsonlib.dumps(v, ensure_ascii=False))
            expect(query(db, f"SELECT %s::{kind}, (%s::{kind})->'a'->>0", (value, value)), [(DOCUMENT, "1")])


def large():
    with connect() as db:
        for _ in range(3):
            ((text, data),) = query(db, "SELECT %s::text, %s::bytea", (LONG_TEXT, LONG_BYTES))
            expect((text, bytes(data)), (LONG_TEXT, LONG_BYTES))
        expect(sum(n for n, _ in query(db, "SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n")), 200010000)


def prepared():
    """With SQL's PREPARE, the same name on each connection."""
    clients = [connect().db for _ in range(CLIENTS)]
    try:
        for n, db in enumerate(clients):
            query(db, f"PREPARE mine (int) AS SELECT 'client {n}', $1 + {n}")
        for turn in range(ROUNDS):
            for n, db in enumerate(clients):
                expect(query(db, "EXECUTE mine (%s)", (turn,)), [(f"client {n}", turn + n)])
        query(clients[0], "DEALLOCATE mine")
        with raises("26000", code):
            query(clients[0], "EXECUTE mine (1)")
        expect(query(clients[1], "EXECUTE mine (1)"), [("client 1", 2)])
    finally:
        for db in clients:
            db.close()


def clients():
    def work(n, failures):
        try:
            with connect() as db:
                db.autocommit = False
                for turn in range(ROUNDS):
                    key = 1000 + n * ROUNDS + turn
                    with db:
                        query(db, f"INSERT INTO {TABLE} (id, name) VALUES (%s, %s)", (key, f"client {n}"))
                        expect(query(db, f"SELECT name FROM {TABLE} WHERE id = %s", (key,)), [(f"client {n}",)])
                    with db:
                        expect(query(db, f"SELECT count(*) FROM {TABLE} WHERE name = %s", (f"client {n}",)), [(turn + 1,)])
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


def cursor():
    with connect() as db:
        db.autocommit = False
        with db, db.cursor("Named cursor") as named:
            named.itersize = 100
            named.execute("SELECT n FROM generate_series(1, 1000) n")
            expect([n for (n,) in named], list(range(1, 1001)))
        with db, db.cursor("scrolling", scrollable=True) as named:
            named.execute("SELECT n FROM generate_series(1, 1000) n")
            named.scroll(500, mode="absolute")
            expect(named.fetchone(), (501,))
    for n in range(CLIENTS):
        with connect() as db, db.cursor("held", withhold=True) as held:
            held.execute("SELECT n FROM generate_series(%s, 1000) n", (n,))
            expect(held.fetchone(), (n,))
            query(db, "SELECT 1")
            expect(held.fetchone(), (n + 1,))


def copy():
    import io

    with connect() as db, db.cursor() as cursor:
        lines = "".join(f"{3000 + n}\tcopied {n}\n" for n in range(1000))
        cursor.copy_expert(f"COPY {TABLE} (id, name) FROM STDIN", io.StringIO(lines))
        expect(cursor.rowcount, 1000)
        out = io.StringIO()
        cursor.copy_expert(f"COPY (SELECT id, name FROM {TABLE} WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT", out)
        expect(out.getvalue(), lines)
        with raises("22P02", code):
            cursor.copy_expert(f"COPY {TABLE} (id) FROM STDIN", io.StringIO("not a number\n"))

        class GivesUp:
            def read(self, _):
                raise KeyError("the client gives up")

        with raises("57014", code):
            cursor.copy_expert(f"COPY {TABLE} (id) FROM STDIN", GivesUp())
        expect(query(db, "SELECT 1"), [(1,)])


def cancel():
    with connect() as db:
        with repeatedly(db.cancel), raises("57014", code):
            query(db, "SELECT pg_sleep(20)")
        for _ in range(20):
            expect(query(db, "SELECT 1"), [(1,)])


def errors():
    with connect() as db:
        db.autocommit = False
        query(db, f"INSERT INTO {TABLE} (id, name) VALUES (1, 'one')")
        with raises("23505", code) as caught:
            query(db, f"INSERT INTO {TABLE} (id, name) VALUES (1, 'again')")
        expect(caught.error.diag.constraint_name, f"{TABLE}_pkey")
        expect(db.info.transaction_status, psycopg2.extensions.TRANSACTION_STATUS_INERROR)
        with raises("25P02", code):
            query(db, "SELECT 1")
        db.rollback()
        expect(query(db, f"SELECT count(*) FROM {TABLE} WHERE id = 1"), [(0,)])
        query(db, f"INSERT INTO {TABLE} (id, name) VALUES (1, 'outer')")
        query(db, "SAVEPOINT s")
        with raises("22012", code):
            query(db, "SELECT 1 / 0")
        query(db, "ROLLBACK TO SAVEPOINT s")
        db.commit()
        expect(query(db, f"SELECT id FROM {TABLE} WHERE id < 10"), [(1,)])
        db.rollback()
        query(db, "DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        expect(db.notices, ["NOTICE:  hello\n"])


def settings():
    clients = [connect(application_name=f"client {n}", options=f"-c statement_timeout={n + 1}min").db for n in range(CLIENTS)]
    try:
        for n, db in enumerate(clients):
            query(db, f"SET TIME ZONE 'Etc/GMT+{n}'")
            query(db, f"SET search_path = s{n}, public")
        for _ in range(ROUNDS):
            for n, db in enumerate(clients):
                rows = query(db, "SELECT current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout')")
                expect(rows, [(f"client {n}", f"Etc/GMT+{n}", f"s{n}, public", f"{n + 1}min")])
        # How psycopg2 itself sets what a session does.
        db = clients[0]
        db.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True)
        expect(query(db, "SHOW transaction_isolation"), [("serializable",)])
        with raises("25006", code):
            query(db, f"INSERT INTO {TABLE} (id) VALUES (9)")
        db.set_client_encoding("LATIN1")
        expect(query(db, "SELECT 'ü' || %s", ("é",)), [("üé",)])
        expect(query(clients[1], "SELECT 'ü' || %s", ("日本",)), [("ü日本",)])
    finally:
        for db in clients:
            db.close()


def listen():
    with connect() as listener, connect() as sender:
        query(listener, "LISTEN psycopg2")
        for n in range(3):
            query(sender, "SELECT pg_notify('psycopg2', %s)", (f"message {n}",))
        while len(listener.notifies) < 3:
            assert select.select([listener], [], [], 10)[0], "nothing came within 10 s"
            listener.poll()
        expect([(n.channel, n.payload) for n in listener.notifies], [("psycopg2", f"message {n}") for n in range(3)])


def keyed():
    with connect() as db:
        for n in range(20):
            query(db, f"INSERT INTO {TABLE} (id, name) VALUES (%s, %s)", (100 + n, f"name {n}"))
            expect(query(db, f"SELECT name FROM {TABLE} WHERE id = %s", (100 + n,)), [(f"name {n}",)])
            expect(query(db, f"UPDATE {TABLE} SET amount = %s WHERE id = %s", (n, 100 + n)), 1)
            expect(query(db, f"SELECT amount::int FROM {TABLE} WHERE id = %s", (100 + n,)), [(n,)])
        db.autocommit = False
        with db, db.cursor("All of them") as named:
            named.itersize = 7
            named.execute(f"SELECT id FROM {TABLE} WHERE id BETWEEN %s AND 119 ORDER BY id", (100,))
            expect([n for (n,) in named], list(range(100, 120)))
        db.autocommit = True
        expect(query(db, f"DELETE FROM {TABLE} WHERE id = %s", (100,)), 1)
        expect(query(db, f"SELECT name FROM {TABLE} WHERE id = %s", (100,)), [])


checks = {name: values(name) for name, *_ in VALUES}
for check in (tls, scram, json, large, prepared, clients, cursor, copy, cancel, errors, settings, listen, keyed):
    checks[check.__name__] = check
checks["pipeline"] = "psycopg2 has no pipeline mode"
run(f"psycopg2 {psycopg2.__version__.split()[0]} (libpq {psycopg2.extensions.libpq_version()})", checks)
