"""Health, readiness, metrics and the access log of a site."""

from __future__ import annotations

import re

import pytest
from django.db import DatabaseError
from django.test import Client

from resumable_uploads import engine, health, signals
from resumable_uploads.metrics import counting
from resumable_uploads.models import UploadSession

from .buckets import S3Client, credentials
from .client import Client as Visitor
from .making import files_in, open_upload, sent, staging, use


@pytest.fixture(autouse=True)
def _forget():
    health._last.at = 0.0


def ready() -> tuple[int, dict]:
    answer = Client().get("/health/ready/")
    return answer.status_code, answer.json()


# Health


@pytest.mark.once
def test_a_process_that_answers_is_alive(django_assert_num_queries):
    answer = Client().get("/health/live/")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]
    assert not answer.cookies


@pytest.mark.django_db
def test_a_site_that_works_is_ready_and_nothing_is_left_behind():
    assert ready() == (200, {"status": "ok"})
    assert files_in(staging()) == []


@pytest.mark.django_db
def test_to_ask_often_costs_nothing(django_assert_num_queries):
    with django_assert_num_queries(1):
        assert [ready()[0] for _ in range(5)] == [200] * 5


def test_without_a_database_a_site_is_not_ready(monkeypatch):
    def broken(*args: object, **kwargs: object) -> None:
        raise DatabaseError("the password is swordfish")

    monkeypatch.setattr(UploadSession.objects, "order_by", broken)
    assert ready() == (503, {"status": "unavailable", "failed": ["database"]})


@pytest.mark.django_db
def test_a_disk_that_takes_nothing_is_not_ready(own_media):
    # Not by its permissions: root may write everywhere.
    staging().parent.mkdir(parents=True, exist_ok=True)
    staging().write_text("a file where the folder should be")
    status, said = ready()
    assert (status, said["failed"]) == (503, ["storage"])


@pytest.mark.django_db
def test_a_broker_is_asked_where_there_is_one(settings, monkeypatch):
    use(settings, RUNNER="celery")

    def down() -> None:
        raise OSError("nobody there")

    monkeypatch.setattr(health, "_broker", down)
    status, said = ready()
    assert (status, said["failed"]) == (503, ["broker"])


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_health_is_only_asked(method):
    assert getattr(Client(), method)("/health/ready/").status_code == 405


# Metrics


def figures(answer) -> dict[str, float]:
    lines = answer.content.decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


@pytest.fixture
def counted(settings):
    settings.ROOT_URLCONF = "resumable_uploads.metrics.urls"
    counting.connect()
    yield
    for event, signal in signals.LIFE.items():
        assert signal.disconnect(dispatch_uid=f"metrics {event}")


@pytest.mark.django_db(transaction=True)
def test_events_and_bytes_are_counted(counted):
    labels = '{policy="default",protocol="test"}'
    before = figures(Client().get("/"))
    sent(b"0123456789", 5)
    engine.cancel(open_upload(10))
    open_upload(10)
    after = figures(Client().get("/"))

    def more(name: str) -> float:
        key = f"resumable_uploads_{name}_total{labels}"
        return after[key] - before.get(key, 0)

    assert more("opened") == 3
    assert more("completed") == 1
    assert more("completed_bytes") == 10
    assert more("cancelled") == 1
    assert after['resumable_uploads_open{state="receiving"}'] == 1
    assert after['resumable_uploads_open{state="failed"}'] == 0


@pytest.mark.django_db(transaction=True)
def test_metrics_name_nobody_and_cost_one_query(counted, django_assert_num_queries):
    upload = open_upload(10, filename="plans.bin")
    with django_assert_num_queries(1):
        answer = Client().get("/")
    told = answer.content.decode()
    for secret in (upload.owner, str(upload.pk), "plans"):
        assert secret not in told
    assert answer["Content-Type"].startswith("text/plain")


def test_metrics_are_off_unless_installed():
    assert Client().get("/metrics/").status_code == 404


@pytest.mark.once
def test_all_processes_of_a_site_are_counted_and_the_access_log_has_no_signature(
    make_live_site, make_client, tmp_path
):
    shared = tmp_path / "prometheus"
    shared.mkdir()
    env = {"METRICS": "1", "PROMETHEUS_MULTIPROC_DIR": str(shared), "ACCESS_LOG": "-"}
    site = make_live_site(env=env | {"LOG_FORMAT": "json", "WEB_WORKERS": "2"})
    for number in range(6):
        # A new connection, and so maybe another process.
        with Visitor(site.url) as me:
            me.get("/upload/")
            assert me.post("/uploads/", {"filename": "a", "size": 5}).status == 201
            told = me.get("/metrics/").body.decode()
            found = re.findall(
                r"^resumable_uploads_opened_total{.*} (\S+)$", told, re.M
            )
            assert sum(map(float, found)) == number + 1
    me = make_client(site)
    held = credentials(me)
    client = S3Client(me, held)
    assert client.request("PUT", "k", b"data").status == 200
    link = client.presigned("GET", "k")
    assert "Signature=" in link
    assert me.get(link, Referer=f"{site.url}{link}").status == 200
    me.get("/nowhere%0Aforged: line/".replace(" ", "%20"))
    log = site.log()
    assert '"GET /uploads/s3/demo-bucket/k"' in log
    assert "\nforged" not in log
    for secret in ("Signature", held["SecurityToken"][:40], held["AccessKeySecret"]):
        assert secret not in log
    assert '"event": "opened"' in log
