"""The client says that all was sent: what is missing, what is repeated, what is new."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from resumable_uploads import assembly, engine, errors, runner
from resumable_uploads.models import State, UploadSession

from .making import after, body, content, now, open_upload, read, sent, use

pytestmark = pytest.mark.django_db
transactional = pytest.mark.django_db(transaction=True)
DATA = content(95)
nudged: list[tuple[str, Any]] = []


def note(name: str, *args: Any) -> None:
    """Be a runner that only remembers what it is told."""
    nudged.append((name, *args))


@pytest.fixture(autouse=True)
def _noted(settings: Any) -> None:
    nudged.clear()
    use(settings, RUNNER="tests.test_engine_finish.note")


def put(upload: UploadSession, number: int, data: bytes = b"") -> None:
    data = data or DATA[number * 10 : number * 10 + 10]
    engine.put_chunk(now(upload), number, body(data))


def assemblies() -> list[Any]:
    return [pk for name, *rest in nudged if name == runner.ASSEMBLE for pk in rest]


# What is missing


def test_an_upload_with_gaps_is_incomplete():
    upload = open_upload(95, 10)
    for number in (1, 2, 9):
        put(upload, number)
    with pytest.raises(errors.Incomplete) as caught:
        engine.finish(now(upload))
    assert caught.value.facts == {"missing": [(0, 0), (3, 8)], "offset": 0}
    assert now(upload).state == State.RECEIVING


def test_an_upload_that_was_not_begun_is_incomplete():
    with pytest.raises(errors.Incomplete) as caught:
        engine.finish(open_upload(95, 10))
    assert caught.value.facts["missing"] == [(0, 9)]


def test_an_append_that_is_too_short_is_incomplete():
    upload = open_upload(95, ends_when_full=False)
    engine.append(upload, 0, body(DATA[:50]))
    with pytest.raises(errors.Incomplete) as caught:
        engine.finish(now(upload))
    assert caught.value.facts == {"missing": [], "offset": 50}


def test_chunks_of_unknown_length_must_follow_each_other():
    upload = open_upload(None, 10)
    for number in (0, 3):
        put(upload, number)
    with pytest.raises(errors.Incomplete) as caught:
        engine.finish(now(upload))
    assert caught.value.facts["missing"] == [(1, 2)]


def test_chunks_of_unknown_length_must_be_whole_but_the_last():
    upload = open_upload(None, 10)
    put(upload, 0, b"short")
    put(upload, 1)
    with pytest.raises(errors.Incomplete) as caught:
        engine.finish(now(upload))
    assert caught.value.facts["missing"] == [(0, 0)]


def test_what_has_come_since_the_upload_was_looked_up_counts():
    """Nobody is told that a file without gaps is incomplete."""
    upload = open_upload(95, 10)
    stale = now(upload)
    for number in range(10):
        put(upload, number)
    UploadSession.objects.update(state=State.RECEIVING)
    assert engine.finish(stale).state == State.ASSEMBLING


def test_what_comes_between_two_looks_counts(monkeypatch):
    upload = open_upload(20, 10, ends_when_full=False)
    put(upload, 0)
    found = now(upload)
    refreshed = engine.refreshed

    def late(row: UploadSession) -> UploadSession:
        monkeypatch.setattr(engine.finishing, "refreshed", refreshed)
        put(upload, 1)
        return refreshed(row)

    monkeypatch.setattr(engine.finishing, "refreshed", late)
    assert engine.finish(found).state == State.ASSEMBLING


# What is whole


def test_a_client_that_says_it_is_over_is_believed():
    upload = open_upload(95, ends_when_full=False)
    engine.append(upload, 0, body(DATA))
    assert engine.finish(now(upload)).state == State.ASSEMBLING


@transactional
@pytest.mark.parametrize("last", [10, 3])
def test_finishing_chunks_of_unknown_length_fixes_the_length(settings, last):
    use(settings, RUNNER="inline")
    upload = open_upload(None, 10)
    put(upload, 1, DATA[10 : 10 + last])
    put(upload, 0)
    done = engine.finish(now(upload))
    assert (done.state, done.length) == (State.COMPLETE, 10 + last)
    assert read(upload) == DATA[: 10 + last]


@transactional
def test_finishing_an_append_of_unknown_length_fixes_the_length(settings):
    use(settings, RUNNER="inline")
    upload = open_upload()
    engine.append(upload, 0, body(DATA))
    done = engine.finish(now(upload))
    assert (done.state, done.length) == (State.COMPLETE, 95)
    assert read(upload) == DATA


@transactional
def test_a_file_of_unknown_length_may_turn_out_empty(settings):
    use(settings, RUNNER="inline")
    done = engine.finish(open_upload(None, 10))
    assert (done.state, done.length) == (State.COMPLETE, 0)
    assert read(done) == b""


def test_a_chunk_that_comes_after_the_last_look_is_not_left_out(monkeypatch):
    """The freeze holds for what was counted, or it is counted again."""
    upload = open_upload(None, 10)
    put(upload, 0)
    monkeypatch.setattr(
        engine.finishing,
        "_is_gapless",
        after(engine.finishing._is_gapless, lambda: _once(upload)),
    )
    done = engine.finish(now(upload))
    assert (done.state, done.length, done.chunk_count) == (State.ASSEMBLING, 20, 2)


def _once(upload: UploadSession) -> None:
    if engine.refreshed(upload).chunk_count == 1:
        put(upload, 1)


def test_a_chunk_that_comes_after_the_freeze_is_refused():
    upload = open_upload(None, 10)
    put(upload, 0)
    stale = now(upload)
    slow = body(b"x" * 5, lambda: engine.finish(now(upload)), b"x" * 5)
    with pytest.raises(errors.NotReceiving) as caught:
        engine.put_chunk(now(upload), 1, slow)
    assert not isinstance(caught.value, errors.Gone)
    with pytest.raises(errors.Invalid):
        engine.put_chunk(stale, 1, body(b"x" * 10))
    assert engine.put_chunk(stale, 0, body(DATA[:10]))[1] is False
    row = engine.refreshed(upload)
    assert (row.length, row.received, row.chunk_count) == (10, 10, 1)


def test_an_append_that_goes_on_after_the_freeze_is_refused():
    upload = open_upload()
    engine.append(upload, 0, body(DATA[:10]))
    slow = body(b"x" * 5, lambda: engine.finish(now(upload)), b"x" * 5)
    with pytest.raises(errors.NotReceiving):
        engine.append(now(upload), 10, slow)
    row = engine.refreshed(upload)
    assert (row.length, row.received) == (10, 10)


# Repeats


@transactional
def test_finishing_twice_assembles_once():
    upload = open_upload(95, ends_when_full=False)
    engine.append(upload, 0, body(DATA))
    found = now(upload)
    for _ in range(3):
        assert engine.finish(found).state == State.ASSEMBLING
    assert assemblies() == [upload.pk]


@transactional
def test_finishing_what_is_complete_changes_nothing(settings):
    use(settings, RUNNER="inline")
    upload = sent(DATA, 10)
    before = UploadSession.objects.values().get(pk=upload.pk)
    assert engine.finish(upload).state == State.COMPLETE
    assert UploadSession.objects.values().get(pk=upload.pk) == before


@transactional
def test_a_lost_nudge_is_repeated_when_the_client_asks():
    upload = sent(DATA, 10)
    nudged.clear()
    engine.finish(upload)
    assert assemblies() == []
    _age(upload, timedelta(seconds=6))
    engine.finish(upload)
    engine.finish(upload)
    assert assemblies() == [upload.pk]


@transactional
def test_an_assembly_that_is_under_way_is_not_nudged():
    upload = sent(DATA, 10)
    nudged.clear()
    assert assembly._claim(upload.pk, "somebody")
    _age(upload, timedelta(seconds=30))
    assert engine.finish(upload).state == State.ASSEMBLING
    assert assemblies() == []


@transactional
def test_an_assembly_that_has_to_rest_is_not_nudged():
    upload = sent(DATA, 10)
    nudged.clear()
    _age(upload, timedelta(seconds=30))
    UploadSession.objects.update(retry_at=timezone.now() + timedelta(hours=1))
    engine.finish(upload)
    assert assemblies() == []


@transactional
def test_finishing_a_failed_upload_tries_again_with_all_attempts():
    upload = sent(DATA, 10)
    nudged.clear()
    UploadSession.objects.update(
        state=State.FAILED, attempts=8, error="x", error_code="y"
    )
    again = engine.finish(now(upload))
    assert (again.state, again.attempts, again.error) == (State.ASSEMBLING, 0, "")
    assert assemblies() == [upload.pk]


def test_retrying_what_has_not_failed_changes_nothing():
    upload = open_upload(95, 10)
    assert engine.retry(upload).state == State.RECEIVING


@pytest.mark.parametrize("state", [State.CANCELLED, State.EXPIRED])
def test_finishing_what_is_gone_says_so(state):
    upload = open_upload(95, 10)
    UploadSession.objects.update(state=state)
    for found in (upload, now(upload)):
        with pytest.raises(errors.UploadError) as caught:
            engine.finish(found)
        assert caught.value.code in ("gone", "incomplete")
    with pytest.raises(errors.Gone):
        engine.finish(now(upload))


def test_finishing_what_was_rejected_says_why():
    upload = open_upload(95, 10)
    UploadSession.objects.update(state=State.REJECTED, error="It is a virus.")
    with pytest.raises(errors.Rejected, match="a virus"):
        engine.finish(now(upload))


def _age(upload: UploadSession, by: timedelta) -> None:
    UploadSession.objects.filter(pk=upload.pk).update(active_at=timezone.now() - by)


@transactional
@pytest.mark.parametrize("number", [0, 1])
def test_what_is_not_in_the_file_is_not_answered_as_if_it_were(settings, number):
    """The file is finished, and complete, while a chunk is on its way."""
    use(settings, RUNNER="inline")
    upload = open_upload(None, 10)
    put(upload, 0, b"short")
    slow = body(b"x" * 5, lambda: engine.finish(now(upload)), b"x" * 5)
    with pytest.raises(errors.NotReceiving):
        engine.put_chunk(now(upload), number + 1, slow)
    assert read(upload) == b"short"
