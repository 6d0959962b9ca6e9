"""What must hold when requests of tus clients meet, on any database."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import pytest

from resumable_uploads import engine
from resumable_uploads.models import Chunk, State, UploadSession

from . import tus
from .making import files_in, finished, staging, use, use_policy
from .racing import Gate, Running, at_once, failures, held, values
from .visitor import Visitor

pytestmark = pytest.mark.django_db(transaction=True)
SIZE = 100
SEGMENT = 30


@pytest.fixture(autouse=True)
def _small(settings: Any) -> None:
    use(settings, SEGMENT_SIZE=SEGMENT, FSYNC="never", RUNNER="inline")
    use_policy(
        settings, capability_urls=True, downloadable=True, quota=None, max_open=None
    )


class Line(io.BufferedIOBase):
    """A body that comes up to a point, where it waits for the gate."""

    def __init__(self, data: bytes, after: int) -> None:
        self.gate = Gate()
        self._data = data
        self._after = after
        self._position = 0

    def read(self, size: int | None = -1) -> bytes:
        if self._position == self._after:
            self.gate.pass_through()
        end = len(self._data)
        if self._position < self._after:
            end = self._after
        data = self._data[self._position : min(end, self._position + (size or 0))]
        self._position += len(data)
        return data


def begin(url: str, line: Line, size: int = SIZE, offset: int = 0) -> Running:
    """Begin a PATCH in a thread of its own; return when its line waits."""
    headers = tus.V1 | tus.OFFSETS | {"Upload-Offset": str(offset)}
    environ = {"CONTENT_LENGTH": str(size), "wsgi.input": line}
    thread = Running(Visitor().request, "PATCH", url, b"", headers, **environ)
    line.gate.wait()
    return thread


def of(letter: str, size: int = SIZE) -> bytes:
    return letter.encode() * size


def row() -> UploadSession:
    return UploadSession.objects.get()


def test_of_two_patches_at_one_offset_the_later_wins():
    url = tus.create(Visitor(), SIZE)
    line = Line(of("a"), 20)
    first = begin(url, line)
    assert tus.patch(Visitor(), url, 0, of("b")).status == 204
    line.gate.open()
    answer = first.result()
    assert answer.status in (400, 409)
    assert Visitor().get(url).body == of("b")


def test_a_patch_at_a_passed_offset_does_not_disturb_the_one_that_runs():
    url = tus.create(Visitor(), SIZE)
    line = Line(of("a"), 50)
    first = begin(url, line)
    assert row().received == SEGMENT
    assert tus.patch(Visitor(), url, 0, of("b")).status == 409
    line.gate.open()
    assert first.result().status == 204
    assert Visitor().get(url).body == of("a")


def test_an_offset_that_was_told_while_a_patch_ran_is_taken():
    url = tus.create(Visitor(), SIZE)
    line = Line(of("a"), 50)
    first = begin(url, line)
    offset = tus.offset_of(Visitor(), url)
    assert offset == SEGMENT
    line.gate.open()
    answer = first.result()
    assert answer.status == 400
    assert answer.body.startswith(b"ERR_UPLOAD_INTERRUPTED")
    assert tus.offset_of(Visitor(), url) == offset
    assert tus.patch(Visitor(), url, offset, of("b", SIZE - offset)).status == 204
    assert Visitor().get(url).body == of("a", offset) + of("b", SIZE - offset)


def test_a_delete_while_a_patch_runs_leaves_nothing():
    url = tus.create(Visitor(), SIZE)
    line = Line(of("a"), 50)
    first = begin(url, line)
    assert tus.delete(Visitor(), url).status == 204
    line.gate.open()
    assert first.result().status in (404, 410)
    assert row().state == State.CANCELLED
    assert not Chunk.objects.exists()
    assert files_in(staging()) == []
    assert finished() == []


def test_eight_patches_of_everything_have_one_winner():
    for _ in range(3):
        UploadSession.objects.all().delete()
        url = tus.create(Visitor(), SIZE)
        threads = at_once(
            partial(tus.patch, Visitor(), url, 0, of(letter)) for letter in "abcdefgh"
        )
        assert failures(threads) == []
        statuses = sorted(answer.status for answer in values(threads))
        assert statuses[0] == 204
        assert set(statuses[1:]) <= {400, 409}
        body = Visitor().get(url).body
        assert body in {of(letter) for letter in "abcdefgh"}


def test_two_lengths_at_once_are_one():
    """Whoever is later is told that it stays as it is."""
    for _ in range(3):
        UploadSession.objects.all().delete()
        url = tus.create(Visitor(), None)
        threads = at_once(
            partial(tus.patch, Visitor(), url, 0, b"", Upload_Length=length)
            for length in (SIZE, SIZE + 1, SIZE + 2, SIZE + 3)
        )
        assert failures(threads) == []
        statuses = [answer.status for answer in values(threads)]
        assert statuses.count(204) == 1, statuses
        assert set(statuses) == {204, 400}
        assert row().length == SIZE + statuses.index(204)


def test_a_length_that_falls_behind_what_has_come_is_refused(monkeypatch):
    url = tus.create(Visitor(), None)
    gate = held(monkeypatch, engine.measuring, "owner_of_upload")
    late = Running(tus.patch, Visitor(), url, 0, b"", Upload_Length=50)
    gate.wait()
    assert tus.patch(Visitor(), url, 0, of("a")).status == 204
    gate.open()
    assert late.result().status == 400
    assert row().length is None
    assert row().received == SIZE


def test_a_part_that_is_deleted_just_now_makes_no_whole(monkeypatch):
    part = tus.create(Visitor(), SIZE, of("a"), Upload_Concat="partial")
    gate = held(monkeypatch, engine.joining, "new_row")
    whole = Running(tus.post, Visitor(), Upload_Concat=f"final;{part}")
    gate.wait()
    assert tus.delete(Visitor(), part).status == 204
    gate.open()
    assert whole.result().status == 400
    assert UploadSession.objects.get().state == State.CANCELLED
    assert files_in(staging()) == []


def test_wholes_at_once_of_the_same_parts_are_all_right():
    parts = [
        tus.create(Visitor(), SIZE, of(letter), Upload_Concat="partial")
        for letter in "ab"
    ]
    said = f"final;{' '.join(parts)}"
    threads = at_once([partial(tus.post, Visitor(), Upload_Concat=said)] * 4)
    assert failures(threads) == []
    assert [answer.status for answer in values(threads)] == [201] * 4
    for answer in values(threads):
        assert Visitor().get(tus.path(answer)).body == of("a") + of("b")
