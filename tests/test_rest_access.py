"""Who may do what: owners, strangers, CSRF, and what the project's own classes say."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied
from rest_framework import authentication, exceptions, permissions, throttling

from resumable_uploads.models import UploadSession
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.protocols.base import UploadView

from .rest import (
    UPLOADS,
    assert_refused,
    chunk,
    finished,
    kept,
    open_upload,
    policies,
    send_file,
    staged,
)
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]

DATA = b"0123456789"


def user(name: str = "user", **found: object) -> User:
    return User.objects.create_user(name, **found)


def requests(upload: dict, headers: dict[str, str] | None = None) -> list[tuple]:
    """Return every request that can be made of an upload."""
    url, sent = upload["url"], headers or {}
    octets = {"Content-Type": "application/octet-stream"}
    return [
        ("GET", url, b"", sent),
        ("HEAD", url, b"", sent),
        ("PATCH", url, DATA, octets | {"Upload-Offset": "0"} | sent),
        ("DELETE", url, b"", sent),
        ("PUT", chunk(upload, 0), DATA, octets | sent),
        ("POST", f"{url}complete/", b"", sent),
        ("GET", f"{url}file/", b"", sent),
        ("HEAD", f"{url}file/", b"", sent),
    ]


VERBS = range(8)
UNSAFE = [2, 3, 4, 5]


# Strangers


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", ["receiving", "complete"])
@pytest.mark.parametrize("who", ["visitor", "user", "admin", "visitor with uploads"])
def test_a_stranger_gets_404_and_changes_nothing(verb, state, who):
    me = Visitor(user("me")) if who == "user" else Visitor()
    upload = send_file(me, DATA) if state == "complete" else open_upload(me)
    stranger = Visitor()
    if who in ("user", "admin"):
        stranger = Visitor(user("you", is_superuser=who == "admin", is_staff=True))
    elif who == "visitor with uploads":
        open_upload(stranger)
    before, bytes_before = kept(), staged()
    answer = stranger.request(*requests(upload)[verb])
    assert answer.status == 404
    if requests(upload)[verb][0] != "HEAD":
        assert_refused(answer, 404, "not_found")
    assert (kept(), staged()) == (before, bytes_before)
    assert upload["id"] not in str(stranger.get(UPLOADS).body)


@pytest.mark.parametrize("verb", VERBS)
def test_what_does_not_exist_looks_the_same_as_a_strangers(verb):
    upload = open_upload(Visitor())
    none = upload | {"url": "/uploads/00000000-0000-0000-0000-000000000000/"}
    stranger = Visitor()
    found = stranger.request(*requests(upload)[verb])
    missing = stranger.request(*requests(none)[verb])
    assert (found.status, found.body) == (missing.status, missing.body)
    assert sorted(found.headers) == sorted(missing.headers)


HOSTILE_IDS = [
    "1",
    "null",
    "..",
    "%2e%2e",
    "%00",
    "a b",
    "'%20OR%201=1",
    "%F0%9F%98%80",
    "%ED%A0%80",
    "%FF",
    "9" * 32,
    "x" * 10_000,
    "-1",
    "{00000000-0000-0000-0000-000000000000}",
    "00000000-0000-0000-0000-00000000000",
]


@pytest.mark.parametrize("upload_id", HOSTILE_IDS, ids=lambda text: text[:20])
@pytest.mark.parametrize("verb", VERBS)
def test_a_hostile_id_is_no_upload(verb, upload_id):
    me = Visitor()
    open_upload(me)
    before = kept()
    request = requests({"url": f"/uploads/{upload_id}/"})[verb]
    answer = me.request(*request)
    assert answer.status == 404
    if request[0] != "HEAD":
        assert_refused(answer, 404, "not_found")
    assert (kept(), staged()) == (before, 0)


# Owners


def test_a_visitor_is_known_by_the_session():
    me = Visitor()
    upload = open_upload(me)
    assert UploadSession.objects.get().owner.startswith("session:")
    assert Session.objects.count() == 1
    assert me.get(upload["url"]).status == 200
    me.client.cookies.pop("sessionid")
    assert_refused(me.get(upload["url"]), 404, "not_found")


def test_the_owners_key_is_in_no_answer():
    me = Visitor()
    open_upload(me)
    token = UploadSession.objects.get().owner.partition(":")[2]
    assert token.encode() not in me.get(UPLOADS).body


def test_a_user_is_the_same_in_every_browser():
    me = user()
    upload = open_upload(Visitor(me))
    assert UploadSession.objects.get().user == me
    assert Visitor(me).get(upload["url"]).status == 200
    assert Visitor(me).put(chunk(upload, 0), DATA).status == 201


def test_the_list_is_of_my_own_uploads():
    me, other = Visitor(), Visitor(user())
    mine = open_upload(me)
    open_upload(other)
    assert [found["id"] for found in me.get(UPLOADS).json()["results"]] == [mine["id"]]
    assert Visitor().get(UPLOADS).json()["results"] == []


def test_uploads_of_nobody_are_nobodys():
    open_upload(Visitor())
    UploadSession.objects.update(owner="")
    upload_id = UploadSession.objects.get().pk
    assert Visitor().get(UPLOADS).json()["results"] == []
    assert_refused(Visitor().get(f"{UPLOADS}{upload_id}/"), 404, "not_found")


# CSRF


@pytest.mark.parametrize("is_user", [True, False])
@pytest.mark.parametrize("verb", UNSAFE)
def test_writing_without_the_token_is_refused(verb, is_user):
    me = Visitor(user()) if is_user else Visitor()
    upload = open_upload(me)
    before = kept()
    for token in ("", "x" * 32):
        request = requests(upload, {"X-CSRFToken": token})[verb]
        answer = me.request(*request)
        assert_refused(answer, 403, "permission_denied")
        assert "CSRF" in answer.json()["detail"]
    assert (kept(), staged()) == (before, 0)


@pytest.mark.parametrize("is_user", [True, False])
def test_opening_without_the_token_is_refused(is_user):
    me = Visitor(user()) if is_user else Visitor()
    said = {"filename": "a", "size": 1}
    answer = me.post(UPLOADS, said, X_CSRFToken="")
    assert_refused(answer, 403, "permission_denied")
    me.client.cookies.pop("csrftoken")
    assert_refused(me.post(UPLOADS, said), 403, "permission_denied")
    assert kept() == ([], [], {})


def test_a_form_of_another_site_is_refused():
    me = Visitor()
    upload = open_upload(me)
    kind = {"Content-Type": "application/x-www-form-urlencoded", "X-CSRFToken": ""}
    for path in (UPLOADS, f"{upload['url']}complete/"):
        answer = me.request("POST", path, b"filename=a&size=1", kind)
        assert_refused(answer, 403, "permission_denied")


def test_reading_needs_no_token():
    me = Visitor()
    upload = send_file(me, DATA)
    me.token = ""
    for path in (UPLOADS, upload["url"], f"{upload['url']}file/"):
        assert me.get(path).status == 200


class Token(authentication.BaseAuthentication):
    """Knows users by a header, as apps on phones are known."""

    def authenticate(self, request):
        name = request.headers.get("Authorization", "").removeprefix("Token ")
        if not name:
            return None
        found = User.objects.filter(username=name).first()
        if found is None:
            raise exceptions.AuthenticationFailed("Invalid token.")
        return found, name

    def authenticate_header(self, request):
        return 'Token realm="uploads"'


@pytest.fixture
def by_token(monkeypatch):
    """Have the project know its users by a token."""
    monkeypatch.setattr(UploadView, "authentication_classes", [Token])


def test_who_comes_with_a_token_needs_no_csrf_token(by_token):
    user("ann")
    me = Visitor(has_token=False)
    known = {"Authorization": "Token ann"}
    answer = me.post(UPLOADS, {"filename": "a", "size": 10}, **known)
    assert answer.status == 201
    assert UploadSession.objects.get().owner.startswith("user:")
    for verb in (0, 1, 2, 3):
        request = requests(answer.json(), known)[verb]
        assert me.request(*request).status < 300


def test_a_wrong_token_is_said_with_401(by_token):
    me = Visitor()
    upload = open_upload(me)
    for request in requests(upload, {"Authorization": "Token nobody"}):
        answer = me.request(*request)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Token realm="uploads"'
        if request[0] != "HEAD":
            assert_refused(answer, 401, "authentication_failed")


def test_who_is_not_known_by_the_project_still_needs_a_csrf_token(by_token):
    # Logged in, in a way that the API does not look at: a visitor like others.
    me = Visitor(user())
    upload = open_upload(me)
    assert UploadSession.objects.get().owner.startswith("session:")
    me.token = ""
    assert_refused(me.delete(upload["url"]), 403, "permission_denied")


# The project's permissions and throttles


@pytest.mark.parametrize("verb", VERBS)
def test_the_projects_permissions_are_asked(monkeypatch, verb):
    upload = open_upload(Visitor())
    monkeypatch.setattr(UploadView, "permission_classes", [permissions.IsAuthenticated])
    before = kept()
    for path in (UPLOADS, f"{UPLOADS}limits/"):
        assert_refused(Visitor().get(path), 403, "not_authenticated")
    request = requests(upload)[verb]
    answer = Visitor().request(*request)
    assert answer.status == 403
    monkeypatch.setattr(UploadView, "authentication_classes", [Token])
    answer = Visitor().request(*request)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"]
    assert kept() == before


def test_djangos_own_refusal_is_no_page(monkeypatch):
    class Never(permissions.BasePermission):
        def has_permission(self, request, view):
            raise PermissionDenied("/srv/secret")

    monkeypatch.setattr(UploadView, "permission_classes", [Never])
    answer = Visitor().post(UPLOADS, {"filename": "a"})
    assert_refused(answer, 403, "permission_denied")
    assert b"secret" not in answer.body


def test_the_projects_throttles_are_asked(monkeypatch):
    class Slowly(throttling.BaseThrottle):
        def allow_request(self, request, view):
            return request.method == "GET"

        def wait(self):
            return 7.5

    upload = open_upload(Visitor())
    monkeypatch.setattr(UploadView, "throttle_classes", [Slowly])
    answer = Visitor().put(chunk(upload, 0), DATA)
    assert_refused(answer, 429, "throttled")
    assert answer.headers["Retry-After"] == "8"
    assert Visitor().get(UPLOADS).status == 200


# Policies


def test_visitors_are_sent_away_where_users_are_asked_for(settings):
    policies(settings, default={"anonymous": False})
    said = {"filename": "a", "size": 10}
    assert_refused(Visitor().post(UPLOADS, said), 403, "not_authenticated")
    assert kept() == ([], [], {})
    assert not Session.objects.exists()
    assert Visitor(user()).post(UPLOADS, said).status == 201


def test_visitors_get_401_where_there_is_a_way_to_log_in(settings, by_token):
    policies(settings, default={"anonymous": False})
    answer = Visitor().post(UPLOADS, {"filename": "a", "size": 10})
    assert_refused(answer, 401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"]


class StaffOnly(UploadPolicy):
    anonymous = False

    def permits(self, owner):
        return super().permits(owner) and owner.user.is_staff


def test_the_policy_has_the_last_word(settings):
    policies(settings, default={"class": StaffOnly})
    said = {"filename": "a", "size": 10}
    answer = Visitor(user()).post(UPLOADS, said)
    assert_refused(answer, 403, "permission_denied")
    assert kept() == ([], [], {})
    assert Visitor(user("boss", is_staff=True)).post(UPLOADS, said).status == 201


def test_who_may_no_longer_upload_may_still_look_and_cancel(settings):
    policies(settings, default={"class": StaffOnly})
    boss = user("boss", is_staff=True)
    upload = open_upload(Visitor(boss))
    boss.is_staff = False
    boss.save()
    before = kept()
    for verb in (2, 4, 5):
        answer = Visitor(boss).request(*requests(upload)[verb])
        assert_refused(answer, 403, "permission_denied")
    assert kept() == before
    assert Visitor(boss).get(upload["url"]).status == 200
    assert Visitor(boss).delete(upload["url"]).status == 204


def test_files_that_are_not_for_download_are_not_found(settings):
    policies(settings, default={"downloadable": False})
    me = Visitor()
    upload = send_file(me, DATA)
    assert upload["file"] == {"url": None, "name": "a.bin", "size": 10}
    assert_refused(me.get(f"{upload['url']}file/"), 404, "not_found")
    assert len(finished()) == 1
