"""Threads that meet at a certain line: by a barrier, or held at a gate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.db import connections

PATIENCE = 30.0


class Running:
    """A function in a thread of its own, with its own database connection."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._call = (function, args, kwargs)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        function, args, kwargs = self._call
        try:
            self.value = function(*args, **kwargs)
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, patience: float = PATIENCE) -> Running:
        """Wait for the end. Raise TimeoutError."""
        self._thread.join(patience)
        if not self.is_over:
            raise TimeoutError(f"{self._call} hangs")
        return self

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        self.wait()
        if self.error is not None:
            raise self.error
        return self.value


def at_once(calls: Iterable[Callable[[], Any]]) -> list[Running]:
    """Call all of them at the same time, and return when all are over."""
    calls = list(calls)
    barrier = threading.Barrier(len(calls))

    def go(call: Callable[[], Any]) -> Any:
        # The connection is there before the race begins.
        connections["default"].ensure_connection()
        barrier.wait(PATIENCE)
        return call()

    return [thread.wait() for thread in [Running(go, call) for call in calls]]


def values(threads: Iterable[Running]) -> list[Any]:
    """Return what those returned that did not fail."""
    return [thread.value for thread in threads if thread.error is None]


def failures(threads: Iterable[Running]) -> list[BaseException]:
    return [thread.error for thread in threads if thread.error is not None]


class Gate:
    """Holds the first thread that comes along, until it is opened."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()
        self._first = threading.Lock()

    def pass_through(self) -> None:
        if self._first.acquire(blocking=False):
            self._reached.set()
            if not self._opened.wait(PATIENCE):
                raise TimeoutError("nobody opened the gate")

    def wait(self) -> None:
        """Wait until somebody is held."""
        if not self._reached.wait(PATIENCE):
            raise TimeoutError("nobody came to the gate")

    def open(self) -> None:
        self._opened.set()


def held(patch: pytest.MonkeyPatch, owner: Any, name: str, after: bool = False) -> Gate:
    """Hold the first thread that calls a function, before it or after it."""
    step: Callable[..., Any] = getattr(owner, name)
    gate = Gate()

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not after:
            gate.pass_through()
        result = step(*args, **kwargs)
        if after:
            gate.pass_through()
        return result

    patch.setattr(owner, name, wrapped)
    return gate


def counted(patch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """Note each call of a function."""
    step: Callable[..., Any] = getattr(owner, name)
    calls: list[Any] = []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return step(*args, **kwargs)

    patch.setattr(owner, name, wrapped)
    return calls
