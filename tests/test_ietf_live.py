"""The IETF draft on a real server, byte by byte: its clauses, and 104."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from . import drafts
from .client import Client, RawRequest
from .live import LiveSite, SiteTemplates
from .rest import sha256, some_bytes
from .test_tus_live import Scene, Step, expire, quick, raw, wait_for_offset

DATA = some_bytes(1_000_000)
V = "Upload-Draft-Interop-Version: 8"
KIND = "Content-Type: application/partial-upload"
BODY = b"hello"
DIGEST = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
WRONG = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"
PROBLEM = {"Content-Type": "application/problem+json"}
RIGHT_OFFSET = {"Upload-Offset": "5", "Upload-Complete": "?0"}


@pytest.fixture(scope="module")
def site(
    site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSite]:
    folder = tmp_path_factory.mktemp("site")
    site_templates.sqlite(folder)
    site = LiveSite(folder, uploads=quick(stall=10)).start()
    yield site
    site.kill()


@pytest.fixture
def me(site: LiveSite) -> Iterator[Client]:
    with Client(site.url) as client:
        client.cookies = {"csrftoken": ""}
        yield client


# "{u}" is an upload of unknown length that has 5 bytes, "{k}" one of 10 that has 5,
# "{f}" a complete one of 5, "{g}" a cancelled one, "{i}" one that got too much,
# "{x}" one whose time is up.
APPEND = "Upload-Offset: 5\nUpload-Complete: ?0"
WALK = [
    Step("discovery", f"OPTIONS {drafts.URL}", 204, wants={"Upload-Limit": "..."}),
    Step(
        "creation, not all of it",
        f"POST {drafts.URL}\nUpload-Complete: ?0",
        201,
        BODY,
        {"Location": "...", "Upload-Limit": "...", "Upload-Complete": "?0"},
    ),
    Step(
        "creation by PUT",
        f"PUT {drafts.URL}\nUpload-Complete: ?0",
        201,
        BODY,
        {"Location": "..."},
    ),
    Step(
        "creation, careful",
        f"POST {drafts.URL}\nUpload-Complete: ?0\nUpload-Length: 5",
        201,
        wants={"Location": "...", "Upload-Offset": "0"},
    ),
    Step(
        "creation, all of it",
        f"POST {drafts.URL}\nUpload-Complete: ?1",
        201,
        BODY,
        {"Upload-Complete": "?1"},
    ),
    Step(
        "creation, of unknown length",
        f"POST {drafts.URL}\nUpload-Complete: ?1\nTransfer-Encoding: chunked",
        201,
        b"5\r\nhello\r\n0\r\n\r\n",
        {"Upload-Complete": "?1"},
    ),
    Step(
        "creation with lengths that do not agree",
        f"POST {drafts.URL}\nUpload-Complete: ?1\nUpload-Length: 6",
        400,
        BODY,
        PROBLEM,
    ),
    Step(
        "creation of too much",
        f"POST {drafts.URL}\nUpload-Complete: ?0\nUpload-Length: 100000001",
        413,
        wants=PROBLEM | {"Upload-Limit": "..."},
    ),
    Step(
        "offset retrieval",
        f"HEAD {{k}}\n{V}",
        204,
        wants=RIGHT_OFFSET
        | {
            "Upload-Length": "10",
            "Upload-Limit": "...",
            "Cache-Control": "no-store",
            "Location": None,
        },
    ),
    Step(
        "offset retrieval of unknown length",
        f"HEAD {{u}}\n{V}",
        204,
        wants=RIGHT_OFFSET | {"Upload-Length": None},
    ),
    Step(
        "offset retrieval of what is complete",
        f"HEAD {{f}}\n{V}",
        204,
        wants={"Upload-Complete": "?1", "Upload-Length": "5"},
    ),
    Step("offset retrieval of nothing", f"HEAD {drafts.URL}x\n{V}", 404),
    Step(
        "append",
        f"PATCH {{u}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?0",
        204,
        BODY,
        {"Upload-Complete": "?0", "Upload-Offset": "10"},
    ),
    Step(
        "append, the end",
        f"PATCH {{k}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?1",
        200,
        BODY,
        {"Upload-Complete": "?1"},
    ),
    Step(
        "append nothing, the end",
        f"PATCH {{u}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?1",
        200,
        wants={"Upload-Complete": "?1"},
    ),
    Step(
        "append at another offset",
        f"PATCH {{u}}\n{KIND}\nUpload-Offset: 4\nUpload-Complete: ?1",
        409,
        BODY,
        PROBLEM | RIGHT_OFFSET,
    ),
    Step(
        "append without an offset",
        f"PATCH {{u}}\n{KIND}\nUpload-Complete: ?1",
        400,
        BODY,
        PROBLEM,
    ),
    Step(
        "append without a word on completeness",
        f"PATCH {{u}}\n{KIND}\nUpload-Offset: 5",
        400,
        BODY,
        PROBLEM,
    ),
    Step(
        "append another type",
        "PATCH {u}\nContent-Type: text/plain\nUpload-Offset: 5\nUpload-Complete: ?0",
        415,
        BODY,
    ),
    Step(
        "append too much",
        f"PATCH {{k}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?0",
        400,
        BODY + b"!",
        PROBLEM,
    ),
    Step(
        "append to what is complete",
        f"PATCH {{f}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?0",
        400,
        BODY,
        PROBLEM,
    ),
    Step(
        "append the end again",
        f"PATCH {{f}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?1",
        200,
        wants={"Upload-Complete": "?1"},
    ),
    Step(
        "content with its digest",
        f"PATCH {{u}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?0\n"
        f"Content-Digest: {DIGEST}",
        204,
        BODY,
    ),
    Step(
        "content with another digest",
        f"PATCH {{u}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?0\n"
        f"Content-Digest: {WRONG}",
        400,
        BODY,
    ),
    Step(
        "a file with another digest",
        f"POST {drafts.URL}\nUpload-Complete: ?1\nRepr-Digest: {WRONG}",
        422,
        BODY,
        {"Upload-Complete": "?1"},
    ),
    Step(
        "a digest that is wanted",
        f"POST {drafts.URL}\nUpload-Complete: ?1\nWant-Repr-Digest: sha-256=1",
        201,
        BODY,
        {"Repr-Digest": DIGEST},
    ),
    Step("cancellation", f"DELETE {{u}}\n{V}", 204),
    Step(
        "creation by PATCH",
        f"PATCH {drafts.URL}\nUpload-Complete: ?0",
        201,
        BODY,
        {"Location": "...", "Upload-Offset": "5"},
    ),
    Step(
        "a completeness of another type is as good as none",
        f"POST {drafts.URL}\nUpload-Complete: 1\n{V}",
        400,
        BODY,
        PROBLEM,
    ),
    Step(
        "a length of another type is as good as none",
        f"POST {drafts.URL}\nUpload-Complete: ?0\nUpload-Length: a",
        201,
        BODY,
    ),
    Step(
        "append with a length that does not agree",
        f"PATCH {{k}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?0\n"
        "Upload-Length: 11",
        400,
        BODY,
        PROBLEM,
    ),
    Step(
        "append the end before the length",
        f"PATCH {{k}}\n{KIND}\nUpload-Offset: 5\nUpload-Complete: ?1",
        400,
        b"h",
        PROBLEM,
    ),
    Step("offset retrieval by GET", f"GET {{k}}\n{V}", 204, wants=RIGHT_OFFSET),
    Step("what is cancelled is not there any more", f"HEAD {{g}}\n{V}", 404),
    Step("append to nothing", f"PATCH {drafts.URL}x\n{KIND}\n{APPEND}", 404, BODY),
    Step("cancellation of nothing", f"DELETE {drafts.URL}x\n{V}", 404),
    *(
        Step(f"{method} of what has expired", f"{method} {{x}}\n{more}", 410, body)
        for method, more, body in (
            ("HEAD", V, b""),
            ("PATCH", f"{KIND}\n{APPEND}", BODY),
            ("DELETE", V, b""),
        )
    ),
    Step("offset retrieval of what has grown too much", f"HEAD {{i}}\n{V}", 404),
    Step(
        "append to what has grown too much",
        f"PATCH {{i}}\n{KIND}\n{APPEND}",
        404,
        BODY,
    ),
]


@pytest.fixture
def scene(site: LiveSite, me: Client) -> Scene:
    def cancelled() -> str:
        url = drafts.begin(me, BODY)
        drafts.delete(me, url)
        return url

    def invalid() -> str:
        url = drafts.begin(me, BODY, Upload_Length=6)
        drafts.append(me, url, 5, BODY)
        return url

    def expired() -> str:
        url = drafts.begin(me, BODY)
        expire(site, url)
        return url

    made = {
        "u": lambda: drafts.begin(me, BODY),
        "k": lambda: drafts.begin(me, BODY, Upload_Length=10),
        "f": lambda: drafts.path(drafts.create(me, BODY, ends=True)),
        "g": cancelled,
        "i": invalid,
        "x": expired,
    }
    return Scene(site, made)


@pytest.mark.parametrize("step", WALK, ids=lambda step: step.clause)
def test_the_draft(site, scene, step):
    answer = raw(site, step.head.format_map(scene), step.body)
    assert answer.status == step.status, answer.body
    for name, value in step.wants.items():
        if value == "...":
            assert answer.headers[name]
        else:
            assert answer.headers[name] == value


def test_the_problem_types_are_those_of_the_draft(site, scene):
    def problem(head: str) -> Any:
        return json.loads(raw(site, head.format_map(scene), BODY).body)

    kinds = "https://iana.org/assignments/http-problem-types#"
    found = problem(f"PATCH {{u}}\n{KIND}\nUpload-Offset: 4\nUpload-Complete: ?1")
    assert found["type"] == f"{kinds}mismatching-upload-offset"
    assert (found["expected-offset"], found["provided-offset"]) == (5, 4)
    found = problem(f"POST {drafts.URL}\nUpload-Complete: ?1\nUpload-Length: 6")
    assert found["type"] == f"{kinds}inconsistent-upload-length"


def test_an_offset_that_was_told_while_an_append_hangs_is_taken(site, me):
    url = drafts.begin(me)
    sent = drafts.V8 | drafts.PARTIAL | drafts.complete(True) | {"Upload-Offset": "0"}
    with me.begin("PATCH", url, len(DATA), sent) as hanging:
        hanging.send(DATA[:100_000])
        wait_for_offset(site, url, 100_000)
        assert drafts.offset_of(me, url) == 100_000
        answer = drafts.append(me, url, 100_000, DATA[100_000:], ends=True)
        assert (answer.status, answer.headers["Upload-Complete"]) == (200, "?1")
        hanging.send(DATA[100_000:])
        assert hanging.answer().status in (400, 409)
    assert sha256(me.get(url).body) == sha256(DATA)


@pytest.fixture(scope="module")
def telling(
    site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSite]:
    """A site that sends 104, which Python's own client would take for the answer."""
    folder = tmp_path_factory.mktemp("site")
    site_templates.sqlite(folder)
    uploads = quick(stall=10) | {"INTERIM_RESPONSES": True}
    site = LiveSite(folder, uploads=uploads).start()
    yield site
    site.kill()


@pytest.fixture
def listener(telling: LiveSite) -> Iterator[Client]:
    with Client(telling.url) as client:
        client.cookies = {"csrftoken": ""}
        yield client


def begin(me: Client, version: int) -> RawRequest:
    headers = {"Upload-Complete": "?1", "Upload-Draft-Interop-Version": str(version)}
    return me.begin("POST", drafts.URL, len(DATA), headers)


def test_the_url_is_told_before_the_body_is_read(telling, listener):
    """So that a first request can be resumed as well."""
    with begin(listener, 8) as request:
        told = request.socket.makefile("rb")
        lines = [line.strip() for line in iter(told.readline, b"\r\n")]
        request.send(DATA[:300_000])
        headers = dict(line.decode().split(": ", 1) for line in lines[1:])
        url = headers["Location"].removeprefix(telling.url)
        wait_for_offset(telling, url, 300_000)
        told.close()
    assert lines[0] == b"HTTP/1.1 104 Upload Resumption Supported"
    assert headers["Upload-Draft-Interop-Version"] == "8"
    assert headers["Upload-Limit"]
    assert drafts.offset_of(listener, url) == 300_000
    answer = drafts.append(listener, url, 300_000, DATA[300_000:], ends=True)
    assert answer.status == 200
    assert sha256(listener.get(url).body) == sha256(DATA)


def test_the_last_answer_names_the_same_url(listener):
    with begin(listener, 8) as request:
        told = request.socket.makefile("rb")
        interim = [line.strip() for line in iter(told.readline, b"\r\n")]
        request.send(DATA)
        final = [line.strip() for line in iter(told.readline, b"\r\n")]
        told.close()
    assert final[0].startswith(b"HTTP/1.1 201 ")
    assert set(interim) & set(final) >= {interim[1]}
    assert interim[1].startswith(b"Location: ")


@pytest.mark.parametrize("version", [5, 6, 7, 9])
def test_nothing_is_told_to_who_speaks_another_version(listener, version):
    with begin(listener, version) as request:
        request.send(DATA)
        assert request.answer().status == 201


def test_by_default_nothing_is_told(me):
    with begin(me, 8) as request:
        request.send(DATA)
        assert request.answer().status == 201
