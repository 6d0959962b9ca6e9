"""Resumable Uploads for HTTP, the IETF draft: interop version 8, and 5 and 6.

A client announces by ``Upload-Complete`` that its request may be resumed. The answer
has the URL of an upload resource: HEAD asks for the offset, PATCH appends, DELETE
cancels. An upload is complete when the client says so, never by its length alone. The
two earlier versions are those that tus-js-client speaks. docs/tus.md is the reference.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import transaction
from django.http import HttpResponse
from django.urls import URLPattern, re_path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .. import engine, errors, sources
from ..body import CHECKSUM, DIGESTS, Body
from ..conf import MIB, setting
from ..models import State, UploadSession
from ..policies import get_policy, policy_of
from . import tus, tus_metadata
from .appending import IETF, AppendingView, StoredView, boolean, limits
from .digests import content_digest
from .fields import boolean as said_boolean
from .fields import filename, preferences, whole_number
from .foreign import check_not_rejected

INTEROP = 8
# These have no 104; the older one no type for what is appended.
OLDER = (5, 6)
PARTIAL_TYPE = "application/partial-upload"
PROBLEMS = "https://iana.org/assignments/http-problem-types#"
# Files up to this size (bytes) are read again for a digest that a client wants.
DIGEST_AT_MOST = 1024 * MIB
READ_SIZE = MIB


class InvalidType(errors.Invalid):
    code = "invalid_content_type"
    message = f"What is appended has to be {PARTIAL_TYPE}."


class InconsistentLength(errors.Invalid):
    """The indications of a length, in this request and before, do not agree."""

    code = "inconsistent_upload_length"
    message = "The length is not the one that was said before."


class ProblemRenderer(JSONRenderer):
    """JSON for answers, and for refusals as RFC 9457 has them."""

    media_type = "application/problem+json"
    format = "problem"


class DraftView(AppendingView):
    """What the target and its upload resources share."""

    protocol = IETF
    renderer_classes = (ProblemRenderer,)
    status_codes = AppendingView.status_codes | {
        InvalidType: 415,
        errors.ChecksumMismatch: 400,
        errors.Incomplete: 400,
    }
    # The URL of the upload, once it is known.
    resource = ""
    # Where a request wanted to append.
    offset = 0

    def refusal(self, code: str, detail: str, facts: dict[str, Any]) -> dict[str, Any]:
        problem = {"type": "about:blank", "title": detail, "code": code}
        if isinstance(self.refused, errors.OffsetMismatch):
            problem["type"] = f"{PROBLEMS}mismatching-upload-offset"
            facts = {
                "expected-offset": facts["offset"],
                "provided-offset": self.offset,
            }
        if isinstance(self.refused, InconsistentLength):
            problem["type"] = f"{PROBLEMS}inconsistent-upload-length"
        return problem | facts

    def handle_exception(self, exc: Exception) -> Response:
        answer = super().handle_exception(exc)
        if isinstance(answer.data, dict):
            answer.data["status"] = answer.status_code
        # Whether this is the last word, as that of the target would be.
        is_final = isinstance(self.refused, errors.Rejected)
        answer["Upload-Complete"] = boolean(is_final)
        if self.resource:
            answer["Location"] = self.resource
        if answer.status_code == 413:
            answer["Upload-Limit"] = limits(get_policy(self.policy))
        return answer

    # What requests say

    def version(self) -> int | None:
        return whole_number(self.request.headers.get("Upload-Draft-Interop-Version"))

    def ends(self) -> bool:
        """Return whether this content is the end of the file. Raise Invalid."""
        found = said_boolean(self.request.headers.get("Upload-Complete"))
        if found is not None:
            return found
        if self._tells_only_the_length():
            return True
        raise errors.Invalid("Upload-Complete is missing.")

    def _tells_only_the_length(self) -> bool:
        """Recognize the last word of tus-js-client on a stream that ends with a chunk.

        It is an empty PATCH with the length, which is the offset, and nothing else.
        """
        headers = self.request.headers
        length = whole_number(headers.get("Upload-Length"))
        return (
            self.version() in OLDER
            and length is not None
            and length == whole_number(headers.get("Upload-Offset"))
            and sources.declared_length(self.request.META) == 0
        )

    def length(self, offset: int, ends: bool) -> int | None:
        """Return the length of the whole file, if it is said in any way.

        Raise InconsistentLength where two ways say different things.
        """
        said = whole_number(self.request.headers.get("Upload-Length"))
        size = sources.declared_length(self.request.META)
        implied = offset + size if ends and size is not None else None
        if None not in (said, implied) and said != implied:
            raise InconsistentLength
        if said is not None and size is not None and offset + size > said:
            raise InconsistentLength
        return implied if said is None else said

    # What is done

    def append(self, upload: UploadSession, body: Body, ends: bool) -> UploadSession:
        """Append a body, and end the upload if the client says so."""
        if upload.state != State.RECEIVING:
            return self._repeated(upload, body)
        try:
            upload = engine.append(upload, self.offset, body)
        except errors.QuotaExceeded:
            raise
        except errors.TooLarge as error:
            self._invalidate(upload, error)
        return engine.finish(upload) if ends else upload

    def _repeated(self, upload: UploadSession, body: Body) -> UploadSession:
        """Answer a repeat of the last request as that was answered."""
        if self.offset != upload.received:
            raise errors.OffsetMismatch(upload.received)
        try:
            body.check_no_more()
        except errors.TooLarge:
            raise InconsistentLength("The upload is complete.") from None
        return engine.finish(upload)

    def _invalidate(self, upload: UploadSession, error: errors.TooLarge) -> None:
        """End an upload whose client has sent more than it said. Raise the refusal."""
        if upload.length is None:
            raise error
        engine.cancel(upload)
        raise InconsistentLength("More bytes came than were announced.") from error

    def answer(self, upload: UploadSession, is_new: bool, ends: bool) -> HttpResponse:
        """Answer as the target, where the client has sent all of the file."""
        headers = self.headers_of(upload) | {"Upload-Complete": boolean(ends)}
        headers["Location"] = self.resource
        if not is_new:
            del headers["Location"]
        if not ends:
            return HttpResponse(status=201 if is_new else 204, headers=headers)
        upload = engine.refreshed(upload)
        check_not_rejected(upload)
        headers |= self._digest(upload)
        status = 201 if is_new else 200
        answer = Response(self.facts(upload), status, headers=headers)
        answer.content_type = "application/json"
        return answer

    def _digest(self, upload: UploadSession) -> dict[str, str]:
        """Return the Repr-Digest that a client wants, where it can be given."""
        if upload.state != State.COMPLETE:
            return {}
        known, _, digits = upload.checksum.partition(":")
        for name in preferences(self.request.headers.get("Want-Repr-Digest")):
            if name == known:
                return _repr_digest(name, bytes.fromhex(digits))
            if name in DIGESTS and (upload.length or 0) <= DIGEST_AT_MOST:
                return _repr_digest(name, _computed(upload, name))
        return {}


class TargetView(DraftView):
    """Where uploads begin."""

    def post(self, request: Request) -> HttpResponse:
        policy, ends = self.permitted_policy(), self.ends()
        new = self._new(self.length(0, ends))
        expected = content_digest(request.headers.get("Content-Digest"))
        with self.body(expected) as body:
            upload = self.begin(policy, new)
            self.resource = self.location(upload)
            self._announce(upload)
            upload = self._fed(upload, body, ends)
        return self.answer(upload, True, ends)

    put = patch = post

    def _fed(self, upload: UploadSession, body: Body, ends: bool) -> UploadSession:
        try:
            return self.append(upload, body, ends)
        except errors.ChecksumMismatch:
            # Nothing has come yet, and there is a better beginning.
            engine.cancel(upload)
            self.resource = ""
            raise

    def _new(self, length: int | None) -> engine.NewUpload:
        headers = self.request.headers
        metadata = tus_metadata.parse(headers.get("Upload-Metadata"))
        kind = headers.get("Content-Type", "")
        if kind in ("", PARTIAL_TYPE):
            kind = metadata.content_type
        return engine.NewUpload(
            filename=filename(headers.get("Content-Disposition")) or metadata.filename,
            length=length,
            content_type=kind,
            relative_path=metadata.folder,
            metadata=metadata.kept(),
            reserved=(tus_metadata.HEADERS,),
            declared_checksum=_declared(headers.get("Repr-Digest")),
            # tus-js-client, the only one to speak those, never ends an empty file.
            ends_when_full=self.version() in OLDER,
        )

    def _announce(self, upload: UploadSession) -> None:
        """Tell the client where it can resume before its body is read, if possible."""
        connection = self.request.META.get("gunicorn.socket")
        if (
            not setting("INTERIM_RESPONSES")
            or self.version() != INTEROP
            or self.request.META.get("SERVER_PROTOCOL") != "HTTP/1.1"
            or not isinstance(connection, socket.socket)
        ):
            return
        lines = (
            "HTTP/1.1 104 Upload Resumption Supported",
            f"Location: {self.resource}",
            f"Upload-Draft-Interop-Version: {INTEROP}",
            f"Upload-Limit: {limits(policy_of(upload), upload)}",
        )
        # Who does not hear it any more does not send a body either.
        with suppress(OSError):
            connection.sendall("\r\n".join([*lines, "", ""]).encode())


class ResourceView(DraftView, StoredView):
    """An upload resource."""

    def head(self, request: Request, upload_id: str) -> HttpResponse:
        upload = engine.take_offset(self.find(upload_id))
        return HttpResponse(status=204, headers=self.headers_of(upload))

    def get(self, request: Request, upload_id: str) -> Any:
        """Return the file once it is there, and the offset until then."""
        upload = self.find(upload_id)
        if upload.state != State.COMPLETE or not policy_of(upload).downloadable:
            return self.head(request, upload_id)
        return super().get(request, upload_id)

    def patch(self, request: Request, upload_id: str) -> HttpResponse:
        self._check_type()
        ends = self.ends()
        offset = whole_number(request.headers.get("Upload-Offset"))
        if offset is None:
            raise errors.Invalid("Upload-Offset is missing.")
        self.offset = offset
        expected = content_digest(request.headers.get("Content-Digest"))
        upload = self.find_to_write(upload_id)
        if offset != upload.received:
            # Before the lengths, which the client may have from a wrong offset.
            raise errors.OffsetMismatch(upload.received)
        with self.body(expected) as body:
            upload = self._measured(upload, ends)
            upload = self.append(upload, body, ends)
        return self.answer(upload, False, ends)

    def _check_type(self) -> None:
        kind = self.request.headers.get("Content-Type", "")
        if kind != PARTIAL_TYPE and not (self.version() == OLDER[0] and not kind):
            raise InvalidType

    def _measured(self, upload: UploadSession, ends: bool) -> UploadSession:
        """Return the upload with its length, if that is said by now."""
        try:
            length = self.length(self.offset, ends)
        except InconsistentLength:
            if upload.state == State.RECEIVING:
                self._check_excess(upload)
            raise
        if length is None or length == upload.length:
            self._check_excess(upload)
            return upload
        if upload.length is not None:
            self._check_excess(upload)
            raise InconsistentLength
        try:
            return engine.declare_length(upload, length)
        except errors.Invalid as error:
            raise InconsistentLength(error.message) from error

    def _check_excess(self, upload: UploadSession) -> None:
        """End an upload whose client announces more bytes than it has said it has."""
        size = sources.declared_length(self.request.META) or 0
        if upload.state != State.RECEIVING or upload.length is None:
            return
        if self.offset + size > upload.length:
            self._invalidate(upload, errors.TooLarge(max_size=upload.length))


def _declared(header: str | None) -> str:
    """Return the checksum that Repr-Digest declares, by an algorithm known here."""
    try:
        found = content_digest(header)
    except errors.Invalid as error:
        if error.facts:
            # Only algorithms that nobody here knows: RFC 9530 lets them be.
            return ""
        raise errors.Invalid("Repr-Digest is malformed.") from error
    for name in (*DIGESTS, CHECKSUM):
        if name in found:
            return f"{name}:{found[name].hex()}"
    return ""


def _repr_digest(name: str, digest: bytes) -> dict[str, str]:
    return {"Repr-Digest": f"{name}=:{base64.b64encode(digest).decode()}:"}


def _computed(upload: UploadSession, name: str) -> bytes:
    digest = DIGESTS[name]()
    with upload.file.open("rb") as file:
        for block in file.chunks(READ_SIZE):
            digest.update(block)
    return digest.digest()


def speaks_draft(request: Any) -> bool:
    """Tell whether a request is of the draft, where tus is spoken at the same URL.

    Both understand a question without any mark; the answer of tus has it all.
    """
    if "Tus-Resumable" in request.headers:
        return False
    marks = ("Upload-Complete", "Upload-Draft-Interop-Version")
    return (
        request.method in ("PUT", "DELETE")
        or any(mark in request.headers for mark in marks)
        or request.headers.get("Content-Type") == PARTIAL_TYPE
    )


def _either(draft: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    """Return a view that answers in the protocol it is spoken to in."""

    @csrf_exempt
    @transaction.non_atomic_requests
    def view(request: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = draft if speaks_draft(request) else other
        return chosen(request, *args, **kwargs)

    return view


def urls(with_tus: bool = False, **options: Any) -> list[URLPattern]:
    """Return the routes, to be included under a prefix without a slash at its end.

    ``with_tus``: tus is spoken at the same URLs. The other options are those of
    ``tus.urls``.
    """
    target = TargetView.as_view(**options)
    resource = ResourceView.as_view(**options)
    if with_tus:
        target = _either(target, tus.EndpointView.as_view(**options))
        resource = _either(resource, tus.UploadView.as_view(**options))
    return [
        re_path(r"^(?:/)?$", target, name="ietf"),
        re_path(r"^(?:/)(?P<upload_id>[^/]+)/?$", resource, name="ietf-upload"),
    ]
