"""asyncpg: its own protocol code, binary only, with a cache of prepared statements."""

import asyncio
import json as jsonlib
import os
import ssl

import asyncpg
from check import CLIENTS, DOCUMENT, LONG_BYTES, LONG_TEXT, ROUNDS, TABLE, VALUES, expect, raises, run


def code(error):
    return getattr(error, "sqlstate", None)


def context(authority):
    return ssl.create_default_context(cafile=authority)


class connect:
    def __init__(self, **more):
        self.more = {"ssl": context(os.environ["PGSSLROOTCERT"]), **more}

    async def __aenter__(self):
        self.db = await asyncpg.connect(**self.more)
        return self.db

    async def __aexit__(self, *_):
        await self.db.close(timeout=10)


async def tls():
    async with connect() as db:
        expect(await db.fetchval("SELECT 1"), 1)
    try:
        async with connect(ssl=context(os.environ["DRIVER_STRANGER"])):
            raise AssertionError("a stranger's certificate was trusted")
    except ssl.SSLCertVerificationError:
        pass


async def scram():
    with raises("28P01", code):
        async with connect(password="wrong"):
            pass


def values(capability):
    async def check():
        async with connect() as db:
            for name, kind, value, text in VALUES:
                if name != capability:
                    continue
                # Thrice: the statement is cached from the first time on.
                for _ in range(3):
                    row = await db.fetchrow(f"SELECT $1::{kind}, ($1::{kind})::text", value)
                    expect(row[0], value, kind)
                    if text is not None:
                        expect(row[1], text, kind)

    return check


async def json():
    async with connect() as db:
        for kind in ("json", "jsonb"):
            await db.set_type_codec(kind, encoder=jsonlib.dumps, decoder=jsonlib.loads, schema="pg_catalog")
            row = await db.fetchrow(f"SELECT $1::{kind}, ($1::{kind})->'a'->>0", DOCUMENT)
            expect(tuple(row), (DOCUMENT, "1"))


async def large():
    async with connect() as db:
        for _ in range(3):
            row = await db.fetchrow("SELECT $1::text, $2::bytea", LONG_TEXT, LONG_BYTES)
            expect(tuple(row), (LONG_TEXT, LONG_BYTES))
        rows = await db.fetch("SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n")
        expect(sum(row[0] for row in rows), 200010000)


async def prepared():
    """asyncpg names its statements __asyncpg_stmt_1__, …: the same names on every connection."""
    dbs = [await connect(statement_cache_size=4).__aenter__() for _ in range(CLIENTS)]
    try:
        own = [await db.prepare(f"SELECT 'client {n}', $1::int + {n}", name="mine") for n, db in enumerate(dbs)]
        for turn in range(ROUNDS):
            for n, db in enumerate(dbs):
                expect(tuple(await own[n].fetchrow(turn)), (f"client {n}", turn + n))
                expect(await db.fetchval(f"SELECT $1::int * {n}", turn), turn * n)
                with raises("22012", code):
                    await db.fetchval(f"SELECT {n} / $1::int", 0)
                expect(await db.fetchval(f"SELECT {n} / $1::int", 1), n)
        # All at once; and more texts than the cache has places for, so that some are closed.
        async def work(n, db):
            for turn in range(ROUNDS):
                for text in range(8):
                    expect(await db.fetchval(f"SELECT $1::int + {n} + {text}", turn), turn + n + text)

        await asyncio.gather(*(work(n, db) for n, db in enumerate(dbs)))
        # A type that asyncpg has to look up first.
        expect(await dbs[0].fetchval("SELECT $1::pg_catalog.name[]", ["a", "b"]), ["a", "b"])
    finally:
        for db in dbs:
            await db.close()


async def clients():
    """Through asyncpg's own pool, which resets each connection that comes back to it."""
    pool = await asyncpg.create_pool(min_size=CLIENTS, max_size=CLIENTS, ssl=context(os.environ["PGSSLROOTCERT"]))

    async def work(n):
        for turn in range(ROUNDS):
            key = 1000 + n * ROUNDS + turn
            async with pool.acquire() as db:
                async with db.transaction():
                    await db.execute(f"INSERT INTO {TABLE} (id, name) VALUES ($1, $2)", key, f"client {n}")
                    expect(await db.fetchval(f"SELECT name FROM {TABLE} WHERE id = $1", key), f"client {n}")
                expect(await db.fetchval(f"SELECT count(*) FROM {TABLE} WHERE name = $1", f"client {n}"), turn + 1)

    async with pool:
        await asyncio.gather(*(work(n) for n in range(CLIENTS)))


async def pipeline():
    """executemany sends all its executions at once."""
    async with connect() as db:
        await db.executemany(f"INSERT INTO {TABLE} (id, name) VALUES ($1, $2)", [(2000 + n, f"p{n}") for n in range(500)])
        expect(await db.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id BETWEEN 2000 AND 2499"), 500)
        with raises("23505", code):
            await db.executemany(f"INSERT INTO {TABLE} (id) VALUES ($1)", [(2500,), (2501,), (2000,), (2502,)])
        expect(await db.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id >= 2500 AND id < 2600"), 0)


async def cursor():
    async with connect() as db:
        async with db.transaction():
            found = [row[0] async for row in db.cursor("SELECT n FROM generate_series($1::int, 1000) n", 1, prefetch=100)]
            expect(found, list(range(1, 1001)))
            slow = await db.cursor("SELECT n FROM generate_series(1, 1000) n")
            expect([row[0] for row in await slow.fetch(3)], [1, 2, 3])
            expect(await db.fetchval("SELECT 'between'"), "between")
            await slow.forward(10)
            expect((await slow.fetchrow())[0], 14)


async def copy():
    async with connect() as db:
        rows = [(3000 + n, f"copied\t{n}\n\\", bytes([0, 255]), ["a", None]) for n in range(1000)]
        tag = await db.copy_records_to_table(TABLE, records=rows, columns=["id", "name", "raw", "tags"])
        expect(tag, "COPY 1000")
        found = await db.fetch(f"SELECT id, name, raw, tags FROM {TABLE} WHERE id BETWEEN 3000 AND 3999 ORDER BY id")
        expect([tuple(row) for row in found], rows)
        chunks = []

        async def take(chunk):
            chunks.append(chunk)

        await db.copy_from_query(f"SELECT id, length(name) FROM {TABLE} WHERE id BETWEEN $1 AND 3999 ORDER BY id", 3998, output=take)
        expect(b"".join(chunks), b"3998\t12\n3999\t12\n")

        async def gives_up():
            yield b"5000\n"
            raise KeyError("the client gives up")

        try:
            await db.copy_to_table(TABLE, columns=["id"], source=gives_up())
        except KeyError:
            pass
        with raises("22P02", code):
            await db.copy_to_table(TABLE, columns=["id"], source=once(b"not a number\n"))
        expect(await db.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = 5000"), 0)


async def once(chunk):
    yield chunk


async def cancel():
    async with connect() as db:
        # A timeout sends a CancelRequest.
        try:
            await db.fetchval("SELECT pg_sleep(20)", timeout=0.5)
        except asyncio.TimeoutError:
            pass
        else:
            raise AssertionError("no timeout")
        for _ in range(20):
            expect(await db.fetchval("SELECT 1"), 1)
        task = asyncio.ensure_future(db.fetchval("SELECT pg_sleep(20)"))
        await asyncio.sleep(0.3)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        expect(await db.fetchval("SELECT 2"), 2)


async def errors():
    async with connect() as db:
        transaction = db.transaction()
        await transaction.start()
        await db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (1, 'one')")
        with raises("23505", code) as caught:
            await db.execute(f"INSERT INTO {TABLE} (id, name) VALUES ($1, 'again')", 1)
        expect(caught.error.constraint_name, f"{TABLE}_pkey")
        expect(caught.error.detail, "Key (id)=(1) already exists.")
        with raises("25P02", code):
            await db.fetchval("SELECT 1")
        await transaction.rollback()
        expect(await db.fetchval(f"SELECT count(*) FROM {TABLE} WHERE id = 1"), 0)
        async with db.transaction():
            await db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (1, 'outer')")
            with raises("22012", code):
                async with db.transaction():
                    await db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (2, 'inner')")
                    await db.fetchval("SELECT 1 / 0")
            await db.execute(f"INSERT INTO {TABLE} (id, name) VALUES (3, 'after')")
        found = await db.fetch(f"SELECT id FROM {TABLE} WHERE id < 10 ORDER BY id")
        expect([row[0] for row in found], [1, 3])
        notices = []
        db.add_log_listener(lambda _, message: notices.append(message.message))
        await db.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        await asyncio.sleep(0)
        expect(notices, ["hello"])


async def settings():
    dbs = [
        await connect(server_settings={"application_name": f"client {n}", "statement_timeout": f"{n + 1}min"}).__aenter__()
        for n in range(CLIENTS)
    ]
    try:
        for n, db in enumerate(dbs):
            await db.execute(f"SET TIME ZONE 'Etc/GMT+{n}'")
            await db.execute(f"SET search_path = s{n}, public")
        for _ in range(ROUNDS):
            for n, db in enumerate(dbs):
                row = await db.fetchrow("SELECT current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout')")
                expect(tuple(row), (f"client {n}", f"Etc/GMT+{n}", f"s{n}, public", f"{n + 1}min"))
                expect(db.get_settings().TimeZone, f"Etc/GMT+{n}")
        await dbs[0].reset()
        expect(await dbs[0].fetchval("SHOW search_path"), '"$user", public')
        expect(await dbs[1].fetchval("SHOW search_path"), "s1, public")
    finally:
        for db in dbs:
            await db.close()


async def listen():
    async with connect() as listener, connect() as sender:
        queue = asyncio.Queue()
        await listener.add_listener("Asyncpg", lambda _db, _pid, channel, payload: queue.put_nowait((channel, payload)))
        for n in range(3):
            await sender.execute("SELECT pg_notify('Asyncpg', $1)", f"message {n}")
        for n in range(3):
            expect(await asyncio.wait_for(queue.get(), 10), ("Asyncpg", f"message {n}"))
        await listener.execute("UNLISTEN *")
        expect(await listener.fetchval("SELECT 1"), 1)


async def keyed():
    async with connect() as db:
        for n in range(20):
            await db.execute(f"INSERT INTO {TABLE} (id, name) VALUES ($1, $2)", 100 + n, f"name {n}")
            expect(await db.fetchval(f"SELECT name FROM {TABLE} WHERE id = $1", 100 + n), f"name {n}")
            expect(await db.execute(f"UPDATE {TABLE} SET amount = $1::int WHERE id = $2", n, 100 + n), "UPDATE 1")
            async with db.transaction():
                await db.execute(f"UPDATE {TABLE} SET amount = amount + 1 WHERE id = $1", 100 + n)
                expect(await db.fetchval(f"SELECT amount::int FROM {TABLE} WHERE id = $1", 100 + n), n + 1)
            expect(await db.fetchval(f"SELECT amount::int FROM {TABLE} WHERE id = $1", 100 + n), n + 1)
        expect(await db.execute(f"DELETE FROM {TABLE} WHERE id = $1", 100), "DELETE 1")
        expect(await db.fetch(f"SELECT name FROM {TABLE} WHERE id = $1", 100), [])


checks = {name: values(name) for name, *_ in VALUES}
for check in (tls, scram, json, large, prepared, clients, pipeline, cursor, copy, cancel, errors, settings, listen, keyed):
    checks[check.__name__] = check
run(f"asyncpg {asyncpg.__version__}", checks)
