"""The page of one upload in the admin, its file, and its deletion."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from resumable_uploads import engine
from resumable_uploads.admin.chunk_map import MAX_CELLS, ChunkMap
from resumable_uploads.admin.throughput import Throughput
from resumable_uploads.models import Chunk, State, UploadSession

from .making import body, content, finished, open_upload, sent, staged, use_policy
from .rows import LIST, chunk, fresh, page_of, row, staff, with_chunks

transactional = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db

DATA = content(95)


def text_of(client, upload):
    page = client.get(page_of(upload)).content.decode()
    plain = re.sub(r"<[^>]+>", " ", page.split("What happened")[1].split("<h2")[0])
    return re.sub(r"\s+", " ", plain).replace("\xa0", " ")


def kinds(upload):
    return [cell.kind for cell in ChunkMap(upload).cells]


# The picture


def test_the_picture_shows_each_chunk():
    assert kinds(with_chunks([0, 2, 3], 5)) == [
        "there",
        "missing",
        "there",
        "there",
        "missing",
    ]


@pytest.mark.parametrize("total", [1, 399, 400, 401, 799, 10_000])
def test_the_picture_has_few_squares_for_any_number_of_chunks(total):
    cells = list(ChunkMap(with_chunks(range(0, total, 3), total)).cells)
    assert len(cells) <= MAX_CELLS
    assert sum(cell.size for cell in cells) == total
    assert sum(cell.there for cell in cells) == len(range(0, total, 3))
    assert [cell.first for cell in cells] == sorted(
        sum(other.size for other in cells[: cell.index]) for cell in cells
    )


def test_a_square_of_many_chunks_may_be_there_in_part():
    upload = with_chunks([*range(4000), 5000], 10_000)
    found = kinds(upload)
    assert found.count("there") == 160
    assert found.count("some") == 1
    assert found.count("missing") == 239


def test_ten_thousand_chunks_take_one_query(django_assert_num_queries):
    upload = with_chunks(range(5000), 10_000)
    with django_assert_num_queries(1):
        chunks = ChunkMap(upload)
        assert len(list(chunks.cells)) == MAX_CELLS
        assert chunks.there == 5000
        assert chunks.first_recorded <= chunks.last_recorded


def test_the_page_takes_as_many_queries_for_many_chunks_as_for_few(
    admin_client, django_assert_max_num_queries
):
    few, many = with_chunks([0], 2), with_chunks(range(1000), 2000)
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(page_of(few))
    with django_assert_max_num_queries(len(queries)):
        admin_client.get(page_of(many))


# The pace


def arrived(*moments):
    """Return an upload whose chunks of 10 bytes came so many seconds after it began."""
    upload = with_chunks(range(len(moments)), len(moments) + 1)
    for number, seconds in enumerate(moments):
        moment = upload.created_at + timedelta(seconds=seconds)
        Chunk.objects.filter(upload=upload, number=number).update(created_at=moment)
    return upload


def test_the_pace_is_drawn_as_bytes_per_second_of_each_stretch():
    pace = Throughput(arrived(1, 2, 3, 4, 4, 6, 9, 10))
    size = Chunk.objects.first().size
    assert [round(bar.pace / size, 2) for bar in pace.bars] == [0.8, 1.2, 0.4, 0.8]
    assert [bar.height for bar in pace.bars] == [26.67, 40, 13.33, 26.67]
    assert pace.label.endswith("at most 12\xa0bytes/s.")


def test_a_thousand_chunks_are_sixty_bars_and_one_query(django_assert_num_queries):
    upload = arrived(*range(1, 300))
    with django_assert_num_queries(1):
        pace = Throughput(upload)
        assert pace.is_drawn
        assert len(pace.bars) == 60
        assert max(bar.height for bar in pace.bars) == 40


def test_few_chunks_have_no_pace(admin_client):
    for upload in (with_chunks([], 5), arrived(1, 2, 3)):
        page = admin_client.get(page_of(upload)).content.decode()
        assert "Too little has come to tell." in page
        assert 'class="upload-throughput"' not in page
    assert not Throughput(arrived(0, 0, 0, 0)).is_drawn


def test_the_pace_is_on_the_page(admin_client):
    page = admin_client.get(page_of(arrived(*range(1, 20)))).content.decode()
    picture = page.split('class="upload-throughput"')[1].split("</svg>")[0]
    assert picture.count("<rect ") == 9
    assert 'aria-label="Bytes per second' in picture


def test_the_page_leads_to_the_owner_s_other_uploads(admin_client, admin_user):
    owner = f"user:{admin_user.pk}"
    page = admin_client.get(page_of(row(owner=owner, user=admin_user)))
    link = f"{LIST}?q={owner.replace(':', '%3A')}"
    assert f'href="{link}"' in page.content.decode()
    assert admin_client.get(link).status_code == 200


def test_the_picture_is_said_in_words_too(admin_client):
    page = admin_client.get(page_of(with_chunks([0, 2], 3))).content.decode()
    assert 'role="img" aria-label="2 of 3 chunks are there."' in page
    assert "<title>Chunk 1 is missing</title>" in page
    assert page.count("<rect ") == 3


def test_chunks_of_a_file_of_unknown_length_have_a_picture(admin_client):
    upload = with_chunks([0, 4], 5)
    UploadSession.objects.filter(pk=upload.pk).update(length=None)
    page = admin_client.get(page_of(upload)).content.decode()
    assert page.count("<rect ") == 5
    assert "2 chunks are there; how many there will be is not known." in page


def test_what_was_appended_has_no_picture_but_an_offset(admin_client):
    upload = row(received=700, chunk_count=1, addressed_by="offset")
    chunk(upload, 0, size=700).save()
    page = admin_client.get(page_of(upload)).content.decode()
    assert "<rect " not in page
    assert "The next byte has the offset 700." in page


def test_what_has_ended_has_no_picture(admin_client):
    for state in (State.COMPLETE, State.CANCELLED):
        page = admin_client.get(page_of(row(state=state))).content.decode()
        assert "<rect " not in page


# What happened


def test_an_upload_tells_its_story(admin_client):
    text = text_of(admin_client, with_chunks([0, 2, 3], 5))
    for words in (
        "Opened: protocol rest, policy “default”, 50 bytes.",
        "The first bytes came.",
        "The last bytes so far came: 30 bytes in 3 chunks.",
        "Expires in 6 days, 23 hours, if nothing happens before.",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "Nothing has come yet."),
        ({"length": None}, "of unknown size"),
        ({"expires_at": timezone.now()}, "Its time is up: the next purge ends it."),
        (
            {"state": State.ASSEMBLING},
            "All bytes are there; the file waits to be made.",
        ),
        (
            {"state": State.ASSEMBLING, "lease": "x", "attempts": 2, "error": "Full"},
            "1 attempt to make the file failed",
        ),
        (
            {"state": State.ASSEMBLING, "lease": "x", "attempts": 2},
            "The file is being made: attempt 2, last sign of life",
        ),
        (
            {
                "state": State.ASSEMBLING,
                "attempts": 3,
                "retry_at": timezone.now() + timedelta(days=1, minutes=1),
            },
            "The next attempt is in 1 day.",
        ),
        (
            {
                "state": State.FAILED,
                "attempts": 8,
                "error_code": "storage_full",
                "error": "No space",
            },
            "8 attempts to make the file failed, last (storage_full): No space",
        ),
        ({"state": State.FAILED}, "Nobody tries again unless asked to"),
        ({"state": State.COMPLETE}, "The file is film.mp4 on the storage “default”."),
        (
            {"state": State.COMPLETE, "claimed_at": timezone.now()},
            "Another part of the site uses the file.",
        ),
        ({"state": State.CANCELLED, "settled": True}, "Cancelled."),
        ({"state": State.EXPIRED, "settled": True}, "Expired: nothing came"),
        (
            {"state": State.REJECTED, "error_code": "rejected", "error": "A virus"},
            "Refused (rejected): A virus",
        ),
        ({"state": State.CANCELLED}, "Its chunks are still to be dropped."),
        ({"state": State.CANCELLED}, "This record is forgotten in 6 days"),
        (
            {"state": State.EXPIRED, "expires_at": timezone.now()},
            "This record is forgotten by the next purge.",
        ),
    ],
)
def test_each_state_is_said_in_words(admin_client, facts, words):
    assert words in text_of(admin_client, row(**facts))


@pytest.mark.parametrize("state", [State.RECEIVING, State.FAILED, State.ASSEMBLING])
def test_an_upload_that_is_settled_or_open_has_nothing_left_to_drop(
    admin_client, state
):
    assert "to be dropped" not in text_of(admin_client, row(state=state))


def test_metadata_is_shown_as_it_is(admin_client):
    upload = row(metadata={"title": "<b>Süd</b>"})
    page = admin_client.get(page_of(upload)).content.decode()
    assert "&quot;title&quot;: &quot;&lt;b&gt;Süd&lt;/b&gt;&quot;" in page


# Nothing is edited


def test_nobody_adds_an_upload(admin_client):
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert f"{LIST}add/" not in admin_client.get(LIST).content.decode()


def test_nobody_changes_an_upload(admin_client):
    upload = row(received=5)
    page = admin_client.get(page_of(upload)).content.decode()
    assert 'name="_save"' not in page
    assert not re.search(r'<(input|select|textarea)[^>]*name="(filename|state)"', page)
    answer = admin_client.post(
        page_of(upload), {"filename": "other", "state": "complete"}
    )
    assert answer.status_code == 403
    assert fresh(upload).filename == "film.mp4"


def test_who_may_only_view_gets_no_buttons():
    client = staff("view")
    page = client.get(page_of(row(state=State.FAILED))).content.decode()
    assert "upload-deed" not in page
    assert "deletelink" not in page


def test_an_unknown_upload_is_not_there(admin_client):
    for what in ("change", "download", "delete"):
        assert admin_client.get(f"{LIST}{User().pk}/{what}/").status_code == 302


# The file


@transactional
@pytest.mark.parametrize("downloadable", [True, False])
def test_the_file_is_sent_whatever_the_policy_lets_its_owner_do(
    admin_client, settings, downloadable
):
    use_policy(settings, downloadable=downloadable)
    upload = sent(DATA, filename="töp secret.html", content_type="text/html")
    assert (
        page_of(upload, "download")
        in admin_client.get(page_of(upload)).content.decode()
    )
    answer = admin_client.get(page_of(upload, "download"))
    assert answer.getvalue() == DATA
    assert answer["Content-Disposition"].startswith("attachment")
    assert answer["X-Content-Type-Options"] == "nosniff"


@transactional
def test_part_of_the_file_is_sent(admin_client):
    upload = sent(DATA)
    answer = admin_client.get(
        page_of(upload, "download"), headers={"Range": "bytes=5-9"}
    )
    assert answer.status_code == 206
    assert answer.getvalue() == DATA[5:10]


@transactional
def test_who_may_view_may_download_and_others_not():
    upload = sent(DATA)
    assert staff("view").get(page_of(upload, "download")).getvalue() == DATA
    User.objects.all().delete()
    assert staff("delete").get(page_of(upload, "download")).status_code == 403


def test_strangers_are_sent_to_log_in(client):
    answer = client.get(page_of(row(state=State.COMPLETE), "download"))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


@transactional
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: open_upload(95, 10), "The file is not complete."),
        (lambda: sent(DATA), "The file is not on its storage any more."),
    ],
)
def test_a_file_that_is_not_there_is_said_to_be_missing(admin_client, make, words):
    upload = make()
    for file in finished():
        file.unlink()
    answer = admin_client.get(page_of(upload, "download"), follow=True)
    assert answer.redirect_chain == [(page_of(upload), 302)]
    assert words in answer.content.decode()


def test_a_download_is_only_asked_for(admin_client):
    assert admin_client.post(page_of(row(), "download")).status_code == 405


# Deletion


def delete(client, upload):
    return client.post(page_of(upload, "delete"), {"post": "yes"})


@transactional
def test_deleting_an_upload_deletes_its_bytes(admin_client):
    upload = open_upload(95, 10)
    engine.put_chunk(upload, 0, body(DATA[:10]))
    assert staged(upload.pk)
    assert delete(admin_client, upload).status_code == 302
    assert not UploadSession.objects.exists()
    assert not Chunk.objects.exists()
    assert not staged(upload.pk)


@transactional
@pytest.mark.parametrize("claimed", [True, False])
def test_deleting_a_complete_upload_deletes_the_file_unless_it_is_in_use(
    admin_client, claimed
):
    upload = sent(DATA)
    if claimed:
        UploadSession.objects.update(claimed_at=timezone.now())
    delete(admin_client, upload)
    assert not UploadSession.objects.exists()
    assert bool(finished()) == claimed


@transactional
def test_many_are_deleted_at_once(admin_client):
    uploads = [sent(DATA), open_upload(95, 10)]
    form = {
        "action": "delete_selected",
        "_selected_action": [str(upload.pk) for upload in uploads],
    }
    page = admin_client.post(LIST, form).content.decode()
    assert "Are you sure" in page
    assert UploadSession.objects.count() == 2
    admin_client.post(LIST, form | {"post": "yes"})
    assert not UploadSession.objects.exists()
    assert not finished()


def test_chunks_are_counted_and_not_listed(admin_client):
    upload = with_chunks(range(300), 300)
    page = admin_client.get(page_of(upload, "delete")).content.decode()
    assert "Chunks: 300" in page
    assert "#299" not in page


def test_asking_takes_as_many_queries_for_many_chunks_as_for_few(
    admin_client, django_assert_max_num_queries
):
    few, many = with_chunks([0], 2), with_chunks(range(1000), 2000)
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(page_of(few, "delete"))
    with django_assert_max_num_queries(len(queries)):
        admin_client.get(page_of(many, "delete"))


def test_an_upload_that_others_are_made_of_is_not_deleted(admin_client):
    part, whole = row(), row(state=State.ASSEMBLING)
    for number in range(3):
        chunk(whole, number, source=part).save()
    page = admin_client.get(page_of(part, "delete")).content.decode()
    assert page.count(f"Upload {whole.pk} is made of its chunks") == 1
    delete(admin_client, part)
    assert UploadSession.objects.filter(pk=part.pk).exists()


def test_deleting_needs_its_permission():
    upload = row()
    assert delete(staff("view", "change"), upload).status_code == 403
    assert UploadSession.objects.exists()


def test_a_deletion_is_remembered(admin_client):
    upload = row()
    delete(admin_client, upload)
    entry = LogEntry.objects.get()
    assert entry.object_id == str(upload.pk)
    assert entry.is_deletion()
