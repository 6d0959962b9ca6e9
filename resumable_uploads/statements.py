"""Statements that are put together once for each connection, and run by the driver.

To build a query anew for each chunk costs ten times what the database takes to answer
it, and what Django's cursors do around one is more than that as well: they let wrappers
see it, log and time it, and translate it. Where nobody has asked for any of that, the
driver's own cursor is asked; else Django's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from django.db import models
from django.db.backends import utils

Kept = TypeVar("Kept")
Prepare = Callable[[Any], Any]

# The backends whose cursors are known to add nothing else.
_KNOWN = ("django.db.backends.sqlite3.base", "django.db.backends.postgresql.base")
# Whose values SQLite takes as they are.
_PLAIN = (models.CharField, models.TextField, models.IntegerField, models.BooleanField)


def kept(connection: Any, key: Hashable, make: Callable[[], Kept]) -> Kept:
    """Return what was made for a connection, which it is bound to; make it once."""
    found = connection.__dict__.setdefault("_resumable_uploads_kept", {})
    try:
        return found[key]
    except KeyError:
        made = found[key] = make()
        return made


class Statement:
    """SQL for one connection, with ``%s`` in the places of its parameters."""

    def __init__(self, connection: Any, sql: str) -> None:
        self.sql = sql
        self._connection = connection
        is_sqlite = connection.vendor == "sqlite"
        self._own = sql.replace("%s", "?") if is_sqlite else sql
        self._is_known = type(connection).__module__ in _KNOWN

    def first(self, params: Sequence[Any]) -> Sequence[Any] | None:
        """Run it; return the first row that it gives, or None."""
        return self._done(params, _first)

    def all(self, params: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Run it; return all rows that it gives."""
        return self._done(params, _all)

    def run(self, params: Sequence[Any]) -> int:
        """Run it; return how many rows it has changed."""
        return self._done(params, _count)

    def _done(self, params: Sequence[Any], take: Callable[[Any], Any]) -> Any:
        connection = self._connection
        if not self._is_unseen():
            with connection.cursor() as cursor:
                cursor.execute(self.sql, params)
                return take(cursor)
        with connection.wrap_database_errors:
            cursor = connection.connection.cursor()
            try:
                cursor.execute(self._own, params)
                return take(cursor)
            finally:
                cursor.close()

    def _is_unseen(self) -> bool:
        """Tell whether Django's cursor would do no more than the driver's own.

        It does where somebody watches statements, or has put something of theirs in the
        place of Django's; where the connection is still to be made, or tried; and where
        a transaction has failed.
        """
        connection = self._connection
        return (
            self._is_known
            and connection.connection is not None
            and not connection.queries_logged
            and not connection.execute_wrappers
            and not connection.needs_rollback
            and (connection.health_check_done or not connection.health_check_enabled)
            and "cursor" not in connection.__dict__
            and _is_djangos(utils.CursorWrapper.execute)
        )


def _is_djangos(method: Any) -> bool:
    # Whoever replaces it may give it the name of the other one, but not the code.
    return method.__code__.co_filename == utils.__file__


def _first(cursor: Any) -> Any:
    return cursor.fetchone()


def _all(cursor: Any) -> Any:
    return cursor.fetchall()


def _count(cursor: Any) -> int:
    return cursor.rowcount


def preparers(
    fields: Sequence[Any], connection: Any, method: str = "get_db_prep_value"
) -> list[Prepare | None]:
    """Return what turns values of fields into parameters; None: they are already."""
    return [_preparer(field, connection, method) for field in fields]


def _preparer(field: Any, connection: Any, method: str) -> Prepare | None:
    if connection.vendor == "sqlite" and _is_plain(field):
        return None
    prepare = getattr(field, method)
    return lambda value: prepare(value, connection)


def _is_plain(field: Any) -> bool:
    is_djangos = type(field).__module__.startswith("django.db.models.")
    return is_djangos and isinstance(field, _PLAIN)


def prepared(prepare: Sequence[Prepare | None], values: Sequence[Any]) -> list[Any]:
    """Return values as parameters."""
    return [
        value if one is None else one(value)
        for one, value in zip(prepare, values, strict=True)
    ]
