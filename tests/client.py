"""HTTP clients for the tests: one that behaves, and one that breaks off where told."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import http.client
import http.cookies
import json
import secrets
import socket
import string
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

Body = bytes | Iterable[bytes]


@dataclasses.dataclass
class Answer:
    """What a server answered; header names are found in any case."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A visitor of a site, with cookies, a CSRF token and one connection.

    Unlike a browser it follows no redirect and repeats nothing by itself.
    """

    def __init__(self, url: str, timeout: float = 60) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.timeout = timeout
        # Django takes any token that comes in both the cookie and the header.
        self.cookies = {"csrftoken": _token()}
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def request(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        An iterable body is sent with ``Transfer-Encoding: chunked``.
        """
        connection = self._connect()
        sent = self.headers() | dict(headers or {})
        is_chunked = body is not None and not isinstance(body, bytes)
        if is_chunked:
            sent["Transfer-Encoding"] = "chunked"
        try:
            connection.request(method, path, body, sent, encode_chunked=is_chunked)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except BaseException:
            self.close()
            raise
        self._keep_cookies(answer.headers)
        return answer

    def headers(self) -> dict[str, str]:
        """Return the headers by which the site knows this visitor."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": cookies, "X-CSRFToken": self.cookies["csrftoken"]}

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=_named(headers))

    def head(self, path: str) -> Answer:
        return self.request("HEAD", path)

    def delete(self, path: str) -> Answer:
        return self.request("DELETE", path)

    def post(self, path: str, data: Any = None) -> Answer:
        """Send data as JSON."""
        body = b"" if data is None else json.dumps(data).encode()
        return self.request("POST", path, body, {"Content-Type": "application/json"})

    def put(self, path: str, body: Body, **headers: str) -> Answer:
        return self.request("PUT", path, body, OCTETS | _named(headers))

    def patch(self, path: str, offset: int, body: Body, **headers: str) -> Answer:
        """Append bytes."""
        sent = OCTETS | {"Upload-Offset": str(offset)} | _named(headers)
        return self.request("PATCH", path, body, sent)

    def log_in(self, name: str, password: str = "") -> None:
        """Log in through the admin; the password is the name where none is given."""
        form = {"username": name, "password": password or name}
        boundary = "form-data-boundary"
        parts = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"'
            f"\r\n\r\n{value}\r\n"
            for field, value in form.items()
        )
        answer = self.request(
            "POST",
            "/admin/login/?next=/",
            f"{parts}--{boundary}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        assert answer.status == 302, f"{name} could not log in: {answer.status}"

    def begin(
        self,
        method: str,
        path: str,
        length: int,
        headers: Mapping[str, str] | None = None,
    ) -> RawRequest:
        """Send the head of a request that announces ``length`` bytes; the rest is
        for the caller to send, or not.
        """
        sent = OCTETS | self.headers() | {"Content-Length": str(length)}
        return RawRequest(
            self.host, self.port, method, path, sent | dict(headers or {})
        )

    def cut(
        self,
        method: str,
        path: str,
        body: bytes,
        after: int,
        how: str = "fin",
        headers: Mapping[str, str] | None = None,
    ) -> RawRequest:
        """Announce a body, send ``after`` bytes of it, and break off.

        ``how``: "fin" closes, "rst" resets the connection, "stall" keeps it open and
        silent. Return the request; a stalled one may be gone on with.
        """
        request = self.begin(method, path, len(body), headers)
        with request.closed_if_it_fails():
            request.send(body[:after])
        # What is on the way when a reset comes is lost; what the server has is not.
        time.sleep(0.3 if how == "rst" else 0)
        {"fin": request.close, "rst": request.reset, "stall": lambda: None}[how]()
        return request

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self.host, self.port, timeout=self.timeout
            )
        return self._connection

    def _keep_cookies(self, headers: http.client.HTTPMessage) -> None:
        for line in headers.get_all("Set-Cookie", []):
            for name, morsel in http.cookies.SimpleCookie(line).items():
                self.cookies[name] = morsel.value


class RawRequest:
    """One request on a socket of its own."""

    def __init__(
        self, host: str, port: int, method: str, path: str, headers: Mapping[str, str]
    ) -> None:
        self.method = method
        self.socket = socket.create_connection((host, port), timeout=60)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with self.closed_if_it_fails():
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.send("\r\n".join([*lines, "", ""]).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def closed_if_it_fails(self) -> Iterator[None]:
        """Leave no socket to whoever is not given the request."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        """Go away in good order (FIN)."""
        self.socket.close()

    def half_close(self) -> None:
        """Say that no more comes (FIN), and stay for the answer."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go away without a word (RST)."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def answer(self, timeout: float = 60) -> Answer:
        """Wait for the answer. Raise OSError or HTTPException when none comes."""
        self.socket.settimeout(timeout)
        response = http.client.HTTPResponse(self.socket, method=self.method)
        response.begin()
        return Answer(response.status, response.headers, response.read())


OCTETS = {"Content-Type": "application/octet-stream"}


def content_digest(data: bytes) -> str:
    """Return a Content-Digest header (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _token() -> str:
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(32))
