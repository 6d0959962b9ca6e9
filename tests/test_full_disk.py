"""A disk that is full, in the middle of a request to a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from . import processes
from .client import Answer, Client
from .contracts.protocol import File, Refused, must
from .live import SiteTemplates
from .rest import sha256, some_bytes
from .small_disk import SmallDisk
from .test_protocol_contracts import RestByPatch
from .test_tus_contracts import DraftDriver, TusDriver
from .test_tus_live import quick, wait_for_offset

FILE = File(some_bytes(3_000_000), size=3_000_000)
FIRST = 1_000_000
DRIVERS: dict[str, Any] = {
    "tus": TusDriver(),
    "draft": DraftDriver(),
    "REST": RestByPatch(),
}


@pytest.fixture(scope="module")
def disk(
    site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SmallDisk]:
    folder = tmp_path_factory.mktemp("site")
    site_templates.sqlite(folder)
    disk = SmallDisk(folder, uploads=quick(stall=30))
    disk.site.start()
    yield disk
    disk.site.kill()


@pytest.fixture
def me(disk: SmallDisk) -> Iterator[Client]:
    with Client(disk.site.url) as client:
        yield client
    disk.free()


HEADERS = {
    "tus": DRIVERS["tus"].headers(0, FILE, 0),
    "draft": DRIVERS["draft"].headers(0, FILE, 0),
    "REST": {"Upload-Offset": "0"},
}


def tells(protocol: str, answer: Answer) -> bool:
    """Is it said in the words of the protocol that there is no room?"""
    if protocol == "tus":
        return answer.body.startswith(b"ERR_STORAGE_FULL: ")
    if protocol == "draft":
        assert answer.headers["Content-Type"] == "application/problem+json"
        return answer.json()["status"] == 507
    return answer.json()["code"] == "storage_full"


@pytest.mark.parametrize("protocol", DRIVERS)
def test_a_full_disk_loses_nothing_and_the_upload_goes_on_when_there_is_room(
    disk, me, protocol
):
    driver = DRIVERS[protocol]
    url = driver.begin(me, FILE)
    with me.begin("PATCH", url, len(FILE.data), HEADERS[protocol]) as request:
        request.send(FILE.data[:FIRST])
        wait_for_offset(disk.site, url.rstrip("/"), FIRST)
        used = disk.used()
        # Some of what comes next still fits.
        disk.fill(leave=300_000)
        request.send(FILE.data[FIRST:])
        answer = request.answer()
    assert answer.status == 507
    assert tells(protocol, answer)
    assert disk.used() == used, "what nobody counts takes no space"
    assert offset_of(driver, me, url) == FIRST
    # To try again too soon does no harm.
    with pytest.raises(Refused) as again:
        driver.resume(me, url, FILE)
    assert again.value.answer.status == 507
    assert offset_of(driver, me, url) == FIRST
    disk.free()
    driver.resume(me, url, FILE)
    driver.finish(me, url, FILE)
    assert sha256(file_of(driver, me, url)) == sha256(FILE.data)
    wait_until_nothing_is_staged(disk)


@pytest.mark.parametrize("protocol", DRIVERS)
def test_on_a_full_disk_uploads_can_be_opened_and_cancelled(disk, me, protocol):
    driver = DRIVERS[protocol]
    disk.fill()
    url = driver.begin(me, FILE)
    answer = me.request("PATCH", url, FILE.data, HEADERS[protocol])
    assert (answer.status, tells(protocol, answer)) == (507, True)
    assert offset_of(driver, me, url) == 0
    for request in driver.cancels(url):
        must(request.send(me), 204)
    wait_until_nothing_is_staged(disk)


def wait_until_nothing_is_staged(disk: SmallDisk) -> None:
    processes.wait_for(lambda: not disk.staged(), 15, "nothing is left")


def offset_of(driver: Any, me: Client, url: str) -> int:
    headers = getattr(driver, "marks", {})
    answer = must(me.request("HEAD", url, headers=headers), 200, 204)
    return int(answer.headers["Upload-Offset"])


def file_of(driver: Any, me: Client, url: str) -> bytes:
    where = url if hasattr(driver, "marks") else f"{url}file/"
    return must(me.get(where), 200).body
