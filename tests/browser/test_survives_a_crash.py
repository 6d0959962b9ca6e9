"""300 MB in a browser, and the server killed in the middle: nothing starts over.

What comes besides is tried with a third of it.
"""

from __future__ import annotations

import hashlib
import os

import pytest
from playwright.sync_api import expect

from .desk import MIB, Desk

pytestmark = pytest.mark.once

SIZE = 300 * 1000 * 1000
CHUNK = 8 * MIB
PARALLEL = 3


def pace(film):
    """Return bytes per second that are slow enough to be interrupted in the middle."""
    return film.stat().st_size // 5


def count(film):
    """Return how many chunks there are."""
    return -(-film.stat().st_size // CHUNK)


def made(folder, size):
    path = folder / "film.mkv"
    with path.open("wb") as file:
        for _ in range(size // 1_000_000):
            file.write(os.urandom(1_000_000))
    return path


@pytest.fixture
def long_film(tmp_path):
    return made(tmp_path, SIZE)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return made(tmp_path_factory.mktemp("films"), SIZE // 3)


@pytest.fixture
def desk(page, live_site):
    return Desk(page, live_site.url).open()


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kill_in_the_middle(desk, site, film):
    """Kill -9 the server when a third is there; return how many chunks that cut off."""
    desk.throttle(pace(film))
    desk.choose(film)
    desk.wait_chunks(count(film) // 3)
    site.kill()
    desk.wait(film.name, "waiting")
    assert len(desk.line.answered) < count(film)
    # Nothing is sent on speculation: who waits asks first.
    cut = len(desk.line.failed)
    assert 0 < cut <= PARALLEL
    return cut


def check_stored(desk, site, film):
    (upload,) = desk.uploads()
    assert upload["state"] == "complete"
    assert upload["received"] == film.stat().st_size
    (stored,) = site.files()
    assert sha256(stored) == sha256(film)


def test_the_server_is_killed_and_the_page_reloaded(desk, live_site, long_film):
    cut = kill_in_the_middle(desk, live_site, long_film)
    live_site.start()
    desk.reload()
    # The page may have begun again before it was reloaded: that cuts off some more.
    cut_again = len(desk.line.failed) - cut
    assert cut_again <= PARALLEL
    expect(desk.unfinished).to_contain_text("film.mkv")
    desk.throttle()
    desk.choose(long_film)
    desk.wait_complete("film.mkv", seconds=60)
    assert desk.line.repeats() <= cut + cut_again
    check_stored(desk, live_site, long_film)


def test_the_server_is_killed_and_the_page_goes_on_by_itself(desk, live_site, film):
    cut = kill_in_the_middle(desk, live_site, film)
    expect(desk.page.get_by_text("The server cannot be reached.")).to_be_visible()
    desk.page.wait_for_timeout(2500)
    assert len(desk.line.failed) == cut
    desk.throttle()
    live_site.start()
    desk.wait_complete("film.mkv", seconds=60)
    assert desk.line.repeats() <= cut
    check_stored(desk, live_site, film)


def test_the_server_is_killed_twice(desk, live_site, film):
    cut = kill_in_the_middle(desk, live_site, film)
    live_site.start()
    desk.wait_chunks(2 * count(film) // 3)
    live_site.kill()
    desk.wait("film.mkv", "waiting")
    desk.throttle()
    cut = len(desk.line.failed)
    assert cut <= 2 * PARALLEL
    live_site.start()
    desk.wait_complete("film.mkv", seconds=60)
    assert desk.line.repeats() <= cut
    check_stored(desk, live_site, film)


def test_the_browser_is_closed_too(browser, live_site, film):
    context = browser.new_context()
    first = Desk(context.new_page(), live_site.url).open()
    cut = kill_in_the_middle(first, live_site, film)
    sent = {request.url for request in first.line.sent}
    first.page.close()
    live_site.start()
    second = Desk(context.new_page(), live_site.url).open()
    second.choose(film)
    second.wait_complete("film.mkv", seconds=60)
    assert len(sent & {request.url for request in second.line.sent}) <= cut
    assert second.line.repeats() == 0
    check_stored(second, live_site, film)
    context.close()
