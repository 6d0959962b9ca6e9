"""tus and the IETF draft keep the contract of all protocols."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from . import drafts, tus
from .client import Answer
from .contracts.ground import InProcess, Live
from .contracts.protocol import Driver, File, ProtocolContract, Request, must


class AppendingDriver(Driver):
    """A client that knows its upload by the URL the server gave it."""

    keeps_what_was_cut = True
    unknown_size = True
    finds_again = False
    # What was cancelled is as if it had never been; what has expired is gone.
    gone = (404, 410)
    url = ""

    def begin(self, me: Any, file: File) -> str:
        # Who has a session owns uploads; else the URL would be key enough.
        must(me.get("/upload/"), 200)
        return tus.path(must(self.create(me, file), 201))

    def create(self, me: Any, file: File) -> Answer:
        raise NotImplementedError

    def headers(self, offset: int, file: File, size: int) -> dict[str, str]:
        """Return those of a PATCH that brings so many bytes at an offset."""
        raise NotImplementedError

    def append(self, me: Any, handle: str, file: File, offset: int, data: bytes):
        headers = self.headers(offset, file, len(data))
        return me.request("PATCH", handle, data, headers)

    def send(self, me: Any, handle: str, file: File, number: int) -> None:
        piece = file.pieces(self.piece)[number]
        answer = self.append(me, handle, file, number * self.piece, piece)
        end = number * self.piece + len(piece)
        assert must(answer, 204).headers["Upload-Offset"] == str(end)

    def cut(
        self, me: Any, handle: str, file: File, number: int, after: int, how: str
    ) -> None:
        piece = file.pieces(self.piece)[number]
        headers = self.headers(number * self.piece, file, len(piece))
        me.cut("PATCH", handle, piece, after, how, headers=headers)

    def resume(self, me: Any, handle: str, file: File) -> None:
        answer = self.go_on(me, handle, file)
        if answer is not None and answer.status in (400, 409):
            # What was cut may reach the server after the question, and counts then. It
            # also takes the upload over from a request that is there already.
            answer = self.go_on(me, handle, file)
        if answer is not None:
            must(answer, 204)

    def go_on(self, me: Any, handle: str, file: File) -> Answer | None:
        """Ask what is there and send the rest, if there is any."""
        offset = int(must(self.head(me, handle), 200, 204).headers["Upload-Offset"])
        if offset == len(file.data):
            return None
        return self.append(me, handle, file, offset, file.data[offset:])

    def head(self, me: Any, handle: str) -> Answer:
        return me.request("HEAD", handle, headers=self.marks)

    marks: dict[str, str] = {}

    def requests(self, handle: str, file: File) -> list[Request]:
        return [
            Request("HEAD", handle, headers=self.marks),
            Request("GET", handle),
            Request("PATCH", handle, b"abc", self.headers(0, file, 3)),
        ]

    def cancels(self, handle: str) -> list[Request]:
        return [Request("DELETE", handle, headers=self.marks)]

    def called(self, name: str) -> str:
        # A slash would lead to another route.
        return f"{self.url}{quote(name.replace('/', '_').encode())}"


class TusDriver(AppendingDriver):
    """tus 1.0.0."""

    url = tus.URL
    marks = tus.V1

    def create(self, me: Any, file: File) -> Answer:
        length = {"Upload_Length": file.size}
        if file.size is None:
            length = {"Upload_Defer_Length": 1}
        return tus.post(me, **tus.metadata(filename=file.name), **length)

    def headers(self, offset: int, file: File, size: int) -> dict[str, str]:
        return tus.V1 | tus.OFFSETS | {"Upload-Offset": str(offset)}

    def finish(self, me: Any, handle: str, file: File) -> None:
        answer = must(self.head(me, handle), 200)
        if answer.headers.get("Upload-Defer-Length"):
            offset = int(answer.headers["Upload-Offset"])
            must(tus.patch(me, handle, offset, b"", Upload_Length=offset), 204)


class TestTus(InProcess, ProtocolContract):
    driver = TusDriver()


class TestTusLive(Live, ProtocolContract):
    driver = TusDriver()


class DraftDriver(AppendingDriver):
    """The IETF draft, interop version 8."""

    url = drafts.URL
    marks = drafts.V8

    def create(self, me: Any, file: File) -> Answer:
        headers = disposition(file.name)
        if file.size is not None:
            headers["Upload-Length"] = str(file.size)
        # A first request with nothing is "careful"; all of an empty file is complete.
        return drafts.create(me, ends=file.size == 0, **headers)

    def headers(self, offset: int, file: File, size: int) -> dict[str, str]:
        return (
            drafts.V8
            | drafts.PARTIAL
            | drafts.complete(False)
            | {"Upload-Offset": str(offset)}
        )

    def finish(self, me: Any, handle: str, file: File) -> None:
        offset = int(must(self.head(me, handle), 204).headers["Upload-Offset"])
        must(drafts.append(me, handle, offset, b"", ends=True), 200)


def disposition(name: str) -> dict[str, str]:
    encoded = quote(name.encode("utf-8", "replace"), safe="")
    return {"Content-Disposition": f"inline; filename*=UTF-8''{encoded}"}


class OlderDriver(DraftDriver):
    """What tus-js-client speaks of it: interop version 6."""

    marks = {"Upload-Draft-Interop-Version": "6"}

    def create(self, me: Any, file: File) -> Answer:
        headers = tus.metadata(filename=file.name) | self.marks
        if file.size is None:
            headers["Upload-Defer-Length"] = "1"
        else:
            headers["Upload-Length"] = str(file.size)
        return drafts.create(me, ends=file.size == 0, **headers)

    def headers(self, offset: int, file: File, size: int) -> dict[str, str]:
        return super().headers(offset, file, size) | self.marks


class TestDraft(InProcess, ProtocolContract):
    driver = DraftDriver()


class TestDraftLive(Live, ProtocolContract):
    driver = DraftDriver()


class TestOlderDraft(InProcess, ProtocolContract):
    driver = OlderDriver()
