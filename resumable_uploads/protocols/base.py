"""What all protocols share: who asks, the body in motion, and errors as answers.

A protocol is a module of views. A view reads the request, calls one verb of the engine
and writes the answer; its ``status_codes`` translate the engine's errors.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import DatabaseError, InterfaceError, transaction
from django.http import (
    Http404,
    HttpResponse,
    RawPostDataException,
    UnreadablePostError,
)
from rest_framework import exceptions
from rest_framework.authentication import SessionAuthentication
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request, is_form_media_type
from rest_framework.response import Response
from rest_framework.views import APIView

from .. import capabilities, engine, errors, outbox, sources
from ..body import Body
from ..capabilities import Capability
from ..conf import MIB, seconds
from ..models import UploadSession
from ..owners import NOBODY, Owner, owner_of
from ..policies import UploadPolicy, policy_of
from . import bodyfiles, lean
from .lean import HEADER as CAPABILITY
from .lean import LongWay, Proven

log = logging.getLogger(__name__)

# A refused body is read on for so long, since most clients listen only afterwards.
DRAIN_AT_MOST = 8 * MIB
DRAIN_SECONDS = 5.0
# Headers that webhooks tell of, besides those of tus and the IETF draft.
_TOLD = {"content-type", "host", "origin", "user-agent", "x-request-id"}
# Seconds after which a client may try again what the server could not do.
RETRY_AFTER = 2

_json = json.JSONEncoder(separators=(",", ":")).encode

# The words for the protocols that the site has loaded.
spoken: set[str] = set()


class Speaker:
    """What speaks a protocol; to define a subclass is to have the site speak it."""

    # Subclass implementation:

    # The word in UploadSession.protocol.
    protocol = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.protocol:
            spoken.add(cls.protocol)


class OpenBody:
    """A body while it is taken in; what a refusal leaves of it is read on.

    Where it is ``capped``, ``excess`` is raised at the end for more bytes than that.
    """

    def __init__(
        self,
        body: Body,
        capped: sources.Capped | None = None,
        excess: errors.UploadError | None = None,
    ) -> None:
        self._body = body
        self._capped = capped
        self._excess = excess

    def __enter__(self) -> Body:
        return self._body

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            if error is None and self._goes_on():
                error = self._excess
            if isinstance(error, errors.UploadError):
                self._body.drain(DRAIN_AT_MOST, DRAIN_SECONDS)
        finally:
            self._body.close()
        if self._excess is not None and error is self._excess:
            raise self._excess

    def _goes_on(self) -> bool:
        capped = self._capped
        return capped is not None and capped.goes_on(seconds("STALL_TIMEOUT"))


class UploadView(Speaker, APIView):
    """A view on uploads, with the project's authentication, permissions, throttles."""

    # Subclass implementation:

    # Which status says what. Subclasses add theirs: UploadView.status_codes | {...}
    status_codes: Mapping[type[errors.UploadError], int] = {
        errors.Invalid: 400,
        errors.Truncated: 400,
        errors.ShuttingDown: 503,
        errors.LengthRequired: 411,
        errors.ChecksumMismatch: 422,
        errors.PermissionDenied: 403,
        errors.NotFound: 404,
        errors.TooLarge: 413,
        errors.TooManyUploads: 429,
        errors.TypeNotAllowed: 422,
        errors.Rejected: 422,
        errors.OffsetMismatch: 409,
        errors.Interrupted: 409,
        errors.ChunkConflict: 409,
        errors.WrongAddressing: 409,
        errors.ClientKeyInUse: 409,
        errors.Incomplete: 409,
        errors.NotReceiving: 409,
        errors.Gone: 410,
        errors.StorageUnavailable: 503,
        errors.StorageFull: 507,
        errors.UploadError: 400,
    }
    # Does it read raw bodies? Others may be no longer than a form or a JSON document.
    takes_body = False
    # The methods that bring bytes, and may be answered the short way (lean.py).
    lean_methods: Collection[str] = ()
    # May that be done also for who has neither a capability nor a cookie?
    lean_for_strangers = False
    # What is raised for more bytes than there is room for.
    excess: type[errors.TooLarge] = errors.TooLarge
    max_document = MIB

    # Who asks, once that is known.
    _owner = NOBODY

    def refusal(self, code: str, detail: str, facts: dict[str, Any]) -> Any:
        """Return the body of an answer that refuses a request."""
        return {"code": code, "detail": detail, **facts}

    # What views call:

    def owner(self, create: bool = False) -> Owner:
        """Return whose request this is; with ``create``, begin a visitor's session."""
        if capability := self.capability:
            return capability.owner
        # To begin a session makes another one of nobody, and of nobody else.
        self._owner = self._owner or owner_of(self.request, create=create)
        if create and not self._owner and self._is_lean:
            raise LongWay
        return self._owner

    def find(self, upload_id: Any) -> UploadSession:
        """Return the caller's own upload. Raise NotFound."""
        if capability := self.capability:
            return engine.not_overdue(capability.upload)
        return engine.find(self.owner(), upload_id)

    @property
    def capability(self) -> Capability | None:
        """What has proven who asks, where that was a capability.

        Set by no client: only by the middleware that has seen the proof.
        """
        return getattr(self.request, "capability", None)

    @property
    def _is_lean(self) -> bool:
        return getattr(self.request, "is_lean", False)

    def find_to_write(self, upload_id: Any) -> UploadSession:
        """Return the caller's own upload if its policy still permits to write."""
        upload = self.find(upload_id)
        self.check_permitted(policy_of(upload))
        return upload

    def check_permitted(self, policy: UploadPolicy) -> None:
        """Raise NotAuthenticated for who should log in, PermissionDenied for others."""
        if policy.permits(self.owner(create=policy.anonymous)):
            return
        if not self.request.user.is_authenticated:
            raise exceptions.NotAuthenticated
        raise errors.PermissionDenied

    def told(
        self, facts: Mapping[str, Any], status: int = 200, **headers: str
    ) -> HttpResponse:
        """Return what to answer to bytes; headers are named with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if not self._is_lean:
            return Response(facts, status=status, headers=named)
        kind = JSONRenderer.media_type
        return HttpResponse(_json(facts).encode(), kind, status, headers=named)

    def entitle(self, response: HttpResponse, upload: UploadSession) -> None:
        """Let the owner send more bytes by a capability.

        Never for showing one: else it would outlive what takes it back.
        """
        if self.capability or not (lean.is_installed() and lean.is_lean(self)):
            return
        if word := capabilities.issue(upload, self.owner()):
            response[CAPABILITY] = word

    def rendered(self, facts: Mapping[str, Any], status: int = 200) -> HttpResponse:
        """Return facts as an answer, in the form that was asked for."""
        renderer = self.request.accepted_renderer
        if type(renderer) is not JSONRenderer:
            return Response(facts, status=status)
        # As the framework has it done in the end, with less ceremony.
        kind = self.request.accepted_media_type
        body = renderer.render(facts, kind, self.get_renderer_context())
        return HttpResponse(body, renderer.media_type, status)

    def body(
        self, expected: Mapping[str, bytes] | None = None, room: int | None = None
    ) -> OpenBody:
        """Open the raw body, with the digests expected of it by algorithm.

        With ``room``, a body that announces no length ends after so many bytes;
        ``excess`` is raised for more once those have been dealt with.
        """
        source = source_of(self.request)
        if room is None or expected or source.length is not None:
            return OpenBody(Body(source, expected))
        capped = sources.Capped(source, room)
        return OpenBody(Body(capped), capped, self.excess(max_size=room))

    # HTTP handlers (subclasses shouldn't need to override):

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        # A request may last for hours; ATOMIC_REQUESTS must not hold a row for it.
        return transaction.non_atomic_requests(super().as_view(**initkwargs))

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        with outbox.asked_by(partial(_told_of, request)):
            if getattr(request, "is_lean", False):
                return self._dispatch_lean(request, *args, **kwargs)
            return super().dispatch(request, *args, **kwargs)

    def _dispatch_lean(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer a request of which it is known already who sends it.

        Nothing of the body is parsed, and there is one way to render.
        """
        self.request = request
        try:
            self.check_request(request)
            handler = getattr(self, request.method.lower())
            response = handler(request, *args, **kwargs)
        except LongWay:
            raise
        except Exception as error:
            self.headers = self.default_response_headers
            self.request = self.initialize_request(request, *args, **kwargs)
            response = self.handle_exception(error)
            return self.finalize_response(self.request, response, *args, **kwargs)
        self.add_headers(request, response)
        return response

    def check_request(self, request: Any) -> None:
        """See that a request is one of the protocol, whoever sends it."""
        check_charset(request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.check_request(request)
        # Before anything else: to look for a CSRF token is to read the document.
        if not self.takes_body:
            self._check_document(request)
        super().initial(request, *args, **kwargs)
        self._check_csrf(request)

    def get_authenticators(self) -> list[Any]:
        if capability := self.capability:
            return [Proven(capability)]
        return super().get_authenticators()

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Answer also those who accept nothing that is spoken here."""
        if len(self.renderer_classes) == 1 or self._takes_anything(request):
            renderer = self.renderer_classes[0]()
            return renderer, renderer.media_type
        return super().perform_content_negotiation(request, force=True)

    def _takes_anything(self, request: Request) -> bool:
        """Tell whether the first renderer is what negotiation would come to."""
        return (
            request.META.get("HTTP_ACCEPT", "*/*") == "*/*"
            and not request.META.get("QUERY_STRING")
            and not getattr(self, "format_kwarg", None)
            and self.content_negotiation_class is DefaultContentNegotiation
        )

    def _check_csrf(self, request: Request) -> None:
        """Ask visitors for the token too: their session is as good as a login."""
        if request.method in SAFE_METHODS or request.successful_authenticator:
            return
        # Only a form may have the token in it. No other document need be read for that.
        is_form = is_form_media_type(request.content_type)
        asked: Any = request if is_form else request._request
        SessionAuthentication().enforce_csrf(asked)

    def _check_document(self, request: Request) -> None:
        if (sources.declared_length(request.META) or 0) > self.max_document:
            raise errors.TooLarge(
                "The document is too long.", max_document=self.max_document
            )

    def finalize_response(
        self, request: Any, response: Any, *args: Any, **kwargs: Any
    ) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if request.method == "HEAD" and isinstance(response, Response):
            # Servers would drop it, and some of them complain each time.
            response.data = None
        if response.status_code >= 400:
            _drain(request)
        self.add_headers(request, response)
        return response

    def add_headers(self, request: Any, response: Any) -> None:
        """Say in an answer what all answers of the protocol say."""
        response.headers.setdefault("Cache-Control", "no-store")

    def handle_exception(self, exc: Exception) -> Response:
        """Answer any error in the protocol's own words."""
        if isinstance(exc, errors.UploadError):
            return self._answer(self._status_of(exc), exc.code, exc.message, exc.facts)
        # Of a connection that was lost between two statements Django says the latter.
        if isinstance(exc, DatabaseError | InterfaceError):
            log.exception("The database failed")
            return self.handle_exception(errors.StorageUnavailable())
        if isinstance(exc, RecursionError | SuspiciousOperation):
            return self.handle_exception(errors.Invalid())
        if isinstance(exc, UnreadablePostError | RawPostDataException):
            return self.handle_exception(errors.Truncated())
        return super().handle_exception(exc)

    def get_exception_handler(self) -> Any:
        return self._answer_exception

    def _answer_exception(self, exc: Exception, context: Any) -> Response | None:
        """Answer Django's and DRF's own exceptions."""
        if isinstance(exc, Http404):
            exc = exceptions.NotFound()
        if isinstance(exc, PermissionDenied):
            exc = exceptions.PermissionDenied()
        if isinstance(exc, exceptions.ParseError):
            exc = exceptions.ParseError(str(exc.detail), errors.Invalid.code)
        if not isinstance(exc, exceptions.APIException):
            return None
        codes = exc.get_codes()
        if isinstance(codes, str):
            return self._answer(exc.status_code, codes, str(exc.detail), {}, exc)
        facts = {"fields": exc.detail}
        return self._answer(exc.status_code, "invalid", _summary(exc), facts, exc)

    def _answer(
        self,
        status: int,
        code: str,
        detail: str,
        facts: dict[str, Any],
        exc: Any = None,
    ) -> Response:
        answer = Response(self.refusal(code, detail, facts), status=status)
        if getattr(exc, "auth_header", None):
            answer["WWW-Authenticate"] = exc.auth_header
        if getattr(exc, "wait", None):
            answer["Retry-After"] = str(math.ceil(exc.wait))
        elif status == 503:
            answer["Retry-After"] = str(RETRY_AFTER)
        answer.exception = True
        return answer

    def _status_of(self, error: errors.UploadError) -> int:
        if isinstance(error, errors.Rejected) and error.status:
            return error.status
        kinds = type(error).__mro__
        return next(
            self.status_codes[kind] for kind in kinds if kind in self.status_codes
        )


def _told_of(request: Any) -> dict[str, Any]:
    """Return what webhooks tell of a request: no cookie, and no other secret."""
    return {
        "method": request.method,
        "uri": request.get_full_path(),
        "address": request.META.get("REMOTE_ADDR", ""),
        "headers": {
            name: value
            for name, value in request.headers.items()
            if _is_told(name.lower())
        },
    }


def _is_told(header: str) -> bool:
    is_secret = header == CAPABILITY.lower()
    return header in _TOLD or (header.startswith(("tus-", "upload-")) and not is_secret)


def check_charset(request: Any) -> None:
    """Raise Invalid for a charset in which Django could not read parameters.

    It takes any codec's word, and reads the query by it, too.
    """
    charset = getattr(request, "_request", request).encoding
    try:
        if charset:
            b"a".decode(charset, "replace")
    except (LookupError, ValueError):
        raise errors.Invalid("The charset is not known.") from None


def source_of(request: Any) -> sources.Source:
    """Return where the body of a request comes from; nobody must have read it."""
    if bodyfiles.is_handed_over(request.META):
        return bodyfiles.source_of(request.META)
    if "wsgi.input" in request.META:
        return sources.from_environ(request.META, seconds("STALL_TIMEOUT"))
    # ASGI: Django has spooled the whole body before the view began.
    http = getattr(request, "_request", request)
    return sources.StreamSource(http.read, sources.declared_length(request.META))


def _drain(request: Any) -> None:
    """Read on what a refusal has left unread, within reason."""
    if bodyfiles.is_handed_over(request.META):
        return
    try:
        body = Body(source_of(request))
        body.drain(DRAIN_AT_MOST, DRAIN_SECONDS)
        body.close()
    except errors.UploadError:
        # Not a body that could be read to its end.
        return


def _summary(exc: exceptions.APIException) -> str:
    """Return field errors as one sentence for people."""
    if not isinstance(exc.detail, dict):
        return " ".join(map(str, exc.detail))
    return " ".join(
        f"{name}: {' '.join(map(str, found)) if isinstance(found, list) else found}"
        for name, found in exc.detail.items()
    )


def nonnegative(text: str | None, name: str) -> int:
    """Return a header's or parameter's whole number. Raise Invalid."""
    is_number = text and text.isascii() and text.isdigit() and len(text) < 20
    if not (text and is_number and int(text) <= engine.NO_LIMIT):
        raise errors.Invalid(f"{name} must be a whole number, not negative.")
    return int(text)
