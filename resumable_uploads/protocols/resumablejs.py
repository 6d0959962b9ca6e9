"""Resumable.js, flow.js and simple-uploader.js: one family, three sets of names.

Before each chunk the client asks by GET whether it is there (200: yes, 204: no), and
sends it by POST. Nobody says when the file is complete; the server sees it. What the
clients make of each status decides over the answers: most of all that what cannot
succeed must not be retried a hundred times at once. See docs/clients.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.http import QueryDict
from django.urls import URLPattern, re_path
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .. import engine, errors
from ..models import AddressedBy, Chunk, State, UploadSession, load_numbers
from ..policies import UploadPolicy, get_policy
from .base import nonnegative
from .forms import FormView


@dataclass(frozen=True)
class Dialect:
    """How one of the clients names its parameters, and what it takes for final."""

    prefix: str
    # The statuses after which it gives a file up; any other it may repeat.
    refused: int
    too_large: int
    forbidden: int

    def name(self, word: str) -> str:
        """Return the parameter of a word such as "chunkNumber"."""
        if not self.prefix:
            return word
        return self.prefix + word[0].upper() + word[1:]


RESUMABLE = Dialect("resumable", refused=400, too_large=400, forbidden=400)
FLOW = Dialect("flow", refused=415, too_large=413, forbidden=403)
SIMPLE = Dialect("", refused=415, too_large=415, forbidden=403)
DIALECTS = (RESUMABLE, FLOW, SIMPLE)


class Parameters:
    """What a request says of its chunk and its file, in any of the dialects."""

    def __init__(self, query: QueryDict, fields: QueryDict) -> None:
        # The query's copy is the better one: forms change line ends in names.
        self._values = {**fields.dict(), **query.dict()}
        self.dialect, self._namespace = self._recognised()

    def _recognised(self) -> tuple[Dialect, str]:
        for dialect in DIALECTS:
            name = dialect.name("identifier")
            for key in self._values:
                if key.endswith(name):
                    return dialect, key[: -len(name)]
        raise errors.Invalid("The request names no identifier of a file.")

    def get(self, word: str, default: str = "") -> str:
        key = self._namespace + self.dialect.name(word)
        return str(self._values.get(key, default))

    def whole(self, word: str) -> int:
        """Return a whole number. Raise Invalid where there is none."""
        return nonnegative(self.get(word), self.dialect.name(word))

    @cached_property
    def number(self) -> int:
        """The number of the chunk, from 0."""
        number = self.whole("chunkNumber")
        if not number:
            raise errors.Invalid("Chunks are numbered from 1.")
        return number - 1

    @cached_property
    def size(self) -> int | None:
        """The size of the chunk in bytes, if the client says it."""
        return self.whole("currentChunkSize") if self.get("currentChunkSize") else None

    @cached_property
    def client_key(self) -> str:
        """The file and its geometry, as one word.

        The identifiers of these clients leave out all letters but Latin ones, and know
        nothing of the chunk size. Two files, or two geometries, must not mix.
        """
        said = [
            self.get(word)
            for word in ("identifier", "filename", "relativePath")
        ] + [self.whole("totalSize"), self.whole("chunkSize")]
        return hashlib.sha256(json.dumps(said).encode(errors="replace")).hexdigest()

    def chunk_total(self, size: int) -> int | None:
        """Return the number of chunks if this one, of ``size`` bytes, is a longer last.

        The number that the client says itself may be wrong.
        """
        total, chunk_size = self.whole("totalSize"), self.whole("chunkSize")
        fewer = max(total // chunk_size, 1) if chunk_size else 1
        if self.number + 1 == fewer and size > chunk_size:
            return fewer
        return None

    def is_last_of_either(self) -> bool:
        """Tell whether the size of this chunk depends on the geometry."""
        chunk_size = self.whole("chunkSize")
        return self.number + 1 >= max(self.whole("totalSize") // (chunk_size or 1), 1)

    def new_upload(self) -> engine.NewUpload:
        path = self.get("relativePath").replace("\\", "/")
        return engine.NewUpload(
            filename=self.get("filename") or "file",
            length=self.whole("totalSize"),
            content_type=self.get("type"),
            relative_path=path.rpartition("/")[0],
            client_key=self.client_key,
            chunk_size=self.whole("chunkSize"),
        )


class ResumableJsView(FormView):
    """Where chunks are asked for and sent, under one URL."""

    protocol = "resumablejs"
    renderer_classes = (JSONRenderer,)

    # Options, for as_view():

    policy = "default"
    # Answer the first test with the numbers of all chunks that are there, for
    # simple-uploader.js with checkChunkUploadedByResponse.
    lists_chunks = False
    # Resumable.js 1.1.0 repeats what was answered with 401, 403, 409 or 413 a hundred
    # times without a pause. Say 400 instead, which it takes for final.
    spares_storms = True

    def get(self, request: Request) -> Response:
        """Is the chunk there?"""
        said = self.said = Parameters(request.query_params, QueryDict())
        upload = engine.find_by_key(self.owner(), self.protocol, said.client_key)
        if self.lists_chunks:
            return Response(self._facts(upload))
        if upload is None or not self._has(upload, said):
            return Response(status=204)
        return Response(self._facts(upload))

    def post(self, request: Request) -> Response:
        """Take a chunk."""
        assert self.form
        said = self.said = Parameters(request.query_params, self.form.fields)
        policy = get_policy(self.policy)
        self.check_permitted(policy)
        with self.chunk() as body:
            upload = self._opened(said, policy)
            size = body.length if body.length is not None else said.size
            if size is not None and upload.state == State.RECEIVING:
                self._fit(upload, said, size)
            engine.put_chunk(upload, said.number, body)
        return Response(self._facts(engine.refreshed(upload)))

    put = patch = post

    def _opened(self, said: Parameters, policy: UploadPolicy) -> UploadSession:
        owner = self.owner(create=True)
        found = engine.find_by_key(owner, self.protocol, said.client_key)
        if found is not None:
            return found
        return engine.open(owner, self.protocol, policy, said.new_upload())[0]

    def _fit(self, upload: UploadSession, said: Parameters, size: int) -> None:
        if said.is_last_of_either():
            engine.reshape(upload, said.chunk_total(size))

    def _has(self, upload: UploadSession, said: Parameters) -> bool:
        if upload.state != State.RECEIVING:
            return True
        chunk = Chunk.objects.filter(upload=upload.pk, number=said.number).first()
        return chunk is not None and said.size in (None, chunk.size)

    def _facts(self, upload: UploadSession | None) -> dict[str, Any]:
        """Return what every answer says, whichever is the last that the page sees."""
        if upload is None:
            return {"state": None, "id": None, "uploaded": []}
        facts: dict[str, Any] = {
            "state": upload.state,
            "id": str(upload.pk),
            "filename": upload.filename,
            "size": upload.length,
            "received": upload.received,
            "checksum": upload.checksum if upload.state == State.COMPLETE else None,
        }
        if self.lists_chunks:
            facts["uploaded"] = _numbers(upload)
        return facts

    # Errors in the clients' own statuses:

    def refusal(self, code: str, detail: str, facts: dict[str, Any]) -> Any:
        return {"code": code, "detail": detail, "error": detail, **facts}

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        dialect = getattr(getattr(self, "said", None), "dialect", RESUMABLE)
        response.status_code = self._status(dialect, response.status_code)
        return response

    def _status(self, dialect: Dialect, status: int) -> int:
        """Return what a client takes for final where that is meant, and only there."""
        if status in (429, 503, 507) or status >= 500:
            return status
        if status in (401, 403):
            return dialect.forbidden if self.spares_storms else status
        if status == 413:
            return dialect.too_large
        return dialect.refused


def _numbers(upload: UploadSession) -> list[int]:
    """Return the numbers, from 1, of the chunks that are there."""
    if upload.state != State.RECEIVING:
        return list(range(1, (upload.last_number or 0) + 2))
    if upload.addressed_by != AddressedBy.NUMBER:
        return []
    load_numbers([upload])
    return [number + 1 for number in upload._numbers]


def urls(**options: Any) -> list[URLPattern]:
    """Return the routes, for include(); options are those of ResumableJsView."""
    return [re_path(r"^$", ResumableJsView.as_view(**options), name="resumablejs")]

