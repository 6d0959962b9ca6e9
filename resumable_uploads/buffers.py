"""The memory that bytes pass through, lent for one block at a time.

Each thread has a small buffer of its own. Where so much has come already that it would
take several rounds through that one, a large one is lent: fewer calls for each byte,
and fewer threads that wait for each other. There are a few for all threads, since
nobody who has one waits for a client. So memory does not grow with the uploads.
"""

from __future__ import annotations

import threading
from collections import deque

from .conf import setting

# How many times the size of a small one.
LARGE = 8
# How many large ones are kept; no more are lent at once.
LARGE_BUFFERS = 4

_of_thread = threading.local()
# An entry for each one that may be lent: the buffer, or None until it is made.
_large: deque[bytearray | None] = deque([None] * LARGE_BUFFERS)


def own() -> memoryview:
    """Return the buffer of this thread."""
    size = setting("BUFFER_SIZE")
    buffer = getattr(_of_thread, "buffer", None)
    if buffer is None or len(buffer) != size:
        buffer = _of_thread.buffer = bytearray(size)
    return memoryview(buffer)


class Loan:
    """Room for a block of at most so many bytes, of which some are there already.

    ``view`` is no longer than ``wanted``; where it is a large one, no longer than what
    is there. Whoever has it gives it back with ``end``.
    """

    def __init__(self, wanted: int, there: int) -> None:
        self._large: bytearray | None = None
        size = setting("BUFFER_SIZE")
        room = min(wanted, there, LARGE * size)
        if room >= 2 * size and self._borrow(LARGE * size):
            self.view = memoryview(self._large)[:room]  # type: ignore[arg-type]
        else:
            self.view = own()[:wanted]

    def end(self) -> None:
        if self._large is not None:
            _large.append(self._large)
            self._large = None

    def _borrow(self, size: int) -> bool:
        try:
            buffer = _large.pop()
        except IndexError:
            return False
        if buffer is None or len(buffer) != size:
            buffer = bytearray(size)
        self._large = buffer
        return True
