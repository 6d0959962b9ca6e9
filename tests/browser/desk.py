"""The upload page under a person's hands, and a look at the line while it works."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Locator, Page, Request, expect

CHUNK = re.compile(r"/chunks/(\d+)/$")
MIB = 1024 * 1024

File = str | Path | dict[str, Any]


def made(name: str, content: bytes = b"hello", kind: str = "") -> dict[str, Any]:
    """Return a file that exists only in the browser."""
    return {"name": name, "mimeType": kind, "buffer": content}


class Line:
    """The requests of a page that carry chunks."""

    def __init__(self, page: Page) -> None:
        self.sent: list[Request] = []
        self.answered: list[Request] = []
        self.failed: list[Request] = []
        self.in_flight: set[Request] = set()
        self.most_at_once = 0
        page.on("request", self._note_sent)
        page.on("response", lambda r: self._note_end(r.request, self.answered))
        page.on("requestfailed", lambda r: self._note_end(r, self.failed))

    def repeats(self) -> int:
        """Return how many chunk requests sent what an earlier one had sent."""
        counts = Counter(request.url for request in self.sent)
        return sum(counts.values()) - len(counts)

    def _note_sent(self, request: Request) -> None:
        if not _is_chunk(request):
            return
        self.sent.append(request)
        self.in_flight.add(request)
        self.most_at_once = max(self.most_at_once, len(self.in_flight))

    def _note_end(self, request: Request, where: list[Request]) -> None:
        if request in self.in_flight:
            self.in_flight.remove(request)
            where.append(request)


def _is_chunk(request: Request) -> bool:
    return request.method == "PUT" and bool(CHUNK.search(request.url))


class Desk:
    """The upload page of a site, and what a person does with it."""

    def __init__(self, page: Page, url: str, path: str = "/upload/") -> None:
        self.page = page
        self.url = url
        self.path = path
        self._session: CDPSession | None = None
        self.line = Line(page)
        self.root = page.locator("[data-ru-uploader]")
        self.unfinished = page.get_by_role("region", name="Upload files").locator(
            "[data-ru=unfinished-list] li"
        )

    def open(self) -> Desk:
        """Go to the page, or reload it."""
        self.page.goto(self.url + self.path)
        return self.ready()

    def reload(self) -> Desk:
        self.page.reload()
        return self.ready()

    def ready(self) -> Desk:
        self.page.wait_for_selector("[data-ru-ready]")
        return self

    def choose(self, *files: File) -> None:
        self.page.get_by_label("Choose files").set_input_files(list(files))

    def drop(self, *names: str) -> None:
        """Drop small files, as a script sees a drop."""
        transfer = self.page.evaluate_handle(
            """names => {
                const transfer = new DataTransfer();
                for (const name of names) {
                    transfer.items.add(new File(["dropped"], name));
                }
                return transfer;
            }""",
            list(names),
        )
        for event in ("dragenter", "dragover", "drop"):
            self.root.locator(".ru-drop").dispatch_event(
                event, {"dataTransfer": transfer}
            )

    def row(self, name: str) -> Locator:
        return self.root.locator("[data-ru-row]", has_text=name)

    def press(self, action: str, name: str) -> None:
        """Press a file's button."""
        self.page.get_by_role("button", name=f"{action}: {name}", exact=True).click()

    def state(self, name: str) -> str:
        return self.row(name).get_attribute("data-ru-state") or ""

    def wait(self, name: str, *states: str, seconds: float = 20) -> None:
        """Wait until a file is in one of these states."""
        wanted = re.compile(f"^({'|'.join(states)})$")
        row = self.row(name)
        expect(row).to_have_attribute("data-ru-state", wanted, timeout=1000 * seconds)

    def wait_complete(self, *names: str, seconds: float = 20) -> None:
        for name in names:
            self.wait(name, "complete", seconds=seconds)

    def wait_chunks(self, count: int, seconds: float = 30) -> None:
        """Wait until so many chunks have been answered in all."""
        for _ in range(int(100 * seconds)):
            if len(self.line.answered) >= count:
                return
            self.page.wait_for_timeout(10)
        raise AssertionError(f"Only {len(self.line.answered)} chunks were answered.")

    def throttle(self, bytes_per_second: float = -1, offline: bool = False) -> None:
        """Make the way to the server slow, or cut it."""
        if self._session is None:
            self._session = self.page.context.new_cdp_session(self.page)
            self._session.send("Network.enable")
        self._session.send(
            "Network.emulateNetworkConditions",
            {
                "offline": offline,
                "latency": 0,
                "downloadThroughput": -1,
                "uploadThroughput": bytes_per_second,
            },
        )

    def in_the_middle(self, file: File, chunks: int = 2) -> None:
        """Choose a file; let the line all but stop when some chunks are there."""
        before = len(self.line.answered)
        self.throttle(4 * MIB)
        self.choose(file)
        self.wait_chunks(before + chunks)
        self.throttle(20_000)

    def uploads(self, state: str = "") -> list[dict[str, Any]]:
        """Return what the server says are this visitor's uploads."""
        query = f"?state={state}" if state else ""
        answer = self.page.request.get(f"{self.url}/uploads/{query}")
        assert answer.ok, answer.text()
        return answer.json()["results"]

    def download(self, upload: dict[str, Any]) -> bytes:
        return self.page.request.get(self.url + upload["file"]["url"]).body()

    def spoken(self) -> list[str]:
        """Return what the live region has said since ``listen``."""
        return self.page.evaluate("window.spoken")

    def listen(self) -> None:
        self.page.evaluate(
            """() => {
                const region = document.querySelector('[data-ru=live]');
                const hear = () => window.spoken.push(region.textContent);
                const all = {childList: true, characterData: true, subtree: true};
                window.spoken = [];
                new MutationObserver(hear).observe(region, all);
            }"""
        )

    def note_events(self, *names: str) -> None:
        """Keep the details of events as they reach the document."""
        self.page.evaluate(
            """names => {
                window.events = [];
                for (const name of names) {
                    document.addEventListener(`resumable-uploads:${name}`, (event) =>
                        window.events.push([name, event.detail.upload?.name ?? null]));
                }
            }""",
            list(names),
        )

    def events(self) -> Sequence[list[Any]]:
        return self.page.evaluate("window.events")
