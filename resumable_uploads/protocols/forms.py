"""Chunks in multipart forms, streamed to the store without a file in between.

The fields come first in what every client sends. They are read, and then the file part
is left in the stream as a source, for the engine to take its bytes from. The parsing is
Django's own.
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
from .base import DRAIN_AT_MOST, DRAIN_SECONDS, check_charset, source_of
from .foreign import ForeignView

READ_SIZE = 64 * KIB
MAX_FIELDS = 200
# Of all fields together, with their names.
MAX_FIELD_BYTES = 256 * KIB
MAX_BOUNDARY = 200


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
        """Fill the front of a view; wait as long as the form's reader does."""
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
        self.content_type, self._options = parse_header_parameters(
            request.META.get("CONTENT_TYPE") or ""
        )
        self.source: Any = source_of(request)
        self._reader: Reader | None = None
        self._parts: Iterator[Any] = iter(())
        self._room = MAX_FIELD_BYTES

    def begin(self) -> None:
        """Read the fields up to the file part. Raise Invalid for what is no form."""
        if self.content_type != "multipart/form-data":
            return
        boundary = self._options.get("boundary", "")
        if not boundary or len(boundary) > MAX_BOUNDARY or not boundary.isascii():
            raise errors.Invalid("The form has no proper boundary.")
        self._reader = Reader(self.source, seconds("STALL_TIMEOUT"))
        self.source = None
        stream = LazyStream(ChunkIter(self._reader, READ_SIZE))
        self._parts = iter(Parser(stream, boundary.encode()))
        for headers, part in self._files():
            self._begin_file(headers, part)
            return

    def finish(self) -> None:
        """Read what follows the file part. Raise Truncated where the form was cut."""
        for _, part in self._files():
            while part.read(READ_SIZE):
                pass
        if self._reader and self._reader.ended_early:
            raise errors.Truncated("The form ended too early.")

    def check_file(self) -> None:
        """Raise Invalid, or Truncated, where no file part came after the fields."""
        if self.source is not None:
            return
        self.finish()
        if any(_is_base64(value) for value in self.fields.values()):
            raise errors.Invalid(_NO_BASE64)
        raise errors.Invalid("The form has no file.")

    def close(self) -> None:
        opened = self._reader or self.source
        if opened is not None:
            opened.close()

    def _files(self) -> Iterator[tuple[Any, Any]]:
        """Yield the file parts, and keep the fields that come before each."""
        try:
            for kind, headers, part in self._parts:
                if kind == FILE:
                    yield headers, part
                elif kind == FIELD:
                    self._add_field(headers, part)
                else:
                    # What precedes the first boundary, or follows the last one.
                    self._read_some(part)
        except (MultiPartParserError, UnicodeDecodeError) as error:
            raise errors.Invalid("The form is malformed.") from error

    def _begin_file(self, headers: Any, part: Any) -> None:
        if "content-transfer-encoding" in headers:
            raise errors.Invalid("Parts of a form must be sent as they are.")
        self.filename = _option(headers, "filename")
        self.content_type = headers.get("content-type", ("",))[0].strip()
        assert self._reader
        self.source = PartSource(iter(part), self._reader)

    def _add_field(self, headers: Any, part: Any) -> None:
        name, value = _option(headers, "name"), self._read_some(part)
        self._room -= len(name)
        if len(self.fields) >= MAX_FIELDS:
            raise errors.Invalid("The form has too many fields.")
        self.fields.appendlist(name, value.decode(errors="replace"))

    def _read_some(self, part: Any) -> bytes:
        value = part.read(max(self._room, 0) + 1)
        self._room -= len(value)
        if self._room < 0:
            is_base64 = _is_base64(value[:200].decode(errors="replace"))
            raise errors.Invalid(
                _NO_BASE64 if is_base64 else "The fields are too long."
            )
        return value


_NO_BASE64 = (
    "Chunks in base64 are not taken, since they are a third longer: send them as files "
    '(chunkFormat: "blob").'
)


def _is_base64(value: str) -> bool:
    return value.startswith("data:") and ";base64," in value[:200]


def _option(headers: Any, name: str) -> str:
    return headers["content-disposition"][1].get(name, b"").decode(errors="replace")


class FormView(ForeignView):
    """A view whose chunks come in forms, or raw with parameters in the URL."""

    takes_body = True
    form: Form | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_charset(request)
        # Django and DRF look for the CSRF token among the fields. Were they to parse
        # the form themselves, they would put the chunk into a temporary file.
        fields = QueryDict()
        if request.method in ("POST", "PUT", "PATCH"):
            self.form = Form(request)
            self.form.begin()
            fields = self.form.fields
        request._data = request._full_data = fields
        request._files = MultiValueDict()
        request._request._post, request._request._files = fields, MultiValueDict()
        super().initial(request, *args, **kwargs)

    @contextmanager
    def chunk(self) -> Iterator[Body]:
        """Open the chunk that the request brings. Raise Invalid if it brings none."""
        assert self.form
        self.form.check_file()
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
