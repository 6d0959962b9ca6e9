"""A disk that is really full: what was acknowledged stays, and goes on afterwards.

Writes of a full disk come short before they fail, which no test can pretend well.
Where nothing may be mounted, they fail at once instead.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from resumable_uploads import assembly, engine, errors, retention
from resumable_uploads.models import State, UploadSession
from tests.making import (
    body,
    content,
    files_in,
    finished,
    open_upload,
    read,
    staging,
    use,
)

from .disk import small_disk
from .grounds import GROUNDS
from .test_model import recorded_bytes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

PIECE = 64 * 1024
DATA = content(3 * PIECE + 100)
# Bytes that are left when the disk is "full".
ROOMS = [0, 20_000]


class Pretended:
    """Calls that fail as on a full disk, where none may be mounted."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self._patch = path, monkeypatch

    def fill(self, room: int = 0) -> None:
        for name in ("pwrite", "write", "mkdir", "link", "copy_file_range"):
            self._patch.setattr(os, name, _full)

    def empty(self) -> None:
        self._patch.undo()

    def remove(self) -> None:
        pass


def _full(*args: Any, **kwargs: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(settings: Any, tmp_path: Path) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        disk = small_disk() or Pretended(tmp_path, patch)
        settings.MEDIA_ROOT = str(disk.path / "media")
        use(settings, SEGMENT_SIZE=PIECE // 4, BUFFER_SIZE=4096)
        use(settings, RUNNER="tests.making.lost_nudge")
        yield disk
        disk.empty()
        disk.remove()


def put_chunk(upload: UploadSession, number: int) -> None:
    data = DATA[number * PIECE :][:PIECE]
    engine.put_chunk(engine.refreshed(upload), number, body(data))


def put_part(upload: UploadSession, number: int) -> None:
    data = DATA[number * PIECE :][:PIECE]
    engine.put_part(engine.refreshed(upload), number + 1, body(data))


def append(upload: UploadSession, number: int) -> None:
    """Bring the upload to the end of a piece, from wherever it is."""
    row = engine.take_offset(engine.refreshed(upload))
    data = DATA[row.received : (number + 1) * PIECE]
    engine.append(row, row.received, body(data))


KINDS: dict[str, tuple[dict[str, Any], Callable[..., None]]] = {
    "chunks": ({"length": len(DATA), "chunk_size": PIECE}, put_chunk),
    "parts": ({"ends_when_full": False}, put_part),
    "appends": ({"length": len(DATA)}, append),
}


def finish(upload: UploadSession) -> None:
    row = engine.refreshed(upload)
    if row.state == State.RECEIVING:
        engine.finish_with(row, lambda parts: (parts, {}))


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("ground", ["folder", "storage"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_full_disk_refuses_is_sent_again(disk, settings, kind, ground, room):
    use(settings, **GROUNDS[ground])
    about, send = KINDS[kind]
    upload = open_upload(**about)
    send(upload, 0)
    for number in (1, 2, 3):
        disk.fill(room)
        # The last piece may have room enough.
        with suppress(errors.StorageFull) if number == 3 else _refused():
            send(upload, number)
        before = recorded_bytes(engine.refreshed(upload))
        assert before == DATA[: len(before)]
        assert len(before) >= number * PIECE
        disk.empty()
        send(upload, number)
    finish(upload)
    assembly.assemble(upload.pk)
    assert read(upload) == DATA
    retention.sweep()
    assert files_in(staging()) == []


def _refused() -> Any:
    return pytest.raises(errors.StorageFull)


@pytest.mark.parametrize("ground", ["folder", "no links", "storage"])
def test_a_file_that_finds_no_room_is_made_later(disk, settings, ground, monkeypatch):
    use(settings, **GROUNDS[ground])
    about, send = KINDS["chunks"]
    upload = open_upload(**about)
    for number in range(4):
        send(upload, number)
    disk.fill()
    with suppress(OSError, errors.StorageFull):
        # On a folder it needs room for nothing but the names of folders.
        assembly.assemble(upload.pk)
    disk.empty()
    rows = UploadSession.objects.filter(pk=upload.pk, state=State.ASSEMBLING)
    rows.update(retry_at=timezone.now())
    assembly.assemble(upload.pk)
    # An hour later it is looked whether the first worker was only asleep.
    monkeypatch.setattr(retention, "ORPHANS_ARE_OLDER_THAN", timedelta(0))
    retention.sweep()
    assert read(upload) == DATA
    assert files_in(staging()) == []
    assert len(finished()) == 1


def test_a_full_disk_is_full(disk):
    """Else none of the above has been tried."""
    disk.fill(20_000)
    with pytest.raises(OSError, match="No space"):
        write(disk.path / "first")
    disk.empty()
    write(disk.path / "second")


def write(folder: Path) -> None:
    os.mkdir(folder)
    (folder / "file").write_bytes(b"x" * 100_000)
