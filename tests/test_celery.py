"""A real worker on a real broker assembles, whatever is killed in the middle."""

from __future__ import annotations

import hashlib
import os
import random
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from . import processes
from .client import Client
from .live import CeleryWorker, LiveSite
from .receiver import SECRET, Receiver
from .services import Valkey

SIZE = 3_000_000
CHUNK = 1_000_000
DATA = random.Random(7).randbytes(SIZE)

# A look at the file that takes as long as a test wants it to.
SLOW_POLICY = """
    import os, pathlib, time
    from resumable_uploads.policies import UploadPolicy

    FOLDER = pathlib.Path(os.environ["DATA_DIR"])

    class Slow(UploadPolicy):
        def validate(self, upload, file):
            with (FOLDER / "looks").open("a") as looks:
                looks.write(f"{os.getpid()}\\n")
            while (FOLDER / "hold").exists():
                time.sleep(0.05)
"""

MakeSite = Callable[..., LiveSite]
Serve = Callable[..., tuple[LiveSite, Client]]
MakeWorker = Callable[..., CeleryWorker]


@pytest.fixture
def serve(make_live_site: MakeSite, make_client: Callable[..., Client]) -> Serve:
    """Serve a site that leaves assembly to Celery, with a quick clock."""

    def make(
        broker: Valkey, webhook: str = "", **options: Any
    ) -> tuple[LiveSite, Client]:
        webhooks = {"there": {"url": webhook, "secret": SECRET}} if webhook else {}
        resend = {
            "task": "resumable_uploads.resend",
            "schedule": timedelta(seconds=1),
        }
        site = make_live_site(
            env={"CELERY_BROKER_URL": broker.url, "RUNNER": "celery"},
            uploads={
                "POLICIES": {"default": {"class": "slow.Slow"}},
                "ASSEMBLY_TIMEOUT": timedelta(seconds=2),
                "WEBHOOKS": webhooks,
            },
            settings={"CELERY_BEAT_SCHEDULE": {"resumable-uploads-resend": resend}},
            start=False,
            **options,
        )
        (site.data_dir / "slow.py").write_text(textwrap.dedent(SLOW_POLICY))
        return site.start(), make_client(site)

    return make


def send(client: Client) -> dict[str, Any]:
    """Open an upload and send all its chunks; return the upload."""
    new = {"filename": "talk.mp4", "size": SIZE, "chunk_size": CHUNK}
    upload = client.post("/uploads/", new).json()
    for number in range(SIZE // CHUNK):
        part = DATA[number * CHUNK : (number + 1) * CHUNK]
        answer = client.put(f"{upload['url']}chunks/{number}/", part)
        assert answer.status == 201, answer.body
    return upload


def state(client: Client, upload: dict[str, Any]) -> str:
    return client.get(upload["url"]).json()["state"]


def wait_until_complete(client: Client, upload: dict[str, Any]) -> None:
    processes.wait_for(
        lambda: state(client, upload) == "complete", 60, "the upload is complete"
    )


def assert_one_right_file(site: LiveSite) -> None:
    (file,) = site.files()
    assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(DATA).digest()
    staging = Path(f"{site.media}-staging")
    processes.wait_for(
        lambda: not [path for path in staging.rglob("*") if path.is_file()],
        30,
        "the chunks are dropped",
    )


def looks(site: LiveSite) -> list[str]:
    path = site.data_dir / "looks"
    return path.read_text().split() if path.exists() else []


@pytest.mark.once
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_worker_assembles_what_the_web_server_took(
    serve: Serve, make_worker: MakeWorker, valkey: Valkey, database: str
) -> None:
    with Receiver() as receiver:
        site, client = serve(valkey, receiver.url, database=database)
        worker = make_worker(site)
        upload = send(client)
        wait_until_complete(client, upload)
        assert len(looks(site)) == 1
        assert_one_right_file(site)
        processes.wait_for(lambda: receiver.calls, 30, "the webhook is sent")
    (call,) = receiver.calls
    assert call.is_signed_by(SECRET)
    assert call.json()["data"]["id"] == upload["id"]
    assert "resumable_uploads.deliver" in worker.log()


@pytest.mark.once
def test_a_worker_killed_in_mid_assembly_is_followed_by_the_next(
    serve: Serve, make_worker: MakeWorker, own_valkey: Valkey
) -> None:
    site, client = serve(own_valkey)
    (site.data_dir / "hold").touch()
    worker = make_worker(site)
    upload = send(client)
    processes.wait_for(lambda: looks(site), 60, "the worker is in the middle")
    worker.kill()
    (site.data_dir / "hold").unlink()
    assert state(client, upload) == "assembling"

    make_worker(site)
    make_worker(site, beat=True)
    wait_until_complete(client, upload)
    assert_one_right_file(site)


@pytest.mark.once
def test_a_broker_that_is_down_at_the_last_chunk_delays_and_loses_nothing(
    serve: Serve, make_worker: MakeWorker, own_valkey: Valkey
) -> None:
    site, client = serve(own_valkey)
    own_valkey.stop()
    upload = send(client)
    answer = client.post(f"{upload['url']}complete/")
    assert (answer.status, answer.json()["state"]) == (202, "assembling")

    own_valkey.start()
    make_worker(site)
    make_worker(site, beat=True)
    wait_until_complete(client, upload)
    assert len(looks(site)) == 1
    assert_one_right_file(site)


@pytest.mark.once
def test_two_workers_that_are_told_twice_make_one_file(
    serve: Serve, make_worker: MakeWorker, own_valkey: Valkey
) -> None:
    site, client = serve(own_valkey)
    (site.data_dir / "hold").touch()
    make_worker(site)
    make_worker(site)
    upload = send(client)
    processes.wait_for(lambda: looks(site), 60, "a worker is in the middle")
    site.shell(
        "from resumable_uploads.tasks import assemble\n"
        f"for _ in range(4): assemble.delay({upload['id']!r})"
    )
    os.unlink(site.data_dir / "hold")
    wait_until_complete(client, upload)
    assert len(looks(site)) == 1
    assert_one_right_file(site)
