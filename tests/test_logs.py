"""The log tells what happens to which upload, in whole lines, and no secret."""

from __future__ import annotations

import json
import logging
import sys
import uuid

import pytest
from django.contrib.auth.models import User

from resumable_uploads import engine
from resumable_uploads.logs import JsonFormatter, LineFormatter, one_line
from resumable_uploads.owners import Owner

from . import tus
from .buckets import OssClient, S3Client, credentials
from .making import ALICE, open_upload, sent
from .rest import open_upload as opened
from .rest import send_file
from .visitor import Visitor

LINE = LineFormatter("{levelname} {name}: {message}", style="{")


def record(message: str, *args: object, **facts: object) -> logging.LogRecord:
    made = logging.getLogger("app").makeRecord(
        "app", logging.WARNING, __file__, 1, message, args, None, extra=facts
    )
    return made


def test_a_message_cannot_begin_a_line_of_its_own():
    forged = record("Not found: %s", "/x\n2026-11-21 ERROR app: all is lost\x1b[31m")
    said = LINE.format(forged)
    assert said.count("\n") == 0
    assert "\\n2026" in said
    assert "\x1b" not in said
    assert json.loads(JsonFormatter().format(forged))["message"].count("\n") == 1
    assert JsonFormatter().format(forged).count("\n") == 0


@pytest.mark.parametrize("text", ["plain", "Größe 5 µm", "😀", ""])
def test_text_that_is_one_line_stays_as_it_is(text):
    assert one_line(text) == text


@pytest.mark.parametrize("text", ["\r", "a\u2028b", "\u202e", "\x00", "\x85", "\ud800"])
def test_what_is_no_text_of_one_line_is_escaped(text):
    assert one_line(text).isprintable()
    assert len(one_line(text).splitlines()) == 1


def test_a_traceback_is_kept_in_the_record():
    try:
        raise ValueError("a\nb")
    except ValueError:
        failed = logging.getLogger("app").makeRecord(
            "app", logging.ERROR, __file__, 1, "Failed", (), sys.exc_info()
        )
    said = JsonFormatter().format(failed)
    assert "\n" not in said
    assert "ValueError" in json.loads(said)["exception"]


def test_a_record_about_an_upload_has_its_id():
    pk = uuid.uuid4()
    for made in (
        record("Upload %s could not be released", pk),
        record("Could not have %s done for %s", "assemble", (pk,)),
    ):
        assert json.loads(JsonFormatter().format(made))["upload_id"] == str(pk)
    assert "upload_id" not in json.loads(JsonFormatter().format(record("%s", 5)))


def test_what_belongs_to_a_request_is_left_out_but_for_its_status():
    made = record("Forbidden", request=object(), status_code=403, list_of=[1])
    said = json.loads(JsonFormatter().format(made))
    assert said["status_code"] == 403
    assert not {"request", "list_of"} & set(said)


# What is logged


def events(caplog) -> list[tuple[str, str]]:
    return [
        (str(made.args[0]), made.event)
        for made in caplog.records
        if made.name == "resumable_uploads.uploads"
    ]


@pytest.mark.django_db(transaction=True)
def test_an_uploads_life_is_logged(caplog):
    caplog.set_level(logging.INFO, "resumable_uploads")
    upload = sent(b"0123456789", 5)
    other = open_upload(10)
    engine.cancel(other)
    assert events(caplog) == [
        (str(upload.pk), "opened"),
        (str(upload.pk), "completed"),
        (str(other.pk), "opened"),
        (str(other.pk), "cancelled"),
    ]
    said = json.loads(JsonFormatter().format(caplog.records[1]))
    assert said["upload_id"] == str(upload.pk)
    assert (said["size"], said["received"]) == (10, 10)
    assert (said["protocol"], said["policy"]) == ("test", "default")


@pytest.mark.django_db(transaction=True)
def test_a_user_is_named_in_the_log_and_a_visitor_is_not(caplog):
    caplog.set_level(logging.INFO, "resumable_uploads")
    user = User.objects.create_user("ann")
    open_upload(10, owner=Owner(f"user:{user.pk}", user))
    open_upload(10, owner=ALICE)
    owners = [made.owner for made in caplog.records if hasattr(made, "owner")]
    assert owners == [f"user:{user.pk}", "visitor"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.once
@pytest.mark.parametrize("kind", [OssClient, S3Client])
def test_no_secret_is_logged(caplog, kind):
    """Do what brings secrets along, well and badly, with all loggers wide open."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("django.db.backends").setLevel(logging.INFO)
    me = Visitor()
    held = credentials(me)
    client = kind(me, held)
    assert client.request("PUT", "k", b"data").status == 200
    for link, status in (
        (client.presigned("GET", "k"), 200),
        (client.presigned("GET", "not there"), 404),
        (client.presigned("GET", "k")[:-1], 403),
    ):
        assert me.get(link, Host=client.host).status == status
    wrong = kind(me, held | {"AccessKeySecret": "wrong"})
    assert wrong.request("PUT", "k", b"data").status == 403
    send_file(me, filename="a name of mine.bin", metadata={"word": "a word of mine"})
    upload = opened(me)
    me.request("PUT", upload["url"], b"x", {"X-CSRFToken": "a forged token"})
    tus.post(me, Upload_Length=5, **tus.metadata(filename="a name of mine.bin"))
    me.get("/my-uploads/")
    me.get("/nowhere/", authorization="Bearer a-bearer-of-mine")
    secrets = [
        held["AccessKeySecret"],
        held["SecurityToken"],
        me.token,
        me.client.cookies["sessionid"].value,
        me.client.session["resumable_uploads_owner"],
        "a forged token",
        "a name of mine",
        "a word of mine",
        "a-bearer-of-mine",
        "Signature",
    ]
    told = "\n".join(
        formatter.format(made)
        for made in caplog.records
        # The signers of the clients are no part of the site.
        if made.name.startswith(("django", "resumable_uploads"))
        for formatter in (LINE, JsonFormatter())
    )
    assert "Not Found" in told
    assert upload["id"] in told
    for secret in secrets:
        assert secret not in told
