"""Many sessions in the demo's database: ``python -m benchmarks.crowd 1000000``."""

from __future__ import annotations

import argparse
import resource
from datetime import timedelta
from typing import Any

import django
from django.apps import apps
from django.utils import timezone
from django.utils.module_loading import import_string

BATCH = 5000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, default=0)
    parser.add_argument("--expired", action="store_true")
    parser.add_argument("--purge", action="store_true")
    options = parser.parse_args()
    django.setup()
    if options.purge:
        import_string("resumable_uploads.retention.purge")()
        # MiB, for who has asked.
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    age = timedelta(days=8) if options.expired else timedelta()
    for first in range(0, options.count, BATCH):
        fill(min(BATCH, options.count - first), age)


def fill(count: int, age: timedelta) -> None:
    """Make so many sessions of as many owners, opened so long ago."""
    session = apps.get_model("resumable_uploads.UploadSession")
    opened = timezone.now() - age
    session.objects.bulk_create([row(session, opened) for _ in range(count)])


def row(session: Any, opened: Any) -> Any:
    upload = session(
        protocol="rest",
        filename="film.bin",
        length=10**9,
        chunk_size=8 * 1024 * 1024,
        created_at=opened,
        active_at=opened,
        expires_at=opened + timedelta(days=7),
    )
    upload.owner = f"session:{upload.pk.hex}"
    return upload


if __name__ == "__main__":
    main()
