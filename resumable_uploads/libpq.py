"""Statements that psycopg has prepared, handed to libpq at once.

A cursor of psycopg's does much for each statement that is not needed for one that is
always the same: it reads it, looks for a pipeline, steers a generator and arranges the
answer. That is half of what a statement of a chunk takes. What it has prepared for a
connection, and when it drops that again, is left to it; so are values and errors, which
are its own here too.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg import Cursor, OperationalError, pq, waiting
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.types.datetime import TimestamptzLoader

_IDLE = pq.TransactionStatus.IDLE
_READY = {_IDLE, pq.TransactionStatus.INTRANS}
_DONE = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}


class PreparedStatement:
    """SQL for one connection of psycopg's, with ``%s`` in the places of its parameters.

    ``moments_are_utc``: the connection gives moments in UTC, and is to go on so.
    """

    def __init__(self, driver: Any, sql: str, moments_are_utc: bool) -> None:
        self._driver = driver
        self._sql = sql
        # As psycopg calls it.
        self._key = _numbered(sql).encode()
        self._formats = [PyFormat.AUTO] * sql.count("%s")
        self._moments_are_utc = moments_are_utc
        self._cursor = self._new_cursor()
        self._transformer = Transformer(self._cursor)
        self._names = _names_of(driver)

    def _new_cursor(self) -> Any:
        cursor = Cursor(self._driver)
        if self._moments_are_utc:
            cursor.adapters.register_loader("timestamptz", _MomentLoader)
        return cursor

    def is_for(self, driver: Any) -> bool:
        """Tell whether it can still be run, on this connection."""
        return self._driver is driver and not driver.closed

    def execute(self, params: Sequence[Any]) -> Any:
        """Run it; return what can be asked for the answer as a cursor can.

        Raise what psycopg raises.
        """
        if self._names and _can_be_handed_over(self._driver):
            values = self._transformer.dump_sequence(params, self._formats)
            name = self._names.get((self._key, self._transformer.types))
            if name:
                return self._handed_over(name, values)
        self._cursor.execute(self._sql, params)
        return self._cursor

    def forget(self) -> None:
        """Keep none of the rows that were found."""
        self._transformer.set_pgresult(None)
        if self._cursor.pgresult is not None:
            self._cursor = self._new_cursor()

    def _handed_over(self, name: bytes, values: Sequence[Any]) -> _Answer:
        driver, formats = self._driver, self._transformer.formats
        line = driver.pgconn
        if line.transaction_status == _IDLE and not driver.autocommit:
            _done(driver, line.exec_(b"BEGIN"))
        result = _done(driver, line.exec_prepared(name, values, formats))
        return _Answer(result, self._transformer)


class _Answer:
    """What the database has answered, to be asked for like a cursor."""

    __slots__ = ("_result", "_transformer")

    def __init__(self, result: Any, transformer: Any) -> None:
        self._result = result
        self._transformer = transformer
        transformer.set_pgresult(result)

    @property
    def rowcount(self) -> int:
        return self._result.command_tuples

    def fetchone(self) -> tuple[Any, ...] | None:
        if not self._result.ntuples:
            return None
        return self._transformer.load_row(0, tuple)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._transformer.load_rows(0, self._result.ntuples, tuple)


class _MomentLoader(TimestamptzLoader):
    """What Django's loader makes of a moment in UTC, in a tenth of the time."""

    def load(self, data: Any) -> datetime:
        try:
            found = datetime.fromisoformat(bytes(data).decode())
        except ValueError:
            found = super().load(data)
        return found.astimezone(UTC)


def _can_be_handed_over(driver: Any) -> bool:
    """Tell whether a cursor would only begin a transaction, send a statement and wait.

    It can be interrupted where signals are handled, and makes room for others where
    threads are green.
    """
    line = driver.pgconn
    return (
        line.transaction_status in _READY
        and not line.pipeline_status
        and not is_interruptible()
        and (driver.autocommit or _begins_simply(driver))
    )


def _begins_simply(driver: Any) -> bool:
    said = driver.isolation_level, driver.read_only, driver.deferrable
    return said == (None, None, None)


def is_interruptible() -> bool:
    return (
        threading.current_thread() is threading.main_thread()
        or waiting.wait is not getattr(waiting, "wait_c", None)
    )


def _names_of(driver: Any) -> Any:
    """Return what psycopg has prepared: names, by statements and types of parameters.

    Nothing, if it cannot be seen: then the cursor knows by itself.
    """
    return getattr(getattr(driver, "_prepared", None), "_names", None)


def _done(driver: Any, result: Any) -> Any:
    """Return a result. Raise what psycopg raises if it is none."""
    if result.status in _DONE:
        return result
    if driver.closed:
        message = driver.pgconn.error_message.decode(errors="replace")
        raise OperationalError(message)
    raise error_from_result(result, encoding=driver.info.encoding)


def _numbered(sql: str) -> str:
    """Return a statement with the places of its parameters as PostgreSQL has them."""
    first, *others = sql.split("%s")
    return first + "".join(f"${place}{text}" for place, text in enumerate(others, 1))
