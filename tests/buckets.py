"""Clients of buckets that sign each request by the library of their vendor."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode
from xml.etree.ElementTree import Element, fromstring

from alibabacloud_oss_v2.credentials import StaticCredentialsProvider
from alibabacloud_oss_v2.signer.v1 import SignerV1
from alibabacloud_oss_v2.signer.v4 import SignerV4
from alibabacloud_oss_v2.types import HttpRequest, SigningContext
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from resumable_uploads.credentials import issue
from resumable_uploads.owners import Owner

from .client import Answer

BUCKET = "demo-bucket"
HOST = "testserver"


def credentials(me: Any, **said: Any) -> dict[str, Any]:
    """Return temporary credentials of a visitor."""
    assert me.get("/upload/").status == 200
    answer = me.post("/uploads/sts/", {"bucket": BUCKET} | said)
    assert answer.status == 200, answer.body
    return answer.json()


def held(owner: str = "session:alice", **said: Any) -> dict[str, str]:
    """Return temporary credentials of an owner, given out without a request."""
    user = said.pop("user", None)
    issued = issue(Owner(owner, user), said.pop("bucket", BUCKET), **said)
    return {
        "AccessKeyId": issued.access_key_id,
        "AccessKeySecret": issued.secret,
        "SecurityToken": issued.token,
    }


@dataclass
class Client:
    """A client of one bucket. ``me`` is who sends, ``held`` what it signs with."""

    me: Any
    held: Mapping[str, Any]
    bucket: str = BUCKET
    root = ""
    # What the vendor's headers begin with.
    prefix = ""
    # What goes with each request besides.
    headers: dict[str, str] = field(default_factory=dict)
    # When it signs, if not now.
    at: datetime | None = None

    def signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: dict[str, str],
        body: bytes,
    ) -> tuple[str, dict[str, str]]:
        """Return the target and the headers of a signed request."""
        raise NotImplementedError

    def presigned(self, method: str, key: str, **query: str) -> str:
        """Return a URL that is signed for ten minutes, from the root of the site."""
        raise NotImplementedError

    def path(self, key: str) -> str:
        return f"{self.root}/{self.bucket}/{quote(key.encode(), safe='/~')}"

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        encoded = urlencode(query, quote_via=quote, safe="")
        return f"http://{self.host}{path}" + (f"?{encoded}" if encoded else "")

    @property
    def host(self) -> str:
        return f"{self.me.host}:{self.me.port}" if hasattr(self.me, "host") else HOST

    def request(
        self,
        method: str,
        key: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> Answer:
        """Send a signed request; ``_`` in names of parameters is ``-``."""
        sent = self.made(method, key, body, headers, **query)
        return self.me.request(sent["method"], sent["path"], body, sent["headers"])

    def made(
        self,
        method: str,
        key: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> dict[str, Any]:
        """Return a signed request, not sent yet."""
        named = {name.replace("_", "-"): value for name, value in query.items()}
        extra = {"Host": self.host} | self.headers | dict(headers or {})
        path = self.path(key)
        target, signed = self.signed(method, path, named, extra, body)
        kind = signed.pop("Content-Type", signed.pop("content-type", ""))
        # Neither a cookie nor a token helps here.
        return {
            "method": method,
            "path": target,
            "body": body,
            "headers": signed | {"X-CSRFToken": "", "Content-Type": kind},
        }

    # What clients do:

    def initiate(self, key: str, **headers: str) -> str:
        answer = self.request("POST", key, headers=_named(headers), uploads="")
        assert answer.status == 200, answer.body
        return text_of(answer, "UploadId")

    def put_part(
        self, key: str, upload_id: str, number: object, body: bytes, **headers: str
    ) -> Answer:
        return self.request(
            "PUT",
            key,
            body,
            _named(headers),
            partNumber=str(number),
            uploadId=upload_id,
        )

    def complete(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[object, str]],
        **headers: str,
    ) -> Answer:
        body = manifest(parts)
        return self.request("POST", key, body, _named(headers), uploadId=upload_id)

    def abort(self, key: str, upload_id: str) -> Answer:
        return self.request("DELETE", key, uploadId=upload_id)

    def parts(self, key: str, upload_id: str, **query: str) -> Answer:
        return self.request("GET", key, uploadId=upload_id, **query)

    def send(self, key: str, *parts: bytes, **headers: str) -> Answer:
        """Upload a file by parts and return the answer to the last request."""
        upload_id = self.initiate(key, **headers)
        listed = []
        for number, part in enumerate(parts, 1):
            answer = self.put_part(key, upload_id, number, part)
            assert answer.status == 200, answer.body
            listed.append((number, answer.headers["ETag"]))
        return self.complete(key, upload_id, listed)


class OssClient(Client):
    """Aliyun OSS."""

    prefix = "x-oss-"
    signer = SignerV4()

    def signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: dict[str, str],
        body: bytes,
    ) -> tuple[str, dict[str, str]]:
        request = self._request(method, path, query, headers)
        context = self._context(request, path)
        context.signing_time = self.at or datetime.now(UTC)
        self.signer.sign(context)
        return _target(request.url), dict(request.headers)

    def presigned(self, method: str, key: str, **query: str) -> str:
        request = self._request(method, self.path(key), query, {})
        context = self._context(request, self.path(key))
        context.auth_method_query = True
        self.signer.sign(context)
        return _target(request.url)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: dict[str, str],
    ) -> HttpRequest:
        return HttpRequest(method, self._url(path, query), headers=headers)

    def _context(self, request: HttpRequest, path: str) -> SigningContext:
        from_root = path.removeprefix(f"/{self.bucket}/")
        provider = StaticCredentialsProvider(
            self.held["AccessKeyId"],
            self.held["AccessKeySecret"],
            self.held.get("SecurityToken"),
        )
        context = SigningContext(
            product="oss",
            region="local",
            bucket=self.bucket,
            key=unquote(from_root),
            request=request,
            credentials=provider.get_credentials(),
        )
        context.sub_resource = ["security-token"]
        return context


class OldOssClient(OssClient):
    """Aliyun OSS with its signatures of the first version."""

    signer = SignerV1()


class S3Client(Client):
    """Amazon S3."""

    prefix = "x-amz-"
    root = "/uploads/s3"

    def signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: dict[str, str],
        body: bytes,
    ) -> tuple[str, dict[str, str]]:
        digest = headers.pop("x-amz-content-sha256", hashlib.sha256(body).hexdigest())
        request = self._request(method, path, query, headers)
        request.headers["X-Amz-Content-SHA256"] = digest
        signer = _Signer(self._credentials(), "s3", "us-east-1")
        signer.digest, signer.at = digest, self.at
        signer.add_auth(request)
        return _target(request.prepare().url), dict(request.headers)

    def presigned(self, method: str, key: str, **query: str) -> str:
        request = self._request(method, self.path(key), query, {})
        S3SigV4QueryAuth(self._credentials(), "s3", "us-east-1", 600).add_auth(request)
        return _target(request.prepare().url)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: dict[str, str],
    ) -> AWSRequest:
        return AWSRequest(method, self._url(path, query), dict(headers))

    def _credentials(self) -> Credentials:
        return Credentials(
            self.held["AccessKeyId"],
            self.held["AccessKeySecret"],
            self.held.get("SecurityToken"),
        )


class _Signer(S3SigV4Auth):
    """Signs at a given time, for a body with a given digest."""

    digest = ""
    at: datetime | None = None

    def add_auth(self, request: AWSRequest) -> None:
        if self.at is None:
            super().add_auth(request)
            return
        request.context["timestamp"] = f"{self.at:%Y%m%dT%H%M%SZ}"
        self._modify_request_before_signing(request)
        canonical = self.canonical_request(request)
        to_sign = self.string_to_sign(request, canonical)
        self._inject_signature_to_request(request, self.signature(to_sign, request))

    def payload(self, request: AWSRequest) -> str:
        return self.digest


def manifest(parts: Sequence[tuple[object, str]]) -> bytes:
    """Return the list of parts as ali-oss writes it."""
    lines = [
        f"<Part>\n<PartNumber>{number}</PartNumber>\n<ETag>{etag}</ETag>\n</Part>\n"
        for number, etag in parts
    ]
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<CompleteMultipartUpload>\n'
    return f"{head}{''.join(lines)}</CompleteMultipartUpload>".encode()


def document(answer: Answer) -> Element:
    """Return the XML of an answer, without namespaces."""
    assert answer.headers["Content-Type"] == "application/xml", answer.headers
    root = fromstring(answer.body)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text_of(answer: Answer, path: str) -> str:
    return document(answer).findtext(path) or ""


def texts_of(answer: Answer, path: str) -> list[str]:
    assert answer.status == 200, answer.body
    return [element.text or "" for element in document(answer).findall(path)]


def assert_refused(answer: Answer, status: int, code: str) -> None:
    """See that a request was refused in the words of its vendor."""
    assert (answer.status, text_of(answer, "Code")) == (status, code), answer.body
    assert text_of(answer, "Message")
    assert text_of(answer, "RequestId")


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def content_md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def whole_etag(*parts: bytes) -> str:
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    return f"{md5(joined)}-{len(parts)}"


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _target(url: str) -> str:
    return "/" + url.partition("://")[2].partition("/")[2]
