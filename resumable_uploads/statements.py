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

import select
from collections.abc import Callable, Hashable, Sequence
from datetime import UTC
from operator import attrgetter, methodcaller
from typing import Any, TypeVar

from django.db import Error, transaction
from django.db.backends import utils
from django.utils.module_loading import import_string

Kept = TypeVar("Kept")

# The backends whose cursors are known to add nothing else.
_KNOWN = ("django.db.backends.sqlite3.base", "django.db.backends.postgresql.base")
# What is taken from a cursor.
_FIRST, _ALL = methodcaller("fetchone"), methodcaller("fetchall")
_COUNT = attrgetter("rowcount")
# What libpq calls CONNECTION_OK.
_CONNECTED = 0
# By its name: psycopg is 10 MB in memory, which sites without PostgreSQL do without.
_PREPARED = "resumable_uploads.libpq.PreparedStatement"
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
        # Where psycopg prepares statements, which not every site has installed.
        self._prepared: Any = None

    def first(self, params: Sequence[Any]) -> Sequence[Any] | None:
        """Run it; return the first row that it gives, or None."""
        return self._done(params, _FIRST)

    def all(self, params: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Run it; return all rows that it gives."""
        found = self._done(params, _ALL)
        if self._prepared:
            # Which has them as well.
            self._prepared.forget()
        return found

    def run(self, params: Sequence[Any]) -> int:
        """Run it; return how many rows it has changed."""
        return self._done(params, _COUNT)

    def _done(self, params: Sequence[Any], take: Callable[[Any], Any]) -> Any:
        connection = self._connection
        if not is_unseen(connection):
            with connection.cursor() as cursor:
                cursor.execute(self.sql, params)
                return take(cursor)
        with connection.wrap_database_errors:
            driver = connection.connection
            if getattr(driver, "prepare_threshold", None) is not None:
                return take(self._preparing(driver).execute(params))
            cursor = driver.cursor()
            try:
                cursor.execute(self._own, params)
                return take(cursor)
            finally:
                cursor.close()

    def _preparing(self, driver: Any) -> Any:
        """Return what prepares it; Django's cursor puts the values into the statement.

        Each would be a new one then.
        """
        known = self._prepared
        if known is None or not known.is_for(driver):
            in_utc = self._connection.timezone is UTC
            known = import_string(_PREPARED)(driver, self.sql, in_utc)
            if not self._connection.allow_thread_sharing:
                self._prepared = known
        return known


def is_unseen(connection: Any, alone: bool = False) -> bool:
    """Tell whether Django's cursor would do no more than the driver's own.

    It does where somebody watches statements, or has put something of theirs in the
    place of Django's; where the connection is still to be made, or tried; and where a
    transaction has failed. ``alone``: and there is no transaction under way.
    """
    return (
        type(connection).__module__ in _KNOWN
        and connection.connection is not None
        and not connection.queries_logged
        and not connection.execute_wrappers
        and not connection.needs_rollback
        and (connection.health_check_done or not _has_to_be_tried(connection))
        and "cursor" not in connection.__dict__
        # Whoever replaces it may give it the name of Django's, but not the code.
        and utils.CursorWrapper.execute.__code__.co_filename == utils.__file__
        and not (
            alone and (connection.in_atomic_block or not connection.get_autocommit())
        )
    )


def _has_to_be_tried(connection: Any) -> bool:
    """Tell whether Django would first ask the database whether it is still there.

    Not where the socket says so: once a server has ended, or has hung up, there is
    something to be read from it. To ask would be a statement more for each request.
    """
    if connection.health_check_enabled:
        driver = getattr(connection.connection, "pgconn", None)
        if driver is None or driver.status != _CONNECTED:
            return True
        line = select.poll()
        line.register(driver.socket, select.POLLIN)
        if line.poll(0):
            return True
    # As Django notes it, for the rest of the request.
    connection.health_check_done = True
    return False


class brief:
    """A transaction around a few statements of this module's, and around nothing else.

    What ``atomic(durable=True)`` does, for a tenth of the calls where nobody watches
    an SQLite. It knows nothing of what is to be called after a commit.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._atomic: Any = None
        if connection.vendor != "sqlite" or not is_unseen(connection, alone=True):
            self._atomic = transaction.atomic(using=connection.alias, durable=True)

    def __enter__(self) -> None:
        if self._atomic:
            self._atomic.__enter__()
            return
        mode = getattr(self._connection, "transaction_mode", None) or ""
        with self._connection.wrap_database_errors:
            self._connection.connection.execute(f"BEGIN {mode}")

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._atomic:
            self._atomic.__exit__(kind, error, traceback)
        elif error is None:
            self._commit()
        else:
            self._roll_back()

    def _commit(self) -> None:
        try:
            self._connection.commit()
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        try:
            self._connection.rollback()
        except Error:
            # As atomic() does: what is left of it ends with the connection.
            self._connection.close()
