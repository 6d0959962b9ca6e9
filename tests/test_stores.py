"""Every store keeps the same promises; each is a class here."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, InMemoryStorage

from resumable_uploads import errors
from resumable_uploads.stores import FilesystemStore, Store, filesystem, store_for
from resumable_uploads.stores.base import BlockFile

from .contracts import store as contract
from .contracts.store import ONE, TWO, StoreContract, blocks, put, three_pieces
from .making import content, use


class ReversingStorage(FileSystemStorage):
    """Keeps files in its own way: backwards."""

    def _save(self, name: str, content: File) -> str:
        data = b"".join(content.chunks())
        return super()._save(name, ContentFile(data[::-1]))

    def _open(self, name: str, mode: str = "rb") -> File:
        with super()._open(name, mode) as file:
            return ContentFile(file.read()[::-1], name)


class PathlessStorage(InMemoryStorage):
    """Has no files, folders or seeking, as object storages have not."""

    path = None

    def _relative_path(self, name: str) -> str:
        return str(name)

    def _open(self, name: str, mode: str = "rb") -> File:
        return File(Unseekable(super()._open(name, mode).read()), name)

    def _save(self, name: str, content: File) -> str:
        # As the storages of django-storages do, to be sure.
        content.seek(0)
        return super()._save(name, content)


class Unseekable(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)


def use_storage(settings: Any, alias: str = "default", **entry: Any) -> None:
    name = entry.pop("of", FileSystemStorage)
    backend = name if isinstance(name, str) else f"{name.__module__}.{name.__name__}"
    settings.STORAGES = settings.STORAGES | {
        alias: {"BACKEND": backend, "OPTIONS": entry}
    }


class TestFilesystemStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return store_for("default")

    def test_it_is_the_store_of_a_plain_folder(self, store: Store):
        assert type(store) is FilesystemStore
        assert store.finishes_at_once


class TestFilesystemStoreWithoutLocks(StoreContract):
    """On systems without such locks, each chunk is a file of its own."""

    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Store:
        monkeypatch.setattr(filesystem, "_SET_LOCK", None)
        return store_for("default")

    def test_it_never_writes_in_place(self, store: Store):
        assert all(
            piece.place.key.endswith(".chunk")
            for piece in three_pieces(store, b"x" * 9)
        )


class TestFilesystemStoreWithStagingElsewhere(StoreContract):
    @pytest.fixture
    def store(self, settings: Any, tmp_path: Path) -> Store:
        use(settings, STAGING_ROOT=str(tmp_path / "elsewhere"))
        return store_for("default")

    def test_chunks_lie_where_the_setting_says(self, store: Store, tmp_path: Path):
        put(store, ONE, 0, b"x")
        assert [path.name for path in (tmp_path / "elsewhere").rglob("data")]


class TestStoreOnStorageWithItsOwnWays(StoreContract):
    """A folder whose files are not what was saved: encrypted, say."""

    @pytest.fixture
    def store(self, settings: Any, tmp_path: Path) -> Store:
        use_storage(settings, of=ReversingStorage, location=str(tmp_path / "own"))
        return store_for("default")

    def test_nothing_goes_around_the_storage(self, store: Store, tmp_path: Path):
        assert type(store) is Store
        put(store, ONE, 0, b"abc")
        name = contract.publish(store, ONE, [put(store, ONE, 0, b"abc")])
        assert (tmp_path / "own" / name).read_bytes() == b"cba"

    def test_no_folder_is_left_behind(self, store: Store):
        three_pieces(store, b"x" * 9)
        store.release(ONE)
        assert not Path(store.staging.path(store.folder(ONE))).exists()


class TestStoreOnStorageWithoutFiles(StoreContract):
    @pytest.fixture
    def store(self, settings: Any) -> Store:
        use_storage(settings, of=PathlessStorage, location="/")
        return store_for("default")

    def test_finishing_takes_a_pass_over_the_bytes(self, store: Store):
        assert type(store) is Store
        assert not store.finishes_at_once


class TestStoreWithStagingStorage(StoreContract):
    """Chunks on one storage, finished files on another."""

    @pytest.fixture
    def store(self, settings: Any, tmp_path: Path) -> Store:
        use_storage(settings, of=PathlessStorage, location="/")
        use_storage(settings, "chunks", location=str(tmp_path / "chunks"))
        use(settings, STAGING_STORAGE="chunks")
        return store_for("default")

    def test_chunks_lie_on_the_staging_storage(self, store: Store, tmp_path: Path):
        put(store, ONE, 0, b"x")
        assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
        assert list(store.uploads()) == [ONE]


# Which store keeps what


def test_a_project_may_choose_the_store_of_a_storage_class(settings):
    use(
        settings, STORES={"tests.test_stores.ReversingStorage": "tests.test_stores.Own"}
    )
    use_storage(settings, of=ReversingStorage)
    assert type(store_for("default")) is Own


def test_the_most_derived_class_decides(settings):
    use(
        settings,
        STORES={
            "django.core.files.storage.filesystem.FileSystemStorage": (
                "resumable_uploads.stores.base.Store"
            ),
            "tests.test_stores.ReversingStorage": "tests.test_stores.Own",
        },
    )
    use_storage(settings, of=ReversingStorage)
    assert type(store_for("default")) is Own


class Own(Store):
    pass


# Files in motion


def test_a_block_file_gives_its_bytes_to_storages_that_read():
    file = BlockFile(blocks(b"0123456789", size=4), "name")
    assert file.read(3) == b"012"
    assert file.read(5) == b"34567"
    assert file.read() == b"89"
    assert file.read() == b""


def test_a_block_file_cannot_go_back():
    file = BlockFile(blocks(b"0123456789"), "name")
    assert file.seek(0) == 0
    file.read(1)
    with pytest.raises(io.UnsupportedOperation):
        file.seek(0)


@pytest.fixture
def joined(settings: Any) -> Iterator[File]:
    """A zip file in two pieces."""
    use_storage(settings, of=PathlessStorage, location="/")
    store = store_for("default")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "inside")
    data = stream.getvalue()
    half = len(data) // 2
    pieces = [put(store, ONE, 0, data[:half]), put(store, ONE, half, data[half:])]
    with store.join(ONE, pieces).open() as file:
        yield file


def test_validators_can_look_into_a_joined_file(joined):
    with zipfile.ZipFile(joined) as archive:
        assert archive.read("a.txt") == b"inside"


def test_a_joined_file_has_nothing_before_its_start(joined):
    with pytest.raises(ValueError, match="before the start"):
        joined.seek(-1)


def test_a_joined_file_can_be_read_as_other_files_are(joined):
    assert joined
    assert joined.readable()
    assert joined.seekable()
    assert not joined.closed
    assert joined.read(None) == b"".join(joined.chunks())


def test_seeking_in_a_joined_file_leaves_no_stream_open(settings, tmp_path):
    use_storage(settings, of=PathlessStorage, location="/")
    use_storage(settings, "chunks", location=str(tmp_path / "chunks"))
    use(settings, STAGING_STORAGE="chunks")
    store = store_for("default")
    opened = []
    store.open = lambda place: opened.append(Store.open(store, place)) or opened[-1]
    with store.join(ONE, [put(store, ONE, 0, content(50))]).open() as file:
        for position in (3, 20, 4):
            file.seek(position)
            file.read(1)
    assert [stream.closed for stream in opened] == [True, True, True]


def test_a_recorded_chunk_that_is_gone_is_not_read_as_an_end(settings):
    use_storage(settings, of=PathlessStorage, location="/")
    store = store_for("default")
    pieces = [put(store, ONE, 0, b"abc"), put(store, TWO, 0, b"def")]
    with store.join(ONE, pieces).open() as file:
        store.release(TWO)
        assert file.read(3) == b"abc"
        with pytest.raises((errors.StorageUnavailable, FileNotFoundError)):
            file.read()
