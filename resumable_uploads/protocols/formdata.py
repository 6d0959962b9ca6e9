"""The body of a multipart form (RFC 7578), part by part, as it comes.

Short parts are read as values. The bytes of a long one go from the source straight to
where they are wanted, and are searched there for the line that ends it.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from typing import NamedTuple

from django.utils.http import parse_header_parameters

from .. import errors
from ..sources import Idle, Source

# Bytes that are read at a time where nobody has said what to do with them.
READ_SIZE = 16 * 1024
# Of one part.
MAX_HEADERS = 8 * 1024
# What nearly all parts of all clients begin with, and needs no parsing.
_PLAIN = re.compile(
    rb'[ \t]*\r\nContent-Disposition: form-data; name="([^"\\%\r\n]{0,1000})"'
    rb'(?:; filename="([^"\\%\r\n]{0,1000})")?'
    rb"(?:\r\nContent-Type: ([!-~]{0,200}))?\r\n\r\n",
    re.IGNORECASE,
)
# A field, and what nearly all values are like.
_FIELD = re.compile(
    rb'\r\nContent-Disposition: form-data; name="([^"\\%\r\n]{0,1000})"'
    rb"\r\n\r\n([^\r]{0,1000})",
    re.IGNORECASE,
)


class Part(NamedTuple):
    """What a part says of itself. ``filename`` is "" for a mere field."""

    name: str
    filename: str = ""
    content_type: str = ""
    is_nameless: bool = False
    # Is it in base64, say?
    is_encoded: bool = False


def _plain(found: re.Match[bytes]) -> Part:
    name, filename, content_type = found.groups(b"")
    return Part(_text(name), _text(filename), _text(content_type))


def _parsed(lines: list[bytes]) -> Part:
    headers = dict(_named(line) for line in lines if b":" in line)
    disposition = headers.get(b"content-disposition")
    return Part(
        *_names(disposition or b""),
        _text(headers.get(b"content-type", b"")).strip(),
        is_nameless=disposition is None,
        is_encoded=b"content-transfer-encoding" in headers,
    )


def _named(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value


def _names(disposition: bytes) -> tuple[str, str]:
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
        # What was read. A form may begin with its delimiter.
        self._ahead = b"\r\n"
        # Where in that begins what was not given out yet, and where ends what is known
        # to be the part's.
        self._at = self._end = 0
        self._is_at_end = False

    @property
    def broken(self) -> bool:
        """Has the end of the part not been seen?"""
        return not self._is_at_end

    def next(self) -> Part | None:
        """Go on to the next part, once this one was read; None: that was the last.

        Raise Truncated where the form was cut, Invalid where it is none.
        """
        self._end += len(self._delimiter)
        self._at = self._end
        while len(self._ahead) < self._at + 2:
            self._read_on()
        if self._ahead.startswith(b"--", self._at):
            return None
        if plain := _PLAIN.match(self._ahead, self._at):
            self._begin(plain.end())
            return _plain(plain)
        return _parsed(self._header_lines())

    def at_hand(self) -> Iterator[tuple[str, bytes]]:
        """Go past mere fields that have come as a whole, and yield names and values.

        As far as nothing about them needs a second look; ``next`` goes on from there.
        """
        while field := _FIELD.match(self._ahead, self._end + len(self._delimiter)):
            if not self._ahead.startswith(self._delimiter, field.end()):
                return
            self._at = self._end = field.end()
            name, value = field.groups()
            yield name.decode(errors="replace"), value

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
        while self._at == self._end and not self._is_at_end:
            if len(view) > len(self._delimiter):
                return self._receive(view, patience)
            if not (more := self._read(READ_SIZE, patience)):
                return 0
            self._search_with(more)
        start = self._at
        size = min(len(view), self._end - start)
        view[:size] = memoryview(self._ahead)[start : start + size]
        self._at += size
        return size

    def waiting(self) -> int:
        """Return how many bytes of the part, or behind it, need not be waited for.

        Fewer than have come: the last ones may be the front of a delimiter.
        """
        count = getattr(self._source, "waiting", None)
        there = len(self._ahead) - self._at + (count() if count else 0)
        return max(there - len(self._delimiter), 0)

    def close(self) -> None:
        self._source.close()

    def _receive(self, view: memoryview, patience: float) -> int:
        """Have the source fill a view, behind what may be the front of a delimiter."""
        while self._at == self._end and not self._is_at_end:
            held = self._ahead[self._at :]
            rest = view[len(held) :]
            size = self._counted(self._source.readinto(rest, patience))
            if not size:
                return 0
            view[: len(held)] = held
            filled = view[: len(held) + size]
            end, self._is_at_end = self._end_in(*_place(filled))
            self._ahead, self._at, self._end = bytes(filled[end:]), 0, 0
            if end:
                return end
        return 0

    def _take(self) -> bytes:
        """Return some bytes of the part, as many as are there; b"" after its end."""
        while self._at == self._end and not self._is_at_end:
            self._search_with(self._more())
        taken = self._ahead[self._at : self._end]
        self._at = self._end
        return taken

    def _begin(self, start: int) -> None:
        """Take what is at hand from there on for the bytes of a part."""
        self._at, self._is_at_end = start, False
        self._search()

    def _hold(self, data: bytes) -> None:
        self._ahead, self._at = data, 0
        self._search()

    def _search_with(self, more: bytes) -> None:
        self._hold(self._ahead[self._at :] + more)

    def _search(self) -> None:
        """Find out how many of the bytes at hand are the part's."""
        data, start = self._ahead, self._at
        size, self._is_at_end = self._end_in(data, start, len(data))
        self._end = start + size

    def _end_in(
        self, data: bytes | bytearray, start: int, stop: int
    ) -> tuple[int, bool]:
        """Return how many bytes are the part's, and whether it ends behind them."""
        end = _first(data, self._delimiter, start, stop)
        if end >= 0:
            return end - start, True
        return self._before_a_front(data, start, stop) - start, False

    def _before_a_front(self, data: bytes | bytearray, start: int, stop: int) -> int:
        """Return where the last bytes begin that may be the front of a delimiter."""
        at = data.find(b"\r", max(start, stop - len(self._delimiter) + 1), stop)
        while at >= 0 and not self._delimiter.startswith(data[at:stop]):
            at = data.find(b"\r", at + 1, stop)
        return stop if at < 0 else at

    def _header_lines(self) -> list[bytes]:
        """Return the headers of a part, and go to its bytes."""
        while (end := self._ahead.find(b"\r\n\r\n", self._at)) < 0:
            if len(self._ahead) - self._at > MAX_HEADERS:
                raise _malformed()
            self._read_on()
        rest, *lines = self._ahead[self._at : end].split(b"\r\n")
        if rest.strip(b" \t") or end - self._at > MAX_HEADERS:
            # A longer line than a delimiter is none, and must not be in a form.
            raise _malformed()
        self._begin(end + 4)
        return lines

    def _read_on(self) -> None:
        """Have more at hand, of which nothing is known. Raise Truncated or Invalid."""
        self._ahead = self._ahead[self._at :] + self._more()
        self._at = self._end = 0

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


def _first(data: bytes | bytearray, sought: bytes, start: int, stop: int) -> int:
    """Return where something is found first, or -1.

    From behind, where a chunk has it: Python does that in half the time.
    """
    found = data.rfind(sought, start, stop)
    if found < 0 or data.rfind(sought, start, found) < 0:
        return found
    return data.find(sought, start, stop)


def _place(view: memoryview) -> tuple[bytes | bytearray, int, int]:
    """Return what can be searched, and from where to where in it a view goes.

    A view itself cannot, nor tell where it begins; a copy would take as long as the
    search.
    """
    whole = view.obj
    if type(whole) is not bytearray or not view:
        return bytes(view), 0, len(view)
    start = _address(view) - _address(whole)
    return whole, start, start + len(view)


def _address(buffer: bytearray | memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
