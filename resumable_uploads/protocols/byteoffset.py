"""The uploader of javascript.info: where are we, and the rest of the file from there.

``GET status`` answers with the number of bytes that are there, ``POST upload`` brings
all others in one raw body. The client names the file by ``X-File-Id``, and can send no
CSRF token; what makes its requests safe is in ``_check_csrf``.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.urls import URLPattern, re_path
from rest_framework import exceptions
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from .. import engine, errors
from ..models import UploadSession
from ..policies import get_policy
from .base import UploadView, nonnegative

MAX_ID = 255
# name-size-lastModified; the name may have any of these inside.
_FILE_ID = re.compile(r"(?P<name>.*)-(?P<size>\d{1,18})-(?P<modified>-?\d{1,16})", re.S)


class ByteOffsetView(UploadView):
    """What both endpoints share."""

    protocol = "byteoffset"
    renderer_classes = (JSONRenderer,)
    takes_body = True
    status_codes = UploadView.status_codes | {
        errors.OffsetMismatch: 400,
        errors.Interrupted: 400,
        errors.NotReceiving: 400,
    }

    # Option, for as_view():

    policy = "default"

    def _check_csrf(self, request: Request) -> None:
        """Ask for what a page of another origin cannot send.

        A custom header makes browsers ask first, by a preflight that is not answered
        in the affirmative here. Origin and Sec-Fetch-Site are looked at as well.
        """
        if request.method in SAFE_METHODS:
            return
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if not request.headers.get("X-File-Id"):
            raise exceptions.PermissionDenied("X-File-Id is missing.")
        if site not in ("same-origin", "none") or not _is_own_origin(request):
            raise exceptions.PermissionDenied("The request comes from another site.")

    def file_id(self) -> str:
        file_id = self.request.headers.get("X-File-Id", "").strip()
        if not file_id or len(file_id) > MAX_ID:
            raise errors.Invalid("X-File-Id is missing, or too long.")
        return file_id

    def upload_of(self, file_id: str) -> UploadSession | None:
        return engine.find_by_key(self.owner(), self.protocol, file_id)


def _is_own_origin(request: Request) -> bool:
    """Tell whether the Origin, if there is one, is this site or one it trusts."""
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    if urlsplit(origin).netloc == request.get_host():
        return True
    return CsrfViewMiddleware(lambda _: None)._origin_verified(request._request)


class StatusView(ByteOffsetView):
    """How many bytes are there? A plain number, and always one."""

    def get(self, request: Request) -> HttpResponse:
        upload = self.upload_of(self.file_id())
        if upload is not None:
            # The number has to stay true until the client has acted on it.
            upload = engine.take_offset(upload)
        stored = 0 if upload is None else upload.received
        answer = HttpResponse(str(stored), content_type="text/plain")
        answer["Vary"] = "Cookie, X-File-Id"
        return answer


class AppendView(ByteOffsetView):
    """Take the rest of a file."""

    def post(self, request: Request) -> HttpResponse:
        policy = get_policy(self.policy)
        self.check_permitted(policy)
        file_id = self.file_id()
        start = nonnegative(request.headers.get("X-Start-Byte"), "X-Start-Byte")
        with self.body() as body:
            upload = self.upload_of(file_id) or self._opened(file_id, start, body.length)
            # The id says that it is the same file, so what it brings again is known.
            known = upload.received - start
            if known < 0:
                raise errors.OffsetMismatch(upload.received)
            body.skip(known)
            upload = engine.append(upload, upload.received, body)
        answer = HttpResponse(str(upload.received), content_type="text/plain")
        answer["X-Upload-State"] = engine.refreshed(upload).state
        return answer

    def _opened(self, file_id: str, start: int, rest: int | None) -> UploadSession:
        if start:
            raise errors.OffsetMismatch(0)
        new = engine.NewUpload(
            filename=_name(file_id),
            length=self._length(file_id, rest),
            client_key=file_id,
        )
        owner = self.owner(create=True)
        return engine.open(owner, self.protocol, get_policy(self.policy), new)[0]

    def _length(self, file_id: str, rest: int | None) -> int:
        """Return the size of the file: said by a header, the id, or the body."""
        if said := self.request.headers.get("X-File-Size"):
            return nonnegative(said, "X-File-Size")
        match = _FILE_ID.fullmatch(file_id)
        if match:
            return int(match["size"])
        if rest is None:
            raise errors.Invalid("The size of the file is not known.")
        return rest


def _name(file_id: str) -> str:
    match = _FILE_ID.fullmatch(file_id)
    return (match["name"] if match else file_id) or "file"


def urls(**options: Any) -> list[URLPattern]:
    """Return the routes, to be included under the page's own URL."""
    return [
        re_path(r"^status/?$", StatusView.as_view(**options), name="byteoffset-status"),
        re_path(r"^upload/?$", AppendView.as_view(**options), name="byteoffset-upload"),
    ]


