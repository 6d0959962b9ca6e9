"""tus 1.0.0: each clause that a server has to keep, and each refusal."""

from __future__ import annotations

import base64
import errno
from datetime import timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from resumable_uploads import body, buffers, engine, signals
from resumable_uploads.models import Chunk, State, UploadSession
from resumable_uploads.policies import UploadPolicy
from resumable_uploads.protocols import tus as protocol
from resumable_uploads.stores.filesystem import FilesystemStore, FilesystemWriter

from . import tus
from .described import described  # noqa: F401
from .making import heard
from .rest import change, finished, nobody, policies, sha256, some_bytes, staged
from .tus import checksum, create, cut, head, metadata, offset_of, patch, post
from .visitor import Visitor

# PostgreSQL is asked by the tests of contracts and races.
pytestmark = [pytest.mark.django_db, pytest.mark.once]
pytestmark += [pytest.mark.usefixtures("described")]
DESCRIBED = ("tus", tus.URL.rstrip("/"))

DATA = some_bytes(5000)
NOWHERE = f"{tus.URL}00000000-0000-4000-8000-000000000000"


@pytest.fixture
def me():
    """A visitor with a session."""
    visitor = Visitor()
    visitor.get("/upload/")
    visitor.token = ""
    return visitor


@pytest.fixture
def url(me):
    """An upload of all of DATA."""
    return create(me, len(DATA))


def only():
    return UploadSession.objects.get()


def refused(answer, status, name):
    assert answer.status == status, answer.body
    assert answer.body.decode().startswith(f"{name}: "), answer.body
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert answer.headers["Cache-Control"] == "no-store"
    return answer


def assert_stored(data=DATA):
    assert list(finished().values()) == [sha256(data)]
    assert staged() == 0


# Core: HEAD


def test_head_tells_offset_and_length_and_is_not_cached(me, url):
    patch(me, url, 0, DATA[:1000])
    answer = head(me, url)
    assert answer.status == 200
    assert answer.headers["Upload-Offset"] == "1000"
    assert answer.headers["Upload-Length"] == "5000"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert answer.body == b""


def test_head_tells_an_offset_of_0_and_of_all(me, url):
    assert offset_of(me, url) == 0
    patch(me, url, 0, DATA)
    assert offset_of(me, url) == 5000


@pytest.mark.parametrize(
    "name", ["x", "%2e%2e%2fx", "a" * 300, "%00", "%F0%9F%98%80", "{}", NOWHERE[-36:]]
)
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE", "GET"])
def test_what_is_not_there_is_404_without_an_offset(me, name, method):
    headers = tus.V1 | tus.OFFSETS | {"Upload-Offset": "0"}
    answer = me.request(method, tus.URL + name, b"x", headers)
    assert answer.status == 404
    assert "Upload-Offset" not in answer.headers


def test_head_of_the_other_protocol_has_no_version(me, url):
    assert me.head(url).status == 200


# Core: PATCH


def test_patch_is_204_with_the_new_offset(me, url):
    answer = patch(me, url, 0, DATA[:1000])
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "1000")
    answer = patch(me, url, 1000, DATA[1000:])
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "5000")
    assert_stored()


def test_an_answer_without_content_has_no_type(me, url):
    answers = [post(me, Upload_Length=3), head(me, url), patch(me, url, 0, DATA)]
    answers.append(tus.delete(me, url))
    for answer in answers:
        assert answer.status < 300
        assert not answer.body
        assert "Content-Type" not in answer.headers


@pytest.mark.parametrize(
    "kind", ["", "application/octet-stream", tus.OFFSETS["Content-Type"] + "; a=b"]
)
def test_patch_of_another_type_is_415(me, url, kind):
    sent = tus.V1 | {"Content-Type": kind, "Upload-Offset": "0"}
    answer = me.request("PATCH", url, DATA, sent)
    refused(answer, 415, "ERR_INVALID_CONTENT_TYPE")
    assert offset_of(me, url) == 0


@pytest.mark.parametrize("offset", ["", "-1", "1.5", "abc", "+1", "9" * 23, "٣"])
def test_patch_with_an_impossible_offset_is_400(me, url, offset):
    sent = {"Upload-Offset": offset.encode().decode("latin-1")}
    answer = me.request("PATCH", url, DATA, tus.V1 | tus.OFFSETS | sent)
    refused(answer, 400, "ERR_INVALID_OFFSET")


def test_patch_without_an_offset_is_400(me, url):
    answer = me.request("PATCH", url, DATA, tus.V1 | tus.OFFSETS)
    refused(answer, 400, "ERR_INVALID_OFFSET")


@pytest.mark.parametrize("offset", [0, 999, 1001, 5000, 5001, 2**63 - 1])
def test_patch_at_another_offset_is_409_and_tells_the_right_one(me, url, offset):
    patch(me, url, 0, DATA[:1000])
    answer = patch(me, url, offset, DATA[:10])
    refused(answer, 409, "ERR_MISMATCHED_OFFSET")
    assert answer.headers["Upload-Offset"] == "1000"
    assert offset_of(me, url) == 1000
    assert Chunk.objects.count() == 1


def test_patch_with_nothing_at_the_right_offset_is_no_more_than_that(me, url):
    patch(me, url, 0, DATA[:1000])
    answer = patch(me, url, 1000, b"")
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "1000")


def test_patch_without_a_length_is_counted_as_it_comes(me, url):
    answer = patch(me, url, 0, iter([DATA[:3000], DATA[3000:]]))
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "5000")
    assert_stored()


def test_more_than_fits_is_413_and_changes_nothing(me, url):
    patch(me, url, 0, DATA[:1000])
    refused(patch(me, url, 1000, DATA), 413, "ERR_UPLOAD_SIZE_EXCEEDED")
    assert offset_of(me, url) == 1000
    patch(me, url, 1000, DATA[1000:])
    assert_stored()


def test_of_more_than_fits_without_a_length_what_fits_is_kept(me, url):
    """The file is complete then, and the client is told that it has sent too much."""
    patch(me, url, 0, DATA[:1000])
    answer = patch(me, url, 1000, iter([DATA[1000:], b"too much"]))
    refused(answer, 413, "ERR_UPLOAD_SIZE_EXCEEDED")
    assert offset_of(me, url) == 5000
    assert_stored()


def test_a_repeat_of_the_last_patch_is_told_where_the_upload_is(me, url):
    with heard(signals.upload_completed) as ids:
        patch(me, url, 0, DATA[:4000])
        patch(me, url, 4000, DATA[4000:])
        refused(patch(me, url, 4000, DATA[4000:]), 409, "ERR_MISMATCHED_OFFSET")
        answer = patch(me, url, 5000, b"")
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, "5000")
        for extra in (b"x", iter([b"x"])):
            answer = patch(me, url, 5000, extra)
            refused(answer, 413, "ERR_UPLOAD_SIZE_EXCEEDED")
    assert len(ids) == 1
    assert_stored()


@pytest.mark.parametrize("after", [0, 7, 4999])
def test_what_came_before_a_cut_is_kept(me, url, after):
    answer = cut(me, url, 0, DATA, after)
    refused(answer, 400, "ERR_UNEXPECTED_EOF")
    assert answer.headers["Upload-Offset"] == str(after)
    assert offset_of(me, url) == after
    assert only().state == State.RECEIVING
    assert patch(me, url, after, DATA[after:]).status == 204
    assert_stored()


@pytest.mark.django_db(transaction=True)
def test_a_rejected_file_is_told_with_the_last_patch(me, url, settings):
    policies(settings, default={"class": "tests.test_tus.Picky"})
    answer = patch(me, url, 0, DATA)
    assert b"I do not like it." in answer.body
    refused(answer, 422, "ERR_UPLOAD_REJECTED")
    assert head(me, url).status == 422


class Picky(UploadPolicy):
    def validate(self, upload, file):
        raise ValidationError("I do not like it.")


def test_a_file_that_is_still_assembled_has_all_its_bytes(me, url, settings):
    change(settings, RUNNER="tests.rest.nobody")
    assert nobody
    assert patch(me, url, 0, DATA).status == 204
    assert offset_of(me, url) == 5000
    assert me.get(url).status == 404
    assert patch(me, url, 5000, b"").status == 204


# Core: OPTIONS, versions, methods


def test_options_tells_what_is_spoken(me, settings):
    policies(settings, default={"max_size": 12345})
    answer = tus.options(Visitor(), Tus_Resumable="0.1.0")
    assert answer.status == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert answer.headers["Tus-Max-Size"] == "12345"
    extensions = answer.headers["Tus-Extension"].split(",")
    assert set(extensions) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "expiration",
        "checksum",
        "termination",
        "concatenation",
    }
    algorithms = answer.headers["Tus-Checksum-Algorithm"].split(",")
    assert algorithms == list(tus.DIGESTS)


def test_options_without_a_limit_tells_none(settings):
    policies(settings, default={"max_size": None})
    assert "Tus-Max-Size" not in tus.options(Visitor()).headers


def test_options_of_an_upload_asks_nobody_who_he_is(me, url, settings):
    policies(settings, default={"anonymous": False})
    assert tus.options(Visitor(), url).status == 204
    assert UploadSession.objects.count() == 1


VERSIONS = [None, "", "0.2.2", "1.0.1", "1.0.0, 2"]


@pytest.mark.parametrize(
    ("method", "version"),
    # HEAD without one is the question of the other protocol.
    [(method, one) for method in ("POST", "PATCH", "DELETE") for one in VERSIONS]
    + [("HEAD", one) for one in VERSIONS[1:]],
)
def test_another_version_is_412_and_told_the_right_one(me, url, method, version):
    target = tus.URL if method == "POST" else url
    headers = tus.OFFSETS | {"Upload-Offset": "0", "Upload-Length": "1"}
    if version is not None:
        headers["Tus-Resumable"] = version
    answer = me.request(method, target, b"x", headers)
    assert answer.status == 412
    assert answer.headers["Tus-Version"] == "1.0.0"
    if method != "HEAD":
        refused(answer, 412, "ERR_UNSUPPORTED_VERSION")
    assert (only().received, only().state) == (0, State.RECEIVING)


@pytest.mark.parametrize(
    ("method", "allowed"),
    [("PUT", "POST"), ("GET", "POST"), ("PATCH", "POST"), ("DELETE", "POST")],
)
def test_the_endpoint_takes_no_other_method(me, method, allowed):
    answer = me.request(method, tus.URL, b"", tus.V1)
    refused(answer, 405, "ERR_METHOD_NOT_ALLOWED")
    assert allowed in answer.headers["Allow"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_an_upload_takes_no_other_method(me, url, method):
    answer = me.request(method, url, b"", tus.V1)
    refused(answer, 405, "ERR_METHOD_NOT_ALLOWED")
    methods = {"GET", "HEAD", "PATCH", "DELETE"}
    assert methods <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize("real", ["POST", "GET", "PUT", "DELETE"])
def test_the_override_is_the_method(me, url, real):
    sent = tus.V1 | tus.OFFSETS | {"X-HTTP-Method-Override": "PATCH"}
    answer = me.request(real, url, DATA[:10], sent | {"Upload-Offset": "0"})
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "10")


@pytest.mark.parametrize("real", ["POST", "DELETE"])
@pytest.mark.parametrize("override", ["HEAD", "head"])
def test_a_head_may_be_overridden(me, url, real, override):
    sent = tus.V1 | {"X-HTTP-Method-Override": override}
    answer = me.request(real, url, b"", sent)
    assert (answer.status, answer.headers["Upload-Offset"]) == (200, "0")


def test_a_delete_may_be_overridden(me, url):
    sent = tus.V1 | {"X-HTTP-Method-Override": "DELETE"}
    assert me.request("POST", url, b"", sent).status == 204
    assert head(me, url).status == 404


@pytest.mark.parametrize("override", ["FOO", "__init__", "TRACE"])
def test_an_override_that_is_no_method_is_405(me, url, override):
    sent = tus.V1 | {"X-HTTP-Method-Override": override}
    assert me.request("POST", url, b"", sent).status == 405


def test_options_are_not_overridden(me, url):
    answer = tus.options(me, url, X_HTTP_Method_Override="DELETE")
    assert answer.status == 204
    assert only().state == State.RECEIVING


# Creation


@pytest.mark.parametrize("endpoint", [tus.URL, tus.URL.rstrip("/")])
def test_a_creation_is_201_with_an_absolute_url(me, endpoint):
    answer = post(me, url=endpoint, Upload_Length=10)
    assert answer.status == 201
    location = urlsplit(answer.headers["Location"])
    assert (location.scheme, location.netloc) == ("http", "testserver")
    assert location.path == f"/uploads/tus/{only().pk}"
    assert answer.headers["Upload-Offset"] == "0"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert head(me, location.path + "/").status == 200


def test_behind_a_proxy_the_url_is_the_one_outside(me, settings):
    settings.USE_X_FORWARDED_HOST = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.ALLOWED_HOSTS = ["files.example.org", "testserver"]
    forwarded = {
        "X_Forwarded_Host": "files.example.org",
        "X_Forwarded_Proto": "https",
    }
    answer = post(me, Upload_Length=10, **forwarded)
    expected = f"https://files.example.org/uploads/tus/{only().pk}"
    assert answer.headers["Location"] == expected


def test_what_is_forwarded_counts_for_nothing_unless_the_settings_say_so(me):
    forwarded = {"X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "https"}
    location = post(me, Upload_Length=10, **forwarded).headers["Location"]
    assert location.startswith("http://testserver/")


def test_below_a_script_prefix_the_url_has_it(me):
    sent = tus.V1 | {"Content-Type": "", "Upload-Length": "1"}
    answer = me.request("POST", tus.URL, b"", sent, SCRIPT_NAME="/site")
    assert urlsplit(answer.headers["Location"]).path.startswith("/site/uploads/tus/")


def test_an_empty_file_is_complete_at_once(me):
    with heard(signals.upload_completed) as ids:
        url = create(me, 0)
        assert offset_of(me, url) == 0
        assert head(me, url).headers["Upload-Length"] == "0"
        assert patch(me, url, 0, b"").status == 204
    assert ids == [only().pk]
    assert_stored(b"")


@pytest.mark.parametrize("length", ["-1", "1.5", "abc", "", " ", "1" * 23, "1 2"])
def test_an_impossible_length_is_400(me, length):
    refused(post(me, Upload_Length=length), 400, "ERR_INVALID_UPLOAD_LENGTH")
    assert not UploadSession.objects.exists()


def test_no_length_at_all_is_400(me):
    refused(post(me), 400, "ERR_INVALID_UPLOAD_LENGTH")


@pytest.mark.parametrize("deferred", ["0", "true", "", "2", "11"])
def test_a_deferral_is_1_or_nothing(me, deferred):
    answer = post(me, Upload_Defer_Length=deferred)
    refused(answer, 400, "ERR_INVALID_UPLOAD_LENGTH_DEFER")


def test_a_length_that_is_said_and_deferred_is_400(me):
    answer = post(me, Upload_Defer_Length="1", Upload_Length="1")
    refused(answer, 400, "ERR_AMBIGUOUS_UPLOAD_LENGTH")


@pytest.mark.parametrize("length", [101, 2**63 - 1])
def test_more_than_the_maximum_is_413(me, settings, length):
    policies(settings, default={"max_size": 100})
    refused(post(me, Upload_Length=length), 413, "ERR_MAX_SIZE_EXCEEDED")


def test_without_a_maximum_the_quota_still_counts(me, settings):
    policies(settings, default={"max_size": None})
    answer = post(me, Upload_Length=2**63 - 1)
    refused(answer, 413, "ERR_QUOTA_EXCEEDED")


def test_too_many_open_uploads_are_429(me, settings):
    policies(settings, default={"max_open": 1})
    create(me, 10)
    refused(post(me, Upload_Length=10), 429, "ERR_TOO_MANY_UPLOADS")


def test_a_type_that_is_not_allowed_is_refused(me, settings):
    policies(settings, default={"allowed_extensions": [".txt"]})
    said = metadata(filename="a.exe")
    refused(post(me, Upload_Length=1, **said), 422, "ERR_TYPE_NOT_ALLOWED")
    create(me, 1, **metadata(filename="a.txt"))


# Metadata


def test_metadata_is_kept_and_given_back_as_it_was(me):
    said = "filename cmVwb3J0LnR4dA==,is_confidential,empty "
    url = create(me, 1, Upload_Metadata=said)
    assert head(me, url).headers["Upload-Metadata"] == said.strip()
    upload = only()
    assert upload.filename == "report.txt"
    assert upload.metadata["filename"] == "report.txt"
    assert upload.metadata["is_confidential"] == upload.metadata["empty"] == ""


def test_what_the_clients_call_name_type_and_folder_is_understood(me):
    create(
        me,
        1,
        **metadata(name="ü 😀.png", filetype="image/png", relativePath="a/b/ü 😀.png"),
    )
    upload = only()
    assert (upload.filename, upload.content_type) == ("ü 😀.png", "image/png")
    assert upload.relative_path == "a/b"


def test_uppy_calls_no_folder_null(me):
    create(me, 1, **metadata(relativePath="null", filename="a"))
    assert only().relative_path == ""


@pytest.mark.parametrize("said", ["", " ", "a", "a ", "a , b", "a YQ==, b Yg=="])
def test_odd_but_possible_metadata_is_taken(me, said):
    create(me, 1, Upload_Metadata=said)
    assert only().filename == "file"


@pytest.mark.parametrize(
    "said",
    ["a b c", "a YQ==,a YQ==", "a !!!!", "a YQ", ",", "a YQ==,", "ü YQ==", "a Y Q=="],
)
def test_malformed_metadata_is_400(me, said):
    said = said.encode().decode("latin-1")
    answer = post(me, Upload_Length=1, Upload_Metadata=said)
    refused(answer, 400, "ERR_INVALID_METADATA")


def test_too_much_metadata_is_431(me):
    said = metadata(filename="x" * 4000)
    refused(post(me, Upload_Length=1, **said), 431, "ERR_METADATA_TOO_LONG")


@pytest.mark.parametrize(
    "value", [b"\xff\xfe", b"a\0b", b"../../etc/passwd", b"a\r\nSet-Cookie: x=y"]
)
def test_hostile_values_are_only_values(me, value):
    said = f"filename {base64.b64encode(value).decode()}"
    url = create(me, 1, Upload_Metadata=said)
    assert head(me, url).headers["Upload-Metadata"] == said
    assert not set("/\\\r\n\0") & set(only().filename)


# Creation with upload


def test_a_creation_may_bring_all_of_the_file(me):
    answer = post(me, DATA, Upload_Length=len(DATA))
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, "5000")
    assert "Location" in answer.headers
    assert_stored()


def test_a_creation_may_bring_a_part_of_the_file(me):
    url = create(me, len(DATA), DATA[:1000])
    assert offset_of(me, url) == 1000
    assert patch(me, url, 1000, DATA[1000:]).status == 204
    assert_stored()


def test_an_empty_file_may_come_with_its_creation(me):
    answer = me.request(
        "POST", tus.URL, b"", tus.V1 | tus.OFFSETS | {"Upload-Length": "0"}
    )
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, "0")
    assert_stored(b"")


def test_a_body_of_another_type_is_overlooked(me):
    sent = tus.V1 | {"Content-Type": "text/plain", "Upload-Length": "5"}
    answer = me.request("POST", tus.URL, b"hello", sent)
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, "0")


@pytest.mark.parametrize("body_", [DATA, iter([DATA])], ids=["counted", "chunked"])
def test_a_creation_with_more_than_fits_leaves_nothing(me, body_):
    answer = post(me, body_, Upload_Length=4999)
    assert answer.status == 413
    assert not UploadSession.objects.exclude(state=State.CANCELLED).exists()
    assert finished() == {}
    assert staged() == 0


def test_a_creation_of_deferred_length_may_bring_bytes(me):
    url = create(me, None, DATA[:1000])
    assert offset_of(me, url) == 1000
    assert patch(me, url, 1000, DATA[1000:], Upload_Length=5000).status == 204
    assert_stored()


# Deferred length


def test_a_deferred_length_is_said_to_be_so_until_it_is_known(me):
    url = create(me, None)
    assert head(me, url).headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in head(me, url).headers
    patch(me, url, 0, DATA[:1000])
    assert head(me, url).headers["Upload-Defer-Length"] == "1"
    answer = patch(me, url, 1000, DATA[1000:2000], Upload_Length=5000)
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "2000")
    assert head(me, url).headers["Upload-Length"] == "5000"
    assert "Upload-Defer-Length" not in head(me, url).headers
    patch(me, url, 2000, DATA[2000:])
    assert_stored()


def test_an_empty_patch_may_bring_the_length(me):
    url = create(me, None)
    patch(me, url, 0, DATA)
    answer = patch(me, url, 5000, b"", Upload_Length=5000)
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, "5000")
    assert_stored()


def test_a_length_of_nothing_completes_an_empty_file(me):
    url = create(me, None)
    assert patch(me, url, 0, b"", Upload_Length=0).status == 204
    assert_stored(b"")


def test_a_length_cannot_change(me, url):
    answer = patch(me, url, 0, DATA[:10], Upload_Length=4000)
    refused(answer, 400, "ERR_INVALID_UPLOAD_LENGTH")
    assert offset_of(me, url) == 0
    assert only().length == 5000


def test_a_length_may_be_said_again(me, url):
    """As by a client whose PATCH was cut that said it first."""
    assert patch(me, url, 0, DATA[:10], Upload_Length=5000).status == 204


def test_a_length_below_the_offset_is_400(me):
    url = create(me, None, DATA[:1000])
    answer = patch(me, url, 1000, b"", Upload_Length=999)
    refused(answer, 400, "ERR_INVALID_UPLOAD_LENGTH")
    assert only().length is None


def test_a_length_below_what_the_same_request_brings_is_400(me):
    url = create(me, None, DATA[:1000])
    answer = patch(me, url, 1000, DATA[:10], Upload_Length=1009)
    refused(answer, 400, "ERR_INVALID_UPLOAD_LENGTH")
    assert only().length is None


def test_a_length_with_another_offset_is_409_and_not_kept(me):
    url = create(me, None, DATA[:1000])
    answer = patch(me, url, 999, b"", Upload_Length=5000)
    refused(answer, 409, "ERR_MISMATCHED_OFFSET")
    assert only().length is None


def test_a_deferred_length_above_the_maximum_is_413(me, settings):
    policies(settings, default={"max_size": 4000})
    url = create(me, None)
    answer = patch(me, url, 0, b"", Upload_Length=4001)
    refused(answer, 413, "ERR_MAX_SIZE_EXCEEDED")
    refused(patch(me, url, 0, DATA), 413, "ERR_MAX_SIZE_EXCEEDED")
    assert only().length is None


# Expiration


def test_an_upload_says_when_it_expires_for_as_long_as_it_may(me):
    answer = post(me, Upload_Length=5000)
    url = tus.path(answer)
    for told in (answer, head(me, url), patch(me, url, 0, DATA[:10])):
        expires = parsedate_to_datetime(told.headers["Upload-Expires"])
        assert told.headers["Upload-Expires"].endswith(" GMT")
        assert abs(expires - only().expires_at) < timedelta(seconds=2)
    for told in (patch(me, url, 10, DATA[10:]), head(me, url)):
        assert "Upload-Expires" not in told.headers


def test_what_has_expired_is_410(me, url):
    patch(me, url, 0, DATA[:10])
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.update(expires_at=past)
    assert head(me, url).status == 410
    assert "Upload-Offset" not in head(me, url).headers
    refused(patch(me, url, 10, DATA[10:]), 410, "ERR_UPLOAD_EXPIRED")
    refused(tus.delete(me, url), 410, "ERR_UPLOAD_EXPIRED")
    assert me.get(url).status == 410
    assert staged() == 0


# Checksum


@pytest.mark.parametrize("algorithm", tus.DIGESTS)
def test_a_body_with_the_right_checksum_is_kept(me, url, algorithm):
    first = patch(me, url, 0, DATA[:1000], **checksum(DATA[:1000], algorithm))
    assert (first.status, first.headers["Upload-Offset"]) == (204, "1000")
    rest = iter([DATA[1000:2000], DATA[2000:]])
    assert patch(me, url, 1000, rest, **checksum(DATA[1000:], algorithm)).status == 204
    assert_stored()


@pytest.mark.parametrize("algorithm", tus.DIGESTS)
def test_a_body_with_a_wrong_checksum_is_460_and_not_kept(me, url, algorithm):
    patch(me, url, 0, DATA[:1000])
    answer = patch(me, url, 1000, DATA[1000:], **checksum(b"other", algorithm))
    refused(answer, 460, "ERR_CHECKSUM_MISMATCH")
    assert offset_of(me, url) == 1000
    assert Chunk.objects.count() == 1
    assert patch(me, url, 1000, DATA[1000:]).status == 204
    assert_stored()


def test_the_reason_of_460_is_said(me, url):
    headers = tus.V1 | {"Upload-Offset": "0"} | checksum(b"other")
    response = me.client.patch(
        url, DATA, content_type=tus.OFFSETS["Content-Type"], headers=headers
    )
    assert response.status_code == 460
    assert response.reason_phrase == "Checksum Mismatch"


@pytest.mark.parametrize(
    "said", ["sha3 YQ==", "sha1 YQ==", "sha1 !", "sha1", "", "SHA1 x", "crc64nvme YQ=="]
)
def test_an_impossible_checksum_is_400_before_a_byte_is_read(me, url, said):
    answer = patch(me, url, 0, DATA, Upload_Checksum=said)
    refused(answer, 400, "ERR_INVALID_CHECKSUM")
    assert offset_of(me, url) == 0


def test_of_a_cut_body_with_a_checksum_nothing_is_kept(me, url):
    answer = cut(me, url, 0, DATA, 3000, **checksum(DATA))
    refused(answer, 400, "ERR_UNEXPECTED_EOF")
    assert offset_of(me, url) == 0
    assert not Chunk.objects.exists()


def test_a_creation_may_have_a_checksum(me):
    create(me, len(DATA), DATA, **checksum(DATA))
    assert_stored()


def test_a_creation_with_a_wrong_checksum_leaves_nothing(me):
    answer = post(me, DATA, Upload_Length=len(DATA), **checksum(b"other"))
    refused(answer, 460, "ERR_CHECKSUM_MISMATCH")
    assert only().state == State.CANCELLED
    assert staged() == 0


# Termination


@pytest.mark.parametrize("is_complete", [False, True])
def test_what_is_deleted_has_never_been(me, url, is_complete):
    patch(me, url, 0, DATA if is_complete else DATA[:10])
    answer = tus.delete(me, url)
    assert (answer.status, answer.body) == (204, b"")
    assert (staged(), finished()) == (0, {})
    assert head(me, url).status == 404
    refused(patch(me, url, 10, DATA[10:]), 404, "ERR_UPLOAD_NOT_FOUND")
    refused(tus.delete(me, url), 404, "ERR_UPLOAD_NOT_FOUND")
    assert me.get(url).status == 404


def test_a_file_that_is_in_use_is_not_deleted(me, url):
    patch(me, url, 0, DATA)
    UploadSession.objects.update(claimed_at=timezone.now())
    assert tus.delete(me, url).status == 409
    assert_stored()


# Concatenation


def part(me, data, **more):
    url = create(me, len(data), Upload_Concat="partial", **more)
    if data:
        assert patch(me, url, 0, data).status == 204
    return url


def join(me, *urls, **more):
    return post(me, Upload_Concat=f"final;{' '.join(urls)}", **more)


def absolute(url):
    return f"http://testserver{url}"


def test_partial_uploads_become_one_without_a_copy(me):
    first, second = part(me, DATA[:3000]), part(me, DATA[3000:])
    assert head(me, first).headers["Upload-Concat"] == "partial"
    assert finished() == {}
    answer = join(me, absolute(first), second, **metadata(filename="whole.bin"))
    assert answer.status == 201
    url = tus.path(answer)
    told = head(me, url)
    assert told.headers["Upload-Concat"] == f"final;{absolute(first)} {second}"
    assert told.headers["Upload-Offset"] == told.headers["Upload-Length"] == "5000"
    assert list(finished().values()) == [sha256(DATA)]
    whole = UploadSession.objects.get(state=State.COMPLETE)
    assert (whole.filename, whole.length) == ("whole.bin", 5000)
    assert me.get(url).body == DATA


def test_a_part_may_be_used_twice_and_in_many(me):
    one = part(me, DATA)
    assert join(me, one, one).status == 201
    assert join(me, one).status == 201
    sizes = {len(DATA), 2 * len(DATA)}
    wholes = UploadSession.objects.filter(state=State.COMPLETE)
    assert {whole.length for whole in wholes} == sizes


def test_empty_parts_make_an_empty_file(me):
    assert join(me, part(me, b""), part(me, b"")).status == 201
    assert list(finished().values()) == [sha256(b"")]


def test_a_part_of_deferred_length_is_a_part(me):
    url = create(me, None, Upload_Concat="partial")
    patch(me, url, 0, DATA)
    refused(join(me, url), 400, "ERR_UPLOAD_NOT_FINISHED")
    patch(me, url, 5000, b"", Upload_Length=5000)
    assert join(me, url).status == 201
    assert list(finished().values()) == [sha256(DATA)]


def test_an_unfinished_part_is_400(me):
    one = create(me, 5000, DATA[:10], Upload_Concat="partial")
    refused(join(me, one), 400, "ERR_UPLOAD_NOT_FINISHED")


def test_unknown_and_foreign_parts_are_404(me):
    stranger = Visitor()
    stranger.get("/upload/")
    theirs = part(stranger, DATA)
    elsewhere = ["http://evil.example" + part(me, DATA), "/admin/", "x", "../x"]
    for url in (theirs, NOWHERE, *elsewhere):
        refused(join(me, url), 404, "ERR_UPLOAD_NOT_FOUND")


def test_an_expired_part_is_410(me):
    one = part(me, DATA)
    UploadSession.objects.update(expires_at=timezone.now())
    refused(join(me, one), 410, "ERR_UPLOAD_EXPIRED")


def test_only_partial_uploads_can_be_parts(me, url):
    patch(me, url, 0, DATA)
    refused(join(me, url), 400, "ERR_INVALID_CONCAT")
    final = tus.path(join(me, part(me, DATA)))
    refused(join(me, final), 400, "ERR_INVALID_CONCAT")


@pytest.mark.parametrize(
    "said", ["final;", "final", "foo", "Partial", "final; ", "final;http://[", ""]
)
def test_an_impossible_concat_is_400(me, said):
    answer = post(me, Upload_Length=1, Upload_Concat=said)
    refused(answer, 400, "ERR_INVALID_CONCAT")


def test_too_many_parts_are_400(me, monkeypatch):
    monkeypatch.setattr(protocol, "MAX_PARTS", 2)
    one = part(me, DATA)
    refused(join(me, one, one, one), 400, "ERR_INVALID_CONCAT")


def test_a_sum_above_the_maximum_is_413(me, settings):
    policies(settings, default={"max_size": 6000})
    one = part(me, DATA)
    refused(join(me, one, one), 413, "ERR_MAX_SIZE_EXCEEDED")


def test_a_final_takes_no_bytes(me):
    one = part(me, DATA)
    final = tus.path(join(me, one))
    refused(patch(me, final, 5000, b""), 403, "ERR_MODIFY_FINAL")
    refused(patch(me, final, 0, DATA), 403, "ERR_MODIFY_FINAL")
    sent = tus.V1 | tus.OFFSETS | {"Upload-Concat": f"final;{one}"}
    refused(me.request("POST", tus.URL, b"x", sent), 403, "ERR_MODIFY_FINAL")
    assert patch(me, one, 5000, b"").status == 204
    assert list(finished().values()) == [sha256(DATA)]


def test_a_final_that_is_still_made_tells_no_offset(me, settings):
    one = part(me, DATA)
    change(settings, RUNNER="tests.rest.nobody")
    told = head(me, tus.path(join(me, one)))
    assert told.status == 200
    assert "Upload-Offset" not in told.headers
    assert told.headers["Upload-Length"] == "5000"


def test_a_part_that_is_deleted_after_leaves_the_final_whole(me):
    one = part(me, DATA)
    final = tus.path(join(me, one))
    assert tus.delete(me, one).status == 204
    assert me.get(final).body == DATA


def test_parts_need_no_name_of_an_allowed_type_but_the_whole_does(me, settings):
    policies(settings, default={"allowed_extensions": [".txt"]})
    one = part(me, DATA)
    refused(join(me, one), 422, "ERR_TYPE_NOT_ALLOWED")
    assert join(me, one, **metadata(filename="a.txt")).status == 201


def test_a_storage_that_cannot_join_says_so(me, monkeypatch):
    monkeypatch.setattr(FilesystemStore, "joins_others", False)
    assert "concatenation" not in tus.options(me).headers["Tus-Extension"]
    for said in ("partial", f"final;{NOWHERE}"):
        answer = post(me, Upload_Length=1, Upload_Concat=said)
        refused(answer, 400, "ERR_CONCATENATION_UNSUPPORTED")


# The file


def test_the_finished_file_is_got_at_its_url(me, url):
    assert me.get(url).status == 404
    patch(me, url, 0, DATA)
    answer = me.get(url)
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    part = me.get(url, Range="bytes=0-9")
    assert (part.status, part.body) == (206, DATA[:10])


def test_a_file_that_is_not_to_be_got_is_404(me, url, settings):
    policies(settings, default={"downloadable": False})
    patch(me, url, 0, DATA)
    assert me.get(url).status == 404


# Who may


def test_a_url_is_key_enough_for_who_has_no_session():
    first, second = Visitor(), Visitor()
    url = create(first, len(DATA), DATA[:1000])
    assert "sessionid" not in first.client.cookies
    assert only().owner == "url"
    assert offset_of(second, url) == 1000
    assert patch(second, url, 1000, DATA[1000:]).status == 204
    assert Visitor().get(url).body == DATA
    assert tus.delete(Visitor(), url).status == 204


def test_one_with_a_session_may_go_on_by_the_url_as_well(me):
    url = create(Visitor(), len(DATA))
    assert patch(me, url, 0, DATA).status == 204


def test_what_was_begun_with_a_session_is_for_that_session_only(me, url):
    assert head(Visitor(), url).status == 404
    assert head(me, url).status == 200


def test_a_url_is_no_key_to_the_native_protocol():
    url = create(Visitor(), 10)
    pk = url.rpartition("/")[2]
    assert Visitor().get(f"/uploads/{pk}/").status == 404


def test_by_default_no_url_is_key_enough(settings):
    policies(settings, default={"downloadable": True})
    first, second = Visitor(), Visitor()
    url = create(first, len(DATA))
    assert only().owner.startswith("session:")
    assert head(second, url).status == 404
    assert head(first, url).status == 200


def test_a_url_is_no_key_any_more_when_the_policy_says_so(settings):
    url = create(Visitor(), len(DATA))
    policies(settings, default={"downloadable": True})
    assert head(Visitor(), url).status == 404


def test_parts_by_url_become_one_by_url():
    parts = [part(Visitor(), DATA[:3000]), part(Visitor(), DATA[3000:])]
    assert join(Visitor(), *parts).status == 201
    assert list(finished().values()) == [sha256(DATA)]


def test_parts_of_two_owners_do_not_become_one(me):
    mixed = [part(me, DATA[:3000]), part(Visitor(), DATA[3000:])]
    refused(join(me, *mixed), 404, "ERR_UPLOAD_NOT_FOUND")


def test_who_has_to_log_in_is_told_so(settings, django_user_model):
    policies(settings, default={"anonymous": False, "capability_urls": True})
    assert post(Visitor(), Upload_Length=1).status in (401, 403)
    user = django_user_model.objects.create_user("ann")
    url = create(Visitor(user), 10)
    assert only().user == user
    assert head(Visitor(user), url).status == 200
    assert head(Visitor(), url).status == 404


def test_an_upload_of_another_protocol_is_not_there(me):
    native = me.request(
        "POST",
        "/uploads/",
        b'{"filename": "a", "size": 3}',
        {"Content-Type": "application/json", "X-CSRFToken": "x" * 32},
    )
    if native.status == 403:
        me.token = me.client.cookies["csrftoken"].value
        native = me.post("/uploads/", {"filename": "a", "size": 3})
    pk = native.json()["id"]
    assert head(me, f"{tus.URL}{pk}").status == 404


# Pages of other sites


def test_a_page_of_another_site_may_nothing(me, url):
    foreign = {"Origin": "https://evil.example"}
    refused(post(me, Upload_Length=1, **foreign), 403, "ERR_ORIGIN_NOT_ALLOWED")
    refused(patch(me, url, 0, b"x", **foreign), 403, "ERR_ORIGIN_NOT_ALLOWED")
    assert head(me, url, **foreign).status == 403
    assert head(me, url, Sec_Fetch_Site="cross-site").status == 403
    told = tus.options(me, **foreign)
    assert not [name for name in told.headers if name.startswith("Access-Control")]


def test_a_page_of_this_site_may(me):
    create(me, 1, Origin="http://testserver")
    create(me, 1, Sec_Fetch_Site="same-origin")


@pytest.mark.parametrize("allowed", ["https://app.example", "*"])
def test_a_page_that_is_allowed_may(settings, allowed):
    change(settings, CORS_ORIGINS=[allowed])
    page = {"Origin": "https://app.example"}
    told = tus.options(Visitor(), Access_Control_Request_Method="PATCH", **page)
    assert told.status == 204
    assert told.headers["Access-Control-Allow-Origin"] in (allowed, page["Origin"])
    methods = told.headers["Access-Control-Allow-Methods"].split(", ")
    assert {"POST", "HEAD", "PATCH", "DELETE", "GET"} <= set(methods)
    sent = told.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"tus-resumable", "upload-offset", "upload-checksum"} <= set(sent)
    assert told.headers["Access-Control-Max-Age"] == "86400"
    assert "Access-Control-Expose-Headers" not in told.headers
    answer = post(Visitor(), Upload_Length=1, **page)
    assert answer.status == 201
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Location", "Upload-Offset", "Upload-Expires"} <= set(exposed)
    assert "Access-Control-Allow-Credentials" not in answer.headers
    refusal = post(Visitor(), **page)
    assert refusal.headers["Access-Control-Allow-Origin"]
    if allowed != "*":
        assert "Origin" in answer.headers["Vary"]
        other = post(Visitor(), Upload_Length=1, Origin="https://evil.example")
        assert other.status == 403
        assert "Access-Control-Allow-Origin" not in other.headers


def test_cookies_come_along_only_from_pages_that_are_named(settings):
    page = {"Origin": "https://app.example"}
    change(settings, CORS_ORIGINS=["https://app.example"], CORS_CREDENTIALS=True)
    told = tus.options(Visitor(), **page)
    assert told.headers["Access-Control-Allow-Credentials"] == "true"
    change(settings, CORS_ORIGINS=["*"])
    told = tus.options(Visitor(), **page)
    assert "Access-Control-Allow-Credentials" not in told.headers


# When the server cannot


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_row_that_is_not_to_be_had_is_423(me, url, monkeypatch, error):
    def busy(upload):
        raise error("database is locked")

    monkeypatch.setattr(engine, "take_offset", busy)
    assert head(me, url).status == 423


def test_a_body_that_stalls_is_500_and_kept(me, url, monkeypatch):
    """A client repeats after 5xx."""
    monkeypatch.setattr(body.Body, "stalled", True, raising=False)
    monkeypatch.setattr(body.Body, "__setattr__", keep_stalled)
    answer = cut(me, url, 0, DATA, 3000)
    refused(answer, 500, "ERR_READ_TIMEOUT")
    assert offset_of(me, url) == 3000


def keep_stalled(self, name, value):
    if name != "stalled":
        object.__setattr__(self, name, value)


def test_a_server_that_ends_keeps_what_came_and_says_503(me, url, monkeypatch):
    ends_after(monkeypatch, 2)
    change_buffer(monkeypatch)
    answer = patch(me, url, 0, DATA)
    refused(answer, 503, "ERR_SERVER_SHUTDOWN")
    assert answer.headers["Retry-After"]
    kept = int(answer.headers["Upload-Offset"])
    assert 0 < kept < 5000
    monkeypatch.undo()
    assert offset_of(me, url) == kept
    assert patch(me, url, kept, DATA[kept:]).status == 204
    assert_stored()


def test_a_creation_that_is_ended_so_tells_where_to_go_on(me, monkeypatch):
    ends_after(monkeypatch, 2)
    change_buffer(monkeypatch)
    answer = post(me, DATA, Upload_Length=5000)
    assert answer.status == 201
    assert 0 < int(answer.headers["Upload-Offset"]) < 5000


def ends_after(patch, reads):
    """Let the server be asked to end after so many reads of a body."""
    left = iter([False] * reads)
    patch.setattr(body, "is_stopping", lambda: next(left, True))


def change_buffer(patch):
    small = bytearray(500)
    patch.setattr(buffers, "own", lambda: memoryview(small))


def test_a_full_disk_is_507_and_loses_nothing_that_was_recorded(me, url, monkeypatch):
    def fail(self, blocks):
        raise OSError(errno.ENOSPC, "")

    patch(me, url, 0, DATA[:1000])
    with monkeypatch.context() as broken:
        broken.setattr(FilesystemWriter, "write", fail)
        refused(patch(me, url, 1000, DATA[1000:]), 507, "ERR_STORAGE_FULL")
    assert offset_of(me, url) == 1000
    assert patch(me, url, 1000, DATA[1000:]).status == 204
    assert_stored()
