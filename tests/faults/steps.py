"""The steps by which a process changes what is outside of it, and a blow at one.

A step is a call that changes a file, a folder, a row or a transaction. Nothing in the
app knows of it: the functions of ``os`` and of Django's database layer are replaced.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

Blow = Callable[[str], None]

FILES = (
    "pwrite",
    "write",
    "link",
    "unlink",
    "remove",
    "rename",
    "replace",
    "ftruncate",
    "fsync",
    "fdatasync",
    "mkdir",
    "rmdir",
    "copy_file_range",
    "fchmod",
)
# Statements that change nothing.
READING = ("SELECT", "PRAGMA", "SHOW")


class Steps:
    """Counts steps and strikes at the nth: before it, or once it has been done.

    With ``between``, only those count that are no part of a transaction.
    """

    def __init__(
        self, at: int, blow: Blow, when: str = "before", between: bool = False
    ) -> None:
        self.taken = 0
        self.struck = ""
        # How often it has struck.
        self.rounds = 0
        self._at = at
        self._blow = blow
        self._when = when
        self._between = between
        self._thread = threading.get_ident()

    @contextmanager
    def watched(self) -> Iterator[Steps]:
        """Count the steps that are taken meanwhile."""
        changed = []
        for owner, name, counts in _watched():
            changed.append((owner, name, getattr(owner, name)))
            setattr(owner, name, self._watching(changed[-1][2], name, counts))
        try:
            yield self
        finally:
            for owner, name, function in changed:
                setattr(owner, name, function)

    def again_after(self, steps: int) -> None:
        """Strike a second time, so many steps after this one, whichever they are."""
        self._at = self.taken + steps
        self._between = False

    def _watching(
        self, function: Callable[..., Any], name: str, counts: Callable[..., bool]
    ) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if not counts(*args) or not self._is_mine() or self._is_nonsense(args):
                return function(*args, **kwargs)
            self.taken += 1
            is_it = self.taken == self._at
            if is_it and self._when == "before":
                self._strike(name, args)
            try:
                result = function(*args, **kwargs)
            except Exception:
                if is_it:
                    # Such as a folder that is there: it has failed by itself.
                    self.struck = f"{name} {str(args[1:2])[:60]}"
                raise
            if is_it and self._when == "after":
                self._strike(name, args)
            return result

        return step

    def _is_mine(self) -> bool:
        """Leave other threads alone, and transactions if they do not count."""
        if threading.get_ident() != self._thread:
            return False
        return not (self._between and not connection.get_autocommit())

    def _is_nonsense(self, args: tuple[Any, ...]) -> bool:
        """Tell whether it is a BEGIN that is done and fails: SQLite has none such."""
        begins = str(args[1:2]).startswith("('BEGIN")
        return begins and self._when == "after"

    def _strike(self, name: str, args: tuple[Any, ...]) -> None:
        self.rounds += 1
        self.struck = f"{self._when} {name} {str(args[1:2])[:60]}"
        self._blow(name)


def _watched() -> Iterator[tuple[Any, str, Callable[..., bool]]]:
    for name in FILES:
        yield os, name, _always
    yield os, "open", _creates
    yield CursorWrapper, "execute", _changes
    yield CursorWrapper, "executemany", _changes
    yield BaseDatabaseWrapper, "_commit", _always


def _always(*args: Any) -> bool:
    return True


def _creates(path: Any, flags: int, *args: Any) -> bool:
    return bool(flags & os.O_CREAT)


def _changes(cursor: Any, statement: Any, *args: Any) -> bool:
    return not str(statement).lstrip().upper().startswith(READING)
