"""The protocol of javascript.info in a real browser, by the uploader of the demo.

The article's own one may not be shipped with free software; requests, headers and
addresses are the same.
"""

from __future__ import annotations

import pytest

from .clients import CHUNK, ClientContract, made
from .line import is_upload

pytestmark = pytest.mark.once


class TestJavascriptInfo(ClientContract):
    client = "javascript-info"
    size = 160 * CHUNK + 1000
    pace = 80 * CHUNK
    # What is in the buffers of the sockets when a line breaks.
    lost_by_a_cut = 64 * CHUNK

    def in_the_middle(self, desk):
        return is_upload

    def test_a_file_goes_on_after_the_page_is_reloaded(self, desk, ground, film):
        super().test_a_file_goes_on_after_the_page_is_reloaded(desk, ground, film)
        assert int(desk.line.uploads()[-1].headers["x-start-byte"]) > self.size / 4

    def test_the_requests_are_those_of_the_article(self, desk, ground, film):
        headers = []
        desk.page.on("request", lambda one: headers.append((one.url, one.headers)))
        desk.choose(film)
        desk.wait("film.bin", "complete")
        found = {url.rpartition("/")[2]: headers for url, headers in headers}
        modified = int(film.stat().st_mtime * 1000)
        file_id = f"film.bin-{self.size}-{modified}"
        assert found["status"]["x-file-id"] == found["upload"]["x-file-id"] == file_id
        assert found["upload"]["x-start-byte"] == "0"
        assert not {"content-type", "x-csrftoken", "x-file-size"} & set(found["upload"])
        (upload,) = desk.check_stored(ground, film)
        assert len(desk.line.uploads()) == 1

    def test_to_stop_and_go_on_at_once_loses_nothing(self, desk, ground, film):
        desk.line.pace = self.pace
        desk.choose(film)
        for part in (8, 6, 5):
            desk.wait_sent(self.size // part)
            desk.page.evaluate(
                """() => {
                    const [upload] = client.uploads.keys();
                    upload.stop();
                    client.run(upload);
                }"""
            )
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)

    def test_a_latin_name_is_kept(self, desk, ground, tmp_path):
        path = made(tmp_path / "résumé ß – 2.txt", 1000)
        other = made(tmp_path / "résumé ß 2.txt", 1000)
        desk.choose(path, other)
        self.wait_all(desk, 2)
        desk.check_stored(ground, path, other)

    def test_a_file_that_was_completed_is_not_sent_again(self, desk, ground, film):
        desk.choose(film)
        desk.wait("film.bin", "complete")
        sent = desk.line.sent()
        desk.open()
        desk.choose(film)
        desk.wait("film.bin", "complete")
        assert desk.line.sent() == sent
        desk.check_stored(ground, film)

    def test_a_page_of_another_site_gets_nowhere(self, desk, ground, page):
        # The same server under another name is another site.
        # A style sheet as a page has no policy of its own that would forbid to try.
        page.goto(desk.line.url.replace("127.0.0.1", "localhost") + "/static/site.css")
        url = f"{desk.line.url}/demo/javascript-info/upload"
        outcome = page.evaluate(
            """async (url) => {
                const headers = {"X-File-Id": "a-1-1", "X-Start-Byte": "0"};
                const options = {method: "POST", headers, body: "x"};
                const asked = fetch(url, {...options, credentials: "include"});
                const plain = fetch(url, {method: "POST", body: "x", mode: "no-cors",
                                          credentials: "include"});
                return [await asked.then(() => "answered", () => "blocked"),
                        await plain.then((one) => one.type, () => "blocked")];
            }""",
            url,
        )
        assert outcome[0] == "blocked"
        assert not [one for one in desk.line.uploads() if one.status == 200]
        page.goto(desk.line.url)
        assert desk.uploads() == []
