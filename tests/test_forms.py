"""Chunks in multipart forms: streamed, bounded, and no form but a proper one."""

from __future__ import annotations

import itertools
import tempfile
import time
from datetime import timedelta

import hypothesis
import pytest
from django.core.files import uploadhandler
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from resumable_uploads import errors
from resumable_uploads.body import Body
from resumable_uploads.models import Chunk, UploadSession
from resumable_uploads.protocols import formdata, forms

from .foreign import BOUNDARY, NO_TOKEN, Fine, Resumable, form
from .making import PAUSE, ScriptedSource
from .rest import finished, sha256, some_bytes, staged
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]

DATA = some_bytes(100_000)


@pytest.fixture
def me():
    return Visitor()


@pytest.fixture
def file():
    """A file that Resumable.js sends in one chunk."""
    return Resumable(DATA, chunk_size=len(DATA))


def sha(me):
    (found,) = finished().values()
    return found


# Streaming


def test_a_chunk_goes_to_the_store_without_a_file_in_between(me, file, monkeypatch):
    def made(*args, **kwargs):
        raise AssertionError("A temporary file was made.")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", made)
    monkeypatch.setattr(uploadhandler, "TemporaryUploadedFile", made)
    monkeypatch.setattr(uploadhandler, "InMemoryUploadedFile", made)
    assert file.send(me, 1).status == 200
    assert sha(me) == sha256(DATA)


@pytest.mark.parametrize("step", [1, 7, 1000, 65_536])
def test_a_form_may_arrive_in_pieces_of_any_size(step):
    body, headers = form({"a": "1", "b": "ü" * 50}, DATA[:5000], "x.bin")
    steps = [body[start : start + step] for start in range(0, len(body), step)]
    made = form_of(ScriptedSource(*steps, length=len(body)), headers)
    assert made.fields == QueryDict("a=1&b=" + "ü" * 50)
    assert (made.filename, made.content_type) == ("x.bin", "application/octet-stream")
    assert read(made.source) == DATA[:5000]
    made.finish()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"\r\n--",
        f"\r\n--{BOUNDARY[:-1]}".encode() * 9,
        b"-" * 70_000,
        f"\n--{BOUNDARY[1:]}--\r\n".encode() * 5000,
        # A delimiter begins a line, and a line ends in both.
        f"a--{BOUNDARY}--\r\nb\n--{BOUNDARY}\r\nc\r--{BOUNDARY}--".encode(),
    ],
)
def test_bytes_that_look_like_a_boundary_stay_bytes(me, data):
    assert Resumable(data, chunk_size=len(data) or 1).send(me, 1).status == 200
    assert sha(me) == sha256(data)


PIECES = [b"\r", b"\n", b"\r\n--", b"-", b"x" * 300, BOUNDARY[:-1].encode()]


@given(
    st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join),
    st.lists(st.integers(1, 400), min_size=1, max_size=8),
    st.lists(st.integers(1, 400), min_size=1, max_size=8),
)
@hypothesis.settings(max_examples=300, deadline=None)
def test_a_part_is_what_was_sent_however_it_comes_and_is_taken(data, comes, taken):
    body, headers = form({"a": "1"}, data)
    rest, steps = body, []
    for size in itertools.cycle(comes):
        if not rest:
            break
        steps.append(rest[:size])
        rest = rest[size:]
    made = form_of(ScriptedSource(*steps, length=len(body)), headers)
    assert read(made.source, itertools.cycle(taken)) == data
    assert not made.source.broken
    made.finish()


class Arrived:
    """The front of a body, behind which nothing has come yet."""

    def __init__(self, body, size):
        self.length = len(body)
        self._rest = body[:size]

    def waiting(self):
        return len(self._rest)

    def readinto(self, view, patience):
        assert self._rest, "This would have been waited for."
        size = min(len(view), len(self._rest))
        view[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


@given(
    st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join),
    st.integers(0, 400),
    st.integers(30, 400),
)
@hypothesis.settings(max_examples=300, deadline=None)
def test_what_need_not_be_waited_for_is_not(data, missing, at_once):
    body, headers = form({"a": "1"}, data)
    start = body.rindex(data + b"\r\n--")
    source = Arrived(body, max(len(body) - missing, start))
    parts, read_so_far = form_of(source, headers).source, b""
    while size := min(parts.waiting(), at_once):
        view, filled = memoryview(bytearray(size)), 0
        while filled < size and (more := parts.readinto(view[filled:], 1)):
            filled += more
        read_so_far += bytes(view[:filled])
        if filled < size:
            break
    assert data.startswith(read_so_far)
    # All but what may still turn out to be the end.
    assert len(data) - len(read_so_far) <= missing + len(BOUNDARY) + 4


TEXTS = st.text(
    st.characters(exclude_characters='"\\%\r\n', codec="utf-8"), max_size=20
)


@given(TEXTS, TEXTS | st.none(), st.sampled_from([None, "", "text/plain", "a/b;c=d"]))
@hypothesis.settings(max_examples=300, deadline=None)
def test_what_needs_no_parsing_is_read_as_if_it_were_parsed(name, filename, kind):
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    lines = [disposition] + ([] if kind is None else [f"Content-Type: {kind}"])
    text = "\r\n".join(["", *lines, "", ""])
    found = formdata._PLAIN.fullmatch(text.encode())
    assert found
    parsed = formdata._parsed([line.encode() for line in lines])
    assert formdata._plain(found) == parsed


ENDS = ["", "\r", "\n", "\r\n", f"\r\n--{BOUNDARY}", f"\r\n--{BOUNDARY}x", "x" * 1500]
LINES = st.sampled_from(
    [
        'Content-Disposition: form-data; name="a"',
        'content-disposition: form-data; name="ü"',
        'Content-Disposition: form-data; name="a"; filename=""',
        'Content-Disposition: form-data; name="a%22b"',
        "Content-Disposition: form-data; name=a",
        "Content-Type: text/plain",
    ]
)


@given(
    st.lists(
        st.tuples(
            st.lists(LINES, max_size=2),
            st.text(max_size=10),
            st.sampled_from(ENDS),
        ),
        max_size=6,
    )
)
@hypothesis.settings(max_examples=300, deadline=None)
def test_fields_that_are_at_hand_are_read_as_if_they_came_slowly(parts):
    text = "".join(
        f"--{BOUNDARY}\r\n" + "\r\n".join([*lines, "", value + end]) + "\r\n"
        for lines, value, end in parts
    )
    _, headers = form({}, b"")
    file = 'Content-Disposition: form-data; name="f"; filename="n"\r\n\r\nhello'
    text += f"--{BOUNDARY}\r\n{file}\r\n--{BOUNDARY}--\r\n"
    body = text.encode()
    slowly = [body[at : at + 1] for at in range(len(body))]
    assert outcome(headers, body, [body]) == outcome(headers, body, slowly)


def outcome(headers, body, steps):
    try:
        made = form_of(ScriptedSource(*steps, length=len(body)), headers)
        data = read(made.source) if made.source else None
        made.finish()
    except errors.UploadError as error:
        return type(error), str(error)
    return made.fields, made.filename, data


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("start", [0, 4])
def test_what_is_sought_is_found_where_it_is_first(count, start):
    data = bytearray(b"abcdeXY" + b"..XY" * count)
    for stop in range(len(data) + 1):
        sought = formdata._first(data, b"XY", start, stop)
        assert sought == data.find(b"XY", start, stop)


def form_of(source, headers):
    class Request:
        META = {"CONTENT_TYPE": headers["Content-Type"]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "source_of", lambda request: source)
        made = forms.Form(Request())
    made.begin()
    return made


def read(source, sizes=None):
    data = b""
    while True:
        # A part of a larger buffer, as chunks are read.
        view = memoryview(bytearray(5 + (next(sizes) if sizes else 10_000)))[5:]
        size = source.readinto(view, 1)
        if not size:
            return data
        data += bytes(view[:size])


def test_after_a_form_that_was_cut_behind_a_delimiter_nothing_comes():
    body, headers = form({"a": "1"}, DATA[:100])
    body = body[: -len("--\r\n")]
    made = form_of(ScriptedSource(body, length=len(body) + 4), headers)
    assert read(made.source) == DATA[:100]
    with pytest.raises(errors.Truncated):
        made.finish()
    assert read(made.source) == b""


def test_parts_without_a_name_are_not_kept():
    """However many there are, and however they come."""
    first = f"--{BOUNDARY}\r\n".encode()
    # Each time it comes to light that a part is over, and another one begins.
    part = b"X: y\r\n\r\n\r\n" + first
    body, headers = form({"a": "1"}, DATA[:100])
    steps = [first, *[part] * 2000, body.removeprefix(first)]
    made = form_of(ScriptedSource(*steps, length=len(b"".join(steps))), headers)
    assert made.fields == QueryDict("a=1")
    assert len(made.source._ahead) < 2 * len(body)


def test_a_form_that_stalls_is_given_up(settings):
    settings.RESUMABLE_UPLOADS |= {"STALL_TIMEOUT": timedelta(seconds=0.01)}
    body, headers = form({"a": "1"}, DATA)
    script = body[:5000], *[PAUSE] * 100, lambda: time.sleep(0.02), PAUSE, body[5000:]
    made = form_of(ScriptedSource(*script, length=len(body)), headers)
    received = Body(made.source)
    segment = received.whole(len(DATA))
    assert sum(len(block) for block in segment) < 5000
    assert received.stalled
    with pytest.raises(errors.Truncated):
        received.check_end()


def test_a_form_that_stalls_among_its_fields_is_given_up():
    body, headers = form({"a": "1"}, DATA)
    with pytest.raises(errors.Truncated):
        form_of(ScriptedSource(body[:60], PAUSE, length=len(body)), headers)


# Cuts


@pytest.mark.parametrize("end", ["in the fields", "before the file", "in the file"])
def test_of_a_form_that_was_cut_nothing_is_kept(me, file, end):
    sent = file.request(1)
    body = sent["body"]
    after = {
        "in the fields": 200,
        "before the file": body.index(b"\r\n\r\n" + DATA[:50]),
        "in the file": body.index(DATA[:50]) + 50_000,
    }[end]
    answer = me.cut("POST", sent["path"], body, after, headers=sent["headers"])
    assert (answer.status, answer.json()["code"]) == (400, "truncated")
    assert Chunk.objects.count() == 0
    assert finished() == {}
    assert file.send(me, 1).status == 200
    assert sha(me) == sha256(DATA)


def test_of_a_form_that_was_cut_before_its_file_no_upload_is_opened(me, file):
    sent = file.request(1)
    me.cut("POST", sent["path"], sent["body"], 300, headers=sent["headers"])
    assert not UploadSession.objects.exists()


def test_all_bytes_of_the_file_count_when_only_the_end_of_the_form_is_cut(me, file):
    sent = file.request(1)
    after = len(sent["body"]) - 4
    answer = me.cut("POST", sent["path"], sent["body"], after, headers=sent["headers"])
    assert answer.json()["code"] == "truncated"
    assert sha(me) == sha256(DATA)


@pytest.mark.parametrize("missing", ["the last delimiter", "all behind the file"])
def test_a_form_without_its_end_is_cut_whatever_it_has_announced(me, file, missing):
    sent = file.request(1)
    end = f"\r\n--{BOUNDARY}--\r\n".encode()
    body = sent["body"].removesuffix(end)
    if missing == "the last delimiter":
        body += end[:-4]
    answer = me.request("POST", sent["path"], body, sent["headers"])
    assert answer.status == 400
    assert finished() == {} or missing == "the last delimiter"
    assert file.send(me, 1).status == 200
    assert sha(me) == sha256(DATA)


# What is no proper form


def send(me, body, content_type=f"multipart/form-data; boundary={BOUNDARY}"):
    url = Resumable(b"x", chunk_size=1).request(1)["path"]
    return me.request("POST", url, body, {"Content-Type": content_type})


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 201,
        "multipart/form-data; boundary=bö",
    ],
)
def test_a_form_needs_a_proper_boundary(me, content_type):
    answer = send(me, form({}, b"x")[0], content_type)
    assert (answer.status, answer.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize(
    "body",
    [
        b"no form at all",
        form({"a": "b"})[0],
        f"--{BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\n".encode(),
        f"--{BOUNDARY}\r\nX: {'x' * 5000}\r\n\r\nabc".encode(),
        form({"a": "x" * 300_000}, b"x")[0],
        form({f"n{number}": "" for number in range(300)}, b"x")[0],
        form({"x" * 700 + str(number): "" for number in range(500)}, b"x")[0],
        b"preamble" * 50_000 + form({}, b"x")[0],
    ],
    ids=range(8),
)
def test_what_is_no_form_with_a_file_is_refused(me, body):
    answer = send(me, body)
    assert (answer.status, answer.json()["code"]) == (400, "invalid")
    assert not UploadSession.objects.exists()


def test_a_preamble_and_fields_behind_the_file_do_no_harm(me):
    after = form({"after": "x", "csrfmiddlewaretoken": "x"}, b"second file")[0]
    end = f"--{BOUNDARY}--\r\n".encode()
    body = b"preamble\r\n" + form({}, b"x")[0].removesuffix(end) + after + b"epilogue"
    assert send(me, body).status == 200
    assert sha(me) == sha256(b"x")


def test_a_name_in_another_charset_is_still_a_name(me):
    body = form({}, b"x", "b\xe4r.bin")[0].replace("b\xe4r".encode(), b"b\xe4r")
    assert send(me, body).status == 200


@pytest.mark.parametrize("behind", [b"x", b"-", b"\nX", b" x", b"--x: y"])
def test_a_delimiter_with_something_behind_it_is_no_proper_one(me, behind):
    body, headers = form({"a": "1"}, DATA)
    delimiter = f"--{BOUNDARY}".encode()
    body = body.replace(delimiter, delimiter + behind, 1)
    assert send(me, body).status == 400
    assert not UploadSession.objects.exists()


def test_what_follows_the_form_has_its_limit(me):
    assert send(me, form({}, b"x")[0] + b"x" * 300_000).status == 400


def test_a_part_in_a_transfer_encoding_is_refused(me):
    head = b"Content-Type: application/octet-stream"
    body = form({}, b"eA==")[0].replace(
        head, head + b"\r\nContent-Transfer-Encoding: base64"
    )
    assert send(me, body).status == 400


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_chunk_in_base64_is_refused_with_the_reason(me, size):
    field = "data:application/octet-stream;base64," + "QUJD" * (size // 3)
    answer = send(me, form({"file": field})[0])
    assert answer.status == 400
    assert "base64" in answer.json()["detail"]
    assert not UploadSession.objects.exists()


def test_a_field_that_only_looks_like_a_chunk_in_base64_is_none(me, file):
    picture = {"thumbnail": "data:image/png;base64,QUJD"}
    assert file.send(me, 1, fields=picture).status == 200


def test_more_bytes_than_the_chunk_has_are_refused(me, file):
    assert file.send(me, 1, data=DATA + b"x").status == 400
    assert finished() == {}


def test_fewer_bytes_than_the_chunk_has_are_refused(me, file):
    assert file.send(me, 1, data=DATA[:-1]).status == 400
    assert Chunk.objects.count() == 0


# CSRF


def test_without_a_token_nothing_is_taken(me, file):
    request = file.request(1)
    request["headers"] |= NO_TOKEN
    assert me.request(**request).status == 400
    fine = Fine(b"x")
    request = fine.request()
    request["headers"] |= NO_TOKEN
    answer = me.request(**request)
    assert answer.status == 403
    assert answer.json()["preventRetry"] is True
    assert not UploadSession.objects.exists()
    assert staged() == 0


@pytest.mark.parametrize("logged_in", [False, True])
def test_the_token_may_come_as_a_field_before_the_file(
    file, django_user_model, logged_in
):
    user = django_user_model.objects.create_user("ann") if logged_in else None
    me = Visitor(user)
    request = file.request(1, fields={"csrfmiddlewaretoken": me.token})
    request["headers"] |= NO_TOKEN
    assert me.request(**request).status == 200
    upload = UploadSession.objects.get()
    assert upload.user == user
    assert "csrf" not in str(upload.metadata)


def test_a_wrong_token_in_a_field_is_refused(me, file):
    request = file.request(1, fields={"csrfmiddlewaretoken": "x" * 32})
    request["headers"] |= NO_TOKEN
    assert me.request(**request).status == 400


def test_a_token_in_the_address_is_none(me, file):
    request = file.request(1)
    request["path"] += f"&csrfmiddlewaretoken={me.token}"
    request["headers"] |= NO_TOKEN
    assert me.request(**request).status == 400


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_other_methods_than_post_need_the_token_in_the_header(me, file, method):
    request = file.request(1, method=method, fields={"csrfmiddlewaretoken": me.token})
    assert me.request(**request).status == 200
    request = Resumable(b"other", chunk_size=5).request(
        1, method=method, fields={"csrfmiddlewaretoken": me.token}
    )
    request["headers"] |= NO_TOKEN
    assert me.request(**request).status == 400
