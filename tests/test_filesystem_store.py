"""Chunks on local disk: locks, places, and a finish that copies nothing."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile

from resumable_uploads import errors
from resumable_uploads.stores import FilesystemStore, Piece, Place, filesystem

from .contracts.store import ONE, blocks, final_bytes, publish, put, three_pieces
from .making import content, files_in, use
from .test_stores import use_storage

DATA = content(5000)


@pytest.fixture
def store() -> FilesystemStore:
    return FilesystemStore("default")


def folder(store: FilesystemStore) -> Path:
    return store.path(store.folder(ONE))


def names(store: FilesystemStore) -> list[str]:
    return sorted(path.suffix or path.name for path in files_in(folder(store)))


def inode(path: str | Path) -> int:
    return os.stat(path).st_ino


# Places


def test_a_chunk_with_an_offset_goes_to_its_place_in_one_file(store):
    pieces = [put(store, ONE, 3000, DATA[3000:]), put(store, ONE, 0, DATA[:3000])]
    assert [piece.place.start for piece in pieces] == [3000, 0]
    assert names(store) == ["data"]
    assert (folder(store) / "data").read_bytes() == DATA


def test_what_was_refused_in_place_gives_its_space_back(store):
    writer = store.writer(ONE, 4096, 10**6)
    assert writer.in_place
    writer.discard(writer.write(blocks(content(10**6))))
    writer.close()
    kept = put(store, ONE, 0, DATA[:3000])
    assert (folder(store) / "data").stat().st_blocks * 512 < 10**5
    assert (folder(store) / "data").read_bytes()[:3000] == DATA[:3000]
    assert kept.place.start == 0


def test_what_broke_off_in_place_gives_its_space_back(store):
    """On a full disk, what others could write there counts more than ever."""

    def broken_off() -> Iterator[memoryview]:
        yield from blocks(content(10**6))
        raise OSError(errno.ENOSPC, "No space left on device")

    put(store, ONE, 0, DATA[:3000])
    writer = store.writer(ONE, 3000, 10**6)
    assert writer.in_place
    with pytest.raises(OSError, match="No space"):
        writer.write(broken_off())
    assert (folder(store) / "data").stat().st_blocks * 512 < 10**5
    place = writer.write(blocks(DATA[3000:]))
    writer.close()
    assert (folder(store) / "data").read_bytes()[: len(DATA)] == DATA
    assert place.start == 3000


def test_what_has_not_come_yet_takes_no_space(store):
    put(store, ONE, 10**12, b"far out")
    status = (folder(store) / "data").stat()
    assert status.st_size > 10**12
    assert status.st_blocks * 512 < 10**6


def test_a_chunk_without_an_offset_goes_beside(store):
    put(store, ONE, 0, b"in place")
    piece = put(store, ONE, None, b"beside")
    assert piece.place.start == 0
    assert names(store) == [".chunk", "data"]


def test_the_folder_of_an_upload_is_for_its_owner_only(store):
    put(store, ONE, 0, DATA)
    assert stat.S_IMODE(folder(store).stat().st_mode) == 0o700


# Locks


def test_two_writers_to_one_range_do_not_share_a_file(store):
    first = store.writer(ONE, 0, 100)
    second = store.writer(ONE, 50, 100)
    places = [writer.write(blocks(DATA[:100])) for writer in (first, second)]
    assert [writer.in_place for writer in (first, second)] == [True, False]
    assert places[0].key.endswith("/data")
    assert places[1].key.endswith(".chunk")
    first.close()
    second.close()


def test_writers_to_different_ranges_share_the_file(store):
    writers = [store.writer(ONE, start, 100) for start in (0, 100, 200)]
    assert all(writer.in_place for writer in writers)
    for writer in writers:
        writer.close()


def test_an_append_has_everything_from_its_offset_on(store):
    append = store.writer(ONE, 100, None)
    before, beyond = store.writer(ONE, 0, 100), store.writer(ONE, 10**9, 1)
    assert [w.in_place for w in (append, before, beyond)] == [True, True, False]
    for writer in (append, before, beyond):
        writer.close()


def test_closing_lets_go(store):
    store.writer(ONE, 0, 100).close()
    writer = store.writer(ONE, 0, 100)
    assert writer.in_place
    writer.close()


def test_a_lock_holds_against_other_threads(store):
    mine = store.writer(ONE, 0, 100)
    seen: list[bool] = []

    def try_it() -> None:
        theirs = store.writer(ONE, 0, 100)
        seen.append(theirs.in_place)
        theirs.close()

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    mine.close()
    assert seen == [False]


HOLD = """
import os, sys
sys.path.insert(0, {root!r})
from resumable_uploads.stores.filesystem import lock_range
fd = os.open({path!r}, os.O_RDWR)
print(lock_range(fd, 0, 100), flush=True)
sys.stdin.read()
"""


def test_a_lock_holds_against_other_processes_and_dies_with_them(store):
    store.writer(ONE, 0, 100).close()
    path = str(folder(store) / "data")
    code = HOLD.format(root=str(Path(filesystem.__file__).parents[2]), path=path)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"True\n"
        kept_out = store.writer(ONE, 0, 100)
        beside = store.writer(ONE, 100, 100)
        assert [kept_out.in_place, beside.in_place] == [False, True]
        process.kill()
        process.wait()
        free = store.writer(ONE, 0, 100)
        assert free.in_place
    for writer in (kept_out, beside, free):
        writer.close()


def test_where_there_are_no_such_locks_nothing_is_taken_for_locked(monkeypatch, store):
    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filesystem.fcntl, "fcntl", refuse)
    monkeypatch.setattr(filesystem, "LOCK_WAITS", ())
    pieces = three_pieces(store, DATA)
    assert set(names(store)) == {".chunk", "data"}
    assert (folder(store) / "data").stat().st_size == 0
    assert final_bytes(store, publish(store, ONE, pieces)) == DATA


# The finish


def test_finishing_in_place_copies_nothing(store, monkeypatch):
    pieces = [put(store, ONE, 0, DATA[:1000]), put(store, ONE, 1000, DATA[1000:])]
    before = inode(folder(store) / "data")
    monkeypatch.setattr(filesystem, "copy_range", None)
    name = publish(store, ONE, pieces)
    assert inode(store.final.path(name)) == before
    assert final_bytes(store, name) == DATA


def test_only_what_was_spilled_is_copied(store, monkeypatch):
    pieces = [
        put(store, ONE, 0, DATA[:1000]),
        put(store, ONE, None, DATA[1000:1500]),
        put(store, ONE, 1500, DATA[1500:]),
    ]
    before = inode(folder(store) / "data")
    copied: list[tuple[int, int]] = []
    copy = filesystem.copy_range

    def counted(source, target, size, start, position) -> int:
        copied.append((position, size))
        return copy(source, target, size, start, position)

    monkeypatch.setattr(filesystem, "copy_range", counted)
    name = publish(store, ONE, pieces)
    assert copied == [(1000, 500)]
    assert inode(store.final.path(name)) == before
    assert final_bytes(store, name) == DATA


def test_what_a_writer_left_behind_the_end_is_cut_off(store):
    pieces = [put(store, ONE, 0, b"file")]
    put(store, ONE, 4, b"never recorded")
    assert final_bytes(store, publish(store, ONE, pieces)) == b"file"


def test_a_forgotten_writer_cannot_reach_the_published_file(store, monkeypatch):
    monkeypatch.setattr(filesystem, "LOCK_WAITS", ())
    forgotten = store.writer(ONE, 0, None)
    pieces = [put(store, ONE, 0, DATA[:2000]), put(store, ONE, 2000, DATA[2000:])]
    whole = store.join(ONE, pieces)
    name = whole.publish("f.bin")
    forgotten.write(blocks(b"far too late" * 1000))
    whole.close()
    forgotten.close()
    assert final_bytes(store, name) == DATA
    assert inode(store.final.path(name)) != inode(folder(store) / "data")


def test_a_forgotten_writer_cannot_reach_the_file_while_it_is_looked_at(
    store, monkeypatch
):
    monkeypatch.setattr(filesystem, "LOCK_WAITS", ())
    forgotten = store.writer(ONE, 10, 10)
    pieces = [put(store, ONE, 0, b"0" * 10)]
    pieces.append(Piece(forgotten.write(blocks(b"1" * 10)), 10))
    whole = store.join(ONE, pieces)
    forgotten.position = 0
    forgotten.write(blocks(b"X" * 20))
    with whole.open() as file:
        assert file.read() == b"0" * 10 + b"1" * 10
    whole.close()
    forgotten.close()


def test_whoever_comes_while_a_file_is_finished_writes_beside_it(store):
    whole = store.join(ONE, [put(store, ONE, 0, DATA)])
    late = store.writer(ONE, 0, 10)
    late.write(blocks(b"late"))
    name = whole.publish("f.bin")
    whole.close()
    late.close()
    assert not late.in_place
    assert final_bytes(store, name) == DATA


def test_a_writer_that_is_just_ending_is_waited_for(store):
    pieces = [put(store, ONE, 0, DATA)]
    ending = store.writer(ONE, 100, 10)
    timer = threading.Timer(0.03, ending.close)
    timer.start()
    name = publish(store, ONE, pieces)
    timer.join()
    assert inode(store.final.path(name)) == inode(folder(store) / "data")


def test_a_copy_that_was_not_published_leaves_nothing(store, monkeypatch):
    monkeypatch.setattr(filesystem, "LOCK_WAITS", ())
    forgotten = store.writer(ONE, 0, None)
    pieces = [put(store, ONE, 0, DATA)]
    before = names(store)
    store.join(ONE, pieces).close()
    pieces.append(Piece(Place(f"{store.folder(ONE)}/gone.chunk"), 1))
    with pytest.raises(OSError, match=r"gone\.chunk"):
        store.join(ONE, pieces)
    forgotten.close()
    assert names(store) == before


def test_pieces_in_the_file_but_out_of_place_are_not_moved_over_each_other(store):
    pieces = [put(store, ONE, 0, DATA[:2000]), put(store, ONE, 2000, DATA[2000:])]
    name = publish(store, ONE, pieces[::-1])
    assert final_bytes(store, name) == DATA[2000:] + DATA[:2000]


def test_a_file_that_lost_its_end_is_not_published(store):
    pieces = [put(store, ONE, 0, DATA)]
    os.truncate(folder(store) / "data", 100)
    with pytest.raises(errors.StorageUnavailable):
        store.join(ONE, pieces)


# Without hard links


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(filesystem.os, "link", refuse)


@pytest.mark.usefixtures("no_links")
class TestWithoutHardLinks:
    def test_the_file_is_moved(self, store: FilesystemStore):
        piece = put(store, ONE, 0, DATA)
        before = inode(folder(store) / "data")
        name = publish(store, ONE, [piece])
        assert inode(store.final.path(name)) == before
        assert final_bytes(store, name) == DATA
        assert not (folder(store) / "data").exists()

    def test_no_other_file_is_replaced(self, store: FilesystemStore):
        taken = store.final.save("f.bin", ContentFile(b"taken"))
        name = publish(store, ONE, [put(store, ONE, 0, DATA)], taken)
        assert final_bytes(store, taken) == b"taken"
        assert final_bytes(store, name) == DATA

    def test_no_other_file_is_replaced_that_comes_at_the_last_moment(
        self, store: FilesystemStore, monkeypatch
    ):
        names = iter(["f.bin", "f.bin", "g.bin"])
        monkeypatch.setattr(
            store.final, "get_available_name", lambda name, **_: next(names)
        )
        store.final.save("f.bin", ContentFile(b"taken"))
        name = publish(store, ONE, [put(store, ONE, 0, DATA)])
        assert name == "g.bin"
        assert final_bytes(store, "f.bin") == b"taken"

    def test_a_death_right_afterwards_is_noticed(self, store: FilesystemStore):
        name = publish(store, ONE, [put(store, ONE, 0, DATA)])
        assert store.is_published(ONE, name, len(DATA))
        assert not store.is_published(ONE, "other", len(DATA))

    def test_a_late_request_does_not_hide_it(self, store: FilesystemStore):
        name = publish(store, ONE, [put(store, ONE, 0, DATA)])
        store.writer(ONE, 0, 10).close()
        assert store.is_published(ONE, name, len(DATA))

    def test_a_death_just_before_is_noticed_too(
        self, store: FilesystemStore, monkeypatch
    ):
        def die(source: Any, target: Any) -> None:
            raise KeyboardInterrupt

        piece = put(store, ONE, 0, DATA)
        with monkeypatch.context() as patch:
            patch.setattr(filesystem.os, "replace", die)
            with pytest.raises(KeyboardInterrupt):
                publish(store, ONE, [piece], "f.bin")
        assert store.final.exists("f.bin")
        assert not store.is_published(ONE, "f.bin", len(DATA))
        store.final.delete("f.bin")
        name = publish(store, ONE, [piece], "f.bin")
        assert final_bytes(store, name) == DATA


# Names and permissions


def as_storage_saves(store: FilesystemStore) -> tuple[int, int, int]:
    """Return mode, group and the folder's mode of a file that Django itself saves."""
    return facts(store, store.final.save("theirs/deep/f.bin", ContentFile(b"x")))


def facts(store: FilesystemStore, name: str) -> tuple[int, int, int]:
    path = Path(store.final.path(name))
    status, parent = path.stat(), path.parent.stat()
    return stat.S_IMODE(status.st_mode), status.st_gid, stat.S_IMODE(parent.st_mode)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode"),
    [(None, None), (0o640, None), (0o604, 0o750), (None, 0o711)],
)
def test_files_get_the_permissions_that_the_storage_gives(
    settings, tmp_path, file_mode, folder_mode
):
    use_storage(
        settings,
        location=str(tmp_path / "media"),
        file_permissions_mode=file_mode,
        directory_permissions_mode=folder_mode,
    )
    before = os.umask(0o027)
    try:
        store = FilesystemStore("default")
        name = publish(store, ONE, [put(store, ONE, 0, DATA)], "ours/deep/f.bin")
        assert facts(store, name) == as_storage_saves(store)
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can choose a group here")
def test_files_get_the_group_of_the_storages_folder(settings, tmp_path):
    location = tmp_path / "shared"
    location.mkdir()
    os.chown(location, -1, 4321)
    use_storage(settings, location=str(location))
    store = FilesystemStore("default")
    name = publish(store, ONE, [put(store, ONE, 0, DATA)], "ours/f.bin")
    assert facts(store, name)[1] == as_storage_saves(store)[1] == 4321


def test_a_name_taken_at_the_last_moment_is_not_overwritten(store, monkeypatch):
    available = store.final.get_available_name

    def late(name: str, max_length: int | None = None) -> str:
        name = available(name, max_length)
        store.path(store.final.path("f.bin")).write_bytes(b"quicker")
        return name

    Path(store.final.location).mkdir()
    monkeypatch.setattr(store.final, "get_available_name", late)
    name = publish(store, ONE, [put(store, ONE, 0, DATA)], "f.bin")
    assert final_bytes(store, "f.bin") == b"quicker"
    assert final_bytes(store, name) == DATA


def test_a_storage_that_overwrites_decides_that_itself(settings, tmp_path):
    use_storage(settings, location=str(tmp_path / "media"), allow_overwrite=True)
    store = FilesystemStore("default")
    store.final.save("f.bin", ContentFile(b"old" * 9999))
    name = publish(store, ONE, [put(store, ONE, 0, DATA)], "f.bin")
    assert name == "f.bin"
    assert final_bytes(store, "f.bin") == DATA


def test_a_deleted_file_takes_the_folder_made_for_it_along(store):
    name = publish(store, ONE, [put(store, ONE, 0, DATA)], f"day/{ONE}/f.bin")
    other = store.final.save("day/other.bin", ContentFile(b"x"))
    store.delete_file(ONE, name)
    assert not Path(store.final.path(f"day/{ONE}")).exists()
    assert store.final.exists(other)


def test_a_folder_with_other_files_stays(store):
    name = publish(store, ONE, [put(store, ONE, 0, DATA)], f"day/{ONE}/f.bin")
    other = store.final.save(f"day/{ONE}/thumbnail.png", ContentFile(b"x"))
    store.delete_file(ONE, name)
    assert store.final.exists(other)


# Between devices


@pytest.fixture
def another_device(tmp_path: Path) -> Any:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to be had here")
    path = shm / f"resumable-uploads-{uuid.uuid4()}"
    path.mkdir()
    yield path
    for file in files_in(path):
        file.unlink()
    for child in sorted(path.rglob("*"), reverse=True):
        child.rmdir()
    path.rmdir()


def test_between_devices_the_file_is_copied(settings, another_device):
    use(settings, STAGING_ROOT=str(another_device))
    store = FilesystemStore("default")
    pieces = [put(store, ONE, 0, DATA[:10]), put(store, ONE, None, DATA[10:])]
    name = publish(store, ONE, pieces)
    assert final_bytes(store, name) == DATA
    assert facts(store, name) == as_storage_saves(store)[:2] + facts(store, name)[2:]
    store.release(ONE)
    assert files_in(another_device) == []


def test_between_devices_no_file_is_overwritten(settings, another_device):
    use(settings, STAGING_ROOT=str(another_device))
    store = FilesystemStore("default")
    store.final.save("f.bin", ContentFile(b"taken"))
    name = publish(store, ONE, [put(store, ONE, 0, DATA)], "f.bin")
    assert final_bytes(store, "f.bin") == b"taken"
    assert final_bytes(store, name) == DATA


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_kernel_does_not_copy_python_does(store, monkeypatch, code):
    def refuse(*args: Any) -> int:
        raise OSError(code, "not here")

    monkeypatch.setattr(filesystem.os, "copy_file_range", refuse, raising=False)
    monkeypatch.setattr(filesystem, "BLOCK", 700)
    pieces = [put(store, ONE, None, DATA[:3000]), put(store, ONE, 3000, DATA[3000:])]
    assert final_bytes(store, publish(store, ONE, pieces)) == DATA


def test_a_full_disk_while_joining_leaves_what_there_was(store, monkeypatch):
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    pieces = [put(store, ONE, 0, DATA[:10]), put(store, ONE, None, DATA[10:])]
    with monkeypatch.context() as patch:
        patch.setattr(filesystem, "copy_range", full)
        with pytest.raises(OSError, match="No space"):
            store.join(ONE, pieces)
    assert final_bytes(store, publish(store, ONE, pieces)) == DATA


# What is forced to disk


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    for name in ("fsync", "fdatasync"):
        real: Callable[[int], None] = getattr(os, name)

        def counted(fd: int, name: str = name, real: Any = real) -> None:
            kind = "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
            calls.append(f"{name} {kind}")
            real(fd)

        monkeypatch.setattr(os, name, counted)
    return calls


# The upload's folder, and those in which it was made.
RECORDED = ("fdatasync file", *3 * ("fsync folder",))


@pytest.mark.parametrize(
    ("fsync", "expected"),
    [
        ("finish", ["fsync file", "fsync folder"]),
        ("chunk", [*RECORDED, *RECORDED, "fsync file", "fsync folder"]),
        ("never", []),
    ],
)
def test_bytes_are_forced_to_disk_when_the_setting_says(
    settings, store, synced, fsync, expected
):
    use(settings, FSYNC=fsync)
    pieces = [put(store, ONE, 0, DATA[:10]), put(store, ONE, None, DATA[10:])]
    publish(store, ONE, pieces)
    assert synced == expected


def test_what_could_not_be_forced_to_disk_is_written_again(
    settings, store, monkeypatch
):
    """The kernel reports a lost page once; after that, it takes it for written."""
    use(settings, FSYNC="finish")
    pieces = [put(store, ONE, 0, DATA)]
    real, calls = os.fsync, []

    def fails_once(fd: int) -> None:
        calls.append("fsync")
        if len(calls) == 1:
            raise OSError(errno.EIO, "a page is lost")
        real(fd)

    written = []
    pwrite = os.pwrite
    monkeypatch.setattr(os, "fsync", fails_once)
    monkeypatch.setattr(
        os, "pwrite", lambda *args: written.append(bytes(args[1])) or pwrite(*args)
    )
    with pytest.raises(OSError, match="a page is lost"):
        publish(store, ONE, pieces)
    assert b"".join(written) == DATA
    assert final_bytes(store, publish(store, ONE, pieces)) == DATA


STEP = 4096


@pytest.mark.parametrize("offset", [0, None], ids=["in place", "spilled"])
def test_bytes_are_on_their_way_to_disk_before_the_chunk_is_whole(
    settings, store, monkeypatch, offset
):
    """Else it takes the longer to finish, the more there is to be forced to disk."""
    begun: list[tuple[int, int]] = []

    def begin(fd: int, start: int, size: int, advice: int) -> None:
        assert os.fstat(fd).st_size >= start + size, "they are written by then"
        begun.append((start, size))

    seen = []

    def blocks_of_a_step() -> Iterator[memoryview]:
        for number in range(5):
            yield memoryview(bytes([number]) * STEP)
            seen.append(len(begun))

    use(settings, FSYNC="finish")
    monkeypatch.setattr(filesystem, "WRITE_OUT", 2 * STEP)
    monkeypatch.setattr(os, "posix_fadvise", begin)
    writer = store.writer(ONE, offset, 5 * STEP)
    writer.write(blocks_of_a_step())
    writer.close()
    assert seen == [0, 0, 1, 1, 2]
    assert begun[:2] == [(0, 2 * STEP), (2 * STEP, 2 * STEP)]
    # At the end all of it: what has arrived meanwhile need not stay in memory.
    assert begun[2:] == [(0, 5 * STEP)]


@pytest.mark.parametrize("fsync", ["chunk", "never"])
def test_bytes_that_are_forced_to_disk_otherwise_or_never_are_left_alone(
    settings, store, monkeypatch, fsync
):
    use(settings, FSYNC=fsync)
    monkeypatch.setattr(os, "posix_fadvise", None)
    assert put(store, ONE, 0, DATA).size == len(DATA)


def test_a_system_that_cannot_begin_early_does_all_at_the_end(
    settings, store, synced, monkeypatch
):
    use(settings, FSYNC="finish")
    monkeypatch.delattr(os, "posix_fadvise")
    monkeypatch.setattr(filesystem, "WRITE_OUT", 1000)
    pieces = [put(store, ONE, 0, DATA[:3000]), put(store, ONE, None, DATA[3000:])]
    assert final_bytes(store, publish(store, ONE, pieces)) == DATA
    assert synced == ["fsync file", "fsync folder"]
