"""Races between requests for one upload, or one key: threads that meet at a line."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import pytest

from resumable_uploads import assembly, engine, errors
from resumable_uploads.engine import objects as engine_objects
from resumable_uploads.engine import parts as engine_parts
from resumable_uploads.models import Chunk, State, UploadSession

from .buckets import OssClient, S3Client, assert_refused, held, md5
from .making import body, content, now, open_upload, read, staged
from .racing import Running, at_once, counted, failures
from .racing import held as gate
from .rest import finished, sha256
from .test_multipart import buckets
from .visitor import Visitor

pytestmark = pytest.mark.django_db(transaction=True)
SIZE = 20_000
OLD, NEW, OTHER = (content(SIZE, seed) for seed in (1, 2, 3))
KEY = "demo-bucket/k"


@pytest.fixture(autouse=True)
def _small_parts(settings: Any) -> None:
    buckets(settings)


def opened(**said: Any) -> UploadSession:
    return open_upload(ends_when_full=False, object_key=KEY, **said)


def put(upload: UploadSession, number: int, data: bytes) -> Chunk:
    expected = {"md5": hashlib.md5(data).digest()}
    return engine.put_part(now(upload), number, body(data, expected=expected), ["md5"])


def finish(upload: UploadSession, *numbers: int) -> UploadSession:
    def choose(recorded: Any) -> Any:
        chosen = [part for part in recorded if part.number in numbers]
        if len(chosen) != len(numbers):
            raise errors.Incomplete(missing=[])
        return chosen, {"etags": [part.digests["md5"] for part in chosen]}

    return engine.finish_with(now(upload), choose)


def clients(count: int) -> list[OssClient]:
    return [OssClient(Visitor(), held()) for _ in range(count)]


def test_of_parts_with_one_number_exactly_one_survives_whole():
    upload = opened()
    data = [content(SIZE, seed) for seed in range(8)]
    results = at_once(lambda one=one: put(upload, 1, one) for one in data)
    assert failures(results) == []
    done = finish(upload, 1)
    assert read(done) in data
    assert done.metadata["etags"] == [md5(read(done))]
    assert now(upload).received == SIZE


def test_parts_side_by_side_of_two_sizes_make_the_right_file():
    upload = opened()
    data = {number: content(1024 * (1 + number % 3), number) for number in range(1, 13)}
    results = at_once(lambda n=n, d=d: put(upload, n, d) for n, d in data.items())
    assert failures(results) == []
    done = finish(upload, *data)
    assert sha256(read(done)) == sha256(b"".join(data.values()))


def test_a_part_replaced_during_complete_is_in_the_file_or_is_not(monkeypatch):
    """What the manifest says is what the file has, whoever comes first."""
    one, two = clients(2)
    upload_id = one.initiate("k")
    one.put_part("k", upload_id, 1, OLD)
    held_back = gate(monkeypatch, engine_parts, "_keep_only")
    completing = Running(one.complete, "k", upload_id, [(1, md5(OLD))])
    held_back.wait()
    replacing = Running(two.put_part, "k", upload_id, 1, NEW)
    replacing._thread.join(0.3)
    held_back.open()
    assert completing.result().status == 200
    assert_refused(replacing.result(), 404, "NoSuchUpload")
    assert list(finished().values()) == [sha256(OLD)]


def test_a_part_replaced_before_complete_is_found_out():
    one, _ = clients(2)
    upload_id = one.initiate("k")
    old = one.put_part("k", upload_id, 1, OLD).headers["ETag"]
    results = at_once(
        [
            lambda: one.complete("k", upload_id, [(1, old)]),
            lambda: clients(1)[0].put_part("k", upload_id, 1, NEW),
        ]
    )
    complete, part = (result.result() for result in results)
    if complete.status == 200:
        assert list(finished().values()) == [sha256(OLD)]
        assert part.status in (200, 404)
    else:
        assert_refused(complete, 400, "InvalidPart")
        assert part.status == 200


def test_of_many_completes_all_get_the_same_file():
    first = clients(1)[0]
    upload_id = first.initiate("k")
    etag = first.put_part("k", upload_id, 1, OLD).headers["ETag"]
    results = at_once(
        lambda client=client: client.complete("k", upload_id, [(1, etag)])
        for client in clients(6)
    )
    answers = [result.result() for result in results]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    assert list(finished().values()) == [sha256(OLD)]


def test_of_complete_and_abort_one_wins():
    for _ in range(3):
        one, two = clients(2)
        upload_id = one.initiate("k")
        etag = one.put_part("k", upload_id, 1, OLD).headers["ETag"]
        results = at_once(
            [
                partial(one.complete, "k", upload_id, [(1, etag)]),
                partial(two.abort, "k", upload_id),
            ]
        )
        complete, abort = (result.result().status for result in results)
        assert (complete, abort) in ((200, 404), (404, 204))
        assert bool(finished()) == (complete == 200)
        one.request("DELETE", "k")


def test_an_abort_during_a_part_leaves_nothing(monkeypatch):
    one, two = clients(2)
    upload_id = one.initiate("k")
    arriving = gate(monkeypatch, engine_parts, "_record")
    late = Running(one.put_part, "k", upload_id, 1, OLD)
    arriving.wait()
    assert two.abort("k", upload_id).status == 204
    arriving.open()
    assert_refused(late.result(), 404, "NoSuchUpload")
    upload = UploadSession.objects.get()
    assert (upload.state, Chunk.objects.count()) == (State.CANCELLED, 0)
    assert staged(upload.pk) == []


def test_a_part_that_comes_during_complete_does_not_get_into_the_file(monkeypatch):
    """The lock of its bytes is held, so the file is made of a copy."""
    upload = opened()
    put(upload, 1, OLD)
    writing = gate(monkeypatch, engine_parts, "_record")
    late = Running(put, upload, 2, NEW)
    writing.wait()
    done = finish(upload, 1)
    assert done.state == State.COMPLETE
    writing.open()
    assert isinstance(late.wait().error, errors.NotReceiving)
    assert read(done) == OLD
    assert staged(upload.pk) == []


def test_of_files_that_must_be_new_one_gets_there():
    made = [S3Client(Visitor(), held()) for _ in range(5)]
    results = at_once(
        partial(client.request, "PUT", "k", content(100, seed), {"If-None-Match": "*"})
        for seed, client in enumerate(made)
    )
    statuses = sorted(result.result().status for result in results)
    assert statuses[0] == 200
    assert set(statuses[1:]) <= {409, 412}
    assert len(finished()) == 1


def test_of_files_of_one_key_the_last_one_stays():
    at_once(
        partial(client.request, "PUT", "k", content(100, seed))
        for seed, client in enumerate(clients(5))
    )
    reader = clients(1)[0]
    assert reader.request("GET", "k").status == 200
    assert reader.request("PUT", "k", OLD).status == 200
    assert list(finished().values()) == [sha256(OLD)]
    assert reader.request("GET", "k").body == OLD


def test_a_file_completed_while_older_ones_are_dropped_stays(monkeypatch):
    first, second = clients(2)
    hold = gate(monkeypatch, engine_objects, "find_object", after=True)
    before = Running(first.request, "PUT", "k", OLD)
    hold.wait()
    assert second.request("PUT", "k", NEW).status == 200
    hold.open()
    assert before.result().status == 200
    assert second.request("GET", "k").body == NEW
    assert list(finished().values()) == [sha256(NEW)]


# Where parts lie


def test_parts_of_one_size_are_not_copied_again(monkeypatch):
    copies = counted(monkeypatch, engine_parts.store_for("default").__class__, "_copy")
    upload = opened()
    for number in (3, 1, 4, 2):
        put(upload, number, content(1024 * 4 if number < 4 else 77, number))
    done = finish(upload, 1, 2, 3, 4)
    assert done.state == State.COMPLETE
    assert copies == []


def test_a_short_part_that_comes_first_costs_a_copy_and_nothing_else():
    upload = opened()
    last = content(1024, 9)
    put(upload, 3, last)
    put(upload, 1, OLD[:4096])
    put(upload, 2, OLD[4096:8192])
    done = finish(upload, 1, 2, 3)
    assert read(done) == OLD[:8192] + last


def test_a_part_never_overwrites_what_is_recorded():
    upload = opened()
    put(upload, 2, OLD[:2048])
    # Guessed by its own size, it would lie across the second one.
    put(upload, 1, NEW[:4096])
    put(upload, 3, OTHER[:1024])
    done = finish(upload, 1, 2, 3)
    assert read(done) == NEW[:4096] + OLD[:2048] + OTHER[:1024]


def test_an_assembly_that_dies_is_followed_by_the_next(monkeypatch):
    upload = opened()
    for number, size in enumerate((3000, 1024, 5000), 1):
        put(upload, number, content(size, number))
    died = {"left": 2}
    step = assembly._note_plan

    def dies(*args: Any) -> None:
        step(*args)
        if died["left"]:
            died["left"] -= 1
            raise RuntimeError("killed")

    monkeypatch.setattr(assembly, "_note_plan", dies)
    finish(upload, 1, 2, 3)
    for _ in range(2):
        UploadSession.objects.update(retry_at=None, active_at=upload.created_at)
        try:
            assembly.assemble(upload.pk)
        except RuntimeError:
            continue
    done = now(upload)
    assert done.state == State.COMPLETE
    parts = b"".join(content(size, n) for n, size in enumerate((3000, 1024, 5000), 1))
    assert read(done) == parts
