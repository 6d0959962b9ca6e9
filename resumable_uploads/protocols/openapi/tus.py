"""tus 1.0.0 for OpenAPI."""

from __future__ import annotations

from typing import Any

from .. import tus
from ..tus_metadata import MAX_LENGTH, InvalidMetadata, MetadataTooLong
from . import parts
from .parts import BYTES, NUMBER, UPLOAD_ID, answer, header, one_of, parameter

TAG = "tus"
VERSION = one_of(tus.VERSION)
_BASE64 = "[A-Za-z0-9+/]*={0,2}"
METADATA = {
    "type": "string",
    "maxLength": MAX_LENGTH,
    "example": "filename ZmlsbS5tcDQ=,filetype dmlkZW8vbXA0",
}
CHECKSUM = {
    "type": "string",
    "pattern": f"^({'|'.join(tus.ALGORITHMS)}) {_BASE64}$",
    "example": "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=",
}

RESUMABLE = parameter("Tus-Resumable", "The version.", VERSION, required=True)
MAYBE_RESUMABLE = parameter("Tus-Resumable", "The version; may be missing.", VERSION)
OFFSET = parameter("Upload-Offset", "Where the body begins.", NUMBER, required=True)
LENGTH = parameter("Upload-Length", "Bytes of the file.", NUMBER)
DIGEST = parameter(
    "Upload-Checksum",
    "The digest of this body. A body that does not fit is not kept.",
    CHECKSUM,
)
SAID = {"Tus-Resumable": header("The version.", VERSION, required=True)}
EXPIRES = {"Upload-Expires": header("When it is given up if nothing comes.")}
OFFSET_NOW = header("How many bytes are there.", NUMBER, required=True)
# What refusals have besides their names.
HEADERS: dict[int, dict[str, Any]] = {
    0: SAID,
    409: {"Upload-Offset": header("How many bytes are there.", NUMBER)},
    412: {"Tus-Version": header("What is spoken.", VERSION, required=True)},
    429: {"Retry-After": header("Seconds.", NUMBER)},
    503: {"Retry-After": header("Seconds.", NUMBER, required=True)},
}
BODY = {
    "description": "Bytes of the file.",
    "content": {tus.OFFSET_TYPE: {"schema": BYTES}},
}
IDLE = (tus.UnsupportedVersion, *parts.OF_AN_UPLOAD)


def _written(code: str, text: str, status: int) -> dict[str, Any]:
    name = tus.NAMES.get(code, f"ERR_{code.upper()}")
    if status == 500 and code == "truncated":
        name = tus.READ_TIMEOUT
    schema = {"type": "string", "pattern": "^ERR_[A-Z0-9_]+: .+"}
    example = {"value": f"{name}: {text}\n"}
    return {"text/plain": {"schema": schema, "examples": {name: example}}}


def _refusals(*kinds: parts.Kind, has_body: bool = True) -> dict[str, Any]:
    written = _written if has_body else None
    found = parts.refusals(tus.TusView, kinds, written, HEADERS)
    return found | _not_allowed(has_body)


def _not_allowed(has_body: bool) -> dict[str, Any]:
    text = "Another method, by X-HTTP-Method-Override."
    name = "method_not_allowed"
    content = _written(name, "Method not allowed.", 405) if has_body else None
    return {"405": answer(text, SAID | {"Allow": header("Those that are.")}, content)}


def _operation(name: str, summary: str, **more: Any) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "tags": [TAG], **more}


def _of_upload(*args: Any, **more: Any) -> dict[str, Any]:
    parameters = [UPLOAD_ID, *more.pop("parameters", ())]
    return _operation(*args, parameters=parameters, **more)


def paths(prefix: str) -> dict[str, Any]:
    """Return the operations of tus under a prefix without a slash at its end."""
    name = prefix.strip("/").replace("/", "_").replace("{", "").replace("}", "")
    return {
        f"{prefix}/": {
            "options": _options(f"{name}_options"),
            "post": _post(f"{name}_create"),
        },
        f"{prefix}/{{upload_id}}": {
            "options": _options(f"{name}_upload_options", UPLOAD_ID),
            "head": _head(f"{name}_offset"),
            "patch": _patch(f"{name}_append"),
            "delete": _delete(f"{name}_terminate"),
            "get": _get(f"{name}_file"),
        },
    }


def _options(name: str, *parameters: Any) -> dict[str, Any]:
    headers = SAID | {
        "Allow": header("The methods.", required=True),
        "Tus-Version": header("What is spoken.", VERSION, required=True),
        "Tus-Extension": header("What works with the storage in use.", required=True),
        "Tus-Checksum-Algorithm": header(
            "The algorithms.", one_of(",".join(tus.ALGORITHMS)), required=True
        ),
        "Tus-Max-Size": header("Bytes that a file may have.", NUMBER),
        "Upload-Limit": header("The same for clients of the IETF draft."),
    }
    return _operation(
        name,
        "See what is spoken",
        parameters=list(parameters),
        description="Asks nobody who he is, and overlooks Tus-Resumable.",
        responses={"204": answer("What is spoken.", headers)},
    )


def _post(name: str) -> dict[str, Any]:
    headers = SAID | EXPIRES
    headers |= {"Location": header("The absolute URL of the upload.", required=True)}
    headers |= {"Upload-Offset": OFFSET_NOW}
    return _operation(
        name,
        "Open an upload",
        description="With Upload-Length, or Upload-Defer-Length, or as a whole of "
        "partial uploads with neither. The body, if there is one and of this type, is "
        "the beginning of the file.",
        parameters=[
            RESUMABLE,
            LENGTH,
            parameter("Upload-Defer-Length", "The length comes later.", one_of("1")),
            parameter(
                "Upload-Metadata",
                "Pairs of a key and a value in base64, with commas between.",
                METADATA,
            ),
            parameter(
                "Upload-Concat",
                "partial, or final;URL URL ...",
                {"type": "string", "pattern": r"^(partial|final;[!-~]+( [!-~]+)*)$"},
            ),
            DIGEST,
        ],
        requestBody=BODY,
        responses={"201": answer("It is open.", headers)}
        | _refusals(
            tus.UnsupportedVersion,
            tus.InvalidLength,
            tus.InvalidDeferral,
            tus.AmbiguousLength,
            tus.InvalidChecksum,
            tus.InvalidConcat,
            tus.ConcatenationUnsupported,
            InvalidMetadata,
            MetadataTooLong,
            tus.ModifyFinal,
            tus.SizeExceeded,
            *parts.ALWAYS,
            parts.errors.Invalid,
            parts.errors.NotFound,
            parts.errors.Gone,
            parts.errors.Incomplete,
            *parts.OF_A_BODY,
            *parts.OF_AN_OPENING,
        ),
    )


def _head(name: str) -> dict[str, Any]:
    headers = SAID | EXPIRES
    headers |= {
        "Cache-Control": header("no-store", required=True),
        "Upload-Offset": header(
            "How many bytes are there; missing while a whole of others is made.", NUMBER
        ),
        "Upload-Length": header("Bytes of the file, once it is known.", NUMBER),
        "Upload-Defer-Length": header("The length is not known yet.", one_of("1")),
        "Upload-Metadata": header("As it came."),
        "Upload-Concat": header("As it came."),
        "Upload-Complete": header("For the IETF draft.", one_of("?0", "?1")),
        "Upload-Limit": header("For the IETF draft."),
    }
    return _of_upload(
        name,
        "Ask where to go on",
        description="Ends a request that still hangs, so that the offset stays true.",
        parameters=[MAYBE_RESUMABLE],
        responses={"200": answer("Where the upload is.", headers)}
        | _refusals(*IDLE, has_body=False),
    )


def _patch(name: str) -> dict[str, Any]:
    headers = SAID | EXPIRES | {"Upload-Offset": OFFSET_NOW}
    return _of_upload(
        name,
        "Append bytes",
        description="What came before a cut is kept, but with Upload-Checksum. "
        "May be sent as POST with X-HTTP-Method-Override: PATCH; so may the others.",
        parameters=[RESUMABLE, OFFSET, LENGTH, DIGEST],
        requestBody=BODY | {"required": True},
        responses={"204": answer("They are there.", headers)}
        | _refusals(
            tus.InvalidContentType,
            tus.InvalidOffset,
            tus.InvalidLength,
            tus.InvalidChecksum,
            tus.ModifyFinal,
            tus.SizeExceeded,
            parts.errors.OffsetMismatch,
            *IDLE,
            *parts.OF_A_BODY,
        ),
    )


def _delete(name: str) -> dict[str, Any]:
    return _of_upload(
        name,
        "End an upload, or delete its file",
        parameters=[RESUMABLE],
        responses={"204": answer("It is gone.", SAID)}
        | _refusals(*IDLE, parts.errors.NotReceiving),
    )


def _get(name: str) -> dict[str, Any]:
    content = {"*/*": {"schema": BYTES}}
    headers = {"Accept-Ranges": header("bytes"), "ETag": header("The checksum.")}
    return _of_upload(
        name,
        "Get the finished file",
        description="Where the policy lets it be got; not a part of tus.",
        parameters=[
            MAYBE_RESUMABLE,
            parameter("Range", "One range of bytes."),
            parameter("If-Range", "The ETag that the range belongs to."),
        ],
        responses={
            "200": answer("The file.", SAID | headers, content),
            "206": answer("The range.", SAID | headers, content),
            "416": answer("The file has none of the range.", SAID),
        }
        | _refusals(*IDLE),
    )
