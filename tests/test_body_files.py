"""Bodies in files that a front server names: who is believed, and what is done."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from resumable_uploads.body import checksum
from resumable_uploads.models import Chunk, UploadSession

from .rest import assert_refused, change, finished, open_upload, some_bytes, staged
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]

SECRET = "sixteen-characters-of-it"
SIZE = 5000
DATA = some_bytes(3 * SIZE)


@pytest.fixture
def me() -> Visitor:
    return Visitor()


@pytest.fixture
def folder(settings, tmp_path) -> Path:
    found = tmp_path / "bodies"
    found.mkdir()
    change(settings, BODY_FILES_ROOT=str(found), BODY_FILES_SECRET=SECRET)
    return found


def put(me, upload, number, name, secret=SECRET, **headers):
    sent = {"X-Upload-Body-File": str(name), "X-Upload-Body-Secret": secret}
    path = f"{upload['url']}chunks/{number}/"
    return me.request("PUT", path, None, sent | headers)


def written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_is_made_of_bodies_that_lay_in_files(me, folder):
    upload = open_upload(me, len(DATA), chunk_size=SIZE)
    for number in (2, 0, 1):
        data = DATA[number * SIZE : (number + 1) * SIZE]
        body = written(folder / "0" / "01" / f"{number}", data)
        assert put(me, upload, number, body).status == 201
        # It is the front server's to take away.
        assert body.read_bytes() == data
    assert list(finished().values()) == [hashlib.sha256(DATA).hexdigest()]
    upload = UploadSession.objects.get()
    assert upload.checksum == f"crc64nvme:{checksum(DATA):016x}"
    assert staged() == 0


def test_a_repeat_is_compared(me, folder):
    upload = open_upload(me, len(DATA), chunk_size=SIZE)
    assert put(me, upload, 0, written(folder / "a", DATA[:SIZE])).status == 201
    assert put(me, upload, 0, written(folder / "b", DATA[:SIZE])).status == 200
    other = written(folder / "c", DATA[1 : SIZE + 1])
    assert_refused(put(me, upload, 0, other), 409, "chunk_conflict")
    assert Chunk.objects.get().size == SIZE


def test_digests_and_sizes_are_checked(me, folder):
    upload = open_upload(me, len(DATA), chunk_size=SIZE)
    short = written(folder / "short", DATA[: SIZE - 1])
    assert_refused(put(me, upload, 0, short), 400, "wrong_size")
    wrong = {"Content-Digest": "crc64nvme=:AAAAAAAAAAA=:"}
    whole = written(folder / "whole", DATA[:SIZE])
    assert_refused(put(me, upload, 0, whole, **wrong), 422, "checksum_mismatch")
    assert not Chunk.objects.exists()


def test_an_append_may_lie_in_a_file_too(me, folder, settings):
    change(settings, SEGMENT_SIZE=2000)
    upload = open_upload(me, len(DATA))
    headers = {
        "X-Upload-Body-File": str(written(folder / "a", DATA)),
        "X-Upload-Body-Secret": SECRET,
        "Upload-Offset": "0",
    }
    assert me.request("PATCH", upload["url"], None, headers).status == 200
    assert list(finished().values()) == [hashlib.sha256(DATA).hexdigest()]


@pytest.mark.parametrize("secret", ["", "wrong", SECRET[:-1], SECRET + "x", "\xff"])
def test_nobody_names_files_without_the_secret(me, folder, secret):
    upload = open_upload(me, len(DATA), chunk_size=SIZE)
    body = written(folder / "a", DATA[:SIZE])
    assert_refused(put(me, upload, 0, body, secret), 403, "permission_denied")
    assert not Chunk.objects.exists()


def test_no_secret_is_no_secret(me, folder, settings):
    change(settings, BODY_FILES_SECRET="")
    upload = open_upload(me, len(DATA), chunk_size=SIZE)
    body = written(folder / "a", DATA[:SIZE])
    assert_refused(put(me, upload, 0, body, ""), 403, "permission_denied")


def test_there_is_no_way_out_of_the_folder(me, folder, tmp_path):
    upload = open_upload(me, len(DATA), chunk_size=SIZE)
    outside = written(tmp_path / "outside", DATA[:SIZE])
    (folder / "link").symlink_to(outside)
    (folder / "up").symlink_to(tmp_path)
    beside = written(tmp_path / "bodies-of-others" / "a", DATA[:SIZE])
    os.mkfifo(folder / "pipe")
    for name in [
        outside,
        f"{folder}/../outside",
        f"{folder}/link",
        f"{folder}/up/outside",
        beside,
        folder,
        f"{folder}/.",
        f"{folder}/..",
        f"{folder}/pipe",
        f"{folder}/missing",
        "outside",
        "/etc/passwd",
        "/dev/zero",
        "x" * 5000,
    ]:
        answer = put(me, upload, 0, name)
        assert_refused(answer, 403, "permission_denied")
        # Whatever is there is not told.
        assert str(name) not in answer.body.decode()
    assert not Chunk.objects.exists()


def test_a_stranger_gets_404_with_a_file_as_well(me, folder):
    upload = open_upload(me, len(DATA), chunk_size=SIZE)
    body = written(folder / "a", DATA[:SIZE])
    assert put(Visitor(), upload, 0, body).status == 404


def test_where_it_is_off_such_headers_mean_nothing(me, tmp_path):
    upload = open_upload(me, len(DATA), chunk_size=SIZE)
    body = written(tmp_path / "a", DATA[:SIZE])
    assert_refused(put(me, upload, 0, body, ""), 400, "wrong_size")
