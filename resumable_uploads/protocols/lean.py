"""A short way for requests that bring bytes, and need no session to be judged.

Some have a capability, which says whose the upload is. Others have no cookie at all,
and open an upload, or ask for one, whose URL may be all that is needed.

``DataRequests`` is a middleware. What stands above it in MIDDLEWARE is done for them as
for all others; what stands below it (sessions, users, messages) is left out. Any doubt,
and the request goes the long way, where it is judged as if it had no capability. A view
that finds only in the body what speaks against the short one raises ``LongWay``.

The view that answers is the same, with the same verbs; what the REST framework would
find out about the request is known already, see ``UploadView.dispatch``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, ResolverMatch, resolve
from rest_framework.authentication import (
    BaseAuthentication,
    BasicAuthentication,
    SessionAuthentication,
)
from rest_framework.permissions import AllowAny, IsAuthenticated

from ..capabilities import Capability, prove

PATH = f"{__name__}.DataRequests"
HEADER = "Upload-Capability"
_META = "HTTP_UPLOAD_CAPABILITY"
# Those that ask only who somebody is, and only the session or the user.
_AUTHENTICATION = {SessionAuthentication, BasicAuthentication}
_PERMISSIONS = {AllowAny, IsAuthenticated}
# What is the same in the paths of all uploads, and what is not.
_PATH = re.compile(
    r"(?P<mount>.*/)(?P<upload_id>[0-9a-f-]{36})(?P<what>/[a-z]+/|/?)"
    r"(?P<number>[0-9]*)(?P<slash>/?)"
)
_NOT = ("",) * 4
_MANY = 1000
_METHODS = {"HEAD", "PATCH", "POST", "PUT"}
# Who has nothing to show asks for pages by that.
_WITH_CAPABILITY = _METHODS | {"GET"}


class LongWay(Exception):
    """What a request is about is not what its capability was given for.

    Or it takes a session, which there is none of on the short way.
    """


class DataRequests:
    """Send requests that bring bytes straight to their view, where that can be."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        if _may_be_lean(request):
            answer = _answered(request)
            if answer is not None:
                return answer
        return self.get_response(request)


class Proven(BaseAuthentication):
    """Knows the caller by a capability, which no browser sends by itself."""

    def __init__(self, capability: Capability) -> None:
        self.capability = capability

    def authenticate(self, request: Any) -> tuple[Any, Capability]:
        return self.capability.owner.user or AnonymousUser(), self.capability


def is_installed() -> bool:
    return PATH in settings.MIDDLEWARE


def is_lean(view: Any) -> bool:
    """Tell whether a view asks for nothing that a capability cannot stand for."""
    return (
        set(view.authentication_classes) <= _AUTHENTICATION
        and set(view.permission_classes) <= _PERMISSIONS
        and not view.throttle_classes
        and not settings.DISALLOWED_USER_AGENTS
    )


def _may_be_lean(request: HttpRequest) -> bool:
    about = request.META
    if "HTTP_AUTHORIZATION" in about or "HTTP_X_HTTP_METHOD_OVERRIDE" in about:
        return False
    if _META in about:
        return request.method in _WITH_CAPABILITY
    return request.method in _METHODS and not about.get("HTTP_COOKIE")


def _answered(request: HttpRequest) -> HttpResponse | None:
    """Answer a request by its view, or return None for the long way."""
    urlconf = getattr(request, "urlconf", settings.ROOT_URLCONF)
    match = _resolved(request.path_info, urlconf)
    view = getattr(match and match.func, "cls", None)
    if match is None or request.method not in getattr(view, "lean_methods", ()):
        return None
    # Where the URL names none, the view sees to it that the upload is the right one.
    upload_id = match.kwargs.get("upload_id", "")
    if not (is_lean(view) and _is_let_in(request, view, upload_id)):
        return None
    # As CommonMiddleware does: raise DisallowedHost.
    request.get_host()
    request.resolver_match = match
    request.is_lean = True  # type: ignore[attr-defined]
    try:
        response = match.func(request, *match.args, **match.kwargs)
    except LongWay:
        _forget(request)
        return None
    if hasattr(response, "render"):
        response = response.render()
    # As CommonMiddleware does: else the server would send a chunk and a last one.
    if response.status_code != 204:
        response.headers.setdefault("Content-Length", str(len(response.content)))
    return response


def _is_let_in(request: Any, view: Any, upload_id: str) -> bool:
    """Find out who sends a request, by its capability or since nothing says so.

    Return whether the view would let them in.
    """
    capability = None
    if _META in request.META:
        try:
            capability = prove(request.META[_META], upload_id)
        except (DatabaseError, InterfaceError):
            # The view has an answer to that.
            return False
    if capability is None and (_META in request.META or not view.lean_for_strangers):
        return False
    user = capability.owner.user if capability else None
    if user is None and IsAuthenticated in view.permission_classes:
        return False
    # Not before: on the long way nothing may be known of a capability.
    if capability:
        request.capability = capability
    request.user = user or AnonymousUser()
    return True


def _forget(request: Any) -> None:
    """Leave nothing on a request that its capability has told."""
    for name in ("capability", "is_lean", "user"):
        vars(request).pop(name, None)
    request.resolver_match = None


_resolved_before: dict[tuple[Any, ...], ResolverMatch] = {}


def _resolved(path: str, urlconf: Any) -> ResolverMatch | None:
    """Return what Django resolves a path to, or None.

    Once for a path where uploads are opened, and for all uploads under one prefix: what
    differs in their paths is only what the view is given.
    """
    found = _PATH.fullmatch(path)
    mount, upload_id, what, number, slash = found.groups() if found else (path, *_NOT)
    shape = urlconf, mount, bool(upload_id), what, bool(number), slash
    kwargs = {"upload_id": upload_id} if upload_id else {}
    kwargs |= {"number": number} if number else {}
    if shape in _resolved_before:
        # A copy by hand: it refuses to be copied by the library's means.
        match = ResolverMatch.__new__(ResolverMatch)
        match.__dict__ |= _resolved_before[shape].__dict__
        match.kwargs = match.captured_kwargs = kwargs
        return match
    match = _resolved_anew(path, urlconf)
    if match and not match.args and match.kwargs == kwargs:
        if len(_resolved_before) >= _MANY:
            _resolved_before.clear()
        _resolved_before[shape] = match
    return match


def _resolved_anew(path: str, urlconf: Any) -> ResolverMatch | None:
    try:
        return resolve(path, urlconf)
    except Resolver404:
        return None
