"""From chunks to the file: once, right, and whatever dies on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.files.storage import storages
from django.utils import timezone

from resumable_uploads import assembly, engine, errors, retention, signals
from resumable_uploads.body import CHECKSUM, checksum
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.stores import FilesystemStore, Store, base, filesystem

from .making import (
    body,
    content,
    finished,
    heard,
    now,
    open_upload,
    read,
    sent,
    staged,
    use,
    use_policy,
)
from .test_stores import ReversingStorage, use_storage

pytestmark = pytest.mark.django_db(transaction=True)
DATA = content(95)
SHA256 = hashlib.sha256(DATA).hexdigest()
ENDS = (signals.upload_completed, signals.upload_failed)


@pytest.fixture(autouse=True)
def _nobody_assembles(settings: Any) -> None:
    use(settings, RUNNER="tests.making.lost_nudge", FSYNC="never")


class SameName(UploadPolicy):
    """Gives all its files the same name."""

    def get_name(self, upload: UploadSession) -> str:
        return "same.bin"


class Looking(UploadPolicy):
    """Looks into the file, and may say no."""

    def validate(self, upload: UploadSession, file: Any) -> None:
        data = file.read()
        seen.append(data)
        if data.startswith(b"bad"):
            raise errors.Rejected("It is bad.")
        if data.startswith(b"ugly"):
            raise ValidationError(["It is ugly.", "Very."])
        if data.startswith(b"boom"):
            raise RuntimeError("the validator's own mistake")


seen: list[bytes] = []


def assemble(upload: UploadSession) -> bool:
    return assembly.assemble(upload.pk)


def age(upload: UploadSession, by: timedelta = timedelta(minutes=2)) -> None:
    """Let time pass since an upload's last sign of life."""
    rows = UploadSession.objects.filter(pk=upload.pk)
    rows.update(active_at=timezone.now() - by)
    rows.exclude(retry_at=None).update(retry_at=timezone.now() - by)


def failing(upload: UploadSession) -> None:
    with pytest.raises(errors.StorageUnavailable):
        assemble(upload)


def lose_bytes(upload: UploadSession) -> Path:
    """Take an upload's bytes away; return where they are."""
    data = staged(upload.pk)[0] / "data"
    away = data.with_name("away")
    data.rename(away)
    return away


# The file


@pytest.mark.parametrize("chunk_size", [10, None])
def test_the_file_is_what_was_sent(chunk_size):
    upload = sent(DATA, chunk_size)
    with heard(*ENDS) as ends, heard(signals.upload_completed) as completed:
        assert assemble(upload)
    row = now(upload)
    assert (row.state, row.lease, row.error) == (State.COMPLETE, "", "")
    assert row.completed_at
    assert read(row) == DATA
    assert row.checksum == f"{CHECKSUM}:{checksum(DATA):016x}"
    assert ends == completed == [upload.pk]
    assert not Chunk.objects.exists()
    assert staged(upload.pk) == []


def test_the_name_has_the_day_and_the_id_and_the_clients_name():
    upload = sent(DATA, filename="Grüße aus Köln?.tar.gz")
    assemble(upload)
    day = upload.created_at.strftime("uploads/%Y/%m/%d")
    assert now(upload).file.name == f"{day}/{upload.pk}/Grüße_aus_Köln_.tar.gz"


def test_a_second_assembly_finds_nothing_to_do():
    upload = sent(DATA)
    assert assemble(upload)
    with heard(*ENDS) as ends:
        assert not assemble(upload)
    assert ends == []
    assert len(finished()) == 1


@pytest.mark.parametrize(
    "state",
    [s for s in State.values if s not in (State.ASSEMBLING, State.COMPLETE)],
)
def test_only_what_is_in_line_is_assembled(state):
    upload = sent(DATA)
    UploadSession.objects.update(state=state)
    assert not assemble(upload)
    assert finished() == []


def test_what_has_no_row_is_not_assembled():
    upload = sent(DATA)
    UploadSession.objects.all().delete()
    assert not assembly.assemble(
        str(upload.id or "3f6b3c3e-0000-4000-8000-000000000000")
    )


def test_two_files_of_one_name_do_not_meet(settings):
    use(settings, POLICIES={"default": "tests.test_assembly.SameName"})
    first, second = sent(b"first"), sent(b"second")
    assert assemble(first)
    assert assemble(second)
    assert (read(first), read(second)) == (b"first", b"second")


def test_a_file_on_any_storage_is_what_was_sent(settings, tmp_path):
    use_storage(settings, of=ReversingStorage, location=str(tmp_path / "own"))
    upload = sent(DATA, 10)
    assert assemble(upload)
    assert read(upload) == DATA
    files = [path for path in (tmp_path / "own").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [DATA[::-1]]


def test_the_file_goes_to_the_storage_of_its_policy(settings, tmp_path):
    use_storage(settings, "films", location=str(tmp_path / "films"))
    use_policy(settings, storage="films")
    upload = sent(DATA)
    assert assemble(upload)
    assert Path(now(upload).file.path).is_relative_to(tmp_path / "films")
    assert read(upload) == DATA


# Checksums and validation


@pytest.mark.parametrize(
    "declared",
    [
        f"sha-256:{SHA256}",
        f"sha-512:{hashlib.sha512(DATA).hexdigest()}",
        f"md5:{hashlib.md5(DATA).hexdigest()}",
        f"{CHECKSUM}:{checksum(DATA):016x}",
    ],
)
def test_a_file_with_the_declared_checksum_is_complete(declared):
    upload = sent(DATA, 10, declared_checksum=declared)
    assert assemble(upload)
    assert now(upload).checksum == declared


@pytest.mark.parametrize("declared", [f"sha-256:{'0' * 64}", f"{CHECKSUM}:{'0' * 16}"])
def test_a_file_without_the_declared_checksum_is_rejected(declared):
    upload = sent(DATA, 10, declared_checksum=declared)
    with heard(*ENDS) as ends, heard(signals.upload_failed) as failed:
        assert not assemble(upload)
        assert not assemble(upload)
    row = now(upload)
    assert (row.state, row.error_code) == (State.REJECTED, "rejected")
    assert "checksum" in row.error
    assert ends == failed == [upload.pk]
    assert finished() == []
    assert staged(upload.pk) == []
    assert not Chunk.objects.exists()


def test_a_policy_may_want_a_digest_of_each_file(settings):
    use_policy(settings, digest="sha-256")
    upload = sent(DATA, 10)
    assert assemble(upload)
    assert now(upload).checksum == f"sha-256:{SHA256}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"bad file", "It is bad."), (b"ugly file", "It is ugly. Very.")],
)
def test_a_file_that_its_policy_refuses_is_rejected(settings, data, reason):
    use(settings, POLICIES={"default": "tests.test_assembly.Looking"})
    seen.clear()
    upload = sent(data, 3)
    with heard(signals.upload_failed) as failed:
        assert not assemble(upload)
    row = now(upload)
    assert seen == [data]
    assert (row.state, row.error, row.settled) == (State.REJECTED, reason, True)
    assert failed == [upload.pk]
    assert finished() == []
    assert staged(upload.pk) == []


@pytest.mark.parametrize("of", ["django.core.files.storage.FileSystemStorage", "own"])
def test_a_file_is_looked_at_whole_before_it_is_published(settings, tmp_path, of):
    of = ReversingStorage if of == "own" else of
    use_storage(settings, of=of, location=str(tmp_path / "own"))
    use(settings, POLICIES={"default": "tests.test_assembly.Looking"})
    seen.clear()
    upload = sent(DATA, 10)
    assert assemble(upload)
    assert seen == [DATA]
    assert read(upload) == DATA


def test_a_validator_that_fails_is_an_operators_matter(settings):
    use(settings, POLICIES={"default": "tests.test_assembly.Looking"})
    upload = sent(b"boom")
    with pytest.raises(RuntimeError):
        assemble(upload)
    row = now(upload)
    assert (row.state, row.error_code) == (State.ASSEMBLING, "assembly_failed")
    assert "own mistake" in row.error


# Chunks that do not make the file


def test_chunks_with_a_gap_never_make_a_file():
    upload = sent(DATA, 10)
    Chunk.objects.filter(number=4).delete()
    failing(upload)
    assert finished() == []


def test_chunks_that_end_too_early_never_make_a_file():
    upload = sent(DATA, 10)
    Chunk.objects.filter(number=9).delete()
    failing(upload)
    assert finished() == []


def test_bytes_that_are_gone_never_make_a_file():
    upload = sent(DATA, 10)
    lose_bytes(upload)
    failing(upload)
    assert finished() == []


# Failing and trying again


def test_a_failure_is_noted_and_tried_again_later():
    upload = sent(DATA, 10)
    away = lose_bytes(upload)
    failing(upload)
    row = now(upload)
    assert (row.state, row.attempts, row.lease) == (State.ASSEMBLING, 1, "")
    assert row.error_code == "storage_unavailable"
    assert "missing in the store" in row.error
    assert timezone.now() < row.retry_at <= timezone.now() + timedelta(seconds=2)
    assert 0 < assembly.wait_for_next_try(upload.pk) <= 2
    assert not assemble(upload), "it has to rest"
    age(upload)
    away.rename(away.with_name("data"))
    assert assemble(upload)
    row = now(upload)
    assert (row.state, row.error, row.error_code) == (State.COMPLETE, "", "")
    assert read(row) == DATA


def test_each_rest_is_longer_than_the_one_before():
    rests = [assembly.back_off(attempts) for attempts in range(1, 40)]
    assert rests[:3] == [
        timedelta(seconds=2),
        timedelta(seconds=4),
        timedelta(seconds=8),
    ]
    assert rests == sorted(rests)
    assert rests[-1] == timedelta(hours=1)


def test_after_the_last_attempt_it_is_failed_and_told_once(settings):
    use(settings, ASSEMBLY_ATTEMPTS=3)
    upload = sent(DATA, 10)
    away = lose_bytes(upload)
    with heard(*ENDS) as ends, heard(signals.upload_failed) as failed:
        for _ in range(3):
            assert ends == []
            failing(upload)
            age(upload)
        assert not assemble(upload)
    row = now(upload)
    assert (row.state, row.attempts) == (State.FAILED, 3)
    assert row.error_code == "storage_unavailable"
    assert row.expires_at > timezone.now() + timedelta(days=6)
    assert assembly.wait_for_next_try(upload.pk) is None
    assert ends == failed == [upload.pk]
    assert Chunk.objects.count() == 10, "an operator can still put it right"
    away.rename(away.with_name("data"))
    engine.finish(row)
    assert assemble(upload)
    assert read(upload) == DATA


def test_an_assembly_that_dies_each_time_is_failed_in_the_end(settings):
    """A worker that is killed writes nothing down; the attempts tell."""
    use(settings, ASSEMBLY_ATTEMPTS=3)
    upload = sent(DATA, 10)
    for _ in range(3):
        assert assembly._claim(upload.pk, "killed")
        age(upload)
    with heard(signals.upload_failed) as failed:
        assert not assemble(upload)
    assert failed == [upload.pk]
    row = now(upload)
    assert (row.state, row.error_code) == (State.FAILED, "storage_unavailable")


def test_nobody_waits_for_what_is_not_in_line():
    upload = open_upload(10)
    assert assembly.wait_for_next_try(upload.pk) is None


# Two workers


def test_a_worker_leaves_alone_what_another_one_has():
    upload = sent(DATA, 10)
    assert assembly._claim(upload.pk, "another")
    assert not assemble(upload)
    age(upload, timedelta(seconds=59))
    assert not assemble(upload)
    age(upload, timedelta(seconds=61))
    assert assemble(upload)


def test_signs_of_life_keep_the_lease(settings):
    use(settings, ASSEMBLY_TIMEOUT=timedelta(milliseconds=200))
    use(settings, POLICIES={"default": "tests.test_assembly.Patient"})
    upload = sent(DATA, 10)
    assert assemble(upload)
    assert tried == [False] * len(tried)
    assert len(tried) > 3


tried: list[bool] = []


class Patient(UploadPolicy):
    """Takes its time, during which others try to take over."""

    def validate(self, upload: UploadSession, file: Any) -> None:
        tried.clear()
        end = timezone.now() + timedelta(milliseconds=600)
        while timezone.now() < end:
            tried.append(assembly._claim(upload.pk, "another"))
            assembly.threading.Event().wait(0.05)


@contextmanager
def overtaken_at(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, upload: UploadSession
) -> Iterator[None]:
    """Let a worker fall asleep before a step, until another one has done it all."""
    step: Callable[..., Any] = getattr(owner, name)

    def sleep(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(owner, name, step)
        age(upload)
        assert assemble(upload)
        return step(*args, **kwargs)

    monkeypatch.setattr(owner, name, sleep)
    yield


@pytest.mark.parametrize("storage", ["folder", "other"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (assembly, "_checked"),
        (Store, "join"),
        (assembly, "_looked_at"),
        (assembly, "_planned_name"),
        (assembly, "_note_plan"),
        (Store, "publish"),
        (assembly, "_complete"),
    ],
)
def test_a_worker_that_wakes_up_late_takes_back_its_own_file_only(
    settings, monkeypatch, tmp_path, owner, name, storage
):
    monkeypatch.setattr(filesystem, "LOCK_WAITS", ())
    if storage == "other":
        use_storage(settings, of=ReversingStorage, location=str(tmp_path / "media"))
    if owner is Store:
        owner = FilesystemStore if storage == "folder" else Store
        if name == "publish":
            owner = filesystem.FilesystemWhole if storage == "folder" else base.Whole
    upload = sent(DATA, 10)
    with heard(*ENDS) as ends, overtaken_at(monkeypatch, owner, name, upload):
        assert not assemble(upload)
    assert now(upload).state == State.COMPLETE
    assert read(upload) == DATA
    assert len(finished()) == 1
    assert staged(upload.pk) == []
    assert ends == [upload.pk]


def test_cancelling_while_it_is_assembled_leaves_nothing(monkeypatch, caplog):
    for owner, name in (
        (FilesystemStore, "join"),
        (assembly, "_note_plan"),
        (filesystem.FilesystemWhole, "publish"),
        (assembly, "_complete"),
    ):
        upload = sent(DATA, 10)
        step = getattr(owner, name)

        def cancelled(
            *args: Any, step: Any = step, upload: Any = upload, **kwargs: Any
        ) -> Any:
            engine.cancel(upload)
            return step(*args, **kwargs)

        with monkeypatch.context() as patch, heard(*ENDS) as ends:
            patch.setattr(owner, name, cancelled)
            assert not assemble(upload)
        assert ends == []
        assert now(upload).state == State.CANCELLED
        assert finished() == []
        assert staged(upload.pk) == []
    assert "could not be assembled" not in caplog.text


def test_deleting_the_row_while_it_is_assembled_leaves_nothing(monkeypatch):
    upload = sent(DATA, 10)
    upload_id = upload.pk
    complete = assembly._complete

    def deleted(*args: Any) -> None:
        UploadSession.objects.all().delete()
        complete(*args)

    monkeypatch.setattr(assembly, "_complete", deleted)
    assert not assemble(upload)
    assert finished() == []
    assert staged(upload_id) == []


# Deaths: after each step, the next worker makes it good

STEPS: list[tuple[Any, str]] = [
    (assembly, "_claim"),
    (assembly, "_checked"),
    (FilesystemStore, "join"),
    (FilesystemStore, "_fill"),
    (assembly, "_looked_at"),
    (assembly, "_planned_name"),
    (assembly, "_note_plan"),
    (filesystem, "make_folders"),
    (filesystem.FilesystemWhole, "_prepare"),
    (filesystem.FilesystemWhole, "_link"),
    (filesystem, "sync_folder"),
    (filesystem.FilesystemWhole, "publish"),
    (assembly, "_complete"),
    (engine.ending, "_settle"),
    (FilesystemStore, "release"),
    (engine.ending, "_drop_bytes"),
]


class Killed(BaseException):
    """The process is no more."""


@contextmanager
def killed(patch: pytest.MonkeyPatch, owner: Any, name: str, when: str):
    """Kill what runs into a step, before or after it."""
    step: Callable[..., Any] = getattr(owner, name)

    def die(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            step(*args, **kwargs)
        raise Killed

    patch.setattr(owner, name, die)
    with pytest.raises(Killed):
        yield
    patch.setattr(owner, name, step)


def next_day(upload: UploadSession) -> None:
    """Let another process find what a dead one has left, as housekeeping does."""
    age(upload)
    retention.housekeep()
    age(upload)
    retention.housekeep()


@pytest.mark.parametrize("links", ["links", "no links"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_death_at_any_step_is_made_good_by_the_next(
    settings, monkeypatch, owner, name, when, links
):
    if links == "no links":

        def refuse(*args: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(filesystem.os, "link", refuse)
    upload = sent(DATA, 10)
    with heard(*ENDS) as ends:
        with killed(monkeypatch, owner, name, when):
            assemble(upload)
        use(settings, RUNNER="inline")
        next_day(upload)
    row = now(upload)
    assert (row.state, row.settled) == (State.COMPLETE, True)
    assert read(row) == DATA
    assert len(finished()) == 1
    assert staged(upload.pk) == []
    assert ends == [upload.pk]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (assembly, "_note_plan"),
        (ReversingStorage, "_save"),
        (base.Whole, "publish"),
        (assembly, "_complete"),
        (Store, "release"),
        (engine.ending, "_drop_bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_death_at_any_step_on_any_storage_is_made_good_by_the_next(
    settings, monkeypatch, tmp_path, owner, name, when
):
    use_storage(settings, of=ReversingStorage, location=str(tmp_path / "media"))
    upload = sent(DATA, 10)
    with heard(*ENDS) as ends:
        with killed(monkeypatch, owner, name, when):
            assemble(upload)
        use(settings, RUNNER="inline")
        next_day(upload)
    assert now(upload).state == State.COMPLETE
    # An hour later it is looked whether the first worker was only asleep.
    monkeypatch.setattr(retention, "ORPHANS_ARE_OLDER_THAN", timedelta(0))
    retention.sweep()
    assert read(upload) == DATA
    assert len(finished()) == 1
    assert ends == [upload.pk]


def test_a_death_while_the_listeners_are_told_tells_them_again(settings, monkeypatch):
    """One that has heard nothing would be worse."""
    upload = sent(DATA, 10)
    with heard(*ENDS) as ends:
        with killed(monkeypatch, signals, "send_after_commit", "after"):
            assemble(upload)
        use(settings, RUNNER="inline")
        next_day(upload)
    assert ends == [upload.pk, upload.pk]


def test_a_death_in_the_middle_of_a_copy_is_made_good(settings, monkeypatch):
    """A chunk that lies beside is copied in place, again from the start."""
    monkeypatch.setattr(filesystem, "_SET_LOCK", None)
    upload = sent(DATA, 10)
    with killed(monkeypatch, filesystem, "copy_range", "after"):
        assemble(upload)
    age(upload)
    assert assemble(upload)
    assert read(upload) == DATA
    assert staged(upload.pk) == []


def test_a_file_that_was_published_is_not_made_again(monkeypatch):
    upload = sent(DATA, 10)
    with killed(monkeypatch, assembly, "_complete", "before"):
        assemble(upload)
    (path,) = finished()
    before = path.stat().st_ino
    monkeypatch.setattr(FilesystemStore, "join", None)
    age(upload)
    assert assemble(upload)
    assert [p.stat().st_ino for p in finished()] == [before]
    assert now(upload).checksum == f"{CHECKSUM}:{checksum(DATA):016x}"


def test_a_database_that_fails_at_the_end_costs_nothing(monkeypatch):
    upload = sent(DATA, 10)
    complete = assembly._complete

    def lost(*args: Any) -> None:
        monkeypatch.setattr(assembly, "_complete", complete)
        raise ConnectionResetError("the database went away")

    monkeypatch.setattr(assembly, "_complete", lost)
    with heard(*ENDS) as ends:
        with pytest.raises(ConnectionResetError):
            assemble(upload)
        age(upload)
        assert assemble(upload)
    assert ends == [upload.pk]
    assert read(upload) == DATA
    assert len(finished()) == 1


def test_a_commit_whose_outcome_was_lost_costs_nothing(settings, monkeypatch):
    upload = sent(DATA, 10)
    complete = assembly._complete

    def lost(*args: Any) -> None:
        complete(*args)
        raise ConnectionResetError("the database went away")

    with heard(*ENDS) as ends:
        with monkeypatch.context() as patch:
            patch.setattr(assembly, "_complete", lost)
            assert not assemble(upload)
        next_day(upload)
    assert now(upload).settled
    assert ends == [upload.pk]
    assert read(upload) == DATA
    assert len(finished()) == 1


def test_a_name_that_another_took_over_is_not_dropped(settings, monkeypatch):
    """Without the upload's id in the name, the file there may be anybody's."""
    use(settings, POLICIES={"default": "tests.test_assembly.SameName"})
    upload = sent(DATA, 10)
    with killed(monkeypatch, assembly, "_note_plan", "after"):
        assemble(upload)
    other = sent(b"x" * 95)
    assert assemble(other)
    age(upload)
    assert assemble(upload)
    assert read(other) == b"x" * 95
    assert read(upload) == DATA
    assert storages["default"].exists("same.bin")


def test_an_upload_goes_on_after_a_death_between_two_chunks():
    upload = open_upload(95, 10)
    engine.put_chunk(upload, 0, body(DATA[:10]))
    with pytest.raises(Killed):
        engine.put_chunk(now(upload), 1, body(DATA[10:15], _die, length=10))
    for number in range(1, 10):
        data = DATA[number * 10 : number * 10 + 10]
        engine.put_chunk(now(upload), number, body(data))
    assert assemble(upload)
    assert read(upload) == DATA


def _die() -> None:
    raise Killed


# Bytes that have changed since they came


def spoil(upload: UploadSession) -> None:
    """Change a byte behind everybody's back, as a disk or a power failure does."""
    chunk = Chunk.objects.filter(upload=upload).latest("number")
    path = store_of(upload).path(chunk.key)
    with path.open("r+b") as file:
        file.seek(chunk.start)
        file.write(bytes([DATA[chunk.offset or 0] ^ 1]))


def store_of(upload: UploadSession) -> FilesystemStore:
    return FilesystemStore(upload.storage)


def test_after_a_failure_the_bytes_are_read_back(monkeypatch):
    upload = sent(DATA, 10)
    with monkeypatch.context() as patch:
        patch.setattr(FilesystemStore, "join", broken_join)
        failing(upload)
    spoil(upload)
    age(upload)
    failing(upload)
    assert "have changed" in now(upload).error
    assert finished() == []


def broken_join(*args: Any) -> None:
    raise errors.StorageUnavailable("a disk fails")


def test_bytes_from_before_the_machine_was_started_are_read_back(monkeypatch):
    upload = sent(DATA, 10)
    begun = upload.created_at.timestamp() + 1
    monkeypatch.setattr(assembly, "_machine_began_at", lambda: begun)
    spoil(upload)
    failing(upload)
    assert "have changed" in now(upload).error
    assert finished() == []


def test_what_has_not_changed_is_complete_after_a_start_of_the_machine(monkeypatch):
    upload = sent(DATA, 10)
    begun = upload.created_at.timestamp() + 1
    monkeypatch.setattr(assembly, "_machine_began_at", lambda: begun)
    assert assemble(upload)
    assert read(now(upload)) == DATA
