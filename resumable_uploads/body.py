"""The bytes of one request in motion: counted, checksummed, cut into segments.

They pass through buffers that are lent, so memory does not grow with the body. Never a
request object, a model or a store.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from awscrt import checksums

from . import errors
from .buffers import Loan, own
from .conf import seconds, setting
from .sources import Idle, Source, is_stopping, wake_at_stop


class Crc32:
    """The CRC-32 of zlib and PNG, in the manner of hashlib."""

    digest_size = 4

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Any) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self.digest_size, "big")

    def hexdigest(self) -> str:
        return self.digest().hex()


# What Content-Digest and its like may ask for, besides the checksum in use.
DIGESTS: dict[str, Any] = {
    "sha-512": hashlib.sha512,
    "sha-256": hashlib.sha256,
    "sha": hashlib.sha1,
    "md5": hashlib.md5,
    "crc32": Crc32,
}
CHECKSUM = "crc64nvme"


def checksum(data: Any, previous: int = 0) -> int:
    """Return the CRC-64/NVME of bytes, or of bytes after those summed up before."""
    return checksums.crc64nvme(data, previous)


def combine(first: int, second: int, second_size: int) -> int:
    """Return the checksum of two stretches from theirs, without the bytes."""
    return checksums.combine_crc64nvme(first, second, second_size)


class Segment:
    """A stretch of a body, to be read once by iterating over its blocks.

    ``size`` (bytes) and ``checksum`` are right once the iteration is over.
    """

    def __init__(self, body: Body, at_most: int, when_idle: bool) -> None:
        self.size = 0
        self.checksum = 0
        # Where all of it lies in a file already: that file, open for reading.
        self.file: int | None = None
        # Is the file that is uploaded nothing but this?
        self.is_all = False
        self._body = body
        self._at_most = at_most
        self._when_idle = when_idle

    def __iter__(self) -> Iterator[memoryview]:
        """Yield blocks of bytes; each is good until the next one is asked for."""
        while self.size < self._at_most:
            loan = self._body.room(self._at_most - self.size)
            try:
                block = self._body.fill(loan.view, self._when_idle and self.size > 0)
                if not block:
                    return
                self.size += len(block)
                self.checksum = checksum(block, self.checksum)
                yield block
            finally:
                loan.end()
            if self._when_idle and self._body.paused:
                return


class Body:
    """What one request brings.

    ``length`` is what it announced in bytes, or None; ``received`` what has come so
    far; ``ended`` whether nothing more will come; ``paused`` whether the line was idle
    just now; ``truncated`` whether the end came too early; ``stalled`` whether that
    was for want of a sign of life. ``digests`` are hashes of one's own, by name, that
    are to see the bytes as well.
    """

    def __init__(
        self,
        source: Source,
        expected: Mapping[str, bytes] | None = None,
        digests: Mapping[str, Any] | None = None,
    ) -> None:
        self.length = source.length
        self.received = 0
        self.ended = self.length == 0
        self.paused = False
        self.stalled = False
        self.expected = dict(expected or {})
        self._source = source
        self._digests = {
            name: DIGESTS[name]() for name in self.expected if name in DIGESTS
        }
        self._digests |= digests or {}
        self._checksum = 0
        # Would what came so far be kept, if the process were to end now?
        self._ends_at_stop = self._was_stopped = False
        # Bytes that were looked at and are still to be read.
        self._ahead = memoryview(b"")
        # Told how many bytes have come, after each read; what it raises ends the body.
        self.watch: Callable[[int], None] | None = None
        self._patience = seconds("IDLE_FLUSH")
        self._stall_timeout = seconds("STALL_TIMEOUT")

    @property
    def truncated(self) -> bool:
        if self.length is not None:
            return self.ended and self.received < self.length
        return self.ended and (self._was_stopped or self._is_broken)

    @property
    def _is_broken(self) -> bool:
        return getattr(self._source, "broken", False)

    @property
    def left(self) -> int | None:
        """How many bytes are still announced, or None where that is not known."""
        return None if self.length is None else self.length - self.received

    def skip(self, size: int) -> None:
        """Read and drop bytes that are known already."""
        while size > 0 and not self.ended:
            size -= len(self._block(size))

    def skip_same(self, size: int, known: IO[bytes]) -> int:
        """Read and drop up to so many bytes for as long as they are those of a file.

        Return how many. Where others come, what differs is still to be read. Not for a
        body with digests.
        """
        skipped = 0
        while skipped < size and not self.ended:
            block = bytes(self._block(size - skipped))
            is_same = False
            try:
                is_same = block == known.read(len(block))
            finally:
                if not is_same:
                    self._put_back(block)
            if not is_same:
                break
            skipped += len(block)
        return skipped

    def segment(self, at_most: int) -> Segment:
        """Return the next stretch of at most so many bytes.

        It also ends when the line has been idle for a while, so that what came before
        a long pause can be recorded; and when the process is to end.
        """
        self._ends_at_stop = True
        wake_at_stop(self._source)
        return Segment(self, at_most, when_idle=True)

    def whole(self, at_most: int) -> Segment:
        """Return all of the body as one segment.

        Raise TooLarge where more than ``at_most`` bytes are announced; bytes beyond
        are found by ``check_end``.
        """
        if self.length is not None and self.length > at_most:
            raise errors.TooLarge(max_size=at_most)
        segment = Segment(self, at_most, when_idle=False)
        if not self.received:
            segment.file = getattr(self._source, "file", None)
        return segment

    def check_end(self) -> None:
        """See that the body is over. Raise Truncated, or TooLarge when more comes."""
        self.check_no_more()
        # What some sources tell only at the end, digests among it.
        if conclude := getattr(self._source, "conclude", None):
            self.expected |= conclude()
        if self.truncated:
            raise self.cut()

    def cut(self, **facts: Any) -> errors.Truncated:
        """Return the error that says why a truncated body has ended."""
        kind = errors.Stalled if self.stalled else errors.Truncated
        if self._ends_at_stop and is_stopping():
            kind = errors.ShuttingDown
        return kind(received=self.received, expected=self.length, **facts)

    def check_no_more(self) -> None:
        """Raise TooLarge when more bytes come than were taken."""
        if not self.ended and self._block(1):
            raise errors.TooLarge("The body is longer than it may be.")

    def check_digests(self) -> None:
        """Compare what came with the digests sent with it. Raise ChecksumMismatch."""
        for name, value in self.expected.items():
            if self.digest(name) != value:
                raise errors.ChecksumMismatch(algorithm=name)

    def digest(self, name: str) -> bytes:
        """Return the digest of what has come, where it was asked for at the start."""
        if name == CHECKSUM and name not in self._digests:
            return self._checksum.to_bytes(8, "big")
        return self._digests[name].digest()

    def drain(self, at_most: int, patience: float | None = None) -> None:
        """Read and drop up to so many bytes, for so many seconds in all."""
        self._ends_at_stop = True
        deadline = None if patience is None else time.monotonic() + patience
        self._stall_timeout = min(self._stall_timeout, patience or self._stall_timeout)
        while at_most > 0 and not self.ended:
            # Not a buffer full: a client that dribbles would never let it get there.
            at_most -= self._read(own()[:at_most], may_pause=False)
            if deadline is not None and time.monotonic() > deadline:
                return

    def close(self) -> None:
        self._source.close()

    def room(self, wanted: int) -> Loan:
        """Return room for a block of so many bytes or fewer, to be ended by the caller.

        What has come already is asked for only where it can make a difference.
        """
        count = getattr(self._source, "waiting", None)
        is_small = wanted < 2 * setting("BUFFER_SIZE")
        return Loan(wanted, 0 if count is None or is_small else count())

    def fill(self, view: memoryview, may_pause: bool = False) -> memoryview:
        """Read until the view is full, the body over, or the line idle."""
        filled = 0
        self.paused = False
        while filled < len(view) and not self.ended:
            size = self._read(view[filled:], may_pause or filled > 0)
            if not size:
                break
            filled += size
        return self._count(view[:filled])

    def _block(self, at_most: int) -> memoryview:
        return self.fill(own()[:at_most])

    def _put_back(self, block: bytes) -> None:
        self._ahead = memoryview(block + bytes(self._ahead))
        self.received -= len(block)
        self.ended = self.ended and not self._ahead

    def _read(self, view: memoryview, may_pause: bool) -> int:
        """Read once; 0 at the end, after a stall, or in a pause that is allowed."""
        if self._ahead:
            size = min(len(view), len(self._ahead))
            view[:size], self._ahead = self._ahead[:size], self._ahead[size:]
            self.ended = self._all_there(size)
            return size
        deadline = time.monotonic() + self._stall_timeout
        while True:
            if self._ends_at_stop and is_stopping():
                self.ended = self._was_stopped = True
                return 0
            try:
                size = self._source.readinto(view, self._patience)
            except Idle:
                if may_pause:
                    self.paused = True
                    return 0
                if time.monotonic() < deadline:
                    continue
                size, self.stalled = 0, True
            self.ended = not size or self._all_there(size)
            if getattr(self._source, "stalled", False):
                self.stalled = True
            if self.watch is not None and size:
                self.watch(self.received)
            return size

    def _all_there(self, size: int) -> bool:
        self.received += size
        return self.received == self.length

    def _count(self, block: memoryview) -> memoryview:
        for digest in self._digests.values():
            digest.update(block)
        if CHECKSUM in self.expected:
            self._checksum = checksum(block, self._checksum)
        return block
