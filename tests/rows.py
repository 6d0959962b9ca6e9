"""Rows as they would be, without the bytes; and the pages of the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from resumable_uploads.models import Chunk, State, UploadSession

LIST = "/admin/resumable_uploads/uploadsession/"


def row(**facts: Any) -> UploadSession:
    """Make the row of an upload; what is not said is as for one just opened."""
    now = timezone.now()
    said = {
        "owner": "session:visitor",
        "protocol": "rest",
        "filename": "film.mp4",
        "length": 1000,
        "created_at": now,
        "active_at": now,
        "expires_at": now + timedelta(days=7),
    } | facts
    if said.get("state") == State.COMPLETE:
        said = {"completed_at": now, "file": "film.mp4", "settled": True} | said
        said["received"] = said["length"]
    return UploadSession.objects.create(**said)


def chunk(upload: UploadSession, number: int, **facts: Any) -> Chunk:
    """Make the row of a chunk of ten bytes."""
    said = {
        "offset": 10 * number,
        "size": 10,
        "checksum": "0" * 16,
        "key": "somewhere",
        "created_at": timezone.now(),
    } | facts
    return Chunk(upload=upload, number=number, **said)


def with_chunks(numbers: Any, total: int, **facts: Any) -> UploadSession:
    """Make the rows of an upload of ``total`` chunks, some of them recorded."""
    numbers = list(numbers)
    upload = row(
        length=10 * total,
        chunk_size=10,
        addressed_by="number",
        received=10 * len(numbers),
        chunk_count=len(numbers),
        **facts,
    )
    chunks = [chunk(upload, number) for number in numbers]
    Chunk.objects.bulk_create(chunks, batch_size=500)
    return upload


def fresh(upload: UploadSession) -> UploadSession:
    return UploadSession.objects.get(pk=upload.pk)


def page_of(upload: UploadSession, what: str = "change") -> str:
    """Return the path of an upload's page in the admin."""
    return f"{LIST}{upload.pk}/{what}/"


def staff(*may: str) -> Client:
    """Return the client of an employee who may do this to uploads: "view", "change"."""
    user = User.objects.create_user("employee", is_staff=True)
    names = [f"{verb}_uploadsession" for verb in may]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client
