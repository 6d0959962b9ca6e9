"""The native protocol on a real server: cuts, stalls, kills, memory."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import http.client
import io
import re
import shutil
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import processes
from .client import OCTETS, Client, RawRequest, content_digest
from .live import LiveSite, SiteTemplates
from .rest import UPLOADS, some_bytes

MIB = 1024 * 1024
REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "rest.md"
DATA = some_bytes(4_000_000)


@pytest.fixture(scope="module")
def site(
    site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSite]:
    """A demo site that records what came soon after a pause, and is slow to give up."""
    folder = tmp_path_factory.mktemp("site")
    site_templates.sqlite(folder)
    uploads = {
        "IDLE_FLUSH": datetime.timedelta(seconds=0.3),
        "STALL_TIMEOUT": datetime.timedelta(seconds=20),
        "FSYNC": "never",
    }
    site = LiveSite(folder, uploads=uploads).start()
    yield site
    site.kill()


@pytest.fixture
def me(site: LiveSite) -> Iterator[Client]:
    with Client(site.url) as client:
        yield client


def open_upload(me: Client, size: int | None = len(DATA), **said: Any) -> str:
    """Open an upload and return its path."""
    answer = me.post(UPLOADS, {"filename": "a.bin", "size": size} | said)
    assert answer.status == 201, answer.body
    return answer.json()["url"]


def get(me: Client, url: str) -> dict[str, Any]:
    """Return the upload as it is, without taking it from anybody."""
    return me.get(url).json()


def wait_for_offset(me: Client, url: str, offset: int) -> None:
    def is_there() -> bool:
        found = get(me, url)["offset"]
        assert found <= offset, "more than was sent"
        return found == offset

    processes.wait_for(is_there, 10, f"an offset of {offset}")


def wait_until_arrived(request: RawRequest) -> None:
    """Wait until all that was sent has reached the server's machine."""

    def is_empty() -> bool:
        unsent = fcntl.ioctl(request.socket, termios.TIOCOUTQ, bytes(4))
        return struct.unpack("i", unsent) == (0,)

    processes.wait_for(is_empty, 10, "what was sent has arrived")


def begin_patch(me: Client, url: str, offset: int = 0, length: int = len(DATA)):
    return me.begin("PATCH", url, length, {"Upload-Offset": str(offset)})


def begin_chunked(me: Client, method: str, url: str) -> RawRequest:
    headers = OCTETS | me.headers() | {"Transfer-Encoding": "chunked"}
    headers |= {"Upload-Offset": "0"}
    return RawRequest(me.host, me.port, method, url, headers)


def digest_of_file(me: Client, url: str) -> str:
    """Return the SHA-256 of the finished file, as it is downloaded."""
    processes.wait_for(lambda: get(me, url)["state"] == "complete", 10, "the file")
    answer = me.get(f"{url}file/")
    assert answer.status == 200
    return hashlib.sha256(answer.body).hexdigest()


def finish_and_check(me: Client, url: str, offset: int) -> None:
    """Send what is not there yet, and see that the file is right."""
    assert me.patch(url, offset, DATA[offset:]).status == 200
    assert digest_of_file(me, url) == hashlib.sha256(DATA).hexdigest()


# Cuts


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("after", [7, 5_000, 100_000, 3_000_000])
def test_every_byte_before_a_cut_is_kept(me, after, how):
    url = open_upload(me)
    request = begin_patch(me, url)
    request.send(DATA[:after])
    wait_until_arrived(request)
    request.close() if how == "fin" else request.reset()
    wait_for_offset(me, url, after)
    assert me.head(url).headers["Upload-Offset"] == str(after)
    finish_and_check(me, url, after)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("after", [7, 5_000, 100_000, 3_000_000])
def test_every_byte_before_a_cut_of_pieces_is_kept(me, after, how):
    url = open_upload(me)
    request = begin_chunked(me, "PATCH", url)
    # Of the last piece only one half comes.
    whole, rest = divmod(after, 65_536)
    framed = [DATA[number * 65_536 :][:65_536] for number in range(whole)]
    request.send(b"".join(b"10000\r\n%s\r\n" % piece for piece in framed))
    request.send(b"%x\r\n%s" % (2 * rest, DATA[whole * 65_536 : after]))
    wait_until_arrived(request)
    request.close() if how == "fin" else request.reset()
    wait_for_offset(me, url, after)
    finish_and_check(me, url, after)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_nothing_is_kept_of_a_chunk_that_was_cut(me, how):
    url = open_upload(me)
    request = me.begin("PUT", f"{url}chunks/0/", len(DATA))
    request.send(DATA[:3_000_000])
    wait_until_arrived(request)
    request.close() if how == "fin" else request.reset()
    assert me.put(f"{url}chunks/0/", DATA).status == 201
    assert digest_of_file(me, url) == hashlib.sha256(DATA).hexdigest()


def test_a_client_that_waits_is_told_that_its_body_was_cut(me):
    url = open_upload(me)
    with begin_patch(me, url) as request:
        request.send(DATA[:5_000])
        request.half_close()
        answer = request.answer()
    assert answer.status == 400
    found = answer.json()
    assert found["code"] == "truncated"
    assert (found["received"], found["offset"]) == (5_000, 5_000)


def test_nothing_is_kept_of_a_cut_body_with_a_digest(me):
    url = open_upload(me)
    headers = {"Upload-Offset": "0", "Content-Digest": content_digest(DATA)}
    with me.begin("PATCH", url, len(DATA), headers) as request:
        request.send(DATA[:3_000_000])
        request.half_close()
        assert request.answer().status == 400
    assert get(me, url)["offset"] == 0


# Stalls


def test_a_second_client_goes_on_while_the_first_one_hangs(site, me):
    url = open_upload(me)
    with begin_patch(me, url) as hanging, Client(site.url) as other:
        other.cookies = dict(me.cookies)
        hanging.send(DATA[:300_000])
        # What has come is there, though the line is still open.
        wait_for_offset(me, url, 300_000)
        begun = time.monotonic()
        assert other.head(url).headers["Upload-Offset"] == "300000"
        finish_and_check(other, url, 300_000)
        assert time.monotonic() - begun < 5
        # Should the first one wake up, it is told.
        hanging.send(DATA[300_000:])
        answer = hanging.answer()
    assert answer.status == 409
    assert answer.json()["code"] in ("not_receiving", "interrupted")
    assert digest_of_file(me, url) == hashlib.sha256(DATA).hexdigest()


def test_a_body_that_comes_with_pauses_is_one_body(me):
    url = open_upload(me)
    with begin_patch(me, url) as request:
        for start in range(0, 3_000_000, 1_000_000):
            request.send(DATA[start : start + 1_000_000])
            wait_for_offset(me, url, start + 1_000_000)
        request.send(DATA[3_000_000:])
        answer = request.answer()
    assert (answer.status, answer.json()["offset"]) == (200, len(DATA))
    assert digest_of_file(me, url) == hashlib.sha256(DATA).hexdigest()


def test_a_silent_client_is_given_up_and_keeps_what_it_sent(make_live_site):
    stalls = {"STALL_TIMEOUT": datetime.timedelta(seconds=0.5)}
    stalls["IDLE_FLUSH"] = datetime.timedelta(seconds=0.1)
    site = make_live_site(uploads=stalls)
    with Client(site.url) as me:
        url, other = open_upload(me), open_upload(me)
        with (
            begin_patch(me, url) as request,
            begin_chunked(me, "PATCH", other) as pieces,
        ):
            request.send(DATA[:5_000])
            pieces.send(b"1388\r\n" + DATA[:5_000])
            for answer in (request.answer(), pieces.answer()):
                assert answer.status == 400
                assert answer.json()["code"] == "truncated"
                assert answer.json()["offset"] == 5_000
        assert get(me, url)["offset"] == get(me, other)["offset"] == 5_000


# One connection, several requests


class Line:
    """A connection on which requests are written and answers read as they come."""

    def __init__(self, me: Client) -> None:
        self.me = me
        self.socket = me.begin("GET", "/uploads/limits/", 0).socket
        self.stream = self.socket.makefile("rb")
        assert self.answer()[0] == 200

    def head(self, method: str, path: str, **headers: str) -> bytes:
        sent = {"Host": f"{self.me.host}:{self.me.port}"} | OCTETS | self.me.headers()
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in sent.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def answer(self) -> tuple[int, bytes]:
        status = int(self.stream.readline().split()[1])
        headers = http.client.parse_headers(self.stream)
        return status, self.stream.read(int(headers.get("Content-Length") or 0))

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


@pytest.fixture
def line(me: Client) -> Iterator[Line]:
    line = Line(me)
    yield line
    line.close()


def framed(data: bytes) -> bytes:
    pieces = io.BytesIO(data)
    body = b""
    while piece := pieces.read(70_000):
        body += b"%x\r\n%s\r\n" % (len(piece), piece)
    return body + b"0\r\n\r\n"


BODIES = {
    "a stretch": lambda line, url, data: (
        line.head("PATCH", url, Upload_Offset="0", Content_Length=str(len(data))) + data
    ),
    "pieces": lambda line, url, data: (
        line.head("PATCH", url, Upload_Offset="0", Transfer_Encoding="chunked")
        + framed(data)
    ),
    "a chunk": lambda line, url, data: (
        line.head("PUT", f"{url}chunks/0/", Content_Length=str(len(data))) + data
    ),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("size", [10, 1_000_000])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_connection_is_good_for_the_next_request(me, line, body, size, at_once):
    url = open_upload(me, chunk_size=size, size=3 * size)
    first, second = BODIES[body](line, url, DATA[:size]), line.head("GET", url)
    # At once: the second one has arrived before the first one is answered.
    line.socket.sendall(first + second if at_once else first)
    assert line.answer()[0] in (200, 201)
    if not at_once:
        line.socket.sendall(second)
    status, found = line.answer()
    assert status == 200
    assert f'"received":{size},'.encode() in found


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_refused_request_leaves_a_good_connection(me, line, body, size):
    nobodys = "/uploads/00000000-0000-0000-0000-000000000000/"
    first = BODIES[body](line, nobodys, DATA[:size])
    line.socket.sendall(first + line.head("GET", UPLOADS))
    assert line.answer()[0] == 404
    assert line.answer()[0] == 200


# Refusals of large bodies


@pytest.mark.parametrize("refusal", ["404", "409", "403", "411 and more"])
def test_a_refusal_arrives_though_nobody_wanted_the_body(me, refusal):
    body = bytes(8 * MIB)
    url = open_upload(me, len(body))
    if refusal == "404":
        url = "/uploads/00000000-0000-0000-0000-000000000000/"
    elif refusal == "409":
        assert me.patch(url, 0, b"x").status == 200
    headers = {"Upload-Offset": "0"}
    if refusal == "403":
        headers["X-CSRFToken"] = "none"
    elif refusal == "411 and more":
        refusal, headers["Upload-Offset"] = "400", "none"
    # As most clients do: all of the body first, and only then a look at the answer.
    with me.begin("PATCH", url, len(body), headers) as request:
        request.send(body)
        answer = request.answer()
    assert answer.status == int(refusal)
    assert answer.json()["code"]


# Kills and memory


def test_a_killed_server_goes_on_where_it_was(make_live_site):
    site = make_live_site()
    sent, size = 40 * MIB, 64 * MIB
    data = some_bytes(MIB) * 64
    with Client(site.url) as me:
        url = open_upload(me, size)
        request = begin_patch(me, url, length=size)
        request.send(data[:sent])
        wait_until_arrived(request)
        site.kill()
        request.close()
    site.start()
    with Client(site.url) as again:
        again.cookies = dict(me.cookies)
        offset = int(again.head(url).headers["Upload-Offset"])
        assert sent - 16 * MIB <= offset <= sent
        assert again.patch(url, offset, data[offset:]).status == 200
        assert digest_of_file(again, url) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(("how", "times"), [("append", 128), ("pieces", 32)])
def test_memory_does_not_grow_with_the_file(site, me, how, times):
    block = some_bytes(4 * MIB)
    url = open_upload(me, len(block) * times)
    before = site.memory()
    if how == "append":
        request = begin_patch(me, url, length=len(block) * times)
        frame, end = block, b""
    else:
        request = begin_chunked(me, "PATCH", url)
        frame, end = b"%x\r\n%s\r\n" % (len(block), block), b"0\r\n\r\n"
    with request:
        for _ in range(times):
            request.send(frame)
        request.send(end)
        assert request.answer().json()["offset"] == len(block) * times
    assert site.memory() - before < 40 * MIB
    # And down again.
    size, digest = download(me, f"{url}file/")
    assert size == len(block) * times
    whole = hashlib.sha256()
    for _ in range(times):
        whole.update(block)
    assert digest == whole.hexdigest()
    assert site.memory() - before < 40 * MIB
    assert me.delete(url).status == 204


def download(me: Client, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(me.host, me.port, timeout=60)
    connection.request("GET", path, headers=me.headers())
    answer, digest, size = connection.getresponse(), hashlib.sha256(), 0
    while data := answer.read(MIB):
        digest.update(data)
        size += len(data)
    connection.close()
    return size, digest.hexdigest()


def test_asking_for_the_offset_makes_no_noise(site, me):
    url = open_upload(me)
    for path in (url, f"{url}file/", UPLOADS, "/uploads/nothing/"):
        assert me.head(path).body == b""
    assert me.get(url).status == 200
    assert "no-body response" not in site.log()


# Races


def test_eight_clients_at_one_offset_make_one_file(site, me):
    url = open_upload(me, 1_000_000)
    bodies = [bytes([number]) * 1_000_000 for number in range(8)]
    answers = []

    def append(body: bytes) -> None:
        with Client(site.url) as client:
            client.cookies = dict(me.cookies)
            answers.append(client.patch(url, 0, body).status)

    threads = [threading.Thread(target=append, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [409] * 7
    processes.wait_for(lambda: get(me, url)["state"] == "complete", 10, "the file")
    assert me.get(f"{url}file/").body in bodies


# The reference


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_the_examples_of_the_reference_work(site, tmp_path):
    examples = re.findall(r"```sh\n(.*?)```", REFERENCE.read_text(), re.S)
    script = "\n".join(examples).replace("http://127.0.0.1:8000", site.url)
    done = subprocess.run(
        ["bash", "-uc", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"state":"complete"') == 3
    assert "differ" not in done.stdout + done.stderr
