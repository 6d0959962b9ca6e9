"""The body of a multipart form (RFC 7578), part by part, as it comes.

Short parts are read as values. The bytes of a long one go from the source straight to
where they are wanted, and are searched there for the line that ends it.
"""

from __future__ import annotations

import re

from django.utils.http import parse_header_parameters

from .. import errors
from ..sources import Idle, Source

# Bytes that are read at a time where nobody has said what to do with them.
READ_SIZE = 16 * 1024
# Of one part.
MAX_HEADERS = 8 * 1024
# What nearly all parts of all clients begin with, and needs no parsing.
_FIELD = re.compile(rb'\s*form-data; name="([^"\\%]*)"\s*')


class Part:
    """What a part says of itself. ``filename`` is "" for a mere field."""

    def __init__(self, lines: list[bytes]) -> None:
        headers = dict(_named(line) for line in lines if b":" in line)
        self.content_type = _text(headers.get(b"content-type", b"")).strip()
        self.is_encoded = b"content-transfer-encoding" in headers
        disposition = headers.get(b"content-disposition")
        self.is_nameless = disposition is None
        self.name, self.filename = _names(disposition or b"")


def _named(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value


def _names(disposition: bytes) -> tuple[str, str]:
    if plain := _FIELD.fullmatch(disposition):
        return _text(plain[1]), ""
    try:
        _, options = parse_header_parameters(_text(disposition))
    except ValueError:
        raise _malformed() from None
    return options.get("name", ""), options.get("filename", "")


def _text(header: bytes) -> str:
    return header.decode(errors="replace")


class FormParts:
    """A form as a source of the bytes of one part after the other.

    Only what stands between two delimiters (RFC 2046, 5.1.1) belongs to a part. A form
    that ends without its last delimiter was cut, whatever it had announced.
    """

    # Nobody has said how long a part is.
    length = None

    def __init__(self, source: Source, boundary: bytes, patience: float) -> None:
        self._source = source
        self._left = source.length
        # Seconds to wait for what is not the part's own bytes.
        self._patience = patience
        self._delimiter = b"\r\n--" + boundary
        # What was read and not yet given out. A form may begin with its delimiter.
        self._ahead = b"\r\n"
        # How much of that belongs to the part, as far as it was searched.
        self._own = 0
        self._is_at_end = False

    @property
    def broken(self) -> bool:
        """Has the end of the part not been seen?"""
        return not self._is_at_end

    def next(self) -> Part | None:
        """Go on to the next part, once this one was read; None: that was the last.

        Raise Truncated where the form was cut, Invalid where it is none.
        """
        while len(self._ahead) < 2:
            self._ahead += self._more()
        if self._ahead.startswith(b"--"):
            return None
        return Part(self._header_lines())

    def value(self, at_most: int) -> bytes:
        """Return the whole part, or more than so many bytes of it. Raise as next."""
        value = b""
        while len(value) <= at_most and (more := self._take()):
            value += more
        return value

    def skip(self) -> None:
        """Read the rest of the part, and drop it. Raise as next."""
        while self._take():
            pass

    def end(self, at_most: int) -> None:
        """Read what follows the last part. Raise Truncated where that is cut.

        Raise Invalid where it is more than so many bytes.
        """
        while more := self._waited_for():
            at_most -= len(more)
            if at_most < 0:
                raise _malformed()
        if self._is_cut:
            raise errors.Truncated("The form ended too early.")

    def readinto(self, view: memoryview, patience: float) -> int:
        """Fill the front of a view with bytes of the part.

        Return 0 after its end, and where the form ends in it: see ``broken``. Raise
        Idle where nothing has come for so many seconds.
        """
        while not (self._own or self._is_at_end):
            if len(view) > len(self._delimiter):
                return self._receive(view, patience)
            if not (more := self._read(READ_SIZE, patience)):
                return 0
            self._search(self._ahead + more)
        size = min(len(view), self._own)
        view[:size] = self._ahead[:size]
        self._ahead, self._own = self._ahead[size:], self._own - size
        return size

    def close(self) -> None:
        self._source.close()

    def _receive(self, view: memoryview, patience: float) -> int:
        """Have the source fill a view, behind what may be the front of a delimiter."""
        while not (self._own or self._is_at_end):
            held = len(self._ahead)
            size = self._counted(self._source.readinto(view[held:], patience))
            if not size:
                return 0
            view[:held] = self._ahead
            self._search(bytes(view[: held + size]))
        size, self._own = self._own, 0
        self._ahead = self._ahead[size:]
        return size

    def _take(self) -> bytes:
        """Return some bytes of the part, as many as are there; b"" after its end."""
        while not (self._own or self._is_at_end):
            self._search(self._ahead + self._more())
        taken = self._ahead[: self._own]
        self._ahead, self._own = self._ahead[self._own :], 0
        return taken

    def _search(self, data: bytes) -> None:
        """Find out how many of the bytes at hand are the part's, and hold them all."""
        end = data.find(self._delimiter)
        if end < 0:
            self._ahead, self._own = data, len(data) - self._begun(data)
            return
        self._ahead = data[:end] + data[end + len(self._delimiter) :]
        self._own, self._is_at_end = end, True

    def _begun(self, data: bytes) -> int:
        """Return how many of the last bytes may be the front of a delimiter."""
        at = data.find(b"\r", max(0, len(data) - len(self._delimiter) + 1))
        while at >= 0 and not self._delimiter.startswith(data[at:]):
            at = data.find(b"\r", at + 1)
        return 0 if at < 0 else len(data) - at

    def _header_lines(self) -> list[bytes]:
        """Return the headers of a part, and hold what has come of its bytes."""
        while (end := self._ahead.find(b"\r\n\r\n")) < 0:
            if len(self._ahead) > MAX_HEADERS:
                raise _malformed()
            self._ahead += self._more()
        rest, *lines = self._ahead[:end].split(b"\r\n")
        if rest.strip(b" \t") or end > MAX_HEADERS:
            # A longer line than a delimiter is none, and must not be in a form.
            raise _malformed()
        self._is_at_end = False
        self._search(self._ahead[end + 4 :])
        return lines

    def _more(self) -> bytes:
        """Return what comes next. Raise Truncated or Invalid where nothing does."""
        if more := self._waited_for():
            return more
        if self._is_cut:
            raise errors.Truncated("The form ended too early.")
        raise _malformed()

    def _waited_for(self) -> bytes:
        try:
            return self._read(READ_SIZE, self._patience)
        except Idle:
            return b""

    @property
    def _is_cut(self) -> bool:
        return bool(self._left) or getattr(self._source, "broken", False)

    def _read(self, size: int, patience: float) -> bytes:
        """Return what has arrived, at most so many bytes; b"" at the end."""
        view = memoryview(bytearray(size))
        return bytes(view[: self._counted(self._source.readinto(view, patience))])

    def _counted(self, size: int) -> int:
        if self._left is not None:
            self._left -= size
        return size


def _malformed() -> errors.UploadError:
    return errors.Invalid("The form is malformed.")
