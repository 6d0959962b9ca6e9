"""What every protocol must do, whatever it is called on the wire.

A protocol brings a Driver, which does what a client of it would do, and two classes:

    class TestTus(InProcess, ProtocolContract):
        driver = TusDriver()

    class TestTusLive(Live, ProtocolContract):
        driver = TusDriver()

The first asks the site in this process, the second a real server over sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests import processes
from tests.client import Answer
from tests.contracts.ground import Ground, Upload
from tests.rest import sha256, some_bytes

GIB = 1024**3


@dataclass
class File:
    """A file that a client has, or says it has. ``size`` is None while unknown."""

    data: bytes
    name: str = "a file.bin"
    size: int | None = None
    key: str = ""

    def pieces(self, size: int) -> list[bytes]:
        """Return the file in pieces; an empty file is one empty piece."""
        starts = range(0, max(len(self.data), 1), size)
        return [self.data[start : start + size] for start in starts]


@dataclass
class Request:
    """One request of the protocol about an upload."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] | None = None

    def send(self, me: Any) -> Answer:
        return me.request(self.method, self.path, self.body, self.headers or {})


class Refused(Exception):
    """The server did not do what a client wanted."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status, answer.body[:500])
        self.answer = answer


def must(answer: Answer, *statuses: int) -> Answer:
    """Return an answer with one of these statuses. Raise Refused for others."""
    if answer.status not in statuses:
        raise Refused(answer)
    return answer


def refused(say: Callable[[], None]) -> Answer | None:
    """Return the answer that refused what a client said, or None."""
    try:
        say()
    except Refused as refusal:
        return refusal.answer
    return None


class Driver:
    """A client of one protocol; ``me`` is who asks, ``handle`` is from ``begin``."""

    # Bytes of a piece, what one request usually brings.
    piece = 100_000
    # Is what came before a cut kept?
    keeps_what_was_cut = False
    # May pieces come in any order, and several at once?
    any_order = False
    # May the size be unknown at first?
    unknown_size = False
    # Is an upload named by its client? Then strangers meet one of their own, and what
    # is gone begins anew.
    named_by_client = False
    # Can it find its upload again, knowing only the file? Else it needs the URL.
    finds_again = True
    # The statuses for a file that is too large, for what is gone, for what is nobody's.
    too_large: tuple[int, ...] = (413,)
    gone: tuple[int, ...] = (410,)
    not_found: tuple[int, ...] = (404,)
    # May saying again what has been said be refused, as long as nothing comes of it?
    repeats: tuple[int, ...] = (200, 201, 204, 409)

    def begin(self, me: Any, file: File) -> Any:
        """Announce a file; return what its upload is known by. Raise Refused."""
        raise NotImplementedError

    def send(self, me: Any, handle: Any, file: File, number: int) -> None:
        """Send the piece with a number, from 0. Raise Refused."""
        raise NotImplementedError

    def cut(self, me: Any, handle: Any, file: File, number: int, after: int, how: str):
        """Send only so many bytes of a piece, then break off: "fin" or "rst"."""
        raise NotImplementedError

    def resume(self, me: Any, handle: Any, file: File) -> None:
        """Ask what is there and send the rest, knowing nothing else. Raise Refused."""
        raise NotImplementedError

    def finish(self, me: Any, handle: Any, file: File) -> None:
        """Say that all has been sent, where the protocol has a word for it."""

    def requests(self, handle: Any, file: File) -> list[Request]:
        """Return all that can be asked of an upload, but for cancelling it."""
        raise NotImplementedError

    def cancels(self, handle: Any) -> list[Request]:
        """Return the requests that cancel an upload, if there are any."""
        return []

    def called(self, name: str) -> Any:
        """Return the handle of an upload whose id the server has never given."""
        raise NotImplementedError

    # What follows from these:

    def send_all(self, me: Any, handle: Any, file: File) -> None:
        for number in range(len(file.pieces(self.piece))):
            self.send(me, handle, file, number)


# Names and ids of people who mean no good.
HOSTILE = [
    "../../../../tmp/escaped",
    "..\\..\\escaped",
    "/etc/passwd",
    "C:\\escaped.txt",
    "invoice\u202efdp.exe",
    "line\r\nbreak: yes",
    "\u0000",
    "a\u0000b.txt",
    "Cafe\u0301.txt",
    "😀",
    "<script>alert(1)</script>",
    "'; DROP TABLE resumable_uploads_uploadsession; --",
    "%2e%2e%2fescaped",
    "con",
    ".htaccess",
    "..",
    " ",
    "x" * 3000,
]


def where(**facts: bool) -> Callable[[Any], Any]:
    """Have a test only where these facts of the driver, or of the ground, are so."""

    def mark(test: Any) -> Any:
        test.facts = facts
        return test

    return mark


class ProtocolContract:
    """What every protocol must do. ``ground`` comes from InProcess or Live."""

    driver: Driver
    is_live: bool

    def __init_subclass__(cls) -> None:
        for name, test in list(vars(ProtocolContract).items()):
            for fact, value in getattr(test, "facts", {}).items():
                if getattr(cls.driver, fact, getattr(cls, fact, None)) != value:
                    setattr(cls, name, None)

    @pytest.fixture
    def me(self, ground: Ground) -> Any:
        return ground.visitor()

    @pytest.fixture
    def file(self) -> File:
        """A file of two pieces and a half."""
        data = some_bytes(5 * self.driver.piece // 2)
        return File(data, size=len(data), key="my file")

    # Going up

    def test_a_file_goes_up(self, ground, me, file):
        handle = self.driver.begin(me, file)
        self.driver.send_all(me, handle, file)
        self.driver.finish(me, handle, file)
        upload = self.completed(ground, file)
        assert upload.filename == "a file.bin"

    def test_an_empty_file_goes_up(self, ground, me):
        file = File(b"", size=0, key="empty")
        handle = self.driver.begin(me, file)
        self.driver.resume(me, handle, file)
        self.driver.finish(me, handle, file)
        self.completed(ground, file)

    def test_a_file_of_one_byte_goes_up(self, ground, me):
        file = File(b"x", size=1, key="small")
        handle = self.driver.begin(me, file)
        self.driver.send_all(me, handle, file)
        self.driver.finish(me, handle, file)
        self.completed(ground, file)

    @where(unknown_size=True)
    def test_a_file_of_unknown_size_goes_up(self, ground, me, file):
        handle = self.driver.begin(me, replace(file, size=None))
        self.driver.send_all(me, handle, file)
        assert ground.upload().state == "receiving"
        self.driver.finish(me, handle, file)
        self.completed(ground, file)

    @where(any_order=True)
    def test_pieces_go_up_in_any_order(self, ground, me, file):
        handle = self.driver.begin(me, file)
        for number in (2, 0, 1):
            self.driver.send(me, handle, file, number)
        self.driver.finish(me, handle, file)
        self.completed(ground, file)

    @where(any_order=True, is_live=True)
    def test_pieces_go_up_side_by_side(self, ground, me, file):
        file = File(some_bytes(8 * self.driver.piece), size=8 * self.driver.piece)
        handle = self.driver.begin(me, file)
        with ThreadPoolExecutor(8) as pool:
            sent = [
                pool.submit(self.driver.send, ground.twin(me), handle, file, number)
                for number in range(8)
            ]
        for done in sent:
            done.result()
        self.driver.finish(me, handle, file)
        self.completed(ground, file)

    # Cuts

    @pytest.mark.parametrize("how", ["fin", "rst"])
    @pytest.mark.parametrize("part", [0.0, 0.00001, 0.5, 0.99999])
    def test_a_cut_is_survived(self, ground, me, file, part, how):
        handle = self.driver.begin(me, file)
        self.driver.send(me, handle, file, 0)
        after = int(part * self.driver.piece)
        self.driver.cut(me, handle, file, 1, after, how)
        self.driver.resume(ground.twin(me), handle, file)
        self.driver.finish(me, handle, file)
        self.completed(ground, file)

    @where(keeps_what_was_cut=True)
    @pytest.mark.parametrize("how", ["fin", "rst"])
    def test_what_came_before_a_cut_is_kept(self, ground, me, file, how):
        handle = self.driver.begin(me, file)
        self.driver.cut(me, handle, file, 0, 77_777, how)
        self.wait(lambda: ground.upload().received == 77_777)
        self.driver.resume(me, handle, file)
        self.driver.finish(me, handle, file)
        self.completed(ground, file)

    @where(keeps_what_was_cut=False)
    @pytest.mark.parametrize("how", ["fin", "rst"])
    def test_nothing_is_kept_of_a_cut_piece(self, ground, me, file, how):
        handle = self.driver.begin(me, file)
        self.driver.send(me, handle, file, 0)
        self.driver.cut(me, handle, file, 1, 77_777, how)
        assert ground.upload().received == self.driver.piece
        self.driver.send(me, handle, file, 1)
        assert ground.upload().received == 2 * self.driver.piece

    @where(finds_again=True)
    def test_a_client_that_has_forgotten_all_but_the_file_goes_on(
        self, ground, me, file
    ):
        handle = self.driver.begin(me, file)
        self.driver.send(me, handle, file, 0)
        handle = self.driver.begin(me, file)
        self.driver.resume(me, handle, file)
        self.driver.finish(me, handle, file)
        self.completed(ground, file)

    # Repeats

    def test_saying_things_twice_is_harmless(self, ground, me, file):
        for _ in range(1 + self.driver.finds_again):
            handle = self.driver.begin(me, file)
        for number in range(3):
            self.driver.send(me, handle, file, number)
            self.again(lambda n=number: self.driver.send(me, handle, file, n))
        for _ in range(2):
            self.driver.finish(me, handle, file)
        upload = self.completed(ground, file)
        for request in self.driver.requests(handle, file):
            assert request.send(me).status < 500
        assert self.completed(ground, file) == upload

    def again(self, say: Callable[[], None]) -> None:
        refusal = refused(say)
        assert refusal is None or refusal.status in self.driver.repeats

    # Refusals

    @pytest.mark.parametrize("is_complete", [False, True])
    def test_a_stranger_sees_and_changes_nothing(self, ground, me, file, is_complete):
        handle = self.driver.begin(me, file)
        if is_complete:
            self.driver.send_all(me, handle, file)
            self.driver.finish(me, handle, file)
            self.completed(ground, file)
        else:
            self.driver.send(me, handle, file, 0)
        mine = ground.upload()
        before = ground.kept(mine.id)
        requests = [*self.driver.requests(handle, file), *self.driver.cancels(handle)]
        for request in requests:
            answer = request.send(ground.visitor())
            assert not 300 <= answer.status < 400
            if not self.driver.named_by_client:
                assert answer.status in self.driver.not_found, (request, answer)
            assert mine.id.encode() not in answer.body
            assert ground.kept(mine.id) == before
        if not self.driver.named_by_client:
            assert ground.uploads() == [mine]

    def test_a_file_that_is_too_large_is_refused(self, ground, me, file):
        huge = replace(file, size=11 * GIB)

        def send() -> None:
            self.driver.send(me, self.driver.begin(me, huge), huge, 0)

        refusal = refused(send)
        assert refusal is not None
        assert refusal.status in self.driver.too_large
        assert ground.uploads() == []

    @pytest.mark.parametrize("end", ["cancelled", "expired"])
    def test_what_has_ended_takes_nothing_more(self, ground, me, file, end):
        handle = self.driver.begin(me, file)
        self.driver.send(me, handle, file, 0)
        ended = ground.upload()
        if end == "expired":
            ground.expire(ended.id)
        else:
            self.cancel(me, handle, ended)
        for request in self.driver.requests(handle, file):
            answer = request.send(me)
            assert not 300 <= answer.status < 400
            if not self.driver.named_by_client:
                # What only asks may still be told how it ended.
                allowed = (200,) if request.method in ("GET", "HEAD") else ()
                assert answer.status in (*self.driver.gone, *allowed), request
        assert ground.upload(ended.id).state == end
        assert ground.kept(ended.id)[1] == ([], 0)

    def cancel(self, me: Any, handle: Any, upload: Upload) -> None:
        for request in self.driver.cancels(handle):
            must(request.send(me), 200, 204)
        # Those that have no word for it can be cancelled through the native protocol.
        must(me.delete(f"/uploads/{upload.id}/"), 204)

    @where(is_live=False)
    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_a_hostile_name_is_refused_or_only_a_name(self, ground, me, name):
        file = File(b"abc", name=name, size=3, key="k")

        def send() -> None:
            handle = self.driver.begin(me, file)
            self.driver.send_all(me, handle, file)
            self.driver.finish(me, handle, file)

        if refusal := refused(send):
            assert 400 <= refusal.status < 500
            assert ground.uploads() == []
            return
        upload = self.completed(ground, file)
        assert upload.filename
        assert upload.filename.isprintable()
        assert not set("/\\") & set(upload.filename)

    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_a_hostile_id_is_refused_or_only_a_name(self, ground, me, file, name):
        handle = self.driver.called(name)
        requests = [*self.driver.requests(handle, file), *self.driver.cancels(handle)]
        for request in requests:
            answer = request.send(me)
            assert answer.status < 300 or 400 <= answer.status < 500, request
            if not self.driver.named_by_client:
                assert answer.status in (*self.driver.not_found, 400), request
        if not self.driver.named_by_client:
            assert ground.uploads() == []
        ground.check_nothing_escaped()

    # What tests here say:

    def completed(self, ground: Ground, file: File) -> Upload:
        """See that there is one upload, one file with the right bytes, one signal."""
        self.wait(lambda: ground.upload().state != "assembling")
        upload = ground.upload()
        assert upload.state == "complete"
        assert upload.length == upload.received == len(file.data)
        assert ground.uploads() == [upload]
        self.wait(lambda: ground.completed())
        assert ground.completed() == [upload.id]
        assert list(ground.files().values()) == [sha256(file.data)]
        self.wait(lambda: ground.staged() == 0)
        ground.check_nothing_escaped()
        return upload

    def wait(self, ready: Callable[[], object]) -> None:
        processes.wait_for(ready, 10, "what should come")
