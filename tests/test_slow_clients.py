"""Clients that say nothing, or half of it, on a real server with two threads."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from .client import Client
from .live import LiveSite
from .test_nginx import snippet_for

pytestmark = pytest.mark.once

HALF_A_HEAD = b"GET /uploads/limits/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: o"
# The browser would say more; Django reads this body, and no upload's timeout applies.
HALF_A_FORM = (
    b"POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
    b"Cookie: csrftoken=%b\r\n\r\ncsrfmiddlewaretoken=" % (b"a" * 32)
)


@pytest.fixture(scope="module")
def site(site_templates, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    site_templates.sqlite(folder)
    env = {"WEB_WORKERS": "1", "WEB_THREADS": "2", "SILENCE_TIMEOUT": "1"}
    site = LiveSite(folder, env=env).start()
    yield site
    site.kill()


@contextlib.contextmanager
def lines(port: int, count: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    """Have connections on each of which something is said, and no more."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            line = socket.create_connection(("127.0.0.1", port), timeout=30)
            opened.append(stack.enter_context(line))
            line.sendall(said)
        yield opened


def is_served(url: str) -> bool:
    """Ask for a page, for half a minute at most."""
    client = Client(url, timeout=30)
    try:
        return client.get("/uploads/limits/").status == 200
    finally:
        client.close()


def ended(line: socket.socket) -> bytes:
    """Return what the server says before it ends a connection."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while more := line.recv(65536):
            said += more
    return said


def test_connections_on_which_nothing_is_said_hold_no_thread(site):
    """gunicorn alone has each of them hold one for five seconds."""
    with lines(site.port, 100):
        assert is_served(site.url)


def test_connections_between_two_requests_hold_no_thread(site):
    whole = HALF_A_HEAD + b"ne\r\n\r\n"
    with lines(site.port, 20, whole) as idle:
        for line in idle:
            assert line.recv(12) == b"HTTP/1.1 200"
        assert is_served(site.url)


@pytest.mark.parametrize("half", [HALF_A_HEAD, HALF_A_FORM], ids=["head", "form"])
def test_who_falls_silent_in_the_midst_of_a_request_is_hung_up_on(site, half):
    with lines(site.port, 3, half) as silent:
        assert is_served(site.url)
        assert not any(b" 200 " in ended(line) for line in silent)
    assert is_served(site.url)
    assert "Traceback" not in site.log()


def test_behind_nginx_half_a_head_does_not_reach_the_site(site, make_nginx):
    """Not even while somebody goes on to say a little from time to time."""
    nginx = make_nginx(snippet_for(site))
    with lines(nginx.port, 30, HALF_A_HEAD) as slow:
        for line in slow:
            line.sendall(b"n")
        assert is_served(nginx.url)
        for line in slow:
            line.sendall(b"e\r\n\r\n")
            assert line.recv(12) == b"HTTP/1.1 200"
