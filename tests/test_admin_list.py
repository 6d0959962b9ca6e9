"""The list of uploads in the admin: what it shows, and that it stays quick."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from resumable_uploads.admin.figures import bytes_per_second, percentage
from resumable_uploads.admin.listing import CappedPaginator
from resumable_uploads.models import State, UploadSession

from .making import use
from .rows import LIST, row, staff

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna():
    return User.objects.create_user("anna")


def shown(client, query=""):
    """Return the names of the files in the list."""
    page = client.get(LIST + query).content.decode()
    return re.findall(r'field-name">.*?<a [^>]*>(.*?)</a>', page)


def text_of(client, query=""):
    page = client.get(LIST + query).content.decode()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("\xa0", " ")


def owned_by(user, **facts):
    return row(owner=f"user:{user.pk}", user=user, **facts)


# What it shows


def test_the_list_shows_what_an_operator_wants_to_know(admin_client, anna):
    began = timezone.now() - timedelta(seconds=10)
    owned_by(
        anna,
        filename="holiday.mov",
        protocol="tus",
        length=4096,
        received=1024,
        created_at=began,
        active_at=began + timedelta(seconds=2),
    )
    page = admin_client.get(LIST).content.decode()
    assert f'<a href="/admin/auth/user/{anna.pk}/change/">anna</a>' in page
    assert '<progress max="100" value="25"' in page
    text = text_of(admin_client)
    for words in ("holiday.mov", "receiving", "25 %", "tus", "4.0 KB", "512 bytes/s"):
        assert words in text
    assert "in 6 days, 23 hours" in text


def test_what_has_come_is_shown_where_the_size_is_unknown(admin_client):
    row(length=None, received=2048)
    assert "2.0 KB so far" in text_of(admin_client)


@pytest.mark.parametrize(
    ("state", "words"),
    [(State.RECEIVING, "overdue"), (State.FAILED, "overdue"), (State.COMPLETE, "-")],
)
def test_only_what_waits_expires(admin_client, state, words):
    row(state=state, expires_at=timezone.now() - timedelta(hours=1))
    page = admin_client.get(LIST).content.decode()
    assert f'<td class="field-expiry">{words}</td>' in page


def test_a_file_name_is_no_markup(admin_client):
    row(filename="<script>alert(1)</script>")
    assert shown(admin_client) == ["&lt;script&gt;alert(1)&lt;/script&gt;"]


def test_a_visitors_token_is_not_shown_whole(admin_client):
    upload = row(owner="session:abcdefghijklmnop")
    page = admin_client.get(LIST).content.decode()
    assert "visitor abcdef…" in page
    assert "abcdefg" not in page
    page = admin_client.get(f"{LIST}{upload.pk}/change/").content.decode()
    assert "abcdefg" not in page


def test_the_uploads_of_a_deleted_user_are_still_listed(admin_client, anna):
    owned_by(anna, filename="left-behind.txt")
    key = f"user:{anna.pk}"
    anna.delete()
    assert key in text_of(admin_client, f"?q={key}")


def test_nothing_inline_for_a_strict_policy(admin_client):
    upload = row(metadata={"a": 1})
    for path in (LIST, f"{LIST}{upload.pk}/change/"):
        page = admin_client.get(path).content.decode()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]* src=)", page)


# Figures


@pytest.mark.parametrize(
    ("length", "received", "percent"),
    [(None, 5, None), (0, 0, 100), (3, 1, 33), (1000, 999, 99), (1000, 1000, 100)],
)
def test_nothing_is_done_before_all_of_it_is(length, received, percent):
    assert percentage(UploadSession(length=length, received=received)) == percent


def test_a_finished_upload_was_as_fast_as_it_was(anna):
    began = timezone.now() - timedelta(days=3)
    upload = row(
        state=State.COMPLETE,
        length=600,
        created_at=began,
        completed_at=began + timedelta(seconds=60),
    )
    assert bytes_per_second(upload) == 10


@pytest.mark.parametrize("state", [State.CANCELLED, State.EXPIRED, State.FAILED])
def test_what_has_stopped_has_no_speed(state):
    began = timezone.now() - timedelta(minutes=1)
    assert bytes_per_second(row(state=state, created_at=began, received=9)) is None


def test_what_has_come_in_no_time_has_no_speed():
    now = timezone.now()
    assert bytes_per_second(row(created_at=now, active_at=now, received=9)) is None


# That it stays quick


def test_fifty_uploads_take_as_many_queries_as_one(
    admin_client, anna, django_assert_max_num_queries
):
    owned_by(anna)
    with CaptureQueriesContext(
        connection,
    ) as one:
        admin_client.get(LIST)
    for number in range(49):
        user = User.objects.create_user(f"user-{number}")
        owned_by(user, filename=f"{number}.txt")
    with django_assert_max_num_queries(len(one)):
        assert len(shown(admin_client)) == 50


@pytest.mark.parametrize("query", ["", "?state__exact=receiving", "?q=film", "?p=2"])
def test_the_whole_table_is_neither_counted_nor_searched_for_choices(
    admin_client, query, django_assert_max_num_queries
):
    for _ in range(60):
        row()
    with django_assert_max_num_queries(5) as queries:
        admin_client.get(LIST + query)
    for asked in queries:
        assert "COUNT(" not in asked["sql"]
        assert "DISTINCT" not in asked["sql"]
        if "uploadsession" in asked["sql"]:
            assert "LIMIT" in asked["sql"] or " IN (" in asked["sql"]


@pytest.mark.only_on("sqlite")  # It says so in words, also where the table is empty.
@pytest.mark.parametrize("state", ["", "state__exact=complete"])
@pytest.mark.parametrize("when", ["", "created_at__gte=2026-01-01 00:00:00Z"])
@pytest.mark.parametrize(
    "more", ["", "protocol=tus&policy=default", "q=film", "q=anna"]
)
def test_what_is_listed_is_found_without_reading_rows(
    admin_client, anna, state, when, more
):
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(f"{LIST}?{state}&{when}&{more}")
    (keys,) = [one["sql"] for one in queries if "10001" in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + keys.replace("%", "%%"), [])
        steps = [step for *_, step in cursor.fetchall()]
    read = [step for step in steps if "uploads_uploadsession" in step]
    assert read
    assert all("COVERING INDEX" in step for step in read), steps


def test_pages_hold_every_upload_once_newest_first(admin_client):
    began = timezone.now()
    for number in range(120):
        row(filename=f"{number:03}.txt", created_at=began + timedelta(seconds=number))
    pages = [shown(admin_client, f"?p={number}") for number in (1, 2, 3)]
    assert [len(page) for page in pages] == [50, 50, 20]
    assert sum(pages, []) == [f"{number:03}.txt" for number in reversed(range(120))]


def test_the_oldest_can_come_first(admin_client):
    began = timezone.now()
    for number in range(60):
        row(filename=f"{number:03}.txt", created_at=began + timedelta(seconds=number))
    column = 8
    names = shown(admin_client, f"?o={column}") + shown(
        admin_client, f"?o={column}&p=2"
    )
    assert names == [f"{number:03}.txt" for number in range(60)]


def test_turning_pages_ends_somewhere_and_the_list_says_so(admin_client, monkeypatch):
    monkeypatch.setattr(CappedPaginator, "at_most", 100)
    for _ in range(120):
        row()
    assert len(shown(admin_client, "?p=2")) == 50
    assert admin_client.get(f"{LIST}?p=3").status_code == 302
    assert "There are more than these 100" in text_of(admin_client)
    assert "There are more" not in text_of(admin_client, f"?q={row().pk}")


# Filters


def test_filters_offer_what_the_site_serves(admin_client, settings):
    use(settings, POLICIES={"default": {}, "videos": {"max_size": 5}})
    page = admin_client.get(LIST).content.decode()
    for protocol in ("rest", "tus", "ietf", "byteoffset", "oss", "s3"):
        assert f'?protocol={protocol}"' in page
    assert "?protocol=sts" not in page
    assert '?policy=videos"' in page
    assert '?state__exact=failed"' in page


def test_filters_filter(admin_client, settings):
    use(settings, POLICIES={"default": {}, "videos": {}})
    row(filename="a", state=State.FAILED)
    row(filename="b", protocol="other", policy="videos")
    row(filename="c", created_at=timezone.now() - timedelta(days=40))
    assert shown(admin_client, "?state__exact=failed") == ["a"]
    assert shown(admin_client, "?protocol=rest") == ["a", "c"]
    assert shown(admin_client, "?policy=videos") == ["b"]
    assert shown(admin_client, "?policy=default&state__exact=receiving") == ["c"]


# Search


def test_an_id_finds_its_upload(admin_client):
    row()
    upload = row(filename="wanted.txt")
    assert shown(admin_client, f"?q={upload.pk}") == ["wanted.txt"]
    assert shown(admin_client, f"?q={upload.pk.hex}") == ["wanted.txt"]


def test_an_owner_finds_what_is_theirs(admin_client, anna):
    owned_by(anna, filename="hers.txt")
    row(filename="theirs.txt", owner="session:token")
    assert shown(admin_client, "?q=anna") == ["hers.txt"]
    assert shown(admin_client, f"?q=user:{anna.pk}") == ["hers.txt"]
    assert shown(admin_client, "?q=session:token") == ["theirs.txt"]
    assert shown(admin_client, "?q=session:tok") == []


def test_the_beginning_of_a_name_finds_files(admin_client, anna):
    row(filename="report-1.pdf")
    row(filename="my report.pdf")
    owned_by(anna, filename="x.pdf")
    row(filename="anna's.pdf")
    assert shown(admin_client, "?q=report") == ["report-1.pdf"]
    assert set(shown(admin_client, "?q=anna")) == {"x.pdf", "anna&#x27;s.pdf"}
    assert shown(admin_client, "?q=%25") == []


# Who may look


def test_who_may_view_sees_the_list_and_no_actions():
    client = staff("view")
    row(filename="seen.txt")
    assert shown(client) == ["seen.txt"]
    assert 'name="action"' not in client.get(LIST).content.decode()


def test_nobody_else_sees_the_list():
    assert staff().get(LIST).status_code == 403
