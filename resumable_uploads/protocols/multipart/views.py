"""What the operations on buckets and on objects share, in either dialect."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from django.http import HttpResponse

from ... import errors
from ...buckets import Bucket, get_bucket
from ...conf import setting
from ...models import UploadSession
from ...owners import Owner
from ..base import RETRY_AFTER
from ..foreign import ForeignView
from . import cors, documents
from .access import Access, Signed
from .dialects import Dialect
from .oss import Oss
from .refusals import BY_STATUS, Refusal, refusal_of

# Parameters that ask for something that is not there. Others are left alone: clients
# add some of their own.
_WORDS = """
    accelerate acl analytics append asyncFetch attributes bucketInfo callback comp
    cors delete encryption img intelligent-tiering inventory legal-hold lifecycle link
    live logging metadataTable metaQuery metrics notification object-lock objectMeta
    ownershipControls policy policyStatus position publicAccessBlock qos referer
    rename replication requestPayment restore retention select select-type session
    stat status style symlink tagging torrent transferAcceleration versionId
    versioning versions vod website worm x-oss-process
"""
_UNSUPPORTED = frozenset(_WORDS.split())
# Headers, without the vendor's prefix, that nobody may believe to be heeded.
_UNSUPPORTED_HEADERS = (
    "callback",
    "copy-source",
    "server-side-encryption-customer-algorithm",
)


class MultipartView(ForeignView):
    """What both kinds of views share: the signature, the refusals, the XML."""

    takes_body = True

    # Options, for as_view():

    dialect: Dialect = Oss()

    # What views call:

    @property
    def access(self) -> Access:
        return self.request.auth

    @property
    def bucket_name(self) -> str:
        return self.kwargs["bucket"]

    @property
    def key(self) -> str:
        return self.kwargs.get("key", "")

    @property
    def query(self) -> dict[str, str]:
        return dict(self.access_query)

    def owner(self, create: bool = False) -> Owner:
        return self.access.grant.owner

    def bucket(self, action: str, key: str) -> Bucket:
        """Return the bucket, where something may be done to a key in it."""
        bucket = get_bucket(self.bucket_name)
        if not self.access.grant.allows(action, bucket.name, key):
            raise Refusal("AccessDenied", "The credentials do not allow that.")
        if not bucket.get_policy().permits(self.owner()):
            raise Refusal("AccessDenied", "You may not use this bucket.")
        return bucket

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a parameter's number. Raise Refusal."""
        text = self.query.get(name, "")
        if not text:
            return default
        is_number = text.isascii() and text.isdigit() and len(text) < 10
        if not is_number or not least <= int(text):
            message = f"{name} must be a number from {least} to {most}."
            raise Refusal("InvalidArgument", message, ArgumentName=name)
        return min(int(text), most)

    def answer(self, root: str, *pairs: tuple[str, Any], **options: Any) -> Any:
        """Return a document."""
        written = documents.written(root, pairs, self.dialect.namespace)
        return HttpResponse(written, content_type=documents.TYPE, **options)

    def owner_pairs(self) -> list[tuple[str, Any]]:
        # Not the owner's key: a visitor's is a secret.
        word = hashlib.sha256(self.owner().key.encode()).hexdigest()[:32]
        user = self.owner().user
        name = user.get_username() if user else "visitor"
        return [("Owner", [("ID", word), ("DisplayName", name)])]

    def encoded(self, text: str) -> str:
        """Return a key, or a part of one, as the client has asked for it."""
        return quote(text, safe="/") if self.is_encoded else text

    def encoding(self) -> list[tuple[str, Any]]:
        return [("EncodingType", "url" if self.is_encoded else None)]

    @property
    def is_encoded(self) -> bool:
        return self.query.get("encoding-type") == "url"

    def said_header(self, name: str) -> str:
        """Return one of the vendor's headers of the request, or ""."""
        return self.request.headers.get(self.dialect.header(name), "").strip()

    # HTTP handlers:

    def get_authenticators(self) -> list[Any]:
        return [Signed(self.dialect, self.bucket_name, self.key)]

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method == "OPTIONS":
            return
        self.access_query = self.access.signature.request.query
        asked = set(self.query) & _UNSUPPORTED
        if asked or any(map(self.said_header, _UNSUPPORTED_HEADERS)):
            raise Refusal("NotImplemented")
        if not all(map(_is_text, self.query.values())):
            raise Refusal("InvalidArgument", "A parameter is no text.")

    def _check_csrf(self, request: Any) -> None:
        """Nothing that a browser sends by itself lets anybody in here."""

    def options(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer a preflight, of which there is one per part: without the database."""
        answer = HttpResponse(status=200)
        asked = request.headers.get("Access-Control-Request-Headers", "")
        cors.grant_preflight(answer, asked)
        return answer

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, errors.UploadError):
            return self.refused(refusal_of(exc))
        return super().handle_exception(exc)

    def _answer(
        self,
        status: int,
        code: str,
        detail: str,
        facts: dict[str, Any],
        exc: Any = None,
    ) -> Any:
        """Answer what the framework refuses, or nobody has expected."""
        return self.refused(Refusal(BY_STATUS.get(status, "InvalidRequest"), detail))

    def refused(
        self, refusal: Refusal, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """Answer with a refusal, where it cannot be raised."""
        code, status = self.dialect.code(refusal.code)
        status = refusal.status or status
        facts = [
            (name, value) for name, value in refusal.facts.items() if name[:1].isupper()
        ]
        document = documents.written(
            "Error",
            [
                ("Code", code),
                ("Message", refusal.message),
                ("RequestId", self.request_id),
                ("HostId", self.request.META.get("HTTP_HOST", "")),
                ("BucketName", self.bucket_name),
                ("Key", self.key or None),
                *facts,
            ],
        )
        answer = HttpResponse(document, status=status, content_type=documents.TYPE)
        if self.request.method == "HEAD":
            answer.content = b""
            answer[self.dialect.header("err")] = base64.b64encode(document).decode()
        if status == 503:
            answer["Retry-After"] = str(RETRY_AFTER)
        for name, value in (headers or {}).items():
            answer[name] = value
        return answer

    @property
    def request_id(self) -> str:
        if not hasattr(self, "_request_id"):
            self._request_id = secrets.token_hex(8).upper()
        return self._request_id

    def finalize_response(
        self, request: Any, response: Any, *args: Any, **kwargs: Any
    ) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response[self.dialect.header("request-id")] = self.request_id
        entry = setting("BUCKETS").get(self.bucket_name) or {}
        cors.allow(response, request.headers.get("Origin"), entry.get("origins", ()))
        return response


def _is_text(value: str) -> bool:
    """Tell whether a database could have it: no NUL, nothing but proper UTF-8."""
    return not any(one == "\0" or "\ud800" <= one <= "\udfff" for one in value)


def etag_of(upload: UploadSession) -> str:
    """Return the ETag of a finished file, in lower case and without quotes."""
    # Its owner may have completed it by another protocol.
    return str(upload.metadata.get("etag") or upload.checksum.rpartition(":")[2])


def wire_text(value: str) -> str:
    """Return text as a header has it: its UTF-8, taken for Latin-1."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1")
