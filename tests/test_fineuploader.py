"""Fine Uploader: parts, done call, delete and session, and what it makes of answers."""

from __future__ import annotations

import json
import random
import threading
from datetime import timedelta

import pytest
from django.conf import settings as site_settings
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from resumable_uploads import conf, engine, errors, signals
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.protocols import fineuploader
from resumable_uploads.stores.filesystem import FilesystemWriter

from .client import OCTETS
from .foreign import NO_TOKEN, Fine, form, post_form
from .making import heard
from .rest import change, finished, nobody, policies, sha256, some_bytes, staged
from .visitor import Visitor

pytestmark = pytest.mark.django_db

DATA = some_bytes(4500)
URL = "/uploads/fineuploader/"
CONCURRENT = "/uploads/fineuploader-concurrent/"
BOTH = pytest.mark.parametrize("url", [URL, CONCURRENT])


@pytest.fixture
def me():
    visitor = Visitor()
    visitor.get("/upload/")
    return visitor


def only():
    return UploadSession.objects.get()


def assert_stored(data=DATA):
    upload = UploadSession.objects.exclude(state__in=("cancelled", "expired")).get()
    assert upload.state == State.COMPLETE
    assert list(finished().values()) == [sha256(data)]
    assert staged() == 0
    return upload


def assert_taken(answer):
    assert answer.status == 200, answer.body
    said = answer.json()
    assert said["success"] is True
    assert "reset" not in said
    return said


def assert_final(answer, status=None):
    """See that the client will not try again."""
    said = answer.json()
    assert answer.status == (status or answer.status)
    assert answer.status >= 400
    assert said["success"] is False
    assert said["preventRetry"] is True
    assert said["error"]
    assert "reset" not in said
    return said


def assert_temporary(answer, status):
    """See that the client may try the same again."""
    said = answer.json()
    assert answer.status == status
    assert said["success"] is False
    assert "preventRetry" not in said
    assert "reset" not in said


def assert_reset(answer):
    """See that the client will send all from the first part on."""
    said = answer.json()
    assert answer.status == 409
    assert said["success"] is False
    assert said["reset"] is True
    assert said["error"]
    assert "preventRetry" not in said


# Parts


@BOTH
@pytest.mark.parametrize("mandatory", [False, True])
@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 2000, 4500])
def test_a_file_of_any_size_goes_up(me, url, mandatory, size):
    file = Fine(DATA[:size], mandatory=mandatory, url=url)
    with heard(signals.upload_completed) as ids:
        if file.is_chunked:
            file.send_all(me)
            assert_taken(file.done(me))
        else:
            assert_taken(file.send(me))
    upload = assert_stored(DATA[:size])
    assert ids == [upload.pk]
    assert (upload.filename, upload.client_key) == ("film.mp4", file.uuid)


def test_without_a_done_call_the_last_part_completes_the_file(me):
    Fine(DATA).send_all(me)
    assert_stored()


def test_with_concurrent_parts_the_done_call_completes_the_file(me):
    file = Fine(DATA, url=CONCURRENT)
    file.send_all(me)
    assert only().state == State.RECEIVING
    assert_taken(file.done(me))
    assert_stored()


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_parts_come_in_any_order_and_more_than_once(me, url, seed):
    file = Fine(DATA, url=url)
    indexes = [*range(file.count)] * 2
    random.Random(seed).shuffle(indexes)
    with heard(signals.upload_completed) as ids:
        for index in indexes:
            assert_taken(file.send(me, index))
        assert_taken(file.done(me))
    assert ids == [assert_stored().pk]


@BOTH
def test_the_last_part_comes_first_as_it_does_with_three_of_them(me, url):
    file = Fine(DATA[:2500], url=url)
    for index in (2, 1, 0):
        assert_taken(file.send(me, index))
    assert_taken(file.done(me))
    assert_stored(DATA[:2500])


def test_parts_may_come_as_raw_bodies(me):
    file = Fine(DATA)
    for index in range(file.count):
        assert_taken(file.send_raw(me, index))
    assert assert_stored().content_type == "video/mp4"


def test_a_small_raw_body_is_the_whole_file(me):
    assert_taken(Fine(b"small").send_raw(me))
    assert assert_stored(b"small").filename == "film.mp4"


def test_parameters_may_come_in_the_address_of_a_form(me):
    file = Fine(DATA)
    for index in range(file.count):
        said = file.parameters(index)
        body, headers = form({}, file.bytes_of(index), "blob", part="qqfile")
        query = "&".join(f"{name}={value}" for name, value in said.items())
        assert_taken(me.request("POST", f"{URL}?{query}", body, headers))
    assert_stored()


def test_the_method_may_be_put(me):
    file = Fine(DATA)
    for index in range(file.count):
        assert_taken(file.send(me, index, method="PUT"))
    assert_stored()


@pytest.mark.parametrize("mandatory", [False, True])
def test_an_empty_file_is_complete(me, mandatory):
    file = Fine(b"", mandatory=mandatory)
    if not mandatory:
        assert_taken(file.send(me))
    # With mandatory chunking there is no part, and only the done call.
    for _ in range(2):
        assert_taken(file.done(me))
    upload = assert_stored(b"")
    assert (upload.length, upload.filename) == (0, "film.mp4")


def test_a_file_that_is_too_large_to_be_one_part_is_refused_with_the_reason(
    me, settings
):
    change(settings, MAX_CHUNK_SIZE=4000)
    said = assert_final(Fine(DATA, part_size=5000).send(me), 413)
    assert "chunking" in said["error"]
    file = Fine(DATA)
    file.send_all(me)
    assert_stored()


# Names


@pytest.mark.parametrize(
    "name", ["报告.txt", 'it\'s "quoted".txt', "🎉👩‍👩‍👧.txt", "100% #1? a+b.txt"]
)
@pytest.mark.parametrize("size", [500, 2500])
@pytest.mark.parametrize("is_raw", [False, True])
def test_names_of_any_script_are_kept(me, name, size, is_raw):
    file = Fine(DATA[:size], name=name)
    for index in range(file.count):
        assert_taken(file.send_raw(me, index) if is_raw else file.send(me, index))
    assert assert_stored(DATA[:size]).filename == name
    assert file.session(me).json()[0]["name"] == name


def test_the_folder_of_a_dropped_file_is_kept(me):
    file = Fine(DATA)
    for index in range(file.count):
        assert_taken(file.send(me, index, fields={"qqpath": "trip/day 1/"}))
    upload = assert_stored()
    assert (upload.relative_path, upload.filename) == ("trip/day 1", "film.mp4")


def test_the_folder_of_a_small_file_is_in_the_name_of_its_part(me):
    file = Fine(b"small", name="b.txt")
    assert_taken(file.send(me, filename="trip/../day 1/b.txt"))
    upload = assert_stored(b"small")
    assert (upload.relative_path, upload.filename) == ("trip/day 1", "b.txt")


# Resume


@BOTH
def test_only_the_missing_parts_are_sent_after_a_reload(me, url):
    file = Fine(DATA, url=url)
    for index in range(3):
        file.send(me, index)
    for index in (3, 4):
        assert_taken(file.send(me, index, resume=index == 3))
    assert_taken(file.done(me))
    assert_stored()


def test_several_parts_may_say_that_they_resume(me):
    file = Fine(DATA, url=CONCURRENT)
    file.send(me, 0)
    for index in (3, 2, 1, 4):
        assert_taken(file.send(me, index, resume=True))
    assert_taken(file.done(me))
    assert_stored()


def test_a_resumed_upload_that_is_not_there_begins_again(me):
    file = Fine(DATA)
    assert_reset(file.send(me, 3, resume=True))
    assert not UploadSession.objects.exists()
    file.send_all(me)
    assert_stored()


@pytest.mark.parametrize("resume", [False, True])
def test_an_expired_upload_begins_again(me, resume):
    file = Fine(DATA)
    file.send(me, 0)
    expire()
    assert_reset(file.send(me, 1, resume=resume))
    file.send_all(me)
    assert_stored()


def test_with_concurrent_parts_the_done_call_orders_the_new_beginning(me):
    file = Fine(DATA, url=CONCURRENT)
    file.send(me, 0)
    expire()
    for index in range(1, file.count):
        assert_taken(file.send(me, index, resume=True))
    assert_reset(file.done(me))
    upload = UploadSession.objects.get(state=State.RECEIVING)
    assert (upload.received, upload.chunk_count) == (0, 0)
    assert not Chunk.objects.filter(upload=upload).exists()
    file.send_all(me)
    assert_taken(file.done(me))
    assert_stored()


def expire():
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.update(expires_at=past)


class Sequential:
    """The view of a page that is known not to send parts side by side."""

    urlpatterns: list = []


def sequential(settings):
    """Have the endpoint know that parts come one after another."""
    Sequential.urlpatterns = fineuploader.urls(concurrent=False)
    settings.ROOT_URLCONF = Sequential


def test_a_part_out_of_order_tells_that_others_are_missing(me, settings):
    sequential(settings)
    file = Fine(DATA, url="/")
    assert_reset(file.send(me, 2))
    file.send(me, 0)
    assert_reset(file.send(me, 2))
    assert only().received == 0
    for index in range(file.count):
        assert_taken(file.send(me, index))
    assert_stored()


def test_the_last_part_tells_that_others_are_missing(me, settings):
    sequential(settings)
    file = Fine(DATA, url="/")
    for index in range(4):
        assert_taken(file.send(me, index))
    Chunk.objects.filter(number=1).delete()
    UploadSession.objects.update(received=3000)
    assert_reset(file.send(me, 4))
    assert only().received == 0
    for index in range(file.count):
        assert_taken(file.send(me, index))
    assert_stored()


def test_after_a_restart_no_old_part_is_left_to_be_mixed_in(me):
    old, new = some_bytes(4500, seed=1), some_bytes(4500, seed=2)
    file = Fine(old, url=CONCURRENT)
    for index in (0, 1, 3):
        file.send(me, index)
    assert_reset(file.done(me))
    again = Fine(new, uuid=file.uuid, url=CONCURRENT)
    again.send_all(me)
    assert_taken(again.done(me))
    assert_stored(new)


def test_parts_that_come_again_take_the_place_of_the_old_ones(me):
    # onResume has said no: the first part again, under the same name.
    old, new = some_bytes(4500, seed=1), some_bytes(4500, seed=2)
    file = Fine(old)
    for index in range(3):
        file.send(me, index)
    again = Fine(new, uuid=file.uuid)
    again.send_all(me)
    assert_stored(new)


def test_parts_that_come_late_after_a_restart_do_no_harm(me):
    file = Fine(DATA, url=CONCURRENT)
    for index in (0, 1):
        file.send(me, index)
    assert_reset(file.done(me))
    assert_taken(file.send(me, 1))
    file.send_all(me)
    assert_taken(file.done(me))
    assert_stored()


def test_two_tabs_with_one_uuid_make_one_file(me):
    file = Fine(DATA)
    for index in range(file.count):
        for _ in range(2):
            assert_taken(file.send(me, index, resume=index == 2))
    assert_stored()


# Done


@BOTH
def test_done_may_be_called_twice(me, url):
    file = Fine(DATA, url=url)
    file.send_all(me)
    first, second = assert_taken(file.done(me)), assert_taken(file.done(me))
    assert first["id"] == second["id"] == str(assert_stored().pk)


@pytest.mark.django_db(transaction=True)
def test_done_tells_where_the_file_is(me, settings):
    policies(settings, default={"downloadable": True})
    file = Fine(DATA)
    file.send_all(me)
    said = assert_taken(file.done(me))
    upload = assert_stored()
    assert said["state"] == "complete"
    assert said["uuid"] == file.uuid
    assert said["checksum"] == upload.checksum
    assert me.get(said["file"]["url"]).body == DATA


def test_done_is_a_success_while_the_file_is_assembled(me, settings):
    change(settings, RUNNER="tests.rest.nobody")
    assert nobody
    file = Fine(DATA)
    file.send_all(me)
    for _ in range(2):
        assert assert_taken(file.done(me))["state"] == "assembling"


def test_done_has_a_failed_assembly_tried_again(me, settings):
    change(settings, RUNNER="tests.rest.nobody")
    file = Fine(DATA)
    file.send_all(me)
    UploadSession.objects.update(state=State.FAILED)
    change(settings, RUNNER="inline")
    assert_taken(file.done(me))
    assert_stored()


@BOTH
def test_done_with_a_part_missing_begins_again(me, url):
    file = Fine(DATA, url=url)
    for index in (0, 2, 3, 4):
        file.send(me, index)
    assert_reset(file.done(me))
    file.send_all(me)
    assert_taken(file.done(me))
    assert_stored()


def test_done_with_another_size_begins_again(me):
    file = Fine(DATA, url=CONCURRENT)
    file.send_all(me)
    assert_reset(file.done(me, qqtotalfilesize=9000))


@BOTH
def test_done_of_an_unknown_file_begins_again(me, url):
    assert_reset(Fine(DATA, url=url).done(me))
    assert not UploadSession.objects.exists()


def test_done_of_an_expired_file_begins_again(me):
    file = Fine(DATA, url=CONCURRENT)
    file.send(me, 0)
    expire()
    assert_reset(file.done(me))


def test_done_without_a_uuid_is_told_so(me):
    said = assert_final(post_form(me, f"{URL}done/", {"mine": 1}), 400)
    assert "qquuid" in said["error"]


def test_done_may_come_as_json(me):
    file = Fine(DATA, url=CONCURRENT)
    file.send_all(me)
    said = {"qquuid": file.uuid, "qqtotalfilesize": len(DATA), "tags": ["a", {"b": 1}]}
    assert_taken(me.post(f"{CONCURRENT}done/", said))
    assert_stored()


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b'"x"'])
def test_done_with_nonsense_is_refused(me, body):
    headers = {"Content-Type": "application/json"}
    assert_final(me.request("POST", f"{URL}done/", body, headers), 400)


class Strict(UploadPolicy):
    def validate(self, upload, file):
        raise ValidationError("Not this one.")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("size", [500, 4500])
def test_a_file_that_is_refused_at_the_end_is_no_success(me, settings, size):
    policies(settings, default={"class": Strict})
    file = Fine(DATA[:size])
    for index in range(file.count - 1):
        assert_taken(file.send(me, index))
    said = assert_final(file.send(me, file.count - 1), 422)
    assert said["error"] == "Not this one."
    assert_final(file.done(me), 422)
    assert_final(file.send(me, 0), 422)
    assert finished() == {}


@pytest.mark.django_db(transaction=True)
def test_the_done_call_tells_that_a_file_was_refused(me, settings):
    policies(settings, default={"class": Strict})
    file = Fine(DATA, url=CONCURRENT)
    file.send_all(me)
    assert assert_final(file.done(me), 422)["error"] == "Not this one."


# Delete


@pytest.mark.parametrize(
    "path",
    ["delete/{}", "delete/{}/", "delete//{}", "delete//{}?", "delete?qquuid={}"],
)
def test_a_file_is_deleted_twice_with_success(me, path):
    file = Fine(b"small")
    file.send(me)
    for _ in range(2):
        answer = me.delete(URL + path.format(file.uuid))
        assert answer.status == 200
        assert answer.json() == {"success": True}
    assert only().state == State.CANCELLED
    assert finished() == {}


def test_a_file_is_deleted_by_post(me):
    file = Fine(b"small")
    file.send(me)
    said = {"qquuid": file.uuid, "_method": "DELETE"}
    for _ in range(2):
        assert post_form(me, f"{URL}delete", said).status == 200
    assert finished() == {}
    assert post_form(me, f"{URL}delete/", {"qquuid": file.uuid}).status == 400


def test_a_file_of_long_ago_is_deleted_too(me):
    file = Fine(b"small")
    file.send(me)
    past = timezone.now() - timedelta(days=100)
    UploadSession.objects.update(completed_at=past)
    assert file.delete(me).status == 200
    assert finished() == {}


def test_a_file_that_was_never_there_cannot_be_deleted(me):
    assert_final(Fine(b"x").delete(me), 404)
    assert_final(me.delete(f"{URL}delete/"), 400)


def test_the_file_of_another_one_cannot_be_deleted(me):
    file = Fine(b"small")
    file.send(me)
    for other in (Visitor(), Visitor()):
        assert file.delete(other).status == 404
    assert_stored(b"small")


def test_nobody_deletes_without_a_token(me):
    file = Fine(b"small")
    file.send(me)
    answer = me.request("DELETE", f"{URL}delete/{file.uuid}", headers=NO_TOKEN)
    assert answer.status == 403
    said = {"qquuid": file.uuid, "_method": "DELETE", "csrfmiddlewaretoken": me.token}
    me.token = ""
    assert post_form(me, f"{URL}delete/", said).status == 200


def test_a_file_in_use_cannot_be_deleted(me):
    file = Fine(b"small")
    file.send(me)
    UploadSession.objects.update(claimed_at=timezone.now())
    assert_final(file.delete(me), 409)
    assert len(finished()) == 1


@BOTH
def test_an_upload_that_was_deleted_takes_no_more_parts(me, url):
    file = Fine(DATA, url=url)
    file.send(me, 0)
    assert file.delete(me).status == 200
    for index in (0, 1, 4):
        assert_final(file.send(me, index), 410)
    assert_final(file.done(me), 410)
    assert only().state == State.CANCELLED
    assert staged() == 0


def test_a_deleted_file_is_sent_anew_by_a_browser_that_remembers_it(me):
    file = Fine(DATA)
    file.send(me, 0)
    file.delete(me)
    # The record in the browser is only dropped by a reset.
    assert_reset(file.send(me, 1, resume=True))
    file.send_all(me)
    assert_stored()


def test_with_concurrent_parts_a_deleted_file_is_sent_anew_after_done(me):
    file = Fine(DATA, url=CONCURRENT)
    file.send(me, 0)
    file.delete(me)
    for index in range(1, file.count):
        assert_taken(file.send(me, index, resume=True))
    assert_reset(file.done(me))
    file.send_all(me)
    assert_taken(file.done(me))
    assert_stored()


# Session


def test_the_session_lists_my_files_as_a_bare_array(me):
    assert Fine(b"").session(me).json() == []
    first, second = Fine(b"1", name="1.txt"), Fine(b"22", name="2.txt")
    for file in (first, second):
        file.send(me)
    Fine(DATA).send(me, 0)
    Fine(b"others").send(Visitor())
    answer = first.session(me)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == [
        {"uuid": second.uuid, "name": "2.txt", "size": 2},
        {"uuid": first.uuid, "name": "1.txt", "size": 1},
    ]
    first.delete(me)
    assert [found["uuid"] for found in first.session(me).json()] == [second.uuid]


def test_a_stranger_has_an_empty_session(me):
    Fine(b"small").send(me)
    stranger = Visitor()
    assert Fine(b"").session(stranger).json() == []
    assert "sessionid" not in stranger.client.cookies


# What is refused


@pytest.mark.parametrize(
    "lies",
    [
        {"qqpartindex": -1},
        {"qqpartindex": "NaN"},
        {"qqpartindex": 10**9},
        {"qqpartbyteoffset": 1001, "qqpartindex": 2},
        {"qqpartbyteoffset": "NaN"},
        {"qqtotalparts": None},
        {"qqtotalparts": "x"},
        {"qqtotalfilesize": None},
        {"qqtotalfilesize": -1},
        {"qqtotalfilesize": 2**63},
        {"qquuid": None},
        {"qquuid": ""},
        {"qquuid": "x" * 256},
        {"qquuid": "a\x00b"},
    ],
)
def test_a_part_that_makes_no_sense_is_refused_for_good(me, lies):
    file = Fine(DATA, lies=lies)
    assert_final(file.send(me, 2), 400)
    assert Chunk.objects.count() == 0


@pytest.mark.parametrize("lies", [{"qqpartindex": 5}, {"qqpartbyteoffset": 2002}])
def test_a_part_that_does_not_fit_its_place_is_not_kept(me, lies):
    answer = Fine(DATA, lies=lies).send(me, 2)
    assert answer.status in (400, 413)
    assert answer.json()["success"] is False
    assert Chunk.objects.count() == 0


@pytest.mark.parametrize(
    "lies", [{"qqtotalfilesize": 9000}, {"qqpartbyteoffset": 2000, "qqchunksize": 2000}]
)
def test_a_file_whose_size_changes_is_refused_for_good(me, lies):
    file = Fine(DATA)
    file.send(me, 0)
    file.lies = lies
    assert_final(file.send(me, 1), 400)


@pytest.mark.parametrize("data", [b"", b"x", DATA[:999], DATA[:1001]])
def test_a_part_of_the_wrong_length_is_not_kept(me, data):
    answer = Fine(DATA).send(me, 2, data=data)
    assert answer.status in (400, 413)
    assert answer.json()["success"] is False
    assert Chunk.objects.count() == 0


def test_a_part_that_was_cut_may_be_tried_again(me):
    file = Fine(DATA)
    request = file.request(1)
    after = request["body"].index(file.bytes_of(1)) + 500
    answer = me.cut("POST", URL, request["body"], after, headers=request["headers"])
    assert_temporary(answer, 400)
    file.send_all(me)
    assert_stored()


def test_a_storage_that_is_away_may_be_tried_again(me, monkeypatch):
    def breaks(self, blocks):
        raise OSError("The disk is away.")

    with monkeypatch.context() as patch:
        patch.setattr(FilesystemWriter, "write", breaks)
        assert_temporary(Fine(DATA).send(me, 0), 503)


def test_a_mistake_of_the_server_is_told_in_json(me, monkeypatch):
    def breaks(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine, "put_chunk", breaks)
    me.client.raise_request_exception = False
    answer = Fine(DATA).send(me, 0)
    assert_temporary(answer, 500)
    assert b"a bug" not in answer.body


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ({"allowed_extensions": [".pdf"]}, 422),
        ({"max_size": 4000}, 413),
        ({"quota": 4000}, 413),
        ({"anonymous": False}, 403),
    ],
)
def test_a_refusal_is_final(me, settings, policy, status):
    policies(settings, default=policy)
    assert_final(Fine(DATA).send(me, 0), status)
    assert not UploadSession.objects.exists()


def test_too_many_uploads_may_be_tried_again(me, settings):
    policies(settings, default={"max_open": 0})
    assert_temporary(Fine(DATA).send(me, 0), 429)


def test_another_one_with_the_same_uuid_has_another_upload(me):
    file, other = Fine(DATA), Visitor()
    file.send(me, 0)
    assert_reset(file.send(other, 1, resume=True))
    file.send_all(other)
    assert UploadSession.objects.count() == 2
    assert UploadSession.objects.get(state=State.RECEIVING).received == 1000


def test_a_uuid_belongs_to_one_endpoint(me, settings):
    file = Fine(DATA)
    file.send(me, 0)
    UploadSession.objects.update(policy="other")
    policies(settings, default={}, other={})
    assert_final(file.send(me, 1), 400)
    assert_final(file.done(me), 400)


def test_a_preflight_needs_no_login_and_no_token(me):
    for path in ("", "done/", "session/", "delete/x"):
        answer = Visitor(has_token=False).request("OPTIONS", URL + path)
        assert answer.status == 204
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ["", "/", "/done", "/done/", "/session", "/session/"])
def test_no_address_redirects(me, path):
    url = f"/uploads/fineuploader{path}"
    assert me.get(url).status in (200, 405)
    assert me.request("POST", url, b"", OCTETS).status < 500


def test_what_the_browser_keeps_the_server_keeps_as_long():
    # recordsExpireIn of the client is seven days.
    assert conf.DEFAULTS["RECORDS_EXPIRE_IN"] == timedelta(days=7)
    assert timedelta(seconds=site_settings.SESSION_COOKIE_AGE) > timedelta(days=7)


def test_a_start_again_is_no_error_of_the_others():
    assert fineuploader.StartAgain.code not in {
        kind.code for kind in vars(errors).values() if hasattr(kind, "code")
    }
    assert json.dumps(sorted(fineuploader.WORTH_A_RETRY))


# At the same moment


@pytest.mark.django_db(transaction=True)
@BOTH
def test_one_file_comes_of_parallel_parts_and_done_calls(me, url):
    file = Fine(DATA, url=url)
    requests = [file.request(index) for index in range(file.count) for _ in range(3)]
    random.Random(5).shuffle(requests)
    with heard(signals.upload_completed) as ids:
        for answer in side_by_side(me.request, requests):
            assert_taken(answer)
        for answer in side_by_side(lambda: file.done(me), [{}] * 5):
            assert_taken(answer)
    assert ids == [assert_stored().pk]


@pytest.mark.django_db(transaction=True)
def test_a_small_file_sent_eight_times_at_once_is_one_upload(me):
    file = Fine(b"small")
    with heard(signals.upload_completed) as ids:
        for answer in side_by_side(lambda: file.send(me), [{}] * 8):
            assert_taken(answer)
    assert ids == [assert_stored(b"small").pk]


def side_by_side(do, calls):
    """Do something in as many threads as there are calls; return the answers."""
    answers = []
    together = threading.Barrier(len(calls))

    def run(arguments):
        together.wait()
        answers.append(do(**arguments))
        connection.close()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(calls)
    return answers
