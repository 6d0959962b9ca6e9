"""purge_uploads and uploads_doctor: what they do, say, and leave alone."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from django.core.files.storage import FileSystemStorage, storages
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from resumable_uploads import engine
from resumable_uploads.management import examination
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.stores import FilesystemStore, filesystem

from .making import (
    body,
    content,
    files_in,
    open_upload,
    read,
    sent,
    staged,
    staging,
    use,
)
from .rows import chunk, fresh, row, with_chunks

pytestmark = pytest.mark.django_db(transaction=True)
DATA = content(95)


def purge(*arguments):
    output = io.StringIO()
    call_command("purge_uploads", *arguments, stdout=output)
    return output.getvalue().strip()


def begun(**facts):
    """Return an upload with a chunk, changed to these facts."""
    upload = open_upload(95, 10)
    engine.put_chunk(upload, 3, body(DATA[30:40]))
    UploadSession.objects.filter(pk=upload.pk).update(**facts)
    return fresh(upload)


def ago(**span):
    return timezone.now() - timedelta(**span)


# purge_uploads


def test_a_purge_expires_what_is_overdue_and_forgets_what_is_long_over():
    overdue = begun(expires_at=ago(seconds=1))
    over = row(state=State.CANCELLED, settled=True, expires_at=ago(seconds=1))
    left_over = row(state=State.CANCELLED, active_at=ago(hours=1))
    waiting, complete = begun(), sent(DATA)
    assert purge() == "Uploads: 1 expired, 1 forgotten, 1 tidied up."
    assert fresh(overdue).state == State.EXPIRED
    assert not staged(overdue.pk)
    assert not UploadSession.objects.filter(pk=over.pk).exists()
    assert fresh(left_over).settled
    assert fresh(waiting).state == State.RECEIVING
    assert staged(waiting.pk)
    assert read(complete) == DATA


def test_a_dry_run_only_says_what_would_be_done():
    begun(expires_at=ago(seconds=1))
    row(state=State.CANCELLED, settled=True, expires_at=ago(seconds=1))
    before = list(UploadSession.objects.order_by("pk").values())
    files = files_in(staging())
    assert purge("--dry-run") == "Uploads: 1 to expire, 1 to forget, 0 to tidy up."
    assert list(UploadSession.objects.order_by("pk").values()) == before
    assert files_in(staging()) == files


@pytest.mark.parametrize(
    ("time", "expired"), [("3d", 1), ("73h", 1), ("5000m", 0), ("1w", 0), ("90s", 2)]
)
def test_what_nothing_has_come_for_in_a_time_expires_too(time, expired):
    begun(active_at=ago(days=3, hours=2))
    begun(active_at=ago(hours=1))
    sent(DATA)
    assert purge("--older-than", time).startswith(f"Uploads: {expired} expired,")


@pytest.mark.parametrize("batch", ["1", "2", "500"])
def test_batches_of_any_size_do_all_of_it(batch):
    for _ in range(3):
        row(expires_at=ago(days=1))
    assert purge("--batch-size", batch).startswith("Uploads: 3 expired")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--older-than", "3"),
        ("--older-than", "3 days"),
        ("--older-than", "-1d"),
        ("--older-than", "d"),
        ("--batch-size", "0"),
        ("--batch-size", "many"),
        ("--batch-size", "-5"),
    ],
)
def test_nonsense_is_refused_before_anything_is_done(arguments):
    overdue = row(expires_at=ago(days=1))
    with pytest.raises(CommandError, match=arguments[0]):
        purge(*arguments)
    assert fresh(overdue).state == State.RECEIVING


# uploads_doctor


class Report:
    """What the doctor says, line by line, and its exit status."""

    def __init__(self, *arguments):
        output = io.StringIO()
        self.status = 0
        try:
            call_command("uploads_doctor", *arguments, stdout=output, no_color=True)
        except CommandError as error:
            self.status = error.returncode
            output.write(str(error))
        self.text = output.getvalue()
        self.lines = self.text.splitlines()

    def of(self, level):
        """Return the lines of a level, without it."""
        return [line[6:] for line in self.lines if re.match(rf"{level} +\w", line)]


def test_a_healthy_site_is_told_that_all_is_well():
    begun()
    sent(DATA)
    report = Report()
    assert report.status == 0, report.text
    assert report.of("FAIL") == []
    assert report.of("WARN") == []
    subjects = {line.split(":")[0] for line in report.of("OK")}
    assert subjects == {
        "Settings",
        "Database",
        "Clock",
        "Storage default",
        "Runner",
        "Uploads",
    }
    assert report.lines[-1] == "No failures, warnings: 0."


def test_the_doctor_leaves_nothing_behind():
    begun()
    sent(DATA)
    rows = list(UploadSession.objects.order_by("pk").values())
    folder = Path(storages["default"].location)
    files = sorted([*folder.rglob("*"), *staging().glob("*/*")])
    Report()
    assert list(UploadSession.objects.order_by("pk").values()) == rows
    assert sorted([*folder.rglob("*"), *staging().glob("*/*")]) == files


def test_wrong_settings_are_said_and_the_rest_is_examined(settings):
    use(settings, FSYNC="always")
    report = Report()
    assert report.status == 1
    assert "Settings: RESUMABLE_UPLOADS['FSYNC'] is 'always'" in report.of("FAIL")[0]
    assert any(line.startswith("Storage default: write") for line in report.of("OK"))


def test_what_breaks_an_examination_does_not_end_the_others(settings):
    use(settings, POLICIES=5)
    report = Report()
    assert report.status == 1
    assert "Storage: could not be examined: " in report.text
    assert "Clock: " in report.text


# Database and clock


def test_missing_migrations_are_said():
    plan = [("resumable_uploads.0002", False)]
    target = "resumable_uploads.management.examination.MigrationExecutor.migration_plan"
    with mock.patch(target, return_value=plan):
        report = Report()
    assert "Database: migrations are missing: run `migrate`" in report.of("FAIL")


@pytest.mark.only_on("sqlite")
def test_sqlite_without_a_write_ahead_log_is_said():
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=DELETE")
        (line,) = Report().of("WARN")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
    assert "SQLite in journal mode delete" in line


def test_the_database_knows_the_time():
    assert abs(examination.database_time() - timezone.now()) < timedelta(seconds=2)


@pytest.mark.parametrize("seconds", [-60, 60])
def test_clocks_that_differ_are_said(monkeypatch, seconds):
    there = timezone.now() + timedelta(seconds=seconds)
    monkeypatch.setattr(examination, "database_time", lambda: there)
    (line,) = Report().of("WARN")
    assert re.match(r"Clock: (59|60)\.\d s from the database's", line)


# Storages


class LosingStorage(FileSystemStorage):
    """Keeps one byte less than it is given."""

    def _save(self, name, content):
        name = super()._save(name, content)
        path = Path(self.path(name))
        path.write_bytes(path.read_bytes()[:-1])
        return name


class KeepingStorage(FileSystemStorage):
    """Deletes nothing."""

    def _save(self, name, content):
        return super()._save(name, content)

    def delete(self, name):
        pass


def use_backend(settings, backend):
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": f"{__name__}.{backend.__name__}"}
    }


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (LosingStorage, "Recorded bytes are missing in the store"),
        (KeepingStorage, "a deleted file is still there"),
    ],
)
def test_a_storage_that_does_not_do_its_work_is_found(settings, storage, words):
    use_backend(settings, storage)
    report = Report()
    assert report.status == 1
    assert words in report.of("FAIL")[0]


class PlainStorage(FileSystemStorage):
    """Saves in a way of its own, so that no store knows a quicker one."""

    def _save(self, name, content):
        return super()._save(name, content)


def test_any_storage_is_probed(settings):
    use_backend(settings, PlainStorage)
    report = Report()
    assert report.status == 0, report.text
    assert any("write, finish, read" in line for line in report.of("OK"))
    assert "region locks" not in report.text
    assert files_in(storages["default"].location) == []


def test_a_folder_that_cannot_be_written_to_is_found(own_media):
    own_media.write_text("a file where a folder should be")
    report = Report()
    assert report.status == 1
    assert "Storage default: does not work: NotADirectoryError" in report.text


def test_a_storage_that_is_not_configured_is_found(settings):
    use(settings, POLICIES={"default": {"storage": "films"}})
    report = Report()
    assert report.status == 1
    assert any(line.startswith("Storage films: ") for line in report.of("FAIL"))


def test_missing_region_locks_are_told(monkeypatch):
    monkeypatch.setattr(filesystem, "lock_range", lambda *arguments: False)
    monkeypatch.setattr(filesystem, "LOCK_WAITS", ())
    assert any("no region locks here" in line for line in Report().of("WARN"))


def test_region_locks_that_lock_nothing_are_found(monkeypatch):
    monkeypatch.setattr(filesystem, "lock_range", lambda *arguments: True)
    report = Report()
    assert report.status == 1
    assert any("given to two at once" in line for line in report.of("FAIL"))


def test_two_devices_are_told(settings, monkeypatch):
    devices = iter((1, 2))
    stat = mock.Mock(side_effect=lambda path: SimpleNamespace(st_dev=next(devices)))
    monkeypatch.setattr(examination, "os", SimpleNamespace(stat=stat))
    store = FilesystemStore("default")
    (finding,) = examination.folders("Storage", store)
    assert finding.level == "WARN"
    assert "different devices" in finding.text


GB = 1024**3


@pytest.mark.parametrize(
    ("free", "level"), [(50 * GB, "OK"), (4 * GB, "WARN"), (1 * GB, "FAIL")]
)
def test_space_is_compared_with_what_is_still_to_come(monkeypatch, free, level):
    row(length=3 * GB, received=GB)
    row(length=None, received=GB)
    row(length=900 * GB, storage="elsewhere")
    row(length=900 * GB, state=State.CANCELLED)
    usage = SimpleNamespace(free=free, total=100 * GB)
    monkeypatch.setattr(examination.shutil, "disk_usage", lambda path: usage)
    (finding,) = examination.space("Storage", FilesystemStore("default"), "default")
    assert finding.level == level


# Orphans


def orphan():
    """Leave the bytes of an upload whose row is gone."""
    upload = begun()
    Chunk.objects.all().delete()
    UploadSession.objects.filter(pk=upload.pk)._raw_delete("default")
    return upload


def test_orphans_are_told_and_swept(monkeypatch):
    monkeypatch.setattr(
        "resumable_uploads.retention.ORPHANS_ARE_OLDER_THAN", timedelta(0)
    )
    lost, kept = orphan(), begun()
    report = Report()
    assert report.status == 0
    (line,) = report.of("WARN")
    assert f"belong to no upload: 1 ({lost.pk})" in line
    assert staged(lost.pk)
    report = Report("--sweep")
    assert report.lines[0] == "Orphans dropped: 1"
    assert report.of("WARN") == []
    assert not staged(lost.pk)
    assert staged(kept.pk)


# Uploads


def stuck(**facts):
    facts = {"state": State.ASSEMBLING, "created_at": ago(hours=2)} | facts
    return row(**facts)


@pytest.mark.parametrize(
    "facts",
    [
        {"active_at": ago(hours=2)},
        # Asked for a moment ago, once more in vain.
        {},
        {"lease": "of a dead worker", "active_at": ago(hours=1), "attempts": 1},
        {"attempts": 2, "retry_at": ago(hours=1)},
    ],
)
def test_an_assembly_that_nobody_begins_is_found(facts):
    upload = stuck(**facts)
    report = Report()
    assert report.status == 1
    assert f"nobody begins: 1 ({upload.pk})" in report.of("FAIL")[0]


def test_what_has_just_come_or_is_at_work_is_not_stuck():
    stuck(lease="of a worker", attempts=1)
    stuck(attempts=2, retry_at=timezone.now() + timedelta(hours=1))
    stuck(attempts=2, retry_at=ago(seconds=5))
    chunk(stuck(), 0).save()
    assert Report().of("FAIL") == []


def test_a_stuck_assembly_is_begun_again(settings):
    runner = settings.RESUMABLE_UPLOADS["RUNNER"]
    use(settings, RUNNER="tests.making.lost_nudge")
    upload = sent(DATA)
    use(settings, RUNNER=runner)
    UploadSession.objects.update(active_at=ago(hours=2))
    report = Report("--resend")
    assert report.lines[0] == "Assemblies asked for again: 1"
    assert report.status == 0
    assert read(upload) == DATA


def test_what_waits_for_an_operator_is_told():
    uploads = [row(state=State.FAILED) for _ in range(5)]
    report = Report()
    assert report.status == 0
    (line,) = report.of("WARN")
    assert line.startswith("Uploads: failed: 5 (")
    assert sum(str(upload.pk) in line for upload in uploads) == examination.SOME


def test_what_a_purge_should_have_done_is_told():
    row(expires_at=ago(hours=5))
    row(expires_at=ago(hours=3))
    row(state=State.EXPIRED, active_at=ago(hours=1))
    row(state=State.COMPLETE, expires_at=ago(days=9))
    row(expires_at=ago(minutes=5))
    lines = "\n".join(Report().of("WARN")).replace("\xa0", " ")
    assert "ended, with chunks not dropped yet: 1." in lines
    assert "overdue: 2, the first since 5 hours." in lines


@pytest.mark.parametrize("column", ["policy", "storage"])
def test_uploads_without_a_home_are_found(column):
    row(**{column: "films"})
    row(**{column: "films", "state": State.COMPLETE})
    row(**{column: "films", "state": State.CANCELLED, "settled": True})
    report = Report()
    assert report.status == 1
    (line,) = report.of("FAIL")
    assert line.startswith(f"Uploads: the {column} 'films' is not in the settings")
    assert line.endswith("uploads with it: 2")


def test_the_doctor_asks_few_queries(django_assert_max_num_queries):
    for _ in range(20):
        with_chunks([0], 2, state=State.FAILED)
    with django_assert_max_num_queries(25):
        list(examination.uploads())


# Who does the work


def test_a_runner_of_the_project_has_to_be_importable(settings):
    use(settings, RUNNER="no.such.runner")
    assert any(line.startswith("Runner: ") for line in Report().of("FAIL"))
    use(settings, RUNNER="tests.making.lost_nudge")
    assert "Runner: tests.making.lost_nudge can be imported" in Report().of("OK")


def test_a_worker_that_does_not_know_the_task_is_found():
    (finding,) = examination.workers({"celery@a": ["other.task"]})
    assert finding.level == "FAIL"
    assert "celery@a do not know the task" in finding.text


def test_a_broker_that_is_down_is_found(settings):
    use(settings, RUNNER="celery")
    app = examination.import_string("resumable_uploads.tasks.assemble").app
    with mock.patch.dict(app.conf.changes, broker_url="redis://127.0.0.1:9/0"):
        report = Report()
    assert report.status == 1
    assert any(line.startswith("Broker: does not answer") for line in report.of("FAIL"))


@pytest.mark.once
def test_a_real_worker_is_found_or_missed(make_live_site, make_worker, valkey):
    site = make_live_site(start=False, env={"REDIS_URL": valkey.url})
    text = site.manage("uploads_doctor", check=False)
    assert "OK    Broker: answers" in text
    assert "FAIL  Worker: none has answered" in text
    make_worker(site)
    text = site.manage("uploads_doctor")
    assert re.search(r"OK    Worker: celery@\S+ would assemble", text)
    assert "Beat" not in text


# The documentation


@pytest.mark.only_on("postgres")
def test_the_queries_for_monitoring_can_be_asked():
    row(received=5)
    page = Path(__file__).parent.parent / "docs" / "operations.md"
    (block,) = re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
    queries = [query for query in block.split(";") if query.strip()]
    assert len(queries) == 6
    with connection.cursor() as cursor:
        for query in queries:
            cursor.execute(query)
            assert cursor.fetchall()
