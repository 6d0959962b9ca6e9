"""What webhooks tell of an upload: in the words of this app, or in those of tusd."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from .models import GONE_STATES, State, UploadSession
from .names import REQUEST_HEADERS

Facts = dict[str, Any]
# What is told of the request, where there was one: method, URI, address, headers.
Request = Mapping[str, Any] | None
# From an event, its moment, the upload and the request to what is sent.
Form = Callable[[str, datetime, UploadSession, Request], Facts]


def native(
    event: str, moment: datetime, upload: UploadSession, request: Request
) -> Facts:
    """Return an event as Standard Webhooks has it. Sizes are bytes."""
    return {
        "type": f"upload.{event}",
        "timestamp": moment.isoformat(),
        "data": {**_facts(upload), "request": dict(request) if request else None},
    }


def _facts(upload: UploadSession) -> Facts:
    is_complete = upload.state == State.COMPLETE
    return {
        "id": str(upload.pk),
        "state": upload.state,
        "protocol": upload.protocol,
        "policy": upload.policy,
        # Not the owner: a visitor's is a secret.
        "user": None if upload.user_id is None else str(upload.user_id),
        "filename": upload.filename,
        "relative_path": upload.relative_path,
        "content_type": upload.content_type,
        "size": upload.length,
        "received": upload.received,
        "checksum": upload.checksum if is_complete else None,
        "metadata": _without_headers(upload),
        "created_at": upload.created_at.isoformat(),
        "completed_at": upload.completed_at and upload.completed_at.isoformat(),
        "file": _file(upload) if is_complete else None,
        "error": _error(upload),
    }


def _without_headers(upload: UploadSession) -> Facts:
    kept = upload.metadata.items()
    return {name: value for name, value in kept if name != REQUEST_HEADERS}


def _file(upload: UploadSession) -> Facts:
    return {"storage": upload.storage, "name": upload.file_name}


def _error(upload: UploadSession) -> Facts | None:
    """Return why there is no file. What a storage has said is for the admin only."""
    if upload.state not in (State.FAILED, *GONE_STATES) or not upload.error_code:
        return None
    detail = upload.error if upload.state == State.REJECTED else ""
    return {"code": upload.error_code, "detail": detail}


# tusd

TUSD_TYPES = {
    "created": "post-create",
    "completed": "post-finish",
    "cancelled": "post-terminate",
    "expired": "post-terminate",
}


def tusd(
    event: str, moment: datetime, upload: UploadSession, request: Request
) -> Facts:
    """Return an event in the words of tusd's HTTP hooks."""
    asked = request or {}
    return {
        "Type": TUSD_TYPES[event],
        "Event": {
            "Upload": _tusd_upload(upload),
            "HTTPRequest": {
                "Method": asked.get("method", ""),
                "URI": asked.get("uri", ""),
                "RemoteAddr": asked.get("address", ""),
                "Header": {
                    name: [value] for name, value in asked.get("headers", {}).items()
                },
            },
        },
    }


def _tusd_upload(upload: UploadSession) -> Facts:
    kind, _, urls = _said(upload, "Upload-Concat").partition(";")
    return {
        "ID": str(upload.pk),
        "Size": upload.length or 0,
        "SizeIsDeferred": upload.length is None,
        "Offset": upload.received,
        "MetaData": {"filename": upload.filename, "filetype": upload.content_type}
        | {name: _text(value) for name, value in _without_headers(upload).items()},
        "IsPartial": kind == "partial",
        "IsFinal": kind == "final",
        "PartialUploads": [url.rpartition("/")[2] for url in urls.split()] or None,
        "Storage": _tusd_storage(upload),
    }


def _said(upload: UploadSession, header: str) -> str:
    """Return a header with which an upload was opened, or "".

    Where the protocol keeps none, the client's own metadata may have anything there.
    """
    headers = upload.metadata.get(REQUEST_HEADERS)
    value = headers.get(header) if isinstance(headers, dict) else None
    return value if isinstance(value, str) else ""


def _text(value: Any) -> str:
    """Return a value as tusd has them all: as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tusd_storage(upload: UploadSession) -> Facts | None:
    if upload.state != State.COMPLETE:
        return None
    try:
        return {"Type": "filestore", "Path": upload.file.path}
    except NotImplementedError:
        return {"Type": upload.storage, "Key": upload.file_name}


FORMS: dict[str, Form] = {"native": native, "tusd": tusd}
