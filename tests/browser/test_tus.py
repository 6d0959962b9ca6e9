"""tus-js-client and Uppy in a real browser."""

from __future__ import annotations

import pytest

from tests.contracts.ground import LiveGround

from .clients import CHUNK, ClientContract, ClientDesk, made, sha256

pytestmark = pytest.mark.once
DRAFT = {"endpoint": "/uploads/ietf/"}


class TestTus(ClientContract):
    client = "tus"
    options = {"chunkSize": CHUNK}

    @pytest.mark.parametrize(
        "options",
        [
            {"uploadDataDuringCreation": 1},
            {"protocol": "ietf-draft-05"} | DRAFT,
        ],
        ids=str,
    )
    def test_a_file_goes_up_in_other_ways(self, page, line, ground, film, options):
        desk = self.desk_at(page, line, **options)
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)

    def test_parts_of_a_file_go_up_side_by_side(self, page, line, ground, film):
        desk = self.desk_at(page, line, parallelUploads=3)
        desk.choose(film)
        desk.wait("film.bin", "complete")
        self.check_whole(desk, ground, film)

    def check_whole(self, desk, ground, film):
        """See that one file was made of the parts, which are there for a while."""
        uploads = desk.uploads()
        (done,) = [upload for upload in uploads if upload["state"] == "complete"]
        assert len(uploads) == 4
        assert sha256(desk.download(done)) == sha256(film.read_bytes())
        assert ground.all_completed().count(done["id"]) == 1


class UppyDesk(ClientDesk):
    """Uppy's Dashboard, and what a person does there."""

    def choose(self, *paths):
        chooser = self.page.locator(".uppy-Dashboard-input").first
        chooser.set_input_files(list(paths))

    def start(self):
        self.page.locator(".uppy-StatusBar-actionBtn--upload").click()

    def wait_until_complete(self):
        self.page.locator(".uppy-StatusBar.is-complete").wait_for(timeout=30_000)


class TestUppy:
    client = "uppy"
    site = ClientContract.site
    ground = ClientContract.ground
    line = ClientContract.line

    def test_a_file_goes_on_after_the_page_is_reloaded(
        self, page, line, ground: LiveGround, tmp_path
    ):
        """Without being chosen again: the Golden Retriever has it."""
        film = made(tmp_path / "film.bin", 10 * CHUNK + 1000)
        empty = made(tmp_path / "empty.txt", 0)
        desk = UppyDesk(page, line, self.client, chunkSize=CHUNK).open()
        desk.choose(film, empty)
        desk.line.pace = 3 * CHUNK
        desk.start()
        desk.wait_sent(4 * CHUNK)
        page.goto("about:blank")
        desk.line.pace = None
        sent = desk.line.sent()
        desk.open()
        page.get_by_text("film.bin").first.wait_for()
        desk.start()
        desk.wait_until_complete()
        uploads = desk.check_stored(ground, film, empty)
        assert desk.line.sent() - sent < 9 * CHUNK
        by_name = {upload["filename"]: upload for upload in uploads}
        assert by_name["film.bin"]["metadata"]["name"] == "film.bin"
        assert by_name["empty.txt"]["content_type"] == "text/plain"
