"""Where bodies come from, and what of gunicorn's inside the quick way relies on."""

from __future__ import annotations

import inspect
import io
import json
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.errors import ChunkMissingTerminator, NoMoreData
from gunicorn.http.unreader import SocketUnreader

from resumable_uploads import errors, sources
from resumable_uploads.turns import Turns

from . import processes
from .client import Answer, RawRequest
from .rest import sha256, some_bytes

pytestmark = pytest.mark.once

PATIENCE = 0.05


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's and the server's end of a connection."""
    client, server = socket.socketpair()
    yield client, server
    client.close()
    server.close()


def length_reader(server: socket.socket, length: int, ahead: bytes = b"") -> Body:
    """Return gunicorn's body of known length; its parser has read ``ahead``."""
    unreader = SocketUnreader(server)
    unreader.unread(ahead)
    return Body(LengthReader(unreader, length))


def environ(stream: object, server: socket.socket | None, **found: str) -> dict:
    length = getattr(getattr(stream, "reader", None), "length", None)
    known = {} if length is None else {"CONTENT_LENGTH": str(length)}
    return {"wsgi.input": stream, "gunicorn.socket": server, **known, **found}


def read_all(source: sources.Source) -> bytes:
    buffer, found = memoryview(bytearray(7)), b""
    while size := source.readinto(buffer, PATIENCE):
        found += buffer[:size]
    return found


# gunicorn's inside


def test_what_is_used_of_gunicorn_exists(line):
    body = length_reader(line[1], 10, b"ahead")
    assert type(body).__module__ == "gunicorn.http.body"
    assert type(body.reader).__name__ == "LengthReader"
    assert body.reader.length == 10
    assert body.reader.unreader.take_buffered() == b"ahead"
    assert body.failed is False
    assert body.buf.tell() == 0
    assert list(inspect.signature(SocketUnreader.unread).parameters) == ["self", "data"]
    parser = ChunkedReader(SimpleNamespace(), SocketUnreader(line[1])).parser
    assert inspect.isgenerator(parser)


def test_the_socket_itself_is_chosen_on_gunicorn(line):
    body = length_reader(line[1], 10)
    source = sources.from_environ(environ(body, line[1]), 1)
    assert isinstance(source, sources.GunicornSource)
    assert source.length == 10


def test_decoded_pieces_are_chosen_for_chunked_bodies_on_gunicorn(line):
    body = Body(ChunkedReader(SimpleNamespace(), SocketUnreader(line[1])))
    found = environ(
        body, line[1], HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="5"
    ) | {"wsgi.input_terminated": True}
    source = sources.from_environ(found, 1)
    assert isinstance(source, sources.PiecesSource)
    assert source.length is None


@pytest.mark.parametrize("why", ["touched", "no socket", "other class", "other module"])
def test_whatever_is_not_known_is_read_as_a_stream(line, why):
    body = length_reader(line[1], 10, b"01\n3456789")
    server: socket.socket | None = line[1]
    if why == "touched":
        body.readline()
    elif why == "no socket":
        server = None
    elif why == "other class":
        body.reader = SimpleNamespace(length=10, unreader=None)
    elif why == "other module":
        body = type("Body", (Body,), {"__module__": "other"})(body.reader)
    source = sources.from_environ(environ(body, server, CONTENT_LENGTH="10"), 1)
    assert type(source) is sources.StreamSource


# The socket itself


def test_what_the_parser_has_read_comes_first(line):
    client, server = line
    body = length_reader(server, 10, b"0123")
    client.sendall(b"456789")
    source = sources.GunicornSource(body, server)
    assert read_all(source) == b"0123456789"
    assert body.reader.length == 0


def test_what_belongs_to_the_next_request_stays(line):
    client, server = line
    body = length_reader(server, 5, b"0123456789")
    source = sources.GunicornSource(body, server)
    assert read_all(source) == b"01234"
    source.close()
    assert body.reader.unreader.take_buffered() == b"56789"


def test_no_byte_of_the_next_request_is_received(line):
    client, server = line
    client.sendall(b"0123456789")
    source = sources.GunicornSource(length_reader(server, 5), server)
    assert read_all(source) == b"01234"
    assert server.recv(99) == b"56789"


def test_what_came_before_a_pause_is_not_waited_with(line):
    client, server = line
    client.sendall(b"0123")
    source = sources.GunicornSource(length_reader(server, 10), server)
    view = memoryview(bytearray(10))
    assert source.readinto(view, PATIENCE) == 4
    assert bytes(view[:4]) == b"0123"
    with pytest.raises(sources.Idle):
        source.readinto(view, PATIENCE)


def test_what_came_before_a_cut_is_kept(line):
    client, server = line
    client.sendall(b"0123")
    client.close()
    source = sources.GunicornSource(length_reader(server, 10), server)
    assert read_all(source) == b"0123"


def test_what_was_not_read_is_given_back(line):
    client, server = line
    body = length_reader(server, 8, b"012345678901234")
    source = sources.GunicornSource(body, server)
    source.readinto(memoryview(bytearray(3)), PATIENCE)
    source.close()
    # gunicorn goes on where the app has stopped.
    assert body.read() == b"34567"
    assert body.reader.unreader.take_buffered() == b"8901234"


def test_the_sockets_timeout_is_given_back(line):
    line[1].settimeout(17)
    source = sources.GunicornSource(length_reader(line[1], 5), line[1])
    with pytest.raises(sources.Idle):
        source.readinto(memoryview(bytearray(3)), PATIENCE)
    assert line[1].gettimeout() == PATIENCE
    source.close()
    assert line[1].gettimeout() == 17
    line[1].close()
    source.close()


def test_how_much_has_come_already_can_be_told(line):
    client, server = line
    client.sendall(b"later")
    source = sources.GunicornSource(length_reader(server, 100, b"ahead"), server)
    assert source.waiting() == len(b"aheadlater")
    assert source.readinto(memoryview(bytearray(3)), PATIENCE) == 3
    assert source.waiting() == len(b"adlater")


def test_what_has_come_over_tls_is_not_taken_for_what_was_sent(line):
    client, server = line
    client.sendall(b"not decoded yet")
    with ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(
        server, server_side=True, do_handshake_on_connect=False
    ) as wrapped:
        source = sources.GunicornSource(length_reader(wrapped, 100, b"ahead"), wrapped)
        assert source.waiting() == len(b"ahead")


def test_nobody_is_kept_waiting_by_who_waits_for_a_client(line, monkeypatch):
    client, server = line
    monkeypatch.setattr(sources, "turns", turns := Turns(at_once=1))
    source = sources.GunicornSource(length_reader(server, 10), server)
    buffer, had = memoryview(bytearray(10)), []

    class Line:
        def __getattr__(self, name):
            return getattr(server, name)

        def recv_into(self, view):
            had.append(turns._me().has_turn)
            return server.recv_into(view)

    source._sock = Line()
    with turns.part():
        turns.take()
        client.sendall(b"there")
        assert source.readinto(buffer, PATIENCE) == 5
        with pytest.raises(sources.Idle):
            source.readinto(buffer, PATIENCE)
        assert had == [True, False]
        client.sendall(b"later")
        assert source.readinto(buffer, PATIENCE) == 5
        assert turns._me().has_turn


def test_a_silent_line_is_idle_and_can_go_on(line):
    client, server = line
    body = length_reader(server, 5)
    source = sources.GunicornSource(body, server)
    view = memoryview(bytearray(3))
    with pytest.raises(sources.Idle):
        source.readinto(view, PATIENCE)
    client.sendall(b"01234")
    assert source.readinto(view, PATIENCE) == 3
    assert body.failed is False


def test_a_cut_is_an_end_after_which_the_line_is_not_used_again(line):
    client, server = line
    body = length_reader(server, 10, b"012")
    client.sendall(b"34")
    client.close()
    source = sources.GunicornSource(body, server)
    assert read_all(source) == b"01234"
    assert body.failed is True
    assert body.reader.length == 5


# Decoded pieces


def pieces_source(line: tuple[socket.socket, socket.socket], ahead: bytes = b""):
    unreader = SocketUnreader(line[1])
    unreader.unread(ahead)
    body = Body(ChunkedReader(SimpleNamespace(), unreader))
    found = environ(body, line[1], HTTP_TRANSFER_ENCODING="chunked")
    return sources.from_environ(found | {"wsgi.input_terminated": True}, 0.2)


def test_pieces_are_put_together(line):
    line[0].sendall(b"5\r\n56789\r\n0\r\n\r\n")
    source = pieces_source(line, b"5\r\n01234\r\n")
    assert read_all(source) == b"0123456789"
    assert not source.broken


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"", b""),
        (b"5\r", b""),
        (b"5\r\n012", b"012"),
        (b"5\r\n01234", b"01234"),
        (b"5\r\n01234\r\n", b"01234"),
        (b"5\r\n01234\r\n0\r\n", b"01234"),
        (b"5\r\n01234nonsense", b"01234"),
        (b"5\r\n01234\r\nnonsense\r\n", b"01234"),
    ],
)
@pytest.mark.parametrize("how", ["cut", "stall"])
def test_what_came_before_a_cut_or_a_stall_is_there(line, sent, kept, how):
    line[0].sendall(sent)
    if how == "cut":
        line[0].close()
    source = pieces_source(line)
    assert read_all(source) == kept
    assert source.broken
    source.close()
    assert line[1].gettimeout() is None


def test_gunicorn_raises_for_pieces_that_break_off():
    for error in (NoMoreData, ChunkMissingTerminator):
        assert issubclass(error, Exception)


# Streams


def test_no_more_than_announced_is_read_of_a_stream():
    stream = io.BytesIO(b"0123456789")
    assert read_all(sources.StreamSource(stream.read, 5)) == b"01234"
    assert stream.tell() == 5


def test_an_error_of_the_server_is_the_end_of_the_body():
    def fail(size: int) -> bytes:
        raise RuntimeError("The client has gone.")

    assert read_all(sources.StreamSource(fail, 5)) == b""


@pytest.mark.parametrize("found", [{}, {"wsgi.input_terminated": False}])
def test_a_length_is_asked_for_where_the_end_is_not_told(found):
    head = {"HTTP_TRANSFER_ENCODING": "Chunked", "wsgi.input": io.BytesIO(b"x")}
    with pytest.raises(errors.LengthRequired):
        sources.from_environ(head | found, 1)


def test_a_length_is_asked_for_where_a_cut_looks_like_the_end():
    stream = type("Input", (io.BytesIO,), {"__module__": "granian.wsgi"})(b"x")
    head = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": stream}
    with pytest.raises(errors.LengthRequired):
        sources.from_environ(head | {"wsgi.input_terminated": True}, 1)


def test_a_request_without_a_length_has_no_body():
    source = sources.from_environ({"wsgi.input": io.BytesIO(b"x")}, 1)
    assert (source.length, read_all(source)) == (0, b"")


@pytest.mark.parametrize("length", ["-1", "1.5", "abc", "9" * 20, "9" * 5000, "١"])
def test_an_impossible_length_is_refused(length):
    with pytest.raises(errors.Invalid):
        sources.declared_length({"CONTENT_LENGTH": length})


# A real server

APP = """
import hashlib, json

from resumable_uploads import sources


def app(environ, start_response):
    if environ["PATH_INFO"] == "/touched":
        environ["wsgi.input"].readline()
    source = sources.from_environ(environ, 5)
    view, digest, size = memoryview(bytearray(1000)), hashlib.sha256(), 0
    while read := source.readinto(view, 5):
        digest.update(view[:read])
        size += read
        if environ["PATH_INFO"] == "/half" and size > 5000:
            break
    source.close()
    name = type(source).__name__
    answer = json.dumps({"name": name, "size": size, "sha256": digest.hexdigest()})
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer.encode()]
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of gunicorn with an app that says which source it got."""
    folder: Path = tmp_path_factory.mktemp("app")
    (folder / "sources_app.py").write_text(APP)
    port = processes.free_port()
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}"]
    command += ["-k", "gthread", "--threads", "2", "--no-control-socket"]
    command += ["--pythonpath", str(folder), "sources_app:app"]
    process = processes.start(command, folder / "log")
    processes.wait_for(lambda: processes.accepts(port), 30, "gunicorn is up")
    yield port
    processes.kill(process)


def ask(port: int, body: bytes, path: str = "/", **headers: str) -> dict:
    sent = headers or {"Content-Length": str(len(body))}
    with RawRequest("127.0.0.1", port, "PUT", path, sent) as request:
        request.send(body)
        answer: Answer = request.answer()
    return json.loads(answer.body)


@pytest.mark.parametrize("size", [1, 1000, 100_000, 3_000_000])
def test_gunicorn_gives_its_socket(port, size):
    body = some_bytes(size)
    expected = {"name": "GunicornSource", "size": size, "sha256": sha256(body)}
    assert ask(port, body) == expected


def test_gunicorn_gives_pieces(port):
    pieces = [some_bytes(size, size) for size in (1, 5000, 100_000)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    found = ask(port, framed + b"0\r\n\r\n", **{"Transfer-Encoding": "chunked"})
    body = b"".join(pieces)
    expected = {"name": "PiecesSource", "size": len(body), "sha256": sha256(body)}
    assert found == expected


def test_a_body_that_somebody_has_touched_is_a_stream(port):
    found = ask(port, b"one line\n" + some_bytes(5000), path="/touched")
    assert (found["name"], found["size"]) == ("StreamSource", 5000)


@pytest.mark.parametrize("path", ["/", "/half"])
def test_the_next_request_on_the_line_is_understood(port, path):
    body = some_bytes(20_000)
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        # All at once: the second request is there before the first one is read.
        line.sendall((head + body) * 2)
        found = b""
        while found.count(b'"sha256"') < 2 and (data := line.recv(65536)):
            found += data
    assert found.count(b"200 OK") == 2
    if path == "/":
        assert found.count(sha256(body).encode()) == 2


# The front of a source


def pieces_of(line, data: bytes) -> sources.PiecesSource:
    return sources.PiecesSource(iter([data]), line[1], 1)


@pytest.mark.parametrize(("limit", "goes_on"), [(5, True), (11, False), (12, False)])
def test_of_a_capped_source_there_is_only_the_front(line, limit, goes_on):
    capped = sources.Capped(pieces_of(line, b"hello world"), limit)
    assert read_all(capped) == b"hello world"[:limit]
    assert capped.goes_on(PATIENCE) == goes_on
    assert not capped.broken
    capped.close()


def test_a_capped_source_is_broken_where_its_source_is(line):
    def broken():
        yield b"hello"
        raise TimeoutError

    capped = sources.Capped(sources.PiecesSource(broken(), line[1], 1), 10)
    assert read_all(capped) == b"hello"
    assert capped.broken
    assert capped.stalled
    capped.close()


# A stop


@pytest.fixture
def stop(monkeypatch):
    """Let the process be asked to end, as far as this test goes."""
    monkeypatch.setattr(sources, "_stopping", threading.Event())
    return sources.stop_reading


@pytest.mark.parametrize("is_capped", [False, True])
def test_at_a_stop_who_waits_for_pieces_is_woken(line, stop, is_capped):
    waiting = sources.PiecesSource(received(line[1]), line[1], 60)
    source = sources.Capped(waiting, 100) if is_capped else waiting
    sources.wake_at_stop(source)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(read_all, source)
        line[0].sendall(b"hello")
        stop()
        assert read.result(20) == b"hello"
    assert sources.is_stopping()


def received(sock: socket.socket) -> Iterator[bytes]:
    while data := sock.recv(100):
        yield data
    raise NoMoreData


def test_a_source_that_is_closed_is_not_woken(line, stop):
    source = pieces_of(line, b"")
    sources.wake_at_stop(source)
    source.close()
    source.wake()
    line[0].sendall(b"next")
    assert line[1].recv(4) == b"next"
