"""GET /uploads/{id}/file/: the finished file, as a harmless attachment."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from django.test import override_settings

from resumable_uploads.models import UploadSession
from resumable_uploads.policies import UploadPolicy

from .rest import assert_refused, change, finished, policies, send_file
from .visitor import Visitor

pytestmark = pytest.mark.django_db

DATA = bytes(range(256)) * 4
SIZE = len(DATA)


@pytest.fixture
def me():
    return Visitor()


@pytest.fixture
def file(me):
    """The path of a finished file."""
    return send_file(me, DATA, filename="a file.html", content_type="text/html")[
        "file"
    ]["url"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_file_comes_as_an_attachment_that_does_nothing(me, file, slash):
    answer = me.get(file.rstrip("/") + slash)
    assert (answer.status, answer.body) == (200, DATA)
    headers = answer.headers
    assert headers["Content-Disposition"] == 'attachment; filename="a file.html"'
    assert headers["Content-Type"] == "text/html"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert headers["Content-Length"] == str(SIZE)
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["ETag"].startswith('"crc64nvme:')
    assert headers["Last-Modified"].endswith(" GMT")


@pytest.mark.parametrize("accept", ["application/pdf", "image/*", "text/html"])
def test_whatever_is_accepted_the_file_comes(me, file, accept):
    assert me.get(file, Accept=accept).body == DATA


def test_names_of_all_languages_come_through(me):
    upload = send_file(me, b"a", filename='Ünï "😀".txt')
    disposition = me.get(upload["file"]["url"]).headers["Content-Disposition"]
    assert disposition.isascii()
    assert unquote(disposition.partition("utf-8''")[2]) == 'Ünï "😀".txt'


def test_an_empty_file_comes(me):
    answer = me.get(send_file(me, b"")["file"]["url"])
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == "0"


def test_head_has_the_headers_only(me, file):
    answer = me.head(file)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(SIZE)


# Ranges


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, SIZE - 1),
        ("bytes=100-99999", 100, SIZE - 1),
        ("bytes=-100", SIZE - 100, SIZE - 1),
        ("bytes=-99999", 0, SIZE - 1),
        ("bytes=0-", 0, SIZE - 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        ("  bytes=5-6  ", 5, 6),
    ],
)
def test_a_range_comes(me, file, wanted, first, last):
    answer = me.get(file, Range=wanted)
    assert answer.status == 206
    assert answer.body == DATA[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["Content-Length"] == str(last + 1 - first)
    assert "attachment" in answer.headers["Content-Disposition"]


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", "bytes=9999-99999", "bytes=-0"])
def test_a_range_beyond_the_file_cannot_come(me, file, wanted):
    answer = me.get(file, Range=wanted)
    assert (answer.status, answer.body) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"


def test_an_empty_file_has_no_ranges(me):
    url = send_file(me, b"")["file"]["url"]
    assert me.get(url, Range="bytes=0-").status == 416
    assert me.get(url, Range="bytes=-5").status == 416


@pytest.mark.parametrize(
    "wanted",
    ["bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1"]
    + ["bytes=" + "9" * 50 + "-", "0-1"],
)
def test_what_is_not_one_range_brings_the_whole_file(me, file, wanted):
    answer = me.get(file, Range=wanted)
    assert (answer.status, answer.body) == (200, DATA)
    assert "Content-Range" not in answer.headers


def test_a_range_of_the_same_file_comes(me, file):
    etag = me.head(file).headers["ETag"]
    assert me.get(file, Range="bytes=5-6", If_Range=etag).status == 206


@pytest.mark.parametrize("etag", ['"other"', "Sat, 21 Nov 2026 10:00:00 GMT", ""])
def test_a_range_of_another_file_brings_the_whole_one(me, file, etag):
    answer = me.get(file, Range="bytes=5-6", If_Range=etag)
    assert (answer.status, answer.body) == (200, DATA)
    assert "Content-Range" not in answer.headers


# Handing over to the front server


class Awkward(UploadPolicy):
    downloadable = True

    def get_name(self, upload):
        return f"files/100% é #1?/{upload.pk}"


def test_nginx_sends_the_file_itself(settings, me):
    change(settings, SENDFILE="X-Accel-Redirect", SENDFILE_ROOT="/protected/")
    policies(settings, default={"class": Awkward})
    url = send_file(me, DATA, filename="a.txt")["file"]["url"]
    answer = me.get(url)
    assert (answer.status, answer.body) == (200, b"")
    path = answer.headers["X-Accel-Redirect"]
    assert path.isascii()
    assert not set(path) & set(" #?")
    name = UploadSession.objects.get().file.name
    assert unquote(path) == f"/protected/{name}"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a.txt"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_apache_sends_the_file_itself(settings, me):
    change(settings, SENDFILE="X-Sendfile")
    policies(settings, default={"class": Awkward})
    answer = me.get(send_file(me, DATA)["file"]["url"])
    assert answer.body == b""
    path = unquote(answer.headers["X-Sendfile"])
    assert Path(path).read_bytes() == DATA


def test_no_path_is_said_where_nobody_takes_it_out(me, file):
    headers = me.get(file).headers
    assert not {"X-Accel-Redirect", "X-Sendfile"} & set(headers)


@override_settings(
    STORAGES={"default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
)
def test_files_that_are_not_on_disk_are_sent_by_the_app(settings, me):
    change(settings, SENDFILE="X-Accel-Redirect")
    url = send_file(me, DATA)["file"]["url"]
    assert me.get(url).body == DATA
    assert me.get(url, Range="bytes=5-6").body == DATA[5:7]


# What is wrong


def test_a_file_that_has_vanished_is_said_before_the_answer_begins(settings, me, file):
    for name in finished():
        (settings.MEDIA_ROOT / name).unlink()
    answer = me.get(file)
    assert_refused(answer, 503, "storage_unavailable")
    assert answer.headers["Retry-After"]
    assert str(settings.MEDIA_ROOT).encode() not in answer.body


def test_an_open_file_is_closed(me, file, monkeypatch):
    opened = []
    storage = UploadSession.objects.get().file.storage
    really_open = type(storage).open

    def note(self, name, mode="rb"):
        opened.append(really_open(self, name, mode))
        return opened[-1]

    monkeypatch.setattr(type(storage), "open", note)
    assert me.get(file).body == DATA
    assert [file.closed for file in opened] == [True]
