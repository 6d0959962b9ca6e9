"""When the server cannot: JSON, a fitting status, and nothing about its inside."""

from __future__ import annotations

import errno
import io

import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.db import InterfaceError, OperationalError

from resumable_uploads import engine, stores
from resumable_uploads.models import UploadSession

from .rest import (
    JSON,
    UPLOADS,
    assert_refused,
    chunk,
    finished,
    kept,
    open_upload,
    send_file,
    sha256,
)
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]

DATA = b"0123456789"
SECRET = "/srv/secret/place"


@pytest.fixture
def me():
    return Visitor()


@pytest.fixture
def upload(me):
    return open_upload(me)


def writes_fail(monkeypatch, error):
    def fail(self, blocks):
        raise error

    monkeypatch.setattr(stores.filesystem.FilesystemWriter, "write", fail)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OSError(errno.ENOSPC, "No space left", SECRET), 507, "storage_full"),
        (OSError(errno.EDQUOT, "Quota exceeded", SECRET), 507, "storage_full"),
        (OSError(errno.EIO, "I/O error", SECRET), 503, "storage_unavailable"),
        (PermissionError(errno.EACCES, SECRET), 503, "storage_unavailable"),
        (RuntimeError(SECRET), 503, "storage_unavailable"),
    ],
)
def test_a_store_that_fails_is_said(monkeypatch, me, upload, error, status, code):
    before = kept()
    with monkeypatch.context() as patch:
        writes_fail(patch, error)
        answers = [
            me.put(chunk(upload, 0), DATA),
            me.patch(upload["url"], 0, DATA),
        ]
    for answer in answers:
        assert_refused(answer, status, code)
        assert SECRET.encode() not in answer.body
        assert ("Retry-After" in answer.headers) == (status == 503)
    assert kept() == before
    assert me.put(chunk(upload, 0), DATA).status == 201
    assert list(finished().values()) == [sha256(DATA)]


# The second one is what is said of a connection that was lost between two statements.
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize("verb", ["find", "open"])
def test_a_database_that_fails_is_said(monkeypatch, me, upload, verb, error):
    def fail(*args):
        raise error(SECRET)

    monkeypatch.setattr(engine, verb, fail)
    answer = me.get(upload["url"])
    if verb == "open":
        answer = me.post(UPLOADS, {"filename": "a", "size": 1})
    assert_refused(answer, 503, "storage_unavailable")
    assert answer.headers["Retry-After"] == "2"
    assert SECRET.encode() not in answer.body


def test_what_looks_like_an_attack_is_no_page(monkeypatch, me, upload):
    def fail(*args):
        raise SuspiciousFileOperation(SECRET)

    monkeypatch.setattr(engine, "find", fail)
    answer = me.get(upload["url"])
    assert_refused(answer, 400, "invalid")
    assert SECRET.encode() not in answer.body


class Broken(io.RawIOBase):
    """A connection that breaks before the document is there."""

    def read(self, size=-1):
        raise OSError(SECRET)


def test_a_document_that_breaks_off_is_refused(me):
    answer = me.request(
        "POST",
        UPLOADS,
        headers=JSON,
        CONTENT_LENGTH="100",
        **{"wsgi.input": Broken()},
    )
    assert_refused(answer, 400, "truncated")
    assert kept() == ([], [], {})


def test_a_body_that_breaks_is_cut_there(me, upload):
    headers = {"Upload-Offset": "0"}
    answer = me.request(
        "PATCH",
        upload["url"],
        headers=headers,
        CONTENT_LENGTH="10",
        **{"wsgi.input": Broken()},
    )
    assert_refused(answer, 400, "truncated", received=0)


def test_no_answer_says_where_files_lie(settings, me):
    upload = send_file(me, DATA)
    name = UploadSession.objects.get().file.name
    answers = [
        me.get(upload["url"]),
        me.get(UPLOADS),
        me.post(f"{upload['url']}complete/"),
        me.get(f"{upload['url']}file/"),
        me.put(chunk(upload, 0), DATA),
        me.delete(upload["url"]),
        me.get(f"{upload['url']}file/"),
    ]
    for answer in answers:
        said = f"{answer.headers}".encode() + answer.body
        assert str(settings.MEDIA_ROOT).encode() not in said
        assert name.encode() not in said
        assert b"staging" not in said


@pytest.mark.parametrize("state", ["assembling", "failed"])
def test_what_a_storage_said_is_for_operators(me, state):
    upload = open_upload(me)
    UploadSession.objects.update(
        state=state, error_code="assembly_failed", error=f"OSError: {SECRET}"
    )
    answer = me.get(upload["url"])
    assert answer.json()["error"]["code"] == "assembly_failed"
    assert answer.json()["error"]["detail"]
    assert SECRET.encode() not in answer.body


@pytest.mark.parametrize("path", ["", "limits", "limits/", "{id}", "{id}/"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_nothing_is_ever_redirected_and_no_page_comes(me, upload, path, method):
    path = UPLOADS + path.format(**upload)
    for accept in ("*/*", "application/json"):
        answer = me.request(method, path, b"", {"Accept": accept})
        assert answer.status not in (301, 302, 303, 307, 308)
        assert answer.status < 500
        if answer.body:
            assert answer.headers["Content-Type"] == "application/json"
            answer.json()
