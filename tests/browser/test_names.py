"""Names that would be scripts, sent over every protocol and looked at in a browser.

The site's policy, which would keep them from running, is switched off in the browser:
nothing but the escaping of names is in their way.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.contracts.protocol import HOSTILE, File, refused
from tests.faults.storm import DRIVERS, Sender

from .desk import made

pytestmark = pytest.mark.once

MARK = "window.__xss=(window.__xss||0)+1"
SCRIPTS = [
    f"<img src=x onerror={MARK}>.html",
    f'"><svg onload={MARK}>.html',
    f"</title></script><script>{MARK}</script>",
    f"javascript:{MARK}//'-({MARK})-'.js",
    f"{{{{constructor.constructor('{MARK}')()}}}}' autofocus onfocus={MARK} a='",
]
NAMES = SCRIPTS + HOSTILE
# Names that are no scripts go over every fourth protocol here; over each of them in
# tests/contracts/protocol.py.
EVERY = 4
# What a browser would run, were it shown as a page.
DATA = f"<script>{MARK}</script>".encode()
LIST = "/admin/resumable_uploads/uploadsession/"


@pytest.fixture
def watched(browser):
    """A page where a script that gets in is let run, and what has gone wrong."""
    context = browser.new_context(bypass_csp=True, accept_downloads=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))

    def note(dialog: Dialog) -> None:
        # But for the page's own question whether to leave it while it uploads.
        if dialog.type != "beforeunload":
            wrong.append(dialog.message)
        dialog.accept()

    page.on("dialog", note)
    yield page, wrong
    context.close()


def send_all(me: Sender) -> set[str]:
    """Send a file of every name over every protocol; return who took which."""
    taken = set()
    for turn, (protocol, driver) in enumerate(DRIVERS.items()):
        for number, name in enumerate(NAMES):
            if name in HOSTILE and (turn + number) % EVERY:
                continue
            file = File(DATA, name, len(DATA), key=f"{protocol}-{number}".lower())

            def send(driver=driver, file=file) -> None:
                handle = driver.begin(me, file)
                driver.send(me, handle, file, 0)
                driver.finish(me, handle, file)

            try:
                answer = refused(send)
            except (ValueError, UnicodeError):
                # The client itself would not say such a name.
                continue
            if answer is None:
                taken.add(f"{protocol}: {number}")
            else:
                assert 400 <= answer.status < 500, (protocol, name, answer.body)
    return taken


def is_clean(page: Page) -> None:
    """See that no script of a name has run, and that the page is whole."""
    assert page.evaluate("window.__xss") is None, page.url
    assert page.locator("footer, #footer").count(), page.url


def test_no_name_is_run_by_a_browser(site, watched):
    page, wrong = watched
    site.make_user("names", admin=True)
    me = Sender(site.url)
    me.log_in("names")
    taken = send_all(me)
    me.hang_up()
    scripts = {f"{who}: {number}" for who in DRIVERS for number in range(len(SCRIPTS))}
    # Slashes, quotes and colons are changed on the way by some, and refused by few.
    assert len(scripts - taken) < len(scripts) / 4, sorted(scripts - taken)
    page.context.add_cookies(
        [
            {"name": name, "value": value, "url": site.url}
            for name, value in me.cookies.items()
        ]
    )
    # The marker works, and so does this page.
    page.goto(f"{site.url}/my-uploads/")
    is_clean(page)
    expect(page.locator("[aria-labelledby=files] .row").first).to_be_visible()
    page.goto(f"{site.url}/upload/")
    page.set_input_files("input[type=file]", [made(name, DATA) for name in SCRIPTS])
    expect(page.get_by_text("onerror").first).to_be_visible()
    is_clean(page)
    files = site.sql(
        "SELECT filename, max(id) FROM resumable_uploads_uploadsession"
        " WHERE state = 'complete' GROUP BY 1"
    )
    assert len(files) >= len(SCRIPTS)
    for address in (f"{LIST}?all=", f"{LIST}?q=onerror", f"{LIST}?q=%3Cscript"):
        page.goto(f"{site.url}{address}")
        is_clean(page)
    for name, pk in files:
        words = ("change", "history", "delete") if "<img" in name else ("change",)
        for word in words if "xss" in name else ():
            page.goto(f"{site.url}{LIST}{pk}/{word}/")
            is_clean(page)
        saved = downloaded(page, f"{site.url}/uploads/{pk}/file/")
        assert not re.search(r"[/\\\r\n\0]", saved), (name, saved)
        assert saved not in ("", ".", "..")
    assert not wrong
    page.set_content(f"<footer>{SCRIPTS[0]}</footer>")
    page.wait_for_function("window.__xss")


def downloaded(page: Page, address: str) -> str:
    """Go to a file as by a link; return the name under which it would be saved."""
    with page.expect_download() as download:
        page.evaluate("address => { location.href = address }", address)
    return download.value.suggested_filename
