"""tus on a real server, byte by byte: each clause, cuts, stalls, ends."""

from __future__ import annotations

import datetime
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from . import processes, tus
from .client import Answer, Client, RawRequest
from .live import LiveSite, SiteTemplates
from .rest import sha256, some_bytes
from .test_live_rest import wait_until_arrived

DATA = some_bytes(4_000_000)
BODY = b"hello"
SHA1 = "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00="
WRONG = "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA="
KIND = "application/offset+octet-stream"


@pytest.fixture(scope="module")
def site(
    site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSite]:
    """A site that records what came soon after a pause, and is slow to give up."""
    folder = tmp_path_factory.mktemp("site")
    site_templates.sqlite(folder)
    site = LiveSite(folder, uploads=quick(stall=30)).start()
    yield site
    site.kill()


def quick(stall: float) -> dict[str, Any]:
    policy = {"downloadable": True, "capability_urls": True, "max_size": 100_000_000}
    policy |= {"quota": None, "max_open": None}
    return {
        "IDLE_FLUSH": datetime.timedelta(seconds=0.3),
        "STALL_TIMEOUT": datetime.timedelta(seconds=stall),
        "POLICIES": {"default": policy},
        "CORS_ORIGINS": ["https://app.example"],
        "FSYNC": "never",
    }


@pytest.fixture
def me(site: LiveSite) -> Iterator[Client]:
    with Client(site.url) as client:
        client.cookies = {"csrftoken": ""}
        yield client


# A walk through the specification, in the words of the wire


@dataclass
class Step:
    """A request, and what the specification wants of its answer."""

    clause: str
    head: str
    status: int
    body: bytes = b""
    # Headers of the answer; None: must not be there; "...": whatever it is.
    wants: dict[str, str | None] = field(default_factory=dict)


V = "Tus-Resumable: 1.0.0"
FRESH = {"Upload-Offset": "0", "Cache-Control": "no-store", "Upload-Length": "10"}
NO_OFFSET: dict[str, str | None] = {"Upload-Offset": None}
# "{u}" is an upload of 10 bytes that has none, "{e}" one that has 5, "{d}" one of
# deferred length, "{b}" one such that has 5, "{p}" a finished partial of 5, "{q}" an
# unfinished one, "{s}" a stranger's, "{f}" a final, "{c}" a complete one of 5, "{z}"
# one of none, "{x}" one whose time is up, "{y}" a finished partial whose time is up,
# "{t}" one that was deleted.
WALK = [
    Step("HEAD tells the offset, also 0", f"HEAD {{u}}\n{V}", 200, wants=FRESH),
    Step(
        "HEAD tells the length", f"HEAD {{e}}\n{V}", 200, wants={"Upload-Length": "10"}
    ),
    Step("HEAD of nothing", f"HEAD {tus.URL}x\n{V}", 404, wants=NO_OFFSET),
    Step(
        "PATCH appends",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}",
        204,
        BODY,
        {"Upload-Offset": "5"},
    ),
    Step(
        "PATCH of another type",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0\nContent-Type: text/plain",
        415,
        BODY,
    ),
    Step(
        "PATCH at another offset",
        f"PATCH {{e}}\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}",
        409,
        BODY,
        {"Upload-Offset": "5"},
    ),
    Step(
        "PATCH of nothing",
        f"PATCH {tus.URL}x\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}",
        404,
        BODY,
    ),
    Step(
        "PATCH without a length",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}\n"
        "Transfer-Encoding: chunked",
        204,
        b"5\r\nhello\r\n0\r\n\r\n",
        {"Upload-Offset": "5"},
    ),
    Step(
        "PATCH without a length, and with too much",
        f"PATCH {{e}}\n{V}\nUpload-Offset: 5\nContent-Type: {KIND}\n"
        "Transfer-Encoding: chunked",
        413,
        b"6\r\nhello!\r\n0\r\n\r\n",
    ),
    Step(
        "PATCH with too much",
        f"PATCH {{e}}\n{V}\nUpload-Offset: 5\nContent-Type: {KIND}",
        413,
        BODY + b"!",
    ),
    Step(
        "PATCH with an offset that is none",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0x0\nContent-Type: {KIND}",
        400,
        BODY,
    ),
    Step(
        "PATCH without an offset", f"PATCH {{u}}\n{V}\nContent-Type: {KIND}", 400, BODY
    ),
    Step("PATCH without a type", f"PATCH {{u}}\n{V}\nUpload-Offset: 0", 415, BODY),
    Step("a method that is none", f"PUT {{u}}\n{V}", 405, wants={"Allow": "..."}),
    Step(
        "OPTIONS tells versions, extensions and limits",
        f"OPTIONS {tus.URL}\nTus-Resumable: 7",
        204,
        wants={
            "Tus-Version": "1.0.0",
            "Tus-Extension": "...",
            "Tus-Max-Size": "100000000",
            "Tus-Checksum-Algorithm": "sha1,sha256,md5,crc32",
        },
    ),
    Step(
        "OPTIONS of another origin",
        "OPTIONS {u}\nOrigin: https://app.example\n"
        "Access-Control-Request-Method: PATCH",
        204,
        wants={"Access-Control-Allow-Origin": "https://app.example"},
    ),
    Step(
        "another version",
        f"POST {tus.URL}\nTus-Resumable: 0.2.2\nUpload-Length: 1",
        412,
        wants={"Tus-Version": "1.0.0"},
    ),
    Step("no version", "DELETE {u}", 412, wants={"Tus-Version": "1.0.0"}),
    Step(
        "an overridden method",
        f"POST {{u}}\n{V}\nX-HTTP-Method-Override: PATCH\nUpload-Offset: 0\n"
        f"Content-Type: {KIND}",
        204,
        BODY,
        {"Upload-Offset": "5"},
    ),
    Step(
        "an overridden HEAD",
        f"POST {{e}}\n{V}\nX-HTTP-Method-Override: HEAD",
        200,
        wants={"Upload-Offset": "5"},
    ),
    Step(
        "creation",
        f"POST {tus.URL}\n{V}\nUpload-Length: 3\nUpload-Metadata: a YQ==,b",
        201,
        wants={"Location": "...", "Upload-Expires": "...", "Upload-Offset": "0"},
    ),
    Step(
        "creation without the slash",
        f"POST {tus.URL[:-1]}\n{V}\nUpload-Length: 3",
        201,
        wants={"Location": "..."},
    ),
    Step("creation of nothing", f"POST {tus.URL}\n{V}\nUpload-Length: 0", 201),
    Step("creation without a length", f"POST {tus.URL}\n{V}", 400),
    Step("creation of too much", f"POST {tus.URL}\n{V}\nUpload-Length: 100000001", 413),
    Step("a negative length", f"POST {tus.URL}\n{V}\nUpload-Length: -1", 400),
    Step("a deferred length", f"POST {tus.URL}\n{V}\nUpload-Defer-Length: 1", 201),
    Step("a wrong deferral", f"POST {tus.URL}\n{V}\nUpload-Defer-Length: 2", 400),
    Step(
        "HEAD while the length is deferred",
        f"HEAD {{d}}\n{V}",
        200,
        wants={"Upload-Defer-Length": "1", "Upload-Length": None},
    ),
    Step(
        "the length in a PATCH",
        f"PATCH {{d}}\n{V}\nUpload-Offset: 0\nUpload-Length: 5\nContent-Type: {KIND}",
        204,
        BODY,
        {"Upload-Offset": "5", "Upload-Expires": None},
    ),
    Step(
        "another length in a PATCH",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0\nUpload-Length: 9\nContent-Type: {KIND}",
        400,
        BODY,
    ),
    Step(
        "creation with upload",
        f"POST {tus.URL}\n{V}\nUpload-Length: 10\nContent-Type: {KIND}",
        201,
        BODY,
        {"Upload-Offset": "5", "Location": "..."},
    ),
    Step(
        "creation with a body of another type",
        f"POST {tus.URL}\n{V}\nUpload-Length: 10\nContent-Type: text/plain",
        201,
        BODY,
        {"Upload-Offset": "0"},
    ),
    Step(
        "creation with a checksum",
        f"POST {tus.URL}\n{V}\nUpload-Length: 5\nContent-Type: {KIND}\n"
        f"Upload-Checksum: {SHA1}",
        201,
        BODY,
        {"Upload-Offset": "5"},
    ),
    Step(
        "creation with a wrong checksum",
        f"POST {tus.URL}\n{V}\nUpload-Length: 5\nContent-Type: {KIND}\n"
        f"Upload-Checksum: {WRONG}",
        460,
        BODY,
    ),
    Step(
        "creation with more than fits",
        f"POST {tus.URL}\n{V}\nUpload-Length: 4\nContent-Type: {KIND}",
        413,
        BODY,
    ),
    Step(
        "expiration",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}",
        204,
        BODY,
        {"Upload-Expires": "..."},
    ),
    Step(
        "checksum",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}\n"
        f"Upload-Checksum: {SHA1}",
        204,
        BODY,
        {"Upload-Offset": "5"},
    ),
    Step(
        "a wrong checksum",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}\n"
        f"Upload-Checksum: {WRONG}",
        460,
        BODY,
    ),
    Step(
        "an unknown checksum",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}\n"
        "Upload-Checksum: sha9 YQ==",
        400,
        BODY,
    ),
    Step("termination", f"DELETE {{e}}\n{V}", 204),
    Step("termination of what is complete", f"DELETE {{c}}\n{V}", 204),
    *(
        Step(f"{method} after termination", f"{method} {{t}}\n{V}{more}", 404)
        for method, more in {
            "HEAD": "",
            "PATCH": f"\nUpload-Offset: 5\nContent-Type: {KIND}",
            "DELETE": "",
            "GET": "",
        }.items()
    ),
    Step("termination of nothing", f"DELETE {tus.URL}x\n{V}", 404),
    Step(
        "a partial says so",
        f"HEAD {{p}}\n{V}",
        200,
        wants={"Upload-Concat": "partial", "Upload-Offset": "5"},
    ),
    Step(
        "concatenation",
        f"POST {tus.URL}\n{V}\nUpload-Concat: final;{{p}} {{site}}{{p}}",
        201,
        wants={"Location": "..."},
    ),
    Step(
        "concatenation of what is not there",
        f"POST {tus.URL}\n{V}\nUpload-Concat: final;{tus.URL}x",
        404,
    ),
    Step(
        "concatenation of what is not finished",
        f"POST {tus.URL}\n{V}\nUpload-Concat: final;{{q}}",
        400,
    ),
    Step(
        "HEAD of a final",
        f"HEAD {{f}}\n{V}",
        200,
        wants={"Upload-Concat": "...", "Upload-Offset": "5", "Upload-Length": "5"},
    ),
    Step(
        "PATCH of a final",
        f"PATCH {{f}}\n{V}\nUpload-Offset: 5\nContent-Type: {KIND}",
        403,
        BODY,
    ),
    # Edges
    Step(
        "HEAD of an empty file",
        f"HEAD {{z}}\n{V}",
        200,
        wants={"Upload-Offset": "0", "Upload-Length": "0"},
    ),
    Step(
        "PATCH of an empty file with nothing",
        f"PATCH {{z}}\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}",
        204,
        wants={"Upload-Offset": "0"},
    ),
    *(
        Step(
            f"PATCH at {offset}, which is not the end",
            f"PATCH {{e}}\n{V}\nUpload-Offset: {offset}\nContent-Type: {KIND}",
            409,
            BODY,
            {"Upload-Offset": "5"},
        )
        for offset in (6, 10, 11, 2**63 - 1)
    ),
    Step(
        "the last PATCH again at its old offset",
        f"PATCH {{c}}\n{V}\nUpload-Offset: 0\nContent-Type: {KIND}",
        409,
        BODY,
        {"Upload-Offset": "5"},
    ),
    Step(
        "nothing at the end of what is complete",
        f"PATCH {{c}}\n{V}\nUpload-Offset: 5\nContent-Type: {KIND}",
        204,
        wants={"Upload-Offset": "5", "Upload-Expires": None},
    ),
    Step(
        "more at the end of what is complete",
        f"PATCH {{c}}\n{V}\nUpload-Offset: 5\nContent-Type: {KIND}",
        413,
        BODY,
    ),
    *(
        Step(
            f"a length of {length!r}",
            f"POST {tus.URL}\n{V}\nUpload-Length: {length}",
            400,
        )
        for length in ("1.5", "abc", "", "9" * 23, "+5", "0x5")
    ),
    Step(
        "both lengths",
        f"POST {tus.URL}\n{V}\nUpload-Length: 5\nUpload-Defer-Length: 1",
        400,
    ),
    Step(
        "the longest length there is",
        f"POST {tus.URL}\n{V}\nUpload-Length: {2**63 - 1}",
        413,
    ),
    Step(
        "a length that is said again",
        f"PATCH {{u}}\n{V}\nUpload-Offset: 0\nUpload-Length: 10\nContent-Type: {KIND}",
        204,
        BODY,
    ),
    Step(
        "a deferred length below what is there",
        f"PATCH {{b}}\n{V}\nUpload-Offset: 5\nUpload-Length: 4\nContent-Type: {KIND}",
        400,
    ),
    Step(
        "a deferred length above the maximum",
        f"PATCH {{d}}\n{V}\nUpload-Offset: 0\nUpload-Length: 100000001\n"
        f"Content-Type: {KIND}",
        413,
    ),
    *(
        Step(
            f"metadata like {said[:30]!r}",
            f"POST {tus.URL}\n{V}\nUpload-Length: 1\nUpload-Metadata: {said}",
            status,
        )
        for said, status in {
            "": 201,
            "key": 201,
            "key ": 201,
            "a YQ== , b Yg==": 201,
            "name Li4vLi4vZXRjL3Bhc3N3ZA==": 201,
            "filename AAEKDf/+": 201,
            "a ???": 400,
            "a YQ==,a Yg==": 400,
            "a b c": 400,
            "ä YQ==": 400,
            "a " + "YWFh" * 1250: 431,
            "a " + "YWFh" * 2500: 431,
        }.items()
    ),
    Step(
        "nothing at the end of a finished partial",
        f"PATCH {{p}}\n{V}\nUpload-Offset: 5\nContent-Type: {KIND}",
        204,
        wants={"Upload-Offset": "5"},
    ),
    Step(
        "concatenation of what is somebody else's",
        f"POST {tus.URL}\n{V}\nUpload-Concat: final;{{s}}",
        404,
    ),
    *(
        Step(
            f"concatenation by {said!r}",
            f"POST {tus.URL}\n{V}\nUpload-Concat: {said}",
            400,
        )
        for said in ("final;", "final", "foo", "Partial")
    ),
    Step(
        "creation with bytes of a final",
        f"POST {tus.URL}\n{V}\nUpload-Concat: final;{{p}}\nContent-Type: {KIND}",
        403,
        BODY,
    ),
    *(
        Step(f"{method} of what has expired", f"{method} {{x}}\n{V}{more}", 410)
        for method, more in {
            "HEAD": "",
            "PATCH": f"\nUpload-Offset: 0\nContent-Type: {KIND}",
            "DELETE": "",
        }.items()
    ),
    Step(
        "concatenation of what has expired",
        f"POST {tus.URL}\n{V}\nUpload-Concat: final;{{p}} {{y}}",
        410,
    ),
    Step(
        "an overridden method in small letters",
        f"POST {{u}}\n{V}\nX-HTTP-Method-Override: patch\nUpload-Offset: 0\n"
        f"Content-Type: {KIND}",
        204,
        BODY,
    ),
    Step(
        "HEAD in the place of DELETE",
        f"DELETE {{e}}\n{V}\nX-HTTP-Method-Override: HEAD",
        200,
        wants={"Upload-Offset": "5"},
    ),
    Step(
        "OPTIONS is not overridden",
        f"OPTIONS {{e}}\n{V}\nX-HTTP-Method-Override: DELETE",
        204,
        wants={"Tus-Version": "1.0.0"},
    ),
    Step(
        "the URL is of this host, whatever a stranger forwards",
        f"POST {tus.URL}\n{V}\nUpload-Length: 1\nX-Forwarded-Host: evil.example\n"
        "Forwarded: host=evil.example",
        201,
        wants={"Location": "{site}..."},
    ),
]


class Scene(dict[str, str]):
    """Uploads by their letters, each made when a step needs it."""

    def __init__(self, site: LiveSite, made: dict[str, Callable[[], str]]) -> None:
        super().__init__(site=site.url)
        self.made = made

    def __missing__(self, letter: str) -> str:
        self[letter] = self.made[letter]()
        return self[letter]


@pytest.fixture
def scene(me: Client, site: LiveSite) -> Scene:
    def final() -> str:
        part = tus.create(me, 5, BODY, Upload_Concat="partial")
        return tus.path(tus.post(me, Upload_Concat=f"final;{part}"))

    def expired(url: str) -> str:
        expire(site, url)
        return url

    def deleted() -> str:
        url = tus.create(me, 10, BODY)
        assert tus.delete(me, url).status == 204
        return url

    def foreign() -> str:
        with Client(site.url) as stranger:
            # Who has a session owns uploads; else the URL would be key enough.
            stranger.get("/upload/")
            return tus.create(stranger, 5, BODY, Upload_Concat="partial")

    made = {
        "u": lambda: tus.create(me, 10),
        "e": lambda: tus.create(me, 10, BODY),
        "d": lambda: tus.create(me, None),
        "b": lambda: tus.create(me, None, BODY),
        "p": lambda: tus.create(me, 5, BODY, Upload_Concat="partial"),
        "q": lambda: tus.create(me, 5, b"h", Upload_Concat="partial"),
        "s": foreign,
        "f": final,
        "c": lambda: tus.create(me, 5, BODY),
        "t": deleted,
        "z": lambda: tus.create(me, 0),
        "x": lambda: expired(tus.create(me, 10)),
        "y": lambda: expired(tus.create(me, 5, BODY, Upload_Concat="partial")),
    }
    return Scene(site, made)


@pytest.mark.parametrize("step", WALK, ids=lambda step: step.clause)
def test_the_specification(site, scene, step):
    answer = raw(site, step.head.format_map(scene), step.body)
    assert answer.status == step.status, answer.body
    if len(step.head) < 8190:
        # Of longer lines gunicorn itself says that they are too long.
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    for name, value in step.wants.items():
        if value and value.endswith("..."):
            begin = value.removesuffix("...").format_map(scene)
            assert answer.headers[name].startswith(begin)
        else:
            assert answer.headers[name] == value


def raw(site: LiveSite, head: str, body: bytes) -> Answer:
    """Send a request as it is written, and return the answer."""
    first, *lines = head.split("\n")
    method, path = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    if body and "Transfer-Encoding" not in headers:
        headers["Content-Length"] = str(len(body))
    with RawRequest("127.0.0.1", site.port, method, path, headers) as request:
        request.send(body)
        return request.answer()


def test_a_refusal_is_heard_before_a_long_body_is_sent(site, scene):
    """The server reads on for a while, since most clients listen only afterwards."""
    headers = {"Upload-Offset": "7", "Content-Type": KIND, "Content-Length": "3000000"}
    headers |= tus.V1
    with RawRequest("127.0.0.1", site.port, "PATCH", scene["u"], headers) as request:
        request.send(DATA[:3_000_000])
        assert request.answer().status == 409


def test_who_asks_whether_to_go_on_is_refused_all_the_same(site, scene):
    """gunicorn says 100 before anybody has looked at the request."""
    headers = {"Upload-Offset": "7", "Content-Type": KIND, "Content-Length": "5"}
    headers |= tus.V1 | {"Expect": "100-continue"}
    with RawRequest("127.0.0.1", site.port, "PATCH", scene["u"], headers) as request:
        request.send(BODY)
        # Python's client skips a 100.
        assert request.answer().status == 409


def test_a_refusal_of_too_much_is_heard_before_it_is_sent(site, scene):
    headers = tus.V1 | tus.OFFSETS | {"Upload-Offset": "0"}
    headers["Content-Length"] = "3000000"
    with RawRequest("127.0.0.1", site.port, "PATCH", scene["u"], headers) as request:
        request.send(DATA[:3_000_000])
        assert request.answer().status == 413


def test_a_deferred_length_does_not_let_in_more_than_the_maximum(site, scene):
    headers = tus.V1 | tus.OFFSETS | {"Upload-Offset": "0"}
    headers["Content-Length"] = "100000001"
    with RawRequest("127.0.0.1", site.port, "PATCH", scene["d"], headers) as request:
        request.send(BODY)
        request.half_close()
        assert request.answer().status == 413


def test_of_pieces_that_run_over_the_length_what_fits_is_kept(site, me, scene):
    headers = tus.V1 | tus.OFFSETS | {"Upload-Offset": "5"}
    headers["Transfer-Encoding"] = "chunked"
    with RawRequest("127.0.0.1", site.port, "PATCH", scene["e"], headers) as request:
        request.send(b"9\r\nhello1234\r\n0\r\n\r\n")
        assert request.answer().status == 413
    assert me.get(scene["e"]).body == BODY + b"hello"


def test_metadata_is_given_back_as_it_came(site, me):
    said = "filename AAEKDf/+Li4v,is_confidential,b YQ=="
    url = tus.create(me, 1, Upload_Metadata=said)
    assert tus.head(me, url).headers["Upload-Metadata"] == said


# Cuts and stalls


def begin(
    me: Client, url: str, offset: int = 0, length: int = len(DATA), **more: str
) -> RawRequest:
    headers = tus.V1 | tus.OFFSETS | {"Upload-Offset": str(offset)} | tus.named(more)
    return me.begin("PATCH", url, length, headers)


def wait_for_offset(site: LiveSite, url: str, offset: int) -> None:
    """Wait until so many bytes are recorded, without asking for the lease."""
    processes.wait_for(
        lambda: value(site, url, "received") == offset, 15, f"offset {offset}"
    )


def value(site: LiveSite, url: str, column: str) -> Any:
    pk = url.rpartition("/")[2].replace("-", "")
    query = f"SELECT {column} FROM resumable_uploads_uploadsession WHERE id = ?"
    return site.sql(query, pk)[0][0]


def expire(site: LiveSite, url: str) -> None:
    """Have the time of an upload be up."""
    pk = url.rpartition("/")[2].replace("-", "")
    past = "UPDATE resumable_uploads_uploadsession SET expires_at = ? WHERE id = ?"
    site.sql(past, "2020-01-01 00:00:00", pk)


FRAMED = tus.V1 | tus.OFFSETS | {"Upload-Offset": "0", "Transfer-Encoding": "chunked"}


@pytest.mark.parametrize("framed", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("after", [7, 5_000, 100_000])
def test_every_byte_before_a_cut_is_kept(site, me, after, how, framed):
    url = tus.create(me, len(DATA))
    if framed:
        request = RawRequest(me.host, me.port, "PATCH", url, FRAMED)
        request.send(b"%x\r\n" % len(DATA))
    else:
        request = begin(me, url)
    request.send(DATA[:after])
    wait_until_arrived(request)
    request.close() if how == "fin" else request.reset()
    wait_for_offset(site, url, after)
    assert tus.offset_of(me, url) == after
    assert tus.patch(me, url, after, DATA[after:]).status == 204
    assert sha256(me.get(url).body) == sha256(DATA)


def test_of_a_cut_body_with_a_checksum_nothing_is_kept(site, me):
    url = tus.create(me, len(DATA))
    with begin(me, url, **tus.checksum(DATA)) as request:
        request.send(DATA[:100_000])
        wait_until_arrived(request)
        # While it is on its way, it is none of the offset either.
        assert value(site, url, "received") == 0
        request.half_close()
        assert request.answer().status == 400
    assert tus.offset_of(me, url) == 0


def test_a_second_patch_at_the_same_offset_ends_the_first(site, me):
    url = tus.create(me, len(DATA))
    with begin(me, url) as hanging:
        hanging.send(DATA[:100_000])
        wait_for_offset(site, url, 100_000)
        assert tus.patch(me, url, 0, DATA).status == 409, "it is not where that begins"
        assert tus.patch(me, url, 100_000, DATA[100_000:]).status == 204
        hanging.send(DATA[100_000:])
        assert hanging.answer().status in (400, 409)
    assert sha256(me.get(url).body) == sha256(DATA)


def test_a_client_that_stalls_is_given_up_and_its_bytes_are_kept(make_live_site):
    site = make_live_site(uploads=quick(stall=1))
    with Client(site.url) as me:
        me.cookies = {"csrftoken": ""}
        urls = [tus.create(me, len(DATA)) for _ in range(2)]
        counted = begin(me, urls[0])
        counted.send(DATA[:5000])
        chunked = RawRequest(me.host, me.port, "PATCH", urls[1], FRAMED)
        chunked.send(b"1388\r\n" + DATA[:5000])
        for url, request in zip(urls, (counted, chunked), strict=True):
            with request:
                answer = request.answer()
            assert (answer.status, answer.headers["Upload-Offset"]) == (500, "5000")
            assert answer.body.startswith(b"ERR_READ_TIMEOUT")
            assert tus.offset_of(me, url) == 5000


def test_a_client_that_comes_back_is_served_while_its_old_request_hangs(site, me):
    url = tus.create(me, len(DATA))
    with begin(me, url) as hanging:
        hanging.send(DATA[:100_000])
        wait_for_offset(site, url, 100_000)
        begun = time.monotonic()
        assert tus.offset_of(me, url) == 100_000
        assert tus.patch(me, url, 100_000, DATA[100_000:200_000]).status == 204
        # Long before the old one would be given up.
        assert time.monotonic() - begun < 15
        # Should the old one wake up, it is told.
        hanging.send(DATA[100_000:])
        answer = hanging.answer()
    assert answer.status == 400
    assert answer.body.startswith(b"ERR_UPLOAD_INTERRUPTED")
    assert tus.offset_of(me, url) == 200_000
    assert tus.patch(me, url, 200_000, DATA[200_000:]).status == 204
    assert sha256(me.get(url).body) == sha256(DATA)


def test_a_delete_ends_a_request_that_is_under_way(site, me):
    url = tus.create(me, len(DATA))
    with begin(me, url) as running:
        running.send(DATA[:100_000])
        wait_for_offset(site, url, 100_000)
        assert tus.delete(me, url).status == 204
        running.send(DATA[100_000:])
        assert running.answer().status in (404, 410)
    assert tus.head(me, url).status == 404
    pk = url.rpartition("/")[2]
    folders = site.data_dir.glob(f"media-staging/**/{pk}")
    processes.wait_for(lambda: not list(folders), 10, "nothing is left")


def test_eight_patches_at_once_have_one_winner(site, me):
    url = tus.create(me, len(DATA))
    bodies = [bytes([65 + number]) * len(DATA) for number in range(8)]

    def go(body: bytes) -> int:
        with Client(site.url) as client:
            return tus.patch(client, url, 0, body).status

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(go, bodies))
    assert statuses.count(204) == 1, statuses
    # Who was overtaken, and who came too late.
    assert set(statuses) <= {204, 400, 409}
    assert me.get(url).body in bodies


def test_a_patch_that_runs_outlives_the_time_of_its_upload(site, me):
    url = tus.create(me, len(DATA))
    with begin(me, url) as running:
        running.send(DATA[:100_000])
        wait_for_offset(site, url, 100_000)
        expire(site, url)
        running.send(DATA[100_000:])
        assert running.answer().status == 204
    assert sha256(me.get(url).body) == sha256(DATA)


def test_after_its_time_an_upload_is_gone_and_can_begin_anew(site, me):
    url = tus.create(me, len(DATA), DATA[:100_000])
    expire(site, url)
    answers = [tus.head(me, url), tus.patch(me, url, 100_000, DATA[100_000:])]
    answers += [tus.delete(me, url), tus.head(me, url)]
    assert [answer.status for answer in answers] == [410, 410, 410, 410]
    assert answers[1].body.startswith(b"ERR_UPLOAD_EXPIRED")
    assert "Upload-Offset" not in answers[0].headers
    folders = site.data_dir.glob(f"media-staging/**/{url.rpartition('/')[2]}")
    processes.wait_for(lambda: not list(folders), 10, "nothing is left")
    again = tus.create(me, len(DATA), DATA)
    assert sha256(me.get(again).body) == sha256(DATA)


# Ends


@pytest.fixture
def own_site(make_live_site: Any) -> LiveSite:
    # A busy machine may need longer than the few seconds that tests usually give.
    env = {"GRACEFUL_TIMEOUT": "12"}
    return make_live_site(uploads=quick(stall=30), env=env, preload=False)


def test_a_server_that_stops_keeps_what_came_and_says_so(own_site):
    """To clients that are silent, that send pieces, and that are sending just now."""
    with Client(own_site.url) as me:
        me.cookies = {"csrftoken": ""}
        urls = [tus.create(me, len(DATA)) for _ in range(3)]
        requests = [
            begin(me, urls[0]),
            RawRequest(me.host, me.port, "PATCH", urls[1], FRAMED),
            begin(me, urls[2]),
        ]
        requests[1].send(b"%x\r\n" % len(DATA))
        for request in requests:
            request.send(DATA[:100_000])
            wait_until_arrived(request)
        for url in (urls[0], urls[2]):
            wait_for_offset(own_site, url, 100_000)
        # Of pieces nothing is recorded while more of them may come.
        processes.wait_for(lambda: value(own_site, urls[1], "lease"), 15, "a lease")
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(own_site.stop)
            dribble(requests[2])
            answers = [request.answer(20) for request in requests]
            stopped.result()
        me.close()
        own_site.start()
        for url, request, answer in zip(urls, requests, answers, strict=True):
            request.close()
            assert answer.status == 503
            assert answer.body.startswith(b"ERR_SERVER_SHUTDOWN")
            assert answer.headers["Retry-After"]
            kept = int(answer.headers["Upload-Offset"])
            assert kept >= 100_000
            assert tus.offset_of(me, url) == kept
            assert tus.patch(me, url, kept, DATA[kept:]).status == 204
            assert sha256(me.get(url).body) == sha256(DATA)


def dribble(request: RawRequest) -> None:
    """Send on for as long as anybody listens."""
    request.socket.settimeout(0.05)
    for number in range(200):
        try:
            request.send(DATA[100_000 + 100 * number :][:100])
            request.socket.recv(1, socket.MSG_PEEK)
            return
        except TimeoutError:
            continue
        except OSError:
            return


def test_a_kill_loses_only_what_was_not_recorded(own_site):
    with Client(own_site.url) as me:
        me.cookies = {"csrftoken": ""}
        url = tus.create(me, len(DATA))
        with begin(me, url) as request:
            request.send(DATA[:1_000_000])
            wait_for_offset(own_site, url, 1_000_000)
            request.send(DATA[1_000_000:2_000_000])
            own_site.kill()
        own_site.start()
        me.close()
        offset = tus.offset_of(me, url)
        assert 1_000_000 <= offset <= 2_000_000
        assert tus.patch(me, url, offset, DATA[offset:]).status == 204
        assert sha256(me.get(url).body) == sha256(DATA)
