"""Fine Uploader's traditional endpoint: parts, done call, delete and session.

The client judges by the JSON of an answer more than by its status: ``success``,
``preventRetry`` (give up for good) and ``reset`` (start again from the first part).
Only the done call goes by the status alone. See docs/clients.md.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, QueryDict
from django.urls import URLPattern, re_path
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from .. import engine, errors
from ..body import Body
from ..conf import setting
from ..models import State, UploadSession
from ..policies import UploadPolicy
from .base import nonnegative
from .foreign import ForeignView, check_not_rejected, read_again
from .forms import FormView

MAX_UUID = 255


class StartAgain(errors.UploadError):
    """Parts that the client believes to be here are not: it has to send all again."""

    code = "start_again"
    message = "Parts of the file are not there any more. It has to be sent again."


# After these the client should try again; after any other it would in vain.
WORTH_A_RETRY = {
    StartAgain.code,
    errors.Truncated.code,
    errors.WrongSize.code,
    errors.Interrupted.code,
    errors.ChecksumMismatch.code,
    errors.StorageUnavailable.code,
    errors.StorageFull.code,
    errors.HookFailed.code,
    errors.TooManyUploads.code,
    "server_error",
    "throttled",
}


class Parameters:
    """What a request says of its part and its file."""

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
        return checked_uuid(self.get("qquuid"))

    @property
    def is_part(self) -> bool:
        """Is it a part of the file, and not all of it?"""
        return "qqpartindex" in self._values

    @property
    def index(self) -> int:
        return self.whole("qqpartindex") if self.is_part else 0

    @property
    def resumes(self) -> bool:
        return self.get("qqresume") == "true"

    @property
    def total(self) -> int | None:
        """The size of the file in bytes, if the client says it."""
        return self.whole("qqtotalfilesize") if self.get("qqtotalfilesize") else None

    @property
    def filename(self) -> str:
        return self.get("qqfilename") or self.get("qqfile")

    def part_size(self, total: int) -> int:
        """Return the size of all parts but the last, which no parameter says."""
        if not self.is_part or self.whole("qqtotalparts") <= 1:
            return total or 1
        if not self.index:
            return self.whole("qqchunksize")
        size, rest = divmod(self.whole("qqpartbyteoffset"), self.index)
        if rest:
            raise errors.Invalid("qqpartbyteoffset does not fit qqpartindex.")
        return size


def check_not_dismissed(gone: UploadSession) -> None:
    """Raise what the client of a refused or deleted file has to know."""
    check_not_rejected(gone)
    if gone.state == State.CANCELLED:
        raise errors.Gone("The file was deleted.", state=gone.state)


def checked_uuid(text: str) -> str:
    """Return a client's name of an upload. Raise Invalid where it is none."""
    if not text or len(text) > MAX_UUID or not text.isprintable():
        raise errors.Invalid("qquuid is missing, or not a proper one.")
    return text


class FineUploaderView(ForeignView):
    """What all of Fine Uploader's endpoints share."""

    protocol = "fineuploader"
    parser_classes = (FormParser, MultiPartParser, JSONParser)
    status_codes = ForeignView.status_codes | {StartAgain: 409}

    # Option, for as_view():

    # Does the page use chunking.concurrent?
    # True: an answer to a part never orders a restart, for the client would hang; the
    # done call orders it, and before that call the file is not complete.
    # False: parts come one after another, and a part out of order tells at once that
    # others are missing.
    # None, not known: a restart is ordered only for what is not there any more.
    concurrent: bool | None = None

    def refusal(self, code: str, detail: str, facts: dict[str, Any]) -> Any:
        orders = {"preventRetry": True}
        if code in WORTH_A_RETRY:
            orders = {"reset": True} if code == StartAgain.code else {}
        return {"success": False, "error": detail, "code": code, **orders, **facts}

    def upload_named(self, uuid: str) -> UploadSession | None:
        """Return the caller's upload. Raise Invalid where it is another policy's."""
        upload = self.upload_of(uuid)
        if upload is not None and upload.policy != self.policy:
            raise errors.Invalid("This qquuid is in use at another endpoint.")
        return upload

    def success(self, upload: UploadSession) -> HttpResponse:
        check_not_rejected(upload)
        said = {"success": True, "uuid": upload.client_key}
        return self.told(said | self.facts(upload))


class EndpointView(FineUploaderView, FormView):
    """Take a part, or a file that is small enough to be sent whole."""

    def post(self, request: Request) -> HttpResponse:
        assert self.form
        said = Parameters(request.GET, self.form.fields)
        policy = self.permitted_policy()
        with self.chunk() as body:
            upload = self._found(policy, said, body)
            _check_geometry(upload, said)
            if upload.state == State.RECEIVING:
                engine.put_chunk(upload, said.index, body, replace=True)
            else:
                read_again(upload, body)
        upload = engine.outcome(upload)
        if said.index == upload.last_number:
            self._check_sequence(upload, said.index + 1)
        response = self.success(upload)
        self.entitle(response, upload)
        return response

    put = patch = post

    def _found(
        self, policy: UploadPolicy, said: Parameters, body: Body
    ) -> UploadSession:
        upload = self.upload_named(said.uuid)
        if upload is None:
            self._check_may_begin(said)
            return self.begin(policy, self._new_upload(said, body))
        self._check_sequence(upload, said.index)
        return upload

    def _check_may_begin(self, said: Parameters) -> None:
        """Let nobody begin who believes to go on. Raise StartAgain, Gone, Rejected."""
        gone = engine.find_gone(self.owner(), self.protocol, said.uuid)
        if gone is not None:
            # What a browser has kept of a file that was deleted here is out of date.
            if not said.resumes:
                check_not_dismissed(gone)
            engine.forget_key(self.owner(), self.protocol, said.uuid)
        is_first = not said.index and not said.resumes
        had_begun = gone is not None or said.resumes or self.concurrent is False
        if had_begun and not is_first and not self.concurrent:
            raise StartAgain

    def _check_sequence(self, upload: UploadSession, count: int) -> None:
        """See that the first so many parts are there, if they come in their order.

        Raise StartAgain where they are not: the client was told so of each.
        """
        if self.concurrent is not False or upload.state != State.RECEIVING:
            return
        if upload.chunk_count < count or count > (upload.last_number or 0):
            engine.restart(upload)
            raise StartAgain

    def _new_upload(self, said: Parameters, body: Body) -> engine.NewUpload:
        assert self.form
        total = body.length if said.total is None else said.total
        if total is None:
            raise errors.Invalid("qqtotalfilesize is missing.")
        if not said.is_part and total > setting("MAX_CHUNK_SIZE"):
            raise errors.TooLarge(
                "Files of this size have to be sent in parts (chunking.enabled).",
                max_chunk_size=setting("MAX_CHUNK_SIZE"),
            )
        folder = self.form.filename.replace("\\", "/").rpartition("/")[0]
        return engine.NewUpload(
            filename=said.filename or self.form.filename,
            length=total,
            content_type=self._content_type(said),
            relative_path=said.get("qqpath") or folder,
            client_key=said.uuid,
            chunk_size=said.part_size(total),
            ends_when_full=not (self.concurrent and said.is_part),
            key_is_file=True,
        )

    def _content_type(self, said: Parameters) -> str:
        """Return the file's type, which a part or a raw body does not always tell."""
        assert self.form
        told = self.request.META.get("HTTP_X_MIME_TYPE") or self.form.content_type
        return "" if told == "application/octet-stream" else told


def _check_geometry(upload: UploadSession, said: Parameters) -> None:
    """See that a part belongs to the file as it was first announced."""
    length = upload.length or 0
    if said.total not in (None, length) or said.part_size(length) != upload.chunk_size:
        raise errors.Invalid("The size of the file or of its parts has changed.")


class DoneView(FineUploaderView):
    """The client says that all parts are sent (``chunking.success.endpoint``)."""

    def post(self, request: Request) -> HttpResponse:
        said = Parameters(request.query_params, _as_query(request.data))
        policy = self.permitted_policy()
        upload = self.upload_named(said.uuid)
        if upload is None:
            if gone := engine.find_gone(self.owner(), self.protocol, said.uuid):
                check_not_dismissed(gone)
            upload = self._empty(said, policy)
        return self.success(self._finished(upload, said))

    put = patch = post

    def _finished(self, upload: UploadSession, said: Parameters) -> UploadSession:
        try:
            if said.total in (None, upload.length):
                return engine.finish(upload)
        except errors.Incomplete:
            pass
        if upload.state == State.RECEIVING:
            engine.restart(upload)
        raise StartAgain

    def _empty(self, said: Parameters, policy: UploadPolicy) -> UploadSession:
        """Open an empty file: of it the client sends no part at all."""
        if said.total != 0:
            raise StartAgain
        new = engine.NewUpload(
            filename=said.filename,
            length=0,
            relative_path=said.get("qqpath"),
            client_key=said.uuid,
            chunk_size=1,
            key_is_file=True,
        )
        return self.begin(policy, new)


def _as_query(data: Any) -> QueryDict:
    """Return form fields or a JSON object as one kind of thing."""
    if isinstance(data, QueryDict):
        return data
    if not isinstance(data, dict):
        raise errors.Invalid("The request brings neither a form nor a JSON object.")
    query = QueryDict(mutable=True)
    query.update({str(name): str(value) for name, value in data.items()})
    return query


class DeleteView(FineUploaderView):
    """Delete an upload and its file. Repeating it is a success."""

    def delete(self, request: Request, uuid: str = "") -> Response:
        said = Parameters(request.query_params, _as_query(request.data))
        mine = UploadSession.objects.filter(
            owner=self.owner().key,
            protocol=self.protocol,
            client_key=checked_uuid(uuid or said.get("qquuid")),
        )
        uploads = list(mine.exclude(owner=""))
        if not uploads:
            raise errors.NotFound
        for upload in uploads:
            engine.cancel(upload)
        return Response({"success": True})

    def post(self, request: Request, uuid: str = "") -> Response:
        said = Parameters(request.query_params, _as_query(request.data))
        if said.get("_method").upper() != "DELETE":
            raise errors.Invalid("_method=DELETE is missing.")
        return self.delete(request, uuid)


class SessionView(FineUploaderView):
    """The caller's files, which the client lists when it begins."""

    # The newest ones.
    at_most = 100

    def get(self, request: Request) -> Response:
        """Answer with a bare array: anything else the client would not understand."""
        mine = UploadSession.objects.filter(
            owner=self.owner().key,
            protocol=self.protocol,
            policy=self.policy,
            state=State.COMPLETE,
            client_key__isnull=False,
        )
        newest = mine.exclude(owner="").order_by("-created_at")[: self.at_most]
        return Response([_listed(upload) for upload in newest])


def _listed(upload: UploadSession) -> dict[str, Any]:
    return {"uuid": upload.client_key, "name": upload.filename, "size": upload.length}


def urls(**options: Any) -> list[URLPattern]:
    """Return the routes, for include(); options are those of FineUploaderView."""
    delete = DeleteView.as_view(**options)
    # Each with and without a slash at the end: no upload may ever be redirected.
    return [
        re_path(r"^(?:/)?$", EndpointView.as_view(**options), name="fineuploader"),
        re_path(
            r"^(?:/)?done/?$", DoneView.as_view(**options), name="fineuploader-done"
        ),
        re_path(
            r"^(?:/)?session/?$",
            SessionView.as_view(**options),
            name="fineuploader-session",
        ),
        re_path(r"^(?:/)?delete/?$", delete, name="fineuploader-delete"),
        # The client puts a slash before the name, also after one.
        re_path(r"^(?:/)?delete//?(?P<uuid>[^/]+)/?$", delete),
    ]
