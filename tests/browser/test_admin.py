"""The admin in a real browser, under the site's strict policy."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
from playwright.sync_api import expect

from tests.client import Client

from .axe import check

pytestmark = pytest.mark.once

LIST = "/admin/resumable_uploads/uploadsession/"
PHONE = {"width": 390, "height": 844}
NOBODY = "00000000-0000-0000-0000-000000000000"
MADE = f"""
from django.contrib.auth.models import User
from django.utils import timezone
from resumable_uploads.models import AccessKey, Revocation, WebhookDelivery
root = User.objects.create_superuser("root", password="root")
now = timezone.now()
WebhookDelivery.objects.create(
    id="{NOBODY}", webhook="shop", event="completed", upload="{NOBODY}", body="{{}}",
    due_at=now, created_at=now,
)
AccessKey.objects.create(
    access_key_id="AKIA", salt="salt", user=root, name="backup", actions="read"
)
Revocation.objects.create(owner="user:1", revoked_at=now)
"""
# All pages of the app's own in the admin, below its address, but for those of uploads.
PAGES = [
    "",
    "webhookdelivery/",
    f"webhookdelivery/{NOBODY}/change/",
    "accesskey/",
    "accesskey/add/",
    "accesskey/1/change/",
    "accesskey/1/delete/",
    "revocation/",
    "revocation/add/",
]


@pytest.fixture(scope="module")
def admin_site(site):
    """A site with uploads: 40 of 100 chunks, none at all, cancelled, and finished.

    Also with a delivery of a webhook, an access key and a revocation.
    """
    site.shell(MADE)
    with Client(site.url) as client:
        new = {"filename": "holiday.mov", "size": 1000, "chunk_size": 10}
        upload = client.post("/uploads/", new).json()
        for number in range(0, 80, 2):
            client.put(f"{upload['url']}chunks/{number}/", b"0123456789")
        client.post("/uploads/", new | {"filename": "regret.mov"})
        gone = client.post("/uploads/", new | {"filename": "gone.mov"}).json()
        client.delete(gone["url"])
        done = client.post("/uploads/", {"filename": "done.txt", "size": 4}).json()
        client.put(f"{done['url']}chunks/0/", b"done")
    return site


@pytest.fixture
def admin(page, admin_site):
    """The admin's list of uploads; it may break no rule of the site's policy."""
    page.goto(f"{admin_site.url}/admin/login/?next={LIST}")
    page.fill("#id_username", "root")
    page.fill("#id_password", "root")
    page.click("input[type=submit]")
    expect(page).to_have_url(re.compile(f"{LIST}$"))
    return page


def colour(locator):
    return locator.evaluate("element => getComputedStyle(element).fill")


def test_the_picture_of_chunks_is_drawn_in_colours_of_light_and_dark(admin):
    admin.click("text=holiday.mov")
    squares = admin.locator("svg.upload-chunks rect")
    expect(squares).to_have_count(100)
    expect(admin.locator("rect.upload-chunk-there")).to_have_count(40)
    assert squares.first.bounding_box()["width"] > 4
    there, missing = colour(squares.nth(0)), colour(squares.nth(1))
    assert there != missing
    admin.emulate_media(color_scheme="dark")
    assert colour(squares.nth(0)) not in (there, missing)


def test_an_upload_is_cancelled_by_buttons(admin):
    admin.click("text=regret.mov")
    admin.click("button:has-text('Cancel')")
    expect(admin.locator("#content")).to_contain_text("they cannot be resumed")
    admin.click("text=No, take me back")
    expect(admin.locator(".upload-state")).to_have_text("receiving")
    admin.click("button:has-text('Extend expiry')")
    expect(admin.locator(".messagelist")).to_contain_text("1 upload was extended.")
    admin.click("button:has-text('Cancel')")
    admin.click("input[value='Yes, I’m sure']")
    expect(admin.locator(".messagelist")).to_contain_text("1 upload was cancelled.")
    expect(admin.locator(".upload-state")).to_have_text("cancelled")


def test_a_file_is_downloaded(admin):
    admin.click("text=done.txt")
    with admin.expect_download() as download:
        admin.click("a:has-text('Download')")
    assert download.value.suggested_filename == "done.txt"
    assert download.value.path().read_bytes() == b"done"


def test_axe_finds_nothing_on_any_page(admin):
    check(admin)
    admin.goto(f"{admin.url}?q=holiday&state__exact=receiving")
    check(admin)
    admin.click("text=holiday.mov")
    expect(admin.locator("svg.upload-throughput rect").first).to_be_attached()
    check(admin)
    upload = admin.url
    admin.click("button:has-text('Cancel')")
    expect(admin.locator("#content")).to_contain_text("they cannot be resumed")
    check(admin)
    home = upload.partition("uploadsession/")[0]
    own = [upload.replace("/change/", "/history/"), upload.replace("change", "delete")]
    for path in (*own, *PAGES, "/nowhere/"):
        admin.goto(urljoin(home, path))
        check(admin)
    admin.context.clear_cookies()
    admin.goto(urljoin(home, "/admin/login/"))
    check(admin)


def test_the_search_box_says_what_is_searched(admin):
    expect(admin.locator("#searchbar")).to_have_accessible_name("Uploads: Search")


def test_nothing_runs_over_the_edge_of_a_phone(admin):
    admin.set_viewport_size(PHONE)
    for path in (LIST, None):
        if path is None:
            admin.click("text=done.txt")
        width = admin.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"]
