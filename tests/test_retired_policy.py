"""A policy that has gone from the settings, while uploads were opened under it."""

from __future__ import annotations

import pytest
from django.db import connection

from resumable_uploads import assembly, engine, retention
from resumable_uploads.models import State, UploadSession

from . import making

pytestmark = pytest.mark.django_db(transaction=True)


def retire(settings) -> None:
    settings.RESUMABLE_UPLOADS = {
        **getattr(settings, "RESUMABLE_UPLOADS", {}),
        "POLICIES": {"another": "resumable_uploads.policies.UploadPolicy"},
    }


def test_its_uploads_are_still_listed_and_shown(settings, client) -> None:
    made = client.post(
        "/uploads/", {"filename": "a", "size": 5}, content_type="application/json"
    ).json()
    retire(settings)
    assert client.get(made["url"]).json()["state"] == "receiving"
    assert [row["id"] for row in client.get("/uploads/").json()["results"]] == [
        made["id"]
    ]


def test_nothing_can_be_sent_to_its_uploads(settings, client) -> None:
    made = client.post(
        "/uploads/", {"filename": "a", "size": 5}, content_type="application/json"
    ).json()
    retire(settings)
    answer = client.put(f"{made['url']}chunks/0/", b"12345", "application/octet-stream")
    assert answer.status_code in (401, 403)
    assert UploadSession.objects.get(pk=made["id"]).received == 0


def test_an_assembly_without_its_policy_is_noted_and_tried_again_later(
    settings,
) -> None:
    upload = making.open_upload(length=5)
    UploadSession.objects.filter(pk=upload.pk).update(policy="gone")
    engine.append(engine.refreshed(upload), 0, making.body(b"12345"))
    row = engine.refreshed(upload)
    assert (row.state, row.lease, row.error_code) == (State.ASSEMBLING, "", "invalid")
    assert row.retry_at is not None
    assert assembly.wait_for_next_try(upload.pk) is not None


def test_all_that_dead_processes_left_is_settled_whatever_the_batch(settings) -> None:
    uploads = [making.open_upload(length=5) for _ in range(7)]
    UploadSession.objects.filter(pk__in=[upload.pk for upload in uploads]).update(
        state=State.CANCELLED, active_at=uploads[0].created_at.replace(year=2020)
    )
    assert retention.purge(batch_size=2).settled == 7
    assert connection.vendor in ("sqlite", "postgresql")
    assert not UploadSession.objects.filter(settled=False).exists()


def test_a_row_whose_storage_is_gone_can_be_deleted() -> None:
    upload = making.open_upload(length=5)
    UploadSession.objects.filter(pk=upload.pk).update(storage="gone")
    engine.refreshed(upload).delete()
    assert not UploadSession.objects.filter(pk=upload.pk).exists()
