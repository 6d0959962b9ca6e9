"""PUT /uploads/{id}/chunks/{number}/: a file as numbered chunks."""

from __future__ import annotations

import base64
import random
from datetime import timedelta

import pytest
from django.utils import timezone

from resumable_uploads import body
from resumable_uploads.body import checksum
from resumable_uploads.models import Chunk, UploadSession

from .client import content_digest
from .rest import (
    assert_refused,
    change,
    chunk,
    finished,
    kept,
    nobody,
    open_upload,
    policies,
    send_file,
    sha256,
    some_bytes,
    staged,
)
from .visitor import Visitor

pytestmark = pytest.mark.django_db

DATA = some_bytes(1000)


def pieces(data: bytes = DATA, size: int = 300) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.fixture
def me():
    return Visitor()


@pytest.fixture
def upload(me):
    return open_upload(me, len(DATA), chunk_size=300)


@pytest.mark.parametrize("seed", range(3))
def test_chunks_come_in_any_order(me, upload, seed):
    order = [0, 1, 2, 3]
    random.Random(seed).shuffle(order)
    for sent, number in enumerate(order, start=1):
        answer = me.put(chunk(upload, number), pieces()[number])
        assert answer.status == 201
        received = sum(len(pieces()[done]) for done in order[:sent])
        state = "assembling" if sent == 4 else "receiving"
        expected = {"number": number, "size": len(pieces()[number])}
        assert answer.json() == expected | {"received": received, "state": state}
    found = me.get(upload["url"]).json()
    assert found["state"] == "complete"
    assert found["file"]["size"] == 1000
    assert list(finished().values()) == [sha256(DATA)]


@pytest.mark.django_db(transaction=True)
def test_the_last_chunk_answers_that_the_file_is_complete(me, upload):
    answers = [
        me.put(chunk(upload, number), piece) for number, piece in enumerate(pieces())
    ]
    assert [answer.json()["state"] for answer in answers] == ["receiving"] * 3 + [
        "complete"
    ]


def test_routes_work_without_the_slash(me, upload):
    assert me.put(chunk(upload, 0).rstrip("/"), pieces()[0]).status == 201
    assert me.get(upload["url"].rstrip("/")).json()["received"] == 300


def test_what_is_missing_is_said(me, upload):
    me.put(chunk(upload, 2), pieces()[2])
    found = me.get(upload["url"])
    assert found.json()["missing"] == [[0, 1], [3, 3]]
    assert (found.json()["offset"], found.json()["received"]) == (0, 300)
    assert found.headers["Upload-Offset"] == "0"
    me.put(chunk(upload, 0), pieces()[0])
    found = me.get(upload["url"]).json()
    assert (found["missing"], found["offset"]) == ([[1, 1], [3, 3]], 300)


def test_a_repeat_is_harmless(me, upload):
    assert me.put(chunk(upload, 1), pieces()[1]).status == 201
    before = kept()
    answer = me.put(chunk(upload, 1), pieces()[1])
    assert answer.status == 200
    assert answer.json() == {
        "number": 1,
        "size": 300,
        "received": 300,
        "state": "receiving",
    }
    assert kept() == before


def test_other_bytes_for_a_recorded_number_are_refused(me, upload):
    me.put(chunk(upload, 1), pieces()[1])
    before = kept()
    answer = me.put(chunk(upload, 1), bytes(300))
    assert_refused(answer, 409, "chunk_conflict", number=1)
    assert kept() == before
    for number in (0, 2, 3):
        me.put(chunk(upload, number), pieces()[number])
    assert list(finished().values()) == [sha256(DATA)]


@pytest.mark.parametrize(
    ("number", "size", "expected"),
    [
        (0, 299, 300),
        (0, 301, 300),
        (3, 99, 100),
        (3, 101, 100),
        (3, 300, 100),
        (0, 0, 300),
    ],
)
def test_a_chunk_of_the_wrong_size_is_refused(me, upload, number, size, expected):
    before = kept()
    answer = me.put(chunk(upload, number), bytes(size))
    assert_refused(answer, 400, "wrong_size", expected=expected)
    assert (kept(), staged()) == (before, 0)


@pytest.mark.parametrize(
    "number",
    ["-1", "4", "1.0", "abc", "1e3", "%00", "0x1", "٣", "9" * 18, "9" * 30, "null"],
)
def test_an_impossible_number_is_refused(me, upload, number):
    before = kept()
    answer = me.put(chunk(upload, number), pieces()[0])
    assert_refused(answer, 400, "invalid")
    assert (kept(), staged()) == (before, 0)


def test_what_comes_in_pieces_of_unknown_length_is_counted(me, upload):
    answer = me.put(chunk(upload, 0), iter([DATA[:100], DATA[100:300]]))
    assert answer.status == 201
    assert answer.json()["size"] == 300


def test_a_chunk_that_turns_out_too_long_is_refused(me, upload):
    before = kept()
    answer = me.put(chunk(upload, 0), iter([bytes(300), b"x"]))
    assert_refused(answer, 413, "too_large")
    assert kept() == before


def test_a_chunk_that_turns_out_too_short_is_refused(me, upload):
    before = kept()
    answer = me.put(chunk(upload, 0), iter([bytes(299)]))
    assert_refused(answer, 400, "wrong_size", expected=300)
    assert kept() == before


def test_a_server_that_cannot_tell_the_end_asks_for_a_length(me, upload):
    before = kept()
    answer = me.request(
        "PUT",
        chunk(upload, 0),
        iter([bytes(300)]),
        **{"wsgi.input_terminated": False},
    )
    assert_refused(answer, 411, "length_required")
    assert kept() == before


def test_nothing_is_kept_of_a_chunk_that_was_cut(me, upload):
    before = kept()
    answer = me.cut("PUT", chunk(upload, 0), pieces()[0], after=150)
    assert_refused(answer, 400, "truncated", received=150, expected=300)
    assert kept() == before
    assert me.put(chunk(upload, 0), pieces()[0]).status == 201


# Digests


def crc(data: bytes) -> str:
    value = base64.b64encode(checksum(data).to_bytes(8, "big")).decode()
    return f"crc64nvme=:{value}:"


@pytest.mark.parametrize(
    "digest",
    [
        content_digest(DATA[:300]),
        crc(DATA[:300]),
        f"{content_digest(DATA[:300])}, {crc(DATA[:300])}",
        f"sha-9000=:AAAA:, {crc(DATA[:300])}",
        f"  {content_digest(DATA[:300])}  ",
    ],
    ids=["sha-256", "crc", "both", "one is unknown", "space"],
)
def test_a_digest_that_fits_is_good(me, upload, digest):
    answer = me.put(chunk(upload, 0), pieces()[0], Content_Digest=digest)
    assert answer.status == 201
    answer = me.put(chunk(upload, 0), pieces()[0], Content_Digest=digest)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("digest", "algorithm"),
    [
        (content_digest(b"other"), "sha-256"),
        (crc(b"other"), "crc64nvme"),
        (f"{crc(DATA[:300])}, {content_digest(b'other')}", "sha-256"),
    ],
)
def test_bytes_that_do_not_fit_their_digest_are_refused(me, upload, digest, algorithm):
    before = kept()
    answer = me.put(chunk(upload, 0), pieces()[0], Content_Digest=digest)
    assert_refused(answer, 422, "checksum_mismatch", algorithm=algorithm)
    assert kept() == before
    assert me.put(chunk(upload, 0), pieces()[0]).status == 201


MALFORMED = [
    "sha-256",
    "sha-256=abc",
    "sha-256=::",
    "sha-256=:AAAA:",
    "sha-256=:not base64!:",
    "sha-256=:" + "A" * 43 + ":",
    content_digest(b"") + ";a=b",
    "crc64nvme=:AAAAAAAAAAA:",
    "=:AAAA:",
    ",",
    "\u00e9",
]


@pytest.mark.parametrize("digest", MALFORMED)
def test_a_malformed_digest_is_refused(me, upload, digest):
    before = kept()
    answer = me.put(chunk(upload, 0), pieces()[0], Content_Digest=digest)
    assert_refused(answer, 400, "invalid")
    assert (kept(), staged()) == (before, 0)


def test_a_digest_that_nobody_could_check_is_refused(me, upload):
    answer = me.put(chunk(upload, 0), pieces()[0], Content_Digest="blake9=:AAAA:")
    assert_refused(answer, 400, "invalid")
    assert {"sha-256", "crc64nvme"} <= set(answer.json()["algorithms"])


def test_the_file_has_the_checksum_that_was_declared(me):
    upload = send_file(me, DATA, checksum=f"sha-256:{sha256(DATA)}")
    assert upload["state"] == "complete"
    assert upload["checksum"] == f"sha-256:{sha256(DATA)}"
    upload = send_file(me, DATA, checksum=f"crc64nvme:{checksum(DATA):016x}")
    assert upload["state"] == "complete"


@pytest.mark.parametrize("declared", ["sha-256:" + "0" * 64, "crc64nvme:" + "0" * 16])
def test_a_file_without_its_declared_checksum_is_rejected(me, declared):
    upload = send_file(me, DATA, checksum=declared)
    assert upload["state"] == "rejected"
    assert upload["error"]["code"] == "rejected"
    assert upload["file"] is None
    assert upload["checksum"] is None
    assert finished() == {}
    assert staged() == 0
    assert_refused(me.post(f"{upload['url']}complete/"), 422, "rejected")
    assert_refused(me.put(chunk(upload, 0), DATA), 410, "gone", state="rejected")


# Unknown length


def test_a_file_of_unknown_size_ends_when_the_client_says_so(me):
    upload = open_upload(me, None, chunk_size=300)
    for number, piece in enumerate(pieces()):
        answer = me.put(chunk(upload, number), piece)
        assert (answer.status, answer.json()["state"]) == (201, "receiving")
    assert me.get(upload["url"]).json()["size"] is None
    answer = me.post(f"{upload['url']}complete/")
    assert answer.status in (200, 202)
    found = me.get(upload["url"]).json()
    assert (found["state"], found["size"]) == ("complete", 1000)
    assert list(finished().values()) == [sha256(DATA)]


def test_gaps_in_a_file_of_unknown_size_are_found_at_the_end(me):
    upload = open_upload(me, None, chunk_size=300)
    me.put(chunk(upload, 0), pieces()[0])
    me.put(chunk(upload, 3), pieces()[3])
    answer = me.post(f"{upload['url']}complete/")
    assert_refused(answer, 409, "incomplete", missing=[[1, 2]])


def test_a_file_of_unknown_size_has_a_limit_too(settings, me):
    policies(settings, default={"max_size": 500})
    upload = open_upload(me, None, chunk_size=300)
    me.put(chunk(upload, 0), pieces()[0])
    before = kept()
    answer = me.put(chunk(upload, 1), pieces()[1])
    assert_refused(answer, 413, "too_large", max_size=500)
    assert kept() == before


def test_a_file_of_unknown_size_is_held_to_the_quota(settings, me):
    policies(settings, default={"quota": 500})
    upload = open_upload(me, None, chunk_size=300)
    me.put(chunk(upload, 0), pieces()[0])
    before = kept()
    answer = me.put(chunk(upload, 1), pieces()[1])
    assert_refused(answer, 413, "quota_exceeded", quota=500)
    assert kept() == before


# Uploads that take no chunks


def test_an_upload_fed_by_appending_takes_no_chunks(me, upload):
    me.patch(upload["url"], 0, DATA[:300])
    before = kept()
    answer = me.put(chunk(upload, 1), pieces()[1])
    assert_refused(answer, 409, "addressing", addressed_by="offset")
    assert kept() == before


@pytest.mark.parametrize("data", [DATA, bytes(1000)])
def test_a_repeat_after_the_end_is_harmless(me, data):
    upload = send_file(me, DATA)
    before = kept()
    answer = me.put(chunk(upload, 0), data)
    assert (answer.status, answer.json()["state"]) == (200, "complete")
    assert kept() == before


def test_while_the_file_is_assembled_repeats_are_compared(settings, me):
    change(settings, RUNNER="tests.rest.nobody")
    upload = send_file(me, DATA)
    before = kept()
    assert nobody("assemble") is None
    assert me.put(chunk(upload, 0), DATA).status == 200
    assert_refused(me.put(chunk(upload, 0), bytes(1000)), 409, "chunk_conflict")
    assert kept() == before


def test_a_cancelled_upload_takes_nothing(me, upload):
    me.put(chunk(upload, 0), pieces()[0])
    me.delete(upload["url"])
    before = kept()
    answer = me.put(chunk(upload, 1), pieces()[1])
    assert_refused(answer, 410, "gone", state="cancelled")
    assert (kept(), staged()) == (before, 0)


def test_an_expired_upload_takes_nothing(me, upload):
    me.put(chunk(upload, 0), pieces()[0])
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.update(expires_at=past)
    answer = me.put(chunk(upload, 1), pieces()[1])
    assert_refused(answer, 410, "gone", state="expired")
    assert not Chunk.objects.exists()
    assert staged() == 0


def test_every_chunk_puts_the_expiry_off(me, upload):
    soon = timezone.now() + timedelta(hours=1)
    UploadSession.objects.update(expires_at=soon)
    me.put(chunk(upload, 0), pieces()[0])
    left = UploadSession.objects.get().expires_at - timezone.now()
    assert left > timedelta(days=6)


def test_a_chunk_for_nobody_is_refused(me):
    answer = me.put("/uploads/00000000-0000-0000-0000-000000000000/chunks/0/", b"abc")
    assert_refused(answer, 404, "not_found")


def test_a_chunk_may_come_to_its_end_while_the_server_ends(me, upload, monkeypatch):
    """Nothing would be kept of it otherwise."""
    monkeypatch.setattr(body, "is_stopping", lambda: True)
    assert me.put(chunk(upload, 0), pieces()[0]).status == 201
