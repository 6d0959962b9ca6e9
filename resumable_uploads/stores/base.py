"""Where the bytes of chunks lie, and how they become a file: on any Django storage.

Stores know bytes and keys, never a model, a header or a word of HTTP. The base class
is correct on every storage; subclasses are only quicker.
"""

from __future__ import annotations

import errno
import io
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, storages

from .. import errors
from ..conf import setting

log = logging.getLogger(__name__)

BLOCK = 1024 * 1024
# In an upload's folder: says which finished file is to go with it.
DOOMED = "doomed"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Place:
    """Where bytes lie: an object of the store, and how many bytes into it."""

    key: str
    start: int = 0


@dataclass(frozen=True)
class Piece:
    """A stretch of the file to be: ``size`` bytes at a place."""

    place: Place
    size: int


class Writer:
    """Where the chunks of one request go, each into an object of its own."""

    # Whether the bytes go straight to where the finished file has them.
    in_place = False
    # The key of the object that chunks written in place share.
    shared_key = ""

    def __init__(self, store: Store, upload_id: uuid.UUID) -> None:
        self.store = store
        self.upload_id = upload_id

    def write(self, blocks: Iterable[memoryview]) -> Place:
        """Store the blocks and return where. Nobody else is writing there."""
        key = f"{self.store.folder(self.upload_id)}/{uuid.uuid4().hex}"
        try:
            return Place(self.store.staging.save(key, BlockFile(blocks, key)))
        except BaseException:
            with suppress(Exception):
                self.store.staging.delete(key)
            raise

    def discard(self, place: Place) -> None:
        """Drop what ``write`` stored and nobody wants."""
        self.store.delete(place)

    def close(self) -> None:
        """End the request."""


class Whole:
    """All pieces of an upload, readable as one file and ready to be published."""

    def __init__(self, store: Store, upload_id: uuid.UUID, pieces: Sequence[Piece]):
        self.store = store
        self.upload_id = upload_id
        self.pieces = pieces

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    def has_gaps(self) -> bool:
        """Tell whether stretches of it may never have been written."""
        return False

    def open(self) -> File:
        """Open the whole for reading, as a Django file."""
        return JoinedFile(self.store, self.pieces)

    def publish(self, name: str) -> str:
        """Make the whole a file of the final storage; return the name it got."""
        with self.open() as file:
            return self.store.final.save(name, file)

    def close(self) -> None:
        """Let go of what was opened."""


class Store:
    """Chunks on any Django storage; the whole is made in one streaming pass.

    ``final`` is the storage of finished files, ``staging`` that of chunks.
    """

    # Does finishing take the same time whatever the size of the file?
    finishes_at_once = False
    # Does it have to be told the keys of an upload's chunks to find them?
    needs_keys = True
    # Can an upload be made of the chunks of others?
    joins_others = True

    def __init__(self, alias: str) -> None:
        self.final: Storage = storages[alias]
        self.staging: Storage = self.make_staging()

    # What subclasses may do quicker:

    def make_staging(self) -> Storage:
        alias = setting("STAGING_STORAGE")
        return storages[alias] if alias else self.final

    def writer(
        self, upload_id: uuid.UUID, offset: int | None, size: int | None
    ) -> Writer:
        """Return where to write the bytes at an offset, ``size`` of them or to the end.

        Never waits. ``offset`` is None where the bytes must not go in place.
        """
        return Writer(self, upload_id)

    def join(self, upload_id: uuid.UUID, pieces: Sequence[Piece]) -> Whole:
        """Make the pieces one whole, not yet published."""
        return Whole(self, upload_id, pieces)

    def is_being_written(self, upload_id: uuid.UUID) -> bool:
        """Tell whether a request is writing at this moment, if the store can tell."""
        return False

    def is_published(self, upload_id: uuid.UUID, name: str, size: int) -> bool:
        """Tell whether an assembly that died has left this upload's file at a name."""
        return False

    def release(self, upload_id: uuid.UUID, keys: Iterable[str] = ()) -> None:
        """Drop all bytes of an upload, those under ``keys`` and those in its folder."""
        folder = self.folder(upload_id)
        keys = {key for key in keys if key.startswith(f"{folder}/")}
        for key in keys | {f"{folder}/{name}" for name in self._listed(folder)[1]}:
            self.staging.delete(key)
        # Where folders are real; elsewhere there is nothing to be deleted.
        with suppress(Exception):
            self.staging.delete(folder)

    def delete_file(self, upload_id: uuid.UUID, name: str) -> None:
        """Delete the finished file of an upload."""
        self.final.delete(name)

    def doom(self, upload_id: uuid.UUID, name: str) -> str:
        """Note that a finished file goes when its upload's row has gone.

        Who sweeps finds it, should the process that deletes the row die before it has
        deleted the file. Return the key of the note.
        """
        key = f"{self.folder(upload_id)}/{DOOMED}"
        self.staging.delete(key)
        return self.staging.save(key, ContentFile(name.encode()))

    def doomed(self, upload_id: uuid.UUID) -> str:
        """Return the name of the finished file that is to go, or ""."""
        key = f"{self.folder(upload_id)}/{DOOMED}"
        if not self.staging.exists(key):
            return ""
        with self.staging.open(key) as note:
            return note.read().decode()

    def uploads(self) -> Iterator[uuid.UUID]:
        """Yield the ids of all uploads that have a folder here."""
        for name in self._listed(setting("STAGING_PREFIX"))[0]:
            if upload_id := as_uuid(name):
                yield upload_id

    def touched_at(self, upload_id: uuid.UUID) -> float:
        """Return when something was last put into an upload's folder (Unix time)."""
        folder = self.folder(upload_id)
        times = [
            self.staging.get_modified_time(f"{folder}/{name}").timestamp()
            for name in self._listed(folder)[1]
        ]
        return max(times, default=time.time())

    # The machinery:

    def folder(self, upload_id: uuid.UUID) -> str:
        return f"{setting('STAGING_PREFIX')}/{upload_id}"

    def open(self, place: Place) -> IO[bytes]:
        """Open the object of a place for reading, at its start."""
        stream = self.staging.open(place.key)
        skip(stream, place.start)
        return stream

    def delete(self, place: Place) -> None:
        self.staging.delete(place.key)

    def _listed(self, folder: str) -> tuple[list[str], list[str]]:
        try:
            return self.staging.listdir(folder)
        except (FileNotFoundError, NotImplementedError):
            return [], []


class BlockFile(File):
    """Blocks of bytes in motion, as the file that ``Storage.save`` takes."""

    def __init__(self, blocks: Iterable[memoryview], name: str) -> None:
        super().__init__(None, name)
        self._blocks = self._begin(blocks)
        self._has_begun = False
        self._rest = b""

    def __bool__(self) -> bool:
        return True

    def _begin(self, blocks: Iterable[memoryview]) -> Iterator[memoryview]:
        self._has_begun = True
        yield from blocks

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        for block in self._blocks:
            yield bytes(block)

    def read(self, size: int = -1) -> bytes:
        data = bytearray(self._rest)
        while size < 0 or len(data) < size:
            block = next(self._blocks, None)
            if block is None:
                break
            data += block
        end = len(data) if size < 0 else size
        self._rest = bytes(data[end:])
        return bytes(data[:end])

    def seekable(self) -> bool:
        return False

    def seek(self, position: int, whence: int = 0) -> int:
        """Stay at the start, which some storages ask for before they begin."""
        if position or whence or self._has_begun:
            raise io.UnsupportedOperation("The bytes come only once.")
        return 0

    def close(self) -> None:
        """Nothing is open."""


class JoinedFile(File):
    """Pieces read one after another, without making the whole first."""

    def __init__(self, store: Store, pieces: Sequence[Piece]) -> None:
        super().__init__(None, None)
        self._store = store
        self._pieces = [piece for piece in pieces if piece.size]
        self.size = sum(piece.size for piece in pieces)
        self._position = 0
        self._stream: IO[bytes] | None = None

    def __bool__(self) -> bool:
        return True

    def seek(self, position: int, whence: int = 0) -> int:
        position += {0: 0, 1: self._position, 2: self.size}[whence]
        if position < 0:
            raise ValueError("There is nothing before the start.")
        self._close_stream()
        self._position = position
        return position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return False

    def tell(self) -> int:
        return self._position

    def open(self, mode: str | None = None, *args: Any, **kwargs: Any) -> JoinedFile:
        self.seek(0)
        return self

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        self.seek(0)
        while data := self.read(chunk_size or BLOCK):
            yield data

    def read(self, size: int | None = -1) -> bytes:
        wanted = self.size - self._position
        wanted = wanted if size is None or size < 0 else min(size, wanted)
        parts = []
        while wanted > 0:
            parts.append(self._read_some(wanted))
            wanted -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        self._close_stream()

    def _read_some(self, wanted: int) -> bytes:
        if self._stream is None:
            self._open_at_position()
        assert self._stream is not None
        data = self._stream.read(min(wanted, self._left))
        if not data:
            raise errors.StorageUnavailable("Recorded bytes are missing in the store.")
        self._position += len(data)
        self._left -= len(data)
        if not self._left:
            self._close_stream()
        return data

    def _open_at_position(self) -> None:
        start = 0
        for piece in self._pieces:
            if self._position < start + piece.size:
                inside = self._position - start
                place = Place(piece.place.key, piece.place.start + inside)
                self._stream = self._store.open(place)
                self._left = piece.size - inside
                return
            start += piece.size

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def skip(stream: IO[bytes], size: int) -> None:
    """Go forward in a stream, by reading where it cannot seek."""
    if not size:
        return
    if getattr(stream, "seekable", lambda: False)():
        stream.seek(size)
        return
    while size > 0 and (data := stream.read(min(size, BLOCK))):
        size -= len(data)


def as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


class translated_errors:
    """Raise what a storage raises as StorageFull or StorageUnavailable."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, errors.UploadError):
            raise _translated(error) from error


def _translated(error: Exception) -> errors.UploadError:
    # Storages have errors of their own kinds as well; the client hears of none.
    log.error("A storage failed", exc_info=error)
    is_full = isinstance(error, OSError) and error.errno in _FULL
    return errors.StorageFull() if is_full else errors.StorageUnavailable()
