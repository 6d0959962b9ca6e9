"""What the browser clients of others send: request by request, as they do."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from .client import OCTETS, Answer

BOUNDARY = "----WebKitFormBoundaryAbCdEfGhIjKlMnOp"
NO_TOKEN = {"X-CSRFToken": ""}


def form(
    fields: Mapping[str, object],
    file: bytes | None = None,
    filename: str = "blob",
    content_type: str = "application/octet-stream",
    part: str = "file",
) -> tuple[bytes, dict[str, str]]:
    """Return a form as Chromium sends it: fields, then the file; and its headers."""
    pieces = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        f"{value}\r\n".encode("utf-8", "replace")
        for name, value in fields.items()
    ]
    if file is not None:
        escaped = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = (
            f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
            f'name="{part}"; filename="{escaped}"\r\n'
            f"Content-Type: {content_type}\r\n\r\n"
        )
        pieces += [head.encode("utf-8", "replace"), file, b"\r\n"]
    pieces.append(f"--{BOUNDARY}--\r\n".encode())
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return b"".join(pieces), headers


def query(fields: Mapping[str, object]) -> str:
    """Return fields as encodeURIComponent makes a query of them."""
    return urlencode(
        {name: str(value) for name, value in fields.items()},
        quote_via=quote,
        safe="!'()*",
        errors="replace",
    )


@dataclass
class Resumable:
    """A file in Resumable.js, or in one of its relatives."""

    data: bytes
    name: str = "film.mp4"
    chunk_size: int = 1000
    # forceChunkSize: is the last chunk the short rest, instead of longer?
    forced: bool = False
    url: str = "/uploads/resumablejs/"
    prefix: str = "resumable"
    namespace: str = ""
    path: str = ""
    # Do the parameters come in the URL of a form as well?
    in_query: bool = True
    # What the client says otherwise; None leaves a parameter out.
    lies: dict[str, object] = field(default_factory=dict)

    @property
    def count(self) -> int:
        whole, rest = divmod(len(self.data), self.chunk_size)
        return max(whole + bool(rest and self.forced), 1)

    def bytes_of(self, number: int) -> bytes:
        start = (number - 1) * self.chunk_size
        end = start + self.chunk_size if number < self.count else len(self.data)
        return self.data[start:end]

    def parameters(self, number: int) -> dict[str, object]:
        """Return what is said of a chunk, from 1."""
        path = self.path or self.name
        said: dict[str, object] = {
            "chunkNumber": number,
            "chunkSize": self.chunk_size,
            "currentChunkSize": len(self.bytes_of(number)),
            "totalSize": len(self.data),
            "type": "video/mp4",
            "identifier": f"{len(self.data)}-{re.sub('[^0-9A-Za-z_-]', '', path)}",
            "filename": self.name,
            "relativePath": path,
            "totalChunks": self.count,
        }
        if self.prefix != "resumable":
            del said["type"]
        said |= self.lies
        return {
            self.called(word): value
            for word, value in said.items()
            if value is not None
        }

    def called(self, word: str) -> str:
        if self.prefix:
            word = self.prefix + word[0].upper() + word[1:]
        return self.namespace + word

    def test(self, me: Any, number: int) -> Answer:
        return me.request("GET", f"{self.url}?{query(self.parameters(number))}")

    def request(self, number: int, **changes: Any) -> dict[str, Any]:
        """Return the request that brings a chunk, for ``request`` of a visitor."""
        said = self.parameters(number)
        data = changes.pop("data", self.bytes_of(number))
        body, headers = form(
            said | changes.pop("fields", {}),
            data,
            filename=self.name,
            part=self.namespace + "file",
        )
        url = f"{self.url}?{query(said)}" if self.in_query else self.url
        sent = {"method": "POST", "path": url, "body": body, "headers": headers}
        return sent | changes

    def send(self, me: Any, number: int, **changes: Any) -> Answer:
        return me.request(**self.request(number, **changes))

    def send_raw(self, me: Any, number: int, method: str = "POST") -> Answer:
        """Send a chunk with ``method: "octet"``."""
        url = f"{self.url}?{query(self.parameters(number))}"
        return me.request(method, url, self.bytes_of(number), OCTETS)

    def send_all(self, me: Any) -> Answer:
        """Send all chunks in order; return the last answer."""
        for number in range(1, self.count + 1):
            answer = self.send(me, number)
            assert answer.status == 200, answer.body
        return answer

    def resume(self, me: Any) -> list[int]:
        """Send what is not there; return the numbers of it."""
        sent = []
        for number in range(1, self.count + 1):
            tested = self.test(me, number)
            assert tested.status in (200, 204), tested.body
            if tested.status == 204:
                answer = self.send(me, number)
                assert answer.status == 200, answer.body
                sent.append(number)
        return sent


def flow(data: bytes, **options: Any) -> Resumable:
    """Return a file in flow.js, which keeps the URL of a form clean."""
    options = {"prefix": "flow", "in_query": False, "url": "/uploads/flowjs/"} | options
    return Resumable(data, **options)


def simple(data: bytes, **options: Any) -> Resumable:
    """Return a file in simple-uploader.js, whose parameters have no prefix."""
    return flow(data, **{"prefix": "", "url": "/uploads/simple-uploader/"} | options)


@dataclass
class Fine:
    """A file in Fine Uploader."""

    data: bytes
    name: str = "film.mp4"
    part_size: int = 1000
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    url: str = "/uploads/fineuploader/"
    mandatory: bool = False
    # What the client says otherwise; None leaves a parameter out.
    lies: dict[str, object] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return -(-len(self.data) // self.part_size)

    @property
    def is_chunked(self) -> bool:
        return self.mandatory or self.count > 1

    def bytes_of(self, index: int) -> bytes:
        start = index * self.part_size
        return self.data[start : start + self.part_size]

    def parameters(self, index: int, resume: bool = False) -> dict[str, object]:
        said: dict[str, object] = {}
        if self.is_chunked:
            said = {
                "qqpartindex": index,
                "qqpartbyteoffset": index * self.part_size,
                "qqchunksize": len(self.bytes_of(index)),
                "qqtotalparts": self.count,
            }
        said |= {
            "qqtotalfilesize": len(self.data),
            "qqfilename": self.name,
            "qquuid": self.uuid,
        }
        if resume:
            said["qqresume"] = "true"
        said |= self.lies
        return {name: value for name, value in said.items() if value is not None}

    def request(
        self, index: int = 0, resume: bool = False, **changes: Any
    ) -> dict[str, Any]:
        """Return the request that brings a part, for ``request`` of a visitor."""
        data = changes.pop("data", self.bytes_of(index) if self.is_chunked else None)
        body, headers = form(
            self.parameters(index, resume) | changes.pop("fields", {}),
            self.data if data is None else data,
            filename=changes.pop("filename", "blob" if self.is_chunked else self.name),
            part="qqfile",
        )
        sent = {"method": "POST", "path": self.url, "body": body, "headers": headers}
        return sent | changes

    def send(
        self, me: Any, index: int = 0, resume: bool = False, **changes: Any
    ) -> Answer:
        return me.request(**self.request(index, resume, **changes))

    def send_raw(self, me: Any, index: int = 0) -> Answer:
        """Send a part with forceMultipart and paramsInBody false."""
        said = self.parameters(index) | {"qqfile": self.name}
        if not self.is_chunked:
            del said["qqtotalfilesize"]
        data = self.bytes_of(index) if self.is_chunked else self.data
        headers = OCTETS | {"X-Mime-Type": "video/mp4"}
        return me.request("POST", f"{self.url}?{query(said)}", data, headers)

    def send_all(self, me: Any) -> None:
        for index in range(self.count):
            assert self.send(me, index).json()["success"] is True

    def done(self, me: Any, **changes: object) -> Answer:
        said = {
            "qquuid": self.uuid,
            "qqfilename": self.name,
            "qqtotalfilesize": len(self.data),
            "qqtotalparts": self.count,
        } | changes
        return post_form(me, f"{self.url}done/", said)

    def delete(self, me: Any) -> Answer:
        """Delete as from an endpoint that ends in a slash."""
        return me.request("DELETE", f"{self.url}delete//{self.uuid}?")

    def session(self, me: Any) -> Answer:
        return me.request("GET", f"{self.url}session/?qqtimestamp=1700000000000")


def post_form(me: Any, url: str, fields: Mapping[str, object]) -> Answer:
    """Send fields as forms without a file do."""
    body = urlencode({name: str(value) for name, value in fields.items()}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return me.request("POST", url, body, headers)


@dataclass
class Rest:
    """A file in the uploader of javascript.info: ask where it ends, send the rest."""

    data: bytes
    name: str = "film.mp4"
    modified: object = 1700000000000
    url: str = "/demo/javascript-info/"
    # Instead of the one the client makes.
    id: str = ""

    @property
    def headers(self) -> dict[str, str]:
        made = f"{self.name}-{len(self.data)}-{self.modified}"
        return {"X-File-Id": self.id or made}

    def status(self, me: Any) -> Answer:
        return me.request("GET", f"{self.url}status", headers=self.headers)

    def request(
        self, start: object, body: bytes | None = None, **headers: str
    ) -> dict[str, Any]:
        """Return the request that brings the rest of the file."""
        if body is None:
            body = self.data[int(str(start)) :]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # What the client cannot send, and what its browser leaves out.
        sent = NO_TOKEN | {"Content-Type": ""} | self.headers
        return {
            "method": "POST",
            "path": f"{self.url}upload",
            "body": body,
            "headers": sent | {"X-Start-Byte": str(start)} | named,
        }

    def upload(
        self, me: Any, start: object = 0, body: bytes | None = None, **headers: str
    ) -> Answer:
        return me.request(**self.request(start, body, **headers))

    def resume(self, me: Any) -> int:
        """Do what a press on the button does; return where it began."""
        stored = int(self.status(me).body)
        answer = self.upload(me, stored)
        assert answer.status == 200, answer.body
        return stored
