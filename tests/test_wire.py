"""What goes wrong below HTTP, on a real server's socket: smuggled requests."""

from __future__ import annotations

import socket

import pytest

from .client import Client
from .live import LiveSite

pytestmark = pytest.mark.once

SMUGGLED = b"GET /my-uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

# What is sent, and how often it may be answered: what follows a body of which nobody
# knows the end must not be taken for a request.
SHAPES = {
    "a length and chunks": (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED
    ),
    "chunks and a length": (
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED
    ),
    "two lengths": b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + SMUGGLED,
    "a list of lengths": b"Content-Length: 0, 44\r\n\r\n" + SMUGGLED,
    "a length with a sign": b"Content-Length: +0\r\n\r\n" + SMUGGLED,
    "a negative length": b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a hexadecimal length": b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
    "a full-width length": "Content-Length: ０\r\n\r\n".encode() + SMUGGLED,
    "a length of nothing": b"Content-Length: \r\n\r\n" + SMUGGLED,
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a coding after chunked": (
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED
    ),
    "a space before the colon": (
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED
    ),
    "a folded header": b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
    "a chunk size with a sign": (
        b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n" + SMUGGLED
    ),
    "a chunk size that is none": (
        b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n" + SMUGGLED
    ),
    "a chunk size without end": (
        b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nhello" + SMUGGLED
    ),
    "a chunk longer than it says": (
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n" + SMUGGLED
    ),
    "a NUL in a header": b"X-A: \0\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
}


@pytest.fixture(scope="module")
def site(site_templates, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wire")
    site_templates.sqlite(folder)
    site = LiveSite(folder).start()
    yield site
    site.kill()


def spoken(site: LiveSite, data: bytes) -> bytes:
    """Send bytes and say that no more come; return all that is answered."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while more := line.recv(65536):
                said += more
        except ConnectionResetError:
            pass
    return said


def statuses(said: bytes) -> list[int]:
    lines = said.split(b"\r\n")
    return [int(line.split()[1]) for line in lines if line.startswith(b"HTTP/1.1 ")]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "line",
    [
        b"POST /uploads/tus/ HTTP/1.1\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 5\r\n",
        b"PUT /uploads/s3/demo-bucket/k HTTP/1.1\r\n",
    ],
    ids=["tus", "s3"],
)
def test_a_body_without_a_certain_end_ends_the_connection(site, line, shape):
    before = site.sql("SELECT count(*) FROM resumable_uploads_uploadsession")
    said = spoken(site, line + b"Host: 127.0.0.1\r\n" + SHAPES[shape])
    found = statuses(said)
    # What is refused of the body itself is told after an answer that needed none of it.
    assert len(found) <= 1 or found[1:] == [400], found
    assert not [status for status in found if status >= 500 and status != 501], found
    assert b"My uploads" not in said
    after = site.sql("SELECT count(*) FROM resumable_uploads_uploadsession")
    assert after == before or found[0] == 201


def test_a_proper_request_on_such_a_line_is_answered(site):
    lines = b"Tus-Resumable: 1.0.0\r\nUpload-Length: 5\r\nContent-Length: 0\r\n\r\n"
    head = b"POST /uploads/tus/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    assert statuses(spoken(site, head + lines + SMUGGLED)) == [201, 200]


@pytest.mark.parametrize(
    "kind",
    ["a; x*=nope''%41", "a/b; charset=hex", "a/b; charset=idna", "a; x*=\u00e9''%41"],
)
def test_a_content_type_that_django_cannot_read_is_refused(site, kind):
    with Client(site.url) as me:
        answer = me.request("POST", "/uploads/?a=%41", b"{}", {"Content-Type": kind})
        assert answer.status == 400
        answer = me.request("GET", "/?a=%41", headers={"Content-Type": kind})
        assert answer.status == 400
    assert "Traceback" not in site.log()


def test_a_body_that_is_compressed_is_stored_as_it_came(site):
    """Nothing here unpacks anything, so no bomb goes off."""
    bomb = bytes.fromhex("1f8b08000000000002ff") + b"\0" * 90
    with Client(site.url) as me:
        me.get("/upload/")
        said = {"filename": "a.bin", "size": len(bomb)}
        upload = me.post("/uploads/", said).json()
        url = f"{upload['url']}chunks/0/"
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/gzip"}
        assert me.request("PUT", url, bomb, headers).status == 201
        assert me.get(f"{upload['url']}file/").body == bomb
