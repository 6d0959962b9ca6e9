"""tus and the IETF draft, described for OpenAPI.

No generator could know them, since most of both is in headers. ``document`` is a whole
document; ``add_mounted`` adds what a project has mounted to that of drf-spectacular:

    SPECTACULAR_SETTINGS = {
        "POSTPROCESSING_HOOKS": [
            "drf_spectacular.hooks.postprocess_schema_enums",
            "resumable_uploads.protocols.openapi.add_mounted",
        ],
    }
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, get_resolver

from . import ietf, tus
from .parts import OPENAPI

# By the names of the routes.
_PATHS = {"tus": tus.paths, "ietf": ietf.paths}
_CONVERTER = re.compile(r"<(?:[^>:]+:)?(\w+)>")


def document(protocol: str, prefix: str) -> dict[str, Any]:
    """Return the OpenAPI document of "tus" or "ietf" under a prefix: "/uploads/tus"."""
    return {
        "openapi": OPENAPI,
        "info": {"title": protocol, "version": "1"},
        "paths": _PATHS[protocol](prefix.rstrip("/")),
    }


def mounted(urlconf: Any = None) -> Iterator[tuple[str, str]]:
    """Yield the protocol and the prefix of all that is mounted in a project."""
    yield from _mounted(get_resolver(urlconf).url_patterns, "/")


def _mounted(patterns: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        if not isinstance(pattern, URLPattern):
            route = _CONVERTER.sub(r"{\1}", str(pattern.pattern))
            yield from _mounted(pattern.url_patterns, prefix + route)
        elif pattern.name in _PATHS:
            yield pattern.name, prefix.rstrip("/")


def add_mounted(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Add what is mounted to a schema: a hook of drf-spectacular."""
    for protocol, prefix in mounted():
        result["paths"] |= _PATHS[protocol](prefix)
    return result
