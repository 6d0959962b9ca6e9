"""Every protocol keeps the contract of all protocols."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .client import OCTETS
from .contracts.ground import InProcess, Live
from .contracts.protocol import Driver, File, ProtocolContract, Request, must
from .rest import UPLOADS


class RestDriver(Driver):
    """The native protocol, but for how the bytes go up; a handle is a URL."""

    unknown_size = True

    def begin(self, me: Any, file: File) -> str:
        said = {
            "filename": file.name,
            "size": file.size,
            "client_key": file.key or None,
            "chunk_size": self.piece,
        }
        return must(me.post(UPLOADS, said), 200, 201).json()["url"]

    def finish(self, me: Any, handle: str, file: File) -> None:
        must(me.post(f"{handle}complete/"), 200, 202)

    def requests(self, handle: str, file: File) -> list[Request]:
        return [
            Request("GET", handle),
            Request("HEAD", handle),
            Request("POST", f"{handle}complete/"),
            Request("GET", f"{handle}file/"),
            Request("PUT", f"{handle}chunks/1/", file.data[: self.piece], OCTETS),
            Request("PATCH", handle, b"abc", OCTETS | {"Upload-Offset": "0"}),
        ]

    def cancels(self, handle: str) -> list[Request]:
        return [Request("DELETE", handle)]

    def called(self, name: str) -> str:
        # A surrogate cannot be in a URL; a slash would lead to another route.
        return f"{UPLOADS}{quote(name.replace('/', '_').encode())}/"


class RestByPut(RestDriver):
    """Numbered chunks."""

    any_order = True

    def send(self, me: Any, handle: str, file: File, number: int) -> None:
        piece = file.pieces(self.piece)[number]
        must(me.put(f"{handle}chunks/{number}/", piece), 200, 201)

    def cut(
        self, me: Any, handle: str, file: File, number: int, after: int, how: str
    ) -> None:
        piece = file.pieces(self.piece)[number]
        me.cut("PUT", f"{handle}chunks/{number}/", piece, after, how)

    def resume(self, me: Any, handle: str, file: File) -> None:
        missing = must(me.get(handle), 200).json()["missing"]
        for first, last in missing:
            for number in range(first, last + 1):
                self.send(me, handle, file, number)


class RestByPatch(RestDriver):
    """Stretches at the end."""

    keeps_what_was_cut = True

    def send(self, me: Any, handle: str, file: File, number: int) -> None:
        piece = file.pieces(self.piece)[number]
        must(me.patch(handle, number * self.piece, piece), 200)

    def cut(
        self, me: Any, handle: str, file: File, number: int, after: int, how: str
    ) -> None:
        piece = file.pieces(self.piece)[number]
        offset = {"Upload-Offset": str(number * self.piece)}
        me.cut("PATCH", handle, piece, after, how, headers=offset)

    def resume(self, me: Any, handle: str, file: File) -> None:
        answer = self.go_on(me, handle, file)
        if answer.status == 409:
            # What was cut may reach the server after the question, and counts then. It
            # also takes the upload over from a request that is there already.
            answer = self.go_on(me, handle, file)
        must(answer, 200)

    def go_on(self, me: Any, handle: str, file: File) -> Any:
        """Ask what is there and send the rest."""
        offset = int(must(me.head(handle), 200).headers["Upload-Offset"])
        return me.patch(handle, offset, file.data[offset:])


class TestRestByPut(InProcess, ProtocolContract):
    driver = RestByPut()


class TestRestByPutLive(Live, ProtocolContract):
    driver = RestByPut()


class TestRestByPatch(InProcess, ProtocolContract):
    driver = RestByPatch()


class TestRestByPatchLive(Live, ProtocolContract):
    driver = RestByPatch()
