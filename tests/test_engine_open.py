"""Opening an upload, finding it again, and what is refused at the door."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.db.models.signals import pre_init
from django.utils import timezone

from resumable_uploads import engine, errors, signals
from resumable_uploads.engine.rows import made
from resumable_uploads.models import Chunk, Holding, OwnerLock, State, UploadSession
from resumable_uploads.owners import NOBODY, Owner
from resumable_uploads.policies import UploadPolicy, get_policy

from .making import (
    ALICE,
    BOB,
    body,
    heard,
    lost_nudge,
    now,
    open_upload,
    read,
    use,
    use_policy,
)

pytestmark = pytest.mark.django_db
transactional = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nobody_assembles(settings: Any) -> None:
    use(settings, RUNNER="tests.making.lost_nudge")


def make_overdue(upload: UploadSession) -> None:
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.filter(pk=upload.pk).update(expires_at=past)


def count() -> int:
    return UploadSession.objects.count()


# What is kept of what a client says


def test_an_upload_keeps_what_its_client_said():
    upload = open_upload(
        1000,
        100,
        filename="a/b/Film.mp4",
        content_type="video/mp4",
        relative_path="../x//y",
        metadata={"k": ["v"]},
        declared_checksum="sha-256:" + "0" * 64,
        ends_when_full=False,
        client_key="mine",
    )
    row = UploadSession.objects.get(pk=upload.pk)
    assert (row.filename, row.relative_path) == ("Film.mp4", "x/y")
    assert (row.length, row.chunk_size, row.received) == (1000, 100, 0)
    assert row.metadata == {"k": ["v"]}
    assert row.content_type == "video/mp4"
    assert row.declared_checksum == "sha-256:" + "0" * 64
    assert (row.client_key, row.owner, row.user) == ("mine", ALICE.key, None)
    assert not row.ends_when_full
    assert (row.state, row.missing) == (State.RECEIVING, [(0, 9)])


def test_an_upload_belongs_to_the_user_who_opened_it():
    user = User.objects.create(username="carol")
    upload = open_upload(1, owner=Owner(f"user:{user.pk}", user))
    assert upload.user == user
    user.delete()
    upload.refresh_from_db()
    assert upload.user is None


@pytest.mark.parametrize("name", ["", "..", "a/", "\x00\u200b"])
def test_a_file_has_a_name(name):
    with pytest.raises(errors.Invalid):
        open_upload(1, filename=name)
    assert count() == 0


@pytest.mark.parametrize("length", [-1, 2**63])
def test_a_length_is_one_that_can_be(length, settings):
    use_policy(settings, max_size=None, quota=None)
    with pytest.raises(errors.Invalid):
        open_upload(length)


@pytest.mark.parametrize(
    "checksum",
    [
        "sha-256",
        "sha-256:",
        "sha-256:" + "g" * 64,
        "sha-256:" + "A" * 64,
        "crc32c:00000000",
        "crc64nvme:123",
    ],
)
def test_a_declared_checksum_that_cannot_be_compared_is_refused(checksum):
    with pytest.raises(errors.Invalid) as caught:
        open_upload(1, declared_checksum=checksum)
    assert "crc64nvme" in caught.value.facts["algorithms"]


def test_an_empty_file_is_full_when_it_is_opened():
    upload = open_upload(0)
    assert upload.state == State.ASSEMBLING


def test_an_empty_file_that_its_client_ends_stays_open():
    upload = open_upload(0, ends_when_full=False)
    assert upload.state == State.RECEIVING


# Geometry


def test_a_chunk_size_is_advised_to_clients_that_have_none(settings):
    use(settings, CHUNK_SIZE=100)
    assert open_upload(1000, advise_chunk_size=True).chunk_size == 100
    assert open_upload(1000).chunk_size is None


def test_the_advised_chunk_size_grows_until_the_chunks_are_not_too_many(settings):
    use(settings, CHUNK_SIZE=100, MAX_CHUNKS=10)
    assert open_upload(1001, advise_chunk_size=True).chunk_size == 200
    assert open_upload(1000, advise_chunk_size=True).chunk_size == 100


def test_a_file_that_no_chunk_size_fits_is_refused(settings):
    use(settings, CHUNK_SIZE=100, MAX_CHUNKS=10, MAX_CHUNK_SIZE=200)
    assert open_upload(2000, advise_chunk_size=True).chunk_size == 200
    with pytest.raises(errors.Invalid):
        open_upload(2001, advise_chunk_size=True)


@pytest.mark.parametrize("chunk_size", [0, -1, 257])
def test_an_impossible_chunk_size_is_refused(settings, chunk_size):
    use(settings, MAX_CHUNK_SIZE=256)
    with pytest.raises(errors.Invalid) as caught:
        open_upload(1000, chunk_size)
    assert caught.value.facts == {"max_chunk_size": 256}


def test_more_chunks_than_there_may_be_are_refused(settings):
    use(settings, MAX_CHUNKS=10)
    open_upload(1000, 100)
    with pytest.raises(errors.Invalid) as caught:
        open_upload(1001, 100)
    assert caught.value.facts == {"max_chunks": 10}


# Finding it again


def test_the_same_client_key_finds_the_same_upload():
    first = open_upload(100, 10, client_key="k")
    policy = get_policy("default")
    new = engine.NewUpload("film.mp4", 100, client_key="k", chunk_size=10)
    second, created = engine.open(ALICE, "test", policy, new)
    assert second.pk == first.pk
    assert not created
    assert count() == 1


def test_what_is_there_is_seen_when_it_is_found():
    upload = open_upload(25, 10, client_key="k")
    engine.put_chunk(upload, 1, body(b"x" * 10))
    found = open_upload(25, 10, client_key="k")
    assert (found.received, found.missing) == (10, [(0, 0), (2, 2)])


def test_an_advised_chunk_size_is_not_another_geometry(settings):
    first = open_upload(100, client_key="k", advise_chunk_size=True)
    use(settings, CHUNK_SIZE=7)
    assert open_upload(100, client_key="k", advise_chunk_size=True).pk == first.pk


@pytest.mark.parametrize(
    "other",
    [{"length": 101}, {"length": None}, {"chunk_size": 11}, {"chunk_size": None}],
)
def test_the_same_client_key_with_another_geometry_is_refused(other):
    first = open_upload(100, 10, client_key="k")
    with pytest.raises(errors.ClientKeyInUse) as caught:
        open_upload(**({"length": 100, "chunk_size": 10} | other), client_key="k")
    assert caught.value.facts["id"] == str(first.pk)


def test_client_keys_of_others_are_others():
    first = open_upload(100, client_key="k")
    assert open_upload(100, client_key="k", owner=BOB).pk != first.pk
    new = engine.NewUpload("film.mp4", 100, client_key="k")
    other = engine.open(ALICE, "another", get_policy("default"), new)[0]
    assert other.pk != first.pk


def test_uploads_without_a_client_key_are_never_the_same():
    assert open_upload(100).pk != open_upload(100).pk
    assert open_upload(100, client_key="").client_key is None


@pytest.mark.parametrize("state", [State.CANCELLED, State.EXPIRED, State.REJECTED])
def test_a_client_key_is_free_again_after_the_end(state):
    first = open_upload(100, client_key="k")
    UploadSession.objects.filter(pk=first.pk).update(state=state)
    assert open_upload(100, client_key="k").pk != first.pk


def test_a_client_key_is_free_again_when_the_file_is_complete():
    first = open_upload(100, client_key="k")
    UploadSession.objects.filter(pk=first.pk).update(
        state=State.COMPLETE, file="f", completed_at=timezone.now()
    )
    assert open_upload(100, client_key="k").pk != first.pk


def test_finding_an_upload_slides_its_expiry(settings):
    upload = open_upload(100, client_key="k")
    soon = timezone.now() + timedelta(hours=1)
    UploadSession.objects.filter(pk=upload.pk).update(expires_at=soon)
    open_upload(100, client_key="k")
    upload.refresh_from_db()
    assert upload.expires_at > timezone.now() + timedelta(days=6)


def test_an_overdue_upload_is_not_found_by_its_key_but_replaced():
    first = open_upload(100, client_key="k")
    make_overdue(first)
    second = open_upload(100, client_key="k")
    assert second.pk != first.pk
    first.refresh_from_db()
    assert first.state == State.EXPIRED


@transactional
def test_an_opened_upload_is_returned_as_it_is_in_the_database():
    for length, ends in [(None, True), (5, True), (0, True), (0, False), (5, False)]:
        upload = open_upload(length, 10, ends_when_full=ends, metadata={"k": [1]})
        found = UploadSession.objects.get(pk=upload.pk)
        assert vars(upload) | {"_state": None} == vars(found) | {"_state": None}


def test_an_opening_that_never_succeeds_ends(monkeypatch):
    """An upload that is always opened and ended by others cannot be waited for."""
    tries = []

    def conflict(*args: Any, **kwargs: Any) -> None:
        tries.append(1)
        raise IntegrityError("another reason")

    monkeypatch.setattr(engine.opening, "add", conflict)
    with pytest.raises(IntegrityError):
        open_upload(1, client_key="k")
    assert len(tries) <= 20


# Whose it is


def test_an_upload_is_found_by_its_owner():
    upload = open_upload(1)
    assert engine.find(ALICE, upload.pk) == upload
    assert engine.find(ALICE, str(upload.pk)) == upload


@pytest.mark.parametrize("owner", [BOB, NOBODY, Owner("session:"), Owner("user:1")])
def test_an_upload_is_not_found_by_others(owner):
    upload = open_upload(1)
    with pytest.raises(errors.NotFound):
        engine.find(owner, upload.pk)


def test_nobody_does_not_find_what_belongs_to_nobody():
    upload = open_upload(1)
    UploadSession.objects.update(owner="")
    with pytest.raises(errors.NotFound):
        engine.find(NOBODY, upload.pk)


@pytest.mark.parametrize("name", ["", "x", "../../etc/passwd", uuid.uuid4(), None, 5])
def test_what_is_no_upload_is_not_found(name):
    with pytest.raises(errors.NotFound):
        engine.find(ALICE, name)


def test_an_upload_whose_row_is_gone_cannot_be_refreshed():
    upload = open_upload(1)
    UploadSession.objects.all().delete()
    with pytest.raises(errors.NotFound):
        engine.refreshed(upload)


# Limits of the policy


def test_nobody_may_not_upload():
    with pytest.raises(errors.PermissionDenied):
        open_upload(1, owner=NOBODY)


def test_visitors_may_be_kept_out(settings):
    use_policy(settings, anonymous=False)
    with pytest.raises(errors.PermissionDenied):
        open_upload(1)
    user = User.objects.create(username="carol")
    assert open_upload(1, owner=Owner("user:1", user))


def test_a_file_that_is_too_large_is_refused(settings):
    use_policy(settings, max_size=100)
    assert open_upload(100)
    with pytest.raises(errors.TooLarge) as caught:
        open_upload(101)
    assert caught.value.facts == {"max_size": 100}


def test_a_file_of_a_forbidden_type_is_refused(settings):
    use_policy(settings, allowed_extensions=["PDF"], allowed_types=["application/pdf"])
    assert open_upload(1, filename="a.Pdf")
    for said in ({"filename": "a.exe"}, {"filename": "a.pdf", "content_type": "a/b"}):
        with pytest.raises(errors.TypeNotAllowed):
            open_upload(1, **said)
    assert count() == 1


def test_an_owner_may_have_so_many_uploads_open(settings):
    use_policy(settings, max_open=2)
    first = open_upload(1)
    open_upload(1)
    with pytest.raises(errors.TooManyUploads) as caught:
        open_upload(1)
    assert caught.value.facts == {"max_open": 2}
    open_upload(1, owner=BOB)
    engine.cancel(first)
    open_upload(1)


def test_an_open_upload_is_found_though_there_may_be_no_more(settings):
    use_policy(settings, max_open=1)
    first = open_upload(1, client_key="k")
    assert open_upload(1, client_key="k").pk == first.pk


def test_uploads_whose_time_is_up_are_not_counted_as_open(settings):
    use_policy(settings, max_open=1, quota=10)
    make_overdue(open_upload(10))
    open_upload(10)


def test_announced_bytes_count_against_the_quota(settings):
    use_policy(settings, quota=100)
    open_upload(60)
    with pytest.raises(errors.QuotaExceeded) as caught:
        open_upload(41)
    assert caught.value.facts == {"quota": 100}
    open_upload(40)


def test_finished_files_count_against_the_quota_and_gone_ones_do_not(settings):
    use_policy(settings, quota=100)
    complete, cancelled = open_upload(50), open_upload(50)
    UploadSession.objects.filter(pk=complete.pk).update(
        state=State.COMPLETE, file="f", completed_at=timezone.now()
    )
    engine.cancel(cancelled)
    open_upload(50)
    with pytest.raises(errors.QuotaExceeded):
        open_upload(1)


def test_quotas_are_each_owners_and_each_policys(settings):
    use(settings, POLICIES={name: {"quota": 100} for name in ("default", "other")})
    open_upload(100)
    open_upload(100, owner=BOB)
    open_upload(100, policy="other")
    with pytest.raises(errors.QuotaExceeded):
        open_upload(1, policy="other")


def test_an_upload_of_unknown_length_counts_as_it_grows(settings):
    use_policy(settings, quota=100)
    first, second = open_upload(), open_upload()
    engine.append(first, 0, body(b"x" * 60))
    with pytest.raises(errors.QuotaExceeded):
        engine.append(second, 0, body(b"x" * 41))
    assert now(second).received == 0
    engine.append(now(second), 0, body(b"x" * 40))


def test_where_nothing_is_limited_nothing_is_locked(settings):
    use_policy(settings, quota=None, max_open=None)
    open_upload(1)
    assert not OwnerLock.objects.exists()
    assert not Holding.objects.exists()


class GenerousToCarol(UploadPolicy):
    quota = 10

    def get_quota(self, owner: Owner) -> int | None:
        return 10**6 if owner.key == "session:carol" else self.quota

    def get_max_size(self, owner: Owner) -> int | None:
        return 10**6 if owner.key == "session:carol" else 10


def test_limits_may_depend_on_who_asks(settings):
    use(settings, POLICIES={"default": "tests.test_engine_open.GenerousToCarol"})
    open_upload(1000, owner=Owner("session:carol"))
    with pytest.raises(errors.TooLarge):
        open_upload(11)


def test_a_refused_upload_leaves_nothing(settings):
    use_policy(settings, quota=1)
    with pytest.raises(errors.QuotaExceeded):
        open_upload(2, client_key="k")
    assert count() == 0
    assert not Chunk.objects.exists()


# Expiry


def test_an_upload_expires_after_its_policys_time(settings):
    use_policy(settings, expires_in=timedelta(hours=5))
    upload = open_upload(1)
    assert upload.expires_at - upload.created_at == timedelta(hours=5)


def test_activity_slides_the_expiry():
    upload = open_upload(100)
    early = timezone.now() + timedelta(days=1)
    UploadSession.objects.filter(pk=upload.pk).update(expires_at=early)
    engine.append(now(upload), 0, body(b"x"))
    assert now(upload).expires_at > timezone.now() + timedelta(days=6)


def test_a_numbered_chunk_slides_the_expiry_too():
    upload = open_upload(100, 10)
    early = timezone.now() + timedelta(days=1)
    UploadSession.objects.filter(pk=upload.pk).update(expires_at=early)
    engine.put_chunk(now(upload), 3, body(b"x" * 10))
    assert now(upload).expires_at > timezone.now() + timedelta(days=6)


def test_the_expiry_slides_when_a_chunk_begins_to_arrive():
    """So that it does not expire while the chunk is still on its way."""
    upload = open_upload(100, 10)
    early = timezone.now() + timedelta(days=1)
    UploadSession.objects.filter(pk=upload.pk).update(expires_at=early)
    seen = []
    engine.put_chunk(
        now(upload),
        3,
        body(lambda: seen.append(now(upload).expires_at), b"x" * 10),
    )
    assert seen[0] > timezone.now() + timedelta(days=6)


def test_the_expiry_is_not_written_with_every_chunk():
    upload = open_upload(100, 10)
    engine.put_chunk(now(upload), 0, body(b"x" * 10))
    assert now(upload).expires_at == upload.expires_at


def test_the_expiry_never_slides_past_the_cap(settings):
    use(
        settings,
        RECORDS_EXPIRE_IN=timedelta(days=7),
        EXPIRE_AT_MOST=timedelta(days=10),
    )
    upload = open_upload(100)
    past = timezone.now() - timedelta(days=6)
    UploadSession.objects.filter(pk=upload.pk).update(
        created_at=past, expires_at=past + timedelta(days=7)
    )
    engine.append(now(upload), 0, body(b"x"))
    assert now(upload).expires_at == past + timedelta(days=10)


def test_a_policy_may_have_a_cap_of_its_own(settings):
    use_policy(
        settings, expires_in=timedelta(days=2), expires_at_most=timedelta(days=1)
    )
    upload = open_upload(1)
    assert upload.expires_at - upload.created_at == timedelta(days=1)


def test_an_overdue_upload_is_gone_before_any_purge():
    upload = open_upload(10)
    stale = now(upload)
    make_overdue(upload)
    found = now(upload)
    assert found.state == State.EXPIRED
    with pytest.raises(errors.Gone) as caught:
        engine.append(found, 0, body(b"x"))
    assert caught.value.facts == {"state": "expired"}
    with pytest.raises(errors.Gone):
        engine.append(stale, 0, body(b"x"))
    with pytest.raises(errors.Gone):
        engine.finish(found)


def test_an_upload_that_is_assembled_or_complete_is_never_overdue():
    upload = open_upload(0)
    make_overdue(upload)
    assert now(upload).state == State.ASSEMBLING


# Who hears of it


@transactional
def test_an_opened_upload_is_told_once():
    with heard(signals.upload_created) as created:
        upload = open_upload(10, client_key="k")
        open_upload(10, client_key="k")
    assert created == [upload.pk]


@transactional
def test_a_refused_upload_is_not_told(settings):
    use_policy(settings, quota=1)
    with heard(signals.upload_created) as created, pytest.raises(errors.TooLarge):
        open_upload(2)
    assert created == []


@transactional
def test_an_empty_file_is_told_first_as_created_and_then_as_completed(settings):
    use(settings, RUNNER="inline")
    told: list[str] = []

    def on_created(**kwargs: Any) -> None:
        told.append("created")

    def on_completed(**kwargs: Any) -> None:
        told.append("completed")

    signals.upload_created.connect(on_created)
    signals.upload_completed.connect(on_completed)
    try:
        upload = open_upload(0)
    finally:
        signals.upload_created.disconnect(on_created)
        signals.upload_completed.disconnect(on_completed)
    assert told == ["created", "completed"]
    assert upload.state == State.COMPLETE
    assert read(upload) == b""


@transactional
def test_a_listener_that_fails_costs_nothing(caplog):
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("a listener's own mistake")

    signals.upload_created.connect(fail)
    try:
        with heard(signals.upload_created) as created:
            upload = open_upload(10)
    finally:
        signals.upload_created.disconnect(fail)
    assert created == [upload.pk]
    assert "a listener's own mistake" in caplog.text


def test_the_runner_of_these_tests_does_nothing():
    assert lost_nudge("assemble", uuid.uuid4()) is None


def test_the_same_client_key_under_another_policy_is_refused(settings):
    use(settings, POLICIES={"default": {}, "other": {}})
    upload = open_upload(10, client_key="film")
    with pytest.raises(errors.ClientKeyInUse) as refusal:
        open_upload(10, client_key="film", policy="other")
    assert refusal.value.facts["id"] == str(upload.pk)


def test_a_row_is_made_as_django_would_make_it():
    now = timezone.now()
    said = {"filename": "a.bin", "created_at": now, "metadata": {"a": 1}}
    for values in ({}, said):
        ours, djangos = made(**values), UploadSession(**values)
        for field in UploadSession._meta.concrete_fields:
            if not field.primary_key:
                assert field.value_from_object(ours) == field.value_from_object(djangos)
        assert ours._state.adding
    one, other = made(), made()
    assert one.pk != other.pk
    assert one.metadata is not other.metadata


def test_who_listens_hears_of_each_row_that_is_made():
    heard = []

    def hear(kwargs: dict[str, Any], **_: Any) -> None:
        heard.append(kwargs["filename"])

    pre_init.connect(hear, sender=UploadSession)
    try:
        assert made(filename="a.bin").filename == "a.bin"
    finally:
        pre_init.disconnect(hear, sender=UploadSession)
    assert heard == ["a.bin"]
