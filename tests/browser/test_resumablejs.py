"""Resumable.js itself, in a real browser."""

from __future__ import annotations

import pytest

from .clients import CHUNK, SIZE, FormContract, chunk_numbers, drop, made, sha256

pytestmark = pytest.mark.once


class TestResumableJs(FormContract):
    client = "resumablejs"
    options = {"chunkSize": CHUNK}

    def test_chunks_go_up_side_by_side(self, desk, ground, film):
        desk.line.pace = 8 * SIZE
        most = []
        desk.page.on("request", lambda request: most.append(in_flight(desk)))
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)
        assert 2 <= max(most) <= 3

    def test_the_last_chunk_may_come_second(self, page, line, ground, film):
        desk = self.desk_at(page, line, prioritizeFirstAndLastChunk=1)
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)
        assert chunk_numbers(line)[:3].count(10) == 1

    def test_chunks_of_one_size_may_be_forced(self, page, line, ground, film):
        desk = self.desk_at(page, line, forceChunkSize=1)
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)
        assert max(chunk_numbers(line)) == 11

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_chunks_may_be_raw(self, page, line, ground, film, method):
        desk = self.desk_at(page, line, method="octet", uploadMethod=method)
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)

    def test_parameters_may_have_a_namespace(self, page, line, ground, film):
        desk = self.desk_at(page, line, parameterNamespace="ns_")
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)
        assert "ns_resumableChunkNumber=" in line.uploads()[0].path

    def test_a_changed_chunk_size_does_not_mix(self, page, line, ground, film):
        desk = self.desk_at(page, line)
        line.pace = self.pace
        desk.choose(film)
        desk.wait_taken(4)
        page.goto("about:blank")
        line.pace = None
        desk = self.desk_at(page, line, chunkSize=CHUNK // 2)
        desk.choose(film)
        desk.wait("film.bin", "complete")
        done = [upload for upload in desk.uploads() if upload["state"] == "complete"]
        assert [sha256(desk.download(upload)) for upload in done] == [
            sha256(film.read_bytes())
        ]

    def test_a_changed_geometry_goes_on(self, page, line, ground, film):
        desk = self.desk_at(page, line, prioritizeFirstAndLastChunk=1)
        line.pace = self.pace
        desk.choose(film)
        desk.wait_taken(4)
        page.goto("about:blank")
        line.pace = None
        desk = self.desk_at(page, line, forceChunkSize=1)
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)
        self.check_sent_again(desk, 1)

    def test_a_folder_is_dropped(self, desk, ground, tmp_path):
        (tmp_path / "trip" / "day 1").mkdir(parents=True)
        first = made(tmp_path / "trip" / "a.txt", 1000)
        second = made(tmp_path / "trip" / "day 1" / "b.txt", 1000)
        drop(desk.page, "#drop", tmp_path / "trip")
        self.wait_all(desk, 2)
        uploads = desk.check_stored(ground, first, second)
        assert {
            (upload["relative_path"], upload["filename"]) for upload in uploads
        } == {
            ("trip", "a.txt"),
            ("trip/day 1", "b.txt"),
        }

    def test_a_completed_file_is_not_sent_again(self, desk, ground, film):
        desk.choose(film)
        desk.wait("film.bin", "complete")
        sent = desk.line.sent()
        desk.open()
        desk.choose(film)
        desk.wait("film.bin", "complete")
        assert desk.line.sent() == sent
        desk.check_stored(ground, film)

    def test_a_missing_token_is_no_request_storm(self, page, line, film):
        # As the client comes: what is not on its list it repeats at once, 100 times.
        desk = self.desk_at(page, line, recommended=0)
        page.context.clear_cookies(name="csrftoken")
        desk.choose(film)
        desk.wait("film.bin", "failed")
        assert len(line.uploads()) <= 3

    def test_what_has_ended_meanwhile_is_no_success(self, desk, ground, film):
        desk.line.pace = self.pace
        desk.choose(film)
        desk.wait_taken(4)
        desk.pause()
        desk.page.wait_for_timeout(300)
        (upload,) = desk.uploads()
        ground.expire(upload["id"])
        desk.line.pace = None
        desk.resume()
        desk.wait("film.bin", "failed")
        desk.retry("film.bin")
        desk.wait("film.bin", "complete")
        done = [upload for upload in desk.uploads() if upload["state"] == "complete"]
        assert [sha256(desk.download(upload)) for upload in done] == [
            sha256(film.read_bytes())
        ]


def in_flight(desk):
    return sum(not request.status for request in desk.line.uploads())
