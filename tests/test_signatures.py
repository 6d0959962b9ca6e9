"""Signatures: all vectors are right, and no vector with a byte changed is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from resumable_uploads.protocols.multipart import signing
from resumable_uploads.protocols.multipart.signing import aws, oss

VECTORS = json.loads((Path(__file__).parent / "data" / "signatures.json").read_text())
OSS, AWS = VECTORS["oss"], VECTORS["aws_sigv4"]


def oss_request(vector: dict[str, Any], **changes: Any) -> signing.Request:
    query = urlsplit(vector["url"]).query if "url" in vector else vector["query"]
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    if "authorization" in vector:
        headers["authorization"] = vector["authorization"]
    facts = {
        "method": vector["method"],
        "path": "/anywhere",
        "resource": f"/{vector['bucket']}/{vector['key']}",
        "query": signing.parsed_query(query),
        "headers": headers,
    }
    return signing.Request(**facts | changes)


def aws_request(vector: dict[str, Any], **changes: Any) -> signing.Request:
    url = urlsplit(vector["url"])
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    facts = {
        "method": vector["method"],
        "path": unquote(url.path),
        "resource": "",
        "query": signing.parsed_query(url.query),
        "headers": {"host": url.netloc} | headers,
    }
    return signing.Request(**facts | changes)


CASES = [(oss, oss_request, vector) for vector in OSS]
CASES += [(aws, aws_request, vector) for vector in AWS]
IDS = [vector["id"] for _, _, vector in CASES]


@pytest.mark.parametrize(("module", "made", "vector"), CASES, ids=IDS)
def test_a_vector_is_signed_as_it_should_be(module, made, vector):
    signature = module.read(made(vector))
    assert signature.access_key_id == vector["access_key_id"]
    assert signature.token == (vector["security_token"] or "")
    assert signature.string_to_sign == vector["string_to_sign"]
    if vector.get("canonical_request"):
        assert signature.canonical_request == vector["canonical_request"]
    assert signature.is_by(vector["secret"])
    assert not signature.is_by(vector["secret"] + "x")


def bent(text: str) -> str:
    """Return text with one byte changed, in the middle of it."""
    place = len(text) // 2
    return (
        text[:place]
        + ("a" if text[place : place + 1] != "a" else "b")
        + text[place + 1 :]
    )


def is_good(module: Any, request: signing.Request, secret: str) -> bool:
    try:
        signature = module.read(request)
        return bool(signature and signature.is_by(secret))
    except signing.Malformed:
        return False


@pytest.mark.parametrize(("module", "made", "vector"), CASES, ids=IDS)
def test_a_vector_with_one_byte_changed_is_refused(module, made, vector):
    request, secret = made(vector), vector["secret"]
    assert is_good(module, request, secret)
    other = "GET" if request.method != "GET" else "PUT"
    changed: list[dict[str, Any]] = [{"method": other}]
    name = "path" if module is aws else "resource"
    changed.append({name: getattr(request, name) + "x"})
    changed.append({name: bent(getattr(request, name))})
    for number, (parameter, value) in enumerate(request.query):
        if module is oss and vector["id"].startswith("oss1") and is_unsigned(parameter):
            continue
        pairs = list(request.query)
        pairs[number] = (parameter, bent(value))
        changed.append({"query": tuple(pairs)})
    changed += [
        {"headers": request.headers | {header: bent(value)}}
        for header, value in request.headers.items()
        if is_signed(module, request, header)
    ]
    for change in changed:
        assert not is_good(module, made(vector, **change), secret), change


def is_unsigned(parameter: str) -> bool:
    known = {"Signature", "Expires", "OSSAccessKeyId"}
    return parameter not in oss.SUB_RESOURCES | known or parameter == "OSSAccessKeyId"


def is_signed(module: Any, request: signing.Request, header: str) -> bool:
    if header == "authorization":
        return True
    if module is aws:
        return header in aws.read(request).signed_headers
    return header.startswith("x-oss-") or header in ("content-type", "content-md5")


def test_parameters_that_the_first_version_does_not_sign_are_known():
    unsigned = {
        name
        for vector in OSS
        if vector["id"].startswith("oss1-header")
        for name, _ in signing.parsed_query(vector["query"])
        if is_unsigned(name)
    }
    assert unsigned == {"max-parts", "part-number-marker", "max-uploads", "prefix"}


@pytest.mark.parametrize("vector", VECTORS["aws_chunked_signed"], ids=[0, 1])
def test_signed_pieces_follow_each_other(vector):
    chain = chain_of(vector)
    body = b"a" * sum(vector["chunk_sizes"])
    position = 0
    for size, given in zip(
        vector["chunk_sizes"], vector["chunk_signatures"], strict=True
    ):
        assert chain.is_next(given, sha256(body[position : position + size]))
        position += size
    if "trailer" in vector:
        lines = "".join(f"{name}:{value}\n" for name, value in vector["trailer"])
        assert chain.is_trailer(vector["trailer_signature"], lines)


@pytest.mark.parametrize("vector", VECTORS["aws_chunked_signed"], ids=[0, 1])
def test_pieces_in_another_order_are_refused(vector):
    chain = chain_of(vector)
    second = sha256(b"a" * vector["chunk_sizes"][1])
    assert not chain.is_next(vector["chunk_signatures"][1], second)


def chain_of(vector: dict[str, Any]) -> aws.ChunkSignatures:
    url = urlsplit(vector["url"])
    scope = f"{vector['timestamp'][:8]}/{vector['region']}/s3/aws4_request"
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={vector['access_key_id']}/{scope}, "
        f"SignedHeaders={';'.join(vector['signed_headers'])}, "
        f"Signature={vector['seed_signature']}"
    )
    request = signing.Request(
        vector["method"],
        url.path,
        "",
        (),
        vector["headers"] | {"authorization": authorization},
    )
    signature = aws.read(request)
    assert isinstance(signature, aws.V4)
    assert signature.is_by(vector["secret"])
    return signature.chunks(vector["secret"])


def sha256(data: bytes) -> str:
    return signing.hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "authorization",
    [
        "OSS ",
        "OSS key",
        "OSS :signature",
        "Bearer x",
        "Basic eDp5",
        "OSS4-HMAC-SHA256 Credential=a/20261121/r/oss/aliyun_v4_request",
        "OSS4-HMAC-SHA256 Credential=a/20261121/r/s3/aliyun_v4_request,Signature=a",
        "OSS4-HMAC-SHA256 Credential=a,Signature=b",
        "OSS4-HMAC-SHA256 nonsense",
    ],
)
def test_a_malformed_signature_of_oss_is_said_to_be_so(authorization):
    headers = {"authorization": authorization, "x-oss-date": "20261121T080000Z"}
    request = signing.Request("GET", "/b/k", "/b/k", (), headers)
    with pytest.raises(signing.Malformed):
        oss.read(request)


@pytest.mark.parametrize(
    ("header", "query"),
    [
        ("AWS AKID:c2ln", ""),
        ("", "AWSAccessKeyId=a&Signature=b&Expires=1"),
        ("AWS4-HMAC-SHA256 Credential=a", ""),
        ("AWS4-HMAC-SHA256 nonsense", ""),
        ("", "X-Amz-Algorithm=AWS4-HMAC-SHA1"),
        ("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=5"),
        (
            "AWS4-HMAC-SHA256 Credential=a/20261121/r/s3/aws4_request, "
            "SignedHeaders=x-amz-date, Signature=b",
            "",
        ),
    ],
)
def test_a_malformed_signature_of_amazon_is_said_to_be_so(header, query):
    headers = {"x-amz-date": "20261121T080000Z"}
    if header:
        headers["authorization"] = header
    request = signing.Request("GET", "/b/k", "", signing.parsed_query(query), headers)
    with pytest.raises(signing.Malformed):
        aws.read(request)


def test_a_header_of_amazons_that_is_not_signed_is_refused():
    vector = next(one for one in AWS if one["id"] == "aws4-header/create")
    request = aws_request(vector)
    added = request.headers | {"x-amz-meta-new": "1"}
    with pytest.raises(signing.Malformed, match="x-amz-meta-new"):
        aws.read(aws_request(vector, headers=added))


def test_who_does_not_sign_has_no_signature():
    request = signing.Request("GET", "/b/k", "/b/k", (), {})
    assert aws.read(request) is None
    assert oss.read(request) is None
