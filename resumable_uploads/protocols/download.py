"""Finished files on their way out: attachments, in ranges or by the front server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from django.core.files.storage import FileSystemStorage
from django.http import HttpResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header, http_date, quote_etag

from ..conf import MIB, setting
from ..models import UploadSession
from ..stores.base import skip, translated_errors

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def serve(request: Any, upload: UploadSession) -> HttpResponse | StreamingHttpResponse:
    """Answer with the file of a complete upload, never as active content.

    Understands one byte range (RFC 9110, section 14); several are answered with the
    whole file, as the RFC allows.
    """
    response = _handed_over(upload) or stream(request, upload, etag(upload))
    return harmless(response, upload)


def harmless(response: Any, upload: UploadSession) -> Any:
    """Give an answer the headers that keep a file from being active content."""
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
    if header == "X-Accel-Redirect":
        path = setting("SENDFILE_ROOT") + upload.file.name
    else:
        path = upload.file.path
    # Front servers undo the quoting, of a "%" that is in a name as well.
    return HttpResponse(headers={header: quote(path)})


def stream(request: Any, upload: UploadSession, tag: str) -> Any:
    """Answer with the bytes of a file, or a range of them, from this process.

    ``tag`` is its ETag, in quotes.
    """
    size = upload.length or 0
    wanted = _range(request, tag, size)
    first, end = wanted or (0, size)
    if wanted and first >= end:
        return _unsatisfiable(size)
    content = () if request.method == "HEAD" else Stretch(upload, first, end)
    response = StreamingHttpResponse(content, status=206 if wanted else 200)
    response["Content-Length"] = str(end - first)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = tag
    if upload.completed_at:
        response["Last-Modified"] = http_date(upload.completed_at.timestamp())
    if wanted:
        response["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    return response


def _range(request: Any, tag: str, size: int) -> tuple[int, int] | None:
    """Return the first byte that is asked for and the one after the last.

    None where the whole file is to be sent; an empty range where there is none of it.
    """
    match = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if not match or not (match[1] or match[2]) or not _is_current(request, tag):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    first, last = int(match[1]), int(match[2] or size)
    # RFC 9110, 14.1.1: such a range is none, and to be ignored.
    return None if match[2] and last < first else (first, min(last + 1, size))


def _is_current(request: Any, tag: str) -> bool:
    condition = request.headers.get("If-Range")
    return condition is None or condition == tag


def _unsatisfiable(size: int) -> HttpResponse:
    response = HttpResponse(status=416)
    response["Content-Range"] = f"bytes */{size}"
    return response


class Stretch(Iterator[bytes]):
    """Bytes ``first`` to ``end`` of a finished file, in blocks.

    The file is opened before the answer begins: afterwards it would be too late to say
    that it is not there. Raise StorageUnavailable.
    """

    def __init__(self, upload: UploadSession, first: int, end: int) -> None:
        with translated_errors():
            self._file = upload.file.storage.open(str(upload.file.name), "rb")
            skip(self._file, first)
        self._left = end - first

    def __next__(self) -> bytes:
        block = self._file.read(min(self._left, MIB))
        if not block:
            raise StopIteration
        self._left -= len(block)
        return block

    def close(self) -> None:
        self._file.close()
