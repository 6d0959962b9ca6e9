"""Capabilities: bytes without a session, and what takes the right back."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.crypto import salted_hmac
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import BasePermission

from resumable_uploads import capabilities
from resumable_uploads.models import UploadSession
from resumable_uploads.owners import BEARER, Owner
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.protocols import lean
from resumable_uploads.protocols.rest import ChunkView

from .rest import change, policies, some_bytes
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]

SIZE = 100
DATA = some_bytes(SIZE)
ABOUT = {"filename": "a.bin", "size": SIZE * 9, "chunk_size": SIZE}
HEADER = "Upload-Capability"


class Bearer:
    """A client that has a capability and nothing else: no cookie, no token."""

    def __init__(self, capability: str, **environ: Any) -> None:
        self.visitor = Visitor(has_token=False)
        self.visitor.client.cookies.clear()
        self.headers = {HEADER: capability, "X-CSRFToken": ""}
        self.environ = environ

    def put(self, url: str, number: int = 0) -> Any:
        return self.request("PUT", f"{url}chunks/{number}/", DATA)

    def patch(self, url: str, offset: int = 0) -> Any:
        return self.request("PATCH", url, DATA, {"Upload-Offset": str(offset)})

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Any:
        sent = self.headers | (headers or {})
        return self.visitor.request(method, path, body, sent, **self.environ)


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice", password="alice")


@pytest.fixture(params=["a user", "a visitor"])
def me(request: pytest.FixtureRequest) -> Visitor:
    if request.param == "a visitor":
        return Visitor()
    return Visitor(request.getfixturevalue("user"))


def opened(me: Visitor, **about: Any) -> tuple[str, str]:
    """Open an upload; return its URL and the capability for it."""
    answer = me.post("/uploads/", ABOUT | about)
    assert answer.status == 201, answer.body
    return answer.json()["url"], answer.headers.get(HEADER, "")


def test_bytes_are_sent_with_nothing_but_a_capability(me):
    url, capability = opened(me)
    bearer = Bearer(capability)
    with CaptureQueriesContext(connection) as asked:
        assert bearer.put(url).status == 201
    texts = " ".join(query["sql"] for query in asked)
    assert "session" not in texts.replace("uploadsession", "")
    assert bearer.put(url).status == 200
    upload = UploadSession.objects.get()
    assert (upload.received, upload.chunk_count) == (SIZE, 1)
    other, capability = opened(me)
    assert Bearer(capability).patch(other).json()["received"] == SIZE


def test_a_chunk_with_a_capability_takes_four_statements(me):
    url, capability = opened(me)
    bearer = Bearer(capability)
    for number in range(5):
        with CaptureQueriesContext(connection) as asked:
            assert bearer.put(url, number).status == 201
        texts = [query["sql"] for query in asked]
        bounds = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
        assert len([text for text in texts if not text.startswith(bounds)]) <= 4


def test_the_last_chunk_by_a_capability_completes_the_file(me):
    url, capability = opened(me, size=SIZE)
    assert Bearer(capability).put(url).status == 201
    answer = me.get(url)
    assert answer.json()["state"] == "complete"
    assert HEADER not in answer.headers


def test_a_capability_is_good_for_bytes_only(me):
    url, capability = opened(me)
    bearer = Bearer(capability)
    for method, path in [
        ("GET", url),
        ("DELETE", url),
        ("POST", f"{url}complete/"),
        ("GET", f"{url}file/"),
        ("GET", "/uploads/"),
    ]:
        answer = bearer.request(method, path)
        assert answer.status in (403, 404) or answer.json()["results"] == []
    assert UploadSession.objects.get().state == "receiving"


def test_by_a_capability_one_hears_where_to_go_on_and_nothing_else(me):
    url, capability = opened(me)
    me.patch(url, 0, DATA)
    with CaptureQueriesContext(connection) as asked:
        answer = Bearer(capability).request("HEAD", url)
    assert (answer.status, answer.headers["Upload-Offset"]) == (200, str(SIZE))
    assert HEADER not in answer.headers
    assert len(asked) <= 3
    assert Bearer("").request("HEAD", url).status == 404
    me.request("DELETE", url)
    assert Bearer(capability).request("HEAD", url).status in (200, 410)


def test_a_capability_is_good_for_one_upload_only(me):
    url, capability = opened(me)
    other, _ = opened(me)
    assert Bearer(capability).put(other).status == 403
    moved = other.split("/")[2] + capability[36:]
    assert Bearer(moved).put(other).status == 403
    assert Bearer(capability).put(url).status == 201
    assert not UploadSession.objects.get(pk=other.split("/")[2]).received


@pytest.mark.parametrize(
    "spoil",
    [
        lambda word: word[:-1] + ("0" if word[-1] != "0" else "1"),
        lambda word: word.rpartition(".")[0] + ".",
        lambda word: word.rpartition(".")[0] + "." + "é" * 64,
        lambda word: word.upper(),
        lambda word: word[:37] + format(int(time.time()) - 5, "x") + word[-65:],
        lambda word: word[:37] + word[-64:],
        lambda word: word[:36] + "." + word[-65:],
        lambda word: word[37:],
        lambda word: "-" * 36 + word[36:],
        lambda word: "g" + word,
        lambda word: word + "\n",
        lambda word: "",
        lambda word: "." * 5000,
    ],
)
def test_a_spoilt_capability_is_none(me, spoil):
    url, capability = opened(me)
    assert Bearer(spoil(capability)).put(url).status == 403
    # But who has a session does not need one.
    answer = me.put(f"{url}chunks/0/", DATA, **{HEADER: spoil(capability)})
    assert answer.status == 201


def test_a_strangers_session_does_not_help_a_spoilt_capability(me):
    url, capability = opened(me)
    stranger = Visitor(User.objects.create_user("eve"))
    answer = stranger.put(f"{url}chunks/0/", DATA, **{HEADER: capability[:-1] + "g"})
    assert answer.status == 404


def test_a_capability_ends_after_its_time(me, settings):
    url, capability = opened(me)
    change(settings, CAPABILITIES_EXPIRE_IN=timedelta(seconds=-60))
    assert Bearer(capability).put(url).status == 403
    assert me.put(f"{url}chunks/0/", DATA, **{HEADER: capability}).status == 201


def test_a_capability_does_not_prolong_itself(me):
    url, capability = opened(me)
    assert HEADER not in Bearer(capability).put(url).headers
    assert HEADER not in Bearer(capability).patch(url).headers
    # By the session there is a fresh one each time.
    assert HEADER in me.put(f"{url}chunks/1/", DATA).headers
    assert HEADER in me.get(url).headers


def test_another_password_takes_capabilities_back(user):
    url, capability = opened(Visitor(user))
    user.set_password("another")
    user.save()
    assert Bearer(capability).put(url).status == 403


def test_who_may_not_log_in_any_more_may_not_send(user):
    url, capability = opened(Visitor(user))
    User.objects.update(is_active=False)
    assert Bearer(capability).put(url).status == 403
    User.objects.update(is_active=True)
    assert Bearer(capability).put(url).status == 201


def test_who_was_deleted_may_not_send(user):
    url, capability = opened(Visitor(user))
    user.delete()
    assert Bearer(capability).put(url).status == 403


def test_the_end_of_the_upload_is_the_end_of_its_capability(me):
    url, capability = opened(me)
    me.delete(url)
    assert Bearer(capability).put(url).status == 410


def test_time_that_is_up_is_noticed_on_the_short_way(me):
    url, capability = opened(me)
    UploadSession.objects.update(expires_at="2020-01-01T00:00Z")
    assert Bearer(capability).put(url).status == 410


class Fickle(UploadPolicy):
    """Permits whoever is in its list."""

    permitted = True

    def permits(self, owner: Owner) -> bool:
        return self.permitted


def test_the_policy_is_asked_each_time(me, settings, monkeypatch):
    policies(settings, default=f"{__name__}.Fickle")
    url, capability = opened(me)
    assert Bearer(capability).put(url).status == 201
    monkeypatch.setattr(Fickle, "permitted", False)
    assert Bearer(capability).put(url, 1).status in (401, 403)


def test_the_host_is_looked_at_as_ever(me):
    url, capability = opened(me)
    assert Bearer(capability, HTTP_HOST="evil.example").put(url).status == 400


def test_without_the_middleware_there_are_no_capabilities(me, settings):
    url, capability = opened(me)
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != lean.PATH]
    assert opened(me)[1] == ""
    assert Bearer(capability).put(url).status == 403


def test_capabilities_can_be_switched_off(me, settings):
    url, capability = opened(me)
    change(settings, CAPABILITIES_EXPIRE_IN=None)
    assert opened(me)[1] == ""
    assert Bearer(capability).put(url).status == 403


class OwnPermission(BasePermission):
    """What a project may ask besides."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.session)


class OwnAuthentication(SessionAuthentication):
    """What a project may ask of a session."""


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("permission_classes", [OwnPermission]),
        ("authentication_classes", [OwnAuthentication]),
        ("throttle_classes", [object]),
    ],
)
def test_what_a_project_asks_itself_is_asked_on_the_long_way(
    me, monkeypatch, name, kinds
):
    url, capability = opened(me)
    assert lean.is_lean(ChunkView)
    monkeypatch.setattr(ChunkView, name, kinds)
    assert not lean.is_lean(ChunkView)
    if name != "throttle_classes":
        assert Bearer(capability).put(url).status == 403
        assert HEADER not in me.put(f"{url}chunks/0/", DATA).headers


class OwnBackend(ModelBackend):
    """Users of other kinds of directories, say."""

    def get_user(self, user_id: Any) -> Any:
        return super().get_user(user_id)


def test_users_of_other_backends_are_asked_for_by_their_sessions(user, settings):
    url, capability = opened(Visitor(user))
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.OwnBackend"]
    assert Bearer(capability).put(url).status == 403


def test_an_upload_of_everybody_has_no_capability():
    opened(Visitor())
    upload = UploadSession.objects.get()
    UploadSession.objects.update(owner=BEARER.key)
    upload.owner = BEARER.key
    assert capabilities.issue(upload, BEARER) == ""


def test_only_the_owner_is_given_one(user):
    opened(Visitor(user))
    upload = UploadSession.objects.get()
    assert capabilities.issue(upload, Owner("user:0", user)) == ""
    assert capabilities.issue(upload, Owner(f"user:{user.pk}", user))


def test_a_capability_is_signed_as_django_signs(me, settings):
    """By the key that follows from the secret of now, whichever was used before."""
    me.post("/uploads/", ABOUT)
    upload, owner = UploadSession.objects.get(), Owner("session:a")
    for secret in ("one" * 20, "another" * 10):
        settings.SECRET_KEY = secret
        text = f"{upload.pk} 5f  session:a"
        signed = salted_hmac(capabilities._SALT, text, algorithm="sha256")
        assert capabilities._signature(upload, owner, "5f") == signed.hexdigest()
