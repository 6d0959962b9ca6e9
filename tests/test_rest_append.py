"""PATCH /uploads/{id}/: a file as stretches, each at the end of what is there."""

from __future__ import annotations

import pytest

from resumable_uploads.models import Chunk, UploadSession

from .client import content_digest
from .rest import (
    assert_refused,
    change,
    chunk,
    finished,
    kept,
    open_upload,
    policies,
    sha256,
    some_bytes,
    staged,
)
from .visitor import Visitor

pytestmark = pytest.mark.django_db

DATA = some_bytes(1000)


@pytest.fixture
def me():
    return Visitor()


@pytest.fixture
def upload(me):
    return open_upload(me, len(DATA))


@pytest.mark.parametrize("slash", ["", "/"])
def test_stretches_are_appended(me, upload, slash):
    url = upload["url"].rstrip("/") + slash
    answer = me.patch(url, 0, DATA[:10])
    assert answer.status == 200
    assert answer.json() == {"offset": 10, "received": 10, "state": "receiving"}
    assert answer.headers["Upload-Offset"] == "10"
    assert me.patch(url, 10, DATA[10:999]).json()["offset"] == 999
    answer = me.patch(url, 999, DATA[999:])
    assert answer.json() == {"offset": 1000, "received": 1000, "state": "assembling"}
    assert me.get(url).json()["state"] == "complete"
    assert list(finished().values()) == [sha256(DATA)]


@pytest.mark.django_db(transaction=True)
def test_the_last_stretch_answers_that_the_file_is_complete(me, upload):
    assert me.patch(upload["url"], 0, DATA).json()["state"] == "complete"


def test_the_offset_can_be_asked_for(me, upload):
    me.patch(upload["url"], 0, DATA[:10])
    answer = me.head(upload["url"])
    assert answer.status == 200
    assert answer.headers["Upload-Offset"] == "10"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.body == b""
    found = me.get(upload["url"])
    assert found.headers["Upload-Offset"] == "10"
    assert found.json()["offset"] == 10
    assert found.json()["missing"] is None


@pytest.mark.parametrize("offset", [0, 9, 11, 999, 1000, 1001, 10**18, 2**63 - 1])
def test_another_offset_is_refused_with_the_true_one(me, upload, offset):
    me.patch(upload["url"], 0, DATA[:10])
    before, bytes_before = kept(), staged()
    answer = me.patch(upload["url"], offset, DATA[10:])
    assert_refused(answer, 409, "offset_mismatch", offset=10)
    assert (kept(), staged()) == (before, bytes_before)


@pytest.mark.parametrize(
    "offset", ["", "-1", "abc", "1.0", "1e3", "0x1", " ", "9" * 19, "9" * 5000, "1, 1"]
)
def test_an_offset_that_is_none_is_refused(me, upload, offset):
    before = kept()
    answer = me.request("PATCH", upload["url"], b"abc", {"Upload-Offset": offset})
    assert_refused(answer, 400, "invalid")
    assert (kept(), staged()) == (before, 0)


def test_an_append_without_an_offset_is_refused(me, upload):
    assert_refused(me.request("PATCH", upload["url"], b"abc"), 400, "invalid")


def test_an_append_may_be_empty(me, upload):
    answer = me.patch(upload["url"], 0, b"")
    assert answer.json() == {"offset": 0, "received": 0, "state": "receiving"}
    assert not Chunk.objects.exists()


def test_more_than_the_size_is_refused(me, upload):
    me.patch(upload["url"], 0, DATA[:10])
    before, bytes_before = kept(), staged()
    answer = me.patch(upload["url"], 10, DATA)
    assert_refused(answer, 413, "too_large", max_size=1000)
    assert (kept(), staged()) == (before, bytes_before)


def test_pieces_of_unknown_length_are_counted(me, upload):
    answer = me.patch(upload["url"], 0, iter([DATA[:500], DATA[500:]]))
    assert answer.json()["offset"] == 1000
    assert list(finished().values()) == [sha256(DATA)]


def test_more_pieces_than_fit_are_refused(me, upload):
    answer = me.patch(upload["url"], 0, iter([DATA, b"x"]))
    assert_refused(answer, 413, "too_large")
    assert UploadSession.objects.get().state == "receiving"


def test_a_server_that_cannot_tell_the_end_asks_for_a_length(me, upload):
    before = kept()
    answer = me.request(
        "PATCH",
        upload["url"],
        iter([DATA]),
        {"Upload-Offset": "0"},
        **{"wsgi.input_terminated": False},
    )
    assert_refused(answer, 411, "length_required")
    assert kept() == before


@pytest.mark.parametrize("length", ["9" * 19, "9" * 30, "9" * 5000])
def test_a_length_beyond_everything_is_refused(me, upload, length):
    before = kept()
    answer = me.request(
        "PATCH", upload["url"], b"abc", {"Upload-Offset": "0"}, CONTENT_LENGTH=length
    )
    assert answer.status in (400, 413)
    assert answer.json()["code"] in ("invalid", "too_large")
    assert kept() == before


# Cuts


@pytest.mark.parametrize("after", [0, 1, 7, 500, 999])
def test_what_came_before_the_cut_is_kept(me, upload, after):
    headers = {"Upload-Offset": "0"}
    answer = me.cut("PATCH", upload["url"], DATA, after=after, headers=headers)
    assert_refused(
        answer, 400, "truncated", received=after, expected=1000, offset=after
    )
    assert me.head(upload["url"]).headers["Upload-Offset"] == str(after)
    assert me.patch(upload["url"], after, DATA[after:]).status == 200
    assert list(finished().values()) == [sha256(DATA)]


def test_a_long_append_is_recorded_in_segments(settings, me, upload):
    change(settings, SEGMENT_SIZE=300)
    me.patch(upload["url"], 0, DATA)
    found = me.get(upload["url"]).json()
    assert found["state"] == "complete"
    assert UploadSession.objects.get().chunk_count == 4
    assert list(finished().values()) == [sha256(DATA)]


# Digests


def test_an_append_with_a_digest_is_kept_whole(me, upload):
    digest = content_digest(DATA[:500])
    answer = me.patch(upload["url"], 0, DATA[:500], Content_Digest=digest)
    assert answer.json()["offset"] == 500


def test_an_append_that_does_not_fit_its_digest_is_not_kept(me, upload):
    before = kept()
    answer = me.patch(upload["url"], 0, DATA[:500], Content_Digest=content_digest(DATA))
    assert_refused(answer, 422, "checksum_mismatch", algorithm="sha-256")
    assert kept() == before
    assert me.patch(upload["url"], 0, DATA).status == 200
    assert list(finished().values()) == [sha256(DATA)]


def test_nothing_is_kept_of_a_cut_append_with_a_digest(me, upload):
    before = kept()
    headers = {"Upload-Offset": "0", "Content-Digest": content_digest(DATA)}
    answer = me.cut("PATCH", upload["url"], DATA, after=500, headers=headers)
    assert_refused(answer, 400, "truncated")
    assert kept() == before
    assert me.head(upload["url"]).headers["Upload-Offset"] == "0"


# Unknown length


def test_a_file_of_unknown_size_ends_when_the_client_says_so(me):
    upload = open_upload(me, None)
    assert me.patch(upload["url"], 0, DATA[:600]).json()["state"] == "receiving"
    me.patch(upload["url"], 600, iter([DATA[600:]]))
    answer = me.post(f"{upload['url']}complete/")
    assert answer.status in (200, 202)
    assert answer.json()["size"] == 1000
    assert list(finished().values()) == [sha256(DATA)]


def test_a_file_of_unknown_size_has_a_limit_too(settings, me):
    policies(settings, default={"max_size": 500})
    upload = open_upload(me, None)
    before = kept()
    answer = me.patch(upload["url"], 0, DATA)
    assert_refused(answer, 413, "too_large", max_size=500)
    assert (kept(), staged()) == (before, 0)
    assert_refused(me.patch(upload["url"], 0, iter([DATA])), 413, "too_large")
    assert me.head(upload["url"]).headers["Upload-Offset"] == "0"


def test_a_file_of_unknown_size_is_held_to_the_quota(settings, me):
    policies(settings, default={"quota": 500})
    upload = open_upload(me, None)
    me.patch(upload["url"], 0, DATA[:400])
    before = kept()
    answer = me.patch(upload["url"], 400, DATA[400:])
    assert_refused(answer, 413, "quota_exceeded", quota=500)
    assert kept() == before


# Uploads that take no bytes


def test_an_upload_fed_by_chunks_takes_no_appends(me):
    upload = open_upload(me, len(DATA), chunk_size=300)
    me.put(chunk(upload, 0), DATA[:300])
    before = kept()
    answer = me.patch(upload["url"], 300, DATA[300:])
    assert_refused(answer, 409, "addressing", addressed_by="number")
    assert kept() == before


def test_a_repeat_after_the_end_changes_nothing(me, upload):
    me.patch(upload["url"], 0, DATA)
    before = kept()
    answer = me.patch(upload["url"], 0, DATA)
    assert_refused(answer, 409, "not_receiving", state="complete")
    answer = me.patch(upload["url"], 1000, b"")
    assert answer.json() == {"offset": 1000, "received": 1000, "state": "complete"}
    assert kept() == before


def test_a_cancelled_upload_takes_nothing(me, upload):
    me.patch(upload["url"], 0, DATA[:10])
    me.delete(upload["url"])
    answer = me.patch(upload["url"], 10, DATA[10:])
    assert_refused(answer, 410, "gone", state="cancelled")
    assert (finished(), staged()) == ({}, 0)


# The lease


def test_the_last_to_ask_holds_the_offset(me, upload, settings):
    change(settings, SEGMENT_SIZE=100)
    visitor = Visitor()
    visitor.client.cookies = me.client.cookies
    visitor.token = me.token

    def pieces():
        yield DATA[:100]
        yield DATA[100:150]
        # The client comes back while its first request still hangs.
        answer = visitor.head(upload["url"])
        offsets.append(int(answer.headers["Upload-Offset"]))
        yield DATA[150:200]

    offsets: list[int] = []
    answer = me.request(
        "PATCH",
        upload["url"],
        b"",
        {"Upload-Offset": "0"},
        CONTENT_LENGTH="1000",
        **{"wsgi.input": Slow(pieces())},
    )
    assert offsets == [100]
    assert_refused(answer, 409, "interrupted", offset=100)
    assert me.head(upload["url"]).headers["Upload-Offset"] == "100"
    assert me.patch(upload["url"], 100, DATA[100:]).status == 200
    assert list(finished().values()) == [sha256(DATA)]


class Slow:
    """A body that comes in the pieces of a generator."""

    def __init__(self, pieces):
        self.pieces = pieces

    def read(self, size=-1):
        return next(self.pieces, b"")

    def readline(self, size=-1):
        raise AssertionError("Nobody reads lines.")
