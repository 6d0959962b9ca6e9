"""Resumable Uploads for HTTP: each clause that a server has to keep, each refusal."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from resumable_uploads import body, signals
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.protocols import fields, ietf

from . import drafts, tus
from .described import described  # noqa: F401
from .drafts import append, begin, create, head, offset_of
from .making import heard
from .rest import change, finished, nobody, policies, sha256, some_bytes, staged
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]
pytestmark += [pytest.mark.usefixtures("described")]
DESCRIBED = ("ietf", drafts.URL.rstrip("/"))

DATA = some_bytes(5000)
MISMATCH = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
LENGTH = "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"


@pytest.fixture
def me():
    visitor = Visitor()
    visitor.get("/upload/")
    visitor.token = ""
    return visitor


def only():
    return UploadSession.objects.get()


def assert_stored(data=DATA):
    assert list(finished().values()) == [sha256(data)]
    assert staged() == 0


def refused(answer, status, kind="about:blank", **facts):
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == kind, problem
    assert problem["status"] == status
    assert problem["title"]
    assert problem | facts == problem
    return answer


# Discovery


def test_options_tell_the_limits_without_a_login(settings):
    policies(settings, default={"max_size": 1000, "anonymous": False})
    answer = Visitor().request("OPTIONS", drafts.URL)
    assert answer.status == 204
    assert answer.headers["Upload-Limit"] == "max-size=1000, max-age=604800"
    assert "Upload-Complete" not in answer.headers


# Creation


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_first_part_is_201_with_the_resource_and_its_limits(me, method):
    answer = create(me, DATA[:1000], method=method)
    assert answer.status == 201
    assert answer.headers["Location"] == f"http://testserver/uploads/ietf/{only().pk}"
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.headers["Upload-Offset"] == "1000"
    assert "max-age=" in answer.headers["Upload-Limit"]
    assert only().state == State.RECEIVING


@pytest.mark.parametrize("size", [0, 5000])
def test_all_at_once_is_answered_by_the_target(me, size):
    with heard(signals.upload_completed) as ids:
        answer = create(me, DATA[:size], ends=True)
    assert answer.status == 201
    assert answer.headers["Upload-Complete"] == "?1"
    assert answer.headers["Location"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["id"] == str(only().pk)
    assert_stored(DATA[:size])
    assert ids == [only().pk]


def test_all_at_once_without_a_length(me):
    assert create(me, iter([DATA[:10], DATA[10:]]), ends=True).status == 201
    assert_stored()


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('inline; filename="a b.txt"', "a b.txt"),
        ("inline; filename=x; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
        ("inline; filename*=UTF-8''%ff%fe", None),
        ("attachment; filename=../../etc/passwd", "passwd"),
        ("inline", "file"),
        ("; ;;=", "file"),
        ("inline; filename*=nonsense''x", None),
        ('inline; filename="ü.txt"'.encode().decode("latin-1"), "ü.txt"),
    ],
)
def test_the_name_is_in_the_disposition(me, disposition, name):
    answer = create(me, Content_Disposition=disposition, Content_Type="text/x-a")
    assert answer.status == 201
    assert only().filename == (name or only().filename)
    assert only().content_type == "text/x-a"
    assert "/" not in only().filename


@pytest.mark.parametrize("said", ["", "1", "?2", "true", "?1?", "?1,?0"])
def test_a_boolean_that_is_none_is_as_good_as_absent(me, said):
    refused(create(me, Upload_Complete=said), 400)
    assert not UploadSession.objects.exists()


@pytest.mark.parametrize("said", ["?0", " ?0 ", "?0;a=1", "?0; b"])
def test_a_boolean_may_have_parameters(me, said):
    begin(me, Upload_Complete=said)


@pytest.mark.parametrize(
    ("headers", "ends"),
    [
        ({"Upload_Length": 999}, False),
        ({"Upload_Length": 999}, True),
        ({"Upload_Length": 1001}, True),
    ],
)
def test_lengths_that_do_not_agree_are_refused(me, headers, ends):
    refused(create(me, DATA[:1000], ends=ends, **headers), 400, LENGTH)
    assert not UploadSession.objects.exists()


@pytest.mark.parametrize("said", ["-1", "1.5", '"10"', "?1", "1" * 16])
def test_a_length_that_is_no_integer_is_as_good_as_absent(me, said):
    begin(me, Upload_Length=said)
    assert only().length is None


def test_more_than_the_maximum_is_413_with_the_limits(me, settings):
    policies(settings, default={"max_size": 100})
    answer = refused(create(me, Upload_Length=101), 413)
    assert answer.headers["Upload-Limit"].startswith("max-size=100, ")
    refused(create(me, DATA, ends=True), 413)
    assert finished() == {}


def test_what_came_before_a_cut_can_be_gone_on_with(me):
    headers = drafts.V8 | drafts.complete(True)
    answer = me.cut("POST", drafts.URL, DATA, 3000, headers=headers)
    refused(answer, 400)
    url = drafts.path(answer)
    assert answer.headers["Upload-Offset"] == "3000"
    told = head(me, url).headers
    assert (told["Upload-Offset"], told["Upload-Complete"]) == ("3000", "?0")
    assert told["Upload-Length"] == "5000"
    assert append(me, url, 3000, DATA[3000:], ends=True).status == 200
    assert_stored()


def test_a_server_that_ends_tells_where_to_go_on(me, monkeypatch):
    monkeypatch.setattr(body, "is_stopping", lambda: True)
    answer = refused(create(me, DATA, ends=True), 503)
    assert answer.headers["Location"]
    assert answer.headers["Retry-After"]
    monkeypatch.undo()
    assert append(me, drafts.path(answer), 0, DATA, ends=True).status == 200
    assert_stored()


# Offset retrieval


def test_head_tells_all_there_is_to_know_and_is_not_cached(me):
    url = begin(me, DATA[:10])
    answer = head(me, url)
    assert answer.status == 204
    assert answer.headers["Upload-Offset"] == "10"
    assert answer.headers["Upload-Complete"] == "?0"
    assert "Upload-Length" not in answer.headers
    assert "max-size=" in answer.headers["Upload-Limit"]
    assert answer.headers["Cache-Control"] == "no-store"
    append(me, url, 10, DATA[10:], ends=True)
    told = head(me, url).headers
    assert told["Upload-Complete"] == "?1"
    assert told["Upload-Length"] == told["Upload-Offset"] == "5000"


def test_get_tells_the_offset_until_the_file_is_there(me):
    url = begin(me, DATA[:10])
    answer = me.get(url, **{"Upload-Draft-Interop-Version": "8"})
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "10")
    append(me, url, 10, DATA[10:], ends=True)
    answer = me.get(url, **{"Upload-Draft-Interop-Version": "8"})
    assert (answer.status, answer.body) == (200, DATA)


def test_limits_are_never_empty(me, settings):
    policies(settings, default={"max_size": None, "downloadable": True})
    answer = create(me, b"", ends=True)
    assert head(me, drafts.path(answer)).headers["Upload-Limit"] == "min-size=0"


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_what_is_not_there_is_404(me, method):
    headers = drafts.V8 | drafts.PARTIAL | drafts.complete(False)
    headers |= {"Upload-Offset": "0"}
    for name in ("x", "%00", "a" * 300, "00000000-0000-4000-8000-000000000000"):
        answer = me.request(method, drafts.URL + name, b"x", headers)
        assert answer.status == 404


# Append


def test_parts_are_appended_and_the_last_one_says_so(me):
    url = begin(me, DATA[:1000])
    answer = append(me, url, 1000, DATA[1000:2000])
    assert answer.status == 204
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.headers["Upload-Offset"] == "2000"
    assert "Location" not in answer.headers
    with heard(signals.upload_completed) as ids:
        answer = append(me, url, 2000, DATA[2000:], ends=True)
    assert answer.status == 200
    assert answer.headers["Upload-Complete"] == "?1"
    assert answer.headers["Upload-Offset"] == "5000"
    assert answer.json()["size"] == 5000
    assert ids == [only().pk]
    assert_stored()


def test_all_bytes_are_not_the_end_before_the_client_says_so(me):
    url = begin(me, DATA, Upload_Length=5000)
    assert only().state == State.RECEIVING
    assert head(me, url).headers["Upload-Complete"] == "?0"
    assert append(me, url, 5000, b"", ends=True).status == 200
    assert_stored()


def test_nothing_may_be_the_end(me):
    url = begin(me)
    assert append(me, url, 0, b"", ends=True).status == 200
    assert_stored(b"")


@pytest.mark.parametrize("offset", [0, 999, 1001, 10**14])
def test_another_offset_is_409_with_the_right_one(me, offset):
    url = begin(me, DATA[:1000])
    answer = append(me, url, offset, DATA[1000:], ends=True)
    expected = {"expected-offset": 1000, "provided-offset": offset}
    refused(answer, 409, MISMATCH, **expected)
    assert answer.headers["Upload-Offset"] == "1000"
    assert answer.headers["Upload-Complete"] == "?0"
    assert offset_of(me, url) == 1000


@pytest.mark.parametrize("offset", ["-1", "x", "1" * 16, "1.0", "?1"])
def test_an_offset_that_is_none_is_400(me, offset):
    refused(append(me, begin(me), offset, b"x"), 400)


def test_an_append_that_does_not_say_whether_it_is_the_end_is_400(me):
    refused(append(me, begin(me), 0, b"x", Upload_Complete="x"), 400)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/partial-upload; a=b"])
def test_an_append_of_another_type_is_415(me, kind):
    refused(append(me, begin(me), 0, b"x", Content_Type=kind), 415)


def test_version_5_has_no_type(me):
    older = {"Upload_Draft_Interop_Version": "5", "Content_Type": ""}
    assert append(me, begin(me), 0, b"x", **older).status == 204


@pytest.mark.parametrize("version", ["5", "6"])
def test_the_length_alone_ends_a_stream_of_an_older_version(me, version):
    url = begin(me, Upload_Draft_Interop_Version=version)
    assert append(me, url, 0, b"hello").status == 204

    def tell(length, version):
        told = {"Upload-Offset": "5", "Upload-Length": length}
        told |= {"Upload-Draft-Interop-Version": version}
        return me.request("PATCH", url, b"", drafts.PARTIAL | told).status

    assert tell("6", version) == tell("5", "8") == 400
    assert tell("5", version) == 200
    assert UploadSession.objects.get().state == State.COMPLETE


@pytest.mark.parametrize("version", ["5", "6"])
def test_an_empty_file_of_an_older_version_is_complete_without_an_end(me, version):
    older = {"Upload_Draft_Interop_Version": version, "Upload_Length": 0}
    assert create(me, **older).status == 201
    assert_stored(b"")


def test_a_length_may_come_late_and_stays(me):
    url = begin(me, DATA[:1000])
    assert append(me, url, 1000, DATA[1000:2000], Upload_Length=5000).status == 204
    assert head(me, url).headers["Upload-Length"] == "5000"
    refused(append(me, url, 2000, b"x", Upload_Length=5001), 400, LENGTH)
    assert offset_of(me, url) == 2000
    assert append(me, url, 2000, DATA[2000:], ends=True).status == 200
    assert_stored()


def test_an_end_before_the_length_is_refused_and_can_be_put_right(me):
    url = begin(me, DATA[:1000], Upload_Length=5000)
    refused(append(me, url, 1000, DATA[1000:2000], ends=True), 400, LENGTH)
    refused(append(me, url, 1000, iter([DATA[1000:2000]]), ends=True), 400)
    assert only().state == State.RECEIVING
    offset = offset_of(me, url)
    assert append(me, url, offset, DATA[offset:], ends=True).status == 200
    assert_stored()


@pytest.mark.parametrize("how", ["counted", "chunked"])
@pytest.mark.parametrize("ends", [False, True])
def test_too_much_makes_the_upload_invalid_for_good(me, how, ends):
    url = begin(me, DATA[:1000], Upload_Length=5000)
    data = DATA[1000:] + b"!"
    answer = append(me, url, 1000, data if how == "counted" else iter([data]), ends)
    refused(answer, 400, LENGTH)
    assert head(me, url).status == 404
    assert append(me, url, 1000, DATA[1000:], ends=True).status == 404
    assert (finished(), staged()) == ({}, 0)


def test_a_complete_upload_answers_a_repeat_and_takes_no_more(me):
    url = begin(me, DATA[:1000])
    append(me, url, 1000, DATA[1000:], ends=True)
    with heard(signals.upload_completed) as ids:
        answer = append(me, url, 5000, b"", ends=True)
        assert (answer.status, answer.headers["Upload-Complete"]) == (200, "?1")
        refused(append(me, url, 5000, b"x"), 400, LENGTH)
        refused(append(me, url, 5000, iter([b"x"])), 400, LENGTH)
        refused(append(me, url, 1000, DATA[1000:], ends=True), 409, MISMATCH)
    assert ids == []
    assert_stored()


def test_what_came_of_an_append_before_a_cut_is_kept(me):
    url = begin(me)
    headers = drafts.V8 | drafts.PARTIAL | drafts.complete(True)
    headers |= {"Upload-Offset": "0"}
    refused(me.cut("PATCH", url, DATA, 3000, headers=headers), 400)
    assert offset_of(me, url) == 3000
    assert only().state == State.RECEIVING
    assert append(me, url, 3000, DATA[3000:], ends=True).status == 200
    assert_stored()


@pytest.mark.django_db(transaction=True)
def test_a_file_that_is_refused_is_the_last_word(me, settings):
    policies(settings, default={"class": "tests.test_ietf.Picky"})
    answer = create(me, DATA, ends=True)
    refused(answer, 422, title="I do not like it.")
    assert answer.headers["Upload-Complete"] == "?1"


class Picky(UploadPolicy):
    def validate(self, upload, file):
        raise ValidationError("I do not like it.")


def test_a_file_that_is_still_assembled_is_taken(me, settings):
    change(settings, RUNNER="tests.rest.nobody")
    assert nobody
    answer = create(me, DATA, ends=True)
    assert answer.status == 201
    assert answer.json()["state"] == "assembling"


# Cancellation


@pytest.mark.parametrize("ends", [False, True])
def test_what_is_cancelled_is_not_there_any_more(me, ends):
    url = drafts.path(create(me, DATA, ends=ends))
    assert drafts.delete(me, url).status == 204
    assert head(me, url).status == 404
    assert (finished(), staged()) == ({}, 0)


def test_what_has_expired_is_410(me):
    url = begin(me, DATA[:10])
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.update(expires_at=past)
    assert head(me, url).status == 410
    refused(append(me, url, 10, DATA[10:]), 410)


# Digests


def test_a_content_digest_that_fits_is_taken(me):
    url = begin(me, DATA[:1000], Content_Digest=drafts.digest(DATA[:1000]))
    rest = DATA[1000:]
    answer = append(me, url, 1000, rest, True, Content_Digest=drafts.digest(rest))
    assert answer.status == 200
    assert_stored()


def test_content_with_another_digest_is_not_appended(me):
    url = begin(me, DATA[:1000])
    wrong = drafts.digest(b"other")
    refused(append(me, url, 1000, DATA[1000:], True, Content_Digest=wrong), 400)
    assert offset_of(me, url) == 1000
    assert Chunk.objects.count() == 1
    answer = create(me, DATA, Content_Digest=wrong)
    refused(answer, 400)
    assert "Location" not in answer.headers


def test_a_repr_digest_that_fits_is_taken(me):
    url = begin(me, DATA[:1000], Repr_Digest=drafts.digest(DATA))
    append(me, url, 1000, DATA[1000:], ends=True)
    assert_stored()
    assert only().checksum == f"sha-256:{sha256(DATA)}"


@pytest.mark.django_db(transaction=True)
def test_a_file_with_another_repr_digest_is_refused(me):
    answer = create(me, DATA, ends=True, Repr_Digest=drafts.digest(b"other"))
    refused(answer, 422)
    assert answer.headers["Upload-Complete"] == "?1"
    assert only().state == State.REJECTED
    assert finished() == {}


@pytest.mark.parametrize("said", ["sha-256=abc", "sha-256=:YQ==:", "="])
def test_a_malformed_repr_digest_is_400(me, said):
    refused(create(me, DATA, Repr_Digest=said), 400)


def test_a_repr_digest_of_an_unknown_kind_is_overlooked(me):
    begin(me, DATA, Repr_Digest="id-blake=:YQ==:")
    assert only().declared_checksum == ""


@pytest.mark.django_db(transaction=True)
def test_a_digest_that_is_wanted_is_given(me):
    wanted = {"Want_Repr_Digest": "md5=1, sha-512=9, sha-256=0, unknown=10"}
    answer = create(me, DATA, ends=True, **wanted)
    digest = base64.b64encode(hashlib.sha512(DATA).digest()).decode()
    assert answer.headers["Repr-Digest"] == f"sha-512=:{digest}:"
    answer = create(me, DATA, ends=True, Want_Repr_Digest="sha-256=0")
    assert "Repr-Digest" not in answer.headers


@pytest.mark.django_db(transaction=True)
def test_a_digest_of_a_very_large_file_is_not_computed_for_it(me, monkeypatch):
    monkeypatch.setattr(ietf, "DIGEST_AT_MOST", 4999)
    wanted = {"Want_Repr_Digest": "sha-256=1"}
    assert "Repr-Digest" not in create(me, DATA, ends=True, **wanted).headers
    declared = wanted | {"Repr_Digest": drafts.digest(DATA)}
    answer = create(me, DATA, ends=True, **declared)
    assert answer.headers["Repr-Digest"] == drafts.digest(DATA)


# Who may


def test_a_url_is_key_enough_for_who_has_no_session():
    url = begin(Visitor(), DATA[:10])
    assert append(Visitor(), url, 10, DATA[10:], ends=True).status == 200
    assert Visitor().get(url).body == DATA


def test_a_page_of_another_site_may_nothing(me):
    evil = {"Origin": "https://evil.example"}
    refused(create(me, DATA, **evil), 403)
    refused(append(me, begin(me), 0, b"x", **evil), 403)


def test_a_page_that_is_allowed_may(settings):
    change(settings, CORS_ORIGINS=["https://app.example"])
    page = {"Origin": "https://app.example"}
    answer = create(Visitor(), DATA, **page)
    assert answer.status == 201
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    exposed = answer.headers["Access-Control-Expose-Headers"]
    assert {"Location", "Upload-Limit"} <= set(exposed.split(", "))
    told = Visitor().request("OPTIONS", drafts.URL, headers=page)
    sent = told.headers["Access-Control-Allow-Headers"]
    assert {"Upload-Complete", "Repr-Digest"} <= set(sent.split(", "))


# tus at the same URLs


def test_both_are_spoken_at_one_url(me):
    url = tus.create(me, len(DATA), url=drafts.URL)
    assert url.startswith(drafts.URL)
    assert append(me, url, 0, DATA[:1000]).status == 204
    assert tus.offset_of(me, url) == 1000
    assert tus.patch(me, url, 1000, DATA[1000:]).status == 204
    assert head(me, url).headers["Upload-Complete"] == "?1"
    assert_stored()


def test_a_question_without_a_mark_is_answered_for_both(me):
    url = begin(me, DATA[:10], Upload_Length=5000)
    told = me.head(url).headers
    assert told["Tus-Resumable"] == "1.0.0"
    assert (told["Upload-Offset"], told["Upload-Length"]) == ("10", "5000")
    assert told["Upload-Complete"] == "?0"
    assert told["Upload-Limit"]
    options = me.request("OPTIONS", drafts.URL).headers
    assert options["Tus-Version"]
    assert options["Upload-Limit"]


def test_without_a_mark_a_method_is_that_of_either(me):
    url = begin(me)
    assert me.request("DELETE", url).status == 204
    answer = me.request("POST", drafts.URL, b"x")
    assert answer.status == 412


# The language of headers


@pytest.mark.parametrize(
    ("header", "number"),
    [
        ("0", 0),
        (" 12 ", 12),
        ("12;a", 12),
        ("12; a=b;c", 12),
        ("999999999999999", 999999999999999),
        ("1000000000000000", None),
        ("-0", 0),
        ("-1", None),
        ("1 2", None),
        ("12;A", None),
        ("", None),
        (None, None),
        ("٣", None),
    ],
)
def test_whole_numbers(header, number):
    assert fields.whole_number(header) == number


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("sha-256=1", ["sha-256"]),
        ("a=1, b=9,c=0", ["b", "a"]),
        ("A=1", []),
        ("a", []),
        (None, []),
    ],
)
def test_preferences(header, names):
    assert fields.preferences(header) == names
