"""flow.js and simple-uploader.js themselves, in a real browser."""

from __future__ import annotations

import pytest

from .clients import CHUNK, ClientContract

pytestmark = pytest.mark.once


class TestFlowJs(ClientContract):
    client = "flowjs"
    options = {"chunkSize": CHUNK}

    def test_chunks_may_be_raw(self, page, line, ground, film):
        desk = self.desk_at(page, line, method="octet")
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)


class TestSimpleUploader(ClientContract):
    client = "simple-uploader"
    options = {"chunkSize": CHUNK}

    def test_one_question_tells_of_all_chunks(self, desk, ground, film):
        desk.line.pace = self.pace
        desk.choose(film)
        desk.wait_taken(4)
        desk.page.goto("about:blank")
        desk.line.pace = None
        desk.open()
        before = len(desk.line.requests)
        desk.choose(film)
        desk.wait("film.bin", "complete")
        # It may ask once more at the end, where an earlier answer was the last to come.
        said = [one for one in desk.line.requests[before:] if "identifier=" in one.path]
        methods = [one.method for one in said]
        assert methods[: methods.index("POST")] == ["GET"]
        assert methods.count("POST") <= 7
        desk.check_stored(ground, film)
