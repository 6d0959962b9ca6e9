"""Multipart uploads in both dialects: parts, manifests, and what is refused."""

from __future__ import annotations

import base64
import errno
import threading
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from resumable_uploads import assembly, engine, errors, runner
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.owners import Owner
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.protocols.multipart import documents
from resumable_uploads.protocols.multipart import objects as multipart_objects

from .buckets import (
    BUCKET,
    Client,
    OldOssClient,
    OssClient,
    S3Client,
    assert_refused,
    content_md5,
    credentials,
    document,
    held,
    manifest,
    md5,
    text_of,
    texts_of,
    whole_etag,
)
from .rest import change, finished, policies, sha256, some_bytes, staged
from .rows import page_of
from .visitor import Visitor

# Files are made while their clients wait, so commits have to be real ones.
# PostgreSQL is asked by the tests of contracts, lists and races.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]
KINDS = [OssClient, S3Client]
NAMES = ["oss", "s3"]
ONE, TWO, THREE = (some_bytes(1000, seed) for seed in (1, 2, 3))


@pytest.fixture(autouse=True)
def _small_parts(settings: Any) -> None:
    buckets(settings)


def buckets(settings: Any, **facts: Any) -> None:
    """Have the bucket with these options; parts may be as small as they like."""
    change(settings, BUCKETS={BUCKET: {"min_part_size": 0} | facts})


@pytest.fixture
def me() -> Visitor:
    return Visitor()


@pytest.fixture(params=KINDS, ids=NAMES)
def client(request: pytest.FixtureRequest, me: Visitor) -> Client:
    return request.param(me, held())


@pytest.fixture
def s3(me: Visitor) -> S3Client:
    return S3Client(me, held())


@pytest.fixture
def oss(me: Visitor) -> OssClient:
    return OssClient(me, held())


def is_oss(client: Client) -> bool:
    return client.prefix == "x-oss-"


def said(client: Client, for_oss: str, for_s3: str) -> str:
    return for_oss if is_oss(client) else for_s3


def cased(client: Client, etag: str) -> str:
    return f'"{etag.upper()}"' if is_oss(client) else f'"{etag}"'


def only_file() -> str:
    (digest,) = finished().values()
    return digest


# The way it should go


def test_a_file_goes_up_in_parts(client):
    answer = client.send("a film.mp4", ONE, TWO, THREE[:10], Content_Type="video/mp4")
    assert answer.status == 200, answer.body
    etag = cased(client, whole_etag(ONE, TWO, THREE[:10]))
    assert answer.headers["ETag"] == text_of(answer, "ETag") == etag
    assert text_of(answer, "Key") == "a film.mp4"
    assert text_of(answer, "Location").endswith("/demo-bucket/a%20film.mp4")
    assert only_file() == sha256(ONE + TWO + THREE[:10])
    upload = UploadSession.objects.get()
    assert (upload.filename, upload.content_type) == ("a film.mp4", "video/mp4")
    assert (upload.state, upload.length) == (State.COMPLETE, 2010)
    assert staged() == 0


def test_a_file_goes_up_at_once_and_comes_back(client):
    answer = client.request(
        "PUT", "dir/a.txt", b"hello", {"Content-Type": "text/plain"}
    )
    assert answer.status == 200, answer.body
    etag = cased(client, md5(b"hello"))
    assert answer.headers["ETag"] == etag
    got = client.request("GET", "dir/a.txt")
    assert (got.status, got.body) == (200, b"hello")
    assert got.headers["ETag"] == etag
    assert got.headers["Content-Type"] == "text/plain"
    head = client.request("HEAD", "dir/a.txt")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == "5"
    assert head.headers["Last-Modified"]


def test_parts_come_in_any_order_and_leave_gaps(client):
    upload_id = client.initiate("k")
    etags = {
        number: client.put_part("k", upload_id, number, part).headers["ETag"]
        for number, part in ((8, THREE), (1, ONE), (10_000, b"end"), (5, TWO))
    }
    answer = client.complete("k", upload_id, [(n, etags[n]) for n in (1, 5, 8)])
    assert answer.status == 200, answer.body
    # What was not listed is not a part of the file.
    assert only_file() == sha256(ONE + TWO + THREE)
    assert staged() == 0


@pytest.mark.parametrize(
    "sizes",
    [(10, 10, 10), (10, 3, 10), (1, 9, 5), (3, 10), (10, 0, 4), (0,), (5, 5, 7)],
    ids=str,
)
@pytest.mark.parametrize("order", [1, -1])
def test_parts_may_have_any_sizes(client, sizes, order):
    parts = [some_bytes(1024 * size, size + 7 * i) for i, size in enumerate(sizes)]
    upload_id = client.initiate("k")
    numbered = list(enumerate(parts, 1))
    etags = {
        number: client.put_part("k", upload_id, number, part).headers["ETag"]
        for number, part in numbered[::order]
    }
    answer = client.complete("k", upload_id, sorted(etags.items()))
    assert answer.status == 200, answer.body
    assert only_file() == sha256(b"".join(parts))


def test_a_part_sent_again_takes_the_place_of_the_first(client):
    upload_id = client.initiate("k")
    old = client.put_part("k", upload_id, 1, ONE).headers["ETag"]
    for part in (TWO, TWO, THREE + b"longer", TWO):
        new = client.put_part("k", upload_id, 1, part).headers["ETag"]
    assert UploadSession.objects.get().received == len(TWO)
    refused = client.complete("k", upload_id, [(1, old)])
    assert_refused(refused, 400, "InvalidPart")
    assert client.complete("k", upload_id, [(1, new)]).status == 200
    assert only_file() == sha256(TWO)


@pytest.mark.parametrize("written", ['"{}"', "{}", "&quot;{}&quot;", ' "{}" '])
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_etags_are_compared_without_quotes_in_any_case(client, written, case):
    upload_id = client.initiate("k")
    client.put_part("k", upload_id, 1, ONE)
    listed = [(1, written.format(case(md5(ONE))))]
    assert client.complete("k", upload_id, listed).status == 200


def test_a_later_file_takes_the_place_of_a_former_one(client):
    client.send("k", ONE)
    client.request("PUT", "k", TWO)
    assert only_file() == sha256(TWO)
    client.send("k", THREE)
    assert only_file() == sha256(THREE)
    assert client.request("GET", "k").body == THREE
    assert texts_of(client.request("GET"), "Contents/Key") == ["k"]


def test_two_uploads_of_one_key_are_two(client):
    first, second = client.initiate("k"), client.initiate("k")
    assert first != second
    etag = client.put_part("k", first, 1, ONE).headers["ETag"]
    client.put_part("k", second, 1, TWO)
    assert client.complete("k", first, [(1, etag)]).status == 200
    assert only_file() == sha256(ONE)
    assert texts_of(client.parts("k", second), "Part/Size") == ["1000"]


def test_an_empty_file_goes_up_either_way(client):
    assert client.request("PUT", "at once", b"").status == 200
    assert client.send("in parts", b"").status == 200
    for key in ("at once", "in parts"):
        answer = client.request("GET", key)
        assert (answer.status, answer.body) == (200, b"")


def test_metadata_is_that_of_the_first_request(client):
    name = f"{client.prefix}meta-who"
    kept = {name: "zs", "Cache-Control": "max-age=5", "Content-Type": "a/b"}
    answer = client.request("POST", "k", headers=kept, uploads="")
    upload_id = text_of(answer, "UploadId")
    part = client.put_part("k", upload_id, 1, ONE, **{"Content_Type": "x/y"})
    client.complete("k", upload_id, [(1, part.headers["ETag"])])
    head = client.request("HEAD", "k")
    assert head.headers[name] == "zs"
    assert head.headers["Cache-Control"] == "max-age=5"
    assert head.headers["Content-Type"] == "a/b"


def test_complete_said_again_answers_the_same(client):
    upload_id = client.initiate("k")
    listed = [(1, client.put_part("k", upload_id, 1, ONE).headers["ETag"])]
    first = client.complete("k", upload_id, listed)
    again = client.complete("k", upload_id, listed)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["ETag"] == first.headers["ETag"]
    assert only_file() == sha256(ONE)


def test_complete_said_again_is_answered_after_the_file_was_replaced(client):
    upload_id = client.initiate("k")
    listed = [(1, client.put_part("k", upload_id, 1, ONE).headers["ETag"])]
    first = client.complete("k", upload_id, listed)
    client.request("PUT", "k", TWO)
    again = client.complete("k", upload_id, listed)
    assert again.headers["ETag"] == first.headers["ETag"]
    assert only_file() == sha256(TWO)


def test_the_first_version_of_the_signature_is_taken_too(me):
    client = OldOssClient(me, held())
    assert client.send("a b/中.bin", ONE, TWO).status == 200
    assert client.request("GET", "a b/中.bin").body == ONE + TWO
    assert texts_of(client.request("GET", prefix="a b"), "Contents/Size") == ["2000"]
    assert client.request("DELETE", "a b/中.bin").status == 204


@pytest.mark.parametrize("kind", [OssClient, OldOssClient, S3Client])
def test_a_signed_address_is_enough(me, kind):
    client = kind(me, held())
    sent = client.presigned("PUT", "a b/中.bin")
    bare = {"Host": client.host, "X-CSRFToken": "", "Content-Type": ""}
    assert me.request("PUT", sent, ONE, bare).status == 200
    got = me.request("GET", client.presigned("GET", "a b/中.bin"), headers=bare)
    assert (got.status, got.body) == (200, ONE)
    upload_id = client.initiate("k")
    part = client.presigned("PUT", "k", partNumber="2", uploadId=upload_id)
    assert me.request("PUT", part, TWO, bare).status == 200
    refused = me.request("PUT", part.replace("partNumber=2", "partNumber=3"), TWO, bare)
    assert_refused(refused, 403, "SignatureDoesNotMatch")
    assert client.complete("k", upload_id, [(2, md5(TWO))]).status == 200


def test_a_bucket_may_have_a_host_to_itself(me, settings):
    settings.ROOT_URLCONF = "tests.bucket_host"
    client = HostedClient(me, held())
    assert client.send("a b/中.bin", ONE, TWO).status == 200
    assert client.request("GET", "a b/中.bin").body == ONE + TWO
    assert texts_of(client.request("GET"), "Contents/Key") == ["a b/中.bin"]
    assert only_file() == sha256(ONE + TWO)


class HostedClient(OssClient):
    """A client that has no bucket in its paths, but signs it all the same."""

    def made(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        made = super().made(*args, **kwargs)
        return made | {"path": made["path"].removeprefix(f"/{BUCKET}")}


# What ends, and what comes after


def test_after_the_end_an_upload_is_none_any_more(client):
    upload_id = client.initiate("k")
    listed = [(1, client.put_part("k", upload_id, 1, ONE).headers["ETag"])]
    client.put_part("k", upload_id, 2, TWO)
    client.complete("k", upload_id, listed)
    answers = [
        client.complete("k", upload_id, [(1, md5(ONE)), (2, md5(TWO))]),
        client.put_part("k", upload_id, 2, TWO),
        client.parts("k", upload_id),
        client.abort("k", upload_id),
    ]
    for answer in answers:
        assert_refused(answer, 404, "NoSuchUpload")
    assert only_file() == sha256(ONE)


def test_what_was_aborted_is_gone(client):
    upload_id = client.initiate("k")
    client.put_part("k", upload_id, 1, ONE)
    assert client.abort("k", upload_id).status == 204
    answers = [
        client.abort("k", upload_id),
        client.put_part("k", upload_id, 1, ONE),
        client.parts("k", upload_id),
        client.complete("k", upload_id, [(1, md5(ONE))]),
    ]
    for answer in answers:
        assert_refused(answer, 404, "NoSuchUpload")
    assert (staged(), finished()) == (0, {})


@pytest.mark.parametrize("upload_id", ["x", "", "../..", "0" * 32, "é"])
def test_an_unknown_upload_is_none(client, upload_id):
    assert_refused(client.put_part("k", upload_id, 1, ONE), 404, "NoSuchUpload")
    assert_refused(client.parts("k", upload_id), 404, "NoSuchUpload")
    assert_refused(client.complete("k", upload_id, [(1, "x")]), 404, "NoSuchUpload")


def test_an_upload_is_known_only_by_its_own_key_and_owner(client):
    upload_id = client.initiate("k")
    other = type(client)(Visitor(), held("session:bob"))
    for somebody, key in ((client, "other"), (other, "k")):
        answer = somebody.put_part(key, upload_id, 1, ONE)
        assert_refused(answer, 404, "NoSuchUpload")
        assert_refused(somebody.parts(key, upload_id), 404, "NoSuchUpload")
        assert_refused(somebody.abort(key, upload_id), 404, "NoSuchUpload")
    assert Chunk.objects.count() == 0


def test_nobody_sees_what_is_anothers(client):
    client.request("PUT", "k", ONE)
    client.initiate("open")
    other = type(client)(Visitor(), held("session:bob"))
    assert_refused(other.request("GET", "k"), 404, "NoSuchKey")
    assert other.request("DELETE", "k").status == 204
    assert texts_of(other.request("GET"), "Contents/Key") == []
    assert texts_of(other.request("GET", uploads=""), "Upload/Key") == []
    other.request("PUT", "k", TWO)
    assert client.request("GET", "k").body == ONE
    assert other.request("GET", "k").body == TWO


def test_an_upload_of_another_protocol_is_none(me, client):
    upload = me.post("/uploads/", {"filename": "a", "size": 5}).json()
    assert_refused(client.put_part("a", upload["id"], 1, ONE), 404, "NoSuchUpload")


# What is refused


@pytest.mark.parametrize("number", ["0", "-1", "10001", "abc", "1.5", "01", ""])
def test_an_impossible_part_number_is_named(client, number):
    upload_id = client.initiate("k")
    answer = client.put_part("k", upload_id, number, ONE)
    assert_refused(answer, 400, "InvalidArgument")
    assert text_of(answer, "ArgumentName") == "partNumber"


def test_the_last_part_number_is_taken(client):
    upload_id = client.initiate("k")
    part = client.put_part("k", upload_id, 10_000, ONE)
    listed = [(10_000, part.headers["ETag"])]
    assert client.complete("k", upload_id, listed).status == 200


@pytest.mark.parametrize(
    ("listed", "code"),
    [
        ([(1, md5(TWO))], "InvalidPart"),
        ([(1, md5(ONE)), (2, md5(TWO)), (3, md5(THREE))], "InvalidPart"),
        ([(2, md5(TWO)), (1, md5(ONE))], "InvalidPartOrder"),
        ([(1, md5(ONE)), (1, md5(ONE))], "InvalidPartOrder"),
        ([], "MalformedXML"),
        ([("x", md5(ONE))], "MalformedXML"),
    ],
)
def test_a_wrong_manifest_leaves_the_upload_open(client, listed, code):
    upload_id = client.initiate("k")
    client.put_part("k", upload_id, 1, ONE)
    client.put_part("k", upload_id, 2, TWO)
    assert_refused(client.complete("k", upload_id, listed), 400, code)
    right = [(1, md5(ONE)), (2, md5(TWO))]
    assert client.complete("k", upload_id, right).status == 200
    assert only_file() == sha256(ONE + TWO)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<CompleteMultipartUpload>",
        b"<Other><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></Other>",
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part>"
        b"</CompleteMultipartUpload>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><CompleteMultipartUpload><Part><PartNumber>1'
        b"</PartNumber><ETag>&b;</ETag></Part></CompleteMultipartUpload>",
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><CompleteMultipartUpload/>',
        "<CompleteMultipartUpload>\ud800".encode("utf-16", "surrogatepass"),
    ],
    ids=range(7),
)
def test_what_is_no_manifest_is_malformed(client, body):
    upload_id = client.initiate("k")
    client.put_part("k", upload_id, 1, ONE)
    answer = client.request("POST", "k", body, uploadId=upload_id)
    assert_refused(answer, 400, "MalformedXML")


def test_a_huge_manifest_is_not_read(client, monkeypatch):
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 100)
    upload_id = client.initiate("k")
    body = manifest([(1, "x" * 100)])
    answer = client.request("POST", "k", body, uploadId=upload_id)
    assert_refused(answer, 400, "MalformedXML")


def test_a_manifest_of_ten_thousand_parts_is_read(client):
    upload_id = client.initiate("k")
    listed = [(number, md5(ONE)) for number in range(1, 10_001)]
    assert_refused(client.complete("k", upload_id, listed), 400, "InvalidPart")


@pytest.mark.parametrize(("kind", "least"), [(OssClient, 102_400), (S3Client, 5 << 20)])
def test_small_parts_are_found_out_in_the_end(me, settings, kind, least):
    buckets(settings, min_part_size=None)
    client = kind(me, held())
    assert client.send("tiny", b"x").status == 200
    answer = client.send("k", b"x" * (least - 1), b"y")
    assert_refused(answer, 400, "EntityTooSmall")
    assert client.send("k", b"x" * least, b"y").status == 200


@pytest.mark.parametrize(
    ("value", "code_of_oss", "code_of_s3"),
    [
        (content_md5(TWO), "InvalidDigest", "BadDigest"),
        ("nonsense", "InvalidDigest", "InvalidDigest"),
        (base64.b64encode(b"short").decode(), "InvalidDigest", "InvalidDigest"),
    ],
)
def test_a_wrong_md5_stores_nothing(client, value, code_of_oss, code_of_s3):
    upload_id = client.initiate("k")
    answer = client.put_part("k", upload_id, 1, ONE, Content_MD5=value)
    assert_refused(answer, 400, said(client, code_of_oss, code_of_s3))
    assert (Chunk.objects.count(), UploadSession.objects.get().received) == (0, 0)
    answer = client.request("PUT", "k", ONE, {"Content-MD5": value})
    assert_refused(answer, 400, said(client, code_of_oss, code_of_s3))
    assert finished() == {}
    assert (
        client.put_part("k", upload_id, 1, ONE, Content_MD5=content_md5(ONE)).status
        == 200
    )


@pytest.mark.parametrize("after", [0, 1, 500, 999])
def test_a_truncated_body_stores_nothing(client, after):
    upload_id = client.initiate("k")
    for made in (
        client.made("PUT", "k", ONE, partNumber="1", uploadId=upload_id),
        client.made("PUT", "k", ONE),
    ):
        made["after"] = after
        answer = client.me.cut(**made)
        assert_refused(answer, 400, "IncompleteBody")
    assert Chunk.objects.count() == 0
    assert texts_of(client.parts("k", upload_id), "Part/Size") == []
    assert finished() == {}


def test_a_body_without_a_length_is_taken(oss):
    upload_id = oss.initiate("k")
    made = oss.made("PUT", "k", partNumber="1", uploadId=upload_id)
    answer = oss.me.request("PUT", made["path"], iter([ONE, TWO]), made["headers"])
    assert answer.status == 200, answer.body
    assert answer.headers["ETag"] == cased(oss, md5(ONE + TWO))
    made = oss.made("PUT", "k2")
    answer = oss.me.request("PUT", made["path"], iter([ONE, TWO]), made["headers"])
    assert answer.status == 200, answer.body
    assert oss.request("GET", "k2").body == ONE + TWO


@pytest.mark.parametrize(
    "key",
    [
        "../x", "a/../b", "./a", "a/.", "..", ".", "a\x00b", "a\nb", "a\x7fb",
        "é" * 512, "x" * 1024,
    ],
    ids=range(11),
)  # fmt: skip
def test_a_key_that_is_none_is_refused(client, key):
    code = "InvalidObjectName"
    if not is_oss(client):
        code = "KeyTooLongError" if len(key) > 500 else "InvalidURI"
    assert_refused(client.request("PUT", key, ONE), 400, code)
    assert_refused(client.request("POST", key, uploads=""), 400, code)
    assert UploadSession.objects.count() == 0


@pytest.mark.parametrize(
    "key",
    [
        "dir/film.mp4", "a b+c&d=e?f#g", "!'()*~", "a//b", "/lead", "trailing/",
        "\\win", "中文.txt", "😀", "e\u0301", "é", "%41", "%2e%2e%2f", "x" * 1023,
        "é" * 511, "<&>\"'", "con", ".htaccess", "a\u202eb", "a;b", "a:b", "...", "a|b",
    ],
)  # fmt: skip
def test_a_key_is_kept_byte_for_byte(client, key):
    assert client.request("PUT", key, ONE).status == 200
    assert client.send(key + "2" if len(key) < 500 else key, TWO).status == 200
    listed = texts_of(client.request("GET"), "Contents/Key")
    assert key in listed
    got = client.request("GET", key)
    assert got.status == 200
    assert got.body == (ONE if len(key) < 500 else TWO)
    upload = engine.find_object(client_owner(), f"{BUCKET}/{key}")
    assert upload is not None
    assert not set("/\\") & set(upload.filename)
    assert client.request("DELETE", key).status == 204
    assert_refused(client.request("GET", key), 404, "NoSuchKey")


def client_owner() -> Owner:
    return Owner("session:alice")


def test_forms_of_a_letter_are_not_one(client):
    client.request("PUT", "e\u0301", ONE)
    client.request("PUT", "é", TWO)
    assert client.request("GET", "e\u0301").body == ONE
    assert client.request("GET", "é").body == TWO


def test_too_much_metadata_is_refused(client):
    headers = {f"{client.prefix}meta-a": "x" * 9000}
    answer = client.request("PUT", "k", ONE, headers)
    assert_refused(answer, 400, "MetadataTooLarge")


@pytest.mark.parametrize("size", [10, 2000])
def test_a_file_that_is_too_large_is_no_404(client, settings, size):
    policies(settings, default={"max_size": 2500})
    upload_id = client.initiate("k")
    assert client.put_part("k", upload_id, 1, b"x" * 2000).status == 200
    assert client.put_part("k", upload_id, 2, b"x" * 400).status == 200
    answer = client.put_part("k", upload_id, 3, b"x" * (size + 91))
    assert_refused(answer, 400, "EntityTooLarge")
    assert_refused(client.request("PUT", "k2", b"x" * 2501), 400, "EntityTooLarge")
    assert UploadSession.objects.filter(state=State.RECEIVING).get().received == 2400


def test_quotas_hold(client, settings):
    policies(settings, default={"quota": 2500, "downloadable": True})
    assert client.request("PUT", "a", b"x" * 2000).status == 200
    upload_id = client.initiate("k")
    answer = client.put_part("k", upload_id, 1, b"x" * 501)
    assert_refused(answer, 400, "EntityTooLarge")
    assert client.put_part("k", upload_id, 1, b"x" * 500).status == 200
    client.request("DELETE", "a")
    assert client.put_part("k", upload_id, 2, b"x" * 2000).status == 200


def test_too_many_open_uploads_are_refused(client, settings):
    policies(settings, default={"max_open": 2})
    client.initiate("a")
    client.initiate("a")
    answer = client.request("POST", "b", uploads="")
    assert_refused(answer, 400, "TooManyUploads")


def test_a_type_that_is_not_allowed_is_refused(client, settings):
    policies(settings, default={"allowed_extensions": [".png"]})
    assert_refused(client.request("POST", "a.exe", uploads=""), 403, "AccessDenied")
    assert client.request("POST", "a.png", uploads="").status == 200


def test_a_file_that_the_policy_rejects_is_refused(client, settings):
    change(settings, POLICIES={"default": "tests.test_multipart.NoSpam"})
    answer = client.send("k", b"spam")
    assert_refused(answer, 400, "InvalidRequest")
    assert "unwanted" in text_of(answer, "Message")
    answer = client.request("PUT", "k", b"spam")
    assert_refused(answer, 400, "InvalidRequest")
    assert finished() == {}
    assert client.send("k", b"ham").status == 200


class NoSpam(UploadPolicy):
    """A policy that looks into files."""

    def validate(self, upload, file):
        if file.read() == b"spam":
            raise errors.Rejected("That is unwanted.")


def test_a_bucket_that_hands_nothing_out_says_so(client, settings):
    policies(settings, default={"downloadable": False})
    client.request("PUT", "k", ONE)
    assert client.request("HEAD", "k").status == 200
    assert_refused(client.request("GET", "k"), 403, "AccessDenied")


def test_a_file_that_takes_too_long_is_asked_for_again(client, settings, monkeypatch):
    monkeypatch.setattr(multipart_objects, "PATIENCE", 0.1)
    upload_id = client.initiate("k")
    client.put_part("k", upload_id, 1, ONE)
    change(settings, RUNNER="tests.rest.nobody")
    answer = client.complete("k", upload_id, [(1, md5(ONE))])
    assert_refused(answer, 503, "ServiceUnavailable")
    assert answer.headers["Retry-After"]
    change(settings, RUNNER="inline")
    monkeypatch.setattr(multipart_objects, "PATIENCE", 30)
    long_ago = timezone.now() - 2 * engine.REMIND_AFTER
    UploadSession.objects.update(active_at=long_ago)
    assert client.complete("k", upload_id, [(1, md5(ONE))]).status == 200
    assert only_file() == sha256(ONE)


def by_and_by(name: str, *args: Any) -> None:
    """Be a runner that does the work a moment later, as a worker does."""
    if name == runner.ASSEMBLE:
        threading.Timer(0.3, assemble_elsewhere, args).start()


def assemble_elsewhere(upload_id: Any) -> None:
    try:
        assembly.assemble(upload_id)
    finally:
        connections.close_all()


def test_complete_waits_for_a_worker(client, settings):
    change(settings, RUNNER="tests.test_multipart.by_and_by")
    assert client.send("k", ONE, TWO).status == 200
    assert only_file() == sha256(ONE + TWO)
    assert client.request("GET", "k").body == ONE + TWO


def test_a_failed_assembly_is_said_and_tried_again(client, monkeypatch):
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    upload_id = client.initiate("k")
    client.put_part("k", upload_id, 1, ONE)
    listed = [(1, md5(ONE))]
    with monkeypatch.context() as patch:
        patch.setattr("resumable_uploads.stores.filesystem.FilesystemStore.join", full)
        answer = client.complete("k", upload_id, listed)
        assert_refused(answer, 503, "ServiceUnavailable")
    UploadSession.objects.update(state=State.FAILED, retry_at=None, lease="")
    assert client.complete("k", upload_id, listed).status == 200
    assert only_file() == sha256(ONE)


def test_the_admin_shows_an_upload_in_parts(client, admin_client):
    upload_id = client.initiate("k")
    for number in (1, 3, 7):
        client.put_part("k", upload_id, number, ONE[: 300 * number])
    page = admin_client.get(page_of(UploadSession.objects.get()))
    assert page.status_code == 200
    client.complete("k", upload_id, [(1, md5(ONE[:300])), (7, md5(ONE))])
    page = admin_client.get(page_of(UploadSession.objects.get()))
    assert page.status_code == 200


def test_the_native_protocol_shows_an_upload_in_parts(me):
    client = OssClient(me, credentials(me))
    upload_id = client.initiate("k")
    client.put_part("k", upload_id, 2, ONE)
    (shown,) = me.get("/uploads/").json()["results"]
    assert (shown["state"], shown["received"]) == ("receiving", 1000)
    assert me.post(f"{shown['url']}complete/").status == 409
    assert me.delete(shown["url"]).status == 204
    assert_refused(client.put_part("k", upload_id, 2, ONE), 404, "NoSuchUpload")


@pytest.mark.parametrize(
    ("method", "key", "query"),
    [
        ("POST", "", {"delete": ""}),
        ("GET", "", {"acl": ""}),
        ("GET", "", {"versioning": ""}),
        ("GET", "", {"versions": ""}),
        ("PUT", "", {"lifecycle": ""}),
        ("DELETE", "", {}),
        ("POST", "", {}),
        ("POST", "k", {}),
        ("POST", "k", {"append": "", "position": "0"}),
        ("PUT", "k", {"tagging": ""}),
        ("GET", "k", {"acl": ""}),
        ("GET", "k", {"versionId": "x"}),
        ("POST", "k", {"restore": ""}),
        ("POST", "k", {"select": "", "select-type": "2"}),
    ],
)
def test_what_is_not_there_is_not_implemented(client, method, key, query):
    assert_refused(client.request(method, key, **query), 501, "NotImplemented")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("copy-source", f"/{BUCKET}/k"),
        ("callback", "e30="),
        ("server-side-encryption-customer-algorithm", "AES256"),
    ],
)
def test_what_a_header_asks_for_in_vain_is_said_to_be_so(client, header, value):
    said = {f"{client.prefix}{header}": value}
    assert_refused(client.request("PUT", "l", b"", said), 501, "NotImplemented")
    assert UploadSession.objects.count() == 0


def test_another_method_is_not_allowed(client):
    made = client.made("PATCH", "k")
    answer = client.me.request("PATCH", made["path"], b"", made["headers"])
    assert_refused(answer, 405, "MethodNotAllowed")


# Conditions


def test_a_file_is_not_overwritten_where_it_must_not(client):
    header = {
        said(client, "x-oss-forbid-overwrite", "If-None-Match"): said(
            client, "true", "*"
        )
    }
    code = said(client, "FileAlreadyExists", "PreconditionFailed")
    status = 409 if is_oss(client) else 412
    assert client.request("PUT", "k", ONE, header).status == 200
    assert_refused(client.request("PUT", "k", TWO, header), status, code)
    upload_id = client.initiate("k")
    client.put_part("k", upload_id, 1, TWO)
    answer = client.request(
        "POST", "k", manifest([(1, md5(TWO))]), header, uploadId=upload_id
    )
    assert_refused(answer, status, code)
    assert only_file() == sha256(ONE)
    assert client.complete("k", upload_id, [(1, md5(TWO))]).status == 200
    assert only_file() == sha256(TWO)


def test_what_was_said_at_the_start_holds_at_the_end(oss):
    upload_id = oss.initiate("k", **{"x_oss_forbid_overwrite": "true"})
    oss.put_part("k", upload_id, 1, ONE)
    oss.request("PUT", "k", TWO)
    answer = oss.complete("k", upload_id, [(1, md5(ONE))])
    assert_refused(answer, 409, "FileAlreadyExists")


def test_a_file_is_overwritten_only_if_it_is_the_one_that_is_known(s3):
    s3.request("PUT", "k", ONE)
    wrong, right = {"If-Match": f'"{md5(TWO)}"'}, {"If-Match": f'"{md5(ONE)}"'}
    assert_refused(s3.request("PUT", "k", TWO, wrong), 412, "PreconditionFailed")
    assert_refused(s3.request("PUT", "new", TWO, wrong), 404, "NoSuchKey")
    assert s3.request("PUT", "k", TWO, right).status == 200


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("If-Match", "{etag}", 200),
        ("If-Match", '"x"', 412),
        ("If-Match", "*", 200),
        ("If-None-Match", "{etag}", 304),
        ("If-None-Match", '"x"', 200),
        ("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT", 200),
        ("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT", 304),
        ("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT", 412),
    ],
)
def test_a_file_is_handed_out_under_conditions(client, header, value, status):
    etag = client.request("PUT", "k", ONE).headers["ETag"]
    answer = client.request("GET", "k", headers={header: value.format(etag=etag)})
    assert answer.status == status
    assert (answer.body == ONE) == (status == 200)


# Handing out


@pytest.mark.parametrize(
    ("range_", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=990-", 206, slice(990, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=-5000", 206, slice(0, None)),
        ("bytes=990-5000", 206, slice(990, None)),
        ("bytes=9-0", 200, slice(0, None)),
        ("bytes=0-1,5-6", 200, slice(0, None)),
        ("lines=0-1", 200, slice(0, None)),
    ],
)
def test_ranges_are_handed_out(client, range_, status, part):
    client.send("k", ONE[:600], ONE[600:])
    answer = client.request("GET", "k", headers={"Range": range_})
    assert (answer.status, answer.body) == (status, ONE[part])
    is_whole = status == 200
    assert ("x-oss-hash-crc64ecma" in answer.headers) == (is_oss(client) and is_whole)


def test_a_range_that_is_not_there_is_refused(client):
    client.request("PUT", "k", ONE)
    answer = client.request("GET", "k", headers={"Range": "bytes=1000-"})
    assert_refused(answer, 416, "InvalidRange")
    assert answer.headers["Content-Range"] == "bytes */1000"


def test_a_file_is_never_active_content(client):
    client.request("PUT", "k.html", b"<script>", {"Content-Type": "text/html"})
    answer = client.request("GET", "k.html")
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_headers_of_the_answer_can_be_asked_for(client):
    client.request("PUT", "k", ONE)
    answer = client.request(
        "GET", "k", response_cache_control="no-cache", response_content_type="a/b"
    )
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Content-Type"] == "a/b"


@pytest.mark.parametrize("name", ["set-cookie", "x-frame-options", "location"])
def test_no_other_headers_can_be_asked_for(client, name):
    client.request("PUT", "k", ONE)
    plain = client.request("GET", "k").headers.get(name)
    answer = client.request("GET", "k", **{f"response-{name}": "evil"})
    assert (answer.status, answer.headers.get(name)) == (200, plain)


def test_a_header_cannot_be_split(client):
    client.request("PUT", "k", ONE)
    query = {"response-content-type": "a/b\r\nSet-Cookie: x=y"}
    assert_refused(client.request("GET", "k", **query), 400, "InvalidArgument")


@pytest.mark.parametrize("value", ["\0", "a\0b"])
@pytest.mark.parametrize("name", ["prefix", "marker", "delimiter", "uploadId"])
def test_what_no_database_can_have_is_refused(client, name, value):
    assert_refused(client.request("GET", **{name: value}), 400, "InvalidArgument")


def test_bytes_that_are_no_text_are_refused(client):
    bad = {f"{client.prefix}meta-a": "\xff\xfe"}
    made = client.made("PUT", "k", ONE, bad)
    assert client.me.request(**made).status in (400, 403)
    assert UploadSession.objects.count() == 0


def test_a_file_that_was_completed_by_another_protocol_is_there(me):
    client = OssClient(me, credentials(me))
    client.initiate("k")
    (shown,) = me.get("/uploads/").json()["results"]
    assert me.post(f"{shown['url']}complete/").status == 200
    answer = client.request("GET", "k")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["ETag"]
    upload_id = client.initiate("l")
    shown = me.get("/uploads/").json()["results"][0]
    client.put_part("l", upload_id, 1, ONE)
    me.put(f"{shown['url']}chunks/2/", ONE)
    assert client.parts("l", upload_id).status == 200


def test_what_was_deleted_is_gone_and_to_delete_it_again_is_harmless(client):
    client.request("PUT", "k", ONE)
    for _ in range(2):
        assert client.request("DELETE", "k").status == 204
        assert_refused(client.request("GET", "k"), 404, "NoSuchKey")
    assert finished() == {}


def test_a_refused_head_has_no_body(client):
    answer = client.request("HEAD", "k")
    assert (answer.status, answer.body) == (404, b"")
    if is_oss(client):
        told = base64.b64decode(answer.headers["x-oss-err"])
        assert b"<Code>NoSuchKey</Code>" in told


# The bucket


def test_the_bucket_is_there_and_can_be_made_again(client):
    assert client.request("HEAD").status == 200
    assert client.request("PUT").status == 200
    assert document(client.request("GET", location="")).tag == "LocationConstraint"


def test_another_bucket_is_not_there(me, s3):
    s3.bucket = "other-bucket"
    assert_refused(s3.request("GET"), 404, "NoSuchBucket")
    assert_refused(s3.request("PUT", "k", ONE), 404, "NoSuchBucket")
    assert s3.request("HEAD").status == 404


def test_the_root_of_the_site_has_no_other_buckets(me, oss):
    oss.bucket = "other-bucket"
    assert oss.request("GET").status == 404
    assert me.get("/uploads/").status == 200
