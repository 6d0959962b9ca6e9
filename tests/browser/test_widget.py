"""What the widget can do besides sending: forms, elements, pictures, keys, tabs."""

from __future__ import annotations

import base64
import os
import re
import time

import pytest
from playwright.sync_api import expect

from project.clients import CLIENTS
from tests.processes import ROOT

from .axe import check
from .desk import MIB, Desk, made

pytestmark = pytest.mark.once

SIZE = 12 * MIB + 5
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


@pytest.fixture
def big(tmp_path):
    path = tmp_path / "film.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def blank(page, site):
    """A page of the site's with nothing on it, for markup and scripts of the test's."""

    def open_blank(body: str, script: str = "") -> Desk:
        html = (
            '<!doctype html><html lang="en"><head><title>Blank</title>'
            '<link rel="stylesheet" href="/static/resumable_uploads/uploader.css">'
            f"</head><body><main><h1>Blank</h1>{body}</main>"
            f'<script type="module" src="/blank.js"></script></body></html>'
        )
        headers = {"Content-Security-Policy": "default-src 'self'"}
        page.route(
            "**/blank/",
            lambda route: route.fulfill(
                body=html, content_type="text/html", headers=headers
            ),
        )
        page.route(
            "**/blank.js",
            lambda route: route.fulfill(body=script, content_type="text/javascript"),
        )
        # A session and a token, as the site's own pages give them.
        page.goto(f"{site.url}/upload/")
        desk = Desk(page, site.url, "/blank/")
        page.goto(f"{site.url}/blank/")
        return desk

    return open_blank


ELEMENT = 'import "/static/resumable_uploads/element.js";'


# --- The examples of the documents --------------------------------------------------


def test_the_single_page_example_runs_as_it_stands(blank, page):
    text = (ROOT / "docs" / "uploader.md").read_text().split("## Without markup")[1]
    desk = blank("", re.search(r"```js\n(.*?)```", text, re.DOTALL)[1])
    page.get_by_label("Files").set_input_files([made("a.txt", b"hello"), made("b.txt")])
    expect(page.locator("output")).to_have_text("2 of 2 files, 10 of 10 bytes")
    uploads = desk.uploads("complete")
    assert {desk.download(upload) for upload in uploads} == {b"hello"}


# --- The element --------------------------------------------------------------------


def shape(locator):
    """Return the markup without what is the server's own."""
    html = locator.evaluate(
        """root => {
            const copy = root.cloneNode(true);
            const own = 'input[name=csrfmiddlewaretoken], noscript';
            const insides = [copy, ...[...copy.querySelectorAll('template')]
                .map((template) => template.content)];
            for (const part of insides) {
                part.querySelectorAll(own).forEach((element) => element.remove());
            }
            for (const {name} of [...copy.attributes]) {
                if (name.startsWith('data-')) copy.removeAttribute(name);
            }
            return copy.outerHTML;
        }"""
    )
    return re.sub(r">\s+<", "><", re.sub(r"\s+", " ", html)).replace("> ", ">")


def test_the_element_and_the_tag_make_the_same_markup(page, site, blank):
    blank("<resumable-upload folders camera></resumable-upload>", ELEMENT).ready()
    by_script = shape(page.locator("[data-ru-uploader]"))
    page.goto(f"{site.url}/upload/")
    page.wait_for_selector("[data-ru-ready]")
    assert shape(page.locator("[data-ru-uploader]")) == by_script


def test_the_element_uploads_and_says_what_it_has(blank):
    desk = blank(
        '<resumable-upload endpoint="/uploads/" max-files="2"></resumable-upload>',
        ELEMENT,
    ).ready()
    desk.choose(made("a.txt"), made("b.txt"), made("c.txt"))
    expect(desk.page.get_by_role("alert")).to_contain_text("at most 2 files")
    desk.wait_complete("a.txt", "b.txt")
    value = desk.page.locator("resumable-upload").evaluate("element => element.value")
    assert set(value) == {upload["id"] for upload in desk.uploads("complete")}
    limits = desk.page.get_by_text("Up to 10\u00a0GB per file.")
    expect(limits).to_be_visible()


def test_the_element_speaks_by_attributes_or_by_django_s_catalogue(blank, page):
    texts = '{"choose_files": "Pick some"}'
    blank(f"<resumable-upload messages='{texts}'></resumable-upload>", ELEMENT).ready()
    expect(page.get_by_label("Pick some")).to_be_attached()
    catalogue = "globalThis.gettext = (text) => text.toUpperCase();"
    script = f'{catalogue} await import("/static/resumable_uploads/element.js");'
    page.unroute("**/blank.js")
    page.unroute("**/blank/")
    blank("<resumable-upload></resumable-upload>", script).ready()
    expect(page.get_by_label("CHOOSE FILES")).to_be_attached()


# --- Forms --------------------------------------------------------------------------

FORM = """
<form method="post" action="/upload/" enctype="multipart/form-data">
  <input name="subject" value="Holiday">
  <resumable-upload name="photos" required>
    <input type="file" name="photos" multiple aria-label="Photos">
  </resumable-upload>
  <button name="verb" value="publish">Publish</button>
</form>"""


def posted(desk):
    """Let the form's target answer; return where its fields will be."""
    sent = []

    def answer(route):
        sent.append(route.request.post_data)
        route.fulfill(body="<title>Thanks</title>", content_type="text/html")

    desk.page.route(
        "**/upload/",
        lambda route: (
            answer(route) if route.request.method == "POST" else route.continue_()
        ),
    )
    return sent


def field(body, name):
    return re.findall(rf'name="{name}"\r\n\r\n(.*?)\r\n', body)


def test_a_form_gets_the_ids_and_waits_until_all_is_there(blank, big):
    desk = blank(FORM, ELEMENT).ready()
    sent = posted(desk)
    publish = desk.page.get_by_role("button", name="Publish")
    alert = desk.page.get_by_role("alert")
    publish.click()
    expect(alert).to_contain_text("Please choose a file.")
    desk.in_the_middle(big)
    publish.click()
    expect(alert).to_contain_text("The form is sent as soon as all files are uploaded.")
    assert sent == []
    desk.throttle()
    expect(desk.page).to_have_title("Thanks", timeout=30_000)
    (upload,) = desk.uploads("complete")
    assert field(sent[0], "photos") == [upload["id"]]
    assert field(sent[0], "verb") == ["publish"]
    assert "film.bin" not in sent[0]


def test_without_scripts_the_form_posts_the_files(browser, site, tmp_path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.route(
        "**/blank/",
        lambda route: route.fulfill(body=FORM, content_type="text/html"),
    )
    page.goto(f"{site.url}/blank/")
    (tmp_path / "a.txt").write_text("hello")
    page.get_by_label("Photos").set_input_files(tmp_path / "a.txt")
    with page.expect_request(lambda request: request.method == "POST") as posting:
        page.get_by_role("button", name="Publish").click()
    assert 'name="photos"; filename="a.txt"' in posting.value.post_data
    context.close()


# --- Ways in ------------------------------------------------------------------------


def paste(page, selector, name, kind, content):
    page.evaluate(
        """([selector, name, type, content]) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([bytes], name, {type}));
            const options = {clipboardData, bubbles: true, cancelable: true};
            document.querySelector(selector)
                .dispatchEvent(new ClipboardEvent('paste', options));
        }""",
        [selector, name, kind, base64.b64encode(content).decode()],
    )


def test_pasted_pictures_go_up_wherever_the_focus_is_and_get_a_name(desk):
    paste(desk.page, "body", "image.png", "image/png", PNG)
    row = desk.root.locator("[data-ru-row]")
    expect(row).to_have_attribute("data-ru-state", "complete", timeout=20_000)
    (upload,) = desk.uploads("complete")
    assert re.fullmatch(r"pasted [\d-]{10} [\d.]+\.png", upload["filename"])
    assert desk.download(upload) == PNG


def test_images_show_what_they_are_and_others_do_not(desk):
    desk.choose(
        made("photo.png", PNG, "image/png"),
        made("broken.png", b"no image", "image/png"),
        made("a.txt"),
    )
    desk.wait_complete("photo.png", "broken.png", "a.txt")
    expect(desk.row("photo.png").locator("canvas")).to_be_visible()
    for name in ("broken.png", "a.txt"):
        expect(desk.row(name).locator("canvas")).to_be_hidden()
        shown = desk.row(name).locator("svg:visible")
        expect(shown).to_have_attribute("data-ru-icon", "complete")


PICTURES = """async ([pictures, scale]) => {
    const base = '/static/resumable_uploads';
    const {ResumableUploader} = await import(`${base}/uploader.js`);
    const {scaledPicture} = await import(`${base}/images.js`);
    const canvas = new OffscreenCanvas(400, 200);
    canvas.getContext('2d').fillRect(0, 0, 400, 200);
    const blob = await canvas.convertToBlob({type: 'image/png'});
    const preprocess = scale && ((file) => scaledPicture(file, scale));
    const endpoint = '/uploads/';
    const uploader = new ResumableUploader({endpoint, pictures, preprocess});
    const [upload] = uploader.add([{file: blob, name: 'canvas.png'}]);
    await new Promise((resolve) => {
        uploader.addEventListener('complete', resolve);
        uploader.addEventListener('error', resolve);
    });
    if (upload.error) return [upload.error.code, upload.error.facts.width];
    const answer = await fetch(upload.server.file.url);
    const sent = await createImageBitmap(await answer.blob());
    return [sent.width, sent.height];
}"""


@pytest.mark.parametrize(
    ("pictures", "scale", "outcome"),
    [
        ({"minWidth": 100}, None, [400, 200]),
        ({"minHeight": 300}, None, ["picture_too_small", 400]),
        ({"maxWidth": 399}, None, ["picture_too_large", 400]),
        ({"maxWidth": 399}, {"maxWidth": 100}, [100, 50]),
    ],
)
def test_pictures_of_a_canvas_are_measured_and_scaled(desk, pictures, scale, outcome):
    assert desk.page.evaluate(PICTURES, [pictures, scale]) == outcome


def test_the_camera_is_offered_to_fingers(browser, site):
    context = browser.new_context(has_touch=True, is_mobile=True)
    desk = Desk(context.new_page(), site.url).open()
    camera = desk.page.get_by_label("Take a photo")
    assert camera.get_attribute("capture") == "environment"
    expect(desk.page.get_by_text("Take a photo")).to_be_visible()
    camera.set_input_files([made("shot.png", PNG, "image/png")])
    desk.wait_complete("shot.png")
    context.close()


def test_a_complete_file_is_deleted_after_a_question(desk):
    questions = []
    desk.page.on("dialog", lambda d: (questions.append(d.message), d.accept()))
    desk.choose(made("a.txt"))
    desk.wait_complete("a.txt")
    desk.press("Delete", "a.txt")
    expect(desk.row("a.txt")).to_have_count(0)
    assert questions == ["Delete “a.txt” from the server?"]
    assert desk.uploads("complete") == []


# --- Checksums, tabs, checkpoints ---------------------------------------------------


def test_digests_are_made_in_a_worker_and_the_server_compares(desk, big):
    desk.page.evaluate(
        """async () => {
            const {mount} = await import('/static/resumable_uploads/widget.js');
            const root = document.querySelector('[data-ru-uploader]');
            mount(root).destroy();
            mount(root, {digest: true, checksum: true});
        }"""
    )
    with desk.page.expect_worker() as working:
        desk.choose(big)
    assert working.value.url.endswith("/hash-worker.js")
    desk.wait_complete("film.bin")
    assert all("content-digest" in request.headers for request in desk.line.sent)
    (upload,) = desk.uploads("complete")
    assert upload["checksum"].startswith("sha-256:")
    assert desk.download(upload) == big.read_bytes()


def test_two_tabs_send_a_file_once(desk, big):
    other = Desk(desk.page.context.new_page(), desk.url).open()
    desk.in_the_middle(big)
    other.choose(big)
    other.wait("film.bin", "waiting")
    expect(other.row("film.bin")).to_contain_text("Another tab is uploading this file.")
    desk.throttle()
    desk.wait_complete("film.bin")
    other.wait_complete("film.bin")
    assert other.line.sent == []
    assert len(desk.uploads()) == 1


CHECKPOINT = """async () => {
    const {mount} = await import('/static/resumable_uploads/widget.js');
    const {uploader} = mount(document.querySelector('[data-ru-uploader]'));
    return JSON.stringify(await uploader.uploads[0].checkpoint());
}"""
GO_ON = """async (checkpoint) => {
    const {mount} = await import('/static/resumable_uploads/widget.js');
    const {uploader} = mount(document.querySelector('[data-ru-uploader]'));
    const input = document.querySelector('#other');
    await uploader.resumeFrom(JSON.parse(checkpoint), input.files[0]);
}"""


def test_a_checkpoint_goes_on_in_a_browser_that_knows_nothing(desk, big, browser):
    desk.in_the_middle(big)
    checkpoint = desk.page.evaluate(CHECKPOINT)
    cookies = desk.page.context.cookies()
    desk.page.close()
    elsewhere = browser.new_context()
    elsewhere.add_cookies(cookies)
    other = Desk(elsewhere.new_page(), desk.url).open()
    other.page.evaluate(
        """() => document.body.insertAdjacentHTML(
            'beforeend', '<input type="file" id="other">')"""
    )
    copy = big.with_name("copy.bin")
    copy.write_bytes(big.read_bytes())
    other.page.set_input_files("#other", copy)
    other.page.evaluate(GO_ON, checkpoint)
    other.wait_complete("copy.bin")
    assert len(other.line.sent) < 13
    (upload,) = other.uploads()
    assert other.download(upload) == big.read_bytes()
    elsewhere.close()


# --- The network that is cut --------------------------------------------------------


def test_the_demo_s_switch_cuts_the_network_and_mends_it(page, site, big):
    desk = Desk(page, site.url, "/").open()
    desk.in_the_middle(big)
    switch = page.get_by_role("switch", name="Cut the network")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    desk.wait("film.bin", "waiting")
    desk.throttle()
    sent = len(desk.line.sent)
    page.wait_for_timeout(600)
    assert len(desk.line.sent) == sent
    switch.click()
    desk.wait_complete("film.bin")
    assert desk.download(desk.uploads()[0]) == big.read_bytes()


def test_the_server_restarts_and_tokens_change_in_the_middle(page, make_live_site, big):
    site = make_live_site(uploads={"CHUNK_SIZE": MIB})
    desk = Desk(page, site.url).open()
    desk.in_the_middle(big)
    site.kill()
    desk.wait("film.bin", "waiting")
    page.evaluate("document.cookie = `csrftoken=${'b'.repeat(32)}; path=/`")
    desk.throttle()
    site.start()
    desk.wait_complete("film.bin", seconds=60)
    (upload,) = desk.uploads("complete")
    assert desk.download(upload) == big.read_bytes()


def test_a_tab_that_was_put_to_sleep_goes_on(desk, big):
    session = desk.page.context.new_cdp_session(desk.page)
    desk.in_the_middle(big)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    desk.throttle(offline=True)
    time.sleep(2)
    session.send("Page.setWebLifecycleState", {"state": "active"})
    desk.throttle()
    desk.wait_complete("film.bin", seconds=60)
    assert desk.download(desk.uploads()[0]) == big.read_bytes()


# --- Many files ---------------------------------------------------------------------


def test_two_hundred_files_and_a_large_one(desk, tmp_path):
    """The page stays responsive, and only what is under way is in memory."""
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(64 * MIB)
    desk.page.evaluate(
        """() => {
            window.longest = 0;
            new PerformanceObserver((list) => {
                for (const task of list.getEntries()) {
                    window.longest = Math.max(window.longest, task.duration);
                }
            }).observe({type: 'longtask'});
        }"""
    )
    names = [f"{number:03}.txt" for number in range(200)]
    small = []
    for name in names:
        (tmp_path / name).write_text(name)
        small.append(tmp_path / name)
    desk.choose(*small, large)
    done = desk.page.get_by_text("Files complete: 201 of 201")
    expect(done).to_be_visible(timeout=180_000)
    assert len(desk.page.query_selector_all("[data-ru-row]")) == 201
    heap = desk.page.evaluate("performance.memory.usedJSHeapSize")
    assert heap < 64 * MIB
    # Generous, for a busy machine; docs/uploader.md has what was measured.
    assert desk.page.evaluate("window.longest") < 2000


# --- For everybody ------------------------------------------------------------------


def test_axe_finds_nothing_on_any_page(page, site, big):
    desk = Desk(page, site.url).open()
    check(page)
    page.route("**/uploads/", lambda route: refuse_one(route))
    desk.choose(made("done.txt", PNG, "image/png"), made("bad.txt"))
    desk.wait_complete("done.txt")
    desk.wait("bad.txt", "failed")
    desk.in_the_middle(big)
    check(page)
    desk.press("Pause", "film.bin")
    desk.wait("film.bin", "paused")
    check(page)
    desk.page.on("dialog", lambda dialog: dialog.accept())
    desk.reload()
    expect(desk.unfinished).to_have_count(1)
    check(page)
    clients = [f"/demo/{name}/" for name in CLIENTS]
    for path in ("/", "/my-uploads/", *clients):
        page.goto(site.url + path)
        check(page)


def refuse_one(route):
    if route.request.method == "POST" and "bad.txt" in (route.request.post_data or ""):
        body = '{"code": "quota_exceeded", "detail": "Enough is enough."}'
        return route.fulfill(status=413, body=body, content_type="application/json")
    return route.continue_()


def test_from_right_to_left(browser, site, big):
    context = browser.new_context(viewport={"width": 375, "height": 740})
    page = context.new_page()
    desk = Desk(page, site.url).open()
    page.evaluate("document.documentElement.dir = 'rtl'")
    desk.choose(made("ملف.txt"))
    desk.wait_complete("ملف.txt")
    desk.in_the_middle(big)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    icon = desk.row("film.bin").locator(".ru-icon").bounding_box()
    name = desk.row("film.bin").locator("[data-ru=name]").bounding_box()
    assert icon["x"] > name["x"]
    context.close()


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", ["Dateien auswählen", "Fertig"]),
        ("es", ["Elegir archivos", "Completo"]),
        ("fr", ["Choisir des fichiers", "Terminé"]),
        ("zh-CN", ["选择文件", "已完成"]),
    ],
)
def test_the_widget_speaks_the_browser_s_language(browser, site, language, words):
    context = browser.new_context(locale=language)
    page = context.new_page()
    Desk(page, site.url).open()
    choose, complete = words
    page.get_by_label(choose, exact=True).set_input_files([made("a.txt")])
    row = page.locator("[data-ru-row]")
    expect(row).to_have_attribute("data-ru-state", "complete", timeout=20_000)
    expect(row).to_contain_text(complete)
    context.close()
