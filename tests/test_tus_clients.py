"""The clients of tus that people use, outside of browsers, before a real server."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiotus
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from . import drafts, tus
from .client import Client
from .live import LiveSite, SiteTemplates
from .processes import ROOT
from .rest import some_bytes

KIB = 1024
DATA = some_bytes(4 * 100 * KIB)
POLICY = {"downloadable": True, "capability_urls": True, "max_open": None}


@pytest.fixture(scope="module")
def site(
    site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSite]:
    folder = tmp_path_factory.mktemp("site")
    site_templates.sqlite(folder)
    site = LiveSite(folder, uploads={"POLICIES": {"default": POLICY}}).start()
    yield site
    site.kill()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "film.bin"
    path.write_bytes(DATA)
    return path


def stored(site: LiveSite, url: str) -> bytes:
    """Return what is got at the URL of an upload, by whoever has it."""
    assert url.startswith(site.url)
    with Client(site.url) as somebody:
        answer = somebody.get(url.removeprefix(site.url))
    assert answer.status == 200, (url, answer.body)
    return answer.body


# tus-js-client in node


@pytest.mark.parametrize("package", ["tus-js-client", "tus-js-client-5"])
def test_tus_js_client_uploads_in_each_of_its_ways(site, file, package):
    if not shutil.which("node") or not (ROOT / "node_modules" / package).is_dir():
        pytest.skip(f"{package} is not installed")
    script = ROOT / "tests" / "clients" / "tus.mjs"
    endpoints = [site.url + tus.URL, site.url + drafts.URL]
    done = subprocess.run(
        ["node", script, package, *endpoints, file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [one for one in told if "error" in one] == []
    ways = {one["way"]: one["url"] for one in told}
    assert len(ways) == 31
    for way, url in ways.items():
        if "terminated" in way:
            with Client(site.url) as somebody:
                assert somebody.head(url.removeprefix(site.url)).status == 404
            continue
        assert stored(site, url) == (b"" if "empty" in way else DATA), way


# tuspy


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("size", [0, 1, len(DATA)])
def test_tuspy_uploads(site, size, checksum):
    client = TusClient(site.url + tus.URL)
    uploader = client.uploader(
        file_stream=io.BytesIO(DATA[:size]),
        chunk_size=100_000,
        metadata={"filename": "ü.bin"} if checksum else None,
        upload_checksum=checksum,
    )
    uploader.upload()
    assert stored(site, uploader.url) == DATA[:size]


def test_tuspy_goes_on_after_it_was_ended(site):
    """By the address of the upload, the only thing that it knows of it."""
    client = TusClient(site.url + tus.URL)
    first = client.uploader(file_stream=io.BytesIO(DATA), chunk_size=100_000)
    first.upload(stop_at=200_000)
    second = client.uploader(file_stream=io.BytesIO(DATA), url=first.url)
    assert second.offset == 200_000
    second.upload()
    assert stored(site, second.url) == DATA


def test_tuspy_goes_on_after_the_server_was_killed(site):
    client = TusClient(site.url + tus.URL)
    options = {"chunk_size": 100_000, "retries": 5, "retry_delay": 1}
    uploader = client.uploader(file_stream=io.BytesIO(DATA), **options)
    uploader.upload(stop_at=200_000)
    site.kill()
    site.start()
    uploader.upload()
    assert stored(site, uploader.url) == DATA


def test_tuspy_is_told_what_is_wrong(site):
    client = TusClient(site.url + tus.URL)
    url = f"{site.url}{tus.URL}x"
    with pytest.raises(TusCommunicationError) as caught:
        client.uploader(url=url, file_stream=io.BytesIO(b"x"))
    assert caught.value.status_code == 404


# aiotus


@pytest.mark.parametrize("size", [0, len(DATA)])
def test_aiotus_uploads(site, size):
    said = {"filename": b"a.bin", "odd": None}
    url = asyncio.run(
        aiotus.upload(
            site.url + tus.URL, io.BytesIO(DATA[:size]), said, chunksize=100_000
        )
    )
    assert stored(site, str(url)) == DATA[:size]
    told = asyncio.run(aiotus.metadata(url))
    assert told == {"filename": b"a.bin", "odd": None}


def test_aiotus_uploads_many_files_as_one(site):
    parts = [io.BytesIO(DATA[:100_000]), io.BytesIO(DATA[100_000:])]
    url = asyncio.run(
        aiotus.upload_multiple(site.url + tus.URL, parts, {"filename": b"a.bin"})
    )
    assert stored(site, str(url)) == DATA
