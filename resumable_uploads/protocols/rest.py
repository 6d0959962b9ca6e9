"""The native protocol: JSON about uploads, raw bytes for chunks.

POST opens an upload. Its bytes come as numbered chunks by PUT, in any order, or as
appended stretches by PATCH. docs/rest.md is the reference.
"""

from __future__ import annotations

import json
from datetime import UTC
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpResponse
from django.urls import get_script_prefix, get_urlconf, reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import get_language
from rest_framework import exceptions, serializers
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .. import engine, errors, names
from ..models import State, UploadSession, load_numbers
from ..policies import get_policy, policy_of
from .base import UploadView, nonnegative
from .digests import content_digest
from .download import serve

MAX_METADATA = 16 * 1024
# Python, its renderers and databases each have a limit of their own, and higher ones.
MAX_METADATA_DEPTH = 20


class RawParser(BaseParser):
    """Leave a body of any type where it is, for the engine to stream."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None):
        return {}


class NewUploadSerializer(serializers.Serializer):
    """What a client says when it opens an upload."""

    filename = serializers.CharField(max_length=1024)
    size = serializers.IntegerField(
        min_value=0, max_value=engine.NO_LIMIT, allow_null=True, default=None
    )
    content_type = serializers.CharField(max_length=255, allow_blank=True, default="")
    relative_path = serializers.CharField(max_length=1024, allow_blank=True, default="")
    client_key = serializers.CharField(max_length=255, allow_null=True, default=None)
    chunk_size = serializers.IntegerField(min_value=1, allow_null=True, default=None)
    checksum = serializers.CharField(max_length=160, allow_blank=True, default="")
    metadata = serializers.DictField(default=dict)
    policy = serializers.CharField(max_length=100, default="default")

    def validate_metadata(self, value: dict[str, Any]) -> dict[str, Any]:
        if _depth(value) > MAX_METADATA_DEPTH:
            raise serializers.ValidationError(f"At most {MAX_METADATA_DEPTH} levels.")
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
            text.encode()
        except ValueError:
            # 1e999 is read as infinity, which is no JSON; "\ud800" is no text.
            raise serializers.ValidationError(
                "No number without end, and no half of a character."
            ) from None
        if len(text) > MAX_METADATA:
            raise serializers.ValidationError(f"At most {MAX_METADATA} characters.")
        if names.has_nul(text):
            raise serializers.ValidationError("No NUL.")
        return value


def _checked(data: Any) -> dict[str, Any]:
    """Return what a client says, if it can be said. Raise ValidationError."""
    # A form says everything in its own way.
    said = _NAMES.intersection(data) if type(data) is dict else _NAMES
    return _serializer(said).run_validation(data)


_NAMES = frozenset(NewUploadSerializer().fields)


@lru_cache
def _serializer(said: frozenset[str]) -> NewUploadSerializer:
    """Return what checks some fields, and those that have to be there.

    To make one for each request takes longer than all that it then does, and so does it
    to look at all that is not said. No field remembers what it has checked.
    """
    serializer = NewUploadSerializer()
    for name, field in list(serializer.fields.items()):
        if name not in said and not field.required:
            del serializer.fields[name]
    return serializer


# What the engine calls otherwise.
_CALLED = {"size": "length", "checksum": "declared_checksum"}


def _new_upload(said: dict[str, Any]) -> engine.NewUpload:
    named = {_CALLED.get(name, name): value for name, value in said.items()}
    return engine.NewUpload(advise_chunk_size=True, **named)


def _depth(value: Any) -> int:
    """Return how many levels of lists and dicts a value has."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


class UploadPagination(CursorPagination):
    """Newest first, without counting."""

    ordering = ("-created_at", "-pk")
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def decode_cursor(self, request: Request) -> Any:
        """Return the cursor of a request. Raise NotFound for one not made here."""
        cursor = super().decode_cursor(request)
        if (
            cursor
            and cursor.position is not None
            and not _is_time(str(cursor.position))
        ):
            raise exceptions.NotFound(self.invalid_cursor_message)
        return cursor


def _is_time(text: str) -> bool:
    try:
        moment = parse_datetime(text)
        return moment is not None and moment.astimezone(UTC) is not None
    except (ValueError, OverflowError):
        return False


class RestView(UploadView):
    protocol = "rest"

    def refusal(self, code: str, detail: str, facts: dict[str, Any]) -> dict[str, Any]:
        if code == errors.ClientKeyInUse.code:
            facts = facts | {"url": self.url("upload", facts["id"])}
        return super().refusal(code, detail, facts)

    def url(self, name: str, upload_id: Any) -> str:
        """Return the path of a route, in the instance of the app that was asked."""
        match = self.request.resolver_match
        path = _path_of_some(
            f"resumable_uploads:{name}",
            match.namespace if match else None,
            get_urlconf() or settings.ROOT_URLCONF,
            get_script_prefix(),
            get_language(),
        )
        return path.replace(_SOME_ID, str(upload_id))

    def representation(self, upload: UploadSession) -> dict[str, Any]:
        """Return an upload as its client sees it. Sizes are bytes."""
        policy = policy_of(upload)
        return {
            "id": str(upload.pk),
            "url": self.url("upload", upload.pk),
            "state": upload.state,
            "filename": upload.filename,
            "relative_path": upload.relative_path,
            "content_type": upload.content_type,
            "size": upload.length,
            "offset": upload.offset,
            "received": upload.received,
            "chunk_size": upload.chunk_size,
            "missing": upload.missing,
            "checksum": upload.checksum if upload.state == State.COMPLETE else None,
            "limits": policy.limits(self.owner()),
            "policy": upload.policy,
            "client_key": upload.client_key,
            "expires_at": upload.expires_at if upload.is_open else None,
            "created_at": upload.created_at,
            "completed_at": upload.completed_at,
            "file": self._file(upload, policy.downloadable),
            "error": _error(upload),
            "metadata": upload.metadata,
        }

    def _file(self, upload: UploadSession, downloadable: bool) -> dict | None:
        if upload.state != State.COMPLETE:
            return None
        url = self.url("file", upload.pk) if downloadable else None
        return {"url": url, "name": upload.filename, "size": upload.length}

    def answer(
        self, upload: UploadSession, status: int = 200, is_located: bool = False
    ) -> HttpResponse:
        """Tell all of an upload; with ``is_located``, say where it is as well."""
        facts = self.representation(upload)
        response = self.rendered(facts, status)
        response["Upload-Offset"] = str(facts["offset"])
        if is_located:
            response["Location"] = facts["url"]
        self.entitle(response, upload)
        return response


_SOME_ID = str(UUID(int=0))


@lru_cache
def _path_of_some(
    name: str, app: str | None, urlconf: Any, prefix: str, language: str | None
) -> str:
    """Return the path of a route for some upload: others differ only in their ids.

    By all that paths hang on, so that none has to be put together twice.
    """
    return reverse(name, urlconf, args=[_SOME_ID], current_app=app)


def _error(upload: UploadSession) -> dict[str, str] | None:
    """Return why an upload failed. What a storage said is for operators only."""
    if not upload.error_code or upload.state == State.COMPLETE:
        return None
    if upload.state == State.REJECTED:
        return {"code": upload.error_code, "detail": upload.error}
    detail = "The file could not be put together. It will be tried again."
    if upload.state == State.FAILED:
        detail = "The file could not be put together. Somebody has to look at it."
    return {"code": upload.error_code, "detail": detail}


class UploadsView(RestView):
    """The caller's uploads: list them, or open one."""

    pagination_class = UploadPagination

    def get(self, request: Request) -> Response:
        uploads = UploadSession.objects.filter(owner=self.owner().key).exclude(owner="")
        if states := self._states(request):
            uploads = uploads.filter(state__in=states)
        pages = self.pagination_class()
        page = pages.paginate_queryset(uploads, request, view=self) or []
        load_numbers(page)
        return pages.get_paginated_response([self.representation(row) for row in page])

    def _states(self, request: Request) -> set[str]:
        words = ",".join(request.query_params.getlist("state")).split(",")
        states = {word.strip() for word in words if word.strip()}
        if unknown := states - set(State.values):
            raise errors.Invalid(
                f"There is no state {min(unknown)[:40]!r}.", states=State.values
            )
        return states

    def post(self, request: Request) -> HttpResponse:
        said = _checked(request.data)
        policy = get_policy(said.pop("policy", "default"))
        self.check_permitted(policy)
        upload, created = engine.open(
            self.owner(create=True), self.protocol, policy, _new_upload(said)
        )
        return self.answer(upload, 201 if created else 200, is_located=True)

    def get_serializer(self, *args: Any, **kwargs: Any) -> NewUploadSerializer:
        """Let the browsable API show a form."""
        return NewUploadSerializer(*args, **kwargs)


class LimitsView(RestView):
    """What a policy admits, for pages that check before they open an upload."""

    def get(self, request: Request) -> Response:
        policy = get_policy(request.query_params.get("policy", "default"))
        return Response(policy.limits(self.owner()))


class UploadDetailView(RestView):
    """One upload: look at it, append to it, cancel it."""

    takes_body = True
    lean_methods = ("HEAD", "PATCH")

    def get_parsers(self) -> list[Any]:
        return [RawParser()]

    def get(self, request: Request, upload_id: str) -> HttpResponse:
        return self.answer(self.find(upload_id))

    def head(self, request: Request, upload_id: str) -> HttpResponse:
        """Take the offset: unlike GET, this ends an append that still hangs."""
        upload = engine.take_offset(self.find(upload_id))
        response = HttpResponse(content_type=JSONRenderer.media_type)
        response["Upload-Offset"] = str(upload.offset)
        self.entitle(response, upload)
        return response

    def patch(self, request: Request, upload_id: str) -> HttpResponse:
        upload = self.find_to_write(upload_id)
        # To have all headers by their names takes longer than all the rest here.
        offset = nonnegative(request.META.get("HTTP_UPLOAD_OFFSET"), "Upload-Offset")
        digests = content_digest(request.META.get("HTTP_CONTENT_DIGEST"))
        with self.body(digests) as body:
            upload = engine.append(upload, offset, body)
        facts = {
            "offset": upload.received,
            "received": upload.received,
            "state": engine.outcome(upload).state,
        }
        response = self.told(facts, Upload_Offset=str(upload.received))
        self.entitle(response, upload)
        return response

    def delete(self, request: Request, upload_id: str) -> Response:
        engine.cancel(self.find(upload_id))
        return Response(status=204)


class ChunkView(RestView):
    """One chunk, by its number from 0."""

    takes_body = True
    lean_methods = ("PUT",)
    parser_classes = (RawParser,)
    renderer_classes = (JSONRenderer,)

    def put(self, request: Request, upload_id: str, number: str) -> HttpResponse:
        upload = self.find_to_write(upload_id)
        digests = content_digest(request.META.get("HTTP_CONTENT_DIGEST"))
        with self.body(digests) as body:
            chunk, created = engine.put_chunk(
                upload, nonnegative(number, "The chunk number"), body
            )
        facts = {
            "number": chunk.number,
            "size": chunk.size,
            "received": upload.received,
            "state": engine.outcome(upload).state,
        }
        response = self.told(facts, 201 if created else 200)
        self.entitle(response, upload)
        return response


class CompleteView(RestView):
    """The client says that all has been sent."""

    renderer_classes = (JSONRenderer,)

    def post(self, request: Request, upload_id: str) -> HttpResponse:
        upload = engine.finish(self.find_to_write(upload_id))
        return self.answer(upload, 200 if upload.state == State.COMPLETE else 202)


class FileView(RestView):
    """The finished file, for its owner, where the policy lets it be downloaded."""

    renderer_classes = (JSONRenderer,)

    def get(self, request: Request, upload_id: str) -> Any:
        upload = self.find(upload_id)
        if upload.is_gone:
            raise errors.Gone(state=upload.state)
        if not policy_of(upload).downloadable:
            raise Http404
        if upload.state != State.COMPLETE:
            raise errors.NotReceiving(
                "The file is not complete yet.", state=upload.state
            )
        return serve(request, upload)
