"""Fine Uploader's traditional endpoint: chunks, done call, delete and session.

The client judges by the JSON of an answer more than by its status: ``success``,
``preventRetry`` (give up for good) and ``reset`` (start again from the first part).
Only the done call goes by the status alone. See docs/clients.md.
"""

from __future__ import annotations

from typing import Any

from django.http import QueryDict
from django.urls import URLPattern, re_path
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .. import engine, errors
from ..models import State, UploadSession
from ..policies import get_policy
from .base import UploadView, nonnegative
from .forms import FormView

MAX_UUID = 255


class Parameters:
    """What a request says of its chunk and its file."""

    def __init__(self, *sources: QueryDict) -> None:
        self._values: dict[str, Any] = {}
        for source in sources:
            self._values.update(source.dict())

    def get(self, name: str) -> str:
        return str(self._values.get(name, ""))

    def whole(self, name: str) -> int:
        return nonnegative(self.get(name), name)

    @property
    def uuid(self) -> str:
        """The client's own name of the upload; random, and no secret."""
        uuid = self.get("qquuid")
        if not uuid or len(uuid) > MAX_UUID or not uuid.isprintable():
            raise errors.Invalid("qquuid is missing, or not a proper one.")
        return uuid

    @property
    def is_chunk(self) -> bool:
        return "qqpartindex" in self._values

    @property
    def index(self) -> int:
        return self.whole("qqpartindex") if self.is_chunk else 0

    @property
    def resumes(self) -> bool:
        return self.get("qqresume") == "true"

    def total(self, announced: int | None) -> int | None:
        """Return the size of the file; small raw bodies are the whole file."""
        if self.get("qqtotalfilesize"):
            return self.whole("qqtotalfilesize")
        return announced

    def part_size(self, total: int | None) -> int | None:
        """Return the size of all parts but the last, which no parameter says."""
        if not self.is_chunk or self.whole("qqtotalparts") <= 1:
            return total or 1
        if self.index:
            size, rest = divmod(self.whole("qqpartbyteoffset"), self.index)
            if rest:
                raise errors.Invalid("qqpartbyteoffset does not fit qqpartindex.")
            return size
        return self.whole("qqchunksize")


class FineUploaderView(UploadView):
    """What all of Fine Uploader's endpoints share."""

    protocol = "fineuploader"
    renderer_classes = (JSONRenderer,)

    # Options, for as_view():

    policy = "default"
    # Does the page use chunking.concurrent? Then an answer to a chunk must not reset
    # the upload: the client would hang. The done call resets it instead.
    concurrent = False

    def refusal(self, code: str, detail: str, facts: dict[str, Any]) -> Any:
        final = code not in _WORTH_A_RETRY
        return {
            "success": False,
            "error": detail,
            "code": code,
            **({"preventRetry": True} if final else {}),
            **facts,
        }

    def upload_of(self, uuid: str) -> UploadSession | None:
        return engine.find_by_key(self.owner(), self.protocol, uuid)

    def facts(self, upload: UploadSession) -> dict[str, Any]:
        return {
            "success": True,
            "uuid": upload.client_key,
            "id": str(upload.pk),
            "state": upload.state,
            "name": upload.filename,
            "size": upload.length,
        }


# After these the client should try again; after all others it would in vain.
_WORTH_A_RETRY = {
    "truncated",
    "wrong_size",
    "interrupted",
    "checksum_mismatch",
    "storage_unavailable",
    "storage_full",
    "throttled",
    "too_many_uploads",
    "incomplete",
}


class EndpointView(FineUploaderView, FormView):
    """Take a chunk, or a file that is small enough to be sent whole."""

    def post(self, request: Request) -> Response:
        assert self.form
        said = Parameters(request.query_params, self.form.fields)
        policy = get_policy(self.policy)
        self.check_permitted(policy)
        with self.chunk() as body:
            found = self.upload_of(said.uuid)
            if found is None and said.resumes and not self.concurrent:
                body.drain(policy.limits()["max_chunk_size"])
                return Response(_RESET)
            upload = found or self._opened(said, body.length)
            _check_geometry(upload, said)
            engine.put_chunk(upload, said.index, body, replace=True)
        return self._answer_chunk(engine.refreshed(upload), said)

    put = post

    def _opened(self, said: Parameters, announced: int | None) -> UploadSession:
        assert self.form
        total = said.total(announced)
        if total is None:
            raise errors.Invalid("qqtotalfilesize is missing.")
        new = engine.NewUpload(
            filename=said.get("qqfilename") or self.form.filename or "file",
            length=total,
            content_type=self._content_type(said),
            relative_path=said.get("qqpath") or self.form.filename.rpartition("/")[0],
            client_key=said.uuid,
            chunk_size=said.part_size(total),
        )
        owner = self.owner(create=True)
        return engine.open(owner, self.protocol, get_policy(self.policy), new)[0]

    def _content_type(self, said: Parameters) -> str:
        """Return the file's type, which a part or a raw body does not always tell."""
        assert self.form
        told = self.request.META.get("HTTP_X_MIME_TYPE")
        return told or ("" if said.is_chunk else self.form.content_type)

    def _answer_chunk(self, upload: UploadSession, said: Parameters) -> Response:
        return Response(self.facts(upload))


_RESET = {
    "success": False,
    "reset": True,
    "error": "The parts sent before are not there any more. Start again.",
}


def _check_geometry(upload: UploadSession, said: Parameters) -> None:
    """See that a chunk belongs to the file as it was first announced."""
    total = said.total(upload.length)
    if total != upload.length or said.part_size(total) != upload.chunk_size:
        raise errors.Invalid("The size of the file or of its parts has changed.")


class DoneView(FineUploaderView):
    """The client says that all parts are sent (``chunking.success.endpoint``)."""

    def post(self, request: Request) -> Response:
        data = request.data
        said = Parameters(request.query_params, _as_query(data))
        policy = get_policy(self.policy)
        self.check_permitted(policy)
        upload = self.upload_of(said.uuid)
        if upload is None and said.get("qqtotalfilesize") == "0":
            upload = self._empty(said)
        if upload is None:
            return Response(_RESET, status=409)
        try:
            upload = engine.finish(upload)
        except errors.Incomplete as error:
            return Response(_RESET | {"missing": error.facts["missing"]}, status=409)
        return Response(self.facts(upload))

    def _empty(self, said: Parameters) -> UploadSession:
        """Open an empty file: of it the client sends no part at all."""
        new = engine.NewUpload(
            filename=said.get("qqfilename") or "file",
            length=0,
            client_key=said.uuid,
            chunk_size=1,
        )
        owner = self.owner(create=True)
        return engine.open(owner, self.protocol, get_policy(self.policy), new)[0]


def _as_query(data: Any) -> QueryDict:
    """Return form fields or a JSON object as one kind of thing."""
    if isinstance(data, QueryDict):
        return data
    if not isinstance(data, dict):
        raise errors.Invalid("The done call brings a form or a JSON object.")
    query = QueryDict(mutable=True)
    query.update({str(name): str(value) for name, value in data.items()})
    return query


class DeleteView(FineUploaderView):
    """Delete an upload and its file. Repeating it is a success."""

    def delete(self, request: Request, uuid: str = "") -> Response:
        said = Parameters(request.query_params, _as_query(request.data or {}))
        uuid = uuid or said.uuid
        upload = self.upload_of(uuid)
        if upload is None:
            self._check_was_mine(uuid)
        else:
            engine.cancel(upload)
        return Response({"success": True})

    def post(self, request: Request, uuid: str = "") -> Response:
        said = Parameters(request.query_params, _as_query(request.data))
        if said.get("_method").upper() != "DELETE":
            raise errors.Invalid("_method=DELETE is missing.")
        return self.delete(request, uuid)

    def _check_was_mine(self, uuid: str) -> None:
        """Take a second delete for a success, and no other. Raise NotFound."""
        mine = UploadSession.objects.filter(
            owner=self.owner().key, protocol=self.protocol, client_key=uuid
        )
        if not self.owner() or not mine.exists():
            raise errors.NotFound


class SessionView(FineUploaderView):
    """The caller's complete files, which the client shows when it begins."""

    at_most = 100

    def get(self, request: Request) -> Response:
        uploads = UploadSession.objects.filter(
            owner=self.owner().key, protocol=self.protocol, state=State.COMPLETE
        ).exclude(owner="")
        return Response(
            [
                {
                    "uuid": upload.client_key,
                    "name": upload.filename,
                    "size": upload.length,
                }
                for upload in uploads.order_by("-created_at")[: self.at_most]
            ]
        )


def urls(**options: Any) -> list[URLPattern]:
    """Return the routes, for include(); options are those of FineUploaderView."""
    uuid = r"(?P<uuid>[^/]+)"
    return [
        re_path(r"^$", EndpointView.as_view(**options), name="fineuploader"),
        re_path(r"^done/?$", DoneView.as_view(**options), name="fineuploader-done"),
        re_path(r"^session/?$", SessionView.as_view(**options)),
        # An endpoint that ends in a slash gives a double one.
        re_path(rf"^delete//?{uuid}/?$", DeleteView.as_view(**options)),
        re_path(r"^delete/?$", DeleteView.as_view(**options)),
    ]
