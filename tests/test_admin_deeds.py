"""What an operator does to uploads: cancel, retry, extend, purge."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.utils import timezone

from resumable_uploads import engine, signals
from resumable_uploads.admin import UploadSessionAdmin, performing
from resumable_uploads.conf import setting
from resumable_uploads.models import Chunk, State, UploadSession

from .making import (
    body,
    content,
    heard,
    open_upload,
    read,
    sent,
    staged,
    staging,
    use,
    use_policy,
)
from .rows import LIST, fresh, page_of, row, staff

pytestmark = pytest.mark.django_db(transaction=True)
DATA = content(95)


def do(client, name, *uploads, confirmed=True, query="", **form):
    """Send the form of an action; return the page that follows."""
    form |= {"action": name, "_selected_action": [str(one.pk) for one in uploads]}
    if confirmed:
        form["confirmed"] = "yes"
    return client.post(LIST + query, form, follow=True)


def begun():
    upload = open_upload(95, 10)
    engine.put_chunk(upload, 3, body(DATA[30:40]))
    return upload


def failed(settings, **facts):
    """Return an upload that is all there, whose assembly has failed."""
    runner = settings.RESUMABLE_UPLOADS["RUNNER"]
    use(settings, RUNNER="tests.making.lost_nudge")
    upload = sent(DATA, 10)
    use(settings, RUNNER=runner)
    facts = {"state": State.FAILED, "attempts": 8, "error": "Full"} | facts
    UploadSession.objects.filter(pk=upload.pk).update(**facts)
    return fresh(upload)


# Cancel


def test_cancelling_asks_before_it_drops_anything(admin_client):
    upload = begun()
    page = do(admin_client, "cancel_uploads", upload, confirmed=False)
    text = page.content.decode()
    assert "What these uploads have sent is dropped; they cannot be resumed." in text
    assert f'name="_selected_action" value="{upload.pk}"' in text
    assert fresh(upload).state == State.RECEIVING
    assert staged(upload.pk)


def test_a_confirmed_cancel_drops_the_bytes(admin_client):
    upload = begun()
    with heard(signals.upload_cancelled) as ids:
        page = do(admin_client, "cancel_uploads", upload)
    assert "1 upload was cancelled." in page.content.decode()
    assert ids == [upload.pk]
    assert fresh(upload).state == State.CANCELLED
    assert not staged(upload.pk)


def test_cancelling_leaves_what_is_complete(admin_client):
    done, open_one = sent(DATA), begun()
    page = do(admin_client, "cancel_uploads", done, open_one, confirmed=False)
    text = page.content.decode()
    assert "This cannot be done to:" in text
    assert f'value="{done.pk}"' not in text
    page = do(admin_client, "cancel_uploads", done, open_one)
    text = page.content.decode()
    assert "“film.mp4”: nothing to do, as it is complete." in text
    assert "1 upload was cancelled." in text
    assert read(done) == DATA


# Retry


def test_a_failed_assembly_is_tried_again(admin_client, settings):
    upload = failed(settings)
    page = do(admin_client, "retry_assembly", upload)
    assert "Another attempt was asked for 1 upload." in page.content.decode()
    assert read(upload) == DATA
    assert fresh(upload).state == State.COMPLETE


def test_a_retry_that_fails_as_well_is_said_to(admin_client, settings):
    use(settings, ASSEMBLY_ATTEMPTS=1)
    upload = failed(settings)
    for path in staging().rglob("data"):
        path.unlink()
    page = do(admin_client, "retry_assembly", upload)
    assert "The file could not be made this time either." in page.content.decode()
    assert fresh(upload).state == State.FAILED


def test_only_what_has_failed_is_retried(admin_client):
    upload = begun()
    page = do(admin_client, "retry_assembly", upload)
    assert "“film.mp4”: nothing to do, as it is receiving." in page.content.decode()
    assert fresh(upload).state == State.RECEIVING


def test_the_engine_works_where_requests_are_transactions(
    admin_client, settings, monkeypatch
):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    upload = failed(settings)
    do(admin_client, "retry_assembly", upload)
    assert read(upload) == DATA


# Extend


def test_an_upload_gets_another_lifetime(admin_client, settings):
    use_policy(
        settings, expires_in=timedelta(days=2), expires_at_most=timedelta(days=3)
    )
    upload = begun()
    before = fresh(upload).expires_at
    page = do(admin_client, "extend_expiry", upload)
    assert "1 upload was extended." in page.content.decode()
    assert fresh(upload).expires_at == before + timedelta(days=2)


def test_an_overdue_upload_is_saved_from_the_purge(admin_client):
    upload = row(expires_at=timezone.now() - timedelta(days=30))
    do(admin_client, "extend_expiry", upload)
    left = fresh(upload).expires_at - timezone.now()
    assert abs(left - setting("RECORDS_EXPIRE_IN")) < timedelta(minutes=1)


@pytest.mark.parametrize("state", [State.COMPLETE, State.EXPIRED, State.ASSEMBLING])
def test_what_does_not_wait_is_not_extended(admin_client, state):
    upload = row(state=state)
    do(admin_client, "extend_expiry", upload)
    assert fresh(upload).expires_at == upload.expires_at


def test_an_upload_whose_policy_is_gone_is_not_extended(admin_client):
    upload = row(policy="videos")
    page = do(admin_client, "extend_expiry", upload)
    assert "There is no upload policy" in page.content.decode()


# Purge


def test_purging_asks_first(admin_client):
    upload = begun()
    page = do(admin_client, "purge_now", upload, confirmed=False)
    assert "Finished files stay." in page.content.decode()
    assert fresh(upload).state == State.RECEIVING


def test_a_purged_upload_leaves_nothing(admin_client):
    upload = begun()
    with heard(signals.upload_expired) as ids:
        page = do(admin_client, "purge_now", upload)
    assert "1 upload was purged." in page.content.decode()
    assert ids == [upload.pk]
    assert not UploadSession.objects.exists()
    assert not Chunk.objects.exists()
    assert not staged(upload.pk)


def test_a_record_of_what_has_ended_is_purged_too(admin_client):
    upload = begun()
    engine.cancel(upload)
    do(admin_client, "purge_now", upload)
    assert not UploadSession.objects.exists()


def test_a_finished_file_is_never_purged(admin_client):
    upload = sent(DATA)
    do(admin_client, "purge_now", upload)
    assert read(upload) == DATA


def test_what_is_in_use_is_not_purged(admin_client):
    upload = row(claimed_at=timezone.now())
    page = do(admin_client, "purge_now", upload)
    assert "The upload is in use. Cancel it instead." in page.content.decode()
    assert fresh(upload).state == State.RECEIVING
    assert fresh(upload).expires_at == upload.expires_at


def test_a_record_stays_while_its_bytes_do(admin_client, monkeypatch):
    monkeypatch.setattr(engine.ending, "_drop_bytes", lambda upload: False)
    upload = begun()
    page = do(admin_client, "purge_now", upload)
    assert "Its bytes could not be dropped yet." in page.content.decode()
    assert fresh(upload).state == State.EXPIRED


# Many at once


def test_not_too_many_are_dealt_with_at_once(admin_client, monkeypatch):
    monkeypatch.setattr(performing, "AT_ONCE", 2)
    uploads = [row() for _ in range(3)]
    for name in ("cancel_uploads", "delete_selected"):
        page = do(admin_client, name, *uploads, post="yes")
        assert "Choose at most 2 uploads at a time." in page.content.decode()
    assert UploadSession.objects.filter(state=State.RECEIVING).count() == 3


def test_all_of_a_filtered_list_can_be_dealt_with(admin_client):
    row(filename="other")
    row(filename="mine")
    ticked = row(filename="mine")
    page = do(
        admin_client, "cancel_uploads", ticked, select_across="1", query="?q=mine"
    )
    assert "2 uploads were cancelled." in page.content.decode()
    assert UploadSession.objects.get(state=State.RECEIVING).filename == "other"


def test_many_complaints_become_few_lines(admin_client):
    uploads = [row(state=State.COMPLETE, filename=f"{n}.txt") for n in range(7)]
    page = do(admin_client, "cancel_uploads", *uploads)
    text = page.content.decode()
    assert (
        text.count(".txt”: nothing to do, as it is complete.")
        == performing.MAX_COMPLAINTS
    )
    assert "Nor could 2 more uploads be dealt with." in text


# The page of one upload


def test_an_uploads_page_offers_what_can_be_done(admin_client):
    offers = {
        State.RECEIVING: ["extend_expiry", "cancel_uploads", "purge_now"],
        State.ASSEMBLING: ["cancel_uploads"],
        State.FAILED: [
            "retry_assembly",
            "extend_expiry",
            "cancel_uploads",
            "purge_now",
        ],
        State.COMPLETE: [],
        State.REJECTED: ["purge_now"],
        State.CANCELLED: ["purge_now"],
        State.EXPIRED: ["purge_now"],
    }
    for state in State:
        page = admin_client.get(page_of(row(state=state))).content.decode()
        names = [line.split('"')[0] for line in page.split('name="action" value="')[1:]]
        assert names == offers[state]


def test_what_began_on_an_uploads_page_ends_there(admin_client):
    upload = begun()
    page = do(admin_client, "extend_expiry", upload, back="upload")
    assert page.redirect_chain == [(page_of(upload), 302)]
    page = do(admin_client, "cancel_uploads", upload, confirmed=False, back="upload")
    assert (
        f'href="{page_of(upload)}" class="button cancel-link"' in page.content.decode()
    )
    assert 'name="back" value="upload"' in page.content.decode()


def test_what_began_in_the_list_ends_in_the_same_list(admin_client):
    upload = begun()
    query = "?state__exact=receiving"
    page = do(admin_client, "extend_expiry", upload, query=query)
    assert page.redirect_chain == [(LIST + query, 302)]


def test_after_a_purge_there_is_no_page_to_go_back_to(admin_client):
    page = do(admin_client, "purge_now", begun(), back="upload")
    assert page.redirect_chain == [(LIST, 302)]


def test_what_was_done_is_remembered(admin_client):
    upload = begun()
    do(admin_client, "extend_expiry", upload)
    entry = LogEntry.objects.get()
    assert entry.object_id == str(upload.pk)
    assert entry.get_change_message() == "Extended the expiry."


# Who may


@pytest.mark.parametrize(
    ("may", "name", "state", "is_done"),
    [
        ("view", "extend_expiry", State.RECEIVING, False),
        ("change", "extend_expiry", State.RECEIVING, True),
        ("delete", "extend_expiry", State.RECEIVING, False),
        ("change", "retry_assembly", State.FAILED, True),
        ("delete", "retry_assembly", State.FAILED, False),
        ("change", "cancel_uploads", State.RECEIVING, False),
        ("delete", "cancel_uploads", State.RECEIVING, True),
        ("change", "purge_now", State.RECEIVING, False),
        ("delete", "purge_now", State.RECEIVING, True),
    ],
)
def test_each_deed_needs_its_permission(may, name, state, is_done):
    upload = row(state=state, received=1000)
    before = UploadSession.objects.filter(pk=upload.pk).values().get()
    do(staff("view", may), name, upload)
    after = UploadSession.objects.filter(pk=upload.pk).values().first()
    assert (after != before) == is_done


def test_permission_for_one_upload_is_not_that_for_another(admin_client, monkeypatch):
    def may_delete(self, request, obj=None):
        return obj is None or obj.filename == "mine.txt"

    monkeypatch.setattr(UploadSessionAdmin, "has_delete_permission", may_delete)
    mine, other = row(filename="mine.txt"), row(filename="other.txt")
    page = do(admin_client, "cancel_uploads", mine, other)
    assert "“other.txt”: you may not." in page.content.decode()
    assert fresh(mine).state == State.CANCELLED
    assert fresh(other).state == State.RECEIVING
    assert "upload-deed" in admin_client.get(page_of(mine)).content.decode()
    assert "cancel_uploads" not in admin_client.get(page_of(other)).content.decode()


def test_a_deed_needs_the_csrf_token(settings, client, admin_user):
    client.force_login(admin_user)
    client.handler.enforce_csrf_checks = True
    upload = row()
    answer = client.post(
        LIST, {"action": "extend_expiry", "_selected_action": [str(upload.pk)]}
    )
    assert answer.status_code == 403
    assert fresh(upload).expires_at == upload.expires_at
