"""What `uploads_doctor` finds out by trying: each examination yields findings.

Examinations leave nothing behind, and change nothing.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor
from django.db.models import BigIntegerField, Count, F, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.module_loading import import_string
from django.utils.timesince import timesince

from .. import assembly, engine, retention, runner
from ..checks import TAG, unscheduled
from ..conf import KIB, setting
from ..models import GONE_STATES, State, UploadSession
from ..policies import get_policy
from ..stores import Piece, Store, Writer, store_for
from ..stores.filesystem import FilesystemStore

OK, WARN, FAIL = "OK", "WARN", "FAIL"

PROBE_SIZE = 256 * KIB
# Expiries and leases are compared with the clocks of several machines.
CLOCKS_MAY_DIFFER = timedelta(seconds=5)
# Seconds to wait for the broker, and for workers to answer.
PATIENCE = 3
# What purge and resend, with their usual schedule, have long dealt with.
LONG = timedelta(hours=1)
# Ids that are named; the others are only counted.
SOME = 3


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: str
    subject: str
    text: str


Findings = Iterator[Finding]


def examine() -> Findings:
    """Yield everything that is found. What breaks an examination is a finding, too."""
    examinations: tuple[tuple[str, Callable[[], Findings]], ...] = (
        ("Settings", settings),
        ("Database", database),
        ("Clock", clock),
        ("Storage", storages),
        ("Runner", work),
        ("Uploads", uploads),
    )
    for subject, examination in examinations:
        try:
            yield from examination()
        except Exception as error:
            yield Finding(FAIL, subject, f"could not be examined: {in_words(error)}")


def in_words(error: Exception) -> str:
    cause = error.__cause__
    text = f"{type(error).__name__}: {error}"
    return f"{text} ({type(cause).__name__}: {cause})" if cause else text


def settings() -> Findings:
    """Run the system checks of the app."""
    messages = checks.run_checks(tags=[TAG])
    for message in messages:
        level = FAIL if message.level >= checks.ERROR else WARN
        yield Finding(level, "Settings", f"{message.msg} {message.hint or ''}".strip())
    if not messages:
        yield Finding(OK, "Settings", "nothing to complain about")


# Database and clock


def database() -> Findings:
    connection = connections[router.db_for_write(UploadSession)]
    executor = MigrationExecutor(connection)
    label = UploadSession._meta.app_label
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] == label]
    if executor.migration_plan(targets):
        yield Finding(FAIL, "Database", "migrations are missing: run `migrate`")
        return
    if connection.vendor != "sqlite":
        yield Finding(OK, "Database", f"{connection.display_name} answers")
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = cursor.fetchone()[0]
    if mode in ("wal", "memory"):
        yield Finding(OK, "Database", f"SQLite, journal mode {mode}")
    else:
        words = (
            f"SQLite in journal mode {mode}: readers and writers wait for each other"
        )
        yield Finding(WARN, "Database", f"{words}. Use PRAGMA journal_mode=WAL")


def clock() -> Findings:
    before = timezone.now()
    there = database_time()
    after = timezone.now()
    skew = max(before - there, there - after, timedelta(0))
    words = f"{skew.total_seconds():.1f} s from the database's"
    if skew > CLOCKS_MAY_DIFFER:
        words += ". Expiry and takeover of dead assemblies go by it: run NTP"
    yield Finding(WARN if skew > CLOCKS_MAY_DIFFER else OK, "Clock", words)


def database_time() -> datetime:
    connection = connections[router.db_for_write(UploadSession)]
    with connection.cursor() as cursor:
        # SQLite's own CURRENT_TIMESTAMP leaves out what a second has after the point.
        is_sqlite = connection.vendor == "sqlite"
        now = "strftime('%Y-%m-%d %H:%M:%f')" if is_sqlite else "CURRENT_TIMESTAMP"
        cursor.execute(f"SELECT {now}")
        value = cursor.fetchone()[0]
    moment = parse_datetime(value) if isinstance(value, str) else value
    return moment if timezone.is_aware(moment) else moment.replace(tzinfo=UTC)


# Storages


def storages() -> Findings:
    for alias in sorted({get_policy(name).storage for name in setting("POLICIES")}):
        subject = f"Storage {alias}"
        try:
            store = store_for(alias)
            yield from probe(subject, store)
            if isinstance(store, FilesystemStore):
                yield from folders(subject, store)
                yield from space(subject, store, alias)
            yield from lost(subject, store)
        except Exception as error:
            yield Finding(FAIL, subject, f"does not work: {in_words(error)}")


def probe(subject: str, store: Store) -> Findings:
    """Send a small file through the store, as an upload would go."""
    upload_id, data = uuid.uuid4(), os.urandom(PROBE_SIZE)
    begun = time.monotonic()
    writer = store.writer(upload_id, 0, len(data))
    try:
        place = writer.write([memoryview(data)])
        locks = list(region_locks(subject, store, writer))
        writer.close()
        complaint = publish(store, upload_id, [Piece(place, len(data))], data)
    finally:
        writer.close()
        store.release(upload_id)
    took = 1000 * (time.monotonic() - begun)
    if complaint:
        yield Finding(FAIL, subject, complaint)
    else:
        yield Finding(
            OK, subject, f"write, finish, read and delete work ({took:.0f} ms)"
        )
    yield from locks


def publish(
    store: Store, upload_id: uuid.UUID, pieces: list[Piece], data: bytes
) -> str:
    """Make a finished file, read and delete it; return what is wrong, or ""."""
    whole = store.join(upload_id, pieces)
    try:
        name = whole.publish(f"{upload_id}/uploads-doctor.bin")
    finally:
        whole.close()
    try:
        with store.final.open(name) as file:
            same = file.read() == data
    finally:
        store.delete_file(upload_id, name)
    if not same:
        return "a finished file does not hold the bytes that were sent"
    if store.final.exists(name):
        return "a deleted file is still there"
    return ""


def region_locks(subject: str, store: Store, writer: Writer) -> Findings:
    """See that a region that somebody writes to is locked for everybody else."""
    if not isinstance(store, FilesystemStore):
        return
    if not writer.in_place:
        words = "no region locks here: each finished file is copied together"
        yield Finding(WARN, subject, words)
        return
    other = store.writer(writer.upload_id, 0, PROBE_SIZE)
    other.close()
    if other.in_place:
        words = "region locks are given to two at once: files could be mixed up"
        yield Finding(FAIL, subject, words)
    else:
        yield Finding(OK, subject, "region locks work: chunks go where they belong")


def folders(subject: str, store: FilesystemStore) -> Findings:
    final = Path(store.final.location)
    if os.stat(store.root).st_dev == os.stat(final).st_dev:
        yield Finding(OK, subject, "staging and final folder are on the same device")
    else:
        words = f"{store.root} and {final} are on different devices: files are copied"
        yield Finding(WARN, subject, words)


def space(subject: str, store: FilesystemStore, alias: str) -> Findings:
    """Compare the free space with what the open uploads have still to send."""
    usage = shutil.disk_usage(store.root)
    awaited = (
        UploadSession.objects.filter(
            state=State.RECEIVING, length__isnull=False, storage=alias
        ).aggregate(
            left=Sum(F("length") - F("received"), output_field=BigIntegerField())
        )["left"]
        or 0
    )
    words = f"{filesizeformat(usage.free)} free of {filesizeformat(usage.total)}"
    if awaited > usage.free:
        words += f", and open uploads still want {filesizeformat(awaited)}"
        yield Finding(FAIL, subject, words)
    elif usage.free < usage.total / 20:
        yield Finding(WARN, subject, words)
    else:
        yield Finding(OK, subject, words)


def lost(subject: str, store: Store) -> Findings:
    """Look for bytes that belong to no upload."""
    ids = list(retention.orphans(store))
    if ids:
        words = f"orphans, bytes that belong to no upload: {counted(ids)}"
        yield Finding(WARN, subject, f"{words}. --sweep drops them")
    else:
        yield Finding(OK, subject, "no orphans")


def counted(ids: list[Any]) -> str:
    """Return how many there are, and some of them: "4 (a, b, c, ...)"."""
    listed = ", ".join(str(pk) for pk in ids[:SOME])
    more = ", ..." if len(ids) > SOME else ""
    return f"{len(ids)} ({listed}{more})"


# Who does the work


def work() -> Findings:
    chosen = setting("RUNNER")
    runner.get_runner()
    if chosen == "celery":
        yield from celery()
    elif chosen == "inline":
        yield Finding(OK, "Runner", "inline: the web process assembles and purges")
    else:
        yield Finding(OK, "Runner", f"{chosen} can be imported")


def celery() -> Findings:
    """Ask the broker, the workers and the schedule."""
    app = import_string("resumable_uploads.tasks.assemble").app
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=PATIENCE)
            yield Finding(OK, "Broker", "answers")
        tasks = app.control.inspect(timeout=PATIENCE).registered() or {}
    except Exception as error:
        yield Finding(FAIL, "Broker", f"does not answer: {in_words(error)}")
        return
    yield from workers(tasks)
    if missing := unscheduled():
        words = f"beat has no schedule for {', '.join(sorted(missing))}"
        yield Finding(WARN, "Beat", words)


def workers(tasks: dict[str, list[str]]) -> Findings:
    ours = "resumable_uploads.assemble"
    able = [name for name, known in tasks.items() if ours in " ".join(known)]
    if able:
        yield Finding(OK, "Worker", f"{', '.join(sorted(able))} would assemble")
    elif tasks:
        words = f"{', '.join(sorted(tasks))} do not know the task {ours}"
        yield Finding(FAIL, "Worker", words)
    else:
        yield Finding(FAIL, "Worker", f"none has answered within {PATIENCE} s")


# Uploads


def uploads() -> Findings:
    findings = [*stuck(), *failed(), *left_over(), *homeless()]
    yield from findings
    if not findings:
        yield Finding(OK, "Uploads", "none is stuck or waits for help")


def stuck() -> Findings:
    """Look for assemblies that nobody begins, though all bytes came long ago."""
    now = timezone.now()
    long_ago = now - max(10 * setting("ASSEMBLY_TIMEOUT"), timedelta(minutes=10))
    # Asking again renews active_at, so that does not tell.
    waiting = assembly.waiting(now).alias(
        came=Coalesce(Max("chunk__created_at"), "created_at")
    )
    rested = Q(retry_at=None) | Q(retry_at__lt=long_ago)
    ids = list(waiting.filter(rested, came__lt=long_ago).values_list("pk", flat=True))
    if ids:
        words = f"waiting for assembly, and nobody begins: {counted(ids)}"
        yield Finding(FAIL, "Uploads", f"{words}. --resend asks again")


def failed() -> Findings:
    rows = UploadSession.objects.filter(state=State.FAILED)
    if ids := list(rows.values_list("pk", flat=True)):
        words = f"failed: {counted(ids)}. Retry or cancel them in the admin"
        yield Finding(WARN, "Uploads", words)


def left_over() -> Findings:
    """Look for what a purge that runs would have done."""
    unsettled = retention.purge(dry_run=True).settled
    if unsettled:
        words = f"ended, with chunks not dropped yet: {unsettled}"
        yield Finding(WARN, "Uploads", f"{words}. The next purge tries again")
    late = engine.overdue(timezone.now() - LONG)
    if count := late.count():
        first = late.aggregate(first=Min("expires_at"))["first"]
        words = f"overdue: {count}, the first since {timesince(first)}"
        yield Finding(WARN, "Uploads", f"{words}. Does anybody purge?")


def homeless() -> Findings:
    """Look for uploads whose policy or storage is not in the settings any more."""
    alive = UploadSession.objects.exclude(state__in=GONE_STATES)
    yield from strays(alive, "policy", setting("POLICIES"))
    yield from strays(alive, "storage", django_settings.STORAGES)


def strays(alive: QuerySet[UploadSession], column: str, known: Any) -> Findings:
    others = alive.exclude(**{f"{column}__in": list(known)}).order_by()
    for row in others.values(column).annotate(count=Count("pk")):
        words = f"the {column} {row[column]!r} is not in the settings any more"
        yield Finding(FAIL, "Uploads", f"{words}; uploads with it: {row['count']}")
