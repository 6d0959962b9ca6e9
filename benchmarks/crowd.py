"""Many sessions in the demo's database: ``python -m benchmarks.crowd 1000000``."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django
from django.apps import apps
from django.db import connection
from django.utils import timezone
from django.utils.module_loading import import_string

# A new key, and so many numbers, as the databases make them.
KEYS = {
    "postgresql": "gen_random_uuid()",
    "sqlite": "lower(hex(randomblob(16)))",
}
NUMBERS = {
    "postgresql": "SELECT i FROM generate_series(1, %s) AS numbers(i)",
    "sqlite": "SELECT i FROM (WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL "
    "SELECT i + 1 FROM numbers WHERE i < %s) SELECT i FROM numbers)",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, default=0)
    parser.add_argument("--expired", action="store_true")
    parser.add_argument("--purge", action="store_true")
    options = parser.parse_args()
    django.setup()
    if options.purge:
        print(json.dumps(purge()))
        return
    age = timedelta(days=8) if options.expired else timedelta()
    if options.count:
        fill(options.count, age)


def purge() -> dict[str, Any]:
    """Purge, and return what it took: in seconds, MiB, and of the longest statement."""
    watch, begun = Longest(), time.monotonic()
    with connection.execute_wrapper(watch):
        done = import_string("resumable_uploads.retention.purge")()
    return {
        "expired": done.expired,
        "left": import_string("resumable_uploads.engine.overdue")().count(),
        "seconds": time.monotonic() - begun,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "longest": watch.seconds,
        "statement": watch.statement,
    }


class Longest:
    """Sees all statements of a connection, and remembers how long the longest took."""

    seconds = 0.0
    statement = ""

    def __call__(self, execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        begun = time.monotonic()
        try:
            return execute(sql, *args)
        finally:
            took = time.monotonic() - begun
            if took > self.seconds:
                self.seconds, self.statement = took, f"{sql[:60]} ... {sql[-200:]}"


def fill(count: int, age: timedelta) -> None:
    """Make so many sessions of as many owners, opened so long ago."""
    session = apps.get_model("resumable_uploads.UploadSession")
    pattern = row(session, timezone.now() - age)
    pattern.save(force_insert=True)
    columns = [field.column for field in session._meta.concrete_fields]
    made = {"id": KEYS[connection.vendor], "owner": f"'session:{pattern.pk}-' || i"}
    chosen = ", ".join(made.get(column, f"pattern.{column}") for column in columns)
    table = session._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} "
            f"FROM {table} AS pattern, ({NUMBERS[connection.vendor]}) AS numbered "
            "WHERE pattern.id = %s",
            [count - 1, session._meta.pk.get_db_prep_value(pattern.pk, connection)],
        )


def row(session: Any, opened: Any) -> Any:
    upload = session(
        protocol="rest",
        filename="film.bin",
        length=10**9,
        chunk_size=8 * 1024 * 1024,
        created_at=opened,
        active_at=opened,
        expires_at=opened + timedelta(days=7),
    )
    upload.owner = f"session:{upload.pk.hex}"
    return upload


if __name__ == "__main__":
    main()
