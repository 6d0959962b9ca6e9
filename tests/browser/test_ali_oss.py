"""The browser SDK of Aliyun OSS itself, in a real browser."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import signing
from django.test import override_settings
from playwright.sync_api import Page, Route

from project.clients import CLIENTS
from resumable_uploads import credentials
from resumable_uploads.owners import Owner
from tests.contracts.ground import LiveGround, watched_site
from tests.live import SECRET_KEY, LiveSite, SiteTemplates

from .clients import ClientDesk, made
from .line import Line, Sent

pytestmark = pytest.mark.once
PART = 102_400
SIZE = 12 * PART + 1000
PACE = SIZE


class OssDesk(ClientDesk):
    """The demo page, where parts are what counts."""

    def choose(self, *paths: Path) -> None:
        super().choose(*paths)
        self.page.get_by_role("button", name="Upload", exact=True).click()

    def parts(self, *statuses: int) -> list[int]:
        """Return the numbers of the parts that were answered so, as they came."""
        return [
            number_of(request)
            for request in self.line.requests
            if is_part(request) and request.status in statuses
        ]

    def wait_parts(self, count: int) -> None:
        self.until(
            lambda: len(self.parts(200)) >= count, 30, f"{count} parts are there"
        )


def is_part(request: Sent) -> bool:
    return request.method == "PUT" and "partNumber=" in request.path


def number_of(request: Sent) -> int:
    found = re.search(r"partNumber=(\d+)", request.path)
    assert found
    return int(found[1])


@pytest.fixture(scope="module")
def site(
    site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSite]:
    if not CLIENTS["ali-oss"].is_installed:
        pytest.skip("ali-oss is not installed")
    folder = tmp_path_factory.mktemp("site")
    site_templates.sqlite(folder)
    site = watched_site(folder).start()
    yield site
    site.kill()


@pytest.fixture
def ground(site: LiveSite) -> Iterator[LiveGround]:
    ground = LiveGround(site)
    yield ground
    ground.close()


@pytest.fixture
def line(site: LiveSite) -> Iterator[Line]:
    line = Line(site.port)
    yield line
    line.close()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return made(tmp_path / "film.bin", SIZE)


def desk_at(page: Page, line: Line, **options: Any) -> OssDesk:
    return OssDesk(page, line, "ali-oss", partSize=PART, **options).open()


@pytest.fixture
def desk(page: Page, line: Line) -> OssDesk:
    return desk_at(page, line)


@pytest.mark.parametrize("v4", [1, 0])
def test_a_file_is_paused_and_goes_on(page, line, ground, film, v4):
    desk = desk_at(page, line, v4=v4)
    line.pace = PACE
    desk.choose(film)
    desk.wait_parts(3)
    desk.pause()
    desk.wait("film.bin", "paused")
    desk.wait_for_silence()
    before = len(desk.parts(200))
    assert before < 13
    line.pace = None
    desk.resume()
    desk.wait("film.bin", "complete")
    desk.check_stored(ground, film)
    # At most what was on its way when it was paused is sent again.
    assert len(desk.parts(200)) <= 13 + 3
    assert [one.method for one in line.requests if "uploads=" in one.path] == ["POST"]


def test_a_file_goes_on_after_the_page_is_reloaded(desk, ground, film):
    desk.line.pace = PACE
    desk.choose(film)
    desk.wait_parts(5)
    desk.page.goto("about:blank")
    desk.page.wait_for_timeout(100)
    desk.line.pace = None
    desk.open()
    desk.choose(film)
    desk.wait("film.bin", "complete")
    desk.check_stored(ground, film)
    assert len(desk.parts(200)) <= 13 + 4


def test_a_file_goes_on_after_a_part_is_answered_by_500(desk, ground, film):
    trap = desk.line.answer_once(500, lambda one: is_part(one) and number_of(one) == 5)
    desk.choose(film)
    desk.wait("film.bin", "failed")
    assert trap.sprung
    desk.retry("film.bin")
    desk.wait("film.bin", "complete")
    desk.check_stored(ground, film)


def test_a_file_goes_on_after_the_line_breaks_in_a_part(desk, ground, film):
    trap = desk.line.cut_once(
        PART // 2, lambda one: is_part(one) and number_of(one) == 5
    )
    desk.choose(film)
    while desk.wait("film.bin", "complete", "failed") == "failed":
        desk.retry("film.bin")
    assert trap.sprung
    desk.check_stored(ground, film)


def test_a_file_goes_on_after_the_answer_to_complete_is_lost(desk, ground, film):
    trap = desk.line.lose_answer_once(
        lambda one: one.method == "POST" and "uploadId=" in one.path
    )
    desk.choose(film)
    while desk.wait("film.bin", "complete", "failed") == "failed":
        desk.retry("film.bin")
    assert trap.sprung
    desk.check_stored(ground, film)


def test_credentials_are_asked_for_again_in_the_middle(page, line, ground, film):
    desk = desk_at(page, line, refresh=0)
    desk.choose(film)
    desk.wait("film.bin", "complete")
    desk.check_stored(ground, film)
    keys = [one for one in line.requests if one.path == "/uploads/sts/"]
    assert len(keys) > 13
    used = {
        one.headers["x-oss-security-token"] for one in line.requests if is_part(one)
    }
    assert len(used) > 3


def test_credentials_that_were_taken_back_are_replaced(desk, ground, film):
    desk.line.pace = PACE
    desk.choose(film)
    desk.wait_parts(3)
    desk.page.evaluate(
        """() => fetch("/uploads/sts/", {method: "DELETE", headers: {"X-CSRFToken":
            /csrftoken=([^;]*)/.exec(document.cookie)[1]}})"""
    )
    desk.wait("film.bin", "failed")
    desk.line.pace = None
    desk.retry("film.bin")
    desk.wait("film.bin", "complete")
    desk.check_stored(ground, film)


def test_credentials_that_expire_in_the_middle_are_replaced(desk, ground, film):
    desk.page.route("**/uploads/sts/", give_out_for_four_seconds, times=1)
    desk.line.pace = SIZE // 12
    desk.choose(film)
    desk.wait("film.bin", "failed")
    assert "expired" in desk.text("film.bin")
    there = len(desk.parts(200))
    assert 0 < there < 13
    assert 403 in [one.status for one in desk.line.requests if is_part(one)]
    desk.line.pace = None
    desk.retry("film.bin")
    desk.wait("film.bin", "complete")
    desk.check_stored(ground, film)
    assert len(desk.parts(200)) <= 13 + 3


def give_out_for_four_seconds(route: Route) -> None:
    """Answer as the site does, but with credentials that expire much sooner."""
    answer = route.fetch()
    given = answer.json()
    with override_settings(SECRET_KEY=SECRET_KEY):
        claims = signing.loads(given["SecurityToken"], salt=credentials.SALT)
        lasts = timedelta(seconds=4) - credentials.GRACE
        short = credentials.issue(Owner(claims["o"]), given["bucket"], lasts=lasts)
    text = answer.text()
    for name, value in (
        ("AccessKeyId", short.access_key_id),
        ("AccessKeySecret", short.secret),
        ("SecurityToken", short.token),
    ):
        text = text.replace(given[name], value)
    route.fulfill(response=answer, body=text)


def test_an_upload_that_has_expired_begins_again(desk, ground, film):
    desk.line.pace = PACE
    desk.choose(film)
    desk.wait_parts(3)
    desk.pause()
    desk.wait("film.bin", "paused")
    (upload,) = desk.uploads()
    ground.expire(upload["id"])
    desk.line.pace = None
    desk.resume()
    desk.wait("film.bin", "failed")
    desk.retry("film.bin")
    desk.wait("film.bin", "complete")
    done = [one for one in desk.uploads() if one["state"] == "complete"]
    assert [hashlib.sha256(desk.download(one)).hexdigest() for one in done] == [
        hashlib.sha256(film.read_bytes()).hexdigest()
    ]


@pytest.mark.parametrize("name", ["报告 (1)!~*'.txt", "small.txt", "empty.txt"])
def test_small_files_and_names_of_any_script_are_kept(desk, ground, tmp_path, name):
    path = made(tmp_path / name, 0 if name == "empty.txt" else 1000)
    desk.choose(path)
    desk.wait(name, "complete")
    desk.check_stored(ground, path)


def test_the_page_of_the_vendors_manual_works_as_it_is_written(page, line, ground):
    """Upload, pause, go on with the checkpoint; only the placeholders are filled."""
    desk_at(page, line)
    progress = page.evaluate(
        """async (size) => {
            const held = await client.credentials();
            const oss = new OSS({
                region: "oss-cn-hangzhou",
                authorizationV4: true,
                accessKeyId: held.AccessKeyId,
                accessKeySecret: held.AccessKeySecret,
                stsToken: held.SecurityToken,
                bucket: "demo-bucket",
                endpoint: location.origin,
                sldEnable: true,
            });
            const fileContent = Array(size).fill("a").join("");
            const file = new File([fileContent], "multipart-upload-file");
            const name = "test.txt";
            const seen = [];
            let abortCheckpoint;
            const options = () => ({
                progress: (p, cpt, res) => {
                    abortCheckpoint = cpt;
                    seen.push(p);
                    if (seen.length === 4) oss.cancel();
                },
            });
            const paused = await oss.multipartUpload(name, file, options()).then(
                () => "not paused", (error) => error.name);
            seen.push(paused);
            const result = await oss.multipartUpload(name, file,
                {checkpoint: abortCheckpoint, ...options()});
            seen.push(result.res.status, result.etag);
            return seen;
        }""",
        8 * 1024 * 1024,
    )
    assert "cancel" in progress
    assert progress[-2] == 200
    assert progress[-1].endswith('-8"')
    (digest,) = ground.files().values()
    assert digest == hashlib.sha256(b"a" * 8 * 1024 * 1024).hexdigest()
