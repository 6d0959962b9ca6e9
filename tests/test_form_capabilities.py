"""Chunks in forms by a capability: which it is good for, and what else is judged."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from resumable_uploads.models import UploadSession
from resumable_uploads.protocols import lean
from resumable_uploads.protocols.base import UploadView

from .foreign import Fine, Resumable, flow, simple
from .rest import change, finished, policies, sha256, some_bytes
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]

SIZE = 100
DATA = some_bytes(SIZE * 5)
HEADER = lean.HEADER
FULL = ("assembling", "complete")
# What clients of each protocol take for a refusal, for want of a login.
REFUSED = (400, 401, 403, 415)


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice", password="alice")


@pytest.fixture(params=["a user", "a visitor"])
def me(request: pytest.FixtureRequest) -> Visitor:
    if request.param == "a visitor":
        return with_session()
    return with_session(request.getfixturevalue("user"))


@pytest.fixture
def bearer() -> Visitor:
    """Somebody with no cookie and no token, and with what they are given."""
    visitor = Visitor(has_token=False)
    visitor.client.cookies.clear()
    return visitor


@pytest.fixture(params=["resumable", "flow", "simple", "fine"])
def file(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


@pytest.fixture
def ways(monkeypatch) -> list[str]:
    """Which way each answer came."""
    taken: list[str] = []
    initial = UploadView.initial

    def on_the_long_way(self: Any, *args: Any, **kwargs: Any) -> None:
        taken.append("long")
        initial(self, *args, **kwargs)

    short = lean._answered

    def on_the_short_way(request: Any) -> Any:
        answer = short(request)
        taken.extend(["short"] if answer is not None else [])
        return answer

    monkeypatch.setattr(UploadView, "initial", on_the_long_way)
    monkeypatch.setattr(lean, "_answered", on_the_short_way)
    return taken


def with_session(user: Any = None) -> Visitor:
    visitor = Visitor(user)
    visitor.get("/upload/")
    return visitor


def made(client: str, name: str = "film.mp4") -> Any:
    if client == "fine":
        return Fine(DATA, name, part_size=SIZE)
    kind = {"resumable": Resumable, "flow": flow, "simple": simple}[client]
    return kind(DATA, name=name, chunk_size=SIZE)


def send(who: Visitor, file: Any, number: int, word: str | None = None) -> Any:
    """Send a chunk, from 0, with a capability if there is one."""
    asked = file.request(number if isinstance(file, Fine) else number + 1)
    given = {} if word is None else {HEADER: word}
    return who.request(**asked | {"headers": asked["headers"] | given})


def begun(me: Visitor, file: Any) -> str:
    """Send the first chunk, and return the word for the others."""
    answer = send(me, file, 0)
    assert answer.status == 200, answer.body
    return answer.headers[HEADER]


def test_chunks_come_with_nothing_but_a_capability(me, bearer, file, ways):
    word = begun(me, file)
    for number in range(1, 5):
        answer = send(bearer, file, number, word)
        assert (answer.status, ways[-1]) == (200, "short"), answer.body
        assert HEADER not in answer.headers
    assert answer.json()["state"] in FULL
    assert list(finished().values()) == [sha256(DATA)]


def test_a_chunk_with_a_capability_takes_four_statements(me, bearer, file):
    word = begun(me, file)
    for number in range(1, 4):
        with CaptureQueriesContext(connection) as asked:
            assert send(bearer, file, number, word).status == 200
        texts = [query["sql"] for query in asked]
        bounds = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
        # One more lists the numbers of the chunks that are there.
        at_most = 5 if file.url == "/uploads/simple-uploader/" else 4
        assert len([text for text in texts if not text.startswith(bounds)]) <= at_most
        assert "session_key" not in " ".join(texts)


def test_both_ways_say_the_same_of_a_chunk(me, bearer, file, ways):
    word = begun(me, file)
    long, short = send(me, file, 1), send(bearer, file, 1, word)
    assert ways[-2:] == ["long", "short"]
    assert short.json() == long.json()
    for name in ("Content-Type", "Cache-Control", "X-Content-Type-Options"):
        assert short.headers[name] == long.headers[name]


def test_which_chunks_are_there_is_told_by_a_capability(me, bearer, ways):
    file = made("resumable")
    word = begun(me, file)
    for number, status in ((1, 200), (2, 204)):
        path = file.request(number)["path"]
        answer = bearer.get(path, **{HEADER: word})
        assert (answer.status, ways[-1]) == (status, "short")
        assert ("Content-Type" in answer.headers) == (status == 200)
        assert me.get(path).body == answer.body


def test_a_capability_is_good_for_chunks_of_its_own_upload_only(me, bearer, file):
    word = begun(me, file)
    kind = "fine" if isinstance(file, Fine) else "resumable"
    other = made(kind, "other.mp4")
    begun(me, other)
    assert send(bearer, other, 1, word).status in REFUSED
    assert {upload.received for upload in UploadSession.objects.all()} == {SIZE}


def test_by_the_session_any_capability_will_do(me, file, ways):
    """A page that has mixed them up gets its files up all the same."""
    kind = "fine" if isinstance(file, Fine) else "resumable"
    word = begun(me, made(kind, "other.mp4"))
    for number in range(5):
        answer = send(me, file, number, word)
        assert (answer.status, ways[-1]) == (200, "long"), answer.body
    assert answer.json()["state"] in FULL
    assert sha256(DATA) in finished().values()


def test_a_capability_opens_nothing(me, bearer, file):
    word = begun(me, file)
    new = made("fine" if isinstance(file, Fine) else "resumable", "new.mp4")
    assert send(bearer, new, 0, word).status in REFUSED
    assert UploadSession.objects.count() == 1


def test_a_capability_of_another_protocol_is_none(me, bearer):
    """Client keys are each protocol's own."""
    theirs = made("fine")
    begun(me, theirs)
    about = {"filename": "a", "size": SIZE * 5, "chunk_size": SIZE}
    opened = me.post("/uploads/", about | {"client_key": theirs.uuid})
    assert send(bearer, theirs, 1, opened.headers[HEADER]).status in REFUSED
    assert {upload.received for upload in UploadSession.objects.all()} == {0, SIZE}


def test_who_has_a_capability_is_taken_for_nobody_else(file, user, ways):
    """Of somebody else's word nothing is left when a session has to tell."""
    word = begun(with_session(user), file)
    eve = with_session(User.objects.create_user("eve"))
    new = made("fine" if isinstance(file, Fine) else "resumable", "new.mp4")
    answer = send(eve, new, 0, word)
    assert (answer.status, ways[-1]) == (200, "long")
    owner = UploadSession.objects.get(pk=answer.json()["id"]).owner
    assert owner == f"user:{User.objects.get(username='eve').pk}"


def test_without_a_token_a_capability_that_does_not_fit_is_no_way_around_it(file, user):
    me = with_session(user)
    word = begun(me, made("fine" if isinstance(file, Fine) else "resumable", "other"))
    asked = file.request(0 if isinstance(file, Fine) else 1)
    headers = asked["headers"] | {HEADER: word, "X-CSRFToken": ""}
    assert me.request(**asked | {"headers": headers}).status in REFUSED
    assert UploadSession.objects.count() == 1


def test_of_a_file_that_is_complete_a_capability_tells_nothing(me, bearer, file):
    word = begun(me, file)
    for number in range(1, 5):
        send(me, file, number)
    answer = send(bearer, file, 1, word)
    assert answer.status in REFUSED
    assert "checksum" not in answer.json()
    answer = send(me, file, 1, word)
    assert answer.json()["state"] == "complete"


@pytest.mark.parametrize("end", ["overdue", "cancelled"])
def test_an_upload_that_has_ended_is_begun_anew_by_the_session_only(
    me, bearer, file, end
):
    word = begun(me, file)
    upload = UploadSession.objects.get()
    if end == "overdue":
        UploadSession.objects.update(expires_at="2020-01-01T00:00Z")
    else:
        me.delete(f"/uploads/{upload.pk}/")
    assert send(bearer, file, 0, word).status in REFUSED
    assert not UploadSession.objects.filter(state="receiving").exists()
    answer = send(me, file, 0, word)
    # What was deleted is deleted, to Fine Uploader.
    assert answer.status == (
        410 if isinstance(file, Fine) and end != "overdue" else 200
    )


def test_a_capability_for_chunks_ends_after_its_time(me, bearer, file, settings):
    word = begun(me, file)
    change(settings, CAPABILITIES_EXPIRE_IN=timedelta(seconds=-60))
    assert send(bearer, file, 1, word).status in REFUSED
    answer = send(me, file, 1, word)
    assert answer.status == 200
    change(settings, CAPABILITIES_EXPIRE_IN=timedelta(minutes=1))
    assert send(bearer, file, 2, answer.headers[HEADER]).status == 200


def test_what_takes_a_capability_back_does_so_for_forms(bearer, file, user):
    me = with_session(user)
    word = begun(me, file)
    User.objects.update(is_active=False)
    assert send(bearer, file, 1, word).status in REFUSED
    User.objects.update(is_active=True)
    assert send(bearer, file, 1, word).status == 200
    user.set_password("another")
    user.save()
    assert send(bearer, file, 2, word).status in REFUSED


def test_the_policy_is_asked_of_each_chunk_in_a_form(me, bearer, file, settings):
    word = begun(me, file)
    policies(settings, default={"anonymous": False, "max_size": 10})
    answer = send(bearer, file, 1, word)
    is_visitor = UploadSession.objects.get().owner.startswith("session:")
    assert (answer.status != 200) == is_visitor


MALFORMED = {
    "cut": lambda body: body[:-20],
    "no file": lambda body: body[:200],
    "no boundary": lambda body: body.replace(b"--", b"-_"),
    "longer": lambda body: body.replace(DATA[SIZE : SIZE * 2], DATA),
}


@pytest.mark.parametrize("how", MALFORMED)
def test_both_ways_refuse_a_form_in_the_same_words(me, bearer, file, ways, how):
    word = begun(me, file)
    asked = file.request(1 if isinstance(file, Fine) else 2)
    asked["body"] = MALFORMED[how](asked["body"])
    long = me.request(**asked)
    short = bearer.request(**asked | {"headers": asked["headers"] | {HEADER: word}})
    assert ways[-2:] == ["long", "short"]
    assert 400 <= short.status < 600
    assert (short.status, short.json()) == (long.status, long.json())
    assert UploadSession.objects.get().received == SIZE
