"""Django's ORM over psycopg 3, with persistent connections and cursors on the server."""

import os
import threading

import django
import psycopg
from check import CLIENTS, DOCUMENT, LONG_BYTES, LONG_TEXT, ROUNDS, TABLE, VALUES, expect, raises, repeatedly, run
from django.conf import settings as configuration


def database(**options):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


configuration.configure(
    DATABASES={
        "default": database(),
        "stranger": database(sslrootcert=os.environ["DRIVER_STRANGER"]),
        # Django then sends parameters apart from the text, and prepares.
        "server_side": database(server_side_binding=True, prepare_threshold=1),
        "pooled": {**database(pool={"min_size": 2, "max_size": CLIENTS}), "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False},
        "serializable": database(isolation_level=psycopg.IsolationLevel.SERIALIZABLE),
    },
    USE_TZ=True,
    TIME_ZONE="Europe/Vienna",
    INSTALLED_APPS=["django.contrib.postgres"],
)
django.setup()

from django.contrib.postgres.fields import ArrayField  # noqa: E402
from django.db import IntegrityError, connections, models, transaction  # noqa: E402
from django.db.models import F  # noqa: E402


class Item(models.Model):
    id = models.BigIntegerField(primary_key=True)
    name = models.TextField(null=True)
    amount = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    at = models.DateTimeField(null=True)
    raw = models.BinaryField(null=True)
    tags = ArrayField(models.TextField(null=True), null=True)
    doc = models.JSONField(null=True)

    class Meta:
        app_label = "matrix"
        managed = False
        db_table = TABLE


def code(error):
    return getattr(error.__cause__, "sqlstate", getattr(error, "sqlstate", None))


def query(sql, values=None, using="default"):
    with connections[using].cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def tls():
    expect(query("SELECT 1"), [(1,)])
    expect(connections["default"].connection.pgconn.ssl_in_use, True)
    with raises(None, code) as caught:
        query("SELECT 1", using="stranger")
    assert "certificate verify failed" in str(caught.error), caught.error


def scram():
    right = connections["stranger"].settings_dict
    right["OPTIONS"], right["PASSWORD"] = {}, "wrong"
    with raises(None, code) as caught:
        query("SELECT 1", using="stranger")
    assert "password authentication failed" in str(caught.error), caught.error


def values(capability):
    def check():
        for using in ("default", "server_side"):
            for name, kind, value, text in VALUES:
                if name != capability:
                    continue
                # Django gives each connection its own time zone, so a time's text is not the server's.
                text = None if kind == "timestamptz" else text
                for _ in range(3):
                    ((found, as_text),) = query(f"SELECT CAST(%s AS {kind}), CAST(CAST(%s AS {kind}) AS text)", (value, value), using)
                    expect(found, value, kind)
                    if text is not None:
                        expect(as_text, text, kind)
        if capability == "arrays":
            Item.objects.create(id=700, tags=["a", None, "ü"])
            expect(Item.objects.filter(tags__contains=["ü"]).get().tags, ["a", None, "ü"])

    return check


def json():
    Item.objects.create(id=800, doc=DOCUMENT)
    expect(Item.objects.get(id=800).doc, DOCUMENT)
    expect(Item.objects.filter(doc__a__0=1).count(), 1)
    expect(Item.objects.filter(doc__has_key="ü").count(), 1)


def large():
    Item.objects.create(id=900, name=LONG_TEXT, raw=LONG_BYTES)
    item = Item.objects.get(id=900)
    expect((item.name, bytes(item.raw)), (LONG_TEXT, LONG_BYTES))


def in_threads(work):
    """Each thread has a connection of its own."""

    def guarded(n):
        try:
            work(n)
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    failures = []
    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def prepared():
    def work(n):
        for turn in range(ROUNDS):
            expect(query(f"SELECT 'client {n}', CAST(%s AS int) + {n}", (turn,), "server_side"), [(f"client {n}", turn + n)])
            expect(Item.objects.using("server_side").filter(id=-1 - n).count(), 0)

    in_threads(work)


def clients():
    for using in ("default", "pooled"):

        def work(n):
            for turn in range(ROUNDS):
                with transaction.atomic(using):
                    item = Item.objects.using(using).create(id=(1000 if using == "default" else 1500) + n * ROUNDS + turn, name=f"{using} {n}")
                    item.refresh_from_db()
                expect(Item.objects.using(using).filter(name=f"{using} {n}").count(), turn + 1)

        in_threads(work)
    connections["pooled"].close_pool()


def pipeline():
    Item.objects.bulk_create([Item(id=2000 + n, name=f"p{n}") for n in range(1000)], batch_size=100)
    items = list(Item.objects.filter(id__gte=2000, id__lt=2100).order_by("id"))
    for item in items:
        item.name += "!"
    expect(Item.objects.bulk_update(items, ["name"]), 100)
    expect(Item.objects.get(id=2099).name, "p99!")


def cursor():
    """iterator() declares a cursor WITH HOLD outside of a transaction; each is read to its end or left early."""
    Item.objects.bulk_create([Item(id=5600 + n) for n in range(300)])
    items = Item.objects.filter(id__gte=5600, id__lt=5900).order_by("id")
    for _ in range(CLIENTS):
        expect([item.id for item in items.iterator(chunk_size=50)], list(range(5600, 5900)))
        expect(next(items.iterator(chunk_size=50)).id, 5600)
    with transaction.atomic():
        expect([item.id for item in items.iterator(chunk_size=50)], list(range(5600, 5900)))

    def work(_):
        expect([item.id for item in items.iterator(chunk_size=50)], list(range(5600, 5900)))

    in_threads(work)


def cancel():
    query("SELECT 1")
    with repeatedly(connections["default"].connection.cancel), raises("57014", code):
        query("SELECT pg_sleep(20)")
    expect(query("SELECT 1"), [(1,)])


def errors():
    Item.objects.create(id=1, name="one")
    try:
        with transaction.atomic():
            Item.objects.create(id=2, name="undone")
            Item.objects.create(id=1, name="again")
        raise AssertionError("no error from a second row of the same key")
    except IntegrityError as error:
        expect(code(error), "23505")
    with transaction.atomic():
        Item.objects.create(id=3, name="outer")
        with raises("22012", code), transaction.atomic():
            Item.objects.create(id=4, name="inner")
            query("SELECT 1 / 0")
        Item.objects.create(id=5, name="after")
    expect(list(Item.objects.filter(id__lt=10).order_by("id").values_list("id", flat=True)), [1, 3, 5])


def settings():
    """The time zone that Django sets on each connection, and an isolation level."""
    expect(query("SHOW timezone"), [("UTC",)])
    with transaction.atomic("serializable"):
        expect(query("SHOW transaction_isolation", using="serializable"), [("serializable",)])
    expect(query("SHOW transaction_isolation"), [("read committed",)])
    expect([c.name for c in connections["default"].introspection.get_table_description(connections["default"].cursor(), TABLE)], [f.name for f in Item._meta.fields])


def keyed():
    for n in range(20):
        item = Item.objects.create(id=100 + n, name=f"name {n}")
        expect(Item.objects.get(id=100 + n).name, f"name {n}")
        item.name = f"saved {n}"
        item.save()
        expect(Item.objects.get(id=100 + n).name, f"saved {n}")
        expect(Item.objects.filter(id=100 + n).update(amount=n), 1)
        with transaction.atomic():
            locked = Item.objects.select_for_update().get(id=100 + n)
            expect(int(locked.amount), n)
            Item.objects.filter(id=100 + n).update(amount=F("amount") + 1)
        expect(int(Item.objects.get(id=100 + n).amount), n + 1)
    items = Item.objects.filter(id__gte=100, id__lt=120).order_by("id")
    expect([item.id for item in items.iterator(chunk_size=7)], list(range(100, 120)))
    with transaction.atomic():
        expect([item.id for item in items.iterator(chunk_size=7)], list(range(100, 120)))
    expect(Item.objects.filter(id=100).delete()[0], 1)
    expect(Item.objects.filter(id=100).exists(), False)


checks = {name: values(name) for name, *_ in VALUES}
for check in (tls, scram, json, large, prepared, clients, pipeline, cursor, cancel, errors, settings, keyed):
    checks[check.__name__] = check
checks["copy"] = "Django has no COPY of its own; see psycopg"
checks["listen"] = "Django has no LISTEN of its own; see psycopg"
run(f"Django {django.__version__} with psycopg {psycopg.__version__}", checks)
