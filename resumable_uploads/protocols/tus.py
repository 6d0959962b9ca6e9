"""tus 1.0.0: the protocol of Uppy, tus-js-client, tuspy and many others.

Extensions: creation, creation-with-upload, creation-defer-length, expiration, checksum,
termination, concatenation. Refusals are named as tusd names them. docs/tus.md is the
reference.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from django.http import HttpResponse
from django.urls import URLPattern, re_path
from django.utils.http import http_date
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .. import engine, errors
from ..body import DIGESTS, Body
from ..models import State, UploadSession
from ..policies import UploadPolicy, get_policy
from ..stores import store_for
from . import tus_metadata
from .appending import (
    TUS,
    AppendingView,
    Locked,
    OriginNotAllowed,
    StoredView,
    header_of,
)
from .base import nonnegative
from .foreign import check_not_rejected
from .lean import LongWay
from .tus_metadata import MetadataTooLong

VERSION = "1.0.0"
OFFSET_TYPE = "application/offset+octet-stream"
MAX_PARTS = 1000
PARTIAL = "partial"
FINAL = "final;"

# tus's names of algorithms, and ours.
ALGORITHMS = {"sha1": "sha", "sha256": "sha-256", "md5": "md5", "crc32": "crc32"}


class UnsupportedVersion(errors.Invalid):
    code = "unsupported_version"
    message = "Tus-Resumable is missing, or of another version."


class InvalidContentType(errors.Invalid):
    code = "invalid_content_type"
    message = f"The content has to be {OFFSET_TYPE}."


class InvalidOffset(errors.Invalid):
    code = "invalid_offset"
    message = "Upload-Offset is missing, or not a possible number."


class InvalidLength(errors.Invalid):
    code = "invalid_upload_length"
    message = "Upload-Length is missing, or not a possible number."


class InvalidDeferral(errors.Invalid):
    code = "invalid_upload_length_defer"
    message = "Upload-Defer-Length can only be 1."


class AmbiguousLength(errors.Invalid):
    code = "ambiguous_upload_length"
    message = "The length is either said or deferred."


class InvalidChecksum(errors.Invalid):
    code = "invalid_checksum"
    message = "Upload-Checksum is an algorithm known here, and the digest in base64."


class InvalidConcat(errors.Invalid):
    code = "invalid_concat"
    message = "Upload-Concat is neither partial nor final with a list of URLs."


class ConcatenationUnsupported(errors.Invalid):
    code = "concatenation_unsupported"
    message = "Files in this storage cannot be made of others."


class ModifyFinal(errors.PermissionDenied):
    code = "modify_final"
    message = "An upload that is made of others takes no bytes."


class SizeExceeded(errors.TooLarge):
    code = "upload_size_exceeded"
    message = "More bytes than Upload-Length says."


# What tusd calls the same; for all others, ERR_ and the code.
NAMES = {
    errors.NotFound.code: "ERR_UPLOAD_NOT_FOUND",
    errors.Gone.code: "ERR_UPLOAD_EXPIRED",
    errors.OffsetMismatch.code: "ERR_MISMATCHED_OFFSET",
    errors.NotReceiving.code: "ERR_MISMATCHED_OFFSET",
    errors.WrongAddressing.code: "ERR_MISMATCHED_OFFSET",
    errors.Interrupted.code: "ERR_UPLOAD_INTERRUPTED",
    errors.TooLarge.code: "ERR_MAX_SIZE_EXCEEDED",
    errors.Truncated.code: "ERR_UNEXPECTED_EOF",
    errors.ShuttingDown.code: "ERR_SERVER_SHUTDOWN",
    errors.Incomplete.code: "ERR_UPLOAD_NOT_FINISHED",
    errors.Rejected.code: "ERR_UPLOAD_REJECTED",
    errors.Stopped.code: "ERR_UPLOAD_STOPPED",
    Locked.code: "ERR_UPLOAD_LOCKED",
    OriginNotAllowed.code: "ERR_ORIGIN_NOT_ALLOWED",
    "server_error": "ERR_INTERNAL_SERVER_ERROR",
}
# For a stall, which has the code of a cut.
READ_TIMEOUT = "ERR_READ_TIMEOUT"


class PlainRenderer(BaseRenderer):
    """Text as it is."""

    media_type = "text/plain"
    format = "txt"
    charset = "utf-8"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return str(data or "").encode()


class TusView(AppendingView):
    """What the endpoint and its uploads share."""

    protocol = TUS
    excess = SizeExceeded
    renderer_classes = (PlainRenderer,)
    status_codes = AppendingView.status_codes | {
        UnsupportedVersion: 412,
        InvalidContentType: 415,
        MetadataTooLong: 431,
        errors.ChecksumMismatch: 460,
        errors.Incomplete: 400,
    }

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        override = request.META.get("HTTP_X_HTTP_METHOD_OVERRIDE")
        if override and request.method != "OPTIONS":
            # Before anybody asks whether the method is safe.
            request.method = override.strip().upper()
        return super().dispatch(request, *args, **kwargs)

    def check_request(self, request: Any) -> None:
        self._check_version(request)
        super().check_request(request)

    def refusal(self, code: str, detail: str, facts: dict[str, Any]) -> str:
        name = NAMES.get(code, f"ERR_{code.upper()}")
        if isinstance(self.refused, errors.Stalled):
            name = READ_TIMEOUT
        return f"{name}: {detail}\n"

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        policy = get_policy(self.policy)
        answer = super().options(request, *args, **kwargs)
        answer["Tus-Version"] = VERSION
        answer["Tus-Extension"] = ",".join(extensions(policy))
        answer["Tus-Checksum-Algorithm"] = ",".join(ALGORITHMS)
        if policy.max_size is not None:
            answer["Tus-Max-Size"] = str(policy.max_size)
        return answer

    def add_headers(self, request: Any, response: Any) -> None:
        super().add_headers(request, response)
        response["Tus-Resumable"] = VERSION
        if response.status_code == 412:
            response["Tus-Version"] = VERSION
        if response.status_code == 460:
            response.reason_phrase = "Checksum Mismatch"

    def _check_version(self, request: Any) -> None:
        """Raise UnsupportedVersion.

        GET brings none when a browser gets a file, nor does HEAD of the other protocol.
        """
        version = request.META.get("HTTP_TUS_RESUMABLE")
        if version is None and request.method in ("GET", "HEAD"):
            return
        if version != VERSION:
            raise UnsupportedVersion

    # What both say

    def expected(self) -> dict[str, bytes]:
        """Return the digest that Upload-Checksum wants of the body, by algorithm."""
        header = self.request.META.get("HTTP_UPLOAD_CHECKSUM")
        return {} if header is None else checksum(header)

    def brings_bytes(self) -> bool:
        return self.request.META.get("CONTENT_TYPE", "") == OFFSET_TYPE

    def length(self) -> int | None:
        """Return what Upload-Length says, or None. Raise InvalidLength."""
        header = self.request.META.get("HTTP_UPLOAD_LENGTH")
        return None if header is None else _number(header, InvalidLength)

    def append(self, upload: UploadSession, offset: int, body: Body) -> UploadSession:
        """Add a body to the end of an upload; return it as far as it got by that."""
        if upload.state != State.RECEIVING:
            _check_repeat(upload, offset, body)
            return upload
        _check_room(upload, offset, body.left)
        return engine.append(upload, offset, body)

    def expiry(self, upload: UploadSession) -> dict[str, str]:
        if upload.state != State.RECEIVING:
            return {}
        return {"Upload-Expires": http_date(upload.expires_at.timestamp())}


class EndpointView(TusView):
    """Where uploads are opened."""

    lean_methods = ("POST",)

    def check_request(self, request: Any) -> None:
        super().check_request(request)
        if self.capability:
            # It is good for an upload that is there already.
            raise LongWay

    def post(self, request: Request) -> HttpResponse:
        policy = self.permitted_policy()
        metadata = tus_metadata.parse(request.META.get("HTTP_UPLOAD_METADATA"))
        concat = request.META.get("HTTP_UPLOAD_CONCAT", PARTIAL)
        if concat != PARTIAL:
            upload = self._joined(policy, metadata, concat)
        else:
            upload = self._opened(policy, metadata)
        check_not_rejected(upload)
        headers = {
            "Location": self.location(upload),
            # Some clients want to be told also when they have sent nothing.
            "Upload-Offset": str(upload.received),
        }
        return HttpResponse(status=201, headers=headers | self.expiry(upload))

    def _opened(
        self, policy: UploadPolicy, metadata: tus_metadata.Metadata
    ) -> UploadSession:
        is_partial = "HTTP_UPLOAD_CONCAT" in self.request.META
        kept = metadata.kept()
        if is_partial:
            _check_joins(policy)
            kept = metadata.kept(Upload_Concat=PARTIAL)
        new = _new_upload(metadata, kept)
        new.length, new.is_part = self._announced(), is_partial
        new.ends_when_full = not is_partial
        if self.brings_bytes():
            return self._opened_with_bytes(policy, new)
        return self.begin(policy, new)

    def _opened_with_bytes(
        self, policy: UploadPolicy, new: engine.NewUpload
    ) -> UploadSession:
        """Open an upload and begin to feed it; leave none whose URL nobody hears of."""
        upload: UploadSession | None = None
        try:
            with self.body(self.expected(), room=new.length) as body:
                if new.length is not None and (body.left or 0) > new.length:
                    raise SizeExceeded(max_size=new.length)
                upload = self.begin(policy, new)
                self.append(upload, 0, body)
        except errors.ShuttingDown:
            # What has come is kept, and the answer says how much that is.
            if upload is None:
                raise
        except errors.UploadError:
            if upload is not None:
                engine.cancel(upload)
            raise
        return engine.refreshed(upload)

    def _announced(self) -> int | None:
        """Return the length of a new upload, or None where it is deferred."""
        length = self.length()
        deferred = self.request.META.get("HTTP_UPLOAD_DEFER_LENGTH")
        if deferred is not None and length is not None:
            raise AmbiguousLength
        if deferred not in (None, "1"):
            raise InvalidDeferral
        if deferred is None and length is None:
            raise InvalidLength
        return length

    # Concatenation

    def _joined(
        self, policy: UploadPolicy, metadata: tus_metadata.Metadata, concat: str
    ) -> UploadSession:
        _check_joins(policy)
        if self.brings_bytes():
            raise ModifyFinal
        parts = self._parts(concat)
        owners = {part.owner for part in parts}
        if len(owners) > 1:
            raise errors.NotFound
        new = _new_upload(metadata, metadata.kept(Upload_Concat=concat))
        new.filename = new.filename or "file"
        owner = engine.owner_of_upload(parts[0])
        return engine.concatenate(owner, self.protocol, policy, new, parts)

    def _parts(self, concat: str) -> list[UploadSession]:
        """Return what an upload is to be made of. Raise InvalidConcat, NotFound."""
        urls = concat.removeprefix(FINAL).split(" ")
        if not concat.startswith(FINAL) or not all(urls) or len(urls) > MAX_PARTS:
            raise InvalidConcat
        found = {url: self._part(url) for url in dict.fromkeys(urls)}
        return [found[url] for url in urls]

    def _part(self, url: str) -> UploadSession:
        endpoint = self.request.path.rstrip("/") + "/"
        try:
            parts = urlsplit(urljoin(self.request.build_absolute_uri(endpoint), url))
        except ValueError:
            raise InvalidConcat from None
        path = unquote(parts.path)
        if parts.netloc != self.request.get_host() or not path.startswith(endpoint):
            raise errors.NotFound
        part = self.find(path.removeprefix(endpoint).rstrip("/"))
        if header_of(part, "Upload-Concat") != PARTIAL:
            raise InvalidConcat("Only partial uploads can be made one.")
        if part.received != part.length:
            raise errors.Incomplete("A part is not complete.", missing=[])
        return part


class UploadView(TusView, StoredView):
    """One upload."""

    lean_methods = ("HEAD", "PATCH")

    def head(self, request: Request, upload_id: str) -> HttpResponse:
        upload = engine.take_offset(self.find(upload_id))
        headers = self.headers_of(upload) | self.expiry(upload)
        for name in ("Upload-Metadata", "Upload-Concat"):
            if value := header_of(upload, name):
                headers[name] = value
        if upload.length is None:
            headers["Upload-Defer-Length"] = "1"
        if _is_final(upload) and upload.state != State.COMPLETE:
            del headers["Upload-Offset"]
        return HttpResponse(headers=headers)

    def patch(self, request: Request, upload_id: str) -> HttpResponse:
        if not self.brings_bytes():
            raise InvalidContentType
        offset = _number(request.META.get("HTTP_UPLOAD_OFFSET"), InvalidOffset)
        length, expected = self.length(), self.expected()
        upload = self.find_to_write(upload_id)
        if _is_final(upload):
            raise ModifyFinal
        with self.body(expected, room=_room(upload, offset, length)) as body:
            upload = self._measured(upload, offset, length, body)
            upload = self.append(upload, offset, body)
        row = engine.outcome(upload)
        check_not_rejected(row)
        headers = {"Upload-Offset": str(upload.received)} | self.expiry(row)
        return HttpResponse(status=204, headers=headers)

    def _measured(
        self, upload: UploadSession, offset: int, length: int | None, body: Body
    ) -> UploadSession:
        """Return the upload with the length that was deferred, if it is said now."""
        if length is None or length == upload.length:
            return upload
        if upload.length is None and offset != upload.received:
            raise errors.OffsetMismatch(upload.received)
        if upload.length is None and offset + (body.left or 0) > length:
            raise InvalidLength("More bytes come than Upload-Length says.")
        try:
            return engine.declare_length(upload, length)
        except errors.Invalid as error:
            raise InvalidLength(error.message) from error


def extensions(policy: UploadPolicy) -> list[str]:
    """Return the extensions that work with the storage of a policy."""
    found = ["creation", "creation-with-upload", "creation-defer-length"]
    found += ["expiration", "checksum", "termination"]
    return found + ["concatenation"] * store_for(policy.storage).joins_others


def checksum(header: str) -> dict[str, bytes]:
    """Return the digest that Upload-Checksum gives, by our name of the algorithm.

    Raise InvalidChecksum.
    """
    algorithm, _, text = header.partition(" ")
    if algorithm not in ALGORITHMS:
        raise InvalidChecksum(algorithms=list(ALGORITHMS))
    try:
        digest = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidChecksum from None
    name = ALGORITHMS[algorithm]
    if len(digest) != DIGESTS[name]().digest_size:
        raise InvalidChecksum
    return {name: digest}


def _new_upload(
    metadata: tus_metadata.Metadata, kept: dict[str, Any]
) -> engine.NewUpload:
    return engine.NewUpload(
        filename=metadata.filename,
        content_type=metadata.content_type,
        relative_path=metadata.folder,
        metadata=kept,
        reserved=(tus_metadata.HEADERS,),
    )


def _check_joins(policy: UploadPolicy) -> None:
    if not store_for(policy.storage).joins_others:
        raise ConcatenationUnsupported


def _is_final(upload: UploadSession) -> bool:
    return header_of(upload, "Upload-Concat").startswith(FINAL)


def _number(text: str | None, error: type[errors.Invalid]) -> int:
    try:
        return nonnegative(text, "")
    except errors.Invalid:
        raise error from None


def _room(upload: UploadSession, offset: int, length: int | None) -> int | None:
    """Return how many bytes fit behind an offset, where that is known."""
    end = upload.length if upload.length is not None else length
    return None if end is None else max(0, end - offset)


def _check_room(upload: UploadSession, offset: int, size: int | None) -> None:
    """Raise SizeExceeded for more bytes than fit. Where the offset is wrong, do not."""
    if upload.length is None or size is None or offset != upload.received:
        return
    if offset + size > upload.length:
        raise SizeExceeded(max_size=upload.length)


def _check_repeat(upload: UploadSession, offset: int, body: Body) -> None:
    """See that a request to an upload that has all its bytes brings no more of them."""
    if offset != upload.received:
        raise errors.OffsetMismatch(upload.received)
    try:
        body.check_no_more()
    except errors.TooLarge:
        raise SizeExceeded(max_size=upload.length) from None


def urls(**options: Any) -> list[URLPattern]:
    """Return the routes, to be included under a prefix without a slash at its end.

    Options: ``policy``; ``origins`` and ``credentials`` in place of the settings
    CORS_ORIGINS and CORS_CREDENTIALS.
    """
    upload = r"^(?:/)(?P<upload_id>[^/]+)/?$"
    return [
        re_path(r"^(?:/)?$", EndpointView.as_view(**options), name="tus"),
        re_path(upload, UploadView.as_view(**options), name="tus-upload"),
    ]
