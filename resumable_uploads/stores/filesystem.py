"""Chunks and finished files on local disk: written once, in place, finished by a link.

Each upload has a folder with one sparse file, ``data``. A chunk whose offset is known
goes straight to its place there, under the kernel's lock on just that range of bytes,
which dies with its process. Where the lock is not to be had, the chunk goes to a file
of its own ("spilled"). See docs/architecture.md, "Finish in constant time".
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import struct
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, Storage

from .. import errors
from ..conf import setting
from .base import BLOCK, DOOMED, Piece, Place, Store, Whole, Writer, as_uuid

# Files up to this size (bytes) may have gaps that are no blocks of their own.
SMALL = 64 * 1024
DATA = "data"
# A copy of all of it, made for the finish.
WHOLE = ".whole"
# Where there are no hard links: says to which path the file has been moved.
MOVED = "moved"
# Bytes after which what has come is sent on its way to disk.
WRITE_OUT = 2 * 1024 * 1024
# Seconds between attempts to lock a file that is to be finished.
LOCK_WAITS = (0.005, 0.02, 0.05, 0.1)
OPEN_TRIES = 10
COPY_STEP = 64 * 1024 * 1024
# How often a name may be taken by somebody else just before it is used.
NAME_TRIES = 20

# struct flock of 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("@hhqqi4x")
_SET_LOCK = getattr(fcntl, "F_OFD_SETLK", None)
_GET_LOCK = getattr(fcntl, "F_OFD_GETLK", None)
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
try:
    _FALLOCATE: Any = ctypes.CDLL(None).fallocate
    _FALLOCATE.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
except (OSError, AttributeError):
    _FALLOCATE = None
# Hard links are refused by some file systems, and between two of them.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def lock_range(fd: int, start: int, size: int | None) -> bool:
    """Lock a range of an open file, or all from ``start``. Never waits.

    The lock belongs to the open file: other threads that open it anew are kept out as
    well, and closing it or dying lets go. False: it is taken, or there is no such lock.
    """
    if _SET_LOCK is None:
        return False
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, size or 0, 0)
    try:
        fcntl.fcntl(fd, _SET_LOCK, wanted)
    except OSError:
        return False
    return True


def is_locked(fd: int) -> bool:
    """Tell whether somebody else holds a lock on any range of an open file."""
    if _GET_LOCK is None:
        return False
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        found = fcntl.fcntl(fd, _GET_LOCK, asked)
    except OSError:
        return False
    return _FLOCK.unpack(found)[0] != fcntl.F_UNLCK


def lock_soon(fd: int) -> bool:
    """Lock a whole file, waiting a moment for requests that are just ending.

    Not to get the lock costs a copy of the file, so the moment is well spent.
    """
    for wait in LOCK_WAITS:
        if lock_range(fd, 0, None):
            return True
        time.sleep(wait)
    return lock_range(fd, 0, None)


class FilesystemWriter(Writer):
    """Writes into the data file where it could lock the range, else beside it."""

    def __init__(
        self,
        store: FilesystemStore,
        upload_id: uuid.UUID,
        offset: int | None,
        size: int | None,
    ) -> None:
        super().__init__(store, upload_id)
        self.store: FilesystemStore = store
        self._folder = store.folder(upload_id)
        self._data = self._key(DATA)
        self.position = offset or 0
        # Where the bytes begin that were written in place last.
        self._began = -1
        self._fd = -1
        if offset is not None:
            self.shared_key = self._data
            path = store.full_path(self._data)
            self._fd = open_file(path, os.O_RDWR | os.O_CREAT)
            self.in_place = lock_range(self._fd, offset, size)

    @property
    def path(self) -> Path:
        return self.store.path(self._folder)

    def write(self, blocks: Iterable[memoryview]) -> Place:
        if getattr(blocks, "is_all", False) and (place := self._adopt(blocks)):
            return place
        if not self.in_place:
            return self._spill(blocks)
        start = self._began = self.position
        try:
            self._write_in_place(blocks)
            self._keep(self._fd, start, self.position - start)
        except BaseException:
            self._give_back(start)
            raise
        return Place(self._data, start)

    def discard(self, place: Place) -> None:
        if place.key != self._data:
            super().discard(place)
        elif place.start == self._began:
            # Bytes of others stay: what lies there by now may count again.
            self._give_back(place.start)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _key(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _write_in_place(self, blocks: Iterable[memoryview]) -> None:
        """Write at the position, which is then where the bytes end that were tried."""
        start = self.position
        file = getattr(blocks, "file", None)
        if file is None:
            write_blocks(
                self._fd, going_out(self._fd, self._noted(blocks), start), start
            )
            return
        size = sum(len(block) for block in blocks)
        self.position += size
        copy_file(file, self._fd, size, start)

    def _noted(self, blocks: Iterable[memoryview]) -> Iterator[memoryview]:
        for block in blocks:
            self.position += len(block)
            yield block

    def _give_back(self, start: int) -> None:
        """Have bytes that nobody counts take no space, least of all on a full disk."""
        punch_hole(self._fd, start, self.position - start)
        self.position = start

    def _adopt(self, blocks: Any) -> Place | None:
        """Take the file that the bytes lie in for one's own, by a second name.

        Nobody may write to it any more, and nobody else have taken it. They are read
        once, for their checksum. None where it cannot be had.
        """
        if blocks.file is None or not _is_ones_own(blocks.file):
            return None
        name = f"{uuid.uuid4().hex}.chunk"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            link_open(blocks.file, self.path / name)
        except OSError:
            # Another file system, another owner, or no such links here.
            return None
        try:
            size = sum(len(block) for block in blocks)
            self._keep(blocks.file, 0, size)
        except BaseException:
            (self.path / name).unlink(missing_ok=True)
            raise
        return Place(self._key(name))

    def _spill(self, blocks: Iterable[memoryview]) -> Place:
        name = f"{uuid.uuid4().hex}.chunk"
        fd = open_file(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            self._keep(fd, 0, write_blocks(fd, going_out(fd, blocks, 0), 0))
        except BaseException:
            (self.path / name).unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        return Place(self._key(name))

    def _keep(self, fd: int, start: int, size: int) -> None:
        """Force written bytes to disk, or start them on their way."""
        if setting("FSYNC") == "chunk":
            os.fdatasync(fd)
            # A file that no folder knows after a power failure is lost as well.
            for folder in (self.path, self.path.parent, self.store.path("")):
                sync_folder(folder)
        else:
            begin_write_out(fd, start, size)


class FilesystemWhole(Whole):
    """A file in the upload's folder that is the finished one, but for its name."""

    def __init__(
        self, store: FilesystemStore, upload_id: uuid.UUID, path: Path, fd: int
    ) -> None:
        super().__init__(store, upload_id, ())
        self._path = path
        self._fd = fd

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def has_gaps(self) -> bool:
        size = self.size
        if 0 < size <= SMALL:
            return True
        if _takes_its_size(self._fd):
            return False
        try:
            return bool(size) and os.lseek(self._fd, 0, os.SEEK_HOLE) < size
        except (AttributeError, OSError):
            # A system that cannot tell.
            return False

    def open(self) -> File:
        return File(open(self._path, "rb"))  # noqa: SIM115 - the caller closes it

    def publish(self, name: str) -> str:
        final = self.store.final
        assert isinstance(final, FileSystemStorage)
        for _ in range(NAME_TRIES):
            name = final.get_available_name(name)
            path = Path(final.path(name))
            make_folders(path.parent, final.directory_permissions_mode)
            self._prepare(final)
            try:
                self._link(path)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                break
            sync_folder(path.parent)
            return name.replace("\\", "/")
        # Another file system, or a storage that gives out names that are taken.
        return super().publish(name)

    def close(self) -> None:
        os.close(self._fd)
        # What is no copy is the only one.
        if self._path.suffix == WHOLE:
            self._path.unlink(missing_ok=True)

    def _prepare(self, final: FileSystemStorage) -> None:
        """Give the file the mode and the group that the storage gives to its files."""
        group = os.stat(final.location).st_gid
        if os.fstat(self._fd).st_gid != group:
            with contextlib.suppress(PermissionError):
                os.fchown(self._fd, -1, group)
        if final.file_permissions_mode is not None:
            os.fchmod(self._fd, final.file_permissions_mode)
        if setting("FSYNC") != "never":
            sync_file(self._fd)

    def _link(self, path: Path) -> None:
        """Give the file its final name, never over another file. Raise OSError."""
        try:
            os.link(self._path, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            # Who comes after a death here has to know whose file it is.
            self._path.with_name(MOVED).write_text(str(path))
            os.replace(self._path, path)


class FilesystemStore(Store):
    """A FileSystemStorage for finished files, a folder beside it for chunks."""

    finishes_at_once = True
    needs_keys = False
    final: FileSystemStorage

    def make_staging(self) -> Storage:
        root = setting("STAGING_ROOT") or f"{Path(self.final.location)}-staging"
        return _folder_storage(str(root))

    @property
    def root(self) -> Path:
        assert isinstance(self.staging, FileSystemStorage)
        return Path(self.staging.location)

    def path(self, key: str) -> Path:
        return self.root / key

    def full_path(self, key: str) -> str:
        """Return the same as text, which is quicker to make."""
        return f"{self.staging.location}/{key}"  # type: ignore[attr-defined]

    def folder(self, upload_id: uuid.UUID) -> str:
        return f"{upload_id.hex[:2]}/{upload_id}"

    def writer(
        self, upload_id: uuid.UUID, offset: int | None, size: int | None
    ) -> Writer:
        return FilesystemWriter(self, upload_id, offset, size)

    def open(self, place: Place) -> Any:
        stream = open(self.path(place.key), "rb")  # noqa: SIM115 - the caller closes it
        stream.seek(place.start)
        return stream

    def delete(self, place: Place) -> None:
        self.path(place.key).unlink(missing_ok=True)

    def join(self, upload_id: uuid.UUID, pieces: Sequence[Piece]) -> Whole:
        """Bring the spilled pieces into the data file, or all into a fresh one.

        The data file is only used when nobody can be writing to it any more. A piece
        that is all of it, in a file of its own, is used as it is.
        """
        if whole := self._sole(upload_id, pieces):
            return whole
        key = f"{self.folder(upload_id)}/{DATA}"
        fd = open_file(self.path(key), os.O_RDWR | os.O_CREAT)
        if self._is_moved(key, pieces) or not lock_soon(fd):
            os.close(fd)
            key = f"{self.folder(upload_id)}/{uuid.uuid4().hex}{WHOLE}"
            fd = open_file(self.path(key), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        whole = FilesystemWhole(self, upload_id, self.path(key), fd)
        try:
            self._fill(fd, key, pieces)
        except BaseException:
            whole.close()
            raise
        return whole

    def _sole(
        self, upload_id: uuid.UUID, pieces: Sequence[Piece]
    ) -> FilesystemWhole | None:
        """Return the file that one piece has to itself, if that is all there is."""
        if len(pieces) != 1 or pieces[0].place.start:
            return None
        path = self.path(pieces[0].place.key)
        if path.name == DATA or path.parent != self.path(self.folder(upload_id)):
            return None
        try:
            fd = os.open(path, os.O_RDWR)
        except OSError:
            return None
        if os.fstat(fd).st_size != pieces[0].size:
            os.close(fd)
            return None
        return FilesystemWhole(self, upload_id, path, fd)

    def _is_moved(self, key: str, pieces: Sequence[Piece]) -> bool:
        """Tell whether a piece lies in a file, but not where it belongs.

        To bring it there could overwrite the next one.
        """
        position = 0
        for piece in pieces:
            if piece.place.key == key and piece.place.start != position:
                return True
            position += piece.size
        return False

    def _fill(self, fd: int, key: str, pieces: Sequence[Piece]) -> None:
        position = 0
        for piece in pieces:
            place = piece.place
            if place.key != key or place.start != position:
                self._copy(piece, fd, position)
            position += piece.size
        if os.fstat(fd).st_size < position:
            raise errors.StorageUnavailable("Recorded bytes are missing in the store.")
        os.ftruncate(fd, position)

    def _copy(self, piece: Piece, fd: int, position: int) -> None:
        with self.open(piece.place) as source:
            copy_file(source.fileno(), fd, piece.size, position, piece.place.start)

    def is_being_written(self, upload_id: uuid.UUID) -> bool:
        try:
            path = self.full_path(f"{self.folder(upload_id)}/{DATA}")
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return is_locked(fd)
        finally:
            os.close(fd)

    def is_published(self, upload_id: uuid.UUID, name: str, size: int) -> bool:
        try:
            found = os.stat(self.final.path(name))
        except OSError:
            return False
        folder = self.path(self.folder(upload_id))
        if any(os.path.samestat(found, entry.stat()) for entry in scan(folder)):
            return True
        # Without hard links the data file itself has been moved there.
        return found.st_size == size and is_text(folder / MOVED, self.final.path(name))

    def release(self, upload_id: uuid.UUID, keys: Iterable[str] = ()) -> None:
        shutil.rmtree(self.path(self.folder(upload_id)), ignore_errors=True)

    def delete_file(self, upload_id: uuid.UUID, name: str) -> None:
        """Delete a finished file, and the folder that was made only for it."""
        super().delete_file(upload_id, name)
        folder = Path(self.final.path(name)).parent
        if folder.name == str(upload_id):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def doom(self, upload_id: uuid.UUID, name: str) -> str:
        key = f"{self.folder(upload_id)}/{DOOMED}"
        fd = open_file(self.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_blocks(fd, [memoryview(name.encode())], 0)
        finally:
            os.close(fd)
        return key

    def touched_at(self, upload_id: uuid.UUID) -> float:
        try:
            return self.path(self.folder(upload_id)).stat().st_mtime
        except FileNotFoundError:
            return time.time()

    def uploads(self) -> Iterator[uuid.UUID]:
        for shelf in scan(self.root):
            for entry in scan(Path(shelf.path)):
                if upload_id := as_uuid(entry.name):
                    yield upload_id


@cache
def _folder_storage(root: str) -> FileSystemStorage:
    """Return the storage of a folder: each one made anew would listen for settings."""
    return FileSystemStorage(location=root)


def open_file(path: Path | str, flags: int) -> int:
    """Open a file, with its folders where they are missing: for their owner only."""
    for _ in range(OPEN_TRIES):
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            folder = Path(path).parent
        # An upload that ends at this moment takes its folder away again.
        with contextlib.suppress(FileNotFoundError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, flags, 0o666)


def is_text(path: Path, text: str) -> bool:
    """Tell whether a file is there and holds just this text."""
    try:
        return path.read_text() == text
    except OSError:
        return False


def write_blocks(fd: int, blocks: Iterable[memoryview], position: int) -> int:
    """Write blocks from a position on and return the position after them."""
    for block in blocks:
        while block:
            written = os.pwrite(fd, block, position)
            block, position = block[written:], position + written
    return position


def going_out(
    fd: int, blocks: Iterable[memoryview], position: int
) -> Iterator[memoryview]:
    """Pass on blocks that are written one by one, and begin to have them on disk.

    What is left for the end, and for the fsync then, does not grow with the chunk.
    """
    begun = position
    for block in blocks:
        if position - begun >= WRITE_OUT:
            begin_write_out(fd, begun, position - begun)
            begun = position
        position += len(block)
        yield block


def begin_write_out(fd: int, start: int, size: int) -> None:
    """Start a range on its way to disk, where the system can; never wait for it.

    No error is noticed here: the fsync at the end has to be the first to hear of one.
    """
    if setting("FSYNC") == "finish" and hasattr(os, "posix_fadvise"):
        # Linux begins to write dirty pages back when told that they are not needed.
        os.posix_fadvise(fd, start, size, os.POSIX_FADV_DONTNEED)


def punch_hole(fd: int, start: int, size: int) -> None:
    """Give the space of a range back, where the file system can; the rest stays."""
    if _FALLOCATE is not None and size > 0:
        _FALLOCATE(fd, _PUNCH_HOLE, start, size)


def copy_file(
    source: int, target: int, size: int, position: int, start: int = 0
) -> int:
    """Copy so many bytes to a position; return the one after them.

    Raise StorageUnavailable where there are not so many.
    """
    while size:
        done = copy_range(source, target, min(size, COPY_STEP), start, position)
        if not done:
            raise errors.StorageUnavailable("Recorded bytes are missing in the store.")
        size, start, position = size - done, start + done, position + done
    return position


def copy_range(source: int, target: int, size: int, start: int, position: int) -> int:
    """Copy bytes between open files, in the kernel where it can; return how many."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, size, start, position)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
    data = os.pread(source, min(size, BLOCK), start)
    return write_blocks(target, [memoryview(data)], position) - position


def make_folders(path: Path, mode: int | None) -> None:
    """Make folders as FileSystemStorage would."""
    if mode is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    before = os.umask(0o777 & ~mode)
    try:
        os.makedirs(path, mode, exist_ok=True)
    finally:
        os.umask(before)


def link_open(fd: int, path: Path) -> None:
    """Give an open file another name (Linux). Raise OSError."""
    # With a folder that an absolute path does not need, Python has links followed.
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)


def _is_ones_own(fd: int) -> bool:
    """Tell whether a file belongs to this process's user, and has one name."""
    status = os.fstat(fd)
    return status.st_nlink == 1 and status.st_uid == os.geteuid()


def _takes_its_size(fd: int) -> bool:
    """Tell whether a file takes as much space as it is long: there is no gap then.

    To look for a gap takes longer the longer the file is, on a RAM disk.
    """
    status = os.fstat(fd)
    pages = -(-status.st_size // mmap.PAGESIZE)
    return getattr(status, "st_blocks", 0) * 512 == pages * mmap.PAGESIZE


def sync_file(fd: int) -> None:
    """Force a file to disk. After an error, have the next attempt write all of it.

    The kernel tells of a page that it could not write only once, and takes it for
    written from then on: to sync again would succeed, and mean nothing.
    """
    try:
        os.fsync(fd)
    except OSError:
        for start in range(0, os.fstat(fd).st_size, BLOCK):
            write_blocks(fd, [memoryview(os.pread(fd, BLOCK, start))], start)
        raise


def sync_folder(path: Path) -> None:
    if setting("FSYNC") == "never":
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def scan(path: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []
