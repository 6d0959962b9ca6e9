"""Database and files from backups of different moments: repaired, or reported."""

from __future__ import annotations

import io
import shutil

import pytest
from django.core.management import CommandError, call_command

from resumable_uploads import engine
from resumable_uploads.models import State, UploadSession

from .making import body, content, finished, now, open_upload, sent, staging
from .rows import fresh

pytestmark = pytest.mark.django_db(transaction=True)
DATA = content(40)


def doctor(*arguments):
    output = io.StringIO()
    try:
        call_command("uploads_doctor", *arguments, stdout=output)
    except CommandError:
        return output.getvalue(), 1
    return output.getvalue(), 0


def half_sent():
    upload = open_upload(40, 10)
    for number in range(3):
        engine.put_chunk(now(upload), number, body(DATA[:10]))
    return upload


def test_what_agrees_is_said_to_agree():
    sent(DATA, 10)
    half_sent()
    said, status = doctor("--files")
    assert "OK    Files default: records and files agree" in said
    assert status == 0


def test_a_database_that_is_newer_than_the_files_is_reported():
    upload, begun = sent(DATA, 10), half_sent()
    for path in finished():
        path.unlink()
    shutil.rmtree(staging())
    said, status = doctor("--files")
    assert f"complete, and the file is not there: 1 ({upload.pk})" in said
    assert f"unfinished, and recorded bytes are missing: 1 ({begun.pk})" in said
    assert status == 1
    # The documented way out, as far as bytes can be had again at all.
    call_command("purge_uploads", "--older-than", "0s", stdout=io.StringIO())
    assert fresh(begun).state == State.EXPIRED
    UploadSession.objects.get(pk=upload.pk).delete()
    assert doctor("--files")[1] == 0


def test_files_that_are_newer_than_the_database_are_reported():
    upload = sent(DATA, 10)
    UploadSession.objects.filter(pk=upload.pk)._raw_delete("default")
    said, status = doctor("--files", "--sweep")
    assert f"finished files without a record: 1 ({upload.pk})" in said
    assert status == 0
    assert [path.read_bytes() for path in finished()] == [DATA]


BIG = content(4 * 65536)


@pytest.mark.parametrize("size", [10, 65536])
@pytest.mark.parametrize("zeros", [False, True])
def test_of_bytes_that_are_not_there_no_file_is_made(zeros, size):
    data = bytes(4 * size) if zeros else BIG[: 4 * size]
    upload = open_upload(len(data), size)
    for number in range(3):
        engine.put_chunk(now(upload), number, body(data[:size]))
    # Restored without the staging folder, while its client goes on.
    shutil.rmtree(staging())
    engine.put_chunk(now(upload), 3, body(data[:size]))
    if zeros:
        # What was lost is what is there now.
        assert [path.read_bytes() for path in finished()] == [data]
        return
    assert fresh(upload).state != State.COMPLETE
    assert "Recorded bytes have changed" in fresh(upload).error
    assert finished() == []


def test_a_file_of_zeros_is_a_file():
    upload = sent(bytes(4 * 65536), 65536)
    assert upload.state == State.COMPLETE
