"""Hooks on a real server: told while bytes come, and heard in the middle of them."""

from __future__ import annotations

import datetime
import textwrap
import time
from typing import Any

import pytest

from . import processes, tus
from .client import Client, RawRequest
from .live import LiveSite
from .rest import some_bytes

DATA = some_bytes(4_000_000)
# A policy that writes down what it is told, and stops what it is told to.
POLICY = """
    import os, pathlib
    from resumable_uploads import errors
    from resumable_uploads.policies import UploadPolicy

    FOLDER = pathlib.Path(os.environ["DATA_DIR"])

    class Watching(UploadPolicy):
        capability_urls = True

        def progress(self, upload, received):
            with (FOLDER / "told").open("a") as told:
                told.write(f"{received}\\n")
            if (FOLDER / "stop").exists():
                raise errors.Rejected("That is enough.")
"""


@pytest.fixture
def site(make_live_site: Any) -> LiveSite:
    site = make_live_site(
        uploads={
            "POLICIES": {"default": {"class": "watching.Watching"}},
            "PROGRESS_EVERY": datetime.timedelta(seconds=0.2),
            "IDLE_FLUSH": datetime.timedelta(seconds=30),
            "FSYNC": "never",
        },
        start=False,
    )
    (site.data_dir / "watching.py").write_text(textwrap.dedent(POLICY))
    return site.start()


def told(site: LiveSite) -> list[int]:
    path = site.data_dir / "told"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.once
def test_progress_is_told_while_a_body_comes_and_may_stop_it(site):
    with Client(site.url) as me:
        me.cookies = {"csrftoken": ""}
        url = tus.create(me, len(DATA))
        headers = tus.V1 | tus.OFFSETS | {"Upload-Offset": "0"}
        with me.begin("PATCH", url, len(DATA), headers) as request:
            sent = dribble(request, 0, lambda: len(told(site)) >= 3)
            # Nothing is recorded yet: it is told of bytes that are in motion.
            assert site.sql("SELECT COUNT(*) FROM resumable_uploads_chunk") == [(0,)]
            assert told(site) == sorted(told(site))
            assert 0 < told(site)[0] <= told(site)[-1] <= sent
            (site.data_dir / "stop").touch()
            sent = dribble(request, sent, lambda: is_ended(site))
            request.half_close()
            answer = request.answer()
        assert answer.status == 422
        assert answer.body == b"ERR_UPLOAD_STOPPED: That is enough.\n"
        assert sent < len(DATA)
        assert tus.head(me, url).status == 422
        folders = site.data_dir.glob(f"media-staging/**/{url.rpartition('/')[2]}")
        assert list(folders) == []


def is_ended(site: LiveSite) -> bool:
    query = "SELECT state FROM resumable_uploads_uploadsession"
    return site.sql(query) == [("rejected",)]


def dribble(request: RawRequest, sent: int, is_over: Any) -> int:
    """Send a kilobyte now and then until it is over; return how much is sent in all."""

    def step() -> bool:
        nonlocal sent
        request.send(DATA[sent : sent + 1000])
        sent += 1000
        time.sleep(0.05)
        return is_over()

    processes.wait_for(step, 30, "it has been told")
    return sent
