"""The protocols of other people's clients keep the contract of all protocols."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from resumable_uploads.protocols import resumablejs

from .client import OCTETS, Answer
from .contracts.ground import InProcess, Live
from .contracts.protocol import Driver, File, ProtocolContract, Request, must
from .foreign import Fine, Rest, Resumable, flow, post_form, simple


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let nobody wait for a first chunk that does not come."""
    monkeypatch.setattr(resumablejs, "FIRST_CHUNK_TAKES", 0.05)
    monkeypatch.setattr(resumablejs, "LOOK_EVERY", 0.01)


class ForeignDriver(Driver):
    """A client that names its uploads itself; a handle is what it knows of a file."""

    named_by_client = True

    def see_page(self, me: Any) -> None:
        """Get the page with the client, which begins the visitor's session."""
        must(me.get("/upload/"), 200)

    def cut_request(
        self, me: Any, sent: dict[str, Any], after: int, how: str, data: bytes
    ) -> None:
        """Break a request off so many bytes into the data it brings."""
        head = sent["body"].index(data) if data else 0
        me.cut(
            sent["method"],
            sent["path"],
            sent["body"],
            head + after,
            how,
            sent["headers"],
        )


class ResumableDriver(ForeignDriver):
    """Resumable.js."""

    any_order = True
    too_large = (400,)

    def made(self, data: bytes, **options: Any) -> Resumable:
        return Resumable(data, chunk_size=self.piece, forced=True, **options)

    def begin(self, me: Any, file: File) -> Resumable:
        self.see_page(me)
        lies = {"totalSize": file.size}
        if file.key:
            lies["identifier"] = file.key
        return self.made(file.data, name=file.name, lies=lies)

    def send(self, me: Any, handle: Resumable, file: File, number: int) -> None:
        must(handle.send(me, number + 1), 200)

    def cut(
        self, me: Any, handle: Resumable, file: File, number: int, after: int, how: str
    ) -> None:
        data = file.pieces(self.piece)[number]
        self.cut_request(me, handle.request(number + 1), after, how, data)

    def resume(self, me: Any, handle: Resumable, file: File) -> None:
        handle.resume(me)

    def requests(self, handle: Resumable, file: File) -> list[Request]:
        tests = handle.request(2, method="GET", body=b"", headers={})
        return [Request(**tests), Request(**handle.request(2))]

    def called(self, name: str) -> Resumable:
        return self.made(b"x" * self.piece * 2, lies={"identifier": name})


class FlowDriver(ResumableDriver):
    """flow.js."""

    too_large = (413,)

    def made(self, data: bytes, **options: Any) -> Resumable:
        return flow(data, chunk_size=self.piece, forced=True, **options)

    def requests(self, handle: Resumable, file: File) -> list[Request]:
        return [Request(**handle.request(2))]


class SimpleDriver(FlowDriver):
    """simple-uploader.js, which asks once for the numbers of all chunks."""

    too_large = (415,)

    def made(self, data: bytes, **options: Any) -> Resumable:
        return simple(data, chunk_size=self.piece, forced=True, **options)

    def resume(self, me: Any, handle: Resumable, file: File) -> None:
        there = must(handle.test(me, 1), 200).json()["uploaded"]
        for number in range(1, handle.count + 1):
            if number not in there:
                must(handle.send(me, number), 200)


class FineDriver(ForeignDriver):
    """Fine Uploader."""

    any_order = True

    url = "/uploads/fineuploader/"

    def made(self, data: bytes, **options: Any) -> Fine:
        options.setdefault("mandatory", bool(data))
        return Fine(data, part_size=self.piece, url=self.url, **options)

    def begin(self, me: Any, file: File) -> Fine:
        self.see_page(me)
        uuid = {"uuid": file.key} if file.key else {}
        lies = {"qqtotalfilesize": file.size}
        return self.made(file.data, name=file.name, lies=lies, **uuid)

    def send(self, me: Any, handle: Fine, file: File, number: int) -> None:
        self.check(handle.send(me, number))

    def check(self, answer: Answer) -> None:
        assert must(answer, 200).json()["success"] is True

    def cut(
        self, me: Any, handle: Fine, file: File, number: int, after: int, how: str
    ) -> None:
        data = file.pieces(self.piece)[number]
        self.cut_request(me, handle.request(number), after, how, data)

    def resume(self, me: Any, handle: Fine, file: File) -> None:
        # The browser knows what was sent; the first request says that it goes on.
        if not file.data:
            self.check(handle.send(me))
        for index in range(1, handle.count):
            self.check(handle.send(me, index, resume=index == 1))

    def finish(self, me: Any, handle: Fine, file: File) -> None:
        must(handle.done(me), 200)

    def requests(self, handle: Fine, file: File) -> list[Request]:
        done = {"qquuid": handle.uuid, "qqtotalfilesize": len(file.data)}
        return [
            Request("GET", f"{handle.url}session/"),
            Request(**handle.request(1)),
            Said(f"{handle.url}done/", done),
        ]

    def cancels(self, handle: Fine) -> list[Request]:
        said = {"qquuid": handle.uuid, "_method": "DELETE"}
        return [Said(f"{handle.url}delete/", said)]

    def called(self, name: str) -> Fine:
        return self.made(b"x" * self.piece * 2, uuid=name)


class ConcurrentFineDriver(FineDriver):
    """Fine Uploader with chunking.concurrent."""

    url = "/uploads/fineuploader-concurrent/"


class Said(Request):
    """A form without a file."""

    def __init__(self, path: str, fields: dict[str, object]) -> None:
        super().__init__("POST", path)
        self.fields = fields

    def send(self, me: Any) -> Answer:
        return post_form(me, self.path, self.fields)


class RestDriver(ForeignDriver):
    """The uploader of javascript.info, which sends all in one request."""

    keeps_what_was_cut = True

    def begin(self, me: Any, file: File) -> Rest:
        self.see_page(me)
        name = file.name.encode("latin-1", "replace").decode("latin-1")
        name = " ".join(name.split())
        modified = zlib.crc32(file.key.encode())
        handle = Rest(file.data, name=name, id=f"{name}-{file.size}-{modified}")
        # Nobody announces a file in this protocol; a first request without a byte does.
        must(handle.upload(me, 0, b""), 200)
        return handle

    def send(self, me: Any, handle: Rest, file: File, number: int) -> None:
        start = number * self.piece
        piece = file.data[start : start + self.piece]
        must(handle.upload(me, start, piece), 200)

    def cut(
        self, me: Any, handle: Rest, file: File, number: int, after: int, how: str
    ) -> None:
        sent = handle.request(number * self.piece)
        me.cut("POST", sent["path"], sent["body"], after, how, OCTETS | sent["headers"])

    def resume(self, me: Any, handle: Rest, file: File) -> None:
        handle.resume(me)

    def requests(self, handle: Rest, file: File) -> list[Request]:
        status = handle.request(0, b"", X_Start_Byte="")
        status |= {"method": "GET", "path": f"{handle.url}status"}
        return [Request(**handle.request(self.piece, b"abc")), Request(**status)]

    def called(self, name: str) -> Rest:
        return Rest(
            b"abc", id=" ".join(name.encode("ascii", "replace").decode().split())
        )


class TestResumable(InProcess, ProtocolContract):
    driver = ResumableDriver()


class TestResumableLive(Live, ProtocolContract):
    driver = ResumableDriver()


class TestFlow(InProcess, ProtocolContract):
    driver = FlowDriver()


class TestSimpleUploader(InProcess, ProtocolContract):
    driver = SimpleDriver()


class TestFineUploader(InProcess, ProtocolContract):
    driver = FineDriver()


class TestFineUploaderLive(Live, ProtocolContract):
    driver = FineDriver()


class TestConcurrentFineUploader(InProcess, ProtocolContract):
    driver = ConcurrentFineDriver()


class TestByteOffset(InProcess, ProtocolContract):
    driver = RestDriver()


class TestByteOffsetLive(Live, ProtocolContract):
    driver = RestDriver()
