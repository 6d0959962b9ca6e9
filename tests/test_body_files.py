"""Bodies in files that a front server names: who is believed, and what is done."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from resumable_uploads import assembly
from resumable_uploads.body import checksum
from resumable_uploads.models import Chunk, UploadSession
from resumable_uploads.stores.filesystem import FilesystemWhole

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


def inode(path: Path | str) -> int:
    """Return which file it is; finished ones are named by their path on the storage."""
    return (Path(django_settings.MEDIA_ROOT) / path).stat().st_ino


def sole(me, folder, name="a", data=DATA, **headers):
    """Hand over an upload that is one chunk; return its file, it, and the answer."""
    upload = open_upload(me, len(DATA), chunk_size=len(DATA))
    body = written(folder / name, data)
    return body, upload, put(me, upload, 0, body, **headers)


def test_a_file_in_one_chunk_is_taken_as_it_is_and_not_copied(me, folder):
    body, _, answer = sole(me, folder)
    assert answer.status == 201
    [(path, digest)] = finished().items()
    assert digest == hashlib.sha256(DATA).hexdigest()
    assert inode(path) == inode(body)
    # The name that the front server takes away is one of two.
    body.unlink()
    assert list(finished().values()) == [digest]
    assert UploadSession.objects.get().checksum == f"crc64nvme:{checksum(DATA):016x}"
    assert staged() == 0


def test_one_body_is_never_two_files(me, folder):
    body, _, _ = sole(me, folder)
    other = open_upload(me, len(DATA), chunk_size=len(DATA))
    assert put(me, other, 0, body).status == 201
    assert len({inode(path) for path in finished()}) == 2
    assert set(finished().values()) == {hashlib.sha256(DATA).hexdigest()}


def test_a_body_that_cannot_be_taken_is_copied(me, folder, monkeypatch):
    link, refused = os.link, []

    def refuse(source, target, **options):
        if str(source).startswith("/proc/"):
            refused.append(source)
            raise OSError(errno.EXDEV, "another file system")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refuse)
    body, _, answer = sole(me, folder)
    assert answer.status == 201
    assert refused
    [(path, digest)] = finished().items()
    assert digest == hashlib.sha256(DATA).hexdigest()
    assert inode(path) != inode(body)


def test_what_is_refused_is_not_taken(me, folder):
    wrong = {"Content-Digest": "crc64nvme=:AAAAAAAAAAA=:"}
    body, _, answer = sole(me, folder, **wrong)
    assert_refused(answer, 422, "checksum_mismatch")
    assert body.stat().st_nlink == 1
    short, _, answer = sole(me, folder, "short", DATA[:-1])
    assert_refused(answer, 400, "wrong_size")
    assert short.stat().st_nlink == 1


def test_what_was_taken_outlives_an_assembly_that_fails(me, folder, monkeypatch):
    failures = [OSError(errno.EIO, "a bad disk")]
    publish = FilesystemWhole.publish

    def fail_once(whole, name):
        if failures:
            raise failures.pop()
        return publish(whole, name)

    monkeypatch.setattr(FilesystemWhole, "publish", fail_once)
    body, upload, answer = sole(me, folder)
    assert answer.status == 201
    body.unlink()
    assert not finished()
    UploadSession.objects.update(retry_at=None)
    assembly.assemble(upload["id"])
    assert list(finished().values()) == [hashlib.sha256(DATA).hexdigest()]


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
