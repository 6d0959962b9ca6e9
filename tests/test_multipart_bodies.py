"""Bodies of S3's clients: digests, aws-chunked pieces, signatures of each, trailers."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any

import pytest
from awscrt import checksums as crt

from resumable_uploads import errors
from resumable_uploads.body import Body
from resumable_uploads.models import Chunk, UploadSession
from resumable_uploads.protocols.multipart import checksums
from resumable_uploads.protocols.multipart.chunked import (
    BadFrame,
    BadSignature,
    ChunkedSource,
)
from resumable_uploads.protocols.multipart.signing import aws

from .buckets import (
    OssClient,
    S3Client,
    assert_refused,
    document,
    held,
    manifest,
    md5,
    text_of,
)
from .making import PAUSE, ScriptedSource
from .rest import finished, sha256, some_bytes
from .test_multipart import buckets
from .test_signatures import VECTORS, chain_of
from .visitor import Visitor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]
ONE, TWO = some_bytes(1000, 1), some_bytes(1000, 2)
UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

MADE = {
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "crc32c": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "crc64nvme": lambda data: crt.crc64nvme(data).to_bytes(8, "big"),
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}


def checksum(name: str, data: bytes) -> str:
    return base64.b64encode(MADE[name](data)).decode()


@pytest.fixture
def s3(settings: Any) -> S3Client:
    buckets(settings)
    return S3Client(Visitor(), held())


def pieces(data: bytes, size: int, *trailers: str) -> bytes:
    """Return a body in pieces, as botocore frames it."""
    cut = [data[start : start + size] for start in range(0, len(data), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in cut)
    lines = "".join(f"{trailer}\r\n" for trailer in trailers)
    return framed + b"0\r\n" + lines.encode() + b"\r\n"


def in_pieces(
    s3: S3Client, body: bytes, length: int, trailer: str = "", **query: str
) -> Any:
    headers = {
        "x-amz-content-sha256": UNSIGNED,
        "X-Amz-Decoded-Content-Length": str(length),
        "Content-Encoding": "aws-chunked",
    }
    if trailer:
        headers["X-Amz-Trailer"] = f"x-amz-checksum-{trailer}"
    return s3.request("PUT", "k", body, headers, **query)


# The frame


def scripted(
    *steps: Any, length: int, signatures: Any = None, promised: Any = None
) -> Body:
    total = sum(len(step) for step in steps if isinstance(step, bytes))
    source = ScriptedSource(*steps, length=total)
    return Body(ChunkedSource(source, length, signatures, promised))


def read(body: Body) -> bytes:
    data = b"".join(bytes(block) for block in body.whole(10_000_000))
    body.check_end()
    return data


@pytest.mark.parametrize("vector", VECTORS["aws_chunked_unsigned"], ids=range(6))
def test_a_body_in_pieces_is_put_together(vector):
    name, found = vector["algorithm"], {}

    def promised(trailers):
        found.update(trailers)
        return {}

    encoded, payload = vector["encoded"].encode(), vector["payload"].encode()
    assert read(scripted(encoded, length=len(payload), promised=promised)) == payload
    assert found == {f"x-amz-checksum-{name}": checksum(name, payload)}


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_a_body_may_come_in_any_portions(step):
    encoded = pieces(ONE, 300)
    portions = [encoded[start : start + step] for start in range(0, len(encoded), step)]
    steps = [one for portion in portions for one in (portion, PAUSE)]
    assert read(scripted(*steps, length=len(ONE))) == ONE


@pytest.mark.parametrize(
    ("body", "length", "error"),
    [
        (b"", 5, errors.Truncated),
        (b"5\r\nhel", 5, errors.Truncated),
        (b"5\r\nhello", 5, errors.Truncated),
        (b"5\r\nhello\r\n", 5, errors.Truncated),
        (b"5\r\nhello\r\n0\r\n", 5, errors.Truncated),
        (b"3\r\nhel\r\n0\r\n\r\n", 5, errors.Truncated),
        (b"6\r\nhello!\r\n0\r\n\r\n", 5, BadFrame),
        (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", 5, BadFrame),
        (b"5\r\nhelloXX0\r\n\r\n", 5, BadFrame),
        (b"x\r\nhello\r\n0\r\n\r\n", 5, BadFrame),
        (b"-5\r\nhello\r\n0\r\n\r\n", 5, BadFrame),
        (b"5;chunk-signature=" + b"a" * 64 + b"\r\nhello\r\n0\r\n\r\n", 5, BadFrame),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n", 5, BadFrame),
        (b"a" * 5000, 5, BadFrame),
        (b"", 0, errors.Truncated),
    ],
    ids=range(15),
)
def test_a_broken_frame_is_found(body, length, error):
    with pytest.raises(error):
        read(scripted(body, length=length))


def signed_body(vector: dict[str, Any]) -> bytes:
    data, body, position = b"a" * 66560, b"", 0
    for size, given in zip(
        vector["chunk_sizes"], vector["chunk_signatures"], strict=True
    ):
        piece = data[position : position + size]
        end = b"\r\n" if size else b""
        body += b"%x;chunk-signature=%s\r\n%s%s" % (size, given.encode(), piece, end)
        position += size
    for name, value in vector.get("trailer", ()):
        body += f"{name}:{value}\r\n".encode()
    if "trailer" in vector:
        body += f"x-amz-trailer-signature:{vector['trailer_signature']}\r\n".encode()
    return body + b"\r\n"


@pytest.mark.parametrize("vector", VECTORS["aws_chunked_signed"], ids=[0, 1])
def test_the_published_signed_bodies_are_taken(vector):
    body = signed_body(vector)
    promised = (lambda trailers: {}) if "trailer" in vector else None
    made = scripted(body, length=66560, signatures=chain_of(vector), promised=promised)
    assert read(made) == b"a" * 66560


@pytest.mark.parametrize("vector", VECTORS["aws_chunked_signed"], ids=[0, 1])
@pytest.mark.parametrize("place", [30, 100, 40_000, 66_000, -100])
def test_a_signed_body_with_one_byte_changed_is_refused(vector, place):
    body = bytearray(signed_body(vector))
    body[place] = ord("b") if body[place] != ord("b") else ord("c")
    promised = (lambda trailers: {}) if "trailer" in vector else None
    made = scripted(
        bytes(body), length=66560, signatures=chain_of(vector), promised=promised
    )
    with pytest.raises((BadSignature, BadFrame)):
        read(made)


# Over the wire


@pytest.mark.parametrize("name", MADE)
def test_a_checksum_in_a_trailer_is_compared_and_told_again(s3, name):
    right = f"x-amz-checksum-{name}:{checksum(name, ONE)}"
    wrong = f"x-amz-checksum-{name}:{checksum(name, TWO)}"
    answer = in_pieces(s3, pieces(ONE, 400, wrong), 1000, name)
    assert_refused(answer, 400, "BadDigest")
    assert finished() == {}
    answer = in_pieces(s3, pieces(ONE, 400, right), 1000, name)
    assert answer.status == 200, answer.body
    assert answer.headers[f"x-amz-checksum-{name}"] == checksum(name, ONE)
    head = s3.request("HEAD", "k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert head.headers[f"x-amz-checksum-{name}"] == checksum(name, ONE)
    assert head.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    # Not a word of it in what is kept, and none of it where only a part is asked for.
    assert "Content-Encoding" not in head.headers
    both = {"x-amz-checksum-mode": "ENABLED", "Range": "bytes=0-5"}
    got = s3.request("GET", "k", headers=both)
    assert f"x-amz-checksum-{name}" not in got.headers


@pytest.mark.parametrize("name", MADE)
def test_a_checksum_in_a_header_is_compared_and_told_again(s3, name):
    upload_id = s3.initiate("k")
    header = f"x-amz-checksum-{name}"
    answer = s3.put_part("k", upload_id, 1, ONE, **{header: checksum(name, TWO)})
    assert_refused(answer, 400, "BadDigest")
    assert Chunk.objects.count() == 0
    answer = s3.put_part("k", upload_id, 1, ONE, **{header: checksum(name, ONE)})
    assert answer.headers[header] == checksum(name, ONE)
    element = f"Part/Checksum{name.upper()}"
    assert text_of(s3.parts("k", upload_id), element) == checksum(name, ONE)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-checksum-crc32": "nonsense"}, "InvalidRequest"),
        ({"x-amz-checksum-crc32": "AAAAAAAA"}, "InvalidRequest"),
        ({"x-amz-checksum-crc99": "AAAAAA=="}, "InvalidRequest"),
        ({"x-amz-content-sha256": "nonsense"}, "InvalidArgument"),
        ({"x-amz-content-sha256": "0" * 64}, "XAmzContentSHA256Mismatch"),
    ],
)
def test_a_checksum_that_cannot_be_right_is_refused(s3, headers, code):
    upload_id = s3.initiate("k")
    answer = s3.put_part("k", upload_id, 1, ONE, **headers)
    assert_refused(answer, 400, code)
    assert Chunk.objects.count() == 0


def test_two_digests_that_contradict_each_other_are_refused(s3):
    headers = {"x-amz-checksum-sha256": checksum("sha256", TWO)}
    assert_refused(s3.request("PUT", "k", ONE, headers), 400, "BadDigest")


@pytest.mark.parametrize(
    ("payload", "headers", "status", "code"),
    [
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", {}, 501, "NotImplemented"),
        (UNSIGNED, {"X-Amz-Decoded-Content-Length": "x"}, 400, "InvalidRequest"),
        (UNSIGNED, {"X-Amz-Trailer": "x-amz-meta-a"}, 400, "InvalidRequest"),
    ],
)
def test_a_frame_that_is_not_known_is_refused(s3, payload, headers, status, code):
    all_headers = {"x-amz-content-sha256": payload} | {
        "X-Amz-Decoded-Content-Length": "1000"
    }
    answer = s3.request("PUT", "k", pieces(ONE, 400), all_headers | headers)
    assert_refused(answer, status, code)


def test_the_decoded_length_has_to_be_there(s3):
    headers = {"x-amz-content-sha256": UNSIGNED}
    answer = s3.request("PUT", "k", pieces(ONE, 400), headers)
    assert_refused(answer, 411, "MissingContentLength")


@pytest.mark.parametrize("trailer", ["", "x-amz-checksum-crc32c:AAAAAA=="])
def test_a_trailer_that_was_announced_has_to_come(s3, trailer):
    body = pieces(ONE, 400, *filter(None, [trailer]))
    assert_refused(in_pieces(s3, body, 1000, "crc32"), 400, "InvalidRequest")
    assert finished() == {}


@pytest.mark.parametrize("after", [0, 3, 500, 1010])
def test_a_body_in_pieces_that_is_cut_off_stores_nothing(s3, after):
    upload_id = s3.initiate("k")
    body = pieces(ONE, 400)
    headers = {
        "x-amz-content-sha256": UNSIGNED,
        "X-Amz-Decoded-Content-Length": "1000",
    }
    made = s3.made("PUT", "k", body, headers, partNumber="1", uploadId=upload_id)
    assert_refused(s3.me.cut(**made, after=after), 400, "IncompleteBody")
    assert Chunk.objects.count() == 0


def test_a_body_in_pieces_may_come_in_chunks_besides(s3):
    name = "crc32"
    trailer = f"x-amz-checksum-{name}:{checksum(name, ONE)}"
    headers = {
        "x-amz-content-sha256": UNSIGNED,
        "X-Amz-Decoded-Content-Length": "1000",
        "X-Amz-Trailer": f"x-amz-checksum-{name}",
    }
    made = s3.made("PUT", "k", b"", headers)
    body = pieces(ONE, 400, trailer)
    chunks = iter([body[:7], body[7:500], body[500:]])
    answer = s3.me.request("PUT", made["path"], chunks, made["headers"])
    assert answer.status == 200, answer.body
    assert s3.request("GET", "k").body == ONE


@pytest.mark.parametrize("is_right", [True, False])
def test_a_body_signed_in_pieces_is_compared(s3, is_right):
    headers = {
        "x-amz-content-sha256": SIGNED,
        "X-Amz-Decoded-Content-Length": "1000",
    }
    made = s3.made("PUT", "k", b"", headers)
    body = signed_pieces(made, s3.held["AccessKeySecret"], [ONE[:600], ONE[600:]])
    if not is_right:
        body = body.replace(ONE[700:705], b"\0\0\0\0\0")
    answer = s3.me.request("PUT", made["path"], body, made["headers"])
    if not is_right:
        assert_refused(answer, 403, "SignatureDoesNotMatch")
        assert finished() == {}
        return
    assert answer.status == 200, answer.body
    assert list(finished().values()) == [sha256(ONE)]


def signed_pieces(made: dict[str, Any], secret: str, cut: list[bytes]) -> bytes:
    """Return pieces signed in the way of a published example, step by step."""
    lower = {name.lower(): value for name, value in made["headers"].items()}
    given = lower["authorization"].rpartition("Signature=")[2]
    date = lower["x-amz-date"]
    scope = f"{date[:8]}/us-east-1/s3/aws4_request"
    key = f"AWS4{secret}".encode()
    for step in scope.split("/"):
        key = hmac(key, step)
    body, nothing = b"", hashlib.sha256(b"").hexdigest()
    for piece in [*cut, b""]:
        digest = hashlib.sha256(piece).hexdigest()
        head = f"AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{given}\n{nothing}"
        head += f"\n{digest}"
        given = hmac(key, head).hex()
        end = b"\r\n" if piece else b""
        frame = b"%x;chunk-signature=%s\r\n" % (len(piece), given.encode())
        body += frame + piece + end
    return body + b"\r\n"


def hmac(key: bytes, text: str) -> bytes:
    return aws.hmac_sha256(key, text)


def test_a_file_that_is_too_large_is_refused_before_it_comes(s3, settings):
    answer = in_pieces(s3, pieces(ONE, 400), 11 * 1024**3)
    assert_refused(answer, 400, "EntityTooLarge")
    assert UploadSession.objects.count() == 0


# Checksums of the whole


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("crc32", "COMPOSITE"),
        ("crc32", "FULL_OBJECT"),
        ("crc32c", "COMPOSITE"),
        ("crc32c", "FULL_OBJECT"),
        ("crc64nvme", "FULL_OBJECT"),
        ("sha1", "COMPOSITE"),
        ("sha256", "COMPOSITE"),
    ],
)
def test_the_checksum_of_a_whole_file_is_made_of_its_parts(s3, name, kind):
    chosen = {"x-amz-checksum-algorithm": name.upper(), "x-amz-checksum-type": kind}
    answer = s3.request("POST", "k", headers=chosen, uploads="")
    assert answer.headers["x-amz-checksum-type"] == kind
    upload_id = text_of(answer, "UploadId")
    for number, part in enumerate((ONE, TWO), 1):
        s3.put_part("k", upload_id, number, part)
    if kind == "FULL_OBJECT":
        expected = checksum(name, ONE + TWO)
    else:
        expected = checksum(name, MADE[name](ONE) + MADE[name](TWO)) + "-2"
    listed = [(1, md5(ONE)), (2, md5(TWO))]
    wrong = {f"x-amz-checksum-{name}": checksum(name, b"")}
    answer = s3.request("POST", "k", manifest(listed), wrong, uploadId=upload_id)
    assert_refused(answer, 400, "BadDigest")
    right = {f"x-amz-checksum-{name}": expected, "x-amz-mp-object-size": "2000"}
    answer = s3.request("POST", "k", manifest(listed), right, uploadId=upload_id)
    assert answer.status == 200, answer.body
    assert text_of(answer, f"Checksum{name.upper()}") == expected
    assert text_of(answer, "ChecksumType") == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE"), ("CRC32", "x"), ("X", "")],
)
def test_a_kind_of_checksum_that_cannot_be_is_refused(s3, name, kind):
    chosen = {"x-amz-checksum-algorithm": name, "x-amz-checksum-type": kind}
    answer = s3.request("POST", "k", headers=chosen, uploads="")
    assert_refused(answer, 400, "InvalidRequest")


def test_a_part_listed_with_another_checksum_is_refused(s3):
    upload_id = s3.initiate("k", **{"x-amz-checksum-algorithm": "CRC32"})
    s3.put_part("k", upload_id, 1, ONE)

    def listed(value: str) -> bytes:
        body = manifest([(1, md5(ONE))]).decode()
        element = f"<ChecksumCRC32>{value}</ChecksumCRC32></Part>"
        return body.replace("</Part>", element).encode()

    wrong = listed(checksum("crc32", TWO))
    answer = s3.request("POST", "k", wrong, uploadId=upload_id)
    assert_refused(answer, 400, "InvalidPart")
    right = listed(checksum("crc32", ONE))
    assert s3.request("POST", "k", right, uploadId=upload_id).status == 200


def test_a_file_of_another_size_than_said_is_refused(s3):
    upload_id = s3.initiate("k")
    s3.put_part("k", upload_id, 1, ONE)
    said = {"x-amz-mp-object-size": "999"}
    body = manifest([(1, md5(ONE))])
    answer = s3.request("POST", "k", body, said, uploadId=upload_id)
    assert_refused(answer, 400, "InvalidRequest")


CHECKSUMS = VECTORS["checksums"]
SAMPLES = {
    "empty": b"",
    "123456789": b"123456789",
    "abc": b"abc",
    "1MiB zeros": bytes(1 << 20),
    "0..255 x 1024": bytes(range(256)) * 1024,
}


@pytest.mark.parametrize("vector", CHECKSUMS, ids=[one["input"] for one in CHECKSUMS])
def test_checksums_are_those_of_the_vectors(vector):
    data = SAMPLES[vector["input"]]
    assert len(data) == vector["length"]
    for name in ("crc32", "crc32c", "crc64nvme", "sha1", "sha256"):
        assert checksums.encoded(digest(name, data).hex()) == vector[name]
    assert digest("md5", data).hex() == vector["md5_hex"]
    found = int.from_bytes(digest("crc64ecma", data), "big")
    assert str(found) == vector["crc64ecma_decimal"]


def digest(name: str, data: bytes) -> bytes:
    made = checksums.makers([name])[name]
    for start in range(0, len(data), 1000):
        made.update(memoryview(data)[start : start + 1000])
    return made.digest()


def test_checksums_of_parts_make_those_of_the_whole():
    (vector,) = VECTORS["multipart_etag"]
    samples = [b"a" * (5 << 20), b"b" * (5 << 20), b"c" * 10]
    names = ("md5", "crc32", "sha256", "crc64nvme", "crc64ecma")
    parts = []
    for data in samples:
        digests = {name: digest(name, data).hex() for name in names}
        parts.append(
            Chunk(size=len(data), digests=digests, checksum=digests["crc64nvme"])
        )
    assert f'"{checksums.etag(parts)}"' == vector["etag"]
    assert str(checksums.full("crc64ecma", parts)) == vector["crc64ecma"]
    found = checksums.full("crc64nvme", parts).to_bytes(8, "big")
    assert checksums.encoded(found.hex()) == vector["checksum_crc64nvme_full_object"]
    found = checksums.full("crc32", parts).to_bytes(4, "big")
    assert checksums.encoded(found.hex()) == vector["checksum_crc32_full_object"]
    assert checksums.composite("crc32", parts) == vector["checksum_crc32_composite"]
    assert checksums.composite("sha256", parts) == vector["checksum_sha256_composite"]


def test_the_list_of_parts_tells_the_crc_to_clients_of_oss(settings):
    buckets(settings)
    oss = OssClient(Visitor(), held())
    upload_id = oss.initiate("k")
    answer = oss.put_part("k", upload_id, 1, b"123456789")
    assert answer.headers["x-oss-hash-crc64ecma"] == "11051210869376104954"
    listed = document(oss.parts("k", upload_id))
    assert listed.findtext("Part/HashCrc64ecma") == "11051210869376104954"
    oss.put_part("k", upload_id, 2, ONE)
    done = oss.complete("k", upload_id, [(1, md5(b"123456789")), (2, md5(ONE))])
    whole = int.from_bytes(digest("crc64ecma", b"123456789" + ONE), "big")
    assert done.headers["x-oss-hash-crc64ecma"] == str(whole)
