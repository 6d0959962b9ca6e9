"""The IETF draft, interop version 8, for OpenAPI."""

from __future__ import annotations

from typing import Any

from .. import ietf
from ..tus_metadata import InvalidMetadata, MetadataTooLong
from . import parts
from .parts import BYTES, UPLOAD_ID, answer, header, one_of, parameter

TAG = "ietf"
# Structured fields (RFC 9651) have integers of 15 digits.
NUMBER = {"type": "integer", "format": "int64", "minimum": 0}
NUMBER |= {"maximum": 10**15 - 1}
BOOLEAN = one_of("?0", "?1")
DIGEST = {
    "type": "string",
    "pattern": r"^[a-z0-9-]+=:[A-Za-z0-9+/]*={0,2}:$",
    "example": "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
}
ENDS = parameter(
    "Upload-Complete", "Does the file end with this content?", BOOLEAN, required=True
)
INTEROP = parameter(
    "Upload-Draft-Interop-Version",
    "Which version of the draft is spoken.",
    {"type": "integer", "enum": [ietf.INTEROP]},
)
LENGTH = parameter("Upload-Length", "Bytes of the file.", NUMBER)
CONTENT_DIGEST = parameter(
    "Content-Digest", "Of this content; what does not fit is not kept.", DIGEST
)
LIMIT = {"Upload-Limit": header("Sizes in bytes, max-age in seconds.", required=True)}
LOCATION = {"Location": header("The URL of the upload.", required=True)}
NOW = {
    "Upload-Offset": header("How many bytes are there.", NUMBER, required=True),
    "Upload-Complete": header("Is the file all there?", BOOLEAN, required=True),
}
SAID = {"Upload-Complete": header("?1: do not resume.", BOOLEAN, required=True)}
HEADERS: dict[int, dict[str, Any]] = {
    0: SAID,
    409: {"Upload-Offset": header("How many bytes are there.", NUMBER)},
    413: {"Upload-Limit": header("What there may be.", required=True)},
    429: {"Retry-After": header("Seconds.", NUMBER)},
    503: {"Retry-After": header("Seconds.", NUMBER, required=True)},
}
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "expected-offset": NUMBER,
        "provided-offset": NUMBER,
    },
}
NOTHING = {"type": "string", "nullable": True}
FACTS = {
    "type": "object",
    "required": ["id", "state", "name", "size", "received", "checksum", "file"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "state": {"type": "string"},
        "name": {"type": "string"},
        "size": NUMBER,
        "received": NUMBER,
        "checksum": NOTHING,
        "file": {"type": "object", "nullable": True},
    },
}
_TYPES = {
    parts.errors.OffsetMismatch.code: f"{ietf.PROBLEMS}mismatching-upload-offset",
    ietf.InconsistentLength.code: f"{ietf.PROBLEMS}inconsistent-upload-length",
}


def _written(code: str, text: str, status: int) -> dict[str, Any]:
    problem = {"type": _TYPES.get(code, "about:blank"), "title": text}
    example = {"value": problem | {"status": status, "code": code}}
    content = {"schema": PROBLEM, "examples": {code: example}}
    return {ietf.ProblemRenderer.media_type: content}


def _refusals(*kinds: parts.Kind, has_body: bool = True) -> dict[str, Any]:
    written = _written if has_body else None
    return parts.refusals(ietf.DraftView, kinds, written, HEADERS)


def _operation(name: str, summary: str, **more: Any) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "tags": [TAG], **more}


def _of_upload(*args: Any, **more: Any) -> dict[str, Any]:
    parameters = [UPLOAD_ID, *more.pop("parameters", ())]
    return _operation(*args, parameters=parameters, **more)


def paths(prefix: str) -> dict[str, Any]:
    """Return the operations of the draft under a prefix, as ``tus.paths`` does."""
    name = prefix.strip("/").replace("/", "_").replace("{", "").replace("}", "")
    return {
        f"{prefix}/": {
            "options": _options(f"{name}_options"),
            "post": _create(f"{name}_create"),
            "put": _create(f"{name}_create_by_put"),
            "patch": _create(f"{name}_create_by_patch"),
        },
        f"{prefix}/{{upload_id}}": {
            "options": _options(f"{name}_upload_options", UPLOAD_ID),
            "head": _head(f"{name}_offset"),
            "patch": _append(f"{name}_append"),
            "delete": _delete(f"{name}_cancel"),
            "get": _get(f"{name}_file"),
        },
    }


def _options(name: str, *parameters: Any) -> dict[str, Any]:
    headers = LIMIT | {"Allow": header("The methods.", required=True)}
    return _operation(
        name,
        "See what may be uploaded",
        parameters=list(parameters),
        responses={"204": answer("The limits.", headers)},
    )


def _create(name: str) -> dict[str, Any]:
    return _operation(
        name,
        "Open an upload",
        description="Where all of the file has been sent, the answer has JSON, as that "
        "to the last append.",
        parameters=[
            ENDS,
            INTEROP,
            LENGTH,
            parameter("Content-Disposition", "The file name (RFC 6266)."),
            CONTENT_DIGEST,
            parameter("Repr-Digest", "Of the file.", DIGEST),
            parameter("Want-Repr-Digest", "Which digest to answer with."),
        ],
        requestBody={
            "description": "All of the file, its beginning, or nothing.",
            "content": {"application/octet-stream": {"schema": BYTES}},
        },
        responses={
            "201": answer(
                "It is open; with Upload-Complete: ?1, it has been sent.",
                LOCATION | NOW | LIMIT,
            )
        }
        | _refusals(
            ietf.InconsistentLength,
            InvalidMetadata,
            MetadataTooLong,
            parts.errors.Invalid,
            parts.errors.Gone,
            parts.errors.NotFound,
            *parts.ALWAYS,
            *parts.OF_A_BODY,
            *parts.OF_AN_OPENING,
        ),
    )


def _head(name: str) -> dict[str, Any]:
    headers = NOW | LIMIT
    headers |= {"Upload-Length": header("Bytes of the file, once known.", NUMBER)}
    headers |= {"Cache-Control": header("no-store", required=True)}
    return _of_upload(
        name,
        "Ask where to go on",
        parameters=[INTEROP],
        responses={"204": answer("Where the upload is.", headers)}
        | _refusals(*parts.OF_AN_UPLOAD, has_body=False),
    )


def _append(name: str) -> dict[str, Any]:
    content = {"application/json": {"schema": FACTS}}
    return _of_upload(
        name,
        "Append content",
        parameters=[
            parameter("Upload-Offset", "Where it begins.", NUMBER, required=True),
            ENDS,
            INTEROP,
            LENGTH,
            CONTENT_DIGEST,
        ],
        requestBody={
            "required": True,
            "content": {ietf.PARTIAL_TYPE: {"schema": BYTES}},
        },
        responses={
            "200": answer("That was all.", NOW | LIMIT, content),
            "204": answer("It is there.", NOW | LIMIT),
        }
        | _refusals(
            ietf.InvalidType,
            ietf.InconsistentLength,
            parts.errors.Invalid,
            parts.errors.Incomplete,
            parts.errors.OffsetMismatch,
            *parts.OF_AN_UPLOAD,
            *parts.OF_A_BODY,
        ),
    )


def _delete(name: str) -> dict[str, Any]:
    return _of_upload(
        name,
        "Cancel an upload, or delete its file",
        parameters=[INTEROP],
        responses={"204": answer("It is gone.")}
        | _refusals(*parts.OF_AN_UPLOAD, parts.errors.NotReceiving),
    )


def _get(name: str) -> dict[str, Any]:
    content = {"*/*": {"schema": BYTES}}
    return _of_upload(
        name,
        "Get the finished file",
        description="Where the policy lets it be got; before, the offset as by HEAD.",
        parameters=[INTEROP, parameter("Range", "One range of bytes.")],
        responses={
            "200": answer("The file.", {}, content),
            "204": answer("Where the upload is.", NOW | LIMIT),
            "206": answer("The range.", {}, content),
            "416": answer("The file has none of the range."),
        }
        | _refusals(*parts.OF_AN_UPLOAD),
    )
