"""Ends: cancelled, expired, rejected, complete; and what follows each of them once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from resumable_uploads import assembly, engine, errors, retention, signals
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.stores import FilesystemStore, store_for

from .making import (
    body,
    content,
    finished,
    heard,
    now,
    open_upload,
    sent,
    staged,
    staging,
    use,
)
from .test_stores import ReversingStorage, use_storage

pytestmark = pytest.mark.django_db(transaction=True)
DATA = content(95)
ENDS = (
    signals.upload_completed,
    signals.upload_failed,
    signals.upload_cancelled,
    signals.upload_expired,
)


def begun() -> UploadSession:
    upload = open_upload(95, 10, client_key="k")
    engine.put_chunk(upload, 3, body(DATA[30:40]))
    return now(upload)


def state_of(upload: UploadSession) -> str:
    return UploadSession.objects.values_list("state", flat=True).get(pk=upload.pk)


def set_state(upload: UploadSession, state: State, **more: Any) -> None:
    UploadSession.objects.filter(pk=upload.pk).update(state=state, **more)


def nothing_is_left(upload: UploadSession) -> bool:
    rows = Chunk.objects.filter(upload=upload.pk).exists()
    return not rows and not staged(upload.pk) and not finished()


# Cancel


@pytest.mark.parametrize("state", [State.RECEIVING, State.FAILED, State.ASSEMBLING])
def test_cancelling_drops_everything_and_tells_once(state):
    upload = begun()
    set_state(upload, state)
    with heard(*ENDS) as ends, heard(signals.upload_cancelled) as cancelled:
        engine.cancel(upload)
        engine.cancel(upload)
        engine.cancel(now(upload))
    assert nothing_is_left(upload)
    assert ends == cancelled == [upload.pk]
    row = now(upload)
    assert (row.state, row.settled, row.missing) == (State.CANCELLED, True, [])
    kept_for = row.expires_at - timezone.now()
    assert timedelta(days=6) < kept_for <= timedelta(days=7)


def test_cancelling_a_complete_upload_deletes_its_file_and_folder():
    upload = sent(DATA, 10)
    folder = Path(upload.file.path).parent
    with heard(signals.upload_cancelled) as cancelled:
        engine.cancel(upload)
    assert cancelled == [upload.pk]
    assert not folder.exists()
    row = now(upload)
    assert (row.state, row.file.name) == (State.CANCELLED, "")


def test_a_file_that_another_model_has_claimed_is_not_cancelled():
    upload = sent(DATA, 10)
    UploadSession.objects.update(claimed_at=timezone.now())
    with heard(*ENDS) as ends, pytest.raises(errors.NotReceiving) as caught:
        engine.cancel(upload)
    assert not isinstance(caught.value, errors.Gone)
    assert caught.value.facts == {"state": "complete"}
    assert ends == []
    assert state_of(upload) == State.COMPLETE
    assert len(finished()) == 1


@pytest.mark.parametrize("state", [State.EXPIRED, State.REJECTED])
def test_cancelling_what_is_gone_changes_nothing(state):
    upload = begun()
    set_state(upload, state)
    engine.cancel(upload)
    assert state_of(upload) == state


def test_cancelling_what_has_no_row_is_harmless():
    upload = begun()
    upload_id = upload.pk
    UploadSession.objects.all().delete()
    engine.cancel(upload)
    assert staged(upload_id) == []


def test_cancelling_drops_the_file_that_a_dead_assembly_has_made(settings, monkeypatch):
    upload = _killed_before_completing(settings, monkeypatch)
    assert len(finished()) == 1
    engine.cancel(now(upload))
    assert nothing_is_left(upload)


def test_cancelling_drops_what_a_dead_assembly_has_made_on_any_storage(
    settings, monkeypatch, tmp_path
):
    use_storage(settings, of=ReversingStorage, location=str(tmp_path / "own"))
    upload = _killed_before_completing(settings, monkeypatch)
    engine.cancel(now(upload))
    # Should the worker live, and make it once more, the sweep knows of it.
    (note,) = [path for path in (tmp_path / "own").rglob("*") if path.is_file()]
    late = tmp_path / "own" / store_for(upload.storage).doomed(upload.pk)
    late.parent.mkdir(parents=True, exist_ok=True)
    late.touch()
    assert retention.sweep() == 0, "it may still be at it"
    monkeypatch.setattr(retention, "ORPHANS_ARE_OLDER_THAN", timedelta(0))
    assert retention.sweep() == 1
    assert not late.exists()
    assert not note.exists()


def test_cancelling_leaves_the_file_of_another_with_the_planned_name(
    settings, monkeypatch
):
    """The name was only meant; meanwhile somebody else has got it."""
    use(settings, POLICIES={"default": "tests.test_assembly.SameName"})
    upload = _killed_before_completing(settings, monkeypatch, "_note_plan")
    Path(storages["default"].location).mkdir(parents=True, exist_ok=True)
    Path(storages["default"].path("same.bin")).write_bytes(b"another's")
    engine.cancel(now(upload))
    assert Path(storages["default"].path("same.bin")).read_bytes() == b"another's"


def _killed_before_completing(
    settings: Any, monkeypatch: pytest.MonkeyPatch, after: str = ""
) -> UploadSession:
    use(settings, RUNNER="tests.making.lost_nudge")
    upload = sent(DATA, 10)

    def die(*args: Any) -> None:
        if after:
            original(*args)
        raise KeyboardInterrupt

    original = getattr(assembly, after or "_complete")
    with monkeypatch.context() as patch:
        patch.setattr(assembly, after or "_complete", die)
        with pytest.raises(KeyboardInterrupt):
            assembly.assemble(upload.pk)
    return upload


# Expire


def test_an_overdue_upload_expires_and_is_told_once():
    upload = begun()
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.update(expires_at=past)
    upload.refresh_from_db()
    with heard(*ENDS) as ends, heard(signals.upload_expired) as expired:
        assert engine.expire(upload)
        assert not engine.expire(upload)
        assert now(upload).state == State.EXPIRED
    assert ends == expired == [upload.pk]
    assert nothing_is_left(upload)


def test_what_is_not_overdue_does_not_expire():
    upload = begun()
    assert not engine.expire(upload)
    assert state_of(upload) == State.RECEIVING


@pytest.mark.parametrize(
    "state", [State.ASSEMBLING, State.CANCELLED, State.REJECTED, State.EXPIRED]
)
def test_only_what_waits_expires(state):
    upload = begun()
    past = timezone.now() - timedelta(days=1)
    set_state(upload, state, expires_at=past)
    assert not engine.expire(upload)
    assert not engine.overdue().exists()


def test_a_failed_upload_expires_too():
    upload = begun()
    past = timezone.now() - timedelta(days=1)
    set_state(upload, State.FAILED, expires_at=past)
    assert now(upload).state == State.EXPIRED


def test_an_upload_that_became_active_again_does_not_expire():
    """It was overdue when it was looked up; then a chunk slid its expiry."""
    upload = begun()
    UploadSession.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    upload.refresh_from_db()
    UploadSession.objects.update(expires_at=timezone.now() + timedelta(days=1))
    assert not engine.expire(upload)


# Settling: what a process that died has left undone


@pytest.mark.parametrize(
    ("state", "signal"),
    [
        (State.CANCELLED, signals.upload_cancelled),
        (State.EXPIRED, signals.upload_expired),
        (State.REJECTED, signals.upload_failed),
    ],
)
def test_what_follows_an_end_is_made_up_for(state, signal):
    upload = begun()
    set_state(upload, state)
    with heard(*ENDS) as ends, heard(signal) as told:
        assert engine.settle([upload.pk]) == 1
        assert engine.settle([upload.pk]) == 0
    assert ends == told == [upload.pk]
    assert nothing_is_left(upload)


def test_an_upload_that_goes_on_is_not_settled():
    upload = begun()
    for state in (State.RECEIVING, State.ASSEMBLING, State.FAILED):
        set_state(upload, state)
        assert engine.settle([upload.pk]) == 0
    assert staged(upload.pk)


def test_settling_what_has_no_row_is_harmless():
    upload = begun()
    UploadSession.objects.all().delete()
    assert engine.settle([upload.pk]) == 0


def test_two_that_settle_at_once_tell_once(monkeypatch):
    upload = begun()
    set_state(upload, State.CANCELLED)
    release = FilesystemStore.release

    def slowly(self: Any, *args: Any) -> None:
        monkeypatch.setattr(FilesystemStore, "release", release)
        assert engine.settle([upload.pk]) == 0
        release(self, *args)

    monkeypatch.setattr(FilesystemStore, "release", slowly)
    with heard(*ENDS) as ends:
        assert engine.settle([upload.pk]) == 1
    assert ends == [upload.pk]


def test_who_settles_for_too_long_is_followed_by_another(monkeypatch):
    upload = begun()
    set_state(upload, State.CANCELLED)
    release = FilesystemStore.release

    def for_ages(self: Any, *args: Any) -> None:
        monkeypatch.setattr(FilesystemStore, "release", release)
        _age(upload)
        assert engine.settle([upload.pk]) == 1

    monkeypatch.setattr(FilesystemStore, "release", for_ages)
    with heard(*ENDS) as ends:
        assert engine.settle([upload.pk]) == 0
    assert ends == [upload.pk]
    assert now(upload).settled


def test_who_died_while_settling_is_followed_by_another(monkeypatch):
    upload = begun()

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FilesystemStore, "release", die)
        with pytest.raises(KeyboardInterrupt):
            engine.cancel(upload)
    assert engine.settle([upload.pk]) == 0
    _age(upload)
    with heard(*ENDS) as ends:
        assert engine.settle([upload.pk]) == 1
    assert ends == [upload.pk]
    assert nothing_is_left(upload)


def test_bytes_that_cannot_be_dropped_are_tried_again_later(monkeypatch):
    upload = begun()

    def broken(*args: Any) -> None:
        raise OSError("a disk that does not delete")

    with monkeypatch.context() as patch, heard(*ENDS) as ends:
        patch.setattr(FilesystemStore, "release", broken)
        engine.cancel(upload)
    row = now(upload)
    assert (row.state, row.settled, ends) == (State.CANCELLED, False, [])
    _age(upload)
    with heard(*ENDS) as ends:
        engine.settle([upload.pk])
    assert ends == [upload.pk]
    assert nothing_is_left(upload)


def test_one_upload_that_cannot_be_settled_does_not_keep_back_the_others(settings):
    broken, sound = begun(), open_upload(10)
    UploadSession.objects.filter(pk=broken.pk).update(storage="removed from settings")
    UploadSession.objects.update(state=State.CANCELLED)
    with heard(*ENDS) as ends:
        assert engine.settle([broken.pk, sound.pk]) == 1
    assert ends == [sound.pk]


def test_a_listener_that_fails_does_not_keep_the_upload_unsettled(caplog):
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("a listener's own mistake")

    signals.upload_cancelled.connect(fail)
    try:
        upload = begun()
        engine.cancel(upload)
    finally:
        signals.upload_cancelled.disconnect(fail)
    assert now(upload).settled
    assert "a listener's own mistake" in caplog.text


def test_listeners_hear_of_the_end_when_it_is_committed():
    seen = []

    def look(upload: UploadSession, **kwargs: Any) -> None:
        seen.append((upload.state, state_of(upload), staged(upload.pk)))

    signals.upload_cancelled.connect(look)
    try:
        engine.cancel(begun())
    finally:
        signals.upload_cancelled.disconnect(look)
    assert seen == [(State.CANCELLED, State.CANCELLED, [])]


def test_a_complete_upload_drops_its_chunks_and_keeps_its_file():
    with heard(*ENDS) as ends, heard(signals.upload_completed) as completed:
        upload = sent(DATA, 10)
    assert ends == completed == [upload.pk]
    assert not Chunk.objects.exists()
    assert staged(upload.pk) == []
    assert [path.read_bytes() for path in finished()] == [DATA]
    assert (upload.state, upload.settled, upload.lease) == (State.COMPLETE, True, "")


def test_a_client_key_is_free_as_soon_as_the_upload_has_ended():
    upload = begun()
    engine.cancel(upload)
    assert open_upload(95, 10, client_key="k").pk != upload.pk


def test_no_other_uploads_bytes_go_with_an_end():
    first, second = begun(), open_upload(95, 10)
    engine.put_chunk(second, 0, body(DATA[:10]))
    engine.cancel(first)
    assert (staged(second.pk)[0] / "data").read_bytes() == DATA[:10]
    assert Chunk.objects.get().upload_id == second.pk
    assert staging().exists()


def _age(upload: UploadSession) -> None:
    past = timezone.now() - timedelta(minutes=2)
    UploadSession.objects.filter(pk=upload.pk).update(active_at=past)
