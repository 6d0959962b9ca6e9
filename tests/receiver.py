"""A receiver of webhooks: a real HTTP server in this process that keeps what comes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes that nobody has").decode()
# Instead of a status: to say nothing for long, or to say it letter by letter.
HANG, DRIBBLE = -1, -2


@dataclass
class Call:
    """A request that has come."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed_by(self, secret: str) -> bool:
        """Verify a signature by what Standard Webhooks says, and nothing of the app."""
        key = base64.b64decode(secret[len("whsec_") :])
        words = [self.headers["webhook-id"], self.headers["webhook-timestamp"]]
        signed = ".".join(words).encode() + b"." + self.body
        right = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        said = [one.split(",") for one in self.headers["webhook-signature"].split()]
        is_recent = abs(time.time() - int(words[1])) < 300
        return is_recent and ["v1", right] in said


class Receiver:
    """Answers with its statuses one after another, and then with 200.

    300 and more, below 400, come with a Location to another path.
    """

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.calls: list[Call] = []
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks?from=uploads"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.calls.append(Call(self.path, headers, body))
                receiver.answer(self)

            do_GET = do_POST

            def log_message(self, *args: Any) -> None:
                """Keep the output of the tests clean."""

        return Handler

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        status = self.statuses.pop(0) if self.statuses else 200
        if status == HANG:
            self.over.wait(20)
            return
        if status == DRIBBLE:
            self._dribble(handler)
            return
        handler.send_response(status)
        if 300 <= status < 400:
            handler.send_header("Location", "/elsewhere")
        handler.send_header("Content-Length", "9")
        handler.end_headers()
        handler.wfile.write(b"thank\0you")

    def _dribble(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.over.wait(0.05):
            try:
                handler.wfile.write(b"o")
            except OSError:
                return
