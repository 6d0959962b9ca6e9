"""GET /uploads/: the caller's own uploads, page by page, and the browsable API."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from resumable_uploads.models import UploadSession

from .rest import UPLOADS, assert_refused, chunk, open_upload, send_file
from .visitor import Visitor

pytestmark = pytest.mark.django_db


@pytest.fixture
def me():
    return Visitor()


def found(answer):
    assert answer.status == 200, answer.body
    return [upload["id"] for upload in answer.json()["results"]]


def test_the_newest_comes_first(me):
    ids = [open_upload(me)["id"] for _ in range(3)]
    answer = me.get(UPLOADS)
    assert found(answer) == ids[::-1]
    assert answer.json().keys() == {"next", "previous", "results"}
    assert answer.headers["Cache-Control"] == "no-store"


def test_uploads_in_the_list_are_as_they_are_alone(me):
    upload = open_upload(me, 10, chunk_size=4)
    me.put(chunk(upload, 1), b"4567")
    alone = me.get(upload["url"]).json()
    assert me.get(UPLOADS).json()["results"] == [alone]


def test_pages_follow_each_other(me):
    ids = [open_upload(me)["id"] for _ in range(5)]
    page = me.get(f"{UPLOADS}?limit=2").json()
    assert page["previous"] is None
    seen = [upload["id"] for upload in page["results"]]
    while page["next"]:
        # Something new does not shift what is still to come.
        open_upload(me)
        page = me.get(page["next"].partition("testserver")[2]).json()
        seen += [upload["id"] for upload in page["results"]]
    assert seen == ids[::-1]
    assert page["previous"]


@pytest.mark.parametrize("limit", ["0", "-1", "abc", "", "9" * 30, "1.5"])
def test_a_limit_that_is_none_is_the_usual_one(me, limit):
    upload = open_upload(me)
    assert found(me.get(f"{UPLOADS}?limit={limit}")) == [upload["id"]]


def test_pages_are_not_larger_than_they_may_be(me):
    rows = UploadSession.objects.filter(pk=open_upload(me)["id"]).values()
    copies = [
        UploadSession(**{name: value for name, value in row.items() if name != "id"})
        for row in rows
        for _ in range(210)
    ]
    UploadSession.objects.bulk_create(copies)
    assert len(found(me.get(UPLOADS))) == 50
    assert len(found(me.get(f"{UPLOADS}?limit=1000"))) == 200
    # All of the same moment: none is left out for that.
    seen, path = [], f"{UPLOADS}?limit=70"
    while path:
        page = me.get(path).json()
        seen += [upload["id"] for upload in page["results"]]
        path = page["next"] and page["next"].partition("testserver")[2]
    assert len(seen) == len(set(seen)) == 211


def cursor(text: str) -> str:
    return quote(base64.b64encode(text.encode()).decode())


HOSTILE_CURSORS = [
    "abc",
    "%FF",
    cursor("p=garbage"),
    cursor("p=2026-13-45"),
    cursor("p=\0"),
    cursor("p=1"),
    cursor("p='; DROP TABLE uploads"),
    cursor("p=9999-12-31T23:59:59-14:00"),
    cursor("p=0001-01-01T00:00:00+14:00"),
    cursor("p=2026-01-01T00:00:00+00:00&o=abc"),
    cursor("o=-1"),
    cursor("r=1&p=x"),
]


@pytest.mark.parametrize("text", HOSTILE_CURSORS)
def test_a_cursor_that_was_not_made_here_is_refused(me, text):
    open_upload(me)
    assert_refused(me.get(f"{UPLOADS}?cursor={text}"), 404, "not_found")


def test_uploads_are_chosen_by_state(me):
    receiving = open_upload(me)["id"]
    cancelled = open_upload(me)
    me.delete(cancelled["url"])
    complete = send_file(me, b"abc")["id"]
    ask = f"{UPLOADS}?state="
    assert found(me.get(f"{ask}receiving")) == [receiving]
    assert found(me.get(f"{ask}complete")) == [complete]
    both = [complete, receiving]
    assert found(me.get(f"{ask}receiving,complete")) == both
    assert found(me.get(f"{ask}receiving&state=complete")) == both
    assert found(me.get(f"{ask}%20receiving%20,,complete,")) == both
    assert found(me.get(f"{ask}failed")) == []
    assert len(found(me.get(ask))) == 3


@pytest.mark.parametrize("state", ["nonsense", "receiving,x", "RECEIVING", "%00"])
def test_a_state_that_does_not_exist_is_refused(me, state):
    answer = me.get(f"{UPLOADS}?state={state}")
    assert_refused(answer, 400, "invalid")
    assert "receiving" in answer.json()["states"]


def test_long_lists_take_as_many_queries_as_short_ones(me):
    def queries():
        with CaptureQueriesContext(connection) as context:
            me.get(UPLOADS)
        return len(context)

    for _ in range(2):
        me.put(chunk(open_upload(me, 10, chunk_size=4), 1), b"4567")
    short = queries()
    for _ in range(10):
        me.put(chunk(open_upload(me, 10, chunk_size=4), 1), b"4567")
    assert queries() == short


# Browsers


def test_people_can_browse(me):
    upload = send_file(me, b"abc", filename="<b>.txt")
    for path in (UPLOADS, upload["url"]):
        answer = me.get(path, Accept="text/html,*/*;q=0.8")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/html")
        assert upload["id"].encode() in answer.body
        assert b"<b>.txt" not in answer.body


def test_people_can_open_an_upload_in_a_form(me):
    page = me.get(UPLOADS, Accept="text/html").body.decode()
    for name in ("filename", "size", "content_type", "csrfmiddlewaretoken"):
        assert f'name="{name}"' in page
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    form = f"csrfmiddlewaretoken={token[1]}&filename=a.txt&size=3&client_key="
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "text/html",
        "X-CSRFToken": "",
    }
    answer = me.request("POST", UPLOADS, form.encode(), headers)
    assert answer.status == 201
    assert answer.headers["Content-Type"].startswith("text/html")
    assert UploadSession.objects.get().filename == "a.txt"


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/json", "image/webp,*/*", "image/png", "nonsense"]
)
def test_programs_get_json(me, accept):
    open_upload(me)
    for path in (UPLOADS, f"{UPLOADS}limits/", f"{UPLOADS}nothing/"):
        answer = me.get(path, Accept=accept)
        assert answer.headers["Content-Type"] == "application/json"
        answer.json()


@pytest.mark.parametrize("path", ["", "limits/", "limits", "{id}/", "{id}"])
def test_options_say_what_can_be_done(me, path):
    upload = open_upload(me)
    answer = me.request("OPTIONS", UPLOADS + path.format(**upload))
    assert answer.status == 200
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "limits/"),
        ("PUT", "{id}/"),
        ("POST", "{id}/"),
        ("GET", "{id}/chunks/0/"),
        ("GET", "{id}/complete/"),
        ("DELETE", "{id}/file/"),
        ("TRACE", "{id}/"),
        ("NONSENSE", "{id}/"),
    ],
)
def test_what_cannot_be_done_is_refused(me, method, path):
    upload = open_upload(me)
    answer = me.request(method, UPLOADS + path.format(**upload))
    assert_refused(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"]
