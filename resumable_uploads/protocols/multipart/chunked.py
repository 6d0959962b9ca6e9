"""Bodies in ``aws-chunked``: pieces with a head each, maybe signed, and trailers.

Not the transfer encoding, in which the whole may come besides. What is wrong with the
frame is told by ``conclude``; until then nothing of the body counts.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from ... import errors
from ...conf import seconds
from ...sources import Idle, Source

MAX_LINE = 4096
MAX_TRAILERS = 20
READ_SIZE = 64 * 1024
_HEAD = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")


class Signatures(Protocol):
    """The chain of signatures through a body."""

    def is_next(self, given: str, digest: str) -> bool: ...

    def is_trailer(self, given: str, lines: str) -> bool: ...


class BadFrame(errors.Invalid):
    """The pieces do not fit together."""

    message = "The body is not properly aws-chunked."


class BadSignature(errors.PermissionDenied):
    """A piece, or the trailers, were not signed by who has signed the request."""

    message = "A piece of the body is not signed as the request is."


class ChunkedSource:
    """What is in the pieces. ``length`` is the length it was announced to have.

    ``promised`` makes digests of the trailers, and raises for those that were not
    announced; ``has_trailers`` is whether any may come.
    """

    def __init__(
        self,
        source: Source,
        length: int,
        signatures: Signatures | None,
        promised: Callable[[Mapping[str, str]], dict[str, bytes]] | None,
    ) -> None:
        self.length: int | None = length
        self._source = source
        self._signatures = signatures
        self._promised = promised
        # How many of the announced bytes are still to come.
        self._room = length
        self._ahead = bytearray()
        # Bytes that are left of the piece at hand; None between two pieces.
        self._left: int | None = None
        self._digest = hashlib.sha256()
        self._given = ""
        self._is_last = False
        self._error: errors.UploadError | None = None

    def readinto(self, view: memoryview, patience: float) -> int:
        if self._error or self._is_last or not self._room:
            return 0
        try:
            return self._read(view, patience)
        except errors.UploadError as error:
            self._error = error
            return 0

    def conclude(self) -> dict[str, bytes]:
        """See that all ends as it should; return the digests in the trailers.

        Raise Truncated, BadFrame or BadSignature.
        """
        try:
            if not self._error and not self._is_last and self._begin(None):
                raise BadFrame("The body is longer than it was announced.")
        except errors.UploadError as error:
            self._error = error
        if self._error:
            raise self._error
        return self._trailers()

    def close(self) -> None:
        self._source.close()

    def _read(self, view: memoryview, patience: float) -> int:
        if not self._left and not self._begin(patience):
            return 0
        assert self._left is not None
        size = self._fill(view[: min(self._left, self._room)], patience)
        self._room -= size
        if self._signatures:
            self._digest.update(view[:size])
        self._left -= size
        if not self._left:
            self._end()
        return size

    def _fill(self, view: memoryview, patience: float) -> int:
        """Bring bytes of a piece, those that were read ahead first."""
        if not self._ahead:
            size = self._source.readinto(view, patience)
            if not size:
                raise errors.Truncated
            return size
        size = min(len(view), len(self._ahead))
        view[:size] = self._ahead[:size]
        del self._ahead[:size]
        return size

    def _begin(self, patience: float | None) -> bool:
        """Read the head of the next piece; return whether there is one."""
        if self._left == 0:
            self._end_line(patience)
        if self._left:
            return True
        match = _HEAD.fullmatch(self._line(patience))
        if not match or bool(match[2]) != bool(self._signatures):
            raise BadFrame
        self._left = int(match[1], 16)
        self._given = (match[2] or b"").decode()
        self._digest = hashlib.sha256()
        if self._left:
            return True
        self._is_last = True
        self._check_signature()
        return False

    def _end(self) -> None:
        self._check_signature()
        self._left = 0

    def _end_line(self, patience: float | None) -> None:
        if self._line(patience):
            raise BadFrame
        self._left = None

    def _check_signature(self) -> None:
        if self._signatures and not self._signatures.is_next(
            self._given, self._digest.hexdigest()
        ):
            raise BadSignature

    def _trailers(self) -> dict[str, bytes]:
        lines = []
        while line := self._line(None):
            lines.append(line.decode("latin-1"))
            if len(lines) > MAX_TRAILERS:
                raise BadFrame
        pairs = [line.partition(":") for line in lines]
        found = {name.strip().lower(): value.strip() for name, _, value in pairs}
        given = found.pop("x-amz-trailer-signature", None)
        if not self._promised:
            if found or given is not None:
                raise BadFrame("Trailers were not announced.")
            return {}
        if self._signatures:
            signed = "".join(f"{name}:{value}\n" for name, value in found.items())
            if not self._signatures.is_trailer(given or "", signed):
                raise BadSignature
        return self._promised(found)

    def _line(self, patience: float | None) -> bytes:
        """Return what comes before the end of a line. Raise Truncated, BadFrame, Idle.

        Without patience it waits for as long as there is anything to come.
        """
        while (end := self._ahead.find(b"\r\n")) < 0:
            if len(self._ahead) > MAX_LINE:
                raise BadFrame
            self._read_ahead(patience)
        line = bytes(self._ahead[:end])
        del self._ahead[: end + 2]
        return line

    def _read_ahead(self, patience: float | None) -> None:
        buffer = bytearray(READ_SIZE)
        deadline = time.monotonic() + seconds("STALL_TIMEOUT")
        while True:
            try:
                size = self._source.readinto(memoryview(buffer), patience or 1.0)
                break
            except Idle:
                if patience is not None:
                    raise
                if time.monotonic() > deadline:
                    raise errors.Truncated from None
        if not size:
            raise errors.Truncated
        self._ahead += buffer[:size]
