"""What the descriptions of protocols are put together from, as plain data.

Statuses come from the views' own tables, so that an answer and its description cannot
differ. Nothing here takes part in answering a request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rest_framework import exceptions

from ... import engine, errors
from ..appending import Locked, OriginNotAllowed
from ..base import UploadView

OPENAPI = "3.0.3"
BYTES = {"type": "string", "format": "binary"}
NUMBER = {"type": "integer", "format": "int64", "minimum": 0}
NUMBER |= {"maximum": engine.NO_LIMIT}
TEXT = {"type": "string"}

Kind = type[Exception]
# From a refusal's code to the content of its answer.
Written = Callable[[str, str, int], dict[str, Any]]


class ServerError(exceptions.APIException):
    """A mistake of the server's own, in the protocol's words all the same."""

    default_code = "server_error"
    default_detail = "The server made a mistake."


# What anybody may meet, and who asks for an upload, and who brings bytes.
ALWAYS: tuple[Kind, ...] = (
    exceptions.NotAuthenticated,
    exceptions.AuthenticationFailed,
    errors.PermissionDenied,
    OriginNotAllowed,
    ServerError,
    errors.StorageUnavailable,
)
OF_AN_UPLOAD: tuple[Kind, ...] = (
    *ALWAYS,
    errors.NotFound,
    errors.Gone,
    errors.Rejected,
    Locked,
)
OF_A_BODY: tuple[Kind, ...] = (
    errors.Truncated,
    errors.Interrupted,
    errors.LengthRequired,
    errors.TooLarge,
    errors.QuotaExceeded,
    errors.Stopped,
    errors.ChecksumMismatch,
    errors.Stalled,
    errors.ShuttingDown,
    errors.StorageFull,
)
OF_AN_OPENING: tuple[Kind, ...] = (
    errors.TooLarge,
    errors.QuotaExceeded,
    errors.TypeNotAllowed,
    errors.Rejected,
    errors.TooManyUploads,
    exceptions.Throttled,
    errors.HookFailed,
)


def parameter(
    name: str, text: str, schema: Mapping[str, Any] = TEXT, required: bool = False
) -> dict[str, Any]:
    """Describe a header of a request."""
    return {
        "name": name,
        "in": "header",
        "description": text,
        "required": required,
        "schema": dict(schema),
    }


def header(
    text: str, schema: Mapping[str, Any] = TEXT, required: bool = False
) -> dict[str, Any]:
    """Describe a header of an answer."""
    return {"description": text, "required": required, "schema": dict(schema)}


def one_of(*values: Any) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


UPLOAD_ID = {
    "name": "upload_id",
    "in": "path",
    "description": "What the Location of the creation ends with.",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}


def answer(
    text: str,
    headers: Mapping[str, Any] | None = None,
    content: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe an answer."""
    found: dict[str, Any] = {"description": text}
    if headers:
        found["headers"] = dict(headers)
    if content:
        found["content"] = dict(content)
    return found


def status_of(view: type[UploadView], kind: Kind) -> int:
    """Return the status with which a view answers an error."""
    if issubclass(kind, exceptions.APIException):
        return kind.status_code
    table: Mapping[Any, int] = view.status_codes
    return next(table[parent] for parent in kind.__mro__ if parent in table)


def refusals(
    view: type[UploadView],
    kinds: Iterable[Kind],
    written: Written | None,
    headers: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
    """Describe the answers for errors, by status.

    ``written`` describes the content; None: of HEAD, whose answers have none. The
    headers of a status are those under it and those under 0.
    """
    by_status: dict[int, dict[str, str]] = defaultdict(dict)
    for kind in kinds:
        code, text = _said(kind)
        by_status[status_of(view, kind)][code] = text
        if kind is exceptions.NotAuthenticated:
            # So where the project's way to authenticate has no WWW-Authenticate.
            by_status[403][code] = text
    found = {}
    for status, said in sorted(by_status.items()):
        contents = [written(code, said[code], status) for code in said if written]
        found[str(status)] = answer(
            " ".join(dict.fromkeys(said.values())),
            {**headers.get(0, {}), **headers.get(status, {})},
            _merged(contents),
        )
    return found


def _said(kind: Any) -> tuple[str, str]:
    code = getattr(kind, "code", None) or kind.default_code
    return code, getattr(kind, "message", None) or str(kind.default_detail)


def _merged(contents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Put the examples of contents of one type together."""
    found: dict[str, Any] = {}
    for content in contents:
        for media_type, entry in content.items():
            before = found.setdefault(media_type, {**entry, "examples": {}})
            before["examples"] |= entry["examples"]
    return found
