"""Resumable.js, flow.js and simple-uploader.js: one family, three sets of names.

Before each chunk the client asks by GET whether it is there (200: yes, 204: no), and
sends it by POST. Nobody says when the file is complete; the server sees it. What the
clients make of each status decides over the answers: above all, what cannot succeed
must not be repeated a hundred times at once. See docs/clients.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.http import HttpResponse, QueryDict
from django.urls import URLPattern, re_path
from rest_framework.request import Request
from rest_framework.response import Response

from .. import engine, errors
from ..body import Body
from ..models import AddressedBy, Chunk, State, UploadSession, load_numbers
from ..policies import UploadPolicy
from .base import nonnegative
from .foreign import check_not_rejected, read_again
from .forms import FormView

# How long (seconds) an answer is held back that these clients repeat at once.
HELD_BACK = 1.0
# How long a chunk waits for the first one to open an upload, and how often it looks.
FIRST_CHUNK_TAKES = 2.0
LOOK_EVERY = 0.1
MAX_WORD = 8 * 1024


@dataclass(frozen=True)
class Dialect:
    """How one of the clients names its parameters, and what it takes for final."""

    prefix: str
    # The statuses after which it gives a file up; any other it may repeat.
    refused: int
    too_large: int

    def name(self, word: str) -> str:
        """Return the parameter of a word such as "chunkNumber"."""
        if not self.prefix:
            return word
        return self.prefix + word[0].upper() + word[1:]


RESUMABLE = Dialect("resumable", refused=400, too_large=400)
FLOW = Dialect("flow", refused=415, too_large=413)
SIMPLE = Dialect("", refused=415, too_large=415)
DIALECTS = (RESUMABLE, FLOW, SIMPLE)


class Parameters:
    """What a request says of its chunk and its file, in any of the dialects."""

    def __init__(self, query: QueryDict, fields: QueryDict) -> None:
        # The query's copy is the better one: forms change line ends in names.
        self._values = {**fields.dict(), **query.dict()}
        self.dialect, self._namespace = self._recognised()

    def _recognised(self) -> tuple[Dialect | None, str]:
        for dialect in DIALECTS:
            name = dialect.name("identifier")
            for key in self._values:
                if key.endswith(name):
                    return dialect, key[: -len(name)]
        return None, ""

    def get(self, word: str) -> str:
        dialect = self.dialect or RESUMABLE
        value = str(self._values.get(self._namespace + dialect.name(word), ""))
        if len(value) > MAX_WORD:
            raise errors.Invalid(f"{dialect.name(word)} is too long.")
        return value

    def whole(self, word: str) -> int:
        """Return a whole number. Raise Invalid where there is none."""
        dialect = self.dialect or RESUMABLE
        return nonnegative(self.get(word), dialect.name(word))

    @cached_property
    def number(self) -> int:
        """The number of the chunk, from 0."""
        number = self.whole("chunkNumber")
        if not number:
            raise errors.Invalid("Chunks are numbered from 1.")
        return number - 1

    @cached_property
    def total(self) -> int:
        """The size of the file in bytes."""
        return self.whole("totalSize")

    @cached_property
    def chunk_size(self) -> int:
        """The size of all chunks but the last, in bytes."""
        size = self.whole("chunkSize")
        if not size:
            raise errors.Invalid("The chunk size is not a possible one.")
        return size

    @cached_property
    def size(self) -> int | None:
        """The size of this chunk in bytes, if the client says it."""
        return self.whole("currentChunkSize") if self.get("currentChunkSize") else None

    def client_key(self, policy: str) -> str:
        """Return the file, its geometry and its destination as one word.

        The identifiers of these clients leave out all letters but Latin ones, and know
        nothing of the chunk size. Two files, or two geometries, must not mix.
        """
        if not self.get("identifier"):
            raise errors.Invalid("The request names no identifier of a file.")
        texts = [self.get(word) for word in ("identifier", "filename", "relativePath")]
        # Forms, unlike queries, end lines in their own way.
        texts = [re.sub(r"\r\n?", "\n", text) for text in texts]
        said = json.dumps([policy, *texts, self.total, self.chunk_size])
        return hashlib.sha256(said.encode()).hexdigest()

    @property
    def is_at_the_end(self) -> bool:
        """Does the size of this chunk depend on what the last one gets?"""
        return self.number + 1 >= self._fewer

    def chunk_total(self, size: int | None) -> int | None:
        """Return the number of chunks where the last one is longer than the others.

        A chunk at the end tells by its size. What the client says itself may be wrong,
        and has to do where there is no better knowledge.
        """
        if size is None or not self.is_at_the_end:
            has_longer = self.get("totalChunks") == str(self._fewer)
        else:
            has_longer = self.number + 1 == self._fewer and size > self.chunk_size
        is_uneven = self.total > self._fewer * self.chunk_size
        return self._fewer if has_longer and is_uneven else None

    @property
    def _fewer(self) -> int:
        return max(self.total // self.chunk_size, 1)

    def new_upload(self, policy: str, content_type: str) -> engine.NewUpload:
        path = self.get("relativePath").replace("\\", "/")
        return engine.NewUpload(
            filename=self.get("filename"),
            length=self.total,
            content_type=self.get("type") or content_type,
            relative_path=path.rpartition("/")[0],
            client_key=self.client_key(policy),
            chunk_size=self.chunk_size,
            chunk_total=self.chunk_total(self.size),
            key_is_file=True,
        )


class ResumableJsView(FormView):
    """Where chunks are asked for and sent, under one URL."""

    protocol = "resumablejs"
    lean_methods = (*FormView.lean_methods, "GET")

    # Options, for as_view():

    # Answer each test by 200 and the numbers of the chunks that are there, for
    # simple-uploader.js with checkChunkUploadedByResponse. Other pages would take it
    # for a yes.
    lists_chunks = False
    # Resumable.js 1.1.0 repeats what was answered by 401, 403, 409 or 413 a hundred
    # times without a pause. Say 400 instead, which it takes for final.
    spares_storms = True

    @cached_property
    def said(self) -> Parameters:
        fields = self.form.fields if self.form else QueryDict()
        return Parameters(self.request.GET, fields)

    def get(self, request: Request) -> HttpResponse:
        """Is the chunk there?"""
        upload = self.upload_of(self.said.client_key(self.policy))
        if upload is not None and upload.state == State.FAILED:
            # A client that hears yes each time never sends anything again.
            upload = engine.finish(upload)
        if self.lists_chunks:
            return self.told(self._answer_of(upload))
        if upload is None or not self._has_chunk(upload):
            return _nothing()
        return self.told(self._answer_of(upload))

    def post(self, request: Request) -> HttpResponse:
        """Take a chunk."""
        policy = self.permitted_policy()
        with self.chunk() as body:
            upload = self._found(policy)
            if upload.state == State.RECEIVING and self._is_shaped(upload, body):
                engine.put_chunk(upload, self.said.number, body)
            else:
                read_again(upload, body)
        upload = engine.outcome(upload)
        check_not_rejected(upload)
        response = self.told(self._answer_of(upload))
        self.entitle(response, upload)
        return response

    put = patch = post

    def _is_shaped(self, upload: UploadSession, body: Body) -> bool:
        """Give an upload the geometry of the chunk that came, if it takes one still.

        Chunks of the other geometry may have completed it meanwhile.
        """
        if not self.said.is_at_the_end:
            return True
        size = self.said.size if body.length is None else body.length
        try:
            engine.reshape(upload, self.said.chunk_total(size))
        except errors.NotReceiving as error:
            if error.facts["state"] not in engine.FULL_STATES:
                raise
            return False
        return True

    def _found(self, policy: UploadPolicy) -> UploadSession:
        """Return the upload of the file, opened now if there is none."""
        upload = self.upload_of(self.said.client_key(self.policy))
        if upload is None and self.said.number:
            upload = self._after_an_end()
        if upload is not None:
            return upload
        content_type = self.form.content_type if self.form else ""
        if content_type == "application/octet-stream":
            content_type = ""
        new = self.said.new_upload(self.policy, content_type)
        try:
            return self.begin(policy, new)
        except errors.ClientKeyInUse as error:
            # Opened at the same moment by a chunk with another idea of their number.
            return engine.find(self.owner(), error.facts["id"])

    def _after_an_end(self) -> UploadSession | None:
        """See that a chunk does not go on with an upload that has ended.

        A page that was open meanwhile would send only what it has not sent before, and
        take that for success. Who begins anew sends the first chunk as well, and at
        about the same time. Raise Gone where nobody does.
        """
        key = self.said.client_key(self.policy)
        gone = engine.find_gone(self.owner(), self.protocol, key)
        if gone is None:
            return None
        deadline = time.monotonic() + FIRST_CHUNK_TAKES
        while time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
            if upload := self.upload_of(key):
                return upload
        raise errors.Gone(state=gone.state)

    def _has_chunk(self, upload: UploadSession) -> bool:
        if upload.state != State.RECEIVING:
            return True
        chunks = Chunk.objects.filter(upload=upload.pk, number=self.said.number)
        chunk = chunks.first()
        return chunk is not None and self.said.size in (None, chunk.size)

    def _answer_of(self, upload: UploadSession | None) -> dict[str, Any]:
        """Return what every answer says, whichever is the last that the page sees."""
        facts = {"id": None, "state": None} if upload is None else self.facts(upload)
        if self.lists_chunks:
            facts["uploaded"] = [] if upload is None else _numbers(upload)
        return facts

    # Errors in the clients' own statuses:

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        response.status_code = self._status(response.status_code)
        if response.status_code in (429, 503):
            time.sleep(HELD_BACK)
        return response

    def _status(self, status: int) -> int:
        """Return a status that the client takes for final where that is meant."""
        dialect = self._dialect()
        if status == 507:
            return 500
        if status in (429, 503) or status >= 500:
            return status
        if self.request.method == "GET":
            # To a test, any other answer than yes is a no; but 404 and 415 are final.
            return 400
        if status in (401, 403) and not (self.spares_storms and dialect is RESUMABLE):
            return status
        return dialect.too_large if status == 413 else dialect.refused

    def _dialect(self) -> Dialect:
        return self.said.dialect or RESUMABLE

    status_codes = FormView.status_codes | {
        # The next try may succeed, and nothing else will do.
        errors.Interrupted: 503,
        errors.TooManyUploads: 400,
    }


def _nothing() -> HttpResponse:
    answer = HttpResponse(status=204)
    # Django says of nothing at all that it is HTML.
    del answer.headers["Content-Type"]
    return answer


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
    view = ResumableJsView.as_view(**options)
    # With and without a slash at the end: no upload may ever be redirected.
    return [re_path(r"^(?:/)?$", view, name="resumablejs")]
