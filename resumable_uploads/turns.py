"""Whose turn it is: of the threads of a process, only a few work at the same time.

Where more are at work than there are processors, they drive each other's data out of
the caches, wait for each other at the interpreter's lock and at SQLite's, and each
chunk costs up to twice as much. So a thread takes a turn, keeps it for some requests
of its client while what it needs is still at hand, and hands it on. It gives it away
whenever it waits for its client, so that who is slow keeps nobody waiting.

Who does not take part is not held up. And nobody waits for long for one that is stuck:
in the queue of a disk, at a lock of the database, in an answer to a slow client.

All times are seconds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

# So long a turn is kept while others wait for one.
SLICE = 0.01
# Who has not been heard of for so long is stuck, and its turn is somebody else's.
PATIENCE = 0.01


class _Thread:
    """What is known of a thread."""

    def __init__(self) -> None:
        self.takes_part = False
        self.has_turn = False
        # When its turn began, and when it was last heard of.
        self.since = 0.0
        self.seen = 0.0
        # Held but for a moment: to release it is to wake who waits for a turn.
        self.woken = threading.Lock()
        self.woken.acquire()


class Turns:
    """Turns of which there are so many at once, for threads that take part."""

    def __init__(self, at_once: int = 2) -> None:
        self.at_once = at_once
        self._guard = threading.Lock()
        self._holders: list[_Thread] = []
        self._waiting: deque[_Thread] = deque()
        self._local = threading.local()

    @contextmanager
    def part(self) -> Iterator[None]:
        """Take part meanwhile. A turn is to be taken, and is given away at the end."""
        me = self._me()
        me.takes_part = True
        try:
            yield
        finally:
            me.takes_part = False
            self._leave(me)

    def take(self) -> None:
        """Wait for a turn, or hand it on and wait for another one if it is over.

        To be called at each step of some work: who does not is taken to be stuck.
        """
        me = self._me()
        if not me.takes_part:
            return
        me.seen = time.monotonic()
        if me.has_turn and self._waiting and me.seen - me.since > SLICE:
            self._leave(me)
        if not me.has_turn:
            self._take(me)

    def goes_on(self, is_wanted: bool = False) -> bool:
        """Tell whether this thread has a turn that is not to be handed on yet.

        With ``is_wanted``, to somebody who does not even have a thread.
        """
        me = self._me()
        me.seen = time.monotonic()
        is_over = me.seen - me.since > SLICE
        return me.has_turn and not (is_over and (is_wanted or self._waiting))

    def leave(self) -> None:
        """Give the turn away, if this thread has one: it is about to wait."""
        self._leave(self._me())

    def _me(self) -> _Thread:
        try:
            return self._local.thread
        except AttributeError:
            self._local.thread = _Thread()
            return self._local.thread

    def _take(self, me: _Thread) -> None:
        with self._guard:
            if len(self._holders) < self.at_once:
                self._give(me)
            else:
                self._waiting.append(me)
            place = len(self._waiting)
        # Those in front are served first; with each turn that ends, somebody is.
        while not me.woken.acquire(timeout=PATIENCE * (1 + place // self.at_once)):
            with self._guard:
                place = self._pass_over(me)

    def _leave(self, me: _Thread) -> None:
        if not me.has_turn:
            return
        with self._guard:
            # Unless it has just been found to be stuck.
            if me.has_turn:
                self._end(me)

    def _pass_over(self, me: _Thread) -> int:
        """Take the turn from one that is stuck; return the place of one that waits."""
        longest = min(self._holders, key=lambda one: one.seen, default=None)
        if longest and time.monotonic() - longest.seen > PATIENCE:
            self._end(longest)
        return self._waiting.index(me) if me in self._waiting else 0

    def _end(self, holder: _Thread) -> None:
        holder.has_turn = False
        self._holders.remove(holder)
        if self._waiting:
            self._give(self._waiting.popleft())

    def _give(self, thread: _Thread) -> None:
        thread.has_turn = True
        thread.since = thread.seen = time.monotonic()
        self._holders.append(thread)
        thread.woken.release()


# Those of this process. Where no server has its threads take part, nobody does.
turns = Turns()
