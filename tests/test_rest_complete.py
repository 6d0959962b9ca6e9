"""POST /uploads/{id}/complete/ and DELETE /uploads/{id}/: how uploads end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from resumable_uploads import errors, signals
from resumable_uploads.models import Chunk, UploadSession
from resumable_uploads.policies import UploadPolicy

from .rest import (
    assert_refused,
    change,
    chunk,
    finished,
    kept,
    open_upload,
    policies,
    send_file,
    sha256,
    staged,
)
from .visitor import Visitor

pytestmark = pytest.mark.django_db

DATA = b"0123456789"


@pytest.fixture
def me():
    return Visitor()


@pytest.fixture
def completed():
    """The uploads that the signal told of."""
    found = []

    def note(sender, upload, **kwargs):
        found.append(str(upload.pk))

    signals.upload_completed.connect(note)
    yield found
    signals.upload_completed.disconnect(note)


@pytest.mark.parametrize("slash", ["", "/"])
def test_saying_so_again_is_harmless(me, completed, slash):
    upload = send_file(me, DATA)
    before = kept()
    for _ in range(3):
        answer = me.post(f"{upload['url']}complete{slash}")
        assert answer.status == 200
        assert answer.json() == upload
    assert kept() == before
    assert completed == [upload["id"]]


def test_a_complete_upload_has_all_that_a_client_needs(me):
    upload = send_file(me, DATA, filename="a.txt")
    assert upload["state"] == "complete"
    assert upload["checksum"].startswith("crc64nvme:")
    assert upload["offset"] == upload["received"] == 10
    assert upload["missing"] == []
    assert upload["expires_at"] is None
    assert upload["completed_at"] >= upload["created_at"]
    url = f"{upload['url']}file/"
    assert upload["file"] == {"url": url, "name": "a.txt", "size": 10}
    assert upload["error"] is None


def test_what_is_missing_is_said(me, completed):
    upload = open_upload(me, 10, chunk_size=2)
    me.put(chunk(upload, 2), DATA[4:6])
    before = kept()
    answer = me.post(f"{upload['url']}complete/")
    assert_refused(answer, 409, "incomplete", missing=[[0, 1], [3, 4]], offset=0)
    assert kept() == before
    assert completed == []


def test_what_is_missing_of_an_append_is_said(me):
    upload = open_upload(me, 10)
    me.patch(upload["url"], 0, DATA[:4])
    answer = me.post(f"{upload['url']}complete/")
    assert_refused(answer, 409, "incomplete", missing=[], offset=4)


def test_an_upload_of_unknown_size_without_bytes_is_an_empty_file(me):
    upload = open_upload(me, None)
    assert me.post(f"{upload['url']}complete/").status in (200, 202)
    assert me.get(upload["url"]).json()["file"]["size"] == 0


def test_who_has_to_wait_is_told(settings, me):
    change(settings, RUNNER="tests.rest.nobody")
    upload = send_file(me, DATA)
    assert upload["state"] == "assembling"
    answer = me.post(f"{upload['url']}complete/")
    assert answer.status == 202
    assert answer.json()["state"] == "assembling"
    assert_refused(me.get(f"{upload['url']}file/"), 409, "not_receiving")


def test_asking_again_takes_up_an_assembly_that_nobody_began(settings, me):
    change(settings, RUNNER="tests.rest.nobody")
    upload = send_file(me, DATA)
    change(settings, RUNNER="inline")
    long_ago = timezone.now() - timedelta(seconds=10)
    UploadSession.objects.update(active_at=long_ago)
    me.post(f"{upload['url']}complete/")
    assert me.get(upload["url"]).json()["state"] == "complete"


def test_a_failed_assembly_is_tried_again(settings, me):
    change(settings, RUNNER="tests.rest.nobody")
    upload = send_file(me, DATA)
    UploadSession.objects.update(
        state="failed", error_code="storage_unavailable", error="/srv/secret: EIO"
    )
    found = me.get(upload["url"])
    assert found.json()["state"] == "failed"
    assert found.json()["error"]["code"] == "storage_unavailable"
    assert b"secret" not in found.body
    change(settings, RUNNER="inline")
    assert me.post(f"{upload['url']}complete/").status in (200, 202)
    found = me.get(upload["url"]).json()
    assert (found["state"], found["error"]) == ("complete", None)
    assert list(finished().values()) == [sha256(DATA)]


# Rejected


class Choosy(UploadPolicy):
    """Takes digits, and raises in one way or the other."""

    def validate(self, upload, file):
        found = file.read()
        if b"virus" in found:
            raise errors.Rejected("There is a virus in the file.")
        if not found.isdigit():
            raise ValidationError("Digits only.")


@pytest.mark.parametrize(
    ("data", "detail"),
    [(b"abc", "Digits only."), (b"virus", "There is a virus in the file.")],
)
def test_a_file_that_the_policy_does_not_like_is_rejected(settings, me, data, detail):
    policies(settings, default={"class": Choosy, "downloadable": True})
    assert send_file(me, DATA)["state"] == "complete"
    upload = send_file(me, data)
    assert upload["state"] == "rejected"
    assert upload["error"] == {"code": "rejected", "detail": detail}
    assert upload["file"] is None
    answer = me.post(f"{upload['url']}complete/")
    assert_refused(answer, 422, "rejected", detail=detail, state="rejected")
    assert_refused(me.get(f"{upload['url']}file/"), 410, "gone", state="rejected")
    assert list(finished().values()) == [sha256(DATA)]
    assert staged() == 0


@pytest.mark.django_db(transaction=True)
def test_a_rejection_is_answered_where_the_client_says_that_it_is_done(settings, me):
    policies(settings, default={"class": Choosy})
    upload = open_upload(me, None)
    me.patch(upload["url"], 0, b"abc")
    assert_refused(me.post(f"{upload['url']}complete/"), 422, "rejected")


# Cancelled


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_upload_is_cancelled(me, slash):
    upload = open_upload(me, 10, chunk_size=4)
    me.put(chunk(upload, 0), DATA[:4])
    url = upload["url"].rstrip("/") + slash
    answer = me.delete(url)
    assert (answer.status, answer.body) == (204, b"")
    assert not Chunk.objects.exists()
    assert (finished(), staged()) == ({}, 0)
    found = me.get(url).json()
    assert found["state"] == "cancelled"
    assert (found["expires_at"], found["file"], found["missing"]) == (None, None, [])


def test_cancelling_again_is_harmless(me):
    upload = open_upload(me)
    assert [me.delete(upload["url"]).status for _ in range(3)] == [204] * 3


@pytest.mark.parametrize("state", ["cancelled", "expired", "rejected"])
def test_what_is_gone_may_be_deleted(me, state):
    upload = open_upload(me)
    UploadSession.objects.update(state=state)
    assert me.delete(upload["url"]).status == 204


def test_a_finished_file_is_deleted(me):
    upload = send_file(me, DATA)
    assert me.delete(upload["url"]).status == 204
    assert finished() == {}
    assert_refused(me.get(f"{upload['url']}file/"), 410, "gone", state="cancelled")


def test_a_file_in_use_stays(me):
    upload = send_file(me, DATA)
    UploadSession.objects.update(claimed_at=timezone.now())
    before = kept()
    assert_refused(me.delete(upload["url"]), 409, "not_receiving", state="complete")
    assert kept() == before


def test_nothing_can_be_done_with_what_is_gone(me):
    upload = open_upload(me)
    me.delete(upload["url"])
    before = kept()
    facts = {"state": "cancelled"}
    assert_refused(me.put(chunk(upload, 0), DATA), 410, "gone", **facts)
    assert_refused(me.patch(upload["url"], 0, DATA), 410, "gone", **facts)
    assert_refused(me.post(f"{upload['url']}complete/"), 410, "gone", **facts)
    assert_refused(me.get(f"{upload['url']}file/"), 410, "gone", **facts)
    assert kept() == before
