"""What the Python programs share: values with their server's text, and the running of checks."""

import asyncio
import datetime
import decimal
import inspect
import os
import signal
import threading
import uuid

UTC = datetime.timezone.utc
TABLE = os.environ["DRIVER_TABLE"]
CLIENTS = 8
ROUNDS = 5
MEGABYTE = 1 << 20
# No two neighbours are alike, so that a part that is lost or sent twice shows.
LONG_TEXT = "".join(f"{n:06d}ü" for n in range(MEGABYTE // 8))
LONG_BYTES = bytes(n * 7 % 256 for n in range(MEGABYTE))

# (capability, type, value, the server's text for it or an expression of $1 and its text)
VALUES = [
    ("numbers", "int2", -32768, "-32768"),
    ("numbers", "int4", 2147483647, "2147483647"),
    ("numbers", "int8", -9223372036854775808, "-9223372036854775808"),
    ("numbers", "float8", 0.1, "0.1"),
    ("numbers", "numeric", decimal.Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
    ("numbers", "bool", True, "true"),
    ("numbers", "uuid", uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("text", "text", "Zażółć 日本語 🐘 'single' \"double\" \\back\\ %s $1 :a ?\n\ttab", None),
    ("text", "text", "", ""),
    ("bytea", "bytea", bytes(range(256)), "\\x" + bytes(range(256)).hex()),
    ("bytea", "bytea", b"", "\\x"),
    ("nulls", "int4", None, None),
    ("nulls", "text", None, None),
    ("nulls", "bytea", None, None),
    ("nulls", "timestamptz", None, None),
    ("arrays", "int8[]", [1, None, -3], "{1,NULL,-3}"),
    ("arrays", "text[]", ["a", "b c", 'q"uo\\te', "", None, "NULL", "ü,{}"], '{a,"b c","q\\"uo\\\\te","",NULL,"NULL","ü,{}"}'),
    ("arrays", "int4[]", [[1, 2], [3, 4]], "{{1,2},{3,4}}"),
    ("arrays", "text[]", [], "{}"),
    ("times", "date", datetime.date(2024, 2, 29), "2024-02-29"),
    ("times", "time", datetime.time(23, 59, 59, 123456), "23:59:59.123456"),
    ("times", "timestamp", datetime.datetime(2024, 2, 29, 23, 59, 59, 123456), "2024-02-29 23:59:59.123456"),
    ("times", "timestamptz", datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, UTC), "2024-02-29 23:59:59.123456+00"),
    ("times", "interval", datetime.timedelta(days=3, seconds=5), "3 days 00:00:05"),
]
DOCUMENT = {"a": [1, 2.5, {"b": None}], "ü": "☃ \"quoted\" \\", "long": "x" * 5000}


class Absent(Exception):
    """The driver has no such thing; says why."""


def expect(found, expected, what=""):
    if found != expected or not isinstance(found, type(expected)):
        raise AssertionError(f"{what} expected {short(expected)}, found {short(found)}")


def short(value):
    text = repr(value)
    return text if len(text) < 200 else text[:200] + f"… ({len(text)} characters)"


class raises:
    """The block raises an error with this SQLSTATE, which `code` reads off it."""

    def __init__(self, sqlstate, code):
        self.sqlstate, self.code = sqlstate, code
        self.error = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            raise AssertionError(f"no error, expected {self.sqlstate}")
        if not isinstance(error, Exception) or isinstance(error, AssertionError):
            return False
        found = self.code(error)
        if found != self.sqlstate:
            raise AssertionError(f"expected {self.sqlstate}, found {found}: {error}") from error
        self.error = error
        return True


class repeatedly:
    """Calls `stop` from another thread until the block ends: what is to be stopped may not have begun."""

    def __init__(self, stop):
        self.stop, self.ended, self.error = stop, threading.Event(), None

    def __enter__(self):
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        while not self.ended.wait(0.2):
            try:
                self.stop()
            except Exception as error:
                self.error = error

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        if self.error:
            raise self.error


def too_long(*_):
    raise TimeoutError("took longer than 30 s")


def run(version, checks):
    """Runs those of `checks` (name -> function) that are asked for."""
    print("version", version, flush=True)
    signal.signal(signal.SIGALRM, too_long)
    for name in os.environ["DRIVER_CHECKS"].split(","):
        check = checks.get(name)
        signal.alarm(30)
        try:
            if check is None:
                raise Absent("not in this driver")
            if isinstance(check, str):
                raise Absent(check)
            if inspect.iscoroutinefunction(check):
                asyncio.run(check())
            else:
                check()
            print("ok", name, flush=True)
        except Absent as why:
            print(f"absent {name}: {why}", flush=True)
        except Exception as error:
            message = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"failed {name}: {message}", flush=True)
            if "DRIVER_TRACE" in os.environ:
                import traceback

                traceback.print_exc()
        finally:
            signal.alarm(0)
