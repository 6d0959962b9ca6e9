"""Chunks in multipart forms, streamed to the store without a file in between.

The fields come first in what every client sends. They are read, and then the file part
is left in the stream as a source, for the engine to take its bytes from.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from django.http import HttpRequest, QueryDict
from django.utils.datastructures import MultiValueDict
from django.utils.http import parse_header_parameters

from .. import errors
from ..body import Body
from ..conf import KIB, seconds
from .base import DRAIN_AT_MOST, DRAIN_SECONDS, source_of
from .foreign import ForeignView
from .formdata import FormParts, Part

MAX_FIELDS = 200
# Of all fields together, with their names.
MAX_FIELD_BYTES = 256 * KIB
MAX_BOUNDARY = 200
FORM = "multipart/form-data"
# What nearly all clients say, and needs no parsing.
_PLAIN = re.compile(rf"{FORM}; ?boundary=([0-9A-Za-z_-]+)")
# With which chunks are sent: by the first, unless a page says otherwise.
_METHODS = ("POST", "PUT", "PATCH")


class Form:
    """A request's fields, and the file part that follows them, still in the stream.

    ``filename`` and ``content_type`` are those of the part. Where the body is no form,
    there are no fields, and the source is the body itself.
    """

    def __init__(self, request: HttpRequest) -> None:
        self.fields = QueryDict(mutable=True)
        self.filename = ""
        self.content_type, self._boundary = _type_and_boundary(
            request.META.get("CONTENT_TYPE") or ""
        )
        # Where the bytes of the chunk come from; None: no file part was found.
        self.source: Any = source_of(request)
        self._parts: FormParts | None = None
        self._room = MAX_FIELD_BYTES

    def begin(self) -> None:
        """Read the fields up to the file part.

        Raise Invalid for what is no form, Truncated for what was cut before that.
        """
        if self.content_type != FORM:
            return
        boundary = self._boundary
        if not boundary or len(boundary) > MAX_BOUNDARY or not boundary.isascii():
            raise errors.Invalid("The form has no proper boundary.")
        patience = seconds("STALL_TIMEOUT")
        self._parts = FormParts(self.source, boundary.encode(), patience)
        self.source = None
        # What precedes the first delimiter.
        self._read_some(self._parts)
        for name, value in self._parts.at_hand():
            self._count(value)
            self._add_field(name, value)
        if part := self._next_file(self._parts):
            self._begin_file(part)

    def finish(self) -> None:
        """Read what follows the file part. Raise Truncated where the form was cut."""
        if parts := self._parts:
            parts.skip()
            while self._next_file(parts):
                parts.skip()
            parts.end(self._room)

    def check_file(self) -> None:
        """Raise Invalid where no file part came after the fields."""
        if self.source is not None:
            return
        if any(_is_base64(value) for value in self.fields.values()):
            raise errors.Invalid(_NO_BASE64)
        raise errors.Invalid("The form has no file.")

    def close(self) -> None:
        opened = self._parts or self.source
        if opened is not None:
            opened.close()

    def _next_file(self, parts: FormParts) -> Part | None:
        """Go to the next file part, and keep the fields that come before it."""
        while part := parts.next():
            if part.filename:
                return part
            value = self._read_some(parts)
            if not part.is_nameless:
                self._add_field(part.name, value)
        return None

    def _begin_file(self, part: Part) -> None:
        if part.is_encoded:
            raise errors.Invalid("Parts of a form must be sent as they are.")
        self.filename, self.content_type = part.filename, part.content_type
        self.source = self._parts

    def _add_field(self, name: str, value: bytes) -> None:
        self._room -= len(name)
        if len(self.fields) >= MAX_FIELDS:
            raise errors.Invalid("The form has too many fields.")
        # What appendlist does, once it has seen that both are texts.
        values = dict.setdefault(self.fields, name, [])
        values.append(value.decode(errors="replace"))

    def _read_some(self, parts: FormParts) -> bytes:
        value = parts.value(max(self._room, 0))
        self._count(value)
        return value

    def _count(self, value: bytes) -> None:
        self._room -= len(value)
        if self._room < 0:
            is_base64 = _is_base64(value[:200].decode(errors="replace"))
            raise errors.Invalid(
                _NO_BASE64 if is_base64 else "The fields are too long."
            )


def _type_and_boundary(header: str) -> tuple[str, str]:
    if plain := _PLAIN.fullmatch(header):
        return FORM, plain[1]
    kind, options = parse_header_parameters(header)
    return kind, options.get("boundary", "")


_NO_BASE64 = (
    "Chunks in base64 are not taken, since they are a third longer: send them as files "
    '(chunkFormat: "blob").'
)


def _is_base64(value: str) -> bool:
    return value.startswith("data:") and ";base64," in value[:200]


class FormView(ForeignView):
    """A view whose chunks come in forms, or raw with parameters in the URL."""

    takes_body = True
    lean_methods: Collection[str] = _METHODS
    form: Form | None = None

    def check_request(self, request: Any) -> None:
        super().check_request(request)
        http = getattr(request, "_request", request)
        # Where the short way has come to an end here, it has read the fields.
        self.form = getattr(http, "upload_form", None)
        if self.form is None and request.method in _METHODS:
            self.form = http.upload_form = Form(http)
            self.form.begin()
        # Django and DRF look for the CSRF token among the fields. Were they to parse
        # the form themselves, they would put the chunk into a temporary file.
        fields = self.form.fields if self.form else QueryDict()
        request._data = request._full_data = http._post = fields
        request._files = http._files = MultiValueDict()

    @contextmanager
    def chunk(self) -> Iterator[Body]:
        """Open the chunk that the request brings. Raise Invalid if it brings none."""
        assert self.form
        self.form.check_file()
        body = Body(self.form.source)
        try:
            yield body
            self.form.finish()
            self.form.close()
        except errors.UploadError:
            body.drain(DRAIN_AT_MOST, DRAIN_SECONDS)
            raise

    def finalize_response(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if self.form:
            self.form.close()
        return super().finalize_response(request, *args, **kwargs)
