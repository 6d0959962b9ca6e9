"""Yardsticks that only put bodies into files: what the machine allows.

``python -m benchmarks.sinks PORT FOLDER splice|copy`` is a server that does nothing
else; ``application`` is the least that a WSGI application does about it.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .wire import MIB

Move = Callable[[socket.socket, int, int, int], None]


def copy(sock: socket.socket, file: int, offset: int, left: int) -> None:
    """Move bytes by one buffer that is used again and again."""
    view = memoryview(bytearray(MIB))
    while left:
        size = sock.recv_into(view[:left])
        if not size:
            return
        os.pwrite(file, view[:size], offset)
        offset, left = offset + size, left - size


def splice(sock: socket.socket, file: int, offset: int, left: int) -> None:
    """Move bytes without their ever being here."""
    inlet, outlet = os.pipe()
    try:
        while left:
            size = os.splice(sock.fileno(), outlet, min(left, MIB))
            if not size:
                return
            left -= size
            while size:
                moved = os.splice(inlet, file, size, offset_dst=offset)
                offset, size = offset + moved, size - moved
    finally:
        os.close(inlet)
        os.close(outlet)


def serve(port: int, folder: Path, move: Move) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        sock, _ = listener.accept()
        threading.Thread(
            target=_converse, args=(sock, folder, move), daemon=True
        ).start()


def _converse(sock: socket.socket, folder: Path, move: Move) -> None:
    """Answer the requests of one connection, until it ends."""
    with sock:
        while head := _head(sock):
            path, offset, length = _asked(head)
            file = os.open(folder / path, os.O_RDWR | os.O_CREAT)
            try:
                move(sock, file, offset, length)
            finally:
                os.close(file)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def _head(sock: socket.socket) -> bytes:
    """Read up to the body, and not a byte of that."""
    seen = sock.recv(64 * 1024, socket.MSG_PEEK)
    while seen and b"\r\n\r\n" not in seen:
        seen = sock.recv(64 * 1024, socket.MSG_PEEK)
    return sock.recv(seen.index(b"\r\n\r\n") + 4) if seen else b""


def _asked(head: bytes) -> tuple[str, int, int]:
    first, *lines = head.decode("latin-1").splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    path = first.split()[1].strip("/").replace("/", "-")
    return path, int(headers["upload-offset"]), int(headers["content-length"])


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Put a body into a file, read from ``wsgi.input`` as WSGI has it."""
    folder = Path(os.environ["SINK"])
    path = folder / environ["PATH_INFO"].strip("/").replace("/", "-")
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    offset, left = int(environ["HTTP_UPLOAD_OFFSET"]), int(environ["CONTENT_LENGTH"])
    try:
        while left and (block := environ["wsgi.input"].read(min(left, MIB))):
            os.pwrite(file, block, offset)
            offset, left = offset + len(block), left - len(block)
    finally:
        os.close(file)
    start_response("200 OK", [("Content-Length", "0")])
    return []


if __name__ == "__main__":
    moves = {"splice": splice, "copy": copy}
    serve(int(sys.argv[1]), Path(sys.argv[2]), moves[sys.argv[3]])
