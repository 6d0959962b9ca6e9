"""Resumable.js, flow.js and simple-uploader.js: what they send, what they hear."""

from __future__ import annotations

import random
import threading
import time
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone
from rest_framework.throttling import SimpleRateThrottle

from resumable_uploads import engine, errors, signals
from resumable_uploads.body import Body
from resumable_uploads.engine import numbering
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.protocols import resumablejs
from resumable_uploads.stores.filesystem import FilesystemWriter

from .client import OCTETS
from .foreign import NO_TOKEN, Resumable, flow, query, simple
from .making import heard
from .rest import change, finished, nobody, policies, sha256, some_bytes, staged
from .visitor import Visitor

pytestmark = pytest.mark.django_db

DATA = some_bytes(4500)
# Within the transaction of a test, the answer comes before the assembly.
FULL = ("assembling", "complete")
FAMILY = pytest.mark.parametrize("made", [Resumable, flow, simple])


@pytest.fixture
def me():
    return Visitor()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let nobody wait for what the tests do not measure."""
    monkeypatch.setattr(resumablejs, "HELD_BACK", 0)
    monkeypatch.setattr(resumablejs, "FIRST_CHUNK_TAKES", 0.05)
    monkeypatch.setattr(resumablejs, "LOOK_EVERY", 0.01)


def only():
    return UploadSession.objects.get()


def assert_stored(data=DATA):
    upload = only()
    assert upload.state == State.COMPLETE
    assert list(finished().values()) == [sha256(data)]
    assert staged() == 0
    return upload


# Chunks


@FAMILY
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1999, 2000, 2001, 4500])
def test_a_file_of_any_size_goes_up_in_both_geometries(me, made, forced, size):
    file = made(DATA[:size], forced=forced)
    with heard(signals.upload_completed) as ids:
        answer = file.send_all(me)
    upload = assert_stored(DATA[:size])
    assert ids == [upload.pk]
    assert upload.filename == "film.mp4"
    assert answer.json()["state"] in FULL
    if made is Resumable:
        assert upload.content_type == "video/mp4"


@FAMILY
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_chunks_come_in_any_order_and_more_than_once(me, made, forced, seed):
    file = made(DATA, forced=forced)
    numbers = [*range(1, file.count + 1)] * 2
    random.Random(seed).shuffle(numbers)
    with heard(signals.upload_completed) as ids:
        for number in numbers:
            assert file.send(me, number).status == 200
    assert ids == [assert_stored().pk]


@FAMILY
@pytest.mark.parametrize("forced", [False, True])
def test_the_last_chunk_may_come_first(me, made, forced):
    file = made(DATA, forced=forced)
    for number in (file.count, *range(1, file.count)):
        assert file.send(me, number).status == 200
    assert_stored()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_chunks_may_come_as_raw_bodies(me, method):
    file = Resumable(DATA)
    for number in range(1, file.count + 1):
        assert file.send_raw(me, number, method).status == 200
    assert_stored()


def test_a_raw_body_may_have_the_type_of_a_form(me):
    # flow.js sends the file's own type, whatever it is.
    file = flow(b"a=b&csrfmiddlewaretoken=c", chunk_size=100)
    url = f"{file.url}?{query(file.parameters(1))}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert me.request("POST", url, file.data, headers).status == 200
    assert assert_stored(file.data).content_type == headers["Content-Type"]


def test_forms_may_be_put(me):
    file = Resumable(DATA)
    for number in range(1, file.count + 1):
        assert file.send(me, number, method="PUT").status == 200
    assert_stored()


@FAMILY
def test_names_of_parameters_may_have_a_namespace(me, made):
    file = made(DATA, namespace="my_")
    assert file.resume(me) == [1, 2, 3, 4] or made is simple
    file.send_all(me)
    assert_stored()


@pytest.mark.parametrize("word", ["type", "filename", "relativePath", "totalChunks"])
@pytest.mark.parametrize("forced", [False, True])
def test_parameters_that_are_not_needed_may_be_left_out(me, word, forced):
    Resumable(DATA, forced=forced, lies={word: None}).send_all(me)
    upload = assert_stored()
    assert upload.filename == ("file" if word == "filename" else "film.mp4")


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("is_raw", [False, True])
def test_the_size_of_the_chunk_may_be_left_out(me, forced, is_raw):
    file = Resumable(DATA, forced=forced, lies={"currentChunkSize": None})
    for number in range(1, file.count + 1):
        send = file.send_raw if is_raw else file.send
        assert send(me, number).status == 200
        assert file.test(me, number).status == 200
    assert_stored()


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5), (4, 5, 3, 2, 1), (5, 4, 3, 2, 1)])
@pytest.mark.parametrize("lie", [0, 4, 5, 32931, "NaN"])
def test_a_wrong_number_of_chunks_does_no_harm(me, forced, order, lie):
    file = Resumable(DATA, forced=forced, lies={"totalChunks": lie})
    for number in order:
        if number <= file.count:
            assert file.send(me, number).status == 200
    assert_stored()


def test_a_number_of_chunks_that_is_wrong_only_once_does_no_harm(me):
    file = Resumable(DATA)
    file.lies = {"totalChunks": 3}
    assert file.send(me, 1).status == 200
    file.lies = {}
    for number in (2, 4, 3):
        assert file.send(me, number).status == 200
    assert_stored()


def test_custom_parameters_are_no_matter(me):
    file = Resumable(DATA, lies={"myIdentifier": "x", "number": "1", "x": "y"})
    file.send_all(me)
    assert_stored()


# Is the chunk there?


@pytest.mark.parametrize("made", [Resumable, flow])
def test_the_answer_to_a_test_is_yes_or_no(me, made):
    file = made(DATA)
    assert file.test(me, 2).status == 204
    assert not UploadSession.objects.exists()
    file.send(me, 2)
    tested = file.test(me, 2)
    assert (tested.status, file.test(me, 1).status) == (200, 204)
    assert tested.headers["Cache-Control"] == "no-store"
    assert "Cookie" in tested.headers["Vary"]
    assert tested.headers["Content-Type"] == "application/json"


@FAMILY
def test_only_what_is_missing_is_sent_again(me, made):
    file = made(DATA, lies={"checked": 1})
    for number in (1, 3):
        file.send(me, number)
    if made is simple:
        assert file.test(me, 1).json()["uploaded"] == [1, 3]
        sent = [number for number in (2, 4) if file.send(me, number).status == 200]
    else:
        sent = file.resume(me)
    assert sent == [2, 4]
    assert_stored()


@FAMILY
def test_during_the_assembly_all_is_there(me, made, settings):
    change(settings, RUNNER="tests.rest.nobody")
    assert nobody
    file = made(DATA)
    file.send_all(me)
    assert only().state == State.ASSEMBLING
    for number in range(1, file.count + 1):
        tested = file.test(me, number)
        assert (tested.status, tested.json()["state"]) == (200, "assembling")
        assert file.send(me, number).status == 200


@FAMILY
def test_a_completed_file_is_not_sent_again(me, made):
    file = made(DATA)
    file.send_all(me)
    before = only()
    for number in range(1, file.count + 1):
        tested = file.test(me, number)
        assert (tested.status, tested.json()["state"]) == (200, "complete")
        assert file.send(me, number).status == 200
    after = assert_stored()
    assert (after.pk, after.completed_at) == (before.pk, before.completed_at)


def test_a_completed_file_takes_the_other_geometry_for_the_same(me):
    Resumable(DATA).send_all(me)
    Resumable(DATA, forced=True).send_all(me)
    assert_stored()


def test_a_completed_file_that_was_deleted_is_sent_again(me):
    file = Resumable(DATA)
    file.send_all(me)
    assert me.delete(f"/uploads/{only().pk}/").status == 204
    assert file.resume(me) == [1, 2, 3, 4]
    assert list(finished().values()) == [sha256(DATA)]


def test_a_file_completed_long_ago_is_sent_again(me):
    file = Resumable(DATA)
    file.send_all(me)
    past = timezone.now() - timedelta(days=8)
    UploadSession.objects.update(completed_at=past)
    assert file.resume(me) == [1, 2, 3, 4]


def test_a_file_whose_assembly_failed_is_tried_again(me, settings):
    change(settings, RUNNER="tests.rest.nobody")
    file = Resumable(DATA)
    file.send_all(me)
    UploadSession.objects.update(state=State.FAILED)
    change(settings, RUNNER="inline")
    assert file.test(me, 1).status == 200
    assert_stored()
    assert file.test(me, 1).json()["state"] == "complete"


def test_a_chunk_for_a_failed_assembly_has_it_tried_again(me, settings):
    change(settings, RUNNER="tests.rest.nobody")
    file = Resumable(DATA)
    file.send_all(me)
    UploadSession.objects.update(state=State.FAILED)
    change(settings, RUNNER="inline")
    assert file.send(me, 1).json()["state"] in FULL
    assert_stored()


def test_a_chunk_of_another_size_is_not_there(me):
    forced = Resumable(DATA, forced=True)
    forced.send(me, 4)
    assert forced.test(me, 4).status == 200
    assert Resumable(DATA).test(me, 4).status == 204


@pytest.mark.parametrize(
    "lies",
    [
        {"chunkNumber": 0},
        {"chunkNumber": "NaN"},
        {"totalSize": None},
        {"chunkSize": 0},
        {"identifier": None},
        {"identifier": ""},
        {"identifier": "x" * 9000},
    ],
)
@FAMILY
def test_a_test_without_sense_is_answered_in_a_way_that_kills_no_file(me, made, lies):
    file = made(DATA, lies=lies)
    assert file.test(me, 1).status in (200, 204, 400)
    made(DATA).send(me, 1)
    assert file.test(me, 1).status in (200, 204, 400)


def test_a_test_begins_no_session(me):
    assert Resumable(DATA).test(me, 1).status == 204
    assert "sessionid" not in me.client.cookies


# One list instead of many tests


def test_a_list_tells_of_all_chunks(me):
    file = simple(DATA)
    assert file.test(me, 1).json()["uploaded"] == []
    assert file.send(me, 2).json()["uploaded"] == [2]
    assert file.send(me, 4).json()["uploaded"] == [2, 4]
    assert file.test(me, 1).json()["uploaded"] == [2, 4]
    file.send_all(me)
    assert file.test(me, 1).json()["uploaded"] == [1, 2, 3, 4]


def test_without_the_option_there_is_no_list(me):
    assert "uploaded" not in flow(DATA).send(me, 1).json()


# The same facts in every answer


def test_every_answer_tells_the_same(me, settings):
    policies(settings, default={"downloadable": True})
    file = Resumable(DATA)
    first = file.send(me, 1).json()
    assert first == file.test(me, 1).json()
    assert first["state"] == "receiving"
    assert first["file"] is None
    file.send_all(me)
    last = file.send(me, 1).json()
    assert last == file.test(me, 3).json() == file.send(me, 4).json()
    assert last["id"] == first["id"] == str(only().pk)
    url = f"/uploads/{only().pk}/file/"
    assert last["file"] == {"name": "film.mp4", "size": 4500, "url": url}
    assert last["checksum"] == only().checksum
    assert me.get(url).body == DATA


@pytest.mark.django_db(transaction=True)
def test_the_last_chunk_tells_that_the_file_is_complete(me):
    facts = Resumable(DATA).send_all(me).json()
    assert (facts["state"], facts["id"]) == ("complete", str(assert_stored().pk))


def test_a_file_that_may_not_be_downloaded_has_no_url(me, settings):
    policies(settings, default={"downloadable": False})
    file = Resumable(DATA)
    file.send_all(me)
    assert file.test(me, 1).json()["file"]["url"] is None


# Names and identities


@pytest.mark.parametrize(
    "name",
    [
        "报告.txt",
        'it\'s "quoted" & <b>.txt',
        "🎉👩‍👩‍👧.txt",
        "100% #1? a+b;c=d.txt",
        "ü" * 100 + ".txt",
        "报" * 250 + ".txt",
    ],
)
@FAMILY
def test_names_of_any_script_are_kept(me, made, name):
    file = made(DATA, name=name)
    file.send_all(me)
    assert assert_stored().filename == name
    assert file.test(me, 1).json()["state"] == "complete"


def test_a_line_end_in_a_name_is_the_same_in_forms_and_queries(me):
    # A form makes \r\n of it, a query does not.
    file = flow(DATA, name="a\nb.txt", path="a\nb.txt")
    for number in range(1, 5):
        request = file.request(number)
        request["body"] = request["body"].replace(b"a\nb.txt", b"a\r\nb.txt")
        assert me.request(**request).status == 200
    assert file.test(me, 1).status == 200
    assert assert_stored().filename == "ab.txt"


@FAMILY
def test_a_path_is_kept_as_data(me, made):
    made(DATA, name="b.txt", path="trip/day 1/b.txt").send_all(me)
    upload = assert_stored()
    assert (upload.relative_path, upload.filename) == ("trip/day 1", "b.txt")


def test_a_path_that_climbs_gets_nowhere(me):
    made = Resumable(DATA, name="..\\..\\b.txt", path="../../../etc/b.txt")
    made.lies = {"identifier": "../../etc/passwd\x00"}
    made.send_all(me)
    upload = assert_stored()
    assert (upload.relative_path, upload.filename) == ("etc", "b.txt")


@FAMILY
def test_two_files_with_one_identifier_do_not_mix(me, made):
    lies = {"identifier": "4500-txt"}
    chinese = made(DATA, name="报告.txt", lies=lies)
    other = some_bytes(4500, seed=2)
    japanese = made(other, name="写真.txt", lies=lies)
    for number in range(1, 5):
        chinese.send(me, number)
        if made is not simple:
            assert japanese.test(me, number).status == 204
        japanese.send(me, number)
    assert sorted(finished().values()) == sorted([sha256(DATA), sha256(other)])


def test_the_same_file_in_two_folders_is_two_files(me):
    for folder in ("a", "b"):
        # 1.1.0 does not know of the folder of a dropped file.
        file = Resumable(DATA, path=f"{folder}/x.txt", lies={"identifier": "4500-x"})
        file.send_all(me)
    assert len(finished()) == 2


@FAMILY
def test_another_user_with_the_same_identifier_sees_nothing(me, made):
    file = made(DATA)
    file.send(me, 1)
    other = Visitor()
    tested = file.test(other, 1)
    assert tested.status == (200 if made is simple else 204)
    assert str(only().pk).encode() not in tested.body
    file.send_all(other)
    assert UploadSession.objects.get(state=State.COMPLETE).owner != (
        UploadSession.objects.get(state=State.RECEIVING).owner
    )
    file.send_all(me)
    assert len(finished()) == 2


def test_the_same_file_at_two_endpoints_is_two_uploads(me, settings):
    policies(settings, default={}, pictures={"allowed_extensions": [".png"]})
    said = Resumable(DATA).parameters(1)
    keys = {
        resumablejs.Parameters(Query(said), Query({})).client_key(policy)
        for policy in ("default", "pictures")
    }
    assert len(keys) == 2


class Query(dict):
    def dict(self):
        return self


@FAMILY
def test_a_changed_chunk_size_is_another_upload(me, made):
    made(DATA, chunk_size=1000).send(me, 2)
    file = made(DATA, chunk_size=700)
    if made is not simple:
        assert file.test(me, 2).status == 204
    file.send_all(me)
    assert list(finished().values()) == [sha256(DATA)]
    assert UploadSession.objects.count() == 2


@pytest.mark.parametrize("first", [False, True])
def test_a_changed_geometry_forgets_only_the_chunks_at_the_end(me, first):
    before = Resumable(DATA, forced=first)
    for number in (1, before.count, before.count - 1):
        before.send(me, number)
    after = Resumable(DATA, forced=not first)
    sent = after.resume(me)
    assert 1 not in sent
    assert assert_stored().chunk_size == 1000


def test_a_chunk_of_the_old_geometry_does_not_mix_into_the_new_one(me):
    old, new = Resumable(DATA, forced=True), Resumable(DATA)
    old.send(me, 1)
    upload = only()
    new.send(me, 4)
    # It was checked by what the other request has just changed.
    body = Body(Bytes(old.bytes_of(5)))
    with pytest.raises(errors.Interrupted):
        engine.put_chunk(upload, 4, body)
    for number in (2, 3):
        new.send(me, number)
    assert_stored()


def test_a_chunk_that_was_written_when_the_geometry_changed_is_not_recorded(
    me, monkeypatch
):
    old = Resumable(DATA, forced=True)
    old.send(me, 1)
    upload = only()
    record = numbering._record_chunk

    def late(*args):
        engine.reshape(only(), 4)
        return record(*args)

    monkeypatch.setattr(numbering, "_record_chunk", late)
    with pytest.raises(errors.Interrupted):
        engine.put_chunk(upload, 3, Body(Bytes(old.bytes_of(4))))
    assert (only().received, only().chunk_count) == (1000, 1)


def test_a_chunk_of_the_new_geometry_finds_the_file_completed_in_the_old_one(
    me, monkeypatch
):
    old, new = Resumable(DATA), Resumable(DATA, forced=True)
    for number in (1, 2, 4):
        old.send(me, number)
    reshape = engine.reshape

    def after_the_others(*args):
        old.send(me, 3)
        return reshape(*args)

    monkeypatch.setattr(engine, "reshape", after_the_others)
    assert new.send(me, 5).status == 200
    assert new.send(me, 4).status == 200
    assert_stored()


class Bytes:
    def __init__(self, data):
        self.data, self.length = data, len(data)

    def readinto(self, view, patience):
        size = min(len(view), len(self.data))
        view[:size], self.data = self.data[:size], self.data[size:]
        return size

    def close(self):
        pass


# Lies


@pytest.mark.parametrize(
    "lies",
    [
        {"chunkNumber": 0},
        {"chunkNumber": 6},
        {"chunkNumber": 10**9},
        {"chunkNumber": -1},
        {"chunkNumber": "NaN"},
        {"chunkNumber": "1e9"},
        {"chunkSize": 0},
        {"chunkSize": "NaN"},
        {"chunkSize": 10**18},
        {"chunkSize": None},
        {"totalSize": None},
        {"totalSize": "NaN"},
        {"totalSize": -1},
        {"totalSize": 900},
        {"totalSize": 2**63},
        {"identifier": None},
        {"currentChunkSize": 10**9, "chunkNumber": 4},
    ],
)
@FAMILY
def test_a_chunk_that_makes_no_sense_is_refused_for_good(me, made, lies):
    file = made(DATA, lies=lies)
    answer = file.send(me, 1)
    no_dialect = lies == {"identifier": None} or made is Resumable
    assert answer.status in ((400,) if no_dialect else (413, 415)), answer.body
    assert answer.json()["detail"]
    assert Chunk.objects.count() == 0


def test_a_chunk_of_the_wrong_length_is_refused_and_not_kept(me):
    file = Resumable(DATA)
    for data in (b"", b"x", DATA[:999], DATA[:1001]):
        assert file.send(me, 2, data=data).status == 400
    assert Chunk.objects.count() == 0
    assert only().received == 0


def test_a_total_that_changes_is_another_upload(me):
    file = Resumable(DATA)
    file.send(me, 1)
    file.lies = {"totalSize": 9000}
    file.send(me, 2)
    assert sorted(UploadSession.objects.values_list("length", flat=True)) == [
        4500,
        9000,
    ]


def test_other_bytes_under_the_same_number_are_refused(me):
    file = Resumable(DATA)
    file.send(me, 1)
    assert file.send(me, 1, data=some_bytes(1000, seed=3)).status == 400
    file.send_all(me)
    assert_stored()


# Refusals


@pytest.mark.parametrize(
    ("made", "statuses"),
    [
        (
            Resumable,
            {"type": 400, "size": 400, "login": 400, "quota": 400, "many": 400},
        ),
        (flow, {"type": 415, "size": 413, "login": 403, "quota": 413, "many": 415}),
        (simple, {"type": 415, "size": 415, "login": 403, "quota": 415, "many": 415}),
    ],
)
@pytest.mark.parametrize("reason", ["type", "size", "login", "quota", "many"])
def test_a_refusal_is_final_in_the_words_of_each_client(
    me, settings, made, statuses, reason
):
    policy = {
        "type": {"allowed_extensions": [".pdf"]},
        "size": {"max_size": 4000},
        "login": {"anonymous": False},
        "quota": {"quota": 4000},
        "many": {"max_open": 0},
    }[reason]
    policies(settings, default=policy)
    answer = made(DATA).send(me, 1)
    assert answer.status == statuses[reason]
    assert answer.json()["detail"]
    assert answer.headers["Content-Type"] == "application/json"
    assert not UploadSession.objects.exists()
    assert made(DATA).test(me, 1).status in (200, 204)


class Strict(UploadPolicy):
    def validate(self, upload, file):
        raise ValidationError("Not this one.")


@pytest.mark.django_db(transaction=True)
@FAMILY
def test_the_last_chunk_of_a_file_that_is_refused_tells_why(me, settings, made):
    policies(settings, default={"class": Strict})
    file = made(DATA)
    answers = [file.send(me, number) for number in range(1, 5)]
    assert [answer.status for answer in answers[:3]] == [200] * 3
    assert answers[3].status == (400 if made is Resumable else 415)
    assert answers[3].json()["detail"] == "Not this one."
    assert finished() == {}


def test_a_missing_token_is_no_request_storm(me):
    request = Resumable(DATA).request(1, headers=OCTETS)
    request["headers"] = request["headers"] | NO_TOKEN
    assert me.request(**request).status == 400
    request = flow(DATA).request(1)
    request["headers"] |= NO_TOKEN
    assert me.request(**request).status == 403


def test_a_page_that_gives_up_on_403_can_have_it(me, settings, rf):
    policies(settings, default={"anonymous": False})
    view = resumablejs.ResumableJsView.as_view(spares_storms=False)
    file = Resumable(DATA)
    request = rf.post(file.request(1)["path"])
    request.session = {}
    assert view(request).status_code == 403


def test_an_address_without_the_slash_is_no_redirect(me):
    file = Resumable(DATA, url="/uploads/resumablejs")
    assert file.test(me, 1).status == 204
    file.send_all(me)
    assert_stored()


def test_a_preflight_needs_no_login(me, settings):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"]
    }
    answer = me.request("OPTIONS", "/uploads/resumablejs/", headers=NO_TOKEN)
    assert answer.status == 204
    assert "POST" in answer.headers["Allow"]
    assert "Access-Control-Allow-Origin" not in answer.headers


class Once(SimpleRateThrottle):
    """One request, and then no more for an hour."""

    seen: set[str] = set()
    rate = "1/h"

    def allow_request(self, request, view):
        first = request.method not in self.seen
        self.seen.add(request.method)
        return first

    def wait(self):
        return 3600


def test_tests_and_preflights_are_not_throttled(me, monkeypatch):
    monkeypatch.setattr(resumablejs.ResumableJsView, "throttle_classes", [Once])
    Once.seen = set()
    file = Resumable(DATA)
    for _ in range(3):
        assert file.test(me, 1).status == 204
        assert me.request("OPTIONS", file.url).status == 204
    assert file.send(me, 1).status == 200
    answer = file.send(me, 2)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3600")


# Trouble


@FAMILY
def test_what_may_work_later_is_answered_later_and_not_for_good(me, made, monkeypatch):
    monkeypatch.setattr(resumablejs, "HELD_BACK", 0.2)

    def breaks(self, blocks):
        raise OSError("The disk is away.")

    me.get("/upload/")
    file = made(DATA)
    with monkeypatch.context() as patch:
        patch.setattr(FilesystemWriter, "write", breaks)
        begun = time.monotonic()
        answer = file.send(me, 1)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert time.monotonic() - begun >= 0.2
    file.send_all(me)
    assert_stored()


@FAMILY
def test_a_full_disk_is_final_for_all_of_them(me, made, monkeypatch):
    def fills(self, blocks):
        raise errors.StorageFull

    monkeypatch.setattr(FilesystemWriter, "write", fills)
    answer = made(DATA).send(me, 1)
    assert (answer.status, answer.json()["code"]) == (500, "storage_full")


def test_a_mistake_of_the_server_is_told_in_json(me, monkeypatch, caplog):
    def breaks(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine, "put_chunk", breaks)
    me.client.raise_request_exception = False
    answer = Resumable(DATA).send(me, 1)
    assert answer.status == 500
    assert answer.json()["code"] == "server_error"
    assert "a bug" not in answer.json()["detail"]
    assert "a bug" in caplog.text


# Ends


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_a_page_that_is_still_open_does_not_go_on_with_what_has_ended(me, end):
    file = Resumable(DATA)
    file.send(me, 1)
    if end == "cancelled":
        engine.cancel(only())
    else:
        past = timezone.now() - timedelta(seconds=1)
        UploadSession.objects.update(expires_at=past)
    answer = file.send(me, 2)
    assert (answer.status, answer.json()["code"]) == (400, "gone")
    assert only().state == end
    assert file.resume(me) == [1, 2, 3, 4]
    assert list(finished().values()) == [sha256(DATA)]


@pytest.mark.django_db(transaction=True)
def test_a_chunk_waits_for_the_first_one_to_begin_anew(me, monkeypatch):
    monkeypatch.setattr(resumablejs, "FIRST_CHUNK_TAKES", 10)
    file = Resumable(DATA)
    file.send(me, 1)
    engine.cancel(only())
    answers = []

    def second():
        answers.append(file.send(me, 2).status)
        connection.close()

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.2)
    assert answers == []
    assert file.send(me, 1).status == 200
    thread.join()
    assert answers == [200]


def test_tests_after_an_expiry_say_no(me):
    file = Resumable(DATA)
    file.send(me, 1)
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.update(expires_at=past)
    assert file.test(me, 1).status == 204


def test_chunks_that_go_on_coming_keep_an_upload_alive(me):
    file = Resumable(DATA)
    file.send(me, 1)
    soon = timezone.now() + timedelta(hours=1)
    UploadSession.objects.update(expires_at=soon)
    file.send(me, 2)
    assert only().expires_at > timezone.now() + timedelta(days=6)


# At the same moment


@pytest.mark.django_db(transaction=True)
def test_one_file_comes_of_parallel_chunks_in_both_geometries(me):
    me.get("/upload/")
    files = [Resumable(DATA, forced=True), Resumable(DATA)]
    requests = [
        file.request(number)
        for file in files
        for number in range(1, file.count + 1)
        for _ in range(2)
    ]
    random.Random(7).shuffle(requests)
    statuses = []

    def send(request):
        # As the clients do it: what is not final is sent again.
        for _ in range(50):
            status = me.request(**request).status
            if status not in (429, 503):
                break
        statuses.append(status)
        connection.close()

    with heard(signals.upload_completed) as ids:
        threads = [threading.Thread(target=send, args=[one]) for one in requests]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Each page asks what is missing in its own geometry.
        files[0].resume(me)
    assert len(ids) == 1
    assert set(statuses) == {200}
    assert_stored()


@pytest.mark.django_db(transaction=True)
def test_a_small_file_sent_eight_times_at_once_is_one_upload(me):
    me.get("/upload/")
    file = Resumable(b"small", chunk_size=100)
    statuses = []
    together = threading.Barrier(8)

    def send():
        together.wait()
        statuses.append(file.send(me, 1).status)
        connection.close()

    with heard(signals.upload_completed) as ids:
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 8
    assert len(ids) == 1
    assert_stored(b"small")


def test_who_comes_late_finds_what_another_request_has_completed(me, monkeypatch):
    file = Resumable(b"small", chunk_size=100)
    found = engine.find_by_key
    looks = []

    def late(*args):
        """See nothing; and then somebody else is quicker."""
        if looks:
            return found(*args)
        looks.append(1)
        assert file.send(me, 1).status == 200
        return None

    me.get("/upload/")
    monkeypatch.setattr(engine, "find_by_key", late)
    assert file.send(me, 1).status == 200
    assert_stored(b"small")
