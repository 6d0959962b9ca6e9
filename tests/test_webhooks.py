"""Webhooks: what happens to uploads is told elsewhere, at least once, and signed."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import time
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from resumable_uploads import (
    assembly,
    engine,
    errors,
    inline,
    outbox,
    retention,
    webhooks,
)
from resumable_uploads.models import DeliveryState, State, UploadSession
from resumable_uploads.models import WebhookDelivery as Delivery
from resumable_uploads.policies import UploadPolicy

from . import processes, racing, tus
from .killed import Executioner
from .making import open_upload, sent, use
from .receiver import DRIBBLE, HANG, SECRET, Receiver
from .rows import LIST, row
from .visitor import Visitor

pytestmark = pytest.mark.django_db(transaction=True)

OTHER = "whsec_" + base64.b64encode(b"another one, as long as it has").decode()
EVENTS = list(outbox.EVENTS)


@pytest.fixture
def have(settings):
    """Have one webhook; nobody sends anything unless told to."""

    def make(url="http://127.0.0.1:9/", runner="tests.rest.assembles", **options):
        webhook = {"url": url, "secret": SECRET, "events": EVENTS, **options}
        use(settings, WEBHOOKS={"there": webhook}, RUNNER=runner, FSYNC="never")

    return make


def noted():
    """Return the events in the outbox, and the state of the upload in each body."""
    rows = Delivery.objects.order_by("created_at", "event")
    return [(row.event, json.loads(row.body)["data"]["state"]) for row in rows]


def only():
    return Delivery.objects.get()


def make_due():
    Delivery.objects.update(due_at=timezone.now())


# The outbox


def test_without_webhooks_nothing_is_noted(settings):
    sent(b"abc")
    engine.cancel(open_upload(3))
    assert not Delivery.objects.exists()


def test_every_change_of_state_is_noted(have):
    have()
    sent(b"abc")
    assert noted() == [("created", "receiving"), ("completed", "complete")]
    sent(b"")
    assert noted()[2:] == [("created", "assembling"), ("completed", "complete")]


def test_what_is_opened_and_cancelled_is_noted_once_each(have):
    have()
    upload = open_upload(3)
    engine.cancel(upload)
    engine.cancel(upload)
    assert noted() == [("created", "receiving"), ("cancelled", "cancelled")]


def test_those_that_expire_together_are_noted_one_by_one(have):
    have(events=["expired"])
    past = timezone.now() - timedelta(seconds=1)
    uploads = [row(expires_at=past) for _ in range(3)]
    row()
    assert retention.purge().expired == 3
    assert noted() == [("expired", "expired")] * 3
    found = set(Delivery.objects.values_list("upload", flat=True))
    assert found == {upload.pk for upload in uploads}


def test_a_refused_file_is_noted_with_the_reason(have, settings):
    class Refuses(UploadPolicy):
        def validate(self, upload, file):
            raise errors.Rejected("No.")

    have(events=["failed"])
    use(settings, POLICIES={"default": {"class": Refuses}})
    sent(b"abc")
    data = json.loads(only().body)["data"]
    assert (data["state"], data["error"]) == (
        "rejected",
        {"code": "rejected", "detail": "No."},
    )


def test_a_file_that_cannot_be_made_is_noted_without_what_the_storage_said(
    have, settings, monkeypatch
):
    have(events=["failed"])
    use(settings, ASSEMBLY_ATTEMPTS=1)
    monkeypatch.setattr(assembly, "_assemble", fail)
    sent(b"abc")
    assert "secret" in UploadSession.objects.get().error
    data = json.loads(only().body)["data"]
    assert (data["state"], data["error"]["code"]) == ("failed", "assembly_failed")
    assert "secret" not in only().body


def fail(upload):
    raise OSError("/srv/secret is full")


def test_what_is_undone_has_not_happened(have, monkeypatch):
    have()

    def outrun(*args):
        raise errors.QuotaExceeded

    monkeypatch.setattr(engine.opening, "nudge_if_full", outrun)
    with pytest.raises(errors.QuotaExceeded):
        open_upload(3)
    assert not Delivery.objects.exists()
    assert not UploadSession.objects.exists()


def test_a_completion_that_cannot_be_noted_has_not_happened(have, monkeypatch):
    have(events=["completed"])
    monkeypatch.setattr(outbox, "note", fail_to_note)
    sent(b"abc")
    assert UploadSession.objects.get().state == State.ASSEMBLING


def fail_to_note(event, uploads):
    raise KeyError


def test_who_comes_too_late_to_end_an_upload_notes_nothing(have, monkeypatch):
    have(events=["cancelled", "expired"])
    upload = open_upload(3)
    UploadSession.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    make_token = engine.ending.new_lease

    def cancelled_meanwhile():
        monkeypatch.setattr(engine.ending, "new_lease", make_token)
        engine.cancel(upload)
        return make_token()

    monkeypatch.setattr(engine.ending, "new_lease", cancelled_meanwhile)
    assert not engine.expire(upload)
    assert noted() == [("cancelled", "cancelled")]


def test_of_many_who_cancel_at_once_one_notes_it(have):
    have(events=["cancelled"])
    upload = open_upload(3)
    racing.values(racing.at_once([lambda: engine.cancel(upload)] * 6))
    assert noted() == [("cancelled", "cancelled")]


def test_only_what_is_wanted_is_noted(have, settings):
    have(events=["completed"], policies=["films"])
    use(settings, POLICIES={"default": {}, "films": {}})
    sent(b"abc")
    sent(b"abc", policy="films")
    engine.cancel(open_upload(3, policy="films"))
    assert noted() == [("completed", "complete")]


# What is told


def test_it_is_told_in_the_words_of_the_app(have):
    with Receiver() as receiver:
        have(receiver.url, events=["completed"])
        upload = sent(b"abc", metadata={"a": 1}, content_type="text/plain")
        assert webhooks.deliver() == 1
    (call,) = receiver.calls
    told = call.json()
    assert told["type"] == "upload.completed"
    assert (
        told["data"]
        | {
            "id": str(upload.pk),
            "filename": "film.mp4",
            "size": 3,
            "received": 3,
            "metadata": {"a": 1},
            "user": None,
            "file": {"storage": "default", "name": upload.file.name},
            "error": None,
        }
        == told["data"]
    )
    assert "session:" not in call.body.decode()
    assert call.path == "/hooks?from=uploads"
    assert call.headers["content-type"] == "application/json"


def test_it_is_told_in_the_words_of_tusd(have, settings):
    with Receiver() as receiver:
        have(receiver.url, form="tusd", events=["created", "completed", "cancelled"])
        me = Visitor()
        me.get("/upload/")
        said = tus.metadata(filename="a.txt", note="hi")
        url = tus.create(me, 3, **{"Upload-Metadata": said["Upload-Metadata"]})
        secrets = {"Authorization": "Bearer secret", "Upload-Capability": "secret"}
        tus.patch(me, url, 0, b"abc", **secrets)
        tus.delete(me, url)
        webhooks.deliver()
    calls = {call.json()["Type"]: call for call in receiver.calls}
    assert set(calls) == {"post-create", "post-finish", "post-terminate"}
    event = calls["post-finish"].json()["Event"]
    path = event["Upload"]["Storage"].pop("Path")
    assert path.endswith("/a.txt")
    assert event["Upload"] == {
        "ID": url.rpartition("/")[2],
        "Size": 3,
        "SizeIsDeferred": False,
        "Offset": 3,
        "MetaData": {"filename": "a.txt", "filetype": "", "note": "hi"},
        "IsPartial": False,
        "IsFinal": False,
        "PartialUploads": None,
        "Storage": {"Type": "filestore"},
    }
    request = event["HTTPRequest"]
    assert (request["Method"], request["URI"]) == ("PATCH", url)
    assert request["RemoteAddr"] == "127.0.0.1"
    assert request["Header"]["Upload-Offset"] == ["0"]
    told = b"".join(call.body for call in calls.values())
    assert b"secret" not in told
    assert b"Cookie" not in told
    begun = calls["post-create"].json()["Event"]
    assert (begun["Upload"]["Offset"], begun["Upload"]["Storage"]) == (0, None)


def test_tusd_s_words_for_parts_and_wholes(have):
    have(form="tusd", events=["created"])
    me = Visitor()
    part = tus.create(me, 3, b"abc", Upload_Concat="partial")
    tus.post(me, Upload_Concat=f"final;{part}")
    bodies = Delivery.objects.order_by("created_at").values_list("body", flat=True)
    first, whole = (json.loads(body)["Event"]["Upload"] for body in bodies)
    assert (first["IsPartial"], first["IsFinal"]) == (True, False)
    assert (whole["IsPartial"], whole["IsFinal"]) == (False, True)
    assert whole["PartialUploads"] == [part.rpartition("/")[2]]


@pytest.mark.parametrize("said", ["x", ["x"], {"Upload-Concat": 5}, None])
def test_a_client_s_own_metadata_does_not_keep_it_from_being_told(have, said):
    have(form="tusd", events=["created", "completed"])
    about = {"filename": "a", "size": 0, "metadata": {"request headers": said}}
    assert Visitor().post("/uploads/", about).status == 201
    assert UploadSession.objects.get().state == State.COMPLETE
    assert Delivery.objects.count() == 2


def test_what_happens_without_a_request_tells_of_none(have):
    have()
    open_upload(3)
    assert json.loads(only().body)["data"]["id"]
    assert json.loads(only().body)["data"]["request"] is None


# Signatures


def test_the_signature_is_that_of_the_published_example():
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    message, moment = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert webhooks.signature(secret, message, moment, body) == expected


def test_what_comes_is_signed_by_the_secret_and_no_other(have):
    with Receiver() as receiver:
        have(receiver.url)
        open_upload(3)
        webhooks.deliver()
    (call,) = receiver.calls
    assert call.is_signed_by(SECRET)
    assert not call.is_signed_by(OTHER)
    call.body += b" "
    assert not call.is_signed_by(SECRET)


def test_while_a_secret_is_changed_both_sign(have):
    with Receiver() as receiver:
        have(receiver.url, secret=[OTHER, SECRET])
        open_upload(3)
        webhooks.deliver()
    assert receiver.calls[0].is_signed_by(SECRET)
    assert receiver.calls[0].is_signed_by(OTHER)


# Attempts


def test_what_was_refused_is_sent_again_as_it_was(have):
    with Receiver(500) as receiver:
        have(receiver.url)
        open_upload(3)
        assert webhooks.deliver() == 0
        assert (only().state, only().status, only().attempts) == ("pending", 500, 1)
        assert only().error == "500: thank\ufffdyou"
        assert only().due_at > timezone.now()
        assert webhooks.deliver() == 0, "it is not due yet"
        make_due()
        assert webhooks.deliver() == 1
    assert (only().state, only().status, only().attempts) == ("delivered", 200, 2)
    assert only().error == ""
    first, second = receiver.calls
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert second.is_signed_by(SECRET)


def test_a_redirect_is_not_followed(have):
    with Receiver(302) as receiver:
        have(receiver.url)
        open_upload(3)
        assert webhooks.deliver() == 0
    assert [call.path for call in receiver.calls] == ["/hooks?from=uploads"]
    assert (only().state, only().status) == ("pending", 302)


@pytest.mark.parametrize("status", [HANG, DRIBBLE])
def test_a_receiver_that_takes_too_long_is_given_up(have, settings, status):
    with Receiver(status) as receiver:
        have(receiver.url)
        use(settings, WEBHOOK_TIMEOUT=timedelta(seconds=0.3))
        open_upload(3)
        begun = time.monotonic()
        assert webhooks.deliver() == 0
        assert time.monotonic() - begun < 15
    assert (only().state, only().status) == ("pending", None)
    assert only().error


def test_a_receiver_that_is_not_there_is_tried_again(have):
    have(f"http://127.0.0.1:{processes.free_port()}/")
    open_upload(3)
    assert webhooks.deliver() == 0
    assert only().state == "pending"
    assert "ConnectionRefusedError" in only().error


def test_the_last_attempt_is_the_last(have, settings):
    have(f"http://127.0.0.1:{processes.free_port()}/")
    use(settings, WEBHOOK_ATTEMPTS=2)
    open_upload(3)
    for _ in range(3):
        make_due()
        webhooks.deliver()
    assert (only().state, only().attempts) == ("failed", 2)


def test_who_says_gone_is_left_alone(have):
    with Receiver(410) as receiver:
        have(receiver.url)
        open_upload(3)
        webhooks.deliver()
    assert (only().state, only().status) == ("failed", 410)


def test_a_webhook_that_has_gone_from_the_settings_is_not_sent(have, settings):
    have()
    open_upload(3)
    use(settings, WEBHOOKS={})
    webhooks.deliver()
    assert only().state == "failed"
    assert "settings" in only().error


def test_pauses_grow_and_end_somewhere():
    pauses = [webhooks.pause(attempts) for attempts in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[0] == timedelta(seconds=5)
    assert pauses[-1] == timedelta(days=1)


def test_two_at_once_send_it_once(have):
    with Receiver() as receiver:
        have(receiver.url)
        open_upload(3)
        assert sum(racing.values(racing.at_once([webhooks.deliver] * 3))) == 1
    assert len(receiver.calls) == 1


# Deaths and nudges


def test_a_delivery_whose_sender_has_died_is_sent_by_the_next(have, monkeypatch):
    with Receiver() as receiver:
        have(receiver.url)
        open_upload(3)

        def die(delivery):
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr(webhooks, "_send", die)
            with pytest.raises(SystemExit):
                webhooks.deliver()
        assert webhooks.deliver() == 0, "it may still be on its way"
        make_due()
        assert webhooks.deliver() == 1
    assert (only().attempts, len(receiver.calls)) == (2, 1)


def test_the_runner_inline_sends_without_keeping_the_client_waiting(have):
    with Receiver() as receiver:
        have(receiver.url, runner="inline")
        open_upload(3)
        inline.finish()
        sent(b"abc")
        inline.finish()
    assert [call.json()["type"] for call in receiver.calls][0] == "upload.created"
    assert len(receiver.calls) == 3
    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}


def test_a_slow_receiver_holds_no_request(have, settings):
    with Receiver(HANG) as receiver:
        have(receiver.url, runner="inline")
        use(settings, WEBHOOK_TIMEOUT=timedelta(seconds=20))
        open_upload(3)
        processes.wait_for(lambda: receiver.calls, 10, "it is being told")
        # It has neither arrived nor come to nothing.
        assert (only().state, only().error) == ("pending", "")
        receiver.over.set()
        inline.finish()


def test_a_lost_nudge_is_made_up_for_by_the_schedule(have, settings):
    with Receiver() as receiver:
        have(receiver.url, runner="tests.making.lost_nudge")
        open_upload(3)
        assert receiver.calls == []
        use(settings, RUNNER="inline")
        retention.resend()
        inline.finish()
        assert len(receiver.calls) == 1


def test_a_command_ends_when_it_has_sent_what_is_due(have, settings):
    with Receiver() as receiver:
        have(receiver.url, runner="tests.making.lost_nudge")
        open_upload(3)
        use(settings, RUNNER="inline")
        # What else it finds is of no interest here.
        with contextlib.suppress(CommandError):
            call_command("uploads_doctor", resend=True, stdout=io.StringIO())
        assert only().state == "delivered"


def test_nothing_is_sent_before_the_commit(have):
    with Receiver() as receiver:
        have(receiver.url, runner="inline")
        upload = open_upload(3)
        inline.finish()
        with transaction.atomic():
            engine.cancel(upload)
            threading.Event().wait(0.05)
            assert len(receiver.calls) == 1
        inline.finish()
        assert len(receiver.calls) == 2


def test_old_deliveries_are_forgotten_but_not_those_that_are_due(have):
    have()
    for _ in range(3):
        open_upload(3)
    first, second, third = Delivery.objects.order_by("created_at")
    long_ago = timezone.now() - timedelta(days=30)
    Delivery.objects.filter(pk__in=[first.pk, second.pk]).update(created_at=long_ago)
    Delivery.objects.filter(pk=first.pk).update(state=DeliveryState.DELIVERED)
    Delivery.objects.filter(pk=third.pk).update(state=DeliveryState.FAILED)
    retention.purge()
    assert set(Delivery.objects.all()) == {second, third}


# kill -9


@pytest.fixture(scope="module")
def executioner(django_db_setup):
    executioner = Executioner(str(connection.settings_dict["NAME"]))
    yield executioner
    executioner.close()


@pytest.fixture
def kill(executioner, settings):
    """Have another process do something, and be killed at a line."""

    def kill(deed, upload, line, when):
        order = {"deed": deed, "upload": str(upload.pk), "line": line, "when": when}
        order |= {"media": str(settings.MEDIA_ROOT), "call": 1, "locks": True}
        uploads = {
            name: settings.RESUMABLE_UPLOADS[name] for name in ("WEBHOOKS", "RUNNER")
        }
        assert executioner.carry_out(order | {"uploads": uploads}) == -9

    return kill


def test_a_process_that_dies_before_it_has_told_is_followed_by_the_next(have, kill):
    with Receiver() as receiver:
        have(receiver.url, runner="inline", events=["cancelled"])
        upload = open_upload(3)
        kill("cancel", upload, "resumable_uploads.runner:_run", "before")
        assert engine.refreshed(upload).state == State.CANCELLED
        assert receiver.calls == []
        assert noted() == [("cancelled", "cancelled")]
        retention.resend()
        inline.finish()
        assert [call.json()["type"] for call in receiver.calls] == ["upload.cancelled"]


def test_a_process_that_dies_before_the_commit_has_told_and_changed_nothing(have, kill):
    have(events=["cancelled"])
    upload = open_upload(3)
    commit = "django.db.backends.base.base:BaseDatabaseWrapper._commit"
    kill("cancel", upload, commit, "before")
    assert engine.refreshed(upload).state == State.RECEIVING
    assert not Delivery.objects.exists()


def test_a_process_that_dies_once_it_has_told_tells_a_second_time(have, kill):
    with Receiver() as receiver:
        have(receiver.url, events=["created"])
        upload = open_upload(3)
        kill("deliver", upload, "resumable_uploads.webhooks:_posted", "after")
        make_due()
        assert webhooks.deliver() == 1
    first, second = receiver.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


# The log in the admin

LOG = LIST.replace("uploadsession", "webhookdelivery")


def test_the_log_is_shown_and_filtered(have, admin_client):
    have()
    upload = open_upload(3)
    engine.cancel(upload)
    Delivery.objects.filter(event="created").update(state="delivered")
    page = admin_client.get(LOG).content.decode()
    assert str(upload.pk) in page
    page = admin_client.get(f"{LOG}?state__exact=delivered").content.decode()
    assert 'field-event">created' in page
    assert 'field-event">cancelled' not in page
    found = admin_client.get(f"{LOG}?q={upload.pk}").content.decode()
    assert "2 webhook deliveries" in found
    assert "0 webhook deliveries" in admin_client.get(f"{LOG}?q=x").content.decode()
    one = Delivery.objects.first()
    page = admin_client.get(f"{LOG}{one.pk}/change/").content.decode()
    assert "upload.c" in page
    assert f"/uploadsession/{upload.pk}/change/" in page
    assert SECRET not in page


def test_the_log_is_not_edited(have, admin_client):
    have()
    open_upload(3)
    path = f"{LOG}{only().pk}/change/"
    assert admin_client.post(path, {"state": "failed"}).status_code == 403
    assert admin_client.get(f"{LOG}add/").status_code == 403


def test_a_delivery_is_sent_again(have, admin_client):
    with Receiver() as receiver:
        have(receiver.url, runner="inline")
        open_upload(3)
        inline.finish()
        form = {"action": "send_again", "_selected_action": [str(only().pk)]}
        answer = admin_client.post(LOG, form, follow=True)
        inline.finish()
        assert "1 delivery is sent again." in answer.content.decode()
        first, second = receiver.calls
        assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_who_may_only_look_sends_nothing_again(have, django_user_model, client):
    have()
    open_upload(3)
    user = django_user_model.objects.create_user("looks", is_staff=True)
    permission = "view_webhookdelivery"
    user.user_permissions.add(
        user.user_permissions.model.objects.get(codename=permission)
    )
    client.force_login(user)
    assert client.get(LOG).status_code == 200
    assert b"send_again" not in client.get(LOG).content
