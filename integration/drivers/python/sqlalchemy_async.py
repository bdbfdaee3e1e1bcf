"""SQLAlchemy's asyncio side over asyncpg, which prepares each statement under a name."""

import asyncio
import os
import ssl

import asyncpg
import sqlalchemy as sa
from check import CLIENTS, DOCUMENT, LONG_BYTES, LONG_TEXT, ROUNDS, TABLE, VALUES, expect, raises, run
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

KINDS = {
    "int2": sa.SmallInteger(), "int4": sa.Integer(), "int8": sa.BigInteger(), "float8": sa.Double(),
    "numeric": sa.Numeric(), "bool": sa.Boolean(), "uuid": sa.Uuid(), "text": sa.Text(),
    "bytea": sa.LargeBinary(), "int4[]": pg.ARRAY(sa.Integer), "int8[]": pg.ARRAY(sa.BigInteger),
    "text[]": pg.ARRAY(sa.Text), "date": sa.Date(), "time": sa.Time(), "timestamp": pg.TIMESTAMP(),
    "timestamptz": pg.TIMESTAMP(timezone=True), "interval": sa.Interval(),
}


class Base(orm.DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = TABLE
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True)
    name: orm.Mapped[str | None]
    amount: orm.Mapped[object | None] = orm.mapped_column(sa.Numeric(12, 2))
    raw: orm.Mapped[bytes | None]
    tags: orm.Mapped[list | None] = orm.mapped_column(pg.ARRAY(sa.Text))
    doc: orm.Mapped[dict | None] = orm.mapped_column(pg.JSONB)


def code(error):
    return getattr(getattr(error, "orig", None), "sqlstate", getattr(error, "sqlstate", None))


class engine:
    """An engine with its pool, disposed of when the block ends."""

    def __init__(self, pool_size=CLIENTS, authority="PGSSLROOTCERT", **more):
        context = ssl.create_default_context(cafile=os.environ[authority])
        arguments = {"ssl": context, **more}
        self.engine = create_async_engine("postgresql+asyncpg://", pool_size=pool_size, max_overflow=0, connect_args=arguments)

    async def __aenter__(self):
        return self.engine

    async def __aexit__(self, *_):
        await self.engine.dispose()


async def tls():
    async with engine() as e, e.connect() as db:
        expect(await db.scalar(sa.text("SELECT 1")), 1)
    try:
        async with engine(authority="DRIVER_STRANGER") as e, e.connect():
            raise AssertionError("a stranger's certificate was trusted")
    except ssl.SSLCertVerificationError:
        pass


async def scram():
    with raises("28P01", code):
        async with engine(password="wrong") as e, e.connect():
            pass


def values(capability):
    async def check():
        async with engine() as e, e.connect() as db:
            for name, kind, value, text in VALUES:
                if name != capability:
                    continue
                for _ in range(3):
                    bound = sa.bindparam("v", value, type_=KINDS[kind])
                    row = (await db.execute(sa.select(sa.cast(bound, KINDS[kind]), sa.cast(sa.cast(bound, KINDS[kind]), sa.Text)))).one()
                    expect(row[0], value, kind)
                    if text is not None:
                        expect(row[1], text, kind)

    return check


async def json():
    async with engine() as e, AsyncSession(e) as db:
        db.add(Item(id=800, doc=DOCUMENT))
        await db.commit()
        expect((await db.get(Item, 800, populate_existing=True)).doc, DOCUMENT)


async def large():
    async with engine() as e, AsyncSession(e) as db:
        db.add(Item(id=900, name=LONG_TEXT, raw=LONG_BYTES))
        await db.commit()
        item = await db.get(Item, 900, populate_existing=True)
        expect((item.name, item.raw), (LONG_TEXT, LONG_BYTES))


async def prepared():
    """The dialect keeps the statements that asyncpg has named __asyncpg_stmt_1__, …"""
    async with engine() as e:

        async def work(n):
            async with e.connect() as db:
                for turn in range(ROUNDS):
                    for text in range(3):
                        sql = sa.text(f"SELECT 'client {n}', CAST(:v AS int) + {n} + {text}")
                        expect(tuple((await db.execute(sql, {"v": turn})).one()), (f"client {n}", turn + n + text))
                    await db.commit()

        await asyncio.gather(*(work(n) for n in range(CLIENTS)))


async def clients():
    async with engine() as e:

        async def work(n):
            for turn in range(ROUNDS):
                key = 1000 + n * ROUNDS + turn
                async with AsyncSession(e) as db, db.begin():
                    db.add(Item(id=key, name=f"client {n}"))
                    await db.flush()
                    expect(await db.scalar(sa.select(Item.name).where(Item.id == key)), f"client {n}")
                async with AsyncSession(e) as db:
                    count = sa.select(sa.func.count()).select_from(Item).where(Item.name == f"client {n}")
                    expect(await db.scalar(count), turn + 1)

        await asyncio.gather(*(work(n) for n in range(CLIENTS)))


async def pipeline():
    """Many rows in one statement with RETURNING, and asyncpg's executemany."""
    async with engine() as e, AsyncSession(e) as db:
        rows = [{"id": 2000 + n, "name": f"p{n}"} for n in range(2500)]
        ids = (await db.scalars(sa.insert(Item).returning(Item.id, sort_by_parameter_order=True), rows)).all()
        expect(ids, [row["id"] for row in rows])
        await db.execute(sa.update(Item), [{"id": 2000 + n, "name": f"q{n}"} for n in range(100)])
        await db.commit()
        expect(await db.scalar(sa.select(Item.name).where(Item.id == 2099)), "q99")


async def cursor():
    async with engine() as e, e.connect() as db:
        rows = await db.stream(sa.text("SELECT n FROM generate_series(1, 1000) n"), execution_options={"yield_per": 100})
        expect([n async for (n,) in rows], list(range(1, 1001)))


async def cancel():
    async with engine(pool_size=1) as e:
        async with e.connect() as db:
            task = asyncio.ensure_future(db.execute(sa.text("SELECT pg_sleep(20)")))
            await asyncio.sleep(0.3)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
        async with e.connect() as db:
            expect(await db.scalar(sa.text("SELECT 1")), 1)


async def errors():
    async with engine() as e, AsyncSession(e) as db:
        db.add(Item(id=1, name="one"))
        await db.commit()
        db.expunge_all()
        db.add(Item(id=1, name="again"))
        with raises("23505", code):
            await db.flush()
        await db.rollback()
        async with db.begin_nested():
            db.add(Item(id=2, name="kept"))
        with raises("22012", code):
            async with db.begin_nested():
                db.add(Item(id=3, name="undone"))
                await db.flush()
                await db.execute(sa.text("SELECT 1 / 0"))
        await db.commit()
        expect((await db.scalars(sa.select(Item.id).where(Item.id < 10).order_by(Item.id))).all(), [1, 2])


async def settings():
    async with engine(pool_size=1) as e:
        async with e.connect() as db:
            await db.execution_options(isolation_level="SERIALIZABLE")
            expect(await db.scalar(sa.text("SHOW transaction_isolation")), "serializable")
        async with e.connect() as db:
            expect(await db.scalar(sa.text("SHOW transaction_isolation")), "read committed")
        async with e.connect() as db:
            names = await db.run_sync(lambda sync: [c["name"] for c in sa.inspect(sync).get_columns(TABLE)])
            expect(names, ["id", "name", "amount", "at", "raw", "tags", "doc"])


async def keyed():
    table = Item.__table__
    async with engine() as e:
        for n in range(20):
            async with e.begin() as db:
                await db.execute(sa.insert(table), {"id": 100 + n, "name": f"name {n}"})
            async with e.begin() as db:
                expect(await db.scalar(sa.select(table.c.name).where(table.c.id == 100 + n)), f"name {n}")
                expect((await db.execute(sa.update(table).where(table.c.id == 100 + n).values(amount=n))).rowcount, 1)
                expect(int(await db.scalar(sa.select(table.c.amount).where(table.c.id == 100 + n))), n)
        async with e.begin() as db:
            expect((await db.execute(sa.delete(table).where(table.c.id == 100))).rowcount, 1)
            expect((await db.execute(sa.select(table.c.name).where(table.c.id == 100))).all(), [])


checks = {name: values(name) for name, *_ in VALUES}
for check in (tls, scram, json, large, prepared, clients, pipeline, cursor, cancel, errors, settings, keyed):
    checks[check.__name__] = check
checks["copy"] = "SQLAlchemy has no COPY of its own; see asyncpg"
checks["listen"] = "SQLAlchemy has no LISTEN of its own; see asyncpg"
run(f"SQLAlchemy {sa.__version__} with asyncpg {asyncpg.__version__}", checks)
