"""Finished files on their way out: as attachments, in ranges, or by the front server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.core.files.storage import FileSystemStorage
from django.http import HttpResponse, StreamingHttpResponse
from django.utils.encoding import iri_to_uri
from django.utils.http import content_disposition_header, http_date, quote_etag

from ..conf import MIB, setting
from ..models import UploadSession
from ..stores.base import skip

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def serve(request: Any, upload: UploadSession) -> HttpResponse | StreamingHttpResponse:
    """Answer with the file of a complete upload, never as active content.

    Understands one byte range (RFC 9110, section 14); several are answered with the
    whole file, as the RFC allows.
    """
    response = _handed_over(upload) or _streamed(request, upload)
    response["Content-Type"] = upload.content_type or "application/octet-stream"
    response["Content-Disposition"] = content_disposition_header(True, upload.filename)
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Cache-Control"] = "private, no-cache"
    return response


def etag(upload: UploadSession) -> str:
    return quote_etag(upload.checksum)


def _handed_over(upload: UploadSession) -> HttpResponse | None:
    """Leave the sending to the front server, where the setting SENDFILE says so."""
    header = setting("SENDFILE")
    if not header or not isinstance(upload.file.storage, FileSystemStorage):
        return None
    response = HttpResponse()
    if header == "X-Accel-Redirect":
        response[header] = iri_to_uri(setting("SENDFILE_ROOT") + upload.file.name)
    else:
        response[header] = iri_to_uri(upload.file.path)
    return response


def _streamed(request: Any, upload: UploadSession) -> Any:
    size = upload.length or 0
    wanted = _range(request, upload, size)
    if wanted is None:
        return _unsatisfiable(size)
    first, end = wanted
    whole = (first, end) == (0, size) and "Range" not in request.headers
    content = () if request.method == "HEAD" else _blocks(upload, first, end)
    response = StreamingHttpResponse(content, status=200 if whole else 206)
    response["Content-Length"] = str(end - first)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = etag(upload)
    if upload.completed_at:
        response["Last-Modified"] = http_date(upload.completed_at.timestamp())
    if not whole:
        response["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    return response


def _range(
    request: Any, upload: UploadSession, size: int
) -> tuple[int, int] | None:
    """Return the first byte to send and the one after the last; None: there is none."""
    header = request.headers.get("Range", "")
    match = _RANGE.fullmatch(header.strip())
    if not match or match[0] == "bytes=-" or not _is_current(request, upload):
        return 0, size
    if not match[1]:
        return (max(0, size - int(match[2])), size) if int(match[2]) and size else None
    first = int(match[1])
    last = min(int(match[2] or size), size - 1)
    return (first, last + 1) if first <= last else None


def _is_current(request: Any, upload: UploadSession) -> bool:
    condition = request.headers.get("If-Range")
    return condition is None or condition == etag(upload)


def _unsatisfiable(size: int) -> HttpResponse:
    response = HttpResponse(status=416)
    response["Content-Range"] = f"bytes */{size}"
    return response


def _blocks(upload: UploadSession, first: int, end: int) -> Iterator[bytes]:
    with upload.file.storage.open(upload.file.name, "rb") as file:
        skip(file, first)
        left = end - first
        while left > 0 and (block := file.read(min(left, MIB))):
            left -= len(block)
            yield block
