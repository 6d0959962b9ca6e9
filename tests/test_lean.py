"""The short way of requests that bring bytes: what it answers, and who may take it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, re_path
from django.utils import timezone
from rest_framework.permissions import IsAuthenticated

from resumable_uploads.models import UploadSession
from resumable_uploads.owners import BEARER
from resumable_uploads.protocols import ietf, lean, tus
from resumable_uploads.protocols.base import UploadView
from resumable_uploads.protocols.rest import ChunkView

from . import tus as speech
from .rest import policies, some_bytes
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]

DATA = some_bytes(100)
STRANGERS = {"capability_urls": True, "downloadable": True}

urlpatterns = [
    path("uploads/", include("resumable_uploads.urls")),
    path("<slug:tenant>/uploads/", include("resumable_uploads.urls", namespace="own")),
    re_path(r"^uploads/tus(?=/|$)", include(tus.urls())),
    re_path(r"^uploads/ietf(?=/|$)", include(ietf.urls())),
]


@pytest.fixture(autouse=True)
def for_strangers(settings):
    policies(settings, default=STRANGERS)


@pytest.fixture
def stranger() -> Visitor:
    """A client that has no cookie, as programs have none."""
    visitor = Visitor(has_token=False)
    visitor.client.cookies.clear()
    return visitor


@pytest.fixture
def ways(monkeypatch) -> list[str]:
    """Which way each request went."""
    taken: list[str] = []
    short, long = UploadView._dispatch_lean, UploadView.initial

    def dispatch_lean(self: Any, *args: Any, **kwargs: Any) -> Any:
        taken.append("short")
        return short(self, *args, **kwargs)

    def initial(self: Any, *args: Any, **kwargs: Any) -> None:
        taken.append("long")
        long(self, *args, **kwargs)

    monkeypatch.setattr(UploadView, "_dispatch_lean", dispatch_lean)
    monkeypatch.setattr(UploadView, "initial", initial)
    return taken


def opened(me: Visitor) -> tuple[str, dict[str, str]]:
    about = {"filename": "a.bin", "size": 900, "chunk_size": 100}
    answer = me.post("/uploads/", about)
    return answer.json()["url"], {lean.HEADER: answer.headers[lean.HEADER]}


def test_who_has_no_cookie_goes_on_by_the_url_without_a_session(stranger, ways):
    url = speech.create(stranger, 200)
    with CaptureQueriesContext(connection) as asked:
        answer = speech.patch(stranger, url, 0, DATA)
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "100")
    assert ways[-1] == "short"
    assert "session_key" not in " ".join(query["sql"] for query in asked)
    assert speech.patch(stranger, url, 100, DATA).status == 204
    assert UploadSession.objects.get().state == "complete"


def test_who_has_no_cookie_opens_an_upload_without_a_session(stranger, ways):
    with CaptureQueriesContext(connection) as asked:
        answer = speech.post(stranger, DATA, Upload_Length=200)
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, "100")
    assert ways == ["short"]
    assert "session_key" not in " ".join(query["sql"] for query in asked)
    assert "Set-Cookie" not in answer.headers
    assert UploadSession.objects.get().owner == BEARER.key


def test_where_a_session_is_to_be_begun_it_is_on_the_long_way(stranger, ways, settings):
    policies(settings, default=STRANGERS | {"capability_urls": False})
    answer = speech.post(stranger, DATA, Upload_Length=200)
    assert (answer.status, ways) == (201, ["short", "long"])
    assert "sessionid" in stranger.client.cookies
    upload = UploadSession.objects.get()
    assert upload.owner.startswith("session:")
    assert upload.received == 100


def test_who_has_to_log_in_opens_nothing(stranger, settings):
    policies(settings, default={"anonymous": False})
    assert speech.post(stranger, Upload_Length=200).status == 403
    assert not UploadSession.objects.exists()


def test_no_upload_is_opened_by_the_capability_of_another(stranger, ways):
    _, proof = opened(Visitor())
    assert speech.post(stranger, Upload_Length=200, **proof).status == 201
    assert ways[-1] == "long"
    newest = UploadSession.objects.latest("created_at")
    assert (newest.protocol, newest.owner) == ("tus", BEARER.key)


@pytest.mark.parametrize("method", ["FOO", "GET", "DELETE"])
def test_another_method_than_that_of_the_request_takes_the_long_way(
    stranger, ways, method
):
    url = speech.create(stranger, 200)
    for address, sent_by in [(url, "PATCH"), (speech.URL, "POST")]:
        sent = speech.V1 | {"X-HTTP-Method-Override": method}
        answer = stranger.request(sent_by, address, b"", sent)
        assert answer.status in (204, 404, 405)
        assert ways[-1] == "long"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"Upload-Length": "100"} | speech.metadata(filename="\u00fc.bin"),
        {"Upload-Defer-Length": "1"},
        {"Upload-Length": "100", "Upload-Concat": "partial"},
        {"Upload-Length": "100", "Tus-Resumable": "0.2.2"},
        {"Upload-Length": "-1"},
        {"Upload-Length": "100", "Upload-Defer-Length": "1"},
        {"Upload-Length": "100", "Upload-Metadata": "filename \u00fc"},
        {"Upload-Length": "100", "Upload-Metadata": "a" * 9999},
        {"Upload-Length": "100", "Upload-Concat": "whole"},
        {"Upload-Length": "100", "Origin": "https://evil.example"},
        {"Upload-Length": "100", "Content-Type": "text/plain; charset=no"},
        {"Upload-Length": str(2**62)},
    ],
)
def test_both_ways_answer_who_opens_an_upload_in_the_same_words(stranger, ways, said):
    sent = speech.V1 | {"Content-Type": ""} | said
    short = stranger.request("POST", speech.URL, b"", sent)
    long = stranger.request("POST", speech.URL, b"", sent | {"Cookie": "a=b"})
    assert ways == ["short", "long"]
    assert (short.status, short.body) == (long.status, long.body)
    # Of two uploads each has its own URL and its own time, and what else may be asked
    # is the REST framework's to say.
    its_own = {"Location", "Upload-Expires", "Allow"}
    for name in short.headers.keys() | long.headers.keys():
        if name not in NOT_SAID | its_own:
            assert short.headers.get(name) == long.headers.get(name), name
    assert ("Location" in short.headers) == ("Location" in long.headers)


def test_a_cookie_or_a_login_is_looked_at_on_the_long_way(stranger, ways):
    url = speech.create(stranger, 200)
    speech.patch(stranger, url, 0, b"1", Authorization="Basic Og==")
    assert ways[-1] == "long"
    speech.patch(stranger, url, 1, b"1", Cookie="sessionid=none")
    assert ways[-1] == "long"


def test_no_stranger_reaches_what_belongs_to_somebody(stranger, settings):
    me = Visitor(User.objects.create_user("alice"))
    url = speech.create(me, 200)
    answer = speech.patch(stranger, url, 0, DATA)
    assert answer.status == 404
    mine = speech.create(stranger, 200)
    policies(settings, default=STRANGERS | {"capability_urls": False})
    assert speech.patch(stranger, mine, 0, DATA).status == 404
    assert not UploadSession.objects.filter(received__gt=0).exists()


def test_where_a_login_is_asked_for_no_stranger_gets_in(stranger, ways, monkeypatch):
    url = speech.create(stranger, 200)
    monkeypatch.setattr(tus.UploadView, "permission_classes", [IsAuthenticated])
    assert speech.patch(stranger, url, 0, DATA).status == 403
    assert ways[-1] == "long"


def test_a_capability_that_does_not_let_in_is_none(ways, monkeypatch):
    url, proof = opened(Visitor())
    monkeypatch.setattr(ChunkView, "permission_classes", [IsAuthenticated])
    # It is a visitor's, and its holder has a login: who asks is known by that alone.
    alice = Visitor(User.objects.create_user("alice"))
    answer = alice.put(f"{url}chunks/0/", DATA, **proof)
    assert (answer.status, ways[-1]) == (404, "long")
    assert not UploadSession.objects.filter(received__gt=0).exists()


def test_a_page_of_another_site_is_refused_on_the_short_way_too(stranger, ways):
    url = speech.create(stranger, 200)
    answer = speech.patch(stranger, url, 0, DATA, Origin="https://evil.example")
    assert (answer.status, ways[-1]) == (403, "short")
    assert answer.body.startswith(b"ERR_ORIGIN_NOT_ALLOWED")
    assert not UploadSession.objects.get().received


def test_a_page_that_is_let_in_can_read_the_answer(stranger, ways, settings):
    origin = "https://app.example.org"
    settings.RESUMABLE_UPLOADS = settings.RESUMABLE_UPLOADS | {
        "CORS_ORIGINS": (origin,)
    }
    url = speech.create(stranger, 200)
    answer = speech.patch(stranger, url, 0, DATA, Origin=origin)
    assert (answer.status, ways[-1]) == (204, "short")
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "Upload-Offset" in answer.headers["Access-Control-Expose-Headers"]


# What comes from below the middleware: of sessions, languages and frames.
NOT_SAID = {"Set-Cookie", "Vary", "Content-Language", "X-Frame-Options"}


@pytest.mark.parametrize(
    "said",
    [
        {"Tus-Resumable": "0.2.2"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/offset+octet-stream; charset=no"},
        {"Upload-Offset": "7"},
        {"Upload-Offset": "-1"},
        {"Upload-Offset": ""},
        {"Upload-Length": "50"},
        {"Upload-Length": "many"},
        {"Upload-Checksum": "sha1 AAAA"},
        {"Upload-Checksum": "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        {"Upload-Checksum": "rot13 AAAA"},
        {"Origin": "http://["},
    ],
)
def test_both_ways_refuse_in_the_same_words(stranger, ways, said):
    url = speech.create(stranger, 200)
    sent = speech.V1 | speech.OFFSETS | {"Upload-Offset": "0"} | said
    short = stranger.request("PATCH", url, DATA, sent)
    long = stranger.request("PATCH", url, DATA, sent | {"Cookie": "a=b"})
    assert 400 <= short.status < 500
    assert (short.status, short.body) == (long.status, long.body)
    for name in short.headers.keys() | long.headers.keys():
        if name not in NOT_SAID:
            assert short.headers.get(name) == long.headers.get(name), name
    assert not UploadSession.objects.get().received


@pytest.mark.parametrize(
    "said", [{}, {"Tus-Resumable": "0.2.2"}, {"Origin": "http://["}]
)
@pytest.mark.parametrize("which", ["there", "not there", "expired"])
def test_both_ways_tell_the_same_of_an_offset(stranger, ways, said, which):
    url = speech.create(stranger, 200)
    speech.patch(stranger, url, 0, DATA)
    if which == "not there":
        url = url[:-12] + "0" * 12
    if which == "expired":
        UploadSession.objects.update(expires_at=timezone.now())
    sent = speech.V1 | said
    short = stranger.request("HEAD", url, b"", sent)
    assert ways[-1] == "short"
    long = stranger.request("HEAD", url, b"", sent | {"Cookie": "a=b"})
    assert ways[-1] == "long"
    assert short.status == long.status
    for name in short.headers.keys() | long.headers.keys():
        # What else may be asked is the REST framework's to say.
        if name not in NOT_SAID | {"Allow"}:
            assert short.headers.get(name) == long.headers.get(name), name


@pytest.mark.parametrize(
    ("number", "body", "said"),
    [
        ("9", DATA, {}),
        ("x", DATA, {}),
        ("0", DATA[:50], {}),
        ("0", DATA + b"1", {}),
        ("0", DATA, {"Content-Digest": "sha-256=:AAAA:"}),
        ("0", DATA, {"Content-Digest": "nonsense"}),
    ],
    ids=["no such", "no number", "short", "long", "other digest", "no digest"],
)
def test_a_chunk_is_refused_in_the_same_words_with_and_without_a_capability(
    ways, number, body, said
):
    me = Visitor()
    url, proof = opened(me)
    long = me.put(f"{url}chunks/{number}/", body, **said)
    me.client.cookies.clear()
    short = me.put(f"{url}chunks/{number}/", body, **said | proof)
    assert ways[-1] == ("short" if number != "x" else ways[-1])
    assert 400 <= short.status < 500
    assert (short.status, short.json()) == (long.status, long.json())
    assert not UploadSession.objects.get().received


def test_both_ways_say_the_same_of_a_chunk(ways):
    me = Visitor()
    url, proof = opened(me)
    answers = [me.put(f"{url}chunks/{number}/", DATA) for number in (0, 0)]
    answers += [me.put(f"{url}chunks/{number}/", DATA, **proof) for number in (1, 1)]
    assert ways[-4:] == ["long", "long", "short", "short"]
    assert [answer.status for answer in answers] == [201, 200, 201, 200]
    for long, short in zip(answers[:2], answers[2:], strict=True):
        assert short.json() == long.json() | {"number": 1, "received": 200}
        for name in ("Content-Type", "Cache-Control", "X-Content-Type-Options"):
            assert short.headers[name] == long.headers[name]


def test_what_no_one_expected_is_one_and_the_same_error(ways, monkeypatch):
    me = Visitor()
    me.client.raise_request_exception = False
    url, proof = opened(me)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("resumable_uploads.engine.put_chunk", broken)
    assert me.put(f"{url}chunks/0/", DATA).status == 500
    assert me.put(f"{url}chunks/0/", DATA, **proof).status == 500
    assert ways == ["long", "long", "short"]


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_database_that_is_lost_is_no_mistake_of_the_server(monkeypatch, error):
    me = Visitor()
    url, proof = opened(me)

    def lost(*args: Any, **kwargs: Any) -> None:
        raise error("The connection is closed.")

    monkeypatch.setattr("resumable_uploads.statements.Statement.first", lost)
    answer = me.put(f"{url}chunks/0/", DATA, **proof)
    assert answer.status == 503
    assert answer.headers["Retry-After"]


def test_each_upload_is_told_from_others_whose_path_was_found_before(ways):
    me = Visitor()
    (url, proof), (other, others) = opened(me), opened(me)
    assert me.put(f"{url}chunks/3/", DATA, **proof).json()["number"] == 3
    assert me.put(f"{other}chunks/5", DATA, **others).json()["number"] == 5
    assert me.put(f"{url}chunks/4/", DATA, **proof).json()["number"] == 4
    assert me.patch(url, 0, DATA, **proof).status == 409
    assert "short" in ways
    uploads = UploadSession.objects.order_by("created_at")
    assert [upload.received for upload in uploads] == [200, 100]
    assert [me.get(one).json()["missing"] for one in (url, other)] == [
        [[0, 2], [5, 8]],
        [[0, 4], [6, 8]],
    ]


def test_what_a_mount_knows_is_not_taken_for_another_ones(settings):
    settings.ROOT_URLCONF = __name__
    lean._resolved_before.clear()
    pk = "00000000-0000-4000-8000-000000000000"
    for tenant in ("north", "south"):
        match = lean._resolved(f"/{tenant}/uploads/{pk}/chunks/7/", None)
        assert match.kwargs == {"tenant": tenant, "upload_id": pk, "number": "7"}
    assert not lean._resolved_before
    for number in ("7", "8"):
        match = lean._resolved(f"/uploads/{pk}/chunks/{number}/", None)
        assert match.kwargs == {"upload_id": pk, "number": number}
        assert match.captured_kwargs == match.kwargs
    assert lean._resolved(f"/uploads/{pk}/", None).url_name == "upload"
    assert lean._resolved(f"/elsewhere/{pk}/", None) is None
    assert len(lean._resolved_before) == 2


def test_of_other_paths_those_are_remembered_whose_view_is_given_nothing(settings):
    settings.ROOT_URLCONF = __name__
    lean._resolved_before.clear()
    for _ in range(2):
        assert lean._resolved("/uploads/", None).kwargs == {}
        assert lean._resolved("/north/uploads/", None).kwargs == {"tenant": "north"}
        assert lean._resolved("/south/uploads/", None).kwargs == {"tenant": "south"}
        assert lean._resolved("/elsewhere/", None) is None
    assert len(lean._resolved_before) == 1


def test_where_uploads_are_opened_is_not_taken_for_one_of_them(settings):
    settings.ROOT_URLCONF = __name__
    lean._resolved_before.clear()
    pk = "00000000-0000-4000-8000-000000000000"
    for _ in range(2):
        assert lean._resolved("/uploads/", None).url_name == "uploads"
        assert lean._resolved(f"/uploads/{pk}", None).kwargs == {"upload_id": pk}
        assert lean._resolved("/uploads/", None).kwargs == {}
        assert lean._resolved("/uploads/other", None).kwargs == {"upload_id": "other"}
    assert len(lean._resolved_before) == 2
