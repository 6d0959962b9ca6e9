"""The uploader of javascript.info: where it ends, and the rest from there."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from resumable_uploads import engine, errors, signals
from resumable_uploads.body import Body, checksum
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.protocols.byteoffset import FileId

from .foreign import NO_TOKEN, Rest
from .making import PAUSE, ScriptedSource, heard, use
from .rest import change, finished, nobody, policies, sha256, some_bytes, staged
from .visitor import Visitor

pytestmark = pytest.mark.django_db

DATA = some_bytes(50_000)
URL = "/demo/javascript-info/"


@pytest.fixture
def me():
    """A visitor who has seen the page, and whose client sends no token."""
    visitor = Visitor()
    visitor.get("/upload/")
    visitor.token = ""
    return visitor


@pytest.fixture
def file():
    return Rest(DATA)


def only():
    return UploadSession.objects.get()


def assert_stored(data=DATA):
    upload = only()
    assert upload.state == State.COMPLETE
    assert list(finished().values()) == [sha256(data)]
    assert staged() == 0
    return upload


def cut(me, file, start, after):
    """Send only so many bytes of the rest of a file."""
    sent = file.request(start)
    return me.cut("POST", sent["path"], sent["body"], after, headers=sent["headers"])


# Up


@pytest.mark.parametrize("size", [0, 1, 50_000])
def test_a_file_goes_up_in_one_request(me, size):
    file = Rest(DATA[:size])
    assert (file.status(me).status, file.status(me).body) == (200, b"0")
    with heard(signals.upload_completed) as ids:
        assert file.upload(me).status == 200
    upload = assert_stored(DATA[:size])
    assert ids == [upload.pk]
    assert (upload.filename, upload.length) == ("film.mp4", size)
    assert file.status(me).body == str(size).encode()


def test_after_a_cut_the_rest_is_sent(me, file):
    assert cut(me, file, 0, 20_000).status == 400
    assert file.status(me).body == b"20000"
    assert cut(me, file, 20_000, 10_000).status == 400
    assert file.resume(me) == 30_000
    assert_stored()


def test_a_status_is_a_plain_number_that_nobody_keeps(me, file):
    answer = file.status(me)
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers["Cache-Control"] == "no-store"
    assert {"Cookie", "X-File-Id"} <= set(answer.headers["Vary"].split(", "))
    assert not UploadSession.objects.exists()


def test_an_upload_tells_its_id_and_state(me, file):
    answer = file.upload(me)
    assert answer.headers["X-Upload-Id"] == str(only().pk)
    assert answer.headers["X-Upload-State"] in ("assembling", "complete")
    assert answer.body == b"50000"


def test_a_completed_file_is_not_sent_again(me, file):
    file.upload(me)
    before = only()
    assert file.resume(me) == 50_000
    # Chromium sends a whole request again when its connection has died.
    assert file.upload(me, 0).status == 200
    assert file.upload(me, 777).status == 200
    after = assert_stored()
    assert (after.pk, after.completed_at) == (before.pk, before.completed_at)
    assert file.upload(me, 50_001, b"").status == 400


def test_a_failed_assembly_is_tried_again(me, file, settings):
    change(settings, RUNNER="tests.rest.nobody")
    assert nobody
    file.upload(me)
    UploadSession.objects.update(state=State.FAILED)
    change(settings, RUNNER="inline")
    assert file.resume(me) == 50_000
    assert_stored()


def test_the_size_may_be_said_by_a_header(me):
    file = Rest(DATA, id="a name without a size")
    assert file.upload(me, 0, DATA[:20_000], X_File_Size="50000").status == 200
    assert only().length == 50_000
    assert file.upload(me, 20_000, X_File_Size="50000").status == 200
    assert_stored()


def test_without_any_size_the_first_body_is_the_file(me):
    file = Rest(DATA, id="a name without a size")
    assert file.upload(me).status == 200
    assert assert_stored().filename == "a name without a size"


def test_a_size_that_changes_is_refused(me, file):
    cut(me, file, 0, 20_000)
    assert file.upload(me, 20_000, X_File_Size="60000").status == 400
    assert file.status(me).body == b"20000"


@pytest.mark.parametrize(
    ("text", "name", "size"),
    [
        ("a.txt-5-1700000000000", "a.txt", 5),
        ("2020-11-21-5-17", "2020-11-21", 5),
        ("a-5--17", "a", 5),
        ("a-5-NaN", "a", 5),
        ("-5-17", "", 5),
        ("a-5", "a-5", None),
        ("a-x-17", "a-x-17", None),
        ("UTF-8''%E6%8A%A5%20%22x%22.txt-5-17", '报 "x".txt', 5),
        ("UTF-8''%FF-5-17", "\ufffd", 5),
        ("100%25.txt-5-17", "100%25.txt", 5),
    ],
)
def test_an_id_is_read_from_its_end(text, name, size):
    found = FileId(text)
    assert (found.name, found.size) == (name, size)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("résumé ß.pdf", "résumé ß.pdf"),
        ("UTF-8''%E6%8A%A5%E5%91%8A.txt", "报告.txt"),
        ("UTF-8''%F0%9F%8E%89%22.txt", '🎉".txt'),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("UTF-8''%2e%2e%2fa%00b.txt", "ab.txt"),
        ("..", "file"),
        ("n" * 250, "n" * 250),
        ("n" * 3000, "n" * 255),
    ],
)
def test_names_are_data(me, name, kept):
    file = Rest(DATA, name=name)
    cut(me, file, 0, 20_000)
    assert file.resume(me) == 20_000
    assert assert_stored().filename == kept


def test_two_files_of_one_name_are_told_apart(me):
    for modified in (1, 2):
        Rest(DATA, modified=modified).upload(me)
    assert UploadSession.objects.filter(state=State.COMPLETE).count() == 2


def test_another_one_with_the_same_id_sees_nothing(me, file):
    cut(me, file, 0, 20_000)
    other = Visitor()
    assert file.status(other).body == b"0"
    assert file.upload(other, 20_000).status == 400
    assert file.upload(other).status == 200
    assert file.status(me).body == b"20000"


# Where it starts


def test_a_start_behind_the_end_is_refused(me, file):
    cut(me, file, 0, 20_000)
    answer = file.upload(me, 20_001)
    assert (answer.status, answer.json()["offset"]) == (400, 20_000)
    assert file.upload(me, 20_000).status == 200
    assert_stored()


def test_a_start_without_an_upload_is_refused(me, file):
    assert file.upload(me, 1).status == 400
    assert not UploadSession.objects.exists()


@pytest.mark.parametrize("start", [0, 1, 10_000, 19_999, 20_000, 25_000, 29_999])
def test_a_start_before_the_end_writes_again_from_there(me, file, start):
    cut(me, file, 0, 20_000)
    cut(me, file, 20_000, 10_000)
    assert file.upload(me, start).status == 200
    assert_stored()


@pytest.mark.parametrize("start", [0, 1, 10_000, 20_000, 25_000])
def test_what_is_written_again_counts_and_not_what_was_there(me, file, start):
    new = some_bytes(50_000, seed=9)
    cut(me, file, 0, 20_000)
    cut(me, file, 20_000, 10_000)
    assert file.upload(me, start, new[start:]).status == 200
    upload = assert_stored(DATA[:start] + new[start:])
    assert upload.checksum == declared(DATA[:start] + new[start:])


def declared(data):
    return f"crc64nvme:{checksum(data):016x}"


@pytest.mark.parametrize("start", [0, 10_000])
def test_the_same_bytes_again_undo_nothing(me, file, start):
    # Chromium sends a request again by itself, and that one may break as well.
    cut(me, file, 0, 20_000)
    for after in (0, 5_000, 20_000 - start):
        cut(me, file, start, after)
        assert file.status(me).body == b"20000"
    assert file.resume(me) == 20_000
    assert_stored()


def test_other_bytes_count_from_where_they_differ(me, file, settings):
    use(settings, BUFFER_SIZE=1_000)
    cut(me, file, 0, 20_000)
    new = Rest(DATA[:15_500] + some_bytes(34_500, seed=9))
    cut(me, new, 10_000, 7_000)
    assert file.status(me).body == b"17000"
    sizes = Chunk.objects.order_by("number").values_list("offset", "size")
    assert list(sizes) == [(0, 15_000), (15_000, 2_000)]
    assert new.resume(me) == 17_000
    assert_stored(new.data)


def test_a_short_request_of_known_bytes_changes_nothing(me, file):
    cut(me, file, 0, 20_000)
    answer = file.upload(me, 5_000, DATA[5_000:9_000])
    assert (answer.status, answer.body) == (200, b"20000")
    assert file.resume(me) == 20_000


def test_recorded_bytes_that_are_missing_are_no_reason_to_guess(me, file):
    cut(me, file, 0, 20_000)
    Chunk.objects.update(key="nowhere/data")
    assert file.upload(me, 10_000).status == 503
    assert file.status(me).body == b"20000"


@pytest.mark.parametrize("start", ["NaN", "-1", "", "1e3", "0x10", " ", str(2**70)])
def test_a_start_that_is_no_number_is_refused(me, file, start):
    assert file.upload(me, start, DATA).status == 400
    assert not UploadSession.objects.exists()


def test_more_bytes_than_the_file_has_are_refused(me, file):
    assert file.upload(me, 0, DATA + b"x").status == 413
    assert finished() == {}


def test_an_id_is_needed(me):
    for file in (Rest(DATA, id=" "), Rest(DATA, id="\t")):
        assert file.status(me).status == 400
        assert file.upload(me).status in (400, 403)


# Lines that break, and requests that come late


def test_a_status_ends_the_request_that_is_still_at_it(me, file, settings):
    use(settings, SEGMENT_SIZE=10_000)
    offsets = []

    def ask():
        offsets.append(int(file.status(me).body))

    source = ScriptedSource(DATA[:10_000], ask, DATA[10_000:], length=len(DATA))
    cut(me, file, 0, 0)
    with pytest.raises(errors.Interrupted):
        engine.append(only(), 0, Body(source))
    assert offsets == [10_000]
    assert file.status(me).body == b"10000"
    assert file.resume(me) == 10_000
    assert_stored()


def test_a_newer_upload_ends_the_one_that_is_still_at_it(me, file, settings):
    use(settings, SEGMENT_SIZE=10_000)
    source = ScriptedSource(
        DATA[:10_000], lambda: file.upload(me, 0), DATA[10_000:], length=len(DATA)
    )
    cut(me, file, 0, 0)
    with pytest.raises(errors.NotReceiving):
        engine.append(only(), 0, Body(source))
    assert_stored()


def test_an_upload_begins_though_an_older_one_comes_late(me, file, monkeypatch):
    cut(me, file, 0, 20_000)
    take_offset = engine.take_offset
    late = [10_000, 5_000]

    def take(upload):
        """Take the offset; and then the older request is at it."""
        taken = take_offset(upload)
        if late:
            start = taken.received
            rest = ScriptedSource(DATA[start : start + late.pop(0)], length=None)
            engine.append(engine.refreshed(upload), start, Body(rest))
        return taken

    monkeypatch.setattr(engine, "take_offset", take)
    assert file.upload(me, 20_000).status == 200
    assert_stored()


def test_what_comes_before_a_long_pause_is_kept(me, file):
    source = ScriptedSource(DATA[:12_345], PAUSE, length=len(DATA))
    cut(me, file, 0, 0)
    with pytest.raises(errors.Truncated):
        engine.append(only(), 0, Body(source))
    assert file.status(me).body == b"12345"


@pytest.mark.django_db(transaction=True)
def test_uploads_of_one_file_at_the_same_time_make_one_file(me, file):
    cut(me, file, 0, 20_000)
    threads = [
        threading.Thread(target=try_upload, args=[me, file, start])
        for start in (0, 5_000, 20_000, 0, 20_000)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.resume(me)
    assert_stored()


def try_upload(me, file, start):
    assert file.upload(me, start).status in (200, 400)
    transaction.get_connection().close()


# Who may


@pytest.fixture
def user(django_user_model):
    return django_user_model.objects.create_user("ann")


@pytest.fixture(params=["visitor", "user"])
def somebody(request, me, user):
    """A visitor, and a user: neither sends a CSRF token."""
    return me if request.param == "visitor" else Visitor(user, has_token=False)


def test_no_token_is_needed_and_the_user_is_known(somebody, user, file):
    assert file.upload(somebody).status == 200
    owner = user if "sessionid" in somebody.client.cookies else None
    assert assert_stored().user in (owner, None)


def test_the_upload_of_a_user_is_the_users(user, file):
    file.upload(Visitor(user, has_token=False))
    assert assert_stored().user == user


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver.evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"},
    ],
)
def test_another_site_may_not(somebody, file, headers):
    assert file.upload(somebody, **headers).status == 403
    assert not UploadSession.objects.exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://testserver", "Sec_Fetch_Site": "same-origin"},
        {"Origin": "https://testserver"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "https://trusted.example", "Sec_Fetch_Site": "cross-site"},
    ],
)
def test_this_site_and_those_it_trusts_may(somebody, file, settings, headers):
    settings.CSRF_TRUSTED_ORIGINS = ["https://trusted.example"]
    assert file.upload(somebody, **headers).status == 200


def test_a_form_of_another_site_has_no_such_header(somebody, file):
    answer = somebody.request(
        "POST", f"{URL}upload", DATA, NO_TOKEN | {"Content-Type": "text/plain"}
    )
    assert answer.status == 403


def test_a_preflight_is_not_granted(me):
    headers = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Headers": "x-file-id",
    }
    answer = me.request("OPTIONS", f"{URL}upload", headers=headers)
    assert answer.status == 204
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


def test_who_is_not_logged_in_is_told_so_and_not_redirected(me, file, settings):
    policies(settings, default={"anonymous": False})
    assert file.status(me).body == b"0"
    assert file.upload(me).status == 403


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ({"allowed_extensions": [".pdf"]}, 422),
        ({"max_size": 49_999}, 413),
        ({"quota": 49_999}, 413),
        ({"max_open": 0}, 429),
    ],
)
def test_what_the_policy_does_not_allow_is_refused(me, file, settings, policy, status):
    policies(settings, default=policy)
    assert file.upload(me).status == status
    assert not UploadSession.objects.exists()


class Strict(UploadPolicy):
    def validate(self, upload, file):
        raise ValidationError("Not this one.")


@pytest.mark.django_db(transaction=True)
def test_a_file_that_is_refused_at_the_end_is_no_success(me, file, settings):
    policies(settings, default={"class": Strict})
    assert file.upload(me).status == 422


# Ends


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_what_has_ended_begins_anew(me, file, end):
    cut(me, file, 0, 20_000)
    if end == "cancelled":
        engine.cancel(only())
    else:
        past = timezone.now() - timedelta(seconds=1)
        UploadSession.objects.update(expires_at=past)
    assert file.status(me).body == b"0"
    assert file.upload(me, 20_000).status == 400
    assert file.resume(me) == 0
    assert list(finished().values()) == [sha256(DATA)]


@pytest.mark.parametrize("name", ["status", "status/", "upload", "upload/"])
def test_no_address_redirects(me, file, name):
    method = "GET" if name.startswith("status") else "POST"
    sent = file.headers | {"X-Start-Byte": "0", "Content-Type": ""}
    body = b"" if method == "GET" else DATA
    assert me.request(method, URL + name, body, sent).status == 200
