"""Chunks in multipart forms, streamed to the store without a file in between.

The fields come first in what every client sends. They are read, and then the file part
is left in the stream as a source, for the engine to take its bytes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.http import QueryDict
from django.http.multipartparser import (
    FIELD,
    FILE,
    ChunkIter,
    LazyStream,
    MultiPartParserError,
    Parser,
)
from django.utils.datastructures import MultiValueDict
from django.utils.http import parse_header_parameters
from rest_framework.request import Request

from .. import errors
from ..body import Body
from ..conf import KIB, seconds
from ..sources import Reader
from .base import DRAIN_AT_MOST, DRAIN_SECONDS, UploadView, source_of

READ_SIZE = 64 * KIB
MAX_FIELDS = 200
MAX_FIELD_BYTES = 64 * KIB


class PartSource:
    """The file part of a form, as a source of bytes."""

    length = None

    def __init__(self, pieces: Iterator[bytes], reader: Reader) -> None:
        self._pieces = pieces
        self._reader = reader
        self._rest = memoryview(b"")

    @property
    def broken(self) -> bool:
        return self._reader.ended_early

    def readinto(self, view: memoryview, patience: float) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        """The form is closed as a whole."""


class Form:
    """A request's fields, and the file part that follows them, still in the stream.

    ``filename`` and ``content_type`` are those of the part. Where the body is no form,
    there are no fields, and the source is the body itself.
    """

    def __init__(self, request: Request) -> None:
        self.fields = QueryDict(mutable=True)
        self.filename = ""
        self.content_type, options = parse_header_parameters(
            request.META.get("CONTENT_TYPE") or ""
        )
        self.source: Any = source_of(request)
        self._parts: Iterator[Any] = iter(())
        self._reader: Reader | None = None
        if self.content_type == "multipart/form-data":
            self._begin(options.get("boundary", ""))

    def _begin(self, boundary: str) -> None:
        """Read the fields up to the file part."""
        if not boundary or len(boundary) > 200 or not boundary.isascii():
            raise errors.Invalid("The form has no proper boundary.")
        self._reader = Reader(self.source, seconds("STALL_TIMEOUT"))
        stream = LazyStream(ChunkIter(self._reader, READ_SIZE))
        self._parts = iter(Parser(stream, boundary.encode()))
        self.source = None
        self._read_fields()

    def _read_fields(self) -> None:
        try:
            for kind, headers, stream in self._parts:
                if kind == FILE:
                    self._begin_file(headers, stream)
                    return
                if kind == FIELD:
                    self._add_field(headers, stream)
        except (MultiPartParserError, UnicodeDecodeError) as error:
            raise errors.Invalid("The form is malformed.") from error

    def _begin_file(self, headers: Any, stream: Any) -> None:
        if "content-transfer-encoding" in headers:
            raise errors.Invalid("Parts of a form must be sent as they are.")
        options = headers["content-disposition"][1]
        self.filename = options["filename"].decode(errors="replace")
        self.content_type = headers.get("content-type", ("",))[0].strip()
        assert self._reader
        self.source = PartSource(iter(stream), self._reader)

    def _add_field(self, headers: Any, stream: Any) -> None:
        name = (
            headers["content-disposition"][1].get("name", b"").decode(errors="replace")
        )
        value = stream.read(MAX_FIELD_BYTES + 1)
        if value.startswith(b"data:") and b";base64," in value[:200]:
            raise errors.Invalid("Chunks in base64 are not taken: send them as files.")
        if len(value) > MAX_FIELD_BYTES or len(self.fields) >= MAX_FIELDS:
            raise errors.Invalid("The form has too many fields, or too long ones.")
        self.fields.appendlist(name, value.decode(errors="replace"))

    def finish(self) -> None:
        """Read what follows the file part. Raise Truncated where the form was cut."""
        for kind, headers, stream in self._parts:
            if kind == FIELD:
                self._add_field(headers, stream)
        if self._reader and self._reader.ended_early:
            raise errors.Truncated

    def close(self) -> None:
        for opened in (self._reader, self.source):
            if opened is not None:
                opened.close()


class FormView(UploadView):
    """A view whose chunks come in forms, or as raw bodies with parameters in the URL."""

    takes_body = True
    form: Form | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Django and DRF look for the CSRF token among the fields. Were they to parse
        # the form themselves, they would put the chunk into a temporary file.
        self.form = form = Form(request) if request.method != "GET" else None
        fields = form.fields if form else QueryDict()
        request._data = request._full_data = fields
        request._files = MultiValueDict()
        request._request._post, request._request._files = fields, MultiValueDict()
        super().initial(request, *args, **kwargs)

    @contextmanager
    def chunk(self) -> Iterator[Body]:
        """Open the chunk that the request brings. Raise Invalid if it brings none."""
        assert self.form
        if self.form.source is None:
            # A form cut before its file part looks as if it had none.
            self.form.finish()
            raise errors.Invalid("The form has no file.")
        body = Body(self.form.source)
        try:
            yield body
            self.form.finish()
        except errors.UploadError:
            body.drain(DRAIN_AT_MOST, DRAIN_SECONDS)
            raise

    def finalize_response(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if self.form:
            self.form.close()
        return super().finalize_response(request, *args, **kwargs)
