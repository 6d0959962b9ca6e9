"""The bundled uploader in a real browser, before the demo site."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from .desk import MIB, Desk, made

pytestmark = pytest.mark.once

CHUNKS = "**/chunks/*/"
SIZE = 12 * MIB + 5
COUNT = 13  # chunks of 1 MiB


@pytest.fixture
def big(tmp_path):
    path = tmp_path / "film.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


# --- Files go up --------------------------------------------------------------------


def test_a_small_file_goes_up_and_comes_back(desk):
    content = os.urandom(1000)
    desk.choose(made("a.bin", content))
    desk.wait_complete("a.bin")
    (upload,) = desk.uploads("complete")
    assert desk.download(upload) == content
    link = desk.page.get_by_role("link", name="Download: a.bin")
    assert link.get_attribute("href") == upload["file"]["url"]


def test_a_large_file_goes_up_in_parallel_chunks(desk, big):
    desk.choose(big)
    desk.wait_complete("film.bin")
    assert desk.download(desk.uploads()[0]) == big.read_bytes()
    assert len(desk.line.sent) == COUNT
    assert desk.line.most_at_once == 3


def test_several_files_at_once_have_one_owner_and_a_total(desk):
    names = [f"{number}.txt" for number in range(8)]
    desk.choose(*(made(name, name.encode()) for name in names))
    desk.wait_complete(*names)
    uploads = desk.uploads("complete")
    assert {upload["filename"] for upload in uploads} == set(names)
    assert {desk.download(upload).decode() for upload in uploads} == set(names)
    expect(desk.page.get_by_text("Files complete: 8 of 8")).to_be_visible()


def test_more_files_than_may_be_open_at_once(page, make_live_site):
    rules = {"max_open": 4}
    site = make_live_site(uploads={"POLICIES": {"default": rules}})
    desk = Desk(page, site.url).open()
    names = [f"photo-{number:02}.txt" for number in range(30)]
    desk.choose(*(made(name, b"x") for name in names))
    text = desk.page.get_by_text("Files complete: 30 of 30")
    expect(text).to_be_visible(timeout=60_000)
    assert len(desk.line.sent) == 30


def test_an_empty_file_is_complete_at_once(desk):
    desk.choose(made("empty.txt", b""))
    desk.wait_complete("empty.txt")
    assert desk.line.sent == []
    assert desk.download(desk.uploads()[0]) == b""


@pytest.mark.parametrize(
    "name",
    [
        "报告 最终版.txt",
        "写真.txt",
        'it\'s "quoted" & <b>bold<b>.txt',
        "🎉👩‍👩‍👧 party.txt",
        "ملف.txt",
        "100% #1? a+b.txt",
        "n" * 200 + ".txt",
    ],
)
def test_a_name_of_any_script_is_kept(desk, name):
    desk.choose(made(name, name.encode()))
    desk.wait_complete(name)
    (upload,) = desk.uploads()
    assert upload["filename"] == name
    assert desk.download(upload).decode() == name


def test_dropped_files_go_up(desk):
    desk.drop("one.txt", "two.txt")
    desk.wait_complete("one.txt", "two.txt")


def test_a_dropped_folder_goes_up_with_its_paths(desk, tmp_path):
    (tmp_path / "trip" / "day 1").mkdir(parents=True)
    (tmp_path / "trip" / "a.txt").write_text("a")
    (tmp_path / "trip" / "day 1" / "b.txt").write_text("b")
    drag_from_outside(desk, tmp_path / "trip")
    desk.wait_complete("trip/a.txt", "trip/day 1/b.txt")
    found = {(u["relative_path"], u["filename"]) for u in desk.uploads()}
    assert found == {("trip", "a.txt"), ("trip/day 1", "b.txt")}


def drag_from_outside(desk, path):
    """Drop a real file or folder, as the file manager would."""
    box = desk.root.locator(".ru-drop").bounding_box()
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    session = desk.page.context.new_cdp_session(desk.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})


def test_a_chosen_folder_goes_up_with_its_paths(desk, tmp_path):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "one.txt").write_text("1")
    desk.page.get_by_label("Choose a folder").set_input_files(tmp_path / "papers")
    desk.wait_complete("papers/one.txt")
    assert desk.uploads()[0]["relative_path"] == "papers"


# --- Buttons ------------------------------------------------------------------------


def test_a_paused_upload_rests_and_goes_on_where_it_was(desk, big):
    desk.in_the_middle(big)
    desk.press("Pause", "film.bin")
    desk.wait("film.bin", "paused")
    cut = len(desk.line.failed)
    sent = len(desk.line.sent)
    desk.page.wait_for_timeout(700)
    assert len(desk.line.sent) == sent
    desk.throttle()
    desk.press("Resume", "film.bin")
    desk.wait_complete("film.bin")
    assert desk.line.repeats() <= cut <= 3
    assert desk.download(desk.uploads()[0]) == big.read_bytes()


def test_a_cancelled_upload_is_gone_from_the_server_too(desk, big):
    desk.page.on("dialog", lambda dialog: dialog.accept())
    desk.in_the_middle(big)
    desk.press("Cancel", "film.bin")
    desk.wait("film.bin", "cancelled")
    expect(desk.page.get_by_role("button", name="Clear: film.bin")).to_be_visible()
    desk.page.wait_for_timeout(300)
    assert [u["state"] for u in desk.uploads()] == ["cancelled"]
    desk.press("Clear", "film.bin")
    expect(desk.row("film.bin")).to_have_count(0)


def test_much_is_not_thrown_away_without_a_question(desk, big):
    big.write_bytes(os.urandom(20 * MIB))
    questions = []
    desk.page.on("dialog", lambda d: (questions.append(d.message), d.dismiss()))
    # Three more than are precious: the page may not have heard of the last ones yet.
    desk.in_the_middle(big, chunks=12)
    desk.press("Cancel", "film.bin")
    assert questions == ["Cancel “film.bin” and discard what has been uploaded of it?"]
    desk.throttle()
    desk.wait_complete("film.bin")


def test_all_files_are_paused_resumed_and_cleared_together(desk, tmp_path):
    desk.throttle(3 * MIB)
    for name in ("1.bin", "2.bin"):
        (tmp_path / name).write_bytes(os.urandom(4 * MIB))
    desk.choose(tmp_path / "1.bin", tmp_path / "2.bin")
    desk.page.get_by_role("button", name="Pause all").click()
    desk.wait("1.bin", "paused")
    desk.wait("2.bin", "paused")
    desk.page.get_by_role("button", name="Resume all").click()
    desk.wait_complete("1.bin", "2.bin")
    desk.page.get_by_role("button", name="Clear finished").click()
    expect(desk.root.locator("[data-ru-row]")).to_have_count(0)
    assert len(desk.uploads("complete")) == 2


def test_leaving_the_page_in_the_middle_asks_first(desk, big):
    kinds = []
    desk.throttle(2 * MIB)
    desk.page.on("dialog", lambda d: (kinds.append(d.type), d.accept()))
    desk.choose(big)
    desk.wait("film.bin", "uploading")
    desk.press("Pause", "film.bin")
    desk.reload()
    assert kinds == []
    desk.choose(big)
    desk.wait("film.bin", "uploading")
    desk.page.locator("h1").click()
    desk.reload()
    assert kinds == ["beforeunload"]


# --- What may not go up -------------------------------------------------------------


@pytest.fixture
def strict_site(make_live_site):
    rules = {"allowed_extensions": ["txt", "pdf"], "max_size": MIB}
    return make_live_site(uploads={"POLICIES": {"default": rules}})


def test_a_file_of_the_wrong_kind_is_refused_in_words(page, strict_site):
    desk = Desk(page, strict_site.url).open()
    expect(desk.page.get_by_text("Accepted: .txt, .pdf.")).to_be_visible()
    desk.choose(made("virus.exe"), made("good.txt"))
    alert = desk.page.get_by_role("alert")
    expect(alert).to_contain_text(
        "“virus.exe” is not of an accepted type (.txt, .pdf)."
    )
    desk.wait_complete("good.txt")
    assert [u["filename"] for u in desk.uploads()] == ["good.txt"]


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(page, strict_site):
    desk = Desk(page, strict_site.url).open()
    expect(desk.page.get_by_text("Up to 1\u00a0MB per file.")).to_be_visible()
    desk.choose(made("large.txt", b"x" * (MIB + 1)))
    expect(desk.page.get_by_role("alert")).to_contain_text("“large.txt” is too large")
    assert desk.uploads() == []


def test_the_server_s_own_words_are_shown(page, strict_site):
    desk = Desk(page, strict_site.url).open()
    # As when the policy has changed since the page was loaded.
    page.evaluate(
        """async () => {
            const {mount} = await import('/static/resumable_uploads/widget.js');
            mount(document.querySelector('[data-ru-uploader]')).uploader.limits = {};
        }"""
    )
    with page.expect_response("**/uploads/") as refusing:
        desk.choose(made("virus.exe"))
    assert refusing.value.status == 422
    desk.wait("virus.exe", "failed")
    expect(desk.row("virus.exe")).to_contain_text(refusing.value.json()["detail"])
    expect(page.get_by_role("button", name="Try again: virus.exe")).to_be_visible()


# --- Trouble ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503])
def test_after_one_error_it_tries_again_by_itself(desk, big, status):
    failed = []

    def fail_once(route):
        if failed:
            route.continue_()
        else:
            failed.append(route.request.url)
            route.fulfill(status=status, body="<h1>Trouble</h1>")

    desk.page.route(CHUNKS, fail_once)
    desk.note_events("waiting")
    desk.choose(big)
    desk.wait_complete("film.bin")
    assert desk.events() == [["waiting", "film.bin"]]
    assert desk.line.repeats() == 1
    assert desk.download(desk.uploads()[0]) == big.read_bytes()


def test_a_retry_after_is_waited_for(desk):
    times = []

    def busy_once(route):
        times.append(desk.page.evaluate("performance.now()"))
        if len(times) == 1:
            headers = {"Retry-After": "2", "Content-Type": "application/json"}
            body = '{"code": "throttled", "detail": "Slowly."}'
            route.fulfill(status=429, headers=headers, body=body)
        else:
            route.continue_()

    desk.page.route(CHUNKS, busy_once)
    desk.choose(made("a.txt"))
    desk.wait_complete("a.txt")
    assert times[1] - times[0] >= 2000


def test_without_a_network_it_waits_and_goes_on_when_it_is_back(desk, big):
    desk.in_the_middle(big)
    desk.throttle(offline=True)
    desk.wait("film.bin", "waiting")
    expect(desk.page.get_by_text("There is no network.")).to_be_visible()
    failed = len(desk.line.failed)
    desk.page.wait_for_timeout(1500)
    assert len(desk.line.failed) == failed
    desk.throttle()
    desk.wait_complete("film.bin")
    assert desk.line.repeats() <= failed <= 3
    assert desk.download(desk.uploads()[0]) == big.read_bytes()


def test_a_line_that_stands_still_is_given_up_and_tried_again(desk):
    hung = []

    def hang_once(route):
        if hung:
            route.continue_()
        else:
            hung.append(route)

    desk.page.route(CHUNKS, hang_once)
    desk.page.evaluate(
        """async () => {
            const {ResumableUploader} =
                await import('/static/resumable_uploads/uploader.js');
            const uploader = new ResumableUploader({
                endpoint: '/uploads/', stallTimeout: 1, answerTimeout: 1});
            window.waited = [];
            uploader.addEventListener('waiting', (event) =>
                window.waited.push(event.detail.error.code));
            const done = new Promise((resolve) =>
                uploader.addEventListener('complete', resolve));
            uploader.add([new File(['x'.repeat(1000)], 'stalled.txt')]);
            await done;
        }"""
    )
    assert desk.page.evaluate("window.waited") == ["stalled"]
    assert len(hung) == 1
    assert desk.download(desk.uploads()[0]) == b"x" * 1000


def test_a_proxy_that_refuses_large_bodies_gets_smaller_ones(
    page, site, make_nginx, big
):
    host = urlsplit(site.url).netloc
    nginx = make_nginx(
        f"""client_max_body_size 300k;
        location / {{
            proxy_pass http://{host};
            proxy_set_header Host $http_host;
            proxy_http_version 1.1;
            proxy_request_buffering off;
        }}"""
    )
    desk = Desk(page, nginx.url).open()
    desk.choose(big)
    desk.wait_complete("film.bin", seconds=40)
    (upload,) = desk.uploads("complete")
    assert upload["chunk_size"] == 256 * 1024
    assert desk.download(upload) == big.read_bytes()


def test_a_new_csrf_token_is_used_at_once(desk, big):
    """Somebody logs in in another tab: the cookie changes under the running upload."""
    desk.in_the_middle(big)
    desk.page.evaluate("document.cookie = `csrftoken=${'a'.repeat(32)}; path=/`")
    with desk.page.expect_request("**/complete/") as completing:
        desk.throttle()
    desk.wait_complete("film.bin")
    assert completing.value.headers["x-csrftoken"] == "a" * 32
    assert desk.line.sent[0].headers["x-csrftoken"] != "a" * 32


def test_where_scripts_cannot_read_the_cookie_the_form_s_token_is_used(
    page, make_live_site
):
    site = make_live_site(settings={"CSRF_COOKIE_HTTPONLY": True})
    desk = Desk(page, site.url).open()
    assert "csrftoken" not in page.evaluate("document.cookie")
    desk.choose(made("a.txt"))
    desk.wait_complete("a.txt")


# --- Coming back --------------------------------------------------------------------


def interrupt(desk, big):
    """Reload in the middle of an upload; return how many chunks that cut off."""
    desk.in_the_middle(big)
    desk.reload()
    desk.throttle()
    return len(desk.line.failed)


def test_after_a_reload_the_same_file_goes_on(desk, big):
    cut = interrupt(desk, big)
    expect(desk.unfinished).to_have_count(1)
    expect(desk.unfinished).to_contain_text("film.bin")
    desk.note_events("resumed", "complete")
    desk.choose(big)
    desk.wait_complete("film.bin")
    expect(desk.unfinished).to_have_count(0)
    assert desk.line.repeats() <= cut <= 3
    assert ["resumed", "film.bin"] in desk.events()
    expect(desk.row("film.bin")).to_be_visible()
    (upload,) = desk.uploads()
    assert desk.download(upload) == big.read_bytes()


def test_the_button_of_an_unfinished_upload_lets_choose_its_file(desk, big):
    interrupt(desk, big)
    button = desk.page.get_by_role("button", name="Choose the file: film.bin")
    with desk.page.expect_file_chooser() as chooser:
        button.click()
    chooser.value.set_files(big)
    desk.wait_complete("film.bin")
    assert len(desk.uploads()) == 1


def test_another_file_than_the_unfinished_one_is_pointed_out(desk, big):
    interrupt(desk, big)
    button = desk.page.get_by_role("button", name="Choose the file: film.bin")
    with desk.page.expect_file_chooser() as chooser:
        button.click()
    chooser.value.set_files([made("other.txt")])
    alert = desk.page.get_by_role("alert")
    expect(alert).to_contain_text("“other.txt” is not the file “film.bin”.")
    desk.wait_complete("other.txt")
    expect(desk.unfinished).to_have_count(1)


def test_an_unfinished_upload_can_be_discarded(desk, big):
    interrupt(desk, big)
    desk.page.on("dialog", lambda dialog: dialog.accept())
    desk.page.get_by_role("button", name="Discard: film.bin").click()
    expect(desk.unfinished).to_have_count(0)
    assert desk.uploads("receiving") == []
    desk.reload()
    expect(desk.unfinished).to_have_count(0)


def test_a_file_of_the_same_name_but_other_bytes_is_another_upload(desk, big):
    interrupt(desk, big)
    big.write_bytes(os.urandom(SIZE))
    desk.choose(big)
    desk.wait_complete("film.bin")
    (upload,) = desk.uploads("complete")
    assert desk.download(upload) == big.read_bytes()
    assert len(desk.uploads("receiving")) == 1


def test_a_listener_may_say_that_the_old_upload_is_not_wanted(desk, big):
    interrupt(desk, big)
    (old,) = desk.uploads()
    desk.note_events("resumed")
    desk.page.evaluate(
        """document.addEventListener('resumable-uploads:resume',
            (event) => event.preventDefault())"""
    )
    desk.choose(big)
    desk.wait_complete("film.bin")
    states = {upload["id"]: upload["state"] for upload in desk.uploads()}
    assert states.pop(old["id"]) == "cancelled"
    assert list(states.values()) == ["complete"]
    assert desk.events() == []


def remember(desk, days_ago):
    """Let the browser's only record be some days old."""
    desk.page.evaluate(
        """days => {
            const [name] = Object.keys(localStorage)
                .filter((key) => key.startsWith('resumable-uploads:'));
            const record = JSON.parse(localStorage[name]);
            record.touched -= days * 24 * 60 * 60 * 1000;
            localStorage[name] = JSON.stringify(record);
        }""",
        days_ago,
    )


def test_records_are_shown_without_the_server_until_they_expire(desk, big):
    interrupt(desk, big)
    desk.page.route("**/uploads/?state=receiving", lambda route: route.abort())
    remember(desk, days_ago=6.9)
    desk.reload()
    expect(desk.unfinished).to_contain_text("film.bin")
    remember(desk, days_ago=0.2)
    desk.reload()
    desk.page.wait_for_timeout(300)
    expect(desk.unfinished).to_have_count(0)
    assert desk.page.evaluate("localStorage.length") == 0


def test_a_finished_upload_leaves_no_record(desk):
    desk.choose(made("a.txt"))
    desk.wait_complete("a.txt")
    assert desk.page.evaluate("localStorage.length") == 0


def test_it_works_where_nothing_may_be_stored(desk, big):
    desk.page.add_init_script(
        """Object.defineProperty(window, 'localStorage', {
            get() { throw new DOMException('No', 'SecurityError'); }})"""
    )
    desk.open()
    interrupt(desk, big)
    desk.choose(big)
    desk.wait_complete("film.bin")
    assert len(desk.uploads()) == 1


# --- For everybody ------------------------------------------------------------------


def focused(desk):
    return desk.page.evaluate(
        """() => {
            const element = document.activeElement;
            return element.getAttribute('aria-label') || element.labels?.[0]?.innerText
                || element.innerText;
        }"""
    )


def tab_to(desk, label):
    for _ in range(40):
        desk.page.keyboard.press("Tab")
        if focused(desk).strip() == label:
            return
    raise AssertionError(f"The Tab key never reaches {label!r}.")


def test_the_keyboard_alone_is_enough(desk, big):
    desk.throttle(4 * MIB)
    # From the start: else the key is quicker than the browser learns to leave it to us.
    desk.page.on("filechooser", lambda chooser: chooser.set_files(big))
    tab_to(desk, "Choose files")
    desk.page.keyboard.press("Enter")
    desk.wait_chunks(2)
    desk.throttle(20_000)
    tab_to(desk, "Pause: film.bin")
    desk.page.keyboard.press("Enter")
    desk.wait("film.bin", "paused")
    assert focused(desk) == "Resume: film.bin"
    desk.page.keyboard.press("Space")
    desk.wait("film.bin", "uploading")
    desk.throttle()
    desk.wait_complete("film.bin")
    # The button that had the focus is gone: it must not be lost.
    assert focused(desk) == "Clear: film.bin"
    desk.page.keyboard.press("Enter")
    expect(desk.row("film.bin")).to_have_count(0)
    assert focused(desk) == "Choose files"


def test_the_keyboard_alone_cancels_too(desk, big):
    desk.page.on("dialog", lambda dialog: dialog.accept())
    desk.in_the_middle(big)
    tab_to(desk, "Cancel: film.bin")
    desk.page.keyboard.press("Enter")
    desk.wait("film.bin", "cancelled")
    assert focused(desk) == "Clear: film.bin"


def test_the_focus_can_be_seen(desk):
    tab_to(desk, "Choose files")
    outline = desk.page.get_by_text("Choose files").evaluate(
        "element => getComputedStyle(element).outlineStyle"
    )
    assert outline == "solid"


def test_a_screen_reader_hears_steps_of_25_percent(desk, big):
    desk.listen()
    desk.throttle(3 * MIB)
    desk.choose(big)
    desk.wait_complete("film.bin")
    desk.page.wait_for_timeout(3000)
    assert desk.spoken() == [
        "film.bin: added.",
        "25 percent uploaded.",
        "50 percent uploaded.",
        "75 percent uploaded.",
        "film.bin: complete.",
    ]


def outline(desk):
    """Return the widget as assistive technology sees it."""
    return desk.page.locator("main").aria_snapshot()


def test_every_control_has_a_name_and_bars_say_whose_they_are(desk, big):
    desk.throttle(3 * MIB)
    desk.choose(made("small.txt"))
    desk.choose(big)
    desk.wait("film.bin", "uploading")
    page = desk.page
    controls = re.findall(r"- '?(?:button|link|progressbar|region).*", outline(desk))
    assert len(controls) >= 8
    assert all(re.search(r'"\S.*"', control) for control in controls), controls
    expect(page.get_by_role("progressbar", name="Progress: film.bin")).to_be_visible()
    expect(
        page.get_by_role("progressbar", name="Progress of all files")
    ).to_be_visible()


def test_states_differ_by_words_and_shapes(desk):
    desk.page.route("**/uploads/", lambda route: refuse(route))
    desk.choose(made("bad.txt"))
    desk.wait("bad.txt", "failed")
    expect(desk.row("bad.txt")).to_contain_text("Failed")
    expect(desk.row("bad.txt")).to_contain_text("Enough is enough.")
    shown = desk.row("bad.txt").locator("svg:visible")
    expect(shown).to_have_attribute("data-ru-icon", "failed")


def refuse(route):
    if route.request.method != "POST":
        return route.continue_()
    body = '{"code": "quota_exceeded", "detail": "Enough is enough."}'
    return route.fulfill(status=413, body=body, content_type="application/json")


@pytest.mark.parametrize("width", [360, 375, 768, 1280])
def test_nothing_sticks_out_of_a_narrow_window(desk, big, width):
    desk.page.set_viewport_size({"width": width, "height": 740})
    desk.throttle(3 * MIB)
    long = "a very long name without any sense but with many words in it " * 3
    desk.choose(made(long + ".txt"), made("x" * 150 + ".txt"))
    desk.choose(big)
    desk.wait("film.bin", "uploading")
    for path in (None, "/", "/my-uploads/"):
        if path:
            desk.page.goto(desk.url + path)
        inside = "document.documentElement.scrollWidth <= innerWidth"
        assert desk.page.evaluate(inside), path


def test_who_wants_less_motion_gets_none(browser, site):
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    desk = Desk(page, site.url).open()
    page.route("**/complete/", lambda route: None)
    desk.choose(made("a.txt"))
    desk.wait("a.txt", "processing")
    bar = desk.row("a.txt").locator("progress")
    assert bar.evaluate("bar => getComputedStyle(bar).animationName") == "none"
    context.close()


# --- The page -----------------------------------------------------------------------


def test_the_strictest_policy_for_content_is_kept(page, site):
    """The fixture fails the test when the browser reports a violation."""
    seen = []

    def harden(route):
        answer = route.fetch()
        headers = {**answer.headers, "content-security-policy": "default-src 'self'"}
        seen.append(headers)
        route.fulfill(response=answer, headers=headers)

    page.route("**/upload/", harden)
    desk = Desk(page, site.url).open()
    desk.choose(made("a.txt"), made("b.txt"))
    desk.wait_complete("a.txt", "b.txt")
    desk.reload()
    assert len(seen) == 2


def test_the_page_is_not_kept_by_caches(desk):
    answer = desk.page.request.get(f"{desk.url}/upload/")
    assert answer.headers["cache-control"] == "no-store"


def test_events_bubble_to_the_document(desk):
    desk.note_events("added", "state", "progress", "complete", "idle")
    desk.choose(made("a.txt"))
    desk.wait_complete("a.txt")
    names = [name for name, _ in desk.events()]
    assert names[0] == "added"
    assert {"added", "state", "progress", "complete", "idle"} == set(names)


def test_my_uploads_continues_downloads_and_discards(desk, big):
    page = desk.page
    desk.choose(made("done.txt", b"all of it"))
    desk.wait_complete("done.txt")
    interrupt(desk, big)
    page.goto(f"{desk.url}/my-uploads/")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download done.txt").click()
    assert download.value.path().read_bytes() == b"all of it"
    page.get_by_role("link", name="Continue film.bin").click()
    desk.ready()
    expect(desk.unfinished).to_contain_text("film.bin")
    page.goto(f"{desk.url}/my-uploads/")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Discard film.bin").click()
    expect(page.get_by_role("status")).to_have_text("“film.bin” was discarded.")
    assert desk.uploads("receiving") == []


def test_the_front_page_leads_to_the_others(page, site):
    page.goto(site.url)
    page.get_by_role("link", name="Upload files").click()
    expect(page.get_by_role("heading", name="Upload files")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="My uploads").click()
    expect(page.get_by_role("heading", name="My uploads")).to_be_visible()
