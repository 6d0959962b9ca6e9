"""The line between a browser and a site: watched, slowed down, broken off."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests import processes

STEP = 16 * 1024


@dataclass
class Sent:
    """A request that the browser sent; ``sent`` bytes of its body got through."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    status: int = 0

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", 0))


@dataclass
class Trap:
    """What happens to the next request that fits: once, and then no more."""

    fits: Callable[[Sent], bool]
    # Answer in place of the site.
    status: int = 0
    # Break off after so many bytes of the body.
    after: int | None = None
    # Break off when the site has answered.
    loses_answer: bool = False
    # Keep the answer, and the browser waiting.
    holds_answer: bool = False
    sprung: bool = False


class Line:
    """A proxy for one site. Browsers go to ``url``."""

    def __init__(self, port: int) -> None:
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[Sent] = []
        # Bytes per second of all requests together, or None.
        self.pace: float | None = None
        self._site_port = port
        self._traps: list[Trap] = []
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", self.port))
        # Or a chunk would be on the way at once, whatever the pace.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STEP)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # Closing alone does not wake up who waits for a connection.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    # What tests do with it

    def answer_once(self, status: int, fits: Callable[[Sent], bool]) -> Trap:
        return self._set(Trap(fits, status=status))

    def cut_once(self, after: int, fits: Callable[[Sent], bool]) -> Trap:
        return self._set(Trap(fits, after=after))

    def lose_answer_once(self, fits: Callable[[Sent], bool]) -> Trap:
        return self._set(Trap(fits, loses_answer=True))

    def hold_answer_once(self, fits: Callable[[Sent], bool]) -> Trap:
        return self._set(Trap(fits, holds_answer=True))

    def uploads(self) -> list[Sent]:
        """Return the requests that brought bytes of files."""
        return [request for request in self.requests if is_upload(request)]

    def sent(self) -> int:
        """Return how many bytes of request bodies got through."""
        return sum(request.sent for request in self.uploads())

    # The machinery

    def _set(self, trap: Trap) -> Trap:
        self._traps.append(trap)
        return trap

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._server.accept()
            except OSError:
                return
            connection = Connection(self, browser, self._site_port)
            threading.Thread(target=connection.run, daemon=True).start()

    def trap_for(self, request: Sent) -> Trap | None:
        with self._lock:
            for trap in self._traps:
                if trap.fits(request):
                    trap.sprung = True
                    self._traps.remove(trap)
                    return trap
        return None

    def take_time(self, size: int) -> None:
        if pace := self.pace:
            with self._lock:
                time.sleep(size / pace)


class Connection:
    """One connection of a browser, and the one to the site behind it."""

    def __init__(self, line: Line, browser: socket.socket, port: int) -> None:
        self.line = line
        self.browser = browser
        self.reader = browser.makefile("rb")
        self.port = port
        self.site: socket.socket | None = None
        self.request: Sent | None = None
        self.trap: Trap | None = None

    def run(self) -> None:
        # ValueError: the other direction has closed what this one reads from.
        with contextlib.suppress(OSError, ValueError):
            while head := self._read_head():
                self._pass_on(head)
        self._close()

    def _read_head(self) -> bytes:
        lines = []
        while (line := self.reader.readline()).strip():
            lines.append(line)
        return b"".join(lines) + line if lines else b""

    def _pass_on(self, head: bytes) -> None:
        self.request = request = parsed(head)
        self.line.requests.append(request)
        trap = self.trap = self.line.trap_for(request)
        if trap and trap.status:
            self.reader.read(request.length)
            request.status = trap.status
            answer = f"HTTP/1.1 {trap.status} So\r\nContent-Length: 2\r\n\r\n{{}}"
            self.browser.sendall(answer.encode())
            return
        if self.site is None:
            self.site = socket.create_connection(("127.0.0.1", self.port))
            threading.Thread(target=self._pass_back, daemon=True).start()
        self.site.sendall(head)
        end = request.length if trap is None or trap.after is None else trap.after
        while request.sent < min(end, request.length):
            data = self.reader.read1(min(STEP, end - request.sent))
            if not data:
                raise OSError("The browser has gone.")
            self.line.take_time(len(data))
            self.site.sendall(data)
            request.sent += len(data)
        if end < request.length:
            raise OSError("Cut.")

    def _pass_back(self) -> None:
        assert self.site
        with contextlib.suppress(OSError):
            while data := self.site.recv(STEP):
                if self.trap and self.trap.loses_answer:
                    break
                if self.trap and self.trap.holds_answer:
                    continue
                self._note_status(data)
                self.browser.sendall(data)
        self._close()

    def _note_status(self, data: bytes) -> None:
        if self.request and not self.request.status and data.startswith(b"HTTP/1.1 "):
            self.request.status = int(data[9:12])

    def _close(self) -> None:
        for end in (self.browser, self.site):
            if end is not None:
                # A reset, so that nobody waits for what will not come.
                linger = struct.pack("ii", 1, 0)
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    end.shutdown(socket.SHUT_RDWR)
        for end in (self.reader, self.browser, self.site):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()


def parsed(head: bytes) -> Sent:
    first, *lines = head.decode("latin-1").splitlines()
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Sent(method, path, headers)


def is_upload(request: Sent) -> bool:
    """Does a request bring bytes of a file?"""
    if request.method == "POST":
        opens = "tus-resumable" in request.headers and not request.length
        return not (opens or request.path.endswith("/done/"))
    return request.method == "PATCH"
