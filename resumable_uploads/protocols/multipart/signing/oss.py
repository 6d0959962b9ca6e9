"""The signatures of Aliyun OSS: they cover "/bucket/key", never a host or a prefix."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from . import (
    UNSIGNED,
    Malformed,
    Request,
    Scope,
    Signature,
    encoded,
    hmac_sha256,
    is_same,
    iso_moment,
    percent,
    sha256,
    validity,
)

ALGORITHM = "OSS4-HMAC-SHA256"
_SERVICE, _END, _PREFIX = "oss", "aliyun_v4_request", "aliyun_v4"
_FIELD = re.compile(r"\s*(Credential|AdditionalHeaders|Signature)=([^,]*)\s*")

# The parameters that V1 signs; all others a stranger could change on the way.
_WORDS = """
    acl append bucketInfo callback callback-var cname comp continuation-token cors
    delete encryption endTime img inventory inventoryId lifecycle link live location
    logging metaQuery objectInfo objectMeta partNumber policy position qos referer
    replication replicationLocation replicationProgress requestPayment
    response-cache-control response-content-disposition response-content-encoding
    response-content-language response-content-type response-expires restore
    security-token sequential startTime stat status style styleName symlink tagging
    transferAcceleration uploadId uploads versionId versioning versions vod website
    worm wormExtend wormId x-oss-ac-forward-allow x-oss-ac-source-ip
    x-oss-ac-subnet-mask x-oss-ac-vpc-id x-oss-async-process x-oss-process
    x-oss-request-payer x-oss-traffic-limit
"""
SUB_RESOURCES = frozenset(_WORDS.split())


def read(request: Request) -> Signature | None:
    """Return the signature of a request, or None. Raise Malformed."""
    header = request.headers.get("authorization", "")
    if header.startswith(f"{ALGORITHM} "):
        return _V4(request, *_v4_header(request, header.removeprefix(ALGORITHM)))
    if header.startswith("OSS "):
        return _V1Header(request, header.removeprefix("OSS "))
    if header:
        raise Malformed("The Authorization is neither of OSS V1 nor of V4.")
    if request.parameter("x-oss-signature") is not None:
        return _V4(request, *_v4_query(request), in_query=True)
    if request.parameter("Signature") is not None:
        return _V1Query(request)
    return None


class _V1(Signature):
    """HMAC-SHA1 over a few headers, those of OSS, and the resource."""

    date = ""

    def __init__(self, request: Request) -> None:
        self.request = request
        # One of Aliyun's own libraries leaves the vendor's prefix out.
        names = ("x-oss-security-token", "security-token")
        found = (request.headers.get(name) for name in names)
        self.token = next(filter(None, found), "")

    def is_by(self, secret: str) -> bool:
        digest = hmac.new(secret.encode(), encoded(self.string_to_sign), hashlib.sha1)
        return is_same(base64.b64encode(digest.digest()).decode(), self.given)

    @property
    def string_to_sign(self) -> str:
        headers = self.request.headers
        lines = [
            self.request.method,
            headers.get("content-md5", ""),
            headers.get("content-type", ""),
            self.date,
            *(
                f"{name}:{headers[name].strip()}"
                for name in sorted(headers)
                if name.startswith("x-oss-")
            ),
        ]
        return "\n".join([*lines, self._resource])

    @property
    def _resource(self) -> str:
        query = dict(self.request.query)
        signed = [
            f"{name}={query[name]}" if query[name] else name
            for name in sorted(SUB_RESOURCES & set(query))
        ]
        return "?".join(
            [self.request.resource, *(["&".join(signed)] if signed else [])]
        )


class _V1Header(_V1):
    def __init__(self, request: Request, value: str) -> None:
        super().__init__(request)
        self.access_key_id, _, self.given = value.strip().rpartition(":")
        self.date = request.headers.get("x-oss-date") or request.headers.get("date", "")
        if not (self.access_key_id and self.given):
            raise Malformed("The Authorization is malformed.")
        try:
            self.signed_at = parsedate_to_datetime(self.date)
        except (ValueError, OverflowError):
            raise Malformed("The date is malformed.") from None
        if self.signed_at.tzinfo is None:
            self.signed_at = self.signed_at.replace(tzinfo=UTC)


class _V1Query(_V1):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.given = request.parameter("Signature") or ""
        self.access_key_id = request.parameter("OSSAccessKeyId") or ""
        self.token = request.parameter("security-token") or self.token
        self.date = request.parameter("Expires") or ""
        is_number = self.date.isascii() and self.date.isdigit() and len(self.date) < 12
        if not (self.access_key_id and is_number):
            raise Malformed("OSSAccessKeyId or Expires is malformed.", True)
        self.expires_at = datetime.fromtimestamp(int(self.date), UTC)


class _V4(Signature):
    """HMAC-SHA256 over everything that is signed at all."""

    def __init__(
        self,
        request: Request,
        credential: str,
        additional: str,
        given: str,
        in_query: bool = False,
    ) -> None:
        self.request, self.given = request, given
        self.scope = Scope.parse(credential, _SERVICE, _END)
        self.access_key_id = self.scope.access_key_id
        self.additional = sorted(filter(None, additional.lower().split(";")))
        self.date = (
            request.parameter("x-oss-date")
            if in_query
            else request.headers.get("x-oss-date")
        ) or ""
        self.signed_at = iso_moment(self.date)
        if not self.date.startswith(self.scope.day):
            raise Malformed("The credential is of another day.", in_query)
        token = request.headers.get("x-oss-security-token", "")
        if in_query:
            token = request.parameter("x-oss-security-token") or token
            valid_for = validity(request.parameter("x-oss-expires"))
            self.expires_at = self.signed_at + valid_for
        self.token = token
        self.payload = request.headers.get("x-oss-content-sha256", UNSIGNED)

    def is_by(self, secret: str) -> bool:
        key = self.scope.key(_PREFIX, secret)
        return is_same(hmac_sha256(key, self.string_to_sign).hex(), self.given)

    @property
    def string_to_sign(self) -> str:
        digest = sha256(self.canonical_request)
        return "\n".join([ALGORITHM, self.date, str(self.scope), digest])

    @property
    def canonical_request(self) -> str:
        request = self.request
        headers = "".join(
            f"{name}:{value.strip()}\n"
            for name, value in sorted(request.headers.items())
            if self._is_signed(name)
        )
        return "\n".join(
            [
                request.method,
                percent(request.resource, "/"),
                self._query,
                headers,
                ";".join(self.additional),
                self.payload,
            ]
        )

    def _is_signed(self, name: str) -> bool:
        if name in ("content-type", "content-md5"):
            return bool(self.request.headers[name])
        return name.startswith("x-oss-") or name in self.additional

    @property
    def _query(self) -> str:
        pairs = sorted(
            (percent(name), percent(value))
            for name, value in self.request.query
            if name != "x-oss-signature"
        )
        return "&".join(f"{name}={value}" if value else name for name, value in pairs)


def _v4_header(request: Request, value: str) -> tuple[str, str, str]:
    found = {}
    for piece in value.split(","):
        match = _FIELD.fullmatch(piece)
        if not match:
            raise Malformed("The Authorization is malformed.")
        found[match[1]] = match[2].strip()
    if not {"Credential", "Signature"} <= set(found):
        raise Malformed("The Authorization is not complete.")
    return found["Credential"], found.get("AdditionalHeaders", ""), found["Signature"]


def _v4_query(request: Request) -> tuple[str, str, str]:
    if request.parameter("x-oss-signature-version") != ALGORITHM:
        raise Malformed("The version of the signature is not known.", True)
    names = ("x-oss-credential", "x-oss-additional-headers", "x-oss-signature")
    credential, additional, given = (request.parameter(name) or "" for name in names)
    return credential, additional, given
