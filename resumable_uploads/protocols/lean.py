"""A short way for requests that bring bytes and a capability.

``DataRequests`` is a middleware. What stands above it in MIDDLEWARE is done for such
requests as for all others; what stands below it (sessions, users, messages) is left
out, because the capability says whose the upload is. Any doubt, and the request goes
the long way, where it is judged as if it had no capability.

The view that answers is the same, with the same permissions, throttles and verbs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
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


class DataRequests:
    """Send requests that bring bytes and a capability straight to their view."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        if _META in request.META:
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


def _answered(request: HttpRequest) -> HttpResponse | None:
    """Answer a request by its view, or return None for the long way."""
    try:
        match = resolve(request.path_info, getattr(request, "urlconf", None))
    except Resolver404:
        return None
    view = getattr(match.func, "cls", None)
    if request.method not in getattr(view, "lean_methods", ()) or not is_lean(view):
        return None
    if "HTTP_AUTHORIZATION" in request.META:
        return None
    capability = prove(request.META[_META], match.kwargs["upload_id"])
    if capability is None:
        return None
    # As CommonMiddleware does: raise DisallowedHost.
    request.get_host()
    request.resolver_match = match
    request.capability = capability  # type: ignore[attr-defined]
    response = match.func(request, *match.args, **match.kwargs)
    return response.render() if hasattr(response, "render") else response
