"""SQLAlchemy over psycopg 3: the ORM, its pool and its two ways of sending many rows."""

import os
import threading

import psycopg
import sqlalchemy as sa
from check import CLIENTS, DOCUMENT, LONG_BYTES, LONG_TEXT, ROUNDS, TABLE, VALUES, expect, raises, repeatedly, run
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg

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
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def engine(pool_size=CLIENTS, **more):
    return sa.create_engine("postgresql+psycopg://", pool_size=pool_size, max_overflow=0, connect_args=more)


def tls():
    with engine().connect() as db:
        expect(db.execute(sa.text("SELECT 1")).scalar(), 1)
        expect(db.connection.driver_connection.pgconn.ssl_in_use, True)
    with raises(None, code) as caught:
        engine(sslrootcert=os.environ["DRIVER_STRANGER"]).connect()
    assert "certificate verify failed" in str(caught.error), caught.error


def scram():
    with raises(None, code) as caught:
        engine(password="wrong").connect()
    assert "password authentication failed" in str(caught.error), caught.error


def values(capability):
    def check():
        with engine().connect() as db:
            for name, kind, value, text in VALUES:
                if name != capability:
                    continue
                # psycopg prepares what it sees for the sixth time.
                for _ in range(7):
                    bound = sa.bindparam("v", value, type_=KINDS[kind])
                    row = db.execute(sa.select(sa.cast(bound, KINDS[kind]), sa.cast(sa.cast(bound, KINDS[kind]), sa.Text))).one()
                    expect(row[0], value, kind)
                    if text is not None:
                        expect(row[1], text, kind)

    return check


def json():
    with orm.Session(engine()) as db:
        db.add(Item(id=800, doc=DOCUMENT))
        db.commit()
        expect(db.get(Item, 800).doc, DOCUMENT)
        expect(db.scalars(sa.select(Item.id).where(Item.doc["a"][0].as_integer() == 1)).all(), [800])


def large():
    with orm.Session(engine()) as db:
        db.add(Item(id=900, name=LONG_TEXT, raw=LONG_BYTES))
        db.commit()
        expect((db.get(Item, 900).name, db.get(Item, 900).raw), (LONG_TEXT, LONG_BYTES))


def prepared():
    dbs = [engine(prepare_threshold=0).connect() for _ in range(CLIENTS)]
    try:
        for turn in range(ROUNDS):
            for n, db in enumerate(dbs):
                expect(tuple(db.execute(sa.text(f"SELECT 'client {n}', CAST(:v AS int) + {n}"), {"v": turn}).one()), (f"client {n}", turn + n))
                db.rollback()
    finally:
        for db in dbs:
            db.close()


def clients():
    shared = engine()

    def work(n, failures):
        try:
            for turn in range(ROUNDS):
                key = 1000 + n * ROUNDS + turn
                with orm.Session(shared) as db, db.begin():
                    db.add(Item(id=key, name=f"client {n}"))
                    db.flush()
                    expect(db.scalar(sa.select(Item.name).where(Item.id == key)), f"client {n}")
                # In a transaction: a connection of the pool that did not write may read from a replica.
                with shared.connect() as db:
                    count = sa.select(sa.func.count()).select_from(Item).where(Item.name == f"client {n}")
                    expect(db.scalar(count), turn + 1)
        except Exception as error:
            failures.append(error)

    failures = []
    threads = [threading.Thread(target=work, args=(n, failures)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shared.dispose()
    if failures:
        raise failures[0]


def pipeline():
    """Many rows in one statement with RETURNING, and psycopg's executemany, which is a pipeline."""
    with orm.Session(engine()) as db:
        rows = [{"id": 2000 + n, "name": f"p{n}"} for n in range(2500)]
        ids = db.scalars(sa.insert(Item).returning(Item.id, sort_by_parameter_order=True), rows).all()
        expect(ids, [row["id"] for row in rows])
        db.execute(sa.update(Item), [{"id": 2000 + n, "name": f"q{n}"} for n in range(100)])
        db.commit()
        expect(db.get(Item, 2099).name, "q99")


def cursor():
    with engine().connect() as db:
        rows = db.execution_options(yield_per=100).execute(sa.text("SELECT n FROM generate_series(1, 1000) n"))
        expect([n for (n,) in rows], list(range(1, 1001)))


def cancel():
    with engine().connect() as db:
        with repeatedly(db.connection.driver_connection.cancel), raises("57014", code):
            db.execute(sa.text("SELECT pg_sleep(20)"))
        db.rollback()
        expect(db.execute(sa.text("SELECT 1")).scalar(), 1)


def errors():
    with orm.Session(engine()) as db:
        db.add(Item(id=1, name="one"))
        db.commit()
        db.expunge_all()
        db.add(Item(id=1, name="again"))
        with raises("23505", code):
            db.flush()
        db.rollback()
        with db.begin_nested():
            db.add(Item(id=2, name="kept"))
        with raises("22012", code), db.begin_nested():
            db.add(Item(id=3, name="undone"))
            db.flush()
            db.execute(sa.text("SELECT 1 / 0"))
        db.commit()
        expect(db.scalars(sa.select(Item.id).where(Item.id < 10).order_by(Item.id)).all(), [1, 2])


def settings():
    """An isolation level for one connection; the pool takes it back."""
    shared = engine(pool_size=1)
    with shared.connect().execution_options(isolation_level="SERIALIZABLE") as db:
        expect(db.scalar(sa.text("SHOW transaction_isolation")), "serializable")
    with shared.connect() as db:
        expect(db.scalar(sa.text("SHOW transaction_isolation")), "read committed")
    with shared.connect().execution_options(postgresql_readonly=True) as db:
        with raises("25006", code):
            db.execute(sa.text(f"INSERT INTO {TABLE} (id) VALUES (9)"))
    # What the dialect asks when an engine connects first: types, versions, tables.
    expect(sa.inspect(shared).has_table(TABLE), True)
    expect([column["name"] for column in sa.inspect(shared).get_columns(TABLE)], ["id", "name", "amount", "at", "raw", "tags", "doc"])


def keyed():
    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        table = Item.__table__
        for n in range(20):
            db.execute(sa.insert(table), {"id": 100 + n, "name": f"name {n}"})
            expect(db.scalar(sa.select(table.c.name).where(table.c.id == 100 + n)), f"name {n}")
            expect(db.execute(sa.update(table).where(table.c.id == 100 + n).values(amount=n)).rowcount, 1)
            expect(int(db.scalar(sa.select(table.c.amount).where(table.c.id == 100 + n))), n)
        expect(db.execute(sa.delete(table).where(table.c.id == 100)).rowcount, 1)
        expect(db.execute(sa.select(table.c.name).where(table.c.id == 100)).all(), [])
    with orm.Session(engine()) as db:
        db.get(Item, 101).name = "by the unit of work"
        db.commit()
        expect(db.get(Item, 101).name, "by the unit of work")


checks = {name: values(name) for name, *_ in VALUES}
for check in (tls, scram, json, large, prepared, clients, pipeline, cursor, cancel, errors, settings, keyed):
    checks[check.__name__] = check
checks["copy"] = "SQLAlchemy has no COPY of its own; see psycopg"
checks["listen"] = "SQLAlchemy has no LISTEN of its own; see psycopg"
run(f"SQLAlchemy {sa.__version__} with psycopg {psycopg.__version__}", checks)
