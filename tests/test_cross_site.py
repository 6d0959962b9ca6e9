"""Pages of other sites, planted sessions, and names that would be markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser

from resumable_uploads.models import GONE_STATES, UploadSession
from resumable_uploads.owners import SESSION_NAME

from .rest import change, open_upload, send_file
from .routes import routes
from .test_strangers import Stranger, about, address, asked, targets
from .visitor import Visitor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
# What a browser says when a page of another site has it send something: cookies come
# along in the worst case, but no token.
FROM_ELSEWHERE = {
    "Origin": "https://evil.example",
    "Referer": "https://evil.example/",
    "Sec-Fetch-Site": "cross-site",
    "X-CSRFToken": "",
}


@pytest.fixture(autouse=True)
def _small_parts(settings: Any) -> None:
    change(settings, BUCKETS={"demo-bucket": {"min_part_size": 0}})


def test_a_page_of_another_site_changes_nothing_at_any_address():
    """Who is logged in may do everything here, in the admin too."""
    victim = Visitor(User.objects.create_superuser("admin"))
    found = targets(victim)
    sender = Stranger(victim, has_credentials=False)
    alive = UploadSession.objects.exclude(state__in=GONE_STATES)
    for route in routes():
        for target in about(route, found):
            kept, count = target.kept(), alive.count()
            for method in UNSAFE:
                for said in asked(route)[1](target, method):
                    said.headers = dict(said.headers) | FROM_ELSEWHERE
                    path = address(route, target)
                    answer = sender.send(method, path, said)
                    assert 300 <= answer.status < 500, (method, path, answer.status)
            assert target.kept() == kept, route
            assert alive.count() == count, route


def test_the_same_requests_from_here_are_heeded():
    """See that the test above asks as one has to ask."""
    victim = Visitor(User.objects.create_superuser("admin"))
    (upload,) = [one for one in targets(victim) if one.protocol == "rest"][:1]
    before = upload.kept()
    assert victim.delete(f"/uploads/{upload.id}/").status == 204
    assert upload.kept() != before


# Sessions


def test_a_planted_session_is_not_logged_in_with_its_victim():
    User.objects.create_user("ann", password="ann", is_staff=True)
    attacker = Visitor()
    attacker.get("/upload/")
    planted = attacker.client.cookies["sessionid"].value
    victim = Browser()
    victim.cookies["sessionid"] = planted
    form = {"username": "ann", "password": "ann"}
    assert victim.post("/admin/login/?next=/", form).status_code == 302
    assert victim.cookies["sessionid"].value != planted
    said = {"filename": "a.bin", "size": 5}
    made = victim.post("/uploads/", json.dumps(said), content_type="application/json")
    assert made.status_code == 201
    assert attacker.get(made.json()["url"]).status == 404
    assert attacker.get("/uploads/").json()["results"] == []


def test_a_visitors_uploads_stay_behind_at_login_and_logout():
    User.objects.create_user("ann", password="ann", is_staff=True)
    me = Visitor()
    before = open_upload(me)
    token = me.client.session[SESSION_NAME]
    me.client.handler.enforce_csrf_checks = False
    me.client.post("/admin/login/", {"username": "ann", "password": "ann"})
    assert me.get(before["url"]).status == 404
    me.client.post("/admin/logout/")
    assert me.get("/upload/").status == 200
    assert me.client.session[SESSION_NAME] != token
    assert me.get(before["url"]).status == 404


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
    ],
)
def test_nobody_is_sent_to_another_site(target):
    User.objects.create_user("ann", password="ann", is_staff=True)
    me = Browser()
    form = {"username": "ann", "password": "ann", "next": target}
    answer = me.post("/admin/login/", form, query_params={"next": target})
    assert answer.status_code == 302
    assert answer["Location"] == "/"
    upload = me.post(
        "/uploads/", '{"filename": "a", "size": 5}', content_type="application/json"
    ).json()
    discarded = me.post(f"/my-uploads/{upload['id']}/discard/", {"next": target})
    assert discarded["Location"] == "/my-uploads/"


# Names


class Markup(HTMLParser):
    """Collects what a name must never become: an element, or an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        self.found += [one for one in (tag, *names) if one in ("xss", "onxss")]


NAMES = [
    "<xss onxss=1>.bin",
    "\"><xss onxss='1'>.bin",
    "' onxss=1 a='.bin",
    "</title></script><xss>.bin",
    "{{ 7|add:7 }}{% load xss %}<xss>.bin",
    "%s%n%(message)s{0.__class__}<xss>.bin",
    "&lt;xss onxss=1&gt;<xss>.bin",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_nowhere_markup(name):
    me = Visitor(User.objects.create_superuser("<xss onxss=1>"))
    said = {
        "relative_path": f"{name}/a",
        "metadata": {name: name},
        "content_type": "text/html",
    }
    open_ = open_upload(me, filename=name, client_key=name, **said)
    done = send_file(me, filename=name, **said)
    row = "/admin/resumable_uploads/uploadsession/"
    for path in (
        "/my-uploads/",
        "/upload/",
        row,
        f"{row}?q={quote(name[:3])}",
        *(f"{row}{one['id']}/{word}/" for one in (open_, done) for word in WORDS),
        "/uploads/?format=api",
        f"{open_['url']}?format=api",
    ):
        answer = me.get(path, Accept="text/html")
        assert answer.status == 200, (path, answer.status)
        page = Markup()
        page.feed(answer.body.decode())
        assert not page.found, path
        assert b"14.bin" not in answer.body
    file = me.get(f"{done['url']}file/")
    assert file.headers["Content-Disposition"].startswith("attachment")
    assert file.headers["Content-Security-Policy"].startswith("sandbox")
    assert me.get("/uploads/").headers["Content-Type"] == "application/json"


WORDS = ("change", "history", "delete")
