"""Fine Uploader itself, in a real browser."""

from __future__ import annotations

import pytest

from tests.contracts.ground import TABLE

from .clients import (
    CHUNK,
    SIZE,
    ClientDesk,
    FormContract,
    drop,
    made,
    sha256,
)

pytestmark = pytest.mark.once

CHUNKS = "resumable_uploads_chunk"

STATES = {
    "submitting": "waiting",
    "submitted": "waiting",
    "queued": "waiting",
    "upload finalizing": "uploading",
    "retrying upload": "uploading",
    "upload successful": "complete",
    "upload failed": "failed",
}


class FineDesk(ClientDesk):
    """The page of Fine Uploader, which brings its own list and buttons."""

    def choose(self, *paths):
        self.page.set_input_files("input[name=qqfile]", list(paths))

    def pause(self):
        self._item().get_by_role("button", name="Pause").click()

    def resume(self):
        self._item().get_by_role("button", name="Continue").click()

    def retry(self, name):
        self._item(name).get_by_role("button", name="Retry").click()

    def delete(self, name):
        self._item(name).get_by_role("button", name="Delete").click()

    def _item(self, name=""):
        return self.page.locator("#uploader li", has_text=name).first

    def state(self, name):
        find = (
            "name => client.getUploads().findLast(file => file.name === name)?.status"
        )
        status = self.page.evaluate(find, name) or ""
        return STATES.get(status, status)

    def text(self, name):
        return self._item(name).inner_text()

    def names(self):
        return self.page.evaluate("client.getUploads().map(file => file.name)")

    def resumable(self):
        """Return what the browser remembers of unfinished files."""
        return self.page.evaluate("client.getResumableFilesData()")

    def dones(self):
        return [one for one in self.line.requests if one.path.endswith("/done/")]


class FineContract(FormContract):
    client = "fineuploader"
    desk_class = FineDesk
    options = {"partSize": CHUNK, "retryDelay": 0.5}

    def wait_all(self, desk, count):
        find = "client.getUploads({status: 'upload successful'}).length"
        desk.until(lambda: desk.page.evaluate(find) == count, 20, "all are complete")

    def test_the_done_call_is_made_once(self, desk, ground, film):
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)
        assert [done.status for done in desk.dones()] == [200]

    def test_a_lost_answer_to_the_done_call_is_asked_for_again(
        self, desk, ground, film
    ):
        trap = desk.line.lose_answer_once(lambda one: one.path.endswith("/done/"))
        desk.choose(film)
        desk.wait("film.bin", "complete")
        assert trap.sprung
        assert len(desk.dones()) == 2
        desk.check_stored(ground, film)

    def test_a_reload_during_the_done_call_calls_it_again(
        self, page, line, ground, film
    ):
        # A file that the session lists is there, and would be sent as another one.
        desk = self.desk_at(page, line, session=0)
        trap = desk.line.hold_answer_once(lambda one: one.path.endswith("/done/"))
        desk.choose(film)
        desk.until(lambda: trap.sprung, 20, "the done call is made")
        sent = desk.line.sent()
        desk.open()
        desk.choose(film)
        desk.wait("film.bin", "complete")
        assert desk.line.sent() == sent
        assert len(desk.dones()) == 2
        desk.check_stored(ground, film)

    def test_parts_that_are_gone_are_sent_again_after_the_done_call(
        self, desk, ground, film
    ):
        """The done call orders a restart, and the client makes it."""
        trap = desk.line.answer_once(503, lambda one: one.path.endswith("/done/"))
        desk.choose(film)
        desk.until(lambda: trap.sprung, 20, "the done call is made")
        for upload in desk.uploads():
            answer = desk.page.request.delete(
                desk.line.url + upload["url"], headers=token(desk)
            )
            assert answer.status == 204
        # A deleted upload is not begun again; one that is only lost is.
        self.forget_tombstone(ground)
        desk.wait("film.bin", "complete")
        uploads = [one for one in desk.uploads() if one["state"] == "complete"]
        assert [sha256(desk.download(one)) for one in uploads] == [
            sha256(film.read_bytes())
        ]
        assert desk.line.sent() >= 2 * SIZE

    def forget_tombstone(self, ground):
        ground.site.sql(
            "DELETE FROM resumable_uploads_uploadsession WHERE state=?", "cancelled"
        )


def token(desk):
    cookies = {one["name"]: one["value"] for one in desk.page.context.cookies()}
    return {"X-CSRFToken": cookies["csrftoken"]}


class TestFineUploader(FineContract):
    """One part after another."""

    def test_a_file_is_deleted(self, desk, ground, tmp_path):
        small = made(tmp_path / "small.txt", 1000)
        desk.choose(small)
        desk.wait("small.txt", "complete")
        desk.page.on("dialog", lambda dialog: dialog.accept())
        desk.delete("small.txt")
        desk.wait("small.txt", "deleted")
        assert [upload["state"] for upload in desk.uploads()] == ["cancelled"]

    def test_files_are_listed_after_a_reload_and_deleted_from_there(
        self, desk, ground, tmp_path
    ):
        for name in ("one.txt", "报告.txt"):
            desk.choose(made(tmp_path / name, 1000))
            desk.wait(name, "complete")
        desk.open()
        desk.until(lambda: len(desk.names()) == 2, 10, "the files are listed")
        assert set(desk.names()) == {"one.txt", "报告.txt"}
        desk.delete("报告.txt")
        desk.wait("报告.txt", "deleted")
        states = {upload["filename"]: upload["state"] for upload in desk.uploads()}
        assert states == {"one.txt": "complete", "报告.txt": "cancelled"}

    @pytest.mark.parametrize("is_purged", [False, True])
    def test_a_resumed_file_that_is_gone_is_reset_and_sent_again(
        self, desk, ground, film, is_purged
    ):
        desk.line.pace = self.pace
        desk.choose(film)
        desk.wait_taken(3)
        desk.page.goto("about:blank")
        desk.page.wait_for_timeout(200)
        (upload,) = desk.uploads()
        ground.expire(upload["id"])
        if is_purged:
            row = upload["id"].replace("-", "")
            ground.site.sql(f"DELETE FROM {CHUNKS} WHERE upload_id=?", row)
            ground.site.sql(f"DELETE FROM {TABLE} WHERE id=?", row)
        desk.line.pace = None
        desk.open()
        (record,) = desk.resumable()
        desk.choose(film)
        desk.wait("film.bin", "complete")
        done = [one for one in desk.uploads() if one["state"] == "complete"]
        assert [one["client_key"] for one in done] == [record["uuid"]]
        assert sha256(desk.download(done[0])) == sha256(film.read_bytes())
        assert [one.status for one in desk.line.uploads()].count(409) == 1
        assert desk.resumable() == []

    def test_a_veto_against_resuming_sends_all_again(self, desk, ground, film):
        desk.line.pace = self.pace
        desk.choose(film)
        desk.wait_taken(3)
        desk.page.goto("about:blank")
        desk.line.pace = None
        desk.open()
        desk.page.evaluate("client._options.callbacks.onResume = () => false")
        before = desk.line.sent()
        desk.choose(film)
        desk.wait("film.bin", "complete")
        assert desk.line.sent() - before >= SIZE
        desk.check_stored(ground, film)

    def test_two_tabs_with_one_record_make_one_file(self, desk, ground, film, line):
        line.pace = self.pace
        desk.choose(film)
        desk.wait_taken(3)
        desk.page.goto("about:blank")
        desk.open()
        other = FineDesk(
            desk.page.context.new_page(), line, self.client, **self.options
        )
        other.open()
        desk.choose(film)
        other.choose(film)
        line.pace = None
        desk.wait("film.bin", "complete")
        other.wait("film.bin", "complete")
        desk.check_stored(ground, film)

    def test_parts_may_be_sent_without_a_done_call(self, page, line, ground, film):
        desk = self.desk_at(page, line, done=0)
        desk.choose(film)
        desk.wait("film.bin", "complete")
        assert desk.dones() == []
        desk.check_stored(ground, film)

    def test_an_empty_file_may_be_in_parts(self, page, line, ground, tmp_path):
        desk = self.desk_at(page, line, mandatory=1)
        empty = made(tmp_path / "empty.txt", 0)
        desk.choose(empty)
        desk.wait(empty.name, "complete")
        desk.check_stored(ground, empty)
        assert line.uploads() == []

    def test_raw_parts_go_up(self, desk, ground, film):
        desk.page.evaluate(
            """() => {
                const request = client._options.request;
                Object.assign(request, {forceMultipart: false, paramsInBody: false});
            }"""
        )
        desk.choose(film)
        desk.wait("film.bin", "complete")
        desk.check_stored(ground, film)

    def test_a_folder_is_dropped(self, desk, ground, tmp_path):
        (tmp_path / "trip" / "day 1").mkdir(parents=True)
        first = made(tmp_path / "trip" / "a.txt", 1000)
        second = made(tmp_path / "trip" / "day 1" / "b.txt", 2 * CHUNK)
        drop(desk.page, ".qq-uploader", tmp_path / "trip")
        self.wait_all(desk, 2)
        uploads = desk.check_stored(ground, first, second)
        found = {upload["filename"]: upload["relative_path"] for upload in uploads}
        assert found == {"a.txt": "trip", "b.txt": "trip/day 1"}

    def test_a_final_refusal_offers_no_retry(self, desk, tmp_path):
        desk.choose(made(tmp_path / "tool.exe", 1000))
        desk.wait("tool.exe", "failed")
        button = desk.page.get_by_role("button", name="Retry")
        assert not button.is_visible()

    def test_a_file_that_is_deleted_while_it_is_sent_is_not_begun_again(
        self, desk, ground, film
    ):
        desk.line.pace = self.pace
        desk.choose(film)
        desk.wait_taken(3)
        (upload,) = desk.uploads()
        url = desk.line.url + upload["url"]
        assert desk.page.request.delete(url, headers=token(desk)).status == 204
        desk.wait("film.bin", "failed")
        assert "deleted" in desk.text("film.bin") or "gone" in desk.text("film.bin")
        assert [one["state"] for one in desk.uploads()] == ["cancelled"]
        assert ground.staged(upload["id"]) == 0


class TestConcurrentFineUploader(FineContract):
    """Parts side by side."""

    options = FineContract.options | {"concurrent": 1}

    @pytest.mark.parametrize("status", [500, 503])
    def test_a_part_that_fails_is_sent_again(self, desk, ground, film, status):
        trap = desk.line.answer_once(status, self.in_the_middle(desk))
        desk.choose(film)
        desk.wait("film.bin", "complete")
        assert trap.sprung
        desk.check_stored(ground, film)

    def test_three_parts_go_up_from_the_last_to_the_first(self, desk, ground, tmp_path):
        path = made(tmp_path / "three.bin", 3 * CHUNK)
        desk.choose(path)
        desk.wait("three.bin", "complete")
        desk.check_stored(ground, path)

    def test_a_resumed_file_that_is_gone_never_hangs(self, desk, ground, film):
        desk.line.pace = self.pace
        desk.choose(film)
        desk.wait_taken(3)
        desk.page.goto("about:blank")
        desk.page.wait_for_timeout(200)
        (upload,) = desk.uploads()
        ground.expire(upload["id"])
        desk.line.pace = None
        desk.open()
        desk.choose(film)
        desk.wait("film.bin", "complete")
        assert [done.status for done in desk.dones()] == [409, 200]
        assert 409 not in [one.status for one in desk.line.uploads()]
        done = [one for one in desk.uploads() if one["state"] == "complete"]
        assert [sha256(desk.download(one)) for one in done] == [
            sha256(film.read_bytes())
        ]
