"""What tus and the IETF draft share: uploads that the server names, fed at their end.

An upload has a URL that nobody can guess. HEAD asks where it ends, PATCH goes on there,
DELETE ends it, and GET returns the finished file. Both protocols may have the same
URLs: each overlooks the headers of the other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpResponse
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from .. import engine, errors
from ..conf import setting
from ..models import State, UploadSession
from ..owners import BEARER, Owner
from ..policies import UploadPolicy, get_policy, policy_of
from .download import serve
from .foreign import ForeignView, check_not_rejected
from .origins import Cors, is_from_here, without_token
from .tus_metadata import HEADERS

log = logging.getLogger(__name__)

# The protocols whose uploads are found under these URLs.
TUS, IETF = "tus", "ietf"

METHODS = "POST, HEAD, PATCH, OPTIONS, GET, DELETE"
# What browsers may send, and what pages may read.
SENT = (
    "Authorization, Origin, X-Requested-With, X-Request-ID, X-HTTP-Method-Override, "
    "X-CSRFToken, Content-Type, Content-Disposition, Content-Digest, Repr-Digest, "
    "Want-Repr-Digest, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, "
    "Upload-Defer-Length, Upload-Concat, Upload-Checksum, Upload-Incomplete, "
    "Upload-Complete, Upload-Draft-Interop-Version"
)
EXPOSED = (
    "Location, Upload-Offset, Upload-Length, Upload-Metadata, Upload-Defer-Length, "
    "Upload-Concat, Upload-Expires, Upload-Incomplete, Upload-Complete, Upload-Limit, "
    "Upload-Draft-Interop-Version, Tus-Resumable, Tus-Version, Tus-Extension, "
    "Tus-Max-Size, Tus-Checksum-Algorithm, Repr-Digest, Retry-After"
)


class Locked(errors.UploadError):
    """The row of an upload was not to be had in time."""

    code = "locked"
    message = "The upload is being worked on. Try again in a moment."


class OriginNotAllowed(errors.PermissionDenied):
    """A page of another site asks, and nobody has said that it may."""

    code = "origin_not_allowed"
    message = "Pages of this origin may not upload here."


class AppendingView(ForeignView):
    """A view of tus, or of the draft."""

    takes_body = True
    status_codes = ForeignView.status_codes | {
        Locked: 423,
        errors.Interrupted: 400,
        # Clients repeat what is answered by 5xx, and nothing else.
        errors.Stalled: 500,
    }

    # Options, for as_view(); None: as in settings.

    origins: Collection[str] | None = None
    credentials: bool | None = None

    # What a request was refused for.
    refused: Exception | None = None
    # The URL may be all that they need.
    lean_for_strangers = True

    # What views call:

    def owner(self, create: bool = False) -> Owner:
        """Return whose request this is.

        Where the policy lets URLs be keys, a visitor without a session gets none.
        """
        known = super().owner()
        if not known and get_policy(self.policy).capability_urls:
            self._owner = known = BEARER
        return known or super().owner(create)

    def find(self, upload_id: Any) -> UploadSession:
        """Return the caller's upload, or one whose URL is key enough.

        Raise NotFound for those of others, for what was never there or was cancelled;
        Gone for what has expired, or was refused when it was complete.
        """
        upload = self._found(upload_id)
        if upload.state == State.CANCELLED or upload.protocol not in (TUS, IETF):
            raise errors.NotFound
        check_not_rejected(upload)
        if upload.is_gone:
            raise errors.Gone(state=upload.state)
        return upload

    def _found(self, upload_id: Any) -> UploadSession:
        try:
            upload = engine.find(self.owner(), upload_id)
        except errors.NotFound:
            upload = engine.find(BEARER, upload_id)
        if upload.owner == BEARER.key and not policy_of(upload).capability_urls:
            raise errors.NotFound
        return upload

    def location(self, upload: UploadSession) -> str:
        """Return the absolute URL of an upload that was opened by this request."""
        endpoint = self.request.path.rstrip("/")
        return self.request.build_absolute_uri(f"{endpoint}/{upload.pk}")

    def headers_of(self, upload: UploadSession) -> dict[str, str]:
        """Return what both protocols say of an upload."""
        headers = {
            "Upload-Offset": str(upload.received),
            "Upload-Complete": boolean(upload.state in engine.FULL_STATES),
            "Upload-Limit": limits(policy_of(upload), upload),
        }
        if upload.length is not None:
            headers["Upload-Length"] = str(upload.length)
        return headers

    # HTTP handlers (subclasses shouldn't need to override):

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        answer = super().options(request, *args, **kwargs)
        answer["Upload-Limit"] = limits(get_policy(self.policy))
        return answer

    def check_request(self, request: Any) -> None:
        super().check_request(request)
        if getattr(request, "is_lean", False):
            self._check_csrf(request)

    def add_headers(self, request: Any, response: Any) -> None:
        super().add_headers(request, response)
        self._cors().answer(request, response, EXPOSED)
        if not (response.streaming or isinstance(response, Response)):
            # Django says of nothing at all that it is HTML.
            response.headers.pop("Content-Type", None)

    def handle_exception(self, exc: Exception) -> Response:
        self.refused = exc
        is_lost = isinstance(exc, OperationalError | InterfaceError)
        if is_lost and "upload_id" in self.kwargs:
            # On HEAD, 503 would make clients begin anew from the first byte.
            log.exception("The row of an upload was not to be had")
            exc = Locked()
        answer = super().handle_exception(exc)
        offset = getattr(exc, "facts", {}).get("offset")
        if offset is not None:
            answer["Upload-Offset"] = str(offset)
        return answer

    def get_authenticators(self) -> list[Any]:
        return without_token(super().get_authenticators())

    def check_throttles(self, request: Request) -> None:
        """Count openings: a client that hears 429 in between gives its file up."""
        if request.method == "POST":
            super().check_throttles(request)

    def _check_csrf(self, request: Request) -> None:
        """Refuse pages of other sites, unless the settings let them in."""
        if request.method in SAFE_METHODS and request.method != "HEAD":
            return
        if not is_from_here(request) and not self._cors().admits(
            request.META.get("HTTP_ORIGIN")
        ):
            raise OriginNotAllowed

    def _cors(self) -> Cors:
        origins = setting("CORS_ORIGINS") if self.origins is None else self.origins
        credentials = self.credentials
        if credentials is None:
            credentials = setting("CORS_CREDENTIALS")
        return Cors(origins, credentials, METHODS, SENT)


class StoredView(AppendingView):
    """An upload, whatever is spoken: its end, and its file."""

    def delete(self, request: Request, upload_id: str) -> HttpResponse:
        engine.cancel(self.find(upload_id))
        return HttpResponse(status=204)

    def get(self, request: Request, upload_id: str) -> Any:
        upload = self.find(upload_id)
        if upload.state != State.COMPLETE or not policy_of(upload).downloadable:
            raise exceptions.NotFound
        return serve(request, upload)


def header_of(upload: UploadSession, header: str) -> str:
    """Return a header with which an upload was opened, as it was, or ""."""
    return upload.metadata.get(HEADERS, {}).get(header, "")


def boolean(value: bool) -> str:
    """Return a boolean as structured fields (RFC 9651) have it."""
    return "?1" if value else "?0"


def limits(policy: UploadPolicy, upload: UploadSession | None = None) -> str:
    """Return Upload-Limit: sizes in bytes, and the age in seconds from now on."""
    found = {}
    if policy.max_size is not None:
        found["max-size"] = policy.max_size
    if upload is not None and upload.state == State.RECEIVING:
        left = (upload.expires_at - timezone.now()).total_seconds()
        found["max-age"] = max(0, math.floor(left))
    elif upload is None:
        found["max-age"] = int(policy.lifetime.total_seconds())
    found = found or {"min-size": 0}
    return ", ".join(f"{name}={value}" for name, value in found.items())
