"""Django's migrations: an application's (`shop`), and those of auth and contenttypes, there and back."""

import os

import django
import psycopg
from check import expect, run
from django.conf import settings
from django.core.management import call_command

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "PASSWORD": os.environ["PGPASSWORD"],
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "shop"],
)
django.setup()

from django.contrib.auth import authenticate  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.db import connection  # noqa: E402


def migrate(*words, **more):
    call_command("migrate", *words, verbosity=0, interactive=False, **more)


def migrations():
    migrate()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*), count(DISTINCT id), count(note) FROM shop_order")
        expect(cursor.fetchone(), (6, 6, 6))
        expect({"auth_user", "shop_order"} <= set(connection.introspection.table_names(cursor)), True)
    admin = User.objects.create_superuser("admin", password="secret")
    group = Group.objects.create(name="staff")
    group.permissions.set(Permission.objects.all()[:3])
    admin.groups.add(group)
    expect(authenticate(username="admin", password="secret").groups.count(), 1)
    migrate("shop", "0001")
    migrate("shop", "0003", fake=True)
    migrate("shop", "0001", fake=True)
    migrate()
    for app in ("shop", "auth", "contenttypes"):
        migrate(app, "zero")
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_migrations")


run(f"Django {django.__version__} migrate with psycopg {psycopg.__version__}", {"migrations": migrations})
