"""Where the bytes of a request come from: a socket, a stream or decoded pieces.

A source fills a buffer with what has arrived. It does not count, judge or store: that
is the body's work. It knows WSGI servers, and no framework.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import ssl
import struct
import termios
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from . import errors
from .turns import turns

_INT = struct.Struct("@i")


class Idle(Exception):
    """No byte has arrived for a while; more may come."""


_stopping = threading.Event()
# What waits for a socket without looking up in between, and may be woken.
_waiting: weakref.WeakSet[Any] = weakref.WeakSet()


def stop_reading() -> None:
    """Have appends to uploads end where they are, since this process is to end.

    What has come is recorded, and clients are told to go on later. Chunks, of which
    nothing would be kept, may still come to their end. It may be called from the
    handler of a signal.
    """
    _stopping.set()
    # Not here: the thread that was interrupted by the signal may hold a lock.
    threading.Thread(target=_wake_all, daemon=True).start()


def is_stopping() -> bool:
    return _stopping.is_set()


def wake_at_stop(source: Source) -> None:
    """Let a source be woken that could not look up by itself."""
    if hasattr(source, "wake"):
        _waiting.add(source)


def _wake_all() -> None:
    for source in list(_waiting):
        source.wake()


class Source(Protocol):
    """What a body reads from."""

    # How many bytes were announced, or None where the end tells.
    length: int | None

    def readinto(self, view: memoryview, patience: float) -> int:
        """Fill the front of a view and return how many bytes that were.

        Return 0 at the end, whether it came in time or too early. Raise Idle when
        nothing has come for ``patience`` seconds, if the source can tell.
        """

    def close(self) -> None:
        """Leave the connection as the server expects it."""


class StreamSource:
    """Any object with ``read``, such as the ``wsgi.input`` of an unknown server."""

    def __init__(self, read: Callable[[int], bytes], length: int | None) -> None:
        self.length = length
        self._read = read
        self._left = length

    def readinto(self, view: memoryview, patience: float) -> int:
        size = len(view) if self._left is None else min(len(view), self._left)
        try:
            data = self._read(size) if size else b""
        except Exception:
            # Whatever the server raises for a broken connection: the body has ended.
            return 0
        view[: len(data)] = data
        if self._left is not None:
            self._left -= len(data)
        return len(data)

    def close(self) -> None:
        pass


class FileSource:
    """A body that lies in a file, all of it. ``file`` is open for reading."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.length: int | None = os.fstat(file).st_size
        self._position = 0

    def readinto(self, view: memoryview, patience: float) -> int:
        size = os.preadv(self.file, [view], self._position)
        self._position += size
        return size

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


class PiecesSource:
    """Pieces as a server decodes them from a chunked transfer encoding."""

    length: int | None = None

    def __init__(self, pieces: Iterator[bytes], sock: Any, timeout: float) -> None:
        self._pieces = pieces
        self._sock = sock
        self._rest = memoryview(b"")
        # A generator cannot go on after an exception, so there is no Idle here.
        self._timeout_before = sock.gettimeout()
        sock.settimeout(timeout)
        self.broken = False
        self.stalled = False
        self._is_closed = False

    def readinto(self, view: memoryview, patience: float) -> int:
        while not self._rest:
            try:
                self._rest = memoryview(next(self._pieces))
            except StopIteration:
                return 0
            except Exception as error:
                # A cut, a stall or nonsense between the pieces. Unlike with the end
                # of a counted body, nobody else would notice.
                self.broken = True
                self.stalled = isinstance(error, TimeoutError)
                return 0
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def wake(self) -> None:
        """End a read that waits for what may not come, as if the client had gone."""
        if not self._is_closed:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self._is_closed = True
        _restore_timeout(self._sock, self._timeout_before)


class Capped:
    """The front of a source of unknown length: at most so many bytes of it.

    ``goes_on`` tells afterwards whether there was more.
    """

    length: int | None = None

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._left = limit

    @property
    def broken(self) -> bool:
        return getattr(self._source, "broken", False)

    @property
    def stalled(self) -> bool:
        return getattr(self._source, "stalled", False)

    def readinto(self, view: memoryview, patience: float) -> int:
        if not self._left:
            return 0
        size = self._source.readinto(view[: self._left], patience)
        self._left -= size
        return size

    def wake(self) -> None:
        if hasattr(self._source, "wake"):
            self._source.wake()

    def goes_on(self, patience: float) -> bool:
        """Wait for the end, or for the first byte too many."""
        if self._left:
            return False
        try:
            return bool(self._source.readinto(memoryview(bytearray(1)), patience))
        except Idle:
            return False

    def close(self) -> None:
        self._source.close()


class GunicornSource:
    """gunicorn's socket itself, after what its parser has read ahead.

    ``wsgi.input`` copies every byte several times and drops the bytes of an unfinished
    read when the connection breaks. ``recv_into`` does neither.
    """

    def __init__(self, body: Any, sock: Any) -> None:
        self.length: int | None = body.reader.length
        self._body = body
        self._sock = sock
        unreader = body.reader.unreader
        ahead = unreader.take_buffered()
        self._ahead = memoryview(ahead)[: self.length]
        if len(ahead) > len(self._ahead):
            unreader.unread(ahead[len(self._ahead) :])
        self._timeout_before = sock.gettimeout()
        self._patience: float | None = None
        # What has come over TLS is not yet what has been sent.
        self._is_plain = not isinstance(sock, ssl.SSLSocket)

    def readinto(self, view: memoryview, patience: float) -> int:
        reader = self._body.reader
        view = view[: reader.length]
        if not view:
            return 0
        size = self._take_ahead(view) or self._receive(view, patience)
        # gunicorn looks here for where the next request on the connection begins.
        reader.length -= size
        self._body.failed = not size
        return size

    def _take_ahead(self, view: memoryview) -> int:
        size = min(len(view), len(self._ahead))
        view[:size] = self._ahead[:size]
        self._ahead = self._ahead[size:]
        return size

    def _receive(self, view: memoryview, patience: float) -> int:
        if patience != self._patience:
            self._sock.settimeout(patience)
            self._patience = patience
        if self._is_plain and not _received(self._sock):
            turns.leave()
        try:
            size = self._sock.recv_into(view)
        except TimeoutError:
            raise Idle from None
        except OSError:
            return 0
        turns.take()
        return size

    def waiting(self) -> int:
        """Return how many bytes have come already, as far as can be told at once."""
        if self._is_plain:
            return len(self._ahead) + _received(self._sock)
        return len(self._ahead)

    def close(self) -> None:
        """Give back what was not read, and the timeout."""
        if self._ahead:
            self._body.reader.unreader.unread(bytes(self._ahead))
            self._ahead = memoryview(b"")
        _restore_timeout(self._sock, self._timeout_before)


def _received(sock: Any) -> int:
    """Return how many bytes the kernel holds for a socket."""
    answer = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(_INT.size))
    return _INT.unpack(answer)[0]


def _restore_timeout(sock: Any, timeout: float | None) -> None:
    if sock.fileno() != -1:
        sock.settimeout(timeout)


def from_environ(environ: Mapping[str, Any], stall_timeout: float) -> Source:
    """Return the best source for a WSGI request whose body nobody has touched.

    Raise LengthRequired where a chunked body could not be told from a cut one.
    """
    stream = environ["wsgi.input"]
    length = declared_length(environ)
    if length is not None:
        if _is_gunicorn(environ, "LengthReader"):
            return GunicornSource(stream, environ["gunicorn.socket"])
        return StreamSource(stream.read, length)
    if not environ.get("wsgi.input_terminated") or _hides_cuts(stream):
        raise errors.LengthRequired
    if _is_gunicorn(environ, "ChunkedReader"):
        sock = environ["gunicorn.socket"]
        return PiecesSource(_pieces(stream.reader), sock, stall_timeout)
    return StreamSource(stream.read, None)


def declared_length(environ: Mapping[str, Any]) -> int | None:
    """Return how many bytes a request announces; None for a chunked body."""
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        return None
    value = environ.get("CONTENT_LENGTH") or "0"
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise errors.Invalid("Content-Length is not a possible number.")
    return int(value)


# The classes of gunicorn's inside that are read around, and what of them is used.
_GUNICORN_READERS = {"LengthReader": "unreader", "ChunkedReader": "parser"}


def _is_gunicorn(environ: Mapping[str, Any], reader_class: str) -> bool:
    """Tell whether a body is read by this class of gunicorn's, and still untouched."""
    stream = environ["wsgi.input"]
    reader = getattr(stream, "reader", None)
    return (
        isinstance(environ.get("gunicorn.socket"), socket.socket)
        and type(stream).__module__ == "gunicorn.http.body"
        and type(reader).__name__ == reader_class
        and hasattr(reader, _GUNICORN_READERS[reader_class])
        and not stream.buf.tell()
    )


def _pieces(reader: Any) -> Iterator[bytes]:
    """Yield what a gunicorn ChunkedReader decodes, as it comes."""
    yield from reader.parser
    reader.parser = None


def _hides_cuts(stream: Any) -> bool:
    # granian ends a chunked body that was cut off as if it were whole.
    return "granian" in type(stream).__module__
