"""What every client must survive, in a real browser, before the demo's pages."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page

from project.clients import CLIENTS
from tests.contracts.ground import LiveGround, watched_site
from tests.live import LiveSite, SiteTemplates

from .line import Line, Sent, is_upload

KIB = 1024
CHUNK = 64 * KIB
SIZE = 10 * CHUNK + 1000
# What a form is longer than the chunk in it.
WRAPPING = 2 * KIB


class ClientDesk:
    """A demo page with a client, and what a person does there."""

    def __init__(self, page: Page, line: Line, client: str, **options: Any) -> None:
        self.page = page
        self.line = line
        self.client = client
        self.path = f"/demo/{client}/?{urlencode(options)}"

    def open(self) -> ClientDesk:
        """Go to the page, or reload it."""
        self.page.goto(self.line.url + self.path)
        self.page.wait_for_function("window.client")
        return self

    def choose(self, *paths: Path) -> None:
        self.page.set_input_files("#files", list(paths))

    def pause(self) -> None:
        self.page.click("#pause")

    def resume(self) -> None:
        self.page.click("#resume")

    def retry(self, name: str) -> None:
        """Try a file again that has failed."""
        row = self.page.locator("#rows li", has_text=name)
        row.get_by_role("button", name="Retry").click()

    def state(self, name: str) -> str:
        """Return a file's state: waiting, uploading, paused, complete or failed."""
        row = self.page.locator("#rows li", has_text=name)
        return row.get_attribute("data-state") or ""

    def text(self, name: str) -> str:
        """Return what the page says of a file."""
        return self.page.locator("#rows li", has_text=name).inner_text()

    def wait(self, name: str, *states: str, seconds: float = 30) -> str:
        """Wait until a file is in one of these states; return it."""
        self.until(lambda: self.state(name) in states, seconds, f"{name}: {states}")
        return self.state(name)

    def until(self, ready: Callable[[], Any], seconds: float, what: str) -> None:
        for _ in range(int(seconds * 40)):
            if ready():
                return
            self.page.wait_for_timeout(25)
        found = [
            (one.method, one.path, one.sent, one.status) for one in self.line.requests
        ]
        raise AssertionError(f"Not within {seconds} s: {what}\n{found[-12:]}")

    def wait_sent(self, size: int) -> None:
        """Wait until so many bytes have got through."""
        self.until(lambda: self.line.sent() >= size, 30, f"{size} bytes are sent")

    def wait_taken(self, count: int) -> None:
        """Wait until the site has taken so many chunks."""
        self.until(lambda: len(self.taken()) >= count, 30, f"{count} chunks are taken")

    def wait_for_silence(self) -> None:
        """Wait until nothing comes any more, not even from the browser's buffers."""
        sent = -1
        while sent < self.line.sent():
            sent = self.line.sent()
            self.page.wait_for_timeout(250)

    def taken(self) -> list[Sent]:
        return [
            request for request in self.line.uploads() if request.status in (200, 204)
        ]

    def uploads(self) -> list[dict[str, Any]]:
        """Return what the site says are this visitor's uploads."""
        answer = self.page.request.get(f"{self.line.url}/uploads/")
        return answer.json()["results"]

    def download(self, upload: dict[str, Any]) -> bytes:
        return self.page.request.get(self.line.url + upload["file"]["url"]).body()

    def check_stored(self, ground: LiveGround, *paths: Path) -> list[dict[str, Any]]:
        """See that each file is there once, complete, told of once, byte by byte."""
        self.until(
            lambda: all(upload["state"] == "complete" for upload in self.uploads()),
            10,
            "all uploads are complete",
        )
        uploads = self.uploads()
        assert sorted(upload["filename"] for upload in uploads) == sorted(
            path.name for path in paths
        )
        stored = [sha256(self.download(upload)) for upload in uploads]
        assert sorted(stored) == sorted(sha256(path.read_bytes()) for path in paths)
        told = ground.all_completed()
        assert [told.count(upload["id"]) for upload in uploads] == [1] * len(uploads)
        return uploads


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def drop(page: Page, place: str, path: Path) -> None:
    """Drop a real file or folder, as the file manager would."""
    box = page.locator(place).first.bounding_box()
    assert box
    where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **where})


class ClientContract:
    """What every client must survive; a subclass says which and how it is told."""

    client = ""
    desk_class: type[ClientDesk] = ClientDesk
    # Options that make chunks of CHUNK bytes.
    options: dict[str, Any] = {}
    # The size of the file that takes a while: so that not all of it is on the way at
    # once, whatever buffers there are.
    size = SIZE
    # Bytes per second, where something is to happen in the middle.
    pace = 4 * SIZE
    # How many bytes may be sent once more for each request that is broken off.
    lost_by_a_cut = 3 * (CHUNK + WRAPPING)

    @pytest.fixture(scope="class")
    @classmethod
    def site(
        cls, site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[LiveSite]:
        if not CLIENTS[cls.client].is_installed:
            pytest.skip(f"{cls.client} is not installed")
        folder = tmp_path_factory.mktemp("site")
        site_templates.sqlite(folder)
        policy = {"downloadable": True, "allowed_extensions": [".txt", ".bin"]}
        # Short stretches, or a kill would cost all of a small file.
        settings = {"POLICIES": {"default": policy}, "SEGMENT_SIZE": 8 * CHUNK}
        site = watched_site(folder, uploads=settings).start()
        yield site
        site.kill()

    @pytest.fixture
    def ground(self, site: LiveSite) -> Iterator[LiveGround]:
        ground = LiveGround(site)
        yield ground
        ground.close()

    @pytest.fixture
    def line(self, site: LiveSite) -> Iterator[Line]:
        line = Line(site.port)
        yield line
        line.close()

    @pytest.fixture
    def desk(self, page: Page, line: Line) -> ClientDesk:
        return self.desk_at(page, line)

    def desk_at(self, page: Page, line: Line, **options: Any) -> ClientDesk:
        return self.desk_class(page, line, self.client, **self.options | options).open()

    @pytest.fixture
    def film(self, tmp_path: Path) -> Path:
        """A file of many chunks and a bit."""
        return made(tmp_path / "film.bin", self.size)

    def in_the_middle(self, desk: ClientDesk) -> Callable[[Sent], bool]:
        """Return what is true of a request in the middle of a file."""
        return lambda request: is_upload(request) and len(desk.line.uploads()) > 3

    # Going up

    def test_a_small_file_goes_up(self, desk, ground, tmp_path):
        small = made(tmp_path / "small.txt", 1000)
        desk.choose(small)
        desk.wait("small.txt", "complete")
        desk.check_stored(ground, small)
        assert len(desk.line.uploads()) == 1

    def test_a_file_goes_up_and_no_byte_twice(self, desk, ground, film):
        desk.choose(film)
        desk.wait("film.bin", "complete")
        assert not desk.page.get_by_role("button", name="Retry").all()
        desk.check_stored(ground, film)
        requests = len(desk.line.uploads())
        assert self.size <= desk.line.sent() <= self.size + requests * WRAPPING

    def test_two_files_go_up_at_once(self, desk, ground, film, tmp_path):
        other = made(tmp_path / "other.bin", self.size // 2)
        desk.choose(film, other)
        desk.wait("film.bin", "complete")
        desk.wait("other.bin", "complete")
        desk.check_stored(ground, film, other)

    @pytest.mark.parametrize(
        "name", ["报告 最终版.txt", 'it\'s "quoted" & <b>.txt', "🎉👩‍👩‍👧.txt"]
    )
    def test_a_name_of_any_script_is_kept(self, desk, ground, tmp_path, name):
        path = made(tmp_path / name, CHUNK + 1000)
        desk.choose(path)
        self.wait_all(desk, 1)
        desk.check_stored(ground, path)

    def wait_all(self, desk: ClientDesk, count: int) -> None:
        """Wait until so many files are complete, whatever the page calls them."""
        rows = desk.page.locator("#rows li[data-state=complete]")
        desk.until(lambda: rows.count() == count, 20, "all files are complete")

    def test_an_empty_file_goes_up(self, desk, ground, tmp_path):
        empty = made(tmp_path / "empty.txt", 0)
        desk.choose(empty)
        desk.wait("empty.txt", "complete")
        desk.check_stored(ground, empty)

    # Going on

    def test_a_paused_file_goes_on(self, desk, ground, film):
        # Two seconds for the whole file: time enough to press the button.
        desk.line.pace = self.size // 2
        desk.choose(film)
        desk.wait_sent(self.size // 3)
        desk.pause()
        desk.wait_for_silence()
        assert desk.line.sent() < self.size
        desk.line.pace = None
        desk.resume()
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)
        self.check_sent_again(desk, 1)

    def test_a_file_goes_on_after_the_page_is_reloaded(self, desk, ground, film):
        desk.line.pace = self.pace
        desk.choose(film)
        desk.wait_sent(self.size // 2)
        desk.page.goto("about:blank")
        desk.page.wait_for_timeout(100)
        desk.line.pace = None
        desk.open()
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)
        self.check_sent_again(desk, 1)

    def test_a_file_goes_on_after_the_server_is_killed(self, desk, ground, site, film):
        desk.line.pace = self.pace
        desk.choose(film)
        desk.wait_sent(self.size // 2)
        site.kill()
        desk.line.pace = None
        site.start()
        self.see_it_through(desk, "film.bin")
        desk.check_stored(ground, film)
        # What was on the way at the kill, and what Chromium then sends anew by itself.
        self.check_sent_again(desk, 2)

    def test_a_file_goes_on_after_the_line_breaks_in_a_chunk(self, desk, ground, film):
        trap = desk.line.cut_once(CHUNK // 2, self.in_the_middle(desk))
        desk.choose(film)
        self.see_it_through(desk, "film.bin")
        assert trap.sprung
        desk.check_stored(ground, film)
        self.check_sent_again(desk, 1)

    def test_a_chunk_whose_answer_is_lost_counts_once(self, desk, ground, film):
        trap = desk.line.lose_answer_once(self.in_the_middle(desk))
        desk.choose(film)
        self.see_it_through(desk, "film.bin")
        assert trap.sprung
        desk.check_stored(ground, film)

    def test_a_file_goes_on_after_a_chunk_is_answered_by_500(self, desk, ground, film):
        trap = desk.line.answer_once(500, self.in_the_middle(desk))
        desk.choose(film)
        self.see_it_through(desk, "film.bin")
        assert trap.sprung
        desk.check_stored(ground, film)

    def see_it_through(self, desk: ClientDesk, name: str) -> None:
        """Wait until a file is complete; press its button as often as it takes that."""
        while desk.wait(name, "complete", "failed") == "failed":
            desk.retry(name)

    def check_sent_again(self, desk: ClientDesk, cuts: int) -> None:
        """See that no more was sent twice than what was on the way at a cut."""
        uploads = desk.line.uploads()
        allowed = self.size + cuts * self.lost_by_a_cut + len(uploads) * WRAPPING
        assert desk.line.sent() <= allowed, [(one.sent, one.status) for one in uploads]

    # Refusals

    def test_a_refused_type_is_told_and_no_request_storm(self, desk, tmp_path):
        path = made(tmp_path / "tool.exe", 3 * CHUNK)
        desk.choose(path)
        desk.wait("tool.exe", "failed")
        assert "type" in desk.text("tool.exe")
        # What was on its way when the first answer came may still be asked.
        desk.page.wait_for_timeout(700)
        sent = len(desk.line.requests)
        desk.page.wait_for_timeout(700)
        assert len(desk.line.requests) == sent
        assert len(desk.line.uploads()) <= 3
        assert desk.uploads() == []

    def test_an_upload_that_has_expired_begins_again(self, desk, ground, film):
        desk.line.pace = self.pace
        desk.choose(film)
        desk.wait_sent(self.size // 2)
        desk.page.goto("about:blank")
        desk.page.wait_for_timeout(200)
        (expired,) = desk.uploads()
        ground.expire(expired["id"])
        desk.line.pace = None
        desk.open()
        desk.choose(film)
        desk.wait("film.bin", "complete")
        done = [upload for upload in desk.uploads() if upload["state"] == "complete"]
        assert len(done) == 1
        assert sha256(desk.download(done[0])) == sha256(film.read_bytes())
        assert ground.upload(expired["id"]).state == "expired", desk.uploads()

    def test_another_visitor_with_the_same_file_has_another_upload(
        self, desk, ground, film, browser: Browser, line: Line
    ):
        desk.choose(film)
        desk.wait("film.bin", "complete")
        context = browser.new_context()
        try:
            other = self.desk_at(context.new_page(), line)
            before = line.sent()
            other.choose(film)
            other.wait("film.bin", "complete")
            assert line.sent() - before >= self.size
            first, second = desk.check_stored(ground, film), other.uploads()
            assert first[0]["id"] != second[0]["id"]
            assert sha256(other.download(second[0])) == sha256(film.read_bytes())
        finally:
            context.close()


class FormContract(ClientContract):
    """What clients that send forms must do besides."""

    def test_chunks_bring_the_capability_of_their_own_file(
        self, desk, ground, film, tmp_path
    ):
        other = made(tmp_path / "other.bin", self.size)
        # So that the answer to the first chunk has been read before the last is sent.
        desk.line.pace = self.pace
        desk.choose(film, other)
        self.wait_all(desk, 2)
        uploads = desk.check_stored(ground, film, other)
        words = [
            one.headers.get("upload-capability", "") for one in desk.line.uploads()
        ]
        assert "" in words
        for upload in uploads:
            assert any(word.startswith(upload["id"] + ".") for word in words)


def made(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def chunk_numbers(line: Line) -> list[int]:
    """Return the numbers of the chunks in the addresses, as they were sent."""
    found = [
        re.search(r"resumableChunkNumber=(\d+)", request.path)
        for request in line.uploads()
    ]
    return [int(match[1]) for match in found if match]
