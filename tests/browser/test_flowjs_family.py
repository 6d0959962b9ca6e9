"""flow.js and simple-uploader.js themselves, in a real browser."""

from __future__ import annotations

import pytest

from .clients import CHUNK, FormContract
from .line import is_upload

pytestmark = pytest.mark.once


class TestFlowJs(FormContract):
    client = "flowjs"
    options = {"chunkSize": CHUNK}

    def test_chunks_may_be_raw(self, page, line, ground, film):
        desk = self.desk_at(page, line, method="octet")
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)


class TestSimpleUploader(FormContract):
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
        said = desk.line.requests[before:]
        uploads = [number for number, one in enumerate(said) if is_upload(one)]
        asked = [one for one in said[: uploads[0]] if "identifier=" in one.path]
        assert len(asked) == 1
        assert len(uploads) <= 7
        desk.check_stored(ground, film)
