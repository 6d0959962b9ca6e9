"""Statements that are put together once for each connection, and run by the driver.

To build a query anew for each chunk costs ten times what the database takes to answer
it, and what Django's cursors do around one is more than that as well: they let wrappers
see it, log and time it, and translate it. Where nobody has asked for any of that, the
driver's own cursor is asked; else Django's.

PostgreSQL takes longer to understand a statement than to do what it says. Where a site
lets statements be prepared (psycopg's ``prepare_threshold`` among its OPTIONS, which
Django sets to None, since not every pooler of connections can stand it), each is
understood once for each connection.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter, methodcaller
from typing import Any, TypeVar

from django.db.backends import utils

Kept = TypeVar("Kept")

# The backends whose cursors are known to add nothing else.
_KNOWN = ("django.db.backends.sqlite3.base", "django.db.backends.postgresql.base")
# What is taken from a cursor.
_FIRST, _ALL = methodcaller("fetchone"), methodcaller("fetchall")
_COUNT = attrgetter("rowcount")
# The attribute of a connection that holds what was made for it.
_KEPT = "_resumable_uploads_kept"


def kept(connection: Any, key: Hashable, make: Callable[[], Kept]) -> Kept:
    """Return what was made for a connection, which it is bound to; make it once."""
    try:
        return connection.__dict__[_KEPT][key]
    except KeyError:
        made = connection.__dict__.setdefault(_KEPT, {})[key] = make()
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
        return self._done(params, _FIRST)

    def all(self, params: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Run it; return all rows that it gives."""
        return self._done(params, _ALL)

    def run(self, params: Sequence[Any]) -> int:
        """Run it; return how many rows it has changed."""
        return self._done(params, _COUNT)

    def _done(self, params: Sequence[Any], take: Callable[[Any], Any]) -> Any:
        connection = self._connection
        if not self._is_unseen():
            with connection.cursor() as cursor:
                cursor.execute(self.sql, params)
                return take(cursor)
        with connection.wrap_database_errors:
            cursor = self._cursor()
            try:
                cursor.execute(self._own, params)
                return take(cursor)
            finally:
                cursor.close()

    def _cursor(self) -> Any:
        """Return a cursor of the driver's; it prepares statements, if it may."""
        driver = self._connection.connection
        if getattr(driver, "prepare_threshold", None) is None:
            return driver.cursor()
        # Django's own puts the values into the statement: each would be a new one.
        return self._connection.Database.Cursor(driver)

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
            # Whoever replaces it may give it the name of Django's, but not the code.
            and utils.CursorWrapper.execute.__code__.co_filename == utils.__file__
        )
