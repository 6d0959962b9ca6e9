"""What a project says about uploads is heard, whatever protocol brings them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from resumable_uploads import assembly, engine, errors, forms, hooks, signals
from resumable_uploads.models import State, UploadSession
from resumable_uploads.policies import UploadPolicy, get_policy
from resumable_uploads.protocols import resumablejs

from . import drafts, tus
from .contracts.protocol import Driver, File, must, refused
from .making import ALICE, body, heard, now, open_upload, read, sent, staged, use
from .rest import change, finished, policies, some_bytes
from .test_bucket_contracts import OssDriver, S3Driver
from .test_client_contracts import ConcurrentFineDriver, FineDriver, ResumableDriver
from .test_client_contracts import RestDriver as JavascriptInfoDriver
from .test_protocol_contracts import RestByPatch, RestByPut
from .test_tus_contracts import DraftDriver, TusDriver
from .visitor import Visitor

# Files in buckets are made while their clients wait: commits have to be real ones.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

DRIVERS = {
    "put": RestByPut(),
    "patch": RestByPatch(),
    "tus": TusDriver(),
    "ietf": DraftDriver(),
    "resumablejs": ResumableDriver(),
    "fineuploader": FineDriver(),
    "fineuploader-concurrent": ConcurrentFineDriver(),
    "javascript.info": JavascriptInfoDriver(),
    "oss": OssDriver(),
    "s3": S3Driver(),
}
WORDS = "Not before the stock exchange opens."


@pytest.fixture(params=DRIVERS)
def driver(request) -> Driver:
    return DRIVERS[request.param]


@pytest.fixture(autouse=True)
def quick(settings, monkeypatch):
    """Let nobody wait: for a first chunk that does not come, for a second to pass."""
    monkeypatch.setattr(resumablejs, "FIRST_CHUNK_TAKES", 0.05)
    monkeypatch.setattr(resumablejs, "LOOK_EVERY", 0.01)
    # A process that has told nobody yet, for which the first look is as good as late.
    monkeypatch.setattr(hooks, "_clock", EagerClock())
    change(settings, PROGRESS_EVERY=timedelta(microseconds=1), FSYNC="never")
    change(settings, BUCKETS={"demo-bucket": {"min_part_size": 0}})


class EagerClock(hooks._Clock):
    def is_due(self, pk: uuid.UUID, interval: float) -> bool:
        return True


@pytest.fixture
def me():
    return Visitor()


@pytest.fixture
def file(driver):
    data = some_bytes(5 * driver.piece // 2)
    return File(data, size=len(data), key="my file")


@pytest.fixture
def have(settings) -> Callable[..., list[Any]]:
    """Have these hooks in the default policy; return what they are called with."""

    def make(**methods: Callable[..., Any]) -> list[Any]:
        calls: list[Any] = []

        def noting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
            def call(self: Any, *args: Any) -> Any:
                calls.append((name, *args))
                return method(*args)

            return call

        kept = settings.RESUMABLE_UPLOADS["POLICIES"]["default"]
        found = {name: noting(name, method) for name, method in methods.items()}
        hooked = type("Hooked", (UploadPolicy,), found)
        policies(settings, default={**kept, "class": hooked})
        return calls

    return make


@contextmanager
def listening(signal: Any, receiver: Callable[..., Any]) -> Iterator[list[Any]]:
    """Have a receiver for a signal; yield what it is called with."""
    calls: list[Any] = []

    def receive(sender: Any, signal: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return receiver(**kwargs)

    signal.connect(receive)
    try:
        yield calls
    finally:
        signal.disconnect(receive)


def nothing(*args: Any) -> None:
    """Be told, and do nothing."""


def raising(error: Exception) -> Callable[..., Any]:
    def hook(*args: Any, **kwargs: Any) -> None:
        raise error

    return hook


def upload_all(driver: Driver, me: Any, file: File) -> None:
    handle = driver.begin(me, file)
    driver.send_all(me, handle, file)
    driver.finish(me, handle, file)


# In every protocol


def test_what_a_hook_changes_before_the_creation_is_kept(driver, me, file, have):
    def change_all(owner, new):
        assert owner.key
        new.filename, new.relative_path = "../renamed.bin", "from/a/hook"
        new.content_type = "application/x-hooked"
        new.metadata["by"] = ["a", "hook"]

    calls = have(pre_create=change_all, post_create=nothing, post_finish=nothing)
    upload_all(driver, me, file)
    upload = UploadSession.objects.get()
    assert read(upload) == file.data
    assert (upload.filename, upload.relative_path) == ("renamed.bin", "from/a/hook")
    assert upload.content_type == "application/x-hooked"
    assert upload.metadata["by"] == ["a", "hook"]
    names = [name for name, *_ in calls]
    assert names == ["pre_create", "post_create", "post_finish"]
    assert {args[0].pk for _, *args in calls[1:]} == {upload.pk}


def test_a_refusal_is_heard_in_the_protocol_and_stores_nothing(driver, me, file, have):
    have(pre_create=raising(errors.Rejected(WORDS, status=451)))
    refusal = refused(lambda: upload_all(driver, me, file))
    # Resumable.js gives up after a few statuses only, so it is told one of those.
    assert refusal.status == (400 if isinstance(driver, ResumableDriver) else 451)
    assert WORDS.encode() in refusal.body
    assert not UploadSession.objects.exists()
    assert finished() == {}


def test_a_hook_that_fails_before_the_creation_is_503_and_may_be_asked_again(
    driver, me, file, have, caplog
):
    have(pre_create=raising(KeyError("nobody's fault")))
    refusal = refused(lambda: upload_all(driver, me, file))
    assert refusal.status == 503
    assert refusal.headers["Retry-After"]
    assert b"nobody" not in refusal.body
    assert "nobody's fault" in caplog.text
    assert not UploadSession.objects.exists()
    have(pre_create=nothing)
    upload_all(driver, me, file)
    assert read(UploadSession.objects.get()) == file.data


def test_an_upload_that_is_stopped_is_told_so_and_leaves_no_bytes(
    driver, me, file, have
):
    handle = driver.begin(me, file)
    driver.send(me, handle, file, 0)
    have(progress=raising(errors.Rejected(WORDS)))
    with heard(signals.upload_failed) as told:
        refusal = refused(lambda: driver.send(me, handle, file, 1))
    assert refusal.status in (400, 422)
    assert WORDS.encode() in refusal.body
    upload = UploadSession.objects.get()
    assert (upload.state, upload.error_code) == (State.REJECTED, "stopped")
    assert upload.error == WORDS
    assert told == [upload.pk]
    assert staged(upload.pk) == []
    if not driver.named_by_client:
        assert refused(lambda: driver.send(me, handle, file, 1)).status < 500


def test_hooks_that_fail_cost_no_byte(driver, me, file, have, caplog):
    mistake = raising(RuntimeError("a mistake"))
    calls = have(progress=mistake, post_create=mistake, post_finish=mistake)
    with listening(signals.upload_progress, mistake) as heard_of:
        upload_all(driver, me, file)
    upload = UploadSession.objects.get()
    assert upload.state == State.COMPLETE
    assert read(upload) == file.data
    assert {name for name, *_ in calls} == {"progress", "post_create", "post_finish"}
    assert heard_of
    assert caplog.text.count("a mistake") >= 4


def test_progress_is_told_with_what_has_come(driver, me, file, have):
    calls = have(progress=nothing)
    with listening(signals.upload_progress, nothing) as heard_of:
        upload_all(driver, me, file)
    told = [received for _, _, received in calls]
    assert told == [call["received"] for call in heard_of]
    assert max(told) == len(file.data)
    assert min(told) > 0
    assert all(upload == UploadSession.objects.get() for _, upload, _ in calls)


def test_a_receiver_refuses_a_file_before_it_is_complete(driver, me, file):
    def look(upload, file):
        assert file.read(3)
        raise errors.Rejected(WORDS)

    with listening(signals.upload_pre_finish, look) as calls:
        refusal = refused(lambda: upload_all(driver, me, file))
    upload = UploadSession.objects.get()
    assert (upload.state, upload.error) == (State.REJECTED, WORDS)
    assert len(calls) == 1
    assert finished() == {}
    # Where bytes and end come together, the answer tells.
    assert refusal is None or refusal.status < 500


# Before an upload is opened


def test_receivers_of_the_signal_may_change_and_refuse_too(me):
    def change_it(owner, policy, protocol, new):
        assert (policy.name, protocol) == ("default", "rest")
        if new.filename == "b.bin":
            raise errors.Rejected(WORDS, status=402)
        new.filename = f"of-{owner.key[:8]}.bin"

    with listening(signals.upload_pre_create, change_it):
        answer = me.post("/uploads/", {"filename": "a.bin", "size": 3})
        assert answer.json()["filename"] == "of-session:.bin"
        answer = me.post("/uploads/", {"filename": "b.bin", "size": 3})
        assert (answer.status, answer.json()["code"]) == (402, "rejected")
        assert answer.json()["detail"] == WORDS


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.Rejected(), 422, "rejected"),
        (errors.TypeNotAllowed(), 422, "type_not_allowed"),
        (errors.QuotaExceeded(), 413, "quota_exceeded"),
        (ValidationError(["One.", "Two."]), 422, "rejected"),
        (PermissionDenied("secret"), 403, "permission_denied"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_errors_of_uploads_and_of_django_are_refusals(me, have, error, status, code):
    have(pre_create=raising(error))
    answer = me.post("/uploads/", {"filename": "a.bin", "size": 3})
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert b"secret" not in answer.body


def test_a_status_has_to_be_one_that_refuses():
    with pytest.raises(ValueError, match="200"):
        errors.Rejected("Yes!", status=200)


def test_the_limits_hold_for_what_a_hook_has_made_of_it(me, have, settings):
    settings.RESUMABLE_UPLOADS |= {
        "POLICIES": {"default": {"allowed_extensions": [".pdf"]}}
    }

    def rename(owner, new):
        new.filename = "b.exe"

    have(pre_create=rename)
    answer = me.post("/uploads/", {"filename": "b.pdf", "size": 3})
    assert answer.json()["code"] == "type_not_allowed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metadata", {"when": timezone.now()}),
        ("metadata", {"a": float("inf")}),
        ("metadata", {"a": "\0"}),
        ("metadata", {"a": "\ud800"}),
        ("metadata", []),
        ("filename", None),
    ],
)
def test_what_cannot_be_kept_is_the_hook_s_mistake(me, have, name, value):
    have(pre_create=lambda owner, new: setattr(new, name, value))
    answer = me.post("/uploads/", {"filename": "a.bin", "size": 3})
    assert (answer.status, answer.json()["code"]) == (503, "hook_failed")
    assert not UploadSession.objects.exists()


def test_a_backslash_is_no_mistake(me, have):
    have(pre_create=nothing)
    said = {"filename": "a.bin", "size": 3, "metadata": {"path": "C:\\u0000"}}
    assert me.post("/uploads/", said).json()["metadata"] == {"path": "C:\\u0000"}


def test_a_hook_changes_nothing_else(me, have):
    def change_more(owner, new):
        new.length, new.chunk_size, new.client_key = 99, 1, "other"

    have(pre_create=change_more)
    said = {"filename": "a.bin", "size": 3, "chunk_size": 2, "client_key": "k"}
    upload = me.post("/uploads/", said).json()
    assert {name: upload[name] for name in said} == said


def test_what_a_protocol_keeps_for_itself_stays(me, have):
    def empty(owner, new):
        new.metadata = {"request headers": "gone", "mine": 1}

    have(pre_create=empty)
    part = tus.create(me, 3, b"abc", Upload_Concat="partial")
    final = tus.post(me, Upload_Concat=f"final;{part}")
    assert final.status == 201, final.body
    assert tus.head(me, part).headers["Upload-Concat"] == "partial"
    assert UploadSession.objects.get(state=State.COMPLETE).metadata["mine"] == 1
    plain = tus.create(me, 3)
    assert tus.head(me, plain).status == 200


def test_the_hook_is_asked_of_parts_and_of_the_whole(me, have):
    calls = have(pre_create=nothing)
    part = tus.create(me, 3, b"abc", Upload_Concat="partial")
    must(tus.post(me, Upload_Concat=f"final;{part}"), 201)
    assert [new.is_part for _, _, new in calls] == [True, False]


def test_who_comes_back_to_an_open_upload_is_not_asked_again(me, have):
    calls = have(pre_create=nothing)
    for _ in range(2):
        me.post("/uploads/", {"filename": "a", "size": 3, "client_key": "k"})
    assert len(calls) == 1


def test_who_opens_an_upload_at_the_same_moment_as_another_is_asked_once(
    have, monkeypatch
):
    calls = have(pre_create=nothing)
    check, outruns = engine.opening._check_not_completed, iter([True, True, False])

    def outrun(*args):
        if next(outruns):
            raise engine.opening.Outrun
        check(*args)

    monkeypatch.setattr(engine.opening, "_check_not_completed", outrun)
    open_upload(3, client_key="k")
    assert len(calls) == 1


@pytest.mark.parametrize("error", [errors.Rejected(WORDS), KeyError()])
def test_a_creation_with_bytes_that_is_refused_keeps_none(me, have, error):
    have(pre_create=raising(error))
    assert tus.post(me, b"hello", Upload_Length=5).status in (422, 503)
    assert drafts.create(me, b"hello", ends=True).status in (422, 503)
    assert not UploadSession.objects.exists()


def test_a_refusal_names_itself_as_tusd_does(me, have):
    have(pre_create=raising(errors.Rejected(WORDS, status=400)))
    answer = tus.post(me, Upload_Length=5)
    assert (answer.status, answer.body) == (
        400,
        f"ERR_UPLOAD_REJECTED: {WORDS}\n".encode(),
    )


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (None, "Invalid")])
def test_a_bucket_has_a_code_of_its_vendor_for_a_refusal(me, have, status, code):
    have(pre_create=raising(errors.Rejected(WORDS, status=status)))
    answer = S3Driver().client(me).request("POST", "a.bin", uploads="")
    assert answer.status == (status or 400)
    assert f"<Code>{code}".encode() in answer.body


# In forms


def test_a_form_tells_what_a_hook_says(have):
    have(pre_create=raising(errors.Rejected(WORDS)))
    file = SimpleUploadedFile("a.txt", b"hello")
    with pytest.raises(ValidationError, match=WORDS):
        forms._received(ALICE, get_policy("default"), file)
    assert not UploadSession.objects.exists()


def test_what_a_form_brings_passes_all_hooks(have):
    calls = have(
        pre_create=lambda owner, new: setattr(new, "filename", "b.txt"),
        progress=nothing,
        post_finish=nothing,
    )
    file = SimpleUploadedFile("a.txt", b"hello")
    upload = forms.receive(ALICE, get_policy("default"), file)
    assert upload.filename == "b.txt"
    assert [name for name, *_ in calls] == ["pre_create", "progress", "post_finish"]


# While bytes come


def test_progress_is_told_about_once_in_an_interval():
    clock, upload, other = hooks._Clock(), uuid.uuid4(), uuid.uuid4()
    assert not clock.is_due(upload, 0.0), "the first look starts the clock"
    assert clock.is_due(upload, 0.0)
    assert not clock.is_due(upload, 3600.0)
    assert not clock.is_due(other, 0.0)
    assert clock.is_due(other, 0.0)


def test_the_clock_does_not_remember_all_that_has_ever_come(monkeypatch):
    monkeypatch.setattr(hooks, "_REMEMBERED", 10)
    clock = hooks._Clock()
    for _ in range(100):
        clock.is_due(uuid.uuid4(), 1.0)
    assert len(clock._told) <= 10


def test_who_asks_for_nothing_pays_nothing():
    upload, given = open_upload(10), body(b"0123456789")
    assert hooks.watch(upload) is None
    engine.append(upload, 0, given)
    assert given.watch is None


def test_progress_costs_no_statement(me, have):
    def statements() -> int:
        url = me.post("/uploads/", {"filename": "a", "size": 9}).json()["url"]
        with CaptureQueriesContext(connection) as asked:
            assert me.put(f"{url}chunks/0/", b"012345678").status == 201
        return len(asked)

    before = statements()
    calls = have(progress=nothing)
    with listening(signals.upload_progress, nothing) as heard_of:
        assert statements() == before
    assert calls
    assert heard_of


def test_progress_tells_of_bytes_before_they_are_recorded(have):
    calls = have(progress=nothing)
    upload = open_upload(10)
    seen = []
    engine.append(
        upload, 0, body(b"01234", lambda: seen.append(now(upload).received), b"56789")
    )
    assert [received for *_, received in calls] == [5, 10]
    assert seen == [0]


def test_a_repeat_of_a_chunk_is_no_progress(have):
    upload = open_upload(10, 5)
    engine.put_chunk(upload, 0, body(b"01234"))
    calls = have(progress=nothing)
    engine.put_chunk(now(upload), 0, body(b"01234"))
    assert calls == []


def test_a_stop_in_the_middle_of_a_body_reads_no_further(have):
    upload = open_upload(10)
    have(progress=raising(errors.Rejected(WORDS, status=403)))
    with pytest.raises(errors.Stopped, match=WORDS) as stopped:
        engine.append(upload, 0, body(b"01234", pytest.fail, length=10))
    assert stopped.value.status == 403
    assert staged(upload.pk) == []


# Before the end


@pytest.mark.parametrize("error", [errors.Rejected(WORDS), ValidationError(WORDS)])
def test_both_the_policy_and_receivers_see_the_whole_file(settings, error):
    seen = []

    class Looks(UploadPolicy):
        def validate(self, upload, file):
            seen.append(file.read())

    def look(upload, file):
        seen.append(file.read())
        raise error

    use(settings, POLICIES={"default": {"class": Looks}})
    with listening(signals.upload_pre_finish, look):
        upload = sent(b"all of it")
    assert seen == [b"all of it", b"all of it"]
    assert (upload.state, upload.error) == (State.REJECTED, WORDS)


def test_a_receiver_that_fails_at_the_end_is_asked_again(caplog):
    answers: list[Exception | None] = [RuntimeError("out of order"), None]

    def look(upload, file):
        if error := answers.pop(0):
            raise error

    caplog.set_level(logging.ERROR)
    with listening(signals.upload_pre_finish, look):
        upload = sent(b"all of it")
        assert upload.state == State.ASSEMBLING
        UploadSession.objects.update(retry_at=None)
        assert assembly.assemble(upload.pk)
    assert read(upload) == b"all of it"


# After the end


def test_the_end_is_told_after_cancelling_and_after_expiry(have):
    calls = have(post_terminate=nothing)
    cancelled, late = open_upload(3), open_upload(3)
    engine.cancel(cancelled)
    engine.cancel(cancelled)
    past = timezone.now() - timedelta(seconds=1)
    UploadSession.objects.filter(pk=late.pk).update(expires_at=past)
    assert now(late).state == State.EXPIRED
    assert [(upload.pk, upload.state) for _, upload in calls] == [
        (cancelled.pk, State.CANCELLED),
        (late.pk, State.EXPIRED),
    ]


def test_an_end_is_an_end_also_where_its_hook_fails(have, caplog):
    have(post_terminate=raising(RuntimeError("a mistake")))
    upload = open_upload(3)
    engine.cancel(upload)
    row = UploadSession.objects.get()
    assert (row.state, row.settled) == (State.CANCELLED, True)
    assert "a mistake" in caplog.text
