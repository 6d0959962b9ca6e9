"""gunicorn's worker with threads, one of which is always warm.

    worker_class = "resumable_uploads.workers.WarmThreadWorker"

A pool of Python's lets its threads take turns. So each request finds another thread's
buffer and database connection, and what these had in the processor's and the database's
caches has been overwritten since. Here the thread that has just become idle is the next
one. A site with few requests at once also has few database connections.

And a thread that has answered waits a moment for the next request of the same client,
if others are idle. Who uploads sends one chunk after the other; to hand the connection
to the poller in between, and back to a thread, costs as much as a small request. Of
those that have something to do, a few are at work at the same time (``turns``).
"""

from __future__ import annotations

import os
import queue
import select
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from .turns import turns

# How long a thread waits for the next request of a client, in milliseconds. It is away
# for others that long at most, should all of them come to be wanted meanwhile.
NEXT_REQUEST = 20
# For so many of them it keeps its turn: who sends chunks in a row is back by then.
SOON = 1


class WarmQueue:
    """A queue like ``queue.SimpleQueue`` that wakes who has come to wait last.

    Without a lock of its own: handlers of signals may put something into it, also while
    the thread that they have interrupted is doing so.
    """

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        # A lock that is held for each thread that waits; to release it is to wake it.
        self._waiting: list[threading.Lock] = []

    def put(self, item: Any) -> None:
        self._items.append(item)
        try:
            last = self._waiting.pop()
        except IndexError:
            return
        last.release()

    def get(self, block: bool = True) -> Any:
        """Return the item that was put first. Raise queue.Empty if not to ``block``."""
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                if not block:
                    raise queue.Empty from None
            self._wait()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def is_awaited(self) -> bool:
        """Tell whether somebody waits for an item."""
        return bool(self._waiting)

    def _wait(self) -> None:
        woken = threading.Lock()
        woken.acquire()
        self._waiting.append(woken)
        if self._items:
            # It was put before anybody knew that somebody waits.
            try:
                self._waiting.remove(woken)
            except ValueError:
                # By now somebody does, and lets go of the lock.
                pass
            else:
                return
        woken.acquire()


class WarmThreads(ThreadPoolExecutor):
    """A pool of threads that gives its next task to the thread that was busy last."""

    def __init__(self, max_workers: int) -> None:
        super().__init__(max_workers, thread_name_prefix="request")
        self._work_queue = WarmQueue()  # type: ignore[assignment]

    def has_spare(self) -> bool:
        """Tell whether a task would find a thread by now."""
        is_awaited = self._work_queue.is_awaited()  # type: ignore[attr-defined]
        return is_awaited or len(self._threads) < self._max_workers


class WarmThreadWorker(ThreadWorker):
    """gunicorn's gthread, with such a pool, and threads that stay with a client."""

    def get_thread_pool(self) -> WarmThreads:
        return WarmThreads(self.cfg.threads)

    def init_process(self) -> None:
        turns.at_once = max(2, _processors() // self.cfg.workers)
        super().init_process()

    def handle(self, conn: Any) -> Any:
        """Answer requests of a connection, as long as the next one is there soon.

        What is returned is said of the last one: whether the connection is kept.
        """
        with turns.part():
            if _has_come(conn.sock, 0):
                turns.take()
            kept = super().handle(conn)
            while kept is True and self._goes_on(conn):
                turns.take()
                kept = super().handle(conn)
            return kept

    def _goes_on(self, conn: Any) -> bool:
        """Wait for the next request, if that keeps no thread from another client."""
        if not self.alive or self.cfg.is_ssl:
            return False
        if conn.parser.unreader.buf.getvalue():
            # Part of it is here already: the poller would not be told, nor is this one.
            return False
        has_spare = self.tpool.has_spare()
        if turns.goes_on(not has_spare) and _has_come(conn.sock, SOON):
            return True
        if not has_spare:
            return False
        turns.leave()
        return _has_come(conn.sock, NEXT_REQUEST)


def _has_come(sock: Any, patience: int) -> bool:
    """Tell whether there is something to be read, within so many milliseconds."""
    line = select.poll()
    line.register(sock, select.POLLIN)
    return bool(line.poll(patience))


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
