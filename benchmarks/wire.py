"""A client of HTTP/1.1 that costs next to nothing, so that the server is measured."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

MIB = 1024 * 1024
# Sent over and over: what is in it does not matter, that it is no run of zeros does.
BLOCK = memoryview(os.urandom(8 * MIB))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One kept-alive connection, with the headers that each request has."""

    def __init__(self, port: int) -> None:
        self.headers: dict[str, str] = {"Host": f"127.0.0.1:{port}"}
        self.cookies: dict[str, str] = {}
        # How many bytes of the last long body have left, and when the last one did.
        self.sent = 0
        self.left_at = 0.0
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self._sock = socket.create_connection(("127.0.0.1", self._port), timeout=120)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._sock.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Send a short request; names of headers are given with underscores."""
        self._begin(method, path, len(body), headers)
        if body:
            self._sock.sendall(body)
        return self._answer(has_body=method != "HEAD")

    def send(
        self,
        method: str,
        path: str,
        size: int,
        before: bytes = b"",
        after: bytes = b"",
        **headers: str,
    ) -> Answer:
        """Send so many bytes of the block, between the bounds of a form if need be."""
        self._begin(method, path, len(before) + size + len(after), headers)
        if before:
            self._sock.sendall(before)
        self.sent = 0
        while self.sent < size:
            self.sent += self._sock.send(BLOCK[: size - self.sent])
        if after:
            self._sock.sendall(after)
        self.left_at = time.monotonic()
        return self._answer()

    def _begin(
        self, method: str, path: str, length: int, headers: dict[str, str]
    ) -> None:
        lines = [f"{method} {path} HTTP/1.1"]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        known = self.headers | ({"Cookie": cookies} if cookies else {}) | named
        known["Content-Length"] = str(length)
        lines += [f"{name}: {value}" for name, value in known.items()]
        self._sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def _answer(self, has_body: bool = True) -> Answer:
        line = self._file.readline()
        if not line:
            raise ConnectionError("The server has closed the connection.")
        status = int(line.split()[1])
        headers = {}
        while text := self._file.readline().strip():
            name, _, value = text.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
            if name.lower() == "set-cookie":
                cookie, _, _ = value.strip().partition(";")
                key, _, word = cookie.partition("=")
                self.cookies[key] = word
        body = b""
        if has_body and status != 204:
            body = self._body(headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
            self._connect()
        return Answer(status, headers, body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "") != "chunked":
            return self._file.read(int(headers.get("content-length", 0)))
        pieces = []
        while size := int(self._file.readline(), 16):
            pieces.append(self._file.read(size))
            self._file.readline()
        self._file.readline()
        return b"".join(pieces)
