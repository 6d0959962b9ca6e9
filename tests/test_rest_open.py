"""POST /uploads/: opening an upload, and finding it again."""

from __future__ import annotations

import io
import json

import pytest
from django.contrib.sessions.models import Session
from django.test.utils import override_script_prefix

from resumable_uploads import signals
from resumable_uploads.models import UploadSession

from .rest import (
    JSON,
    UPLOADS,
    assert_refused,
    change,
    kept,
    open_upload,
    policies,
    send_file,
    staged,
)
from .visitor import Visitor

pytestmark = pytest.mark.django_db

MIB = 1024 * 1024
FIELDS = {
    "id",
    "url",
    "state",
    "filename",
    "relative_path",
    "content_type",
    "size",
    "offset",
    "received",
    "chunk_size",
    "missing",
    "checksum",
    "limits",
    "policy",
    "client_key",
    "expires_at",
    "created_at",
    "completed_at",
    "file",
    "error",
    "metadata",
}


def test_an_upload_is_opened():
    answer = Visitor().post(UPLOADS, {"filename": "a.bin", "size": 20_000_000})
    upload = answer.json()
    assert answer.status == 201
    assert answer.headers["Location"] == upload["url"] == f"/uploads/{upload['id']}/"
    assert answer.headers["Upload-Offset"] == "0"
    assert answer.headers["Cache-Control"] == "no-store"
    assert set(upload) == FIELDS
    assert upload["state"] == "receiving"
    assert upload["size"] == 20_000_000
    assert upload["chunk_size"] == 8 * MIB
    assert upload["missing"] == [[0, 2]]
    assert (upload["offset"], upload["received"]) == (0, 0)
    assert upload["policy"] == "default"
    for name in ("checksum", "client_key", "completed_at", "file", "error"):
        assert upload[name] is None
    assert upload["expires_at"] > upload["created_at"]
    assert UploadSession.objects.get().protocol == "rest"


def test_what_the_client_says_is_kept():
    said = {
        "filename": "a.txt",
        "size": 10,
        "content_type": "text/plain; charset=utf-8",
        "relative_path": "docs/2026",
        "client_key": "a key",
        "chunk_size": 4,
        "metadata": {
            "title": "Ünï 😀",
            "tags": [1, 2.5, None, True],
            "deep": {"a": {}},
        },
    }
    upload = open_upload(Visitor(), **said)
    assert {name: upload[name] for name in said} == said


def test_limits_are_in_the_answer(settings):
    policies(
        settings,
        default={
            "max_size": 1000,
            "allowed_types": ["image/*"],
            "allowed_extensions": ["PNG", ".jpg"],
        },
    )
    upload = open_upload(Visitor(), filename="a.png")
    assert upload["limits"] == {
        "max_size": 1000,
        "allowed_types": ["image/*"],
        "allowed_extensions": [".png", ".jpg"],
        "chunk_size": 8 * MIB,
        "max_chunk_size": 256 * MIB,
        "max_chunks": 10_000,
        "parallel": 3,
        "records_expire_in": 7 * 24 * 60 * 60,
    }


@pytest.mark.parametrize("slash", ["", "/"])
def test_limits_can_be_asked_for_before(settings, slash):
    policies(settings, default={}, images={"max_size": 5})
    me = Visitor()
    assert me.get(f"{UPLOADS}limits{slash}").json()["max_size"] == 10 * 1024 * MIB
    assert me.get(f"{UPLOADS}limits{slash}?policy=images").json()["max_size"] == 5
    assert_refused(me.get(f"{UPLOADS}limits{slash}?policy=none"), 400, "invalid")


@pytest.mark.django_db(transaction=True)
def test_an_empty_file_is_complete_at_once():
    upload = open_upload(Visitor(), size=0)
    assert upload["state"] == "complete"
    assert upload["missing"] == []
    assert upload["checksum"] == "crc64nvme:0000000000000000"
    assert upload["file"]["size"] == 0


def test_the_size_may_be_unknown():
    upload = open_upload(Visitor(), size=None)
    assert upload["size"] is None
    assert upload["missing"] is None


def test_the_size_may_be_left_out():
    answer = Visitor().post(UPLOADS, {"filename": "a"})
    assert answer.status == 201
    assert answer.json()["size"] is None


def test_the_advised_chunk_size_lets_every_file_fit(settings):
    policies(settings, default={"max_size": None, "quota": None})
    me = Visitor()
    for gib, chunk_mib in ((1, 8), (78, 8), (79, 16), (1000, 128), (2000, 256)):
        upload = open_upload(me, gib * 1024 * MIB)
        assert upload["chunk_size"] == chunk_mib * MIB


def test_a_file_of_more_chunks_than_there_may_be_is_refused(settings):
    policies(settings, default={"max_size": None, "quota": None})
    change(settings, MAX_CHUNKS=10)
    me = Visitor()
    assert open_upload(me, size=100, chunk_size=10)["missing"] == [[0, 9]]
    answer = me.post(UPLOADS, {"filename": "a", "size": 101, "chunk_size": 10})
    assert_refused(answer, 400, "invalid", max_chunks=10)
    answer = me.post(UPLOADS, {"filename": "a", "size": 10 * 256 * MIB + 1})
    assert_refused(answer, 400, "invalid", max_chunks=10)


@pytest.mark.parametrize("encoding", ["form", "multipart"])
def test_forms_are_taken_too(encoding):
    if encoding == "form":
        body, kind = b"filename=a.bin&size=3", "application/x-www-form-urlencoded"
    else:
        kind = "multipart/form-data; boundary=b"
        body = b"".join(
            b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % pair
            for pair in ((b"filename", b"a.bin"), (b"size", b"3"))
        )
        body += b"--b--\r\n"
    answer = Visitor().request("POST", UPLOADS, body, {"Content-Type": kind})
    assert answer.status == 201
    assert (answer.json()["filename"], answer.json()["size"]) == ("a.bin", 3)


# Finding it again


@pytest.fixture
def created():
    """The uploads that the signal told of."""
    found = []

    def note(sender, upload, **kwargs):
        found.append(upload.pk)

    signals.upload_created.connect(note)
    yield found
    signals.upload_created.disconnect(note)


def test_an_open_upload_is_found_again_by_its_client_key(created):
    me = Visitor()
    said = {"filename": "a", "size": 10, "client_key": "k", "chunk_size": 4}
    upload = open_upload(me, **said)
    me.put(f"{upload['url']}chunks/1/", b"4567")
    answer = me.post(UPLOADS, said)
    assert answer.status == 200
    assert answer.json()["id"] == upload["id"]
    assert answer.json()["missing"] == [[0, 0], [2, 2]]
    assert answer.headers["Location"] == upload["url"]
    assert UploadSession.objects.count() == len(created) == 1


def test_who_leaves_the_chunk_size_to_the_server_finds_it_again(settings):
    me = Visitor()
    said = {"filename": "a", "size": 10, "client_key": "k"}
    upload = open_upload(me, **said)
    # The server advises something else by now.
    change(settings, CHUNK_SIZE=4)
    answer = me.post(UPLOADS, said)
    assert (answer.status, answer.json()["id"]) == (200, upload["id"])
    assert answer.json()["chunk_size"] == 8 * MIB


def test_a_client_key_with_another_geometry_is_refused():
    me = Visitor()
    upload = open_upload(me, size=10, client_key="k", chunk_size=4)
    for change_ in ({"size": 11}, {"size": None}, {"chunk_size": 5}):
        said = {"filename": "a", "size": 10, "client_key": "k", "chunk_size": 4}
        before = kept()
        answer = me.post(UPLOADS, said | change_)
        assert_refused(
            answer, 409, "client_key_in_use", id=upload["id"], url=upload["url"]
        )
        assert kept() == before


def test_a_client_key_is_the_owners_own():
    me, other = Visitor(), Visitor()
    said = {"filename": "a", "size": 10, "client_key": "k"}
    assert open_upload(me, **said)["id"] != open_upload(other, **said)["id"]


def test_a_client_key_is_free_again_after_the_end():
    me = Visitor()
    first = send_file(me, b"abc", client_key="k")
    second = open_upload(me, 3, client_key="k")
    assert me.delete(second["url"]).status == 204
    third = open_upload(me, 3, client_key="k")
    assert len({first["id"], second["id"], third["id"]}) == 3


# Policies


def test_a_policy_is_chosen_by_name(settings):
    policies(settings, default={}, images={"upload_to": "images"})
    me = Visitor()
    upload = send_file(me, b"abc", policy="images")
    assert upload["policy"] == "images"
    assert UploadSession.objects.get().file.name.startswith("images/")


def test_types_and_extensions_have_to_fit(settings):
    policies(
        settings, default={"allowed_types": ["image/*"], "allowed_extensions": ["png"]}
    )
    me = Visitor()
    open_upload(me, filename="A.PNG")
    open_upload(me, filename="a.png", content_type="image/png")
    for said in (
        {"filename": "a.exe"},
        {"filename": "a.png.exe", "content_type": "image/png"},
        {"filename": "a.png", "content_type": "text/html"},
        {"filename": "png"},
    ):
        before = kept()
        assert_refused(me.post(UPLOADS, said | {"size": 1}), 422, "type_not_allowed")
        assert kept() == before


def test_a_file_may_be_as_large_as_the_policy_says(settings):
    policies(settings, default={"max_size": 10})
    me = Visitor()
    open_upload(me, 10)
    answer = me.post(UPLOADS, {"filename": "a", "size": 11})
    assert_refused(answer, 413, "too_large", max_size=10)


def test_the_quota_counts_what_is_announced_and_what_is_finished(settings):
    policies(settings, default={"quota": 10})
    me = Visitor()
    send_file(me, b"abcd")
    upload = open_upload(me, 6)
    answer = me.post(UPLOADS, {"filename": "a", "size": 1})
    assert_refused(answer, 413, "quota_exceeded", quota=10)
    assert me.post(UPLOADS, {"filename": "a", "size": 0}).status == 201
    me.delete(upload["url"])
    open_upload(me, 6)
    # Somebody else has a quota of his own.
    open_upload(Visitor(), 10)


def test_only_so_many_uploads_may_be_open(settings):
    policies(settings, default={"max_open": 2})
    me = Visitor()
    upload = open_upload(me)
    open_upload(me)
    before = kept()
    answer = me.post(UPLOADS, {"filename": "a", "size": 10})
    assert_refused(answer, 429, "too_many_uploads", max_open=2)
    assert kept() == before
    assert me.put(f"{upload['url']}chunks/0/", b"0123456789").status == 201
    open_upload(me)


# What is refused

HOSTILE_SIZES = [-1, 1.5, "abc", 10**18, 10**19, 10**100, True, [], {}, "", "1e3"]


@pytest.mark.parametrize("size", HOSTILE_SIZES, ids=repr)
def test_an_impossible_size_is_refused(size):
    answer = Visitor().post(UPLOADS, {"filename": "a", "size": size})
    if size == 10**18:
        assert_refused(answer, 413, "too_large")
    else:
        assert_refused(answer, 400, "invalid")
    assert kept() == ([], [], {})


@pytest.mark.parametrize("size", [0, -1, 1.5, "abc", 10**18, True, [], 256 * MIB + 1])
def test_an_impossible_chunk_size_is_refused(size):
    answer = Visitor().post(UPLOADS, {"filename": "a", "size": 9, "chunk_size": size})
    assert_refused(answer, 400, "invalid")
    assert kept() == ([], [], {})


@pytest.mark.parametrize(
    "filename",
    ["", " ", "..", ".", "/", "a/", "\\", "\u200b", "x" * 10_000, None, 5.5j, [], {}],
    ids=lambda name: repr(name)[:20],
)
def test_a_file_without_a_name_is_refused(filename):
    if isinstance(filename, complex):
        answer = Visitor().post(UPLOADS, {"size": 1})
    else:
        answer = Visitor().post(UPLOADS, {"filename": filename, "size": 1})
    assert_refused(answer, 400, "invalid")
    assert kept() == ([], [], {})


@pytest.mark.parametrize("field", ["filename", "client_key", "policy", "checksum"])
@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 2000])
def test_text_that_no_database_keeps_is_refused(field, text):
    answer = Visitor().post(UPLOADS, {"filename": "a", "size": 1, field: text})
    assert_refused(answer, 400, "invalid")
    assert kept() == ([], [], {})


HOSTILE_NAMES = {
    "../../../etc/passwd": "passwd",
    "..\\..\\boot.ini": "boot.ini",
    "/absolute/path.txt": "path.txt",
    "C:\\Windows\\x.dll": "x.dll",
    "invoice\u202efdp.exe": "invoicefdp.exe",
    "new\r\nline.txt": "newline.txt",
    "Cafe\u0301.txt": "Café.txt",
    "😀": "😀",
    "<script>alert(1)</script>.html": "script>.html",
    "'; DROP TABLE uploads; --": "'; DROP TABLE uploads; --",
    "%2e%2e%2fpasswd": "%2e%2e%2fpasswd",
    "con": "con",
    ".htaccess": ".htaccess",
    "a" * 1020 + ".txt": "a" * 251 + ".txt",
}


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name)[:30])
def test_a_hostile_name_is_only_a_name(settings, name, tmp_path):
    me = Visitor()
    upload = send_file(me, b"abc", filename=name, relative_path=name)
    assert upload["state"] == "complete"
    assert upload["filename"] == HOSTILE_NAMES[name]
    assert ".." not in upload["relative_path"].split("/")
    row = UploadSession.objects.get()
    path = settings.MEDIA_ROOT / row.file.name
    assert path.read_bytes() == b"abc"
    assert path.parent.name == upload["id"]
    assert path.name.strip(".-") == path.name
    answer = me.get(upload["file"]["url"])
    assert answer.body == b"abc"
    assert "\n" not in answer.headers["Content-Disposition"]


@pytest.mark.parametrize(
    "kind", ["text/html\r\nSet-Cookie: a=b", "nonsense", "a/b; c=\u00e9", "../x"]
)
def test_a_hostile_content_type_is_none(kind):
    me = Visitor()
    upload = send_file(me, b"abc", content_type=kind)
    assert upload["content_type"] == ""
    answer = me.get(upload["file"]["url"])
    assert answer.headers["Content-Type"] == "application/octet-stream"


METADATA = {
    "too long": {"a": "x" * 16_400},
    "too deep": json.loads('{"a":' * 21 + "{}" + "}" * 21),
    "a NUL": {"a": ["\0"]},
    "a NUL in a key": {"a\0b": 1},
    "half a character": {"a": "\ud83d"},
    "half a character in a key": {"\ud83d": 1},
    "no object": ["a"],
    "text": "a",
    "null": None,
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA)
def test_metadata_that_databases_cannot_keep_is_refused(metadata):
    answer = Visitor().post(UPLOADS, {"filename": "a", "size": 1, "metadata": metadata})
    assert_refused(answer, 400, "invalid")
    assert kept() == ([], [], {})


@pytest.mark.parametrize("key", [b"", b'"client_key": "k", '])
def test_infinite_numbers_in_metadata_are_refused(key):
    body = b'{"filename": "a", "size": 1, ' + key + b'"metadata": {"a": 1e999}}'
    answer = Visitor().request("POST", UPLOADS, body, JSON)
    assert_refused(answer, 400, "invalid")
    assert kept() == ([], [], {})


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "\\u0000 is not a NUL"},
        json.loads('{"a":' * 19 + "{}" + "}" * 19),
        {"a": "x" * 16_000},
        {"a": 10**4000},
        {"a": 1e20},
        {"": ""},
    ],
    ids=["a backslash", "deep", "long", "a long number", "a large number", "empty"],
)
def test_unusual_metadata_is_kept(metadata):
    me = Visitor()
    upload = open_upload(me, metadata=metadata)
    found = me.get(upload["url"]).json()["metadata"]
    assert found == metadata
    assert me.get(upload["url"], Accept="text/html").status == 200


BODIES = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[1]",
    "a number": b"1",
    "half": b'{"filename": "a"',
    "no JSON": b"\xff\xfe\0",
    "deep": b"[" * 200_000,
    "a deep object": b'{"filename": "a", "metadata": ' + b'{"a":' * 100_000,
    "NaN": b'{"filename": "a", "size": NaN}',
    "a number of 5000 digits": b'{"filename": "a", "size": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_nonsense_is_refused(body):
    answer = Visitor().request("POST", UPLOADS, body, JSON)
    assert_refused(answer, 400, "invalid")
    assert kept() == ([], [], {})


def test_a_form_with_too_many_fields_is_refused():
    body = b"&".join(b"a%d=1" % number for number in range(1100))
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert_refused(Visitor().request("POST", UPLOADS, body, kind), 400, "invalid")


@pytest.mark.parametrize("kind", ["text/plain", "application/zip", "text/xml"])
def test_other_documents_are_refused(kind):
    answer = Visitor().request("POST", UPLOADS, b"{}", {"Content-Type": kind})
    assert_refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("is_user", [True, False])
def test_a_long_document_is_refused_before_it_is_read(django_user_model, is_user):
    me = Visitor(django_user_model.objects.create_user("u") if is_user else None)
    unread = Unread()
    answer = me.request(
        "POST",
        UPLOADS,
        headers=JSON,
        CONTENT_LENGTH=str(1024**3),
        **{"wsgi.input": unread},
    )
    assert_refused(answer, 413, "too_large", max_document=MIB)
    # Only what is drained of every refused request, so that the answer is heard.
    assert unread.asked <= 9 * MIB
    assert kept() == ([], [], {})


class Unread(io.RawIOBase):
    """A body that goes on and on, and knows how much of it was read."""

    asked = 0

    def read(self, size=-1):
        self.asked += size
        return bytes(size)


@pytest.mark.parametrize(
    "checksum",
    [
        "sha-256:" + "0" * 63,
        "sha-256:" + "A" * 64,
        "sha-256:" + "g" * 64,
        "sha-256",
        "crc64nvme:12",
        "rot13:" + "0" * 16,
        ":",
        "a" * 160,
    ],
)
def test_a_malformed_checksum_is_refused(checksum):
    answer = Visitor().post(UPLOADS, {"filename": "a", "size": 1, "checksum": checksum})
    assert_refused(answer, 400, "invalid")
    assert "sha-256" in answer.json()["algorithms"]
    assert kept() == ([], [], {})


def test_what_is_wrong_is_said_field_by_field():
    answer = Visitor().post(UPLOADS, {"size": "x", "chunk_size": 0})
    assert_refused(answer, 400, "invalid")
    assert set(answer.json()["fields"]) == {"filename", "size", "chunk_size"}
    assert "filename" in answer.json()["detail"]


def test_a_refused_opening_leaves_nothing(settings):
    policies(settings, default={"max_size": 1})
    me = Visitor()
    answer = me.post(UPLOADS, {"filename": "a", "size": 2})
    assert_refused(answer, 413, "too_large")
    assert kept() == ([], [], {})
    assert staged() == 0


def test_looking_around_begins_no_session():
    me = Visitor()
    assert me.get(UPLOADS).json()["results"] == []
    me.get(f"{UPLOADS}limits/")
    me.get(f"{UPLOADS}00000000-0000-0000-0000-000000000000/")
    assert not Session.objects.exists()


def test_an_answer_is_laid_out_as_it_is_wanted():
    me = Visitor()
    about = {"filename": "\u00fc.bin", "size": 1}
    plain = me.post("/uploads/", about)
    laid_out = me.post("/uploads/", about, Accept="application/json; indent=4")
    assert plain.headers["Content-Type"] == laid_out.headers["Content-Type"]
    assert '"filename":"\u00fc.bin"' in plain.body.decode()
    assert '\n    "filename": "\u00fc.bin"' in laid_out.body.decode()
    page = me.get(plain.json()["url"], Accept="text/html")
    assert page.headers["Content-Type"].startswith("text/html")


def test_paths_begin_where_the_site_is_mounted():
    me = Visitor()
    for mount in ("/", "/site/", "/"):
        with override_script_prefix(mount):
            answer = me.post("/uploads/", {"filename": "a.bin"})
        assert answer.json()["url"].startswith(f"{mount}uploads/")
        assert answer.headers["Location"] == answer.json()["url"]
