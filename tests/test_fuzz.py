"""Whatever a header, a form or a document says: an answer, never an accident.

Few examples, always the same ones. ``FUZZ=50`` tries fifty times as many, others each
time; what was found that way is in the seeds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from project.content_type import is_readable
from resumable_uploads import errors, sources
from resumable_uploads.models import GONE_STATES, Chunk, UploadSession
from resumable_uploads.protocols import base, byteoffset, digests, fields, tus
from resumable_uploads.protocols import tus_metadata as metadata
from resumable_uploads.protocols.multipart import chunked, documents, signing
from resumable_uploads.protocols.multipart.refusals import Refusal
from resumable_uploads.protocols.multipart.signing import aws, oss

from . import drafts
from . import tus as tus_client
from .buckets import OldOssClient, OssClient, S3Client, held, manifest
from .client import OCTETS
from .foreign import BOUNDARY, Fine, flow, form
from .foreign import Rest as Offset
from .making import ScriptedSource
from .rest import chunk, open_upload
from .visitor import Visitor

pytestmark = pytest.mark.once

MORE = int(os.environ.get("FUZZ", "0"))


def fuzzed(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples * (MORE or 1),
        derandomize=not MORE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# Words

NUMBERS = [
    "",
    "0",
    "5",
    "+5",
    "-1",
    "-0",
    "00005",
    " 5",
    "5 ",
    "1e3",
    "0x10",
    "1_000",
    "NaN",
    "inf",
    "1.0",
    "5,5",
    "1" + 18 * "0",
    "1" + 30 * "0",
    "9" * 5000,
    str(2**63 - 1),
    str(2**63),
    str(-(2**63)),
    str(2**64),
    "²",
    "½",
    # A full-width and an Arabic digit, as WSGI has them.
    "５".encode().decode("latin-1"),
    "٣".encode().decode("latin-1"),
]
SEEDS = {
    "number": NUMBERS,
    "digest": [
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        "sha-256=:AA==:",
        "sha-256=:AA",
        "crc64nvme=:AAAAAAAAAAA=:",
        "md5=:AA==:",
        "sha-256=:AA==:, sha-256=:AA==:",
        "sha-256",
        "=::",
        "sha-256=?1",
        ",,,",
        "*=::",
    ],
    "structured": ["?1", "?0", "?2", "1;a=1", '"text"', ":AA==:", "(1 2)", "?1;" * 999],
    "metadata": [
        "filename d29ybGQ=",
        "filename",
        "a ,b",
        "a !",
        ",",
        "a AA==,a AA==",
        "a gICA",
        "filename AAAA,type /w==",
        "ÿ AA==",
        "relativePath Li4vLi4v",
        "a" * 5000,
    ],
    "checksum": [
        "sha1 AA==",
        "sha1",
        "sha1  ",
        "nope AA==",
        "sha1 =",
        "crc32 AAAAAA==",
    ],
    "concat": [
        "partial",
        "final;",
        "final;/uploads/tus/x",
        "final; ",
        "final;http://[",
        "final;//[::1",
        "final;\u00e9",
        "final;" + "/a " * 1500,
        "final;?#",
        "final;%ff",
        "final;http://testserver:99999/uploads/tus/a",
    ],
    "disposition": [
        'attachment; filename="a"',
        "attachment; filename*=UTF-8''%ff",
        "attachment; filename*=nope''%41",
        "a; filename*=idna''%41",
        "a; filename*=''",
        "a; filename*=utf-16''%41",
        'a; filename="\\',
        "a;;;=;",
        "a; filename*0*=a''b",
    ],
    "range": [
        "bytes=0-",
        "bytes=-",
        "bytes=-0",
        "bytes=9-1",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes=99999999999999999999-",
        "bytes=-9999999999999999999",
        "bytes=\xb2-",
    ],
    "origin": [
        "null",
        "http://[",
        "http://[::1",
        "//",
        "http://testserver",
        "http://test@er",
        "https://evil.example",
        "http://testserver:99999",
        "http://\u00e9",
        "::",
        "http:",
    ],
    "type": [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "application/json",
        "application/json; charset=hex",
        "application/json; charset=undefined",
        "application/json; charset=idna",
        "application/json; charset=utf-16",
        "application/json; charset=rot13",
        "application/json; charset=nope",
        "application/x-www-form-urlencoded; charset=zlib",
        "/",
        ";",
        "a/b; charset=mbcs",
        "application/x-www-form-urlencoded; charset=unicode_escape",
        "text/plain",
        f"multipart/form-data; boundary={BOUNDARY}; charset=hex",
        f"multipart/form-data; boundary={BOUNDARY}; charset=utf-7",
    ],
    "id": [
        "name-5-1700000000000",
        "-",
        "--",
        "UTF-8''%ff-5-1",
        "a-5-NaN",
        "\xff-5-1",
        "\xa0",
        "a-99999999999999999999-1",
        "UTF-8''%00%0d%0a-5-1",
        "a--5-1",
        "x" * 7000,
    ],
    "override": [
        "DELETE",
        "patch",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "\xdf",
        "__init__",
        "x y",
    ],
    "date": [
        "Mon, 20 Nov 1995 19:12:08 GMT",
        "Mon, 20 Nov 1995 19:12:08 -99999999999999",
        "Mon, 20 Nov 1995 19:12:08 +9999",
        "0",
        "Mon, 31 Feb 2020 25:61:61 GMT",
        "²",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "20261121T080000Z",
        "99991231T235959Z",
        "00010101T000000Z",
    ],
    "authorization": [
        "OSS",
        "OSS :",
        "OSS a:",
        "OSS :b",
        "OSS a:b",
        "OSS4-HMAC-SHA256",
        "Basic AA==",
        "OSS4-HMAC-SHA256 Credential=a/20261121/r/oss/aliyun_v4_request,Signature=b",
        "OSS4-HMAC-SHA256 Credential=////,Signature=",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/20261121/r/s3/aws4_request, SignedHeaders=host, "
        "Signature=b",
        "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=;;;, Signature=\xff",
        "Bearer \xff",
    ],
    "payload": [
        "UNSIGNED-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-",
        "e3b0",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        "0" * 64,
        "G" * 64,
    ],
    "word": [
        "",
        "crc32",
        "sha256",
        "nope",
        "FULL_OBJECT",
        "x-amz-checksum-crc32",
        "\xff",
    ],
    "encoding": ["gzip", "deflate, gzip", "br", "aws-chunked,gzip", "identity", "\xff"],
    "host": [
        "[",
        "a b",
        "evil.example",
        "\xff",
        "",
        "testserver@x",
    ],
    "cookie": [
        "csrftoken=\xff",
        "=",
        "sessionid=" + "a" * 5000,
        "a;b;;c==",
        '"',
        "x" * 7000,
    ],
    "query": [
        "%",
        "%ff",
        "a=%00",
        "uploadId=\xff",
        "partNumber=1e9",
        "a=" * 2000,
        "=&&=;",
    ],
}
LATIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40)


@st.composite
def changed(draw: Any, seeds: list[str]) -> str:
    """Return one of these, with a stretch of it exchanged for something else."""
    text = draw(st.sampled_from(seeds))
    start = draw(st.integers(0, min(len(text), 60)))
    end = start + draw(st.integers(0, 8))
    inside = draw(
        LATIN | st.sampled_from(["%", "'", ";", ",", "=", '"', "\\", " ", ":"])
    )
    return text[:start] + inside + text[end:]


def words(kind: str) -> st.SearchStrategy[str]:
    """Return the seeds of a kind, changes of them, and any text of a header."""
    seeds = SEEDS[kind]
    return st.sampled_from(seeds) | changed(seeds) | LATIN


# Parsers by themselves


def digits(text: str) -> object:
    return base.nonnegative(text, "It")


def a_date(text: str) -> object:
    headers = {"authorization": "OSS key:signature", "date": text}
    return oss.read(signing.Request("GET", "/", "/", (), headers))


def an_aws_date(text: str) -> object:
    scope = f"key/{text[:8]}/r/s3/aws4_request"
    head = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    headers = {"authorization": head, "x-amz-date": text, "x-amz-content-sha256": "0"}
    found = aws.read(signing.Request("GET", "/", "/", (), headers))
    return found and found.is_by("secret")


def authorization(read: Callable[[Any], Any]) -> Callable[[str], object]:
    def parse(text: str) -> object:
        headers = {"authorization": text, "x-oss-date": "20261121T080000Z"}
        headers |= {"x-amz-date": "20261121T080000Z", "x-amz-content-sha256": "0"}
        found = read(signing.Request("GET", "/", "/", (), headers))
        return found and found.is_by("secret")

    return parse


def declared(text: str) -> object:
    return sources.declared_length({"CONTENT_LENGTH": text})


PARSERS: dict[str, tuple[Callable[[str], object], str]] = {
    "nonnegative": (digits, "number"),
    "Content-Length": (declared, "number"),
    "Content-Digest": (digests.content_digest, "digest"),
    "boolean": (fields.boolean, "structured"),
    "integer": (fields.whole_number, "structured"),
    "Want-Repr-Digest": (fields.preferences, "digest"),
    "Content-Disposition": (fields.filename, "disposition"),
    "Upload-Metadata": (metadata.parse, "metadata"),
    "Upload-Checksum": (tus.checksum, "checksum"),
    "X-File-Id": (byteoffset.FileId, "id"),
    "Date of OSS V1": (a_date, "date"),
    "Date of S3": (an_aws_date, "date"),
    "Authorization of OSS": (authorization(oss.read), "authorization"),
    "Authorization of S3": (authorization(aws.read), "authorization"),
    "query": (signing.parsed_query, "query"),
    "ETag": (documents.bare_etag, "word"),
}
REFUSALS = (errors.UploadError, signing.Malformed, Refusal)


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_refuses_in_its_own_words_or_not_at_all(name):
    parse, kind = PARSERS[name]

    @fuzzed(150)
    @given(words(kind) | st.text(max_size=30))
    def see(text: str) -> None:
        try:
            parse(text)
        except REFUSALS:
            return

    see()


@fuzzed(150)
@given(
    st.sampled_from([manifest([(1, "a"), (2, "b")]), b"<a/>", b"", b"\xff\xfe<", b"<"]),
    st.binary(max_size=30),
    st.integers(0, 200),
)
def test_a_manifest_is_a_list_of_parts_or_refused(document, inside, at):
    try:
        found = documents.manifest(document[:at] + inside + document[at:])
    except Refusal:
        return
    assert all(0 <= part.number < 10**5 for part in found)


BOMB = b"""<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&c;</ETag></Part>
</CompleteMultipartUpload>"""
OUTSIDE = b"""<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>
<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&b;</ETag></Part>
</CompleteMultipartUpload>"""


@pytest.mark.parametrize(
    "document",
    [
        BOMB,
        OUTSIDE,
        b"<a>" * 100_000,
        b"<CompleteMultipartUpload>"
        + b"<Part/>" * 10_001
        + b"</CompleteMultipartUpload>",
        manifest([(number, "a") for number in range(1, 10_002)]),
        BOMB.decode().encode("utf-16"),
        b'<?xml version="1.0" encoding="nope"?><a/>',
        b'<?xml version="1.0" encoding="utf-7"?>+ADw-a/+AD4-',
    ],
    ids=["bomb", "outside", "deep", "empty parts", "10,001", "utf-16", "nope", "utf-7"],
)
def test_a_bomb_of_a_manifest_is_refused(document):
    with pytest.raises(Refusal, match="MalformedXML|1 to 10000|well-formed|PartNumber"):
        documents.manifest(document)


PIECES = [
    b"3\r\nabc\r\n0\r\n\r\n",
    b"3;chunk-signature=" + b"0" * 64 + b"\r\nabc\r\n0\r\n\r\n",
    b"-1\r\n",
    b"FFFFFFFFFFFFFFFF\r\nabc",
    b"+3\r\nabc\r\n",
    b"0x3\r\nabc\r\n",
    b"\r\n",
    b"3\nabc\n0\n\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b"1" * 17 + b"\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n",
    b"3\r\nabc\r\n0\r\n" + b"a:b\r\n" * 30,
    b"a" * 9000,
]


@fuzzed(200)
@given(
    st.sampled_from(PIECES),
    st.binary(max_size=12),
    st.integers(0, 80),
    st.integers(0, 9),
)
def test_a_body_in_pieces_is_never_more_than_it_was_announced_to_be(
    body, inside, at, length
):
    body = body[:at] + inside + body[at:]
    source = chunked.ChunkedSource(
        ScriptedSource(body, length=len(body)), length, None, None
    )
    view, came = memoryview(bytearray(64)), b""
    while size := source.readinto(view, 0.01):
        came += view[:size]
    assert len(came) <= length
    try:
        source.conclude()
    except errors.UploadError:
        return
    assert body.startswith(f"{len(came):x}".encode()) or b"\r\n" + came[-1:] in body


# Over HTTP


class Asked:
    """A request that would do, but for the header that is tried."""

    def __init__(self, method: str, path: str, body: bytes = b"", **headers: str):
        self.method, self.path, self.body = method, path, body
        self.headers = {name.replace("_", "-"): it for name, it in headers.items()}


def _signed(kind: Any, method: str, key: str, body: bytes, **query: str) -> Asked:
    made = kind(Visitor(), held()).made(method, key, body, **query)
    asked = Asked(method, made["path"], body)
    asked.headers = dict(made["headers"])
    return asked


def endpoints(me: Visitor) -> dict[str, Asked]:
    """Return a good request to each kind of address."""
    mine = open_upload(me, 10, chunk_size=5)
    there = tus_client.create(me, 10)
    draft = drafts.begin(me, Upload_Length=10)
    v1, v8 = tus_client.V1, drafts.V8
    upload_id = OssClient(Visitor(), held()).initiate("k")
    part_of = {"partNumber": "1", "uploadId": upload_id}
    part, fine = flow(b"12345").request(1), Fine(b"12345").request()
    offset = Offset(b"12345").request(0)
    post = b'{"filename": "a", "size": 5}'
    done = b"qquuid=a&qqtotalfilesize=0"
    urlencoded = "application/x-www-form-urlencoded"
    found = {
        "rest open": Asked("POST", "/uploads/", post, Content_Type="application/json"),
        "rest chunk": Asked("PUT", chunk(mine, 0), b"12345", **OCTETS),
        "rest append": Asked("PATCH", mine["url"], b"1", Upload_Offset="0", **OCTETS),
        "tus open": Asked("POST", tus_client.URL, b"", Upload_Length="5", **v1),
        "tus append": Asked(
            "PATCH", there, b"1", Upload_Offset="0", **v1, **tus_client.OFFSETS
        ),
        "draft open": Asked(
            "POST", drafts.URL, b"12345", Upload_Complete="?0", **v8, **OCTETS
        ),
        "draft append": Asked(
            "PATCH",
            draft,
            b"1",
            Upload_Offset="0",
            Upload_Complete="?0",
            **v8,
            **drafts.PARTIAL,
        ),
        "flow": Asked("POST", part["path"], part["body"], **part["headers"]),
        "fine": Asked("POST", fine["path"], fine["body"], **fine["headers"]),
        "fine done": Asked(
            "POST", "/uploads/fineuploader/done/", done, Content_Type=urlencoded
        ),
        "offset": Asked("POST", offset["path"], offset["body"], **offset["headers"]),
        "status": Asked("GET", "/demo/javascript-info/status", X_File_Id="a-5-1"),
        "sts": Asked(
            "POST",
            "/uploads/sts/",
            b'{"bucket": "demo-bucket"}',
            Content_Type="application/json",
        ),
        "oss": _signed(OssClient, "PUT", "k", b"12345", **part_of),
        "oss v1": _signed(OldOssClient, "PUT", "k", b"12345", **part_of),
        "s3": _signed(S3Client, "PUT", "k", b"12345", **part_of),
        "s3 document": _signed(S3Client, "POST", "k", b"<a/>", uploadId=mine["id"]),
    }
    return found


# Which headers are tried where: all of them hold for every address of their kind.
EVERYWHERE = {
    "Content-Type": "type",
    "Content-Encoding": "encoding",
    "Origin": "origin",
    "Referer": "origin",
    "Cookie": "cookie",
    "Accept": "type",
    "Range": "range",
    "X-CSRFToken": "word",
    "Authorization": "authorization",
    "Sec-Fetch-Site": "word",
}
TRIED = {
    "rest chunk": {"Content-Digest": "digest"},
    "rest append": {"Upload-Offset": "number", "Content-Digest": "digest"},
    "tus open": {
        "Upload-Length": "number",
        "Upload-Metadata": "metadata",
        "Upload-Concat": "concat",
        "Upload-Defer-Length": "number",
        "Tus-Resumable": "number",
        "X-HTTP-Method-Override": "override",
    },
    "tus append": {
        "Upload-Offset": "number",
        "Upload-Checksum": "checksum",
        "Upload-Length": "number",
        "X-HTTP-Method-Override": "override",
    },
    "draft open": {
        "Upload-Complete": "structured",
        "Upload-Length": "structured",
        "Upload-Draft-Interop-Version": "structured",
        "Repr-Digest": "digest",
        "Content-Digest": "digest",
        "Content-Disposition": "disposition",
        "Want-Repr-Digest": "digest",
        "Upload-Incomplete": "structured",
    },
    "draft append": {"Upload-Offset": "structured", "Upload-Complete": "structured"},
    "offset": {"X-File-Id": "id", "X-Start-Byte": "number", "X-File-Size": "number"},
    "status": {"X-File-Id": "id"},
    "oss": {
        "x-oss-date": "date",
        "Content-MD5": "word",
        "x-oss-content-sha256": "payload",
    },
    "oss v1": {"Date": "date", "x-oss-date": "date", "x-oss-security-token": "word"},
    "s3": {
        "x-amz-date": "date",
        "x-amz-content-sha256": "payload",
        "x-amz-decoded-content-length": "number",
        "x-amz-trailer": "word",
        "x-amz-checksum-crc32": "word",
        "x-amz-sdk-checksum-algorithm": "word",
        "If-Match": "word",
        "Expires": "date",
    },
    "s3 document": {"x-amz-mp-object-size": "number", "x-amz-checksum-type": "word"},
}
ENDPOINTS = (
    "rest open",
    "rest chunk",
    "rest append",
    "tus open",
    "tus append",
    "draft open",
    "draft append",
    "flow",
    "fine",
    "fine done",
    "offset",
    "status",
    "sts",
    "oss",
    "oss v1",
    "s3",
    "s3 document",
)


def there() -> Any:
    alive = UploadSession.objects.exclude(state__in=GONE_STATES)
    return alive.count(), Chunk.objects.count()


def see_an_answer(me: Visitor, asked: Asked, headers: dict[str, str], **more: Any):
    """Send a request. See that it is answered, and that a refusal leaves nothing."""
    if not is_readable(headers.get("Content-Type", "")):
        # Django reads it before any handler is there.
        return
    before = there()
    answer = me.request(asked.method, asked.path, asked.body, headers, **more)
    assert answer.status < 500 or answer.status == 501, (headers, answer.body)
    for value in answer.headers.values():
        assert not re.search("[\r\n\0]", str(value))
    if answer.status >= 400 and "Location" not in answer.headers:
        # The draft tells where an upload is whose first bytes were not taken.
        assert there() == before, headers


@pytest.mark.django_db
@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_header_is_understood_or_refused(name):
    me = Visitor()
    me.get("/upload/")
    asked = endpoints(me)[name]
    kinds = EVERYWHERE | TRIED.get(name, {})

    @fuzzed(40)
    @given(st.data())
    def see(data: Any) -> None:
        header = data.draw(st.sampled_from(sorted(kinds)))
        value = data.draw(words(kinds[header]))
        see_an_answer(me, asked, asked.headers | {header: value})

    see()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ENDPOINTS)
def test_each_word_that_is_known_to_be_awkward_is_answered(name):
    me = Visitor()
    me.get("/upload/")
    asked = endpoints(me)[name]
    for header, kind in TRIED.get(name, {}).items():
        for value in SEEDS[kind]:
            see_an_answer(me, asked, asked.headers | {header: value})


@pytest.mark.django_db
@pytest.mark.parametrize("header", sorted(EVERYWHERE))
@pytest.mark.parametrize(
    "name", ["rest open", "tus open", "flow", "fine done", "oss v1"]
)
def test_what_every_request_may_have_is_answered(name, header):
    me = Visitor()
    me.get("/upload/")
    asked = endpoints(me)[name]
    for value in SEEDS[EVERYWHERE[header]]:
        see_an_answer(me, asked, asked.headers | {header: value})


@pytest.mark.django_db
def test_a_form_is_understood_or_refused():
    me = Visitor()
    me.get("/upload/")
    good, headers = form({"flowIdentifier": "a", "flowChunkNumber": 1}, b"12345")
    asked = Asked("POST", "/uploads/flowjs/", good)
    asked.headers = headers
    inside = st.sampled_from(
        [
            b"\r\n",
            b"--" + BOUNDARY.encode(),
            b"--" + BOUNDARY.encode() + b"--",
            b'"',
            b"; filename*=nope''%41",
            b"; name*=idna''%41",
            b"\0",
            b"\xff\xfe",
            b"\r",
            b";",
            b"Content-Transfer-Encoding: base64\r\n",
            b"Content-Length: -1\r\n",
            b": :",
        ]
    ) | st.binary(max_size=20)

    @fuzzed(150)
    @given(st.integers(0, len(good)), inside, st.integers(0, 30))
    def see(at: int, new: bytes, gone: int) -> None:
        asked.body = good[:at] + new + good[at + gone :]
        see_an_answer(me, asked, asked.headers)

    see()


@pytest.mark.django_db
@pytest.mark.parametrize("host", SEEDS["host"])
@pytest.mark.parametrize("name", ["rest open", "tus open", "draft open"])
def test_a_host_that_is_not_this_one_is_refused(name, host):
    me = Visitor()
    asked = endpoints(me)[name]
    before = there()
    answer = me.request(
        asked.method, asked.path, asked.body, asked.headers, HTTP_HOST=host
    )
    assert answer.status in (400, 403), answer.status
    assert "evil.example" not in str(answer.headers.get("Location", ""))
    assert there() == before


JSON = [
    b"",
    b"null",
    b"[]",
    b"5",
    b'"a"',
    b"{",
    b"\xff",
    b"[" * 50_000,
    b'{"a":' * 5000,
    b"NaN",
    b'{"filename": "\\ud800", "size": 5}',
    b'{"filename": "a", "size": 1e400}',
    b'{"filename": "a", "size": ' + b"9" * 5000 + b"}",
    b'{"filename": "a", "size": "+5"}',
    b'{"filename": "a", "size": -1}',
    b'{"filename": "a", "size": true}',
    b'{"filename": "a", "size": 5.5}',
    b'{"filename": ["a"], "size": 5}',
    b'{"filename": "a", "size": 5, "client_key": "\\ud800"}',
    b'{"filename": "a", "size": 5, "policy": "\\u0000"}',
    b'{"filename": "a", "size": 5, "metadata": {"\\ud800": 1}}',
    b'{"filename": "a", "size": 5, "checksum": "sha-256:\\u0661"}',
    b'{"filename": "a", "size": 1000000000000000000}',
    b'{"filename": "a", "size": 5, "chunk_size": 0}',
    b'{"filename": "a", "size": 100000000, "chunk_size": 1}',
    '{"filename": "a", "size": "５", "content_type": "a/b\\r\\nX: y"}'.encode(),
]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/uploads/", "/uploads/sts/", "/uploads/fineuploader/done/"]
)
@pytest.mark.parametrize("body", JSON, ids=range(len(JSON)))
def test_a_document_is_understood_or_refused(path, body):
    asked = Asked("POST", path, body, Content_Type="application/json")
    me = Visitor()
    me.get("/upload/")
    see_an_answer(me, asked, asked.headers)


QUERIES = [
    "state=%00",
    "state=%ff",
    "state=receiving,,",
    "cursor=%ff",
    "cursor=AAAA",
    "limit=-1",
    "limit=" + "9" * 5000,
    "policy=%00",
    "policy=%ed%a0%80",
    "format=%00",
    "limit=５",
    "cursor=cD05OTk5LTEyLTMxKzIzJTNBNTklM0E1OS4wMDAwMDAlMkIwMCUzQTAw",
    "a=1&" * 2000,
]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path",
    ["/uploads/", "/uploads/limits/", "/uploads/fineuploader/session/", "/my-uploads/"]
    + ["/uploads/resumablejs/", "/upload/", "/demo/tus/"],
)
def test_a_query_is_understood_or_refused(path):
    me = Visitor()
    me.get("/upload/")
    for query in QUERIES + NUMBERS:
        answer = me.request("GET", f"{path}?{query}")
        assert answer.status < 500, query
