"""What `uploads_doctor --files` compares: records with files, each with the other.

A database and files that were restored from backups of different moments do not agree.
Nothing is changed here.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from django.conf import settings as django_settings

from ..conf import setting
from ..models import OPEN_STATES, Chunk, State, UploadSession
from ..policies import get_policy
from ..stores import FilesystemStore, Store, store_for
from .examination import FAIL, OK, WARN, Finding, Findings, counted


def compare() -> Findings:
    """Yield what is missing on either side."""
    for alias in sorted(_aliases()):
        subject, store = f"Files {alias}", store_for(alias)
        found = [
            *_missing(subject, store, alias),
            *_bytes_missing(subject, store, alias),
            *_unknown(subject, store),
        ]
        yield from found or [Finding(OK, subject, "records and files agree")]


def _aliases() -> set[str]:
    used = UploadSession.objects.order_by().values_list("storage", flat=True).distinct()
    chosen = {get_policy(name).storage for name in setting("POLICIES")}
    return (set(used) | chosen) & set(django_settings.STORAGES)


def _missing(subject: str, store: Store, alias: str) -> Findings:
    """Look for complete uploads whose file is older than they are, and not there."""
    rows = UploadSession.objects.filter(storage=alias, state=State.COMPLETE)
    pairs = rows.exclude(file="").values_list("pk", "file").iterator()
    if ids := [pk for pk, name in pairs if not store.final.exists(name)]:
        words = f"complete, and the file is not there: {counted(ids)}"
        yield Finding(FAIL, subject, f"{words}. Restore it, or delete the upload")


def _bytes_missing(subject: str, store: Store, alias: str) -> Findings:
    """Look for unfinished uploads whose recorded bytes are not there."""
    chunks = Chunk.objects.filter(
        upload__storage=alias, upload__state__in=OPEN_STATES, source=None
    )
    keys = chunks.order_by("upload").values_list("upload", "key").distinct().iterator()
    lost = [pk for pk, key in keys if key and not store.staging.exists(key)]
    if ids := list(dict.fromkeys(lost)):
        words = f"unfinished, and recorded bytes are missing: {counted(ids)}"
        hint = "`purge_uploads --older-than 0s` ends all that is unfinished"
        yield Finding(FAIL, subject, f"{words}. Cancel them; {hint}")


def _unknown(subject: str, store: Store) -> Findings:
    """Look for finished files that are newer than the records. Local disk only."""
    if not isinstance(store, FilesystemStore):
        return
    folders = _folders(store.final.location)
    unknown: list[uuid.UUID] = []
    while batch := list(islice(folders, setting("PURGE_BATCH_SIZE"))):
        rows = UploadSession.objects.filter(pk__in=batch).values_list("pk", flat=True)
        unknown += sorted(set(batch) - set(rows))
    if unknown:
        words = f"finished files without a record: {counted(unknown)}"
        yield Finding(WARN, subject, f"{words}. Only you know whether they are wanted")


def _folders(root: str) -> Iterator[uuid.UUID]:
    """Yield the ids that folders of finished files are named by."""
    for _, names, _ in os.walk(root):
        for name in [name for name in names if len(name) == 36]:
            with suppress(ValueError):
                yield uuid.UUID(name)
