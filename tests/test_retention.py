"""What nobody came back for goes; what is running, complete or claimed stays."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection, transaction
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from resumable_uploads import assembly, engine, errors, inline, retention, signals
from resumable_uploads.models import (
    GONE_STATES,
    OPEN_STATES,
    Chunk,
    Holding,
    OwnerLock,
    State,
    UploadSession,
)
from resumable_uploads.retention import Purged
from resumable_uploads.stores import FilesystemStore, store_for

from .making import (
    body,
    content,
    files_in,
    finished,
    heard,
    now,
    open_upload,
    read,
    sent,
    staged,
    staging,
    use,
    use_policy,
)
from .test_assembly import killed
from .test_stores import PathlessStorage, ReversingStorage, use_storage

pytestmark = pytest.mark.django_db(transaction=True)
DATA = content(95)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _nobody_assembles(settings: Any) -> None:
    use(settings, RUNNER="tests.making.lost_nudge", FSYNC="never")


def begun(**said: Any) -> UploadSession:
    upload = open_upload(95, 10, **said)
    engine.put_chunk(upload, 3, body(DATA[30:40]))
    return now(upload)


def many(count: int) -> list[UploadSession]:
    return [begun() for _ in range(count)]


def change(uploads: Iterable[UploadSession] | UploadSession, **facts: Any) -> None:
    uploads = [uploads] if isinstance(uploads, UploadSession) else uploads
    pks = [upload.pk for upload in uploads]
    UploadSession.objects.filter(pk__in=pks).update(**facts)


def ago(days: float) -> datetime:
    return timezone.now() - days * DAY


def states() -> list[str]:
    return sorted(UploadSession.objects.values_list("state", flat=True))


# Expiring


def test_uploads_whose_time_is_up_are_ended_and_their_bytes_dropped():
    old, young = begun(), begun()
    change(old, expires_at=ago(0.01))
    with heard(signals.upload_expired) as expired:
        assert retention.purge() == Purged(expired=1)
        assert retention.purge() == Purged()
    assert expired == [old.pk]
    assert (now(old).state, now(young).state) == (State.EXPIRED, State.RECEIVING)
    assert staged(old.pk) == []
    assert staged(young.pk)
    assert {chunk.upload_id for chunk in Chunk.objects.all()} == {young.pk}


def test_a_failed_upload_expires_as_well():
    change(begun(), state=State.FAILED, expires_at=ago(1))
    assert retention.purge().expired == 1


@pytest.mark.parametrize("state", [State.ASSEMBLING, State.COMPLETE])
@pytest.mark.parametrize("older_than", [None, timedelta(0)])
def test_what_is_assembled_or_complete_never_expires(state, older_than):
    upload = sent(DATA, 10)
    if state == State.COMPLETE:
        assembly.assemble(upload.pk)
    change(upload, expires_at=ago(99), active_at=ago(99))
    assert retention.purge(older_than=older_than) == Purged()
    assert now(upload).state == state


@pytest.mark.parametrize("state", OPEN_STATES)
def test_what_another_model_has_claimed_never_expires(state):
    upload = begun()
    change(
        upload, state=state, expires_at=ago(99), active_at=ago(99), claimed_at=ago(99)
    )
    assert retention.purge(older_than=timedelta(0)) == Purged()
    assert staged(upload.pk)


def test_an_upload_that_goes_on_meanwhile_does_not_expire(monkeypatch):
    """It was overdue when the batch was chosen; then its next chunk came."""
    running, idle = begun(), begun()
    change([running, idle], expires_at=ago(0.01))
    expire_all = engine.expire_all

    def late(rows: Any) -> int:
        change(running, expires_at=timezone.now() + DAY)
        return expire_all(rows)

    monkeypatch.setattr(engine, "expire_all", late)
    with heard(signals.upload_expired) as expired:
        assert retention.purge().expired == 1
    assert expired == [idle.pk]
    assert now(running).state == State.RECEIVING
    assert staged(running.pk)


def test_a_chunk_that_is_on_its_way_keeps_its_upload_from_expiring(settings):
    use_policy(settings, expires_in=timedelta(seconds=20))
    upload = open_upload(95, 10)
    change(upload, expires_at=timezone.now() + timedelta(milliseconds=50))

    def purge() -> None:
        time.sleep(0.1)
        assert retention.purge() == Purged()

    slow = body(DATA[:5], purge, DATA[5:10])
    assert engine.put_chunk(now(upload), 0, slow)[1]


def test_purging_while_bytes_arrive_leaves_nothing():
    upload = begun()

    def purge() -> None:
        change(upload, expires_at=ago(1))
        assert retention.purge().expired == 1

    with pytest.raises(errors.Gone):
        engine.put_chunk(now(upload), 0, body(DATA[:5], purge, DATA[5:10]))
    assert staged(upload.pk) == []
    assert not Chunk.objects.exists()


def test_uploads_idle_for_long_can_be_ended_before_their_time():
    idle, young, overdue = many(3)
    change(idle, active_at=ago(3))
    change(overdue, expires_at=ago(0.01))
    assert retention.purge(older_than=timedelta(days=2)) == Purged(expired=2)
    assert now(young).state == State.RECEIVING


def test_all_expire_however_many_batches_that_are():
    uploads = many(11)
    change(uploads, expires_at=ago(1))
    with heard(signals.upload_expired) as expired:
        assert retention.purge(batch_size=3).expired == 11
    assert sorted(expired) == sorted(upload.pk for upload in uploads)
    assert files_in(staging()) == []


def test_not_more_expire_than_asked_for():
    change(many(8), expires_at=ago(1))
    assert retention.purge(batch_size=3, at_most=4).expired == 4
    assert states().count("expired") == 4


def test_purging_takes_queries_by_the_batch(django_assert_max_num_queries):
    change(many(40), expires_at=ago(1))
    with django_assert_max_num_queries(20):
        assert retention.purge(batch_size=100).expired == 40


@pytest.mark.only_on("sqlite")
def test_each_batch_is_looked_up_by_its_keys(settings):
    """Else SQLite goes through all that have expired, for each batch of them anew.

    And to delete an upload, through no chunks but its own and those it has lent.
    """
    settings.RESUMABLE_UPLOADS |= {"TOMBSTONES_KEPT_FOR": timedelta(0)}
    change(many(6), expires_at=ago(1))
    with CaptureQueriesContext(connection) as asked:
        assert retention.purge(batch_size=3) == Purged(expired=6, forgotten=6)
    by_keys = [query["sql"] for query in asked if '"id" IN' in query["sql"]]
    assert len(by_keys) > 8
    for sql in by_keys:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = [row[3] for row in cursor.fetchall()]
        assert "(id=?)" in plan[0], sql
        assert not any("SCAN" in step for step in plan), (sql, plan)


def test_one_upload_that_cannot_be_dropped_does_not_stop_the_others(monkeypatch):
    uploads = many(7)
    change(uploads, expires_at=ago(1))
    release = FilesystemStore.release
    stuck = uploads[3].pk

    def broken(self: Any, upload_id: uuid.UUID, *args: Any) -> None:
        if upload_id == stuck:
            raise OSError("a disk that does not delete")
        release(self, upload_id, *args)

    with monkeypatch.context() as patch, heard(signals.upload_expired) as expired:
        patch.setattr(FilesystemStore, "release", broken)
        assert retention.purge(batch_size=2).expired == 7
    assert len(expired) == 6
    assert staged(stuck)
    change(uploads[3], active_at=ago(0.1))
    with heard(signals.upload_expired) as expired:
        assert retention.purge() == Purged(settled=1)
    assert expired == [stuck]
    assert staged(stuck) == []


def test_a_storage_that_was_removed_from_the_settings_stops_nobody():
    removed, other = many(2)
    change([removed, other], expires_at=ago(1))
    change(removed, storage="removed")
    with heard(signals.upload_expired) as expired:
        assert retention.purge().expired == 2
    assert expired == [other.pk]


# Counting only


def test_a_dry_run_counts_and_changes_nothing():
    expired, forgotten, unsettled, _ = many(4)
    change(expired, expires_at=ago(1))
    change(forgotten, state=State.CANCELLED, settled=True, expires_at=ago(1))
    change(unsettled, state=State.CANCELLED, active_at=ago(1))
    before = list(UploadSession.objects.order_by("pk").values())
    with heard(signals.upload_expired) as told:
        assert retention.purge(dry_run=True) == Purged(1, 1, 1)
    assert told == []
    assert list(UploadSession.objects.order_by("pk").values()) == before
    assert retention.purge() == Purged(1, 1, 1)


# Tombstones


@pytest.mark.parametrize("state", GONE_STATES)
def test_tombstones_are_kept_for_a_while_and_then_forgotten(settings, state):
    use(settings, TOMBSTONES_KEPT_FOR=timedelta(days=3))
    upload = begun()
    engine.cancel(upload)
    change(upload, state=state)
    row = now(upload)
    assert timedelta(days=2) < row.expires_at - timezone.now() <= timedelta(days=3)
    assert retention.purge().forgotten == 0
    change(upload, expires_at=ago(0.01))
    assert retention.purge() == Purged(forgotten=1)
    assert not UploadSession.objects.exists()


@pytest.mark.parametrize("state", [*OPEN_STATES, State.COMPLETE])
def test_only_tombstones_are_forgotten(state):
    upload = begun()
    change(
        upload,
        state=state,
        settled=True,
        claimed_at=ago(1),
        expires_at=ago(9),
        file="f",
        completed_at=ago(9),
    )
    assert retention.purge() == Purged()
    assert UploadSession.objects.exists()


def test_a_tombstone_that_is_not_settled_is_not_forgotten():
    upload = begun()
    change(upload, state=State.CANCELLED, expires_at=ago(1))
    assert retention.purge().forgotten == 0


def test_all_tombstones_are_forgotten_in_batches():
    change(many(11), state=State.CANCELLED)
    engine.settle(UploadSession.objects.values_list("pk", flat=True))
    UploadSession.objects.update(expires_at=ago(1))
    assert retention.purge(batch_size=4, at_most=5).forgotten == 5
    assert retention.purge(batch_size=4).forgotten == 6


def test_what_refers_to_a_tombstone_is_heeded():
    """Foreign keys of other apps have their on_delete, which listens to deletions."""
    deleted = []

    def note(instance: UploadSession, **kwargs: Any) -> None:
        deleted.append(instance.pk)

    upload = begun()
    engine.cancel(upload)
    change(upload, expires_at=ago(1))
    pre_delete.connect(note, sender=UploadSession)
    try:
        retention.purge()
    finally:
        pre_delete.disconnect(note, sender=UploadSession)
    assert deleted == [upload.pk]


def test_a_forgotten_tombstone_takes_no_file_along():
    """The name of its file was free, and somebody else has it now."""
    upload = sent(DATA)
    assembly.assemble(upload.pk)
    name = now(upload).file.name
    engine.cancel(now(upload))
    storages["default"].save(name, ContentFile(b"another's"))
    change(upload, expires_at=ago(1))
    assert retention.purge().forgotten == 1
    assert [path.read_bytes() for path in finished()] == [b"another's"]


# Left-overs


def test_what_a_dead_process_had_to_do_is_done():
    upload = begun()
    change(upload, state=State.CANCELLED)
    assert retention.purge() == Purged(), "somebody may be at it"
    change(upload, active_at=ago(0.1))
    with heard(signals.upload_cancelled) as cancelled:
        assert retention.purge() == Purged(settled=1)
    assert cancelled == [upload.pk]
    assert staged(upload.pk) == []


def test_left_overs_that_stay_do_not_keep_back_the_others():
    stuck, other = begun(), begun()
    change([stuck, other], state=State.CANCELLED, active_at=ago(1))
    change(stuck, storage="removed")
    settled = [retention.purge(batch_size=1).settled for _ in range(2)]
    assert sorted(settled) == [0, 1]


# Sending again


def test_an_assembly_whose_nudge_was_lost_is_sent_again(settings):
    upload = sent(DATA, 10)
    use(settings, RUNNER="inline")
    assert retention.resend() == 0, "its message may still be in line"
    change(upload, active_at=ago(0.1))
    assert retention.resend() == 1
    assert now(upload).state == State.COMPLETE
    assert read(upload) == DATA
    assert retention.resend() == 0


def test_an_assembly_whose_worker_died_is_sent_again(settings):
    upload = sent(DATA, 10)
    use(settings, RUNNER="inline")
    assert assembly._claim(upload.pk, "dead")
    assert retention.resend() == 0
    change(upload, active_at=ago(0.1))
    assert retention.resend() == 1
    assert read(upload) == DATA


def test_an_assembly_that_has_to_rest_is_not_sent_yet(settings):
    upload = sent(DATA, 10)
    change(upload, active_at=ago(1), retry_at=timezone.now() + DAY)
    assert retention.resend() == 0
    change(upload, retry_at=ago(0.1))
    assert retention.resend() == 1


def test_what_is_not_in_line_is_not_sent():
    upload = begun()
    for state in (s for s in State.values if s != State.ASSEMBLING):
        change(upload, state=state, file="f", completed_at=ago(1), active_at=ago(1))
        assert retention.resend() == 0


def test_a_worker_that_was_only_asleep_finds_that_it_was_replaced():
    upload = sent(DATA, 10)
    assert assembly._claim(upload.pk, "asleep")
    asleep = now(upload)
    assert assembly._mine(asleep).exists()
    change(upload, active_at=ago(0.1))
    assert retention.resend() == 1
    assert not assembly._mine(asleep).exists()


def test_sending_again_sends_all_in_turn(settings, monkeypatch):
    monkeypatch.setattr(retention, "RESEND_AT_MOST", 2)
    uploads = [sent(DATA, 10) for _ in range(5)]
    change(uploads, active_at=ago(1))
    assert [retention.resend() for _ in range(4)] == [2, 2, 1, 0]


# Orphans


def make_orphan(hours: float, upload_id: uuid.UUID | None = None) -> uuid.UUID:
    """Put bytes into a folder, as one that was touched so long ago."""
    upload_id = upload_id or uuid.uuid4()
    store = store_for("default")
    writer = store.writer(upload_id, 0, None)
    writer.write([memoryview(b"x")])
    writer.close()
    if isinstance(store, FilesystemStore):
        then = time.time() - hours * 3600
        os.utime(store.path(store.folder(upload_id)), (then, then))
    return upload_id


def test_bytes_without_a_row_are_swept_when_they_are_old():
    young, old = make_orphan(0.5), make_orphan(1.5)
    assert retention.sweep() == 1
    assert staged(young)
    assert staged(old) == []


@pytest.mark.parametrize("state", OPEN_STATES)
def test_bytes_of_an_open_upload_are_never_swept_however_old(state):
    upload = begun()
    change(upload, state=state, active_at=ago(999), created_at=ago(999))
    make_orphan(24 * 999, upload.pk)
    assert retention.sweep() == 0
    assert staged(upload.pk)


@pytest.mark.parametrize("state", [*GONE_STATES, State.COMPLETE])
def test_bytes_of_an_ended_upload_are_swept_however_young(state):
    upload = open_upload(95, 10)
    change(upload, state=state, settled=True, file="f", completed_at=ago(0))
    make_orphan(0, upload.pk)
    assert retention.sweep() == 1
    assert staged(upload.pk) == []


def test_what_is_no_uploads_folder_is_left_alone():
    make_orphan(5)
    other = staging() / "ab" / "notes.txt"
    other.parent.mkdir(exist_ok=True)
    other.write_text("somebody's")
    (staging() / "loose.txt").write_text("somebody's")
    assert retention.sweep() == 1
    assert other.exists()
    assert (staging() / "loose.txt").exists()


def test_an_empty_store_has_no_orphans():
    assert retention.sweep() == 0


@pytest.mark.parametrize("of", [ReversingStorage, PathlessStorage])
def test_orphans_are_swept_on_any_storage(settings, tmp_path, of, monkeypatch):
    monkeypatch.setattr(retention, "ORPHANS_ARE_OLDER_THAN", timedelta(seconds=-60))
    where = "/" if of is PathlessStorage else str(tmp_path / "own")
    use_storage(settings, of=of, location=where)
    orphan, kept = make_orphan(5), begun()
    assert retention.sweep() == 1
    assert list(store_for("default").uploads()) == [kept.pk]
    assert retention.sweep() == 0
    assert orphan != kept.pk


@pytest.mark.parametrize("has_row", [True, False])
def test_a_second_look_for_strays_never_takes_the_file(
    settings, tmp_path, monkeypatch, has_row
):
    """One that is claimed outlives its row."""
    monkeypatch.setattr(retention, "ORPHANS_ARE_OLDER_THAN", timedelta(0))
    use_storage(settings, of=ReversingStorage, location=str(tmp_path / "own"))
    use(settings, RUNNER="inline")
    upload, store = now(sent(DATA, 10)), store_for("default")
    assembly._expect_strays(store, upload)
    stray = store.final.save(upload.file_name, ContentFile(b"late"))
    assert stray != upload.file_name
    if not has_row:
        UploadSession.objects.filter(pk=upload.pk)._raw_delete("default")
    assert retention.sweep() == 1
    assert store.final.exists(upload.file_name)
    assert store.final.exists(stray) is not has_row
    assert store.doomed(upload.pk) == ""


def test_the_stores_of_all_policies_are_swept(settings, tmp_path):
    use_storage(settings, "films", location=str(tmp_path / "films"))
    use(settings, POLICIES={"default": {}, "films": {"storage": "films"}})
    upload = open_upload(95, 10, policy="films")
    engine.put_chunk(upload, 0, body(DATA[:10]))
    assert files_in(tmp_path / "films-staging")
    change(upload, state=State.CANCELLED, settled=True)
    assert retention.sweep() == 1
    assert files_in(tmp_path / "films-staging") == []


def test_an_orphan_that_cannot_be_dropped_does_not_stop_the_sweep(monkeypatch):
    orphans = [make_orphan(5) for _ in range(3)]
    release = FilesystemStore.release

    def broken(self: Any, upload_id: uuid.UUID, *args: Any) -> None:
        if upload_id == orphans[1]:
            raise OSError("a disk that does not delete")
        release(self, upload_id, *args)

    monkeypatch.setattr(FilesystemStore, "release", broken)
    assert retention.sweep() == 2
    assert staged(orphans[1])


# Deleted rows


def test_deleting_a_row_drops_its_bytes():
    upload, other = many(2)
    upload_id = upload.pk
    upload.delete()
    assert staged(upload_id) == []
    assert staged(other.pk)
    assert not Chunk.objects.filter(upload=upload_id).exists()


def test_deleting_many_rows_drops_their_bytes():
    many(3)
    UploadSession.objects.all().delete()
    assert files_in(staging()) == []


@pytest.mark.parametrize("of", [ReversingStorage, PathlessStorage])
def test_deleting_a_row_drops_its_bytes_on_any_storage(settings, tmp_path, of):
    where = "/" if of is PathlessStorage else str(tmp_path / "own")
    use_storage(settings, of=of, location=where)
    begun().delete()
    assert list(store_for("default").uploads()) == []


def test_deleting_the_row_of_a_complete_upload_deletes_its_file():
    upload = sent(DATA)
    assembly.assemble(upload.pk)
    folder = Path(now(upload).file.path).parent
    now(upload).delete()
    assert not folder.exists()


def test_deleting_a_row_that_was_loaded_before_it_was_complete_deletes_the_file():
    upload = sent(DATA)
    assembly.assemble(upload.pk)
    upload.delete()
    assert finished() == []


def test_deleting_the_row_of_a_claimed_upload_leaves_its_file():
    upload = sent(DATA)
    assembly.assemble(upload.pk)
    change(upload, claimed_at=timezone.now())
    upload.delete()
    assert [path.read_bytes() for path in finished()] == [DATA]


def test_deleting_a_row_drops_the_file_that_a_dead_assembly_has_made(monkeypatch):
    upload = sent(DATA)
    with killed(monkeypatch, assembly, "_complete", "before"):
        assembly.assemble(upload.pk)
    assert len(finished()) == 1
    now(upload).delete()
    assert finished() == []
    assert files_in(staging()) == []


def test_a_deletion_that_is_rolled_back_drops_nothing():
    upload = begun()
    with transaction.atomic():
        now(upload).delete()
        transaction.set_rollback(True)
    assert staged(upload.pk)
    assert now(upload).received == 10


# Among a million others


@pytest.mark.only_on("sqlite")
def test_no_purge_goes_through_what_is_not_to_be_purged():
    """Each batch is found by an index that leads to just those."""
    change(many(3), expires_at=ago(1))
    with CaptureQueriesContext(connection) as asked:
        retention.purge(batch_size=2)
    selects = [query["sql"] for query in asked if "LIMIT" in query["sql"]]
    indexes = set()
    with connection.cursor() as cursor:
        for text in selects:
            cursor.execute(f"EXPLAIN QUERY PLAN {text.replace('%', '%%')}", ())
            indexes |= {row[-1].split(" ORDER BY")[0] for row in cursor.fetchall()}
    table = "SEARCH resumable_uploads_uploadsession USING INDEX resumable_uploads_"
    assert {found for found in indexes if found.startswith("SEARCH")} >= {
        f"{table}expiry (state=? AND expires_at<?)",
        f"{table}unsettled (state=?)",
    }
    assert not any(found.startswith("SCAN") for found in indexes), indexes


def test_what_was_left_over_is_settled_in_batches_whatever_its_state():
    uploads = many(9)
    for number, upload in enumerate(uploads):
        change(upload, state=GONE_STATES[number % 3], settled=False, active_at=ago(1))
    assert retention.settle_left_overs(2) == 9
    assert not UploadSession.objects.filter(settled=False).exists()


def test_a_purge_goes_on_where_another_was_quicker(monkeypatch):
    change(many(5), expires_at=ago(1))
    expire_all, slower = engine.expire_all, [1]

    def second(rows):
        """Have another one do the first batch."""
        if slower:
            expire_all(rows)
            slower.clear()
        return expire_all(rows)

    monkeypatch.setattr(engine, "expire_all", second)
    assert retention.purge(batch_size=2).expired == 3
    assert set(UploadSession.objects.values_list("state", flat=True)) == {State.EXPIRED}


# All of it, now and then


def test_housekeeping_does_all_of_it(settings):
    use(settings, RUNNER="inline")
    stuck, overdue = open_upload(0), begun()
    change(stuck, state=State.ASSEMBLING, file="", completed_at=None, active_at=ago(1))
    change(overdue, expires_at=ago(1))
    OwnerLock.objects.create(owner="session:long ago", taken_at=ago(2))
    OwnerLock.objects.create(owner="session:alice", taken_at=ago(0))
    Holding.objects.create(key="default\nlong ago", held=1, counted_at=ago(2))
    assert retention.housekeep().expired == 1
    assert now(stuck).state == State.COMPLETE
    assert list(OwnerLock.objects.values_list("owner", flat=True)) == ["session:alice"]
    assert [row.key for row in Holding.objects.all()] == ["default\nsession:alice"]


def test_one_process_without_a_broker_keeps_house_now_and_then(settings, monkeypatch):
    kept: list[int] = []
    done = inline.threading.Event()
    monkeypatch.setattr(retention, "housekeep", lambda: kept.append(1))
    monkeypatch.setattr(retention, "sweep", done.set)
    monkeypatch.setattr(inline, "_last_housekeeping", time.monotonic())
    use(settings, RUNNER="inline", HOUSEKEEPING_EVERY=timedelta(hours=1))
    open_upload(10)
    assert not done.wait(0.05)
    monkeypatch.setattr(inline, "_last_housekeeping", time.monotonic() - 3601)
    open_upload(10)
    open_upload(10)
    assert done.wait(5)
    assert kept == [1]
