"""The uploader of javascript.info: how much is there, and the rest of the file.

``GET status`` answers with the number of bytes that are there, ``POST upload`` brings
all others in one raw body. The client names the file by ``X-File-Id``, and can send no
CSRF token; what makes its requests safe is in ``_check_csrf``. See docs/clients.md.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import unquote

from django.http import HttpResponse
from django.urls import URLPattern, re_path
from rest_framework import exceptions
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from .. import engine, errors
from ..body import Body
from ..models import State, UploadSession
from ..policies import UploadPolicy
from .base import nonnegative
from .foreign import ForeignView, check_not_rejected, read_again
from .origins import is_from_here, without_token

MAX_KEY = 255
# How often an upload may change between a look at it and the first byte.
TRIES = 5
# name-size-lastModified; the name may have any of these inside. Where a browser knows
# no lastModifiedDate, the article's code writes "NaN".
_FILE_ID = re.compile(
    r"(?P<name>.*)-(?P<size>\d{1,19})-(?P<modified>-?\d{1,17}|NaN)", re.DOTALL
)
# Headers are Latin-1. What else is in a name may come as in RFC 8187.
_UTF_8 = "UTF-8''"


class FileId:
    """What X-File-Id says of a file, to be read from the right."""

    def __init__(self, text: str) -> None:
        match = _FILE_ID.fullmatch(text)
        name = match["name"] if match else text
        encoded = name.startswith(_UTF_8)
        self.name = unquote(name[len(_UTF_8) :]) if encoded else name
        self.size = int(match["size"]) if match else None


class ByteOffsetView(ForeignView):
    """What both endpoints share."""

    protocol = "byteoffset"
    takes_body = True
    status_codes = ForeignView.status_codes | {
        errors.OffsetMismatch: 400,
        errors.Interrupted: 400,
        errors.NotReceiving: 400,
        errors.WrongAddressing: 400,
    }

    def get_authenticators(self) -> list[Any]:
        """Return the project's, but ask none of them for a CSRF token."""
        return without_token(super().get_authenticators())

    def _check_csrf(self, request: Request) -> None:
        """Ask for what a page of another site cannot send.

        For a header of its own its browser asks first, and is not answered in the
        affirmative here. Should a project let it through, its Origin or its
        Sec-Fetch-Site still tells.
        """
        if request.method in SAFE_METHODS:
            return
        if not request.headers.get("X-File-Id"):
            raise exceptions.PermissionDenied("X-File-Id is missing.")
        if not is_from_here(request):
            raise exceptions.PermissionDenied("The request comes from another site.")

    def file_id(self) -> str:
        file_id = self.request.headers.get("X-File-Id", "").strip()
        if not file_id:
            raise errors.Invalid("X-File-Id is missing.")
        return file_id

    def client_key(self) -> str:
        """Return the file's id, for the files of this policy."""
        key = f"{self.policy}/{self.file_id()}"
        if len(key) <= MAX_KEY and key.isprintable():
            return key
        return f"sha-256:{hashlib.sha256(key.encode()).hexdigest()}"

    def answer(self, upload: UploadSession | None) -> HttpResponse:
        """Answer with the number of bytes that are there."""
        stored = 0 if upload is None else upload.received
        answer = HttpResponse(str(stored), content_type="text/plain")
        answer["Vary"] = "Cookie, X-File-Id"
        if upload is not None:
            answer["X-Upload-Id"], answer["X-Upload-State"] = upload.pk, upload.state
        return answer


class StatusView(ByteOffsetView):
    """How many bytes are there? A plain number, and always one."""

    def get(self, request: Request) -> HttpResponse:
        upload = self.upload_of(self.client_key())
        # The number has to stay true until the client has acted on it.
        return self.answer(upload and engine.take_offset(upload))


class AppendView(ByteOffsetView):
    """Take the rest of a file."""

    def post(self, request: Request) -> HttpResponse:
        policy = self.permitted_policy()
        start = nonnegative(request.headers.get("X-Start-Byte"), "X-Start-Byte")
        with self.body() as body:
            upload = self.upload_of(self.client_key())
            if upload is None:
                upload = self._begun(policy, start, body.left)
            upload = self._take(upload, start, body)
        upload = engine.refreshed(upload)
        check_not_rejected(upload)
        return self.answer(upload)

    def _take(self, upload: UploadSession, start: int, body: Body) -> UploadSession:
        if self._length(None) not in (None, upload.length):
            raise errors.Invalid("The size of the file has changed.")
        for _ in range(TRIES):
            upload = engine.take_offset(upload)
            if upload.state != State.RECEIVING:
                return self._read_again(upload, start, body)
            try:
                return self._append(upload, start, body)
            except _Outrun:
                continue
        raise errors.Interrupted(offset=upload.received)

    def _read_again(
        self, upload: UploadSession, start: int, body: Body
    ) -> UploadSession:
        if start > upload.received:
            raise errors.OffsetMismatch(upload.received)
        return read_again(upload, body)

    def _append(self, upload: UploadSession, start: int, body: Body) -> UploadSession:
        """Put the body where it belongs. What it brings again is compared.

        Chromium sends all of a request again when a connection has died, and that must
        not undo what has come since. Other bytes take the place of those recorded.
        """
        position = start + body.received
        try:
            position = engine.skip_known(upload, position, body)
            if body.ended and position < upload.received:
                body.check_end()
                return upload
            engine.rewind(upload, position)
        except (errors.OffsetMismatch, errors.Interrupted) as error:
            raise _outrun(error, start + body.received) from error
        try:
            return engine.append(upload, position, body)
        except errors.OffsetMismatch as error:
            raise _outrun(error, position) from error

    def _begun(
        self, policy: UploadPolicy, start: int, rest: int | None
    ) -> UploadSession:
        if start:
            raise errors.OffsetMismatch(0)
        length = self._length(rest)
        if length is None:
            raise errors.Invalid("The size of the file is not known.")
        new = engine.NewUpload(
            filename=FileId(self.file_id()).name,
            length=length,
            client_key=self.client_key(),
            key_is_file=True,
        )
        return self.begin(policy, new)

    def _length(self, rest: int | None) -> int | None:
        """Return the size of the file: said by a header, by the id, or by the body."""
        if said := self.request.headers.get("X-File-Size"):
            return nonnegative(said, "X-File-Size")
        size = FileId(self.file_id()).size
        return rest if size is None else size


class _Outrun(Exception):
    """An older request has only now come to where it is fenced off; look again."""


def _outrun(error: errors.UploadError, position: int) -> Exception:
    """Return an error that means to look again, unless that would be in vain."""
    return error if error.facts["offset"] < position else _Outrun()


def urls(**options: Any) -> list[URLPattern]:
    """Return the routes, to be included under the URL of the page itself."""
    # With and without a slash at the end: no upload may ever be redirected.
    return [
        re_path(r"^status/?$", StatusView.as_view(**options), name="byteoffset-status"),
        re_path(r"^upload/?$", AppendView.as_view(**options), name="byteoffset-upload"),
    ]
