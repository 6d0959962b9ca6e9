"""The OpenAPI description is whole, and every answer it promises is really given."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework import authentication, exceptions, permissions, throttling

from resumable_uploads import body, engine, errors, hooks, stores
from resumable_uploads.models import UploadSession
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.protocols import rest, rest_schema
from resumable_uploads.protocols.base import UploadView

from .client import Answer, content_digest
from .rest import (
    UPLOADS,
    assert_refused,
    change,
    chunk,
    open_upload,
    policies,
    send_file,
)
from .visitor import Visitor

DATA = b"0123456789"
REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "rest.md"


def schema() -> dict[str, Any]:
    return SchemaGenerator().get_schema(request=None, public=True)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of every operation of the protocol."""
    for path, methods in schema()["paths"].items():
        for method, operation in methods.items():
            # Others are tus and the IETF draft, which test_openapi looks after.
            if operation["tags"] == rest_schema.TAGS:
                yield method, path, operation


def documented() -> set[tuple[str, int, str]]:
    """Return every answer in the schema: operation, status, and code of an error."""
    found = set()
    for _, _, operation in operations():
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/json", {})
            examples = content.get("examples", {}).values()
            codes = [example["value"]["code"] for example in examples] or [""]
            name = operation["operationId"]
            found |= {(name, int(status), code) for code in codes}
    return found


def test_the_schema_is_valid_and_complete():
    output = StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=output)
    validate_schema(schema())
    assert "/uploads/{upload_id}/chunks/{number}/" in output.getvalue()


def test_every_route_is_described_once():
    assert sorted((method, path) for method, path, _ in operations()) == [
        ("delete", "/uploads/{upload_id}/"),
        ("get", "/uploads/"),
        ("get", "/uploads/limits/"),
        ("get", "/uploads/{upload_id}/"),
        ("get", "/uploads/{upload_id}/file/"),
        ("patch", "/uploads/{upload_id}/"),
        ("post", "/uploads/"),
        ("post", "/uploads/{upload_id}/complete/"),
        ("put", "/uploads/{upload_id}/chunks/{number}/"),
    ]


def test_bodies_are_described_as_bytes():
    bodies = {
        operation["operationId"]: operation["requestBody"]["content"]
        for _, _, operation in operations()
        if "requestBody" in operation
    }
    assert set(bodies) == {"uploads_create", "uploads_append", "uploads_put_chunk"}
    octets = {"schema": {"type": "string", "format": "binary"}}
    for name in ("uploads_append", "uploads_put_chunk"):
        assert bodies[name] == {"application/octet-stream": octets}
    assert "application/json" in bodies["uploads_create"]


def test_headers_are_described():
    headers = {
        operation["operationId"]: {
            parameter["name"]: parameter.get("required", False)
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "header"
        }
        for _, _, operation in operations()
    }
    both = {"Upload-Offset": True, "Content-Digest": False}
    assert headers["uploads_append"] == both
    assert headers["uploads_put_chunk"] == {"Content-Digest": False}
    assert headers["uploads_file"] == {"Range": False, "If-Range": False}


@pytest.mark.django_db
def test_uploads_are_described_field_by_field():
    me = Visitor()
    components = schema()["components"]["schemas"]
    assert set(components["ResumableUpload"]["properties"]) == set(open_upload(me))
    limits = me.get(f"{UPLOADS}limits/").json()
    assert set(components["UploadLimits"]["properties"]) == set(limits)
    file = send_file(me)["file"]
    assert set(components["UploadedFile"]["properties"]) == set(file)
    page = me.get(UPLOADS).json()
    assert set(components["PaginatedResumableUploadList"]["properties"]) == set(page)
    upload = open_upload(me, 10, chunk_size=4)
    sent = me.put(chunk(upload, 0), DATA[:4]).json()
    assert set(components["UploadChunk"]["properties"]) == set(sent)
    appended = me.patch(open_upload(me)["url"], 0, DATA[:4]).json()
    assert set(components["UploadAppended"]["properties"]) == set(appended)
    said = components["NewUpload"]["properties"]
    assert set(said) == set(rest.NewUploadSerializer().fields)


def all_errors(kind: type[errors.UploadError]) -> Iterator[type[errors.UploadError]]:
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from all_errors(below)


def test_every_error_is_in_the_schema():
    codes = {kind.code for kind in all_errors(errors.UploadError)}
    components = schema()["components"]["schemas"]
    assert codes <= set(rest_schema.CODES)
    assert components["CodeEnum"]["enum"] == rest_schema.CODES
    assert codes <= {code for _, _, code in documented()}


def test_every_error_is_in_the_reference():
    rows = re.findall(r"^\| `([a-z_]+)` +\| (\d+)", REFERENCE.read_text(), re.M)
    table = {code: int(status) for code, status in rows}
    assert set(table) == set(rest_schema.CODES)
    described = {(code, status) for _, status, code in documented() if code}
    for code, status in described - {("not_authenticated", 403)}:
        assert table[code] == status


def test_the_views_that_answer_stay_as_they_are():
    before = rest.UploadsView.post
    schema()
    assert rest.UploadsView.post is before


# Every answer

Request = Callable[[Visitor, dict[str, Any]], Answer]
Scenario = Callable[[Any, Any], Answer]

REQUESTS: dict[str, Request] = {
    "uploads_list": lambda me, upload: me.get(UPLOADS),
    "uploads_create": lambda me, upload: me.post(UPLOADS, {"filename": "a", "size": 3}),
    "uploads_limits": lambda me, upload: me.get(f"{UPLOADS}limits/"),
    "uploads_retrieve": lambda me, upload: me.get(upload["url"]),
    "uploads_append": lambda me, upload: me.patch(upload["url"], 0, DATA),
    "uploads_cancel": lambda me, upload: me.delete(upload["url"]),
    "uploads_put_chunk": lambda me, upload: me.put(chunk(upload, 0), DATA),
    "uploads_complete": lambda me, upload: me.post(f"{upload['url']}complete/"),
    "uploads_file": lambda me, upload: me.get(f"{upload['url']}file/"),
}
NONE = {"url": "/uploads/00000000-0000-0000-0000-000000000000/"}


class Knows(authentication.BaseAuthentication):
    """Knows nobody, but says how one could be known."""

    def authenticate(self, request):
        return None

    def authenticate_header(self, request):
        return "Token"


class Distrusts(Knows):
    def authenticate(self, request):
        raise exceptions.AuthenticationFailed


class Denies(permissions.BasePermission):
    def has_permission(self, request, view):
        raise exceptions.PermissionDenied


class Throttles(throttling.BaseThrottle):
    def allow_request(self, request, view):
        return False

    def wait(self):
        return 3


def with_classes(**classes: type) -> Callable[[Any], None]:
    def prepare(patch: Any) -> None:
        for name, found in classes.items():
            patch.setattr(UploadView, name, [found])

    return prepare


def break_the_database(patch: Any) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OperationalError

    patch.setattr(UploadView, "owner", fail)


# What may happen to any operation.
ALWAYS: dict[tuple[int, str], Callable[[Any], None]] = {
    (401, "not_authenticated"): with_classes(
        authentication_classes=Knows, permission_classes=permissions.IsAuthenticated
    ),
    (403, "not_authenticated"): with_classes(
        permission_classes=permissions.IsAuthenticated
    ),
    (401, "authentication_failed"): with_classes(authentication_classes=Distrusts),
    (403, "permission_denied"): with_classes(permission_classes=Denies),
    (429, "throttled"): with_classes(throttle_classes=Throttles),
    (503, "storage_unavailable"): break_the_database,
}


def not_found(me, *args):
    return NONE


def cancelled(me, *args):
    upload = open_upload(me)
    me.delete(upload["url"])
    return upload


def expired(me, *args):
    upload = open_upload(me)
    UploadSession.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    return upload


def complete(me, *args):
    return send_file(me, DATA)


def rejected(me, *args):
    return send_file(me, DATA, checksum="sha-256:" + "0" * 64)


def claimed(me, *args):
    upload = send_file(me, DATA)
    UploadSession.objects.update(claimed_at=timezone.now())
    return upload


def chunked(me, *args):
    upload = open_upload(me, 10, chunk_size=4)
    me.put(chunk(upload, 1), DATA[4:8])
    return upload


def appended(me, *args):
    upload = open_upload(me)
    me.patch(upload["url"], 0, DATA[:4])
    return upload


def with_quota(me, settings, patch):
    policies(settings, default={"quota": 5})
    return open_upload(me, None)


def full_disk(me, settings, patch):
    def fail(self, blocks):
        raise OSError(errno.ENOSPC, "")

    patch.setattr(stores.filesystem.FilesystemWriter, "write", fail)
    return open_upload(me)


def stopping(me, settings, patch):
    patch.setattr(body, "is_stopping", lambda: True)
    return open_upload(me)


def taken_over(me, settings, patch):
    """Have somebody else take the lease as soon as this request has it."""
    upload = open_upload(me)
    take = engine.appending._take_lease

    def take_and_lose(row, *args):
        take(row, *args)
        engine.take_offset(engine.refreshed(row))

    patch.setattr(engine.appending, "_take_lease", take_and_lose)
    return upload


def hooked(hook, error):
    """Have a hook of the policy raise an error."""

    def raising(*args):
        raise error

    def prepare(me, settings, patch):
        change(settings, PROGRESS_EVERY=timedelta(microseconds=1))
        upload = open_upload(me)
        # The clock begins with the first look.
        hooks._clock.is_due(UUID(upload["id"]), 0)
        policy = type("Hooked", (UploadPolicy,), {hook: raising})
        policies(settings, default={"class": policy})
        return upload

    return prepare


def waiting(me, settings, patch):
    change(settings, RUNNER="tests.rest.nobody")
    return send_file(me, DATA)


def failed(me, settings, patch):
    upload = waiting(me, settings, patch)
    UploadSession.objects.update(state="failed", error_code="assembly_failed")
    return upload


def put(*args: Any, **headers: str) -> Request:
    return lambda me, upload: me.put(chunk(upload, args[0]), args[1], **headers)


def patch(*args: Any, **headers: str) -> Request:
    return lambda me, upload: me.patch(upload["url"], *args, **headers)


def post(**said: Any) -> Request:
    return lambda me, upload: me.post(UPLOADS, {"filename": "a", "size": 3} | said)


def cut(method: str) -> Request:
    def request(me, upload):
        path = upload["url"] if method == "PATCH" else chunk(upload, 0)
        return me.cut(method, path, DATA, 5, headers={"Upload-Offset": "0"})

    return request


def endless(method: str) -> Request:
    def request(me, upload):
        path = upload["url"] if method == "PATCH" else chunk(upload, 0)
        headers = {"Upload-Offset": "0"}
        unknown = {"wsgi.input_terminated": False}
        return me.request(method, path, iter([DATA]), headers, **unknown)

    return request


def allow(**attributes: Any) -> Callable[..., Any]:
    def prepare(me, settings, patch):
        policies(settings, default=attributes)
        return NONE

    return prepare


def with_key(me, *args):
    return open_upload(me, 4, client_key="k")


def one_is_open(me, settings, patch):
    policies(settings, default={"max_open": 1})
    return open_upload(me)


def get(query: str) -> Request:
    return lambda me, upload: me.get(UPLOADS + query)


def range_of(text: str) -> Request:
    return lambda me, upload: me.get(f"{upload['url']}file/", Range=text)


def form(me, upload):
    return me.request("POST", UPLOADS, b"a", {"Content-Type": "text/plain"})


def opened(me, *args):
    return open_upload(me)


WRONG = content_digest(b"other")
# (operation, status, code): the upload there is, and the request if not the usual one.
SCENARIOS: dict[tuple[str, int, str], Any] = {
    ("uploads_list", 200, ""): opened,
    ("uploads_list", 400, "invalid"): (opened, get("?state=x")),
    ("uploads_list", 404, "not_found"): (opened, get("?cursor=x")),
    ("uploads_limits", 200, ""): opened,
    ("uploads_limits", 400, "invalid"): (opened, get("limits/?policy=x")),
    ("uploads_create", 201, ""): opened,
    ("uploads_create", 200, ""): (with_key, post(size=4, client_key="k")),
    ("uploads_create", 400, "invalid"): (opened, post(size=-1)),
    ("uploads_create", 409, "client_key_in_use"): (with_key, post(client_key="k")),
    ("uploads_create", 413, "too_large"): allow(max_size=2),
    ("uploads_create", 413, "quota_exceeded"): allow(quota=2),
    ("uploads_create", 415, "unsupported_media_type"): (opened, form),
    ("uploads_create", 422, "type_not_allowed"): allow(allowed_types=["image/*"]),
    ("uploads_create", 422, "rejected"): hooked("pre_create", errors.Rejected()),
    ("uploads_create", 429, "too_many_uploads"): one_is_open,
    ("uploads_create", 503, "hook_failed"): hooked("pre_create", KeyError()),
    ("uploads_retrieve", 200, ""): opened,
    ("uploads_retrieve", 404, "not_found"): not_found,
    ("uploads_append", 200, ""): opened,
    ("uploads_append", 400, "invalid"): (opened, patch(-1, DATA)),
    ("uploads_append", 400, "truncated"): (opened, cut("PATCH")),
    ("uploads_append", 404, "not_found"): not_found,
    ("uploads_append", 409, "addressing"): (chunked, patch(4, DATA[:6])),
    ("uploads_append", 409, "not_receiving"): complete,
    ("uploads_append", 409, "offset_mismatch"): appended,
    ("uploads_append", 409, "interrupted"): taken_over,
    ("uploads_append", 410, "gone"): cancelled,
    ("uploads_append", 411, "length_required"): (opened, endless("PATCH")),
    ("uploads_append", 413, "too_large"): (opened, patch(0, DATA * 2)),
    ("uploads_append", 413, "quota_exceeded"): with_quota,
    ("uploads_append", 422, "checksum_mismatch"): (
        opened,
        patch(0, DATA, Content_Digest=WRONG),
    ),
    ("uploads_append", 422, "stopped"): hooked("progress", errors.Rejected()),
    ("uploads_append", 503, "shutting_down"): stopping,
    ("uploads_append", 507, "storage_full"): full_disk,
    ("uploads_cancel", 204, ""): opened,
    ("uploads_cancel", 404, "not_found"): not_found,
    ("uploads_cancel", 409, "not_receiving"): claimed,
    ("uploads_put_chunk", 201, ""): opened,
    ("uploads_put_chunk", 200, ""): complete,
    ("uploads_put_chunk", 400, "invalid"): (opened, put("x", DATA)),
    ("uploads_put_chunk", 400, "truncated"): (opened, cut("PUT")),
    ("uploads_put_chunk", 400, "wrong_size"): (opened, put(0, DATA[:9])),
    ("uploads_put_chunk", 404, "not_found"): not_found,
    ("uploads_put_chunk", 409, "addressing"): appended,
    ("uploads_put_chunk", 409, "not_receiving"): failed,
    ("uploads_put_chunk", 409, "chunk_conflict"): (chunked, put(1, b"othe")),
    ("uploads_put_chunk", 410, "gone"): expired,
    ("uploads_put_chunk", 411, "length_required"): (opened, endless("PUT")),
    ("uploads_put_chunk", 413, "too_large"): (opened, put(0, iter([DATA, DATA]))),
    ("uploads_put_chunk", 413, "quota_exceeded"): with_quota,
    ("uploads_put_chunk", 422, "checksum_mismatch"): (
        opened,
        put(0, DATA, Content_Digest=WRONG),
    ),
    ("uploads_put_chunk", 422, "stopped"): hooked("progress", errors.Rejected()),
    ("uploads_put_chunk", 507, "storage_full"): full_disk,
    ("uploads_complete", 200, ""): complete,
    ("uploads_complete", 202, ""): waiting,
    ("uploads_complete", 404, "not_found"): not_found,
    ("uploads_complete", 409, "incomplete"): chunked,
    ("uploads_complete", 410, "gone"): cancelled,
    ("uploads_complete", 422, "rejected"): rejected,
    ("uploads_file", 200, ""): complete,
    ("uploads_file", 206, ""): (complete, range_of("bytes=0-1")),
    ("uploads_file", 404, "not_found"): not_found,
    ("uploads_file", 409, "not_receiving"): opened,
    ("uploads_file", 410, "gone"): rejected,
    ("uploads_file", 416, ""): (complete, range_of("bytes=99-")),
}
OF_ANY = {
    (name, status, code): prepare
    for name in REQUESTS
    for (status, code), prepare in ALWAYS.items()
}


def test_every_documented_answer_is_tried():
    assert documented() == set(SCENARIOS) | set(OF_ANY)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "answer", OF_ANY, ids=lambda answer: "-".join(map(str, answer))
)
def test_what_may_always_happen_does(monkeypatch, answer):
    name, status, code = answer
    me = Visitor()
    upload = open_upload(me)
    OF_ANY[answer](monkeypatch)
    assert_refused(REQUESTS[name](me, upload), status, code)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "answer", SCENARIOS, ids=lambda answer: "-".join(map(str, answer))
)
def test_every_documented_answer_is_given(settings, monkeypatch, answer):
    name, status, code = answer
    scenario = SCENARIOS[answer]
    prepare, request = (
        scenario if isinstance(scenario, tuple) else (scenario, REQUESTS[name])
    )
    me = Visitor()
    given = request(me, prepare(me, settings, monkeypatch))
    if code:
        assert_refused(given, status, code)
    else:
        assert given.status == status, given.body
