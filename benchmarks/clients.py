"""How the servers are fed: one class for each protocol, over one connection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import uuid
from email.utils import formatdate
from typing import Any

from .wire import Answer, Wire

TOKEN = "a" * 32


class Refused(Exception):
    """A server has not done what it should."""


class Client:
    """One uploading client. Sizes are bytes."""

    name = ""
    path = ""

    def __init__(self, port: int) -> None:
        self.wire = Wire(port)

    def open(self, size: int, chunk: int) -> None:
        """Begin a file; ``chunk`` is the size of all chunks but the last."""
        raise NotImplementedError

    def send(self, offset: int, size: int) -> None:
        """Send the next chunk."""
        raise NotImplementedError

    def ask(self) -> Answer:
        """Ask how far the file has got."""
        raise NotImplementedError

    def offset(self) -> int:
        """Return how many bytes are there."""
        return int(self.ask().headers["upload-offset"])

    def finish(self) -> None:
        """Wait until the file is ready."""

    def drop(self) -> None:
        """Have the file deleted, where the server does that."""

    def close(self) -> None:
        self.wire.close()

    def expect(self, answer: Answer, *statuses: int) -> Answer:
        if answer.status not in statuses:
            raise Refused(f"{self.name}: {answer.status} {answer.body[:200]!r}")
        return answer


class Sink(Client):
    """Bytes at an offset, into a file."""

    name = "sink"

    def open(self, size: int, chunk: int) -> None:
        self.path = f"/{uuid.uuid4()}"

    def send(self, offset: int, size: int) -> None:
        answer = self.wire.send("PUT", self.path, size, Upload_Offset=str(offset))
        self.expect(answer, 200)


class Native(Client):
    """The app's own protocol."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.proof: dict[str, str] = {}
        self.wire.cookies["csrftoken"] = TOKEN
        self.wire.headers["X-CSRFToken"] = TOKEN

    def open(self, size: int, chunk: int) -> None:
        about: dict[str, Any] = {"filename": "a.bin", "size": size}
        about["chunk_size"] = min(chunk, 256 * 1024 * 1024)
        body = json.dumps(about).encode()
        self.proof = {}
        answer = self.wire.ask(
            "POST", "/uploads/", body, Content_Type="application/json"
        )
        self.path = self.expect(answer, 201).json()["url"]
        self._keep(answer)

    def _keep(self, answer: Answer) -> None:
        """Send with chunks what was given last, as the demo's pages do."""
        if word := answer.headers.get("upload-capability", ""):
            self.proof = {"Upload-Capability": word}

    def ask(self) -> Answer:
        return self.expect(self.wire.ask("GET", self.path), 200)

    def finish(self) -> None:
        url = f"{self.path}complete/"
        while self.expect(self.wire.ask("POST", url), 200, 202).status == 202:
            time.sleep(0.001)

    def drop(self) -> None:
        self.expect(self.wire.ask("DELETE", self.path), 204)


class Put(Native):
    """Numbered chunks; which are missing is told by GET."""

    name = "PUT"

    def open(self, size: int, chunk: int) -> None:
        super().open(size, chunk)
        self.chunk = chunk

    def send(self, offset: int, size: int) -> None:
        path = f"{self.path}chunks/{offset // self.chunk}/"
        self.expect(self.wire.send("PUT", path, size, **self.proof), 201)


class Patch(Native):
    """Stretches at the end; where that is, is told by HEAD."""

    name = "PATCH"

    def ask(self) -> Answer:
        return self.expect(self.wire.ask("HEAD", self.path, **self.proof), 200)

    def send(self, offset: int, size: int) -> None:
        sent = self.proof | {"Upload-Offset": str(offset)}
        self.expect(self.wire.send("PATCH", self.path, size, **sent), 200)


class Form(Native):
    """Forms, as Resumable.js sends them on a page that is made as the docs say."""

    name = "form"
    boundary = "----benchmark"

    def open(self, size: int, chunk: int) -> None:
        if "sessionid" not in self.wire.cookies:
            # The page sees to that.
            self.expect(self.wire.ask("GET", "/upload/"), 200)
        self.size, self.chunk, self.key = size, chunk, uuid.uuid4().hex
        self.proof = {}

    def send(self, offset: int, size: int) -> None:
        number = offset // self.chunk + 1
        answer = self.wire.send(
            "POST",
            "/uploads/resumablejs/",
            size,
            before=self._before(number, size),
            after=f"\r\n--{self.boundary}--\r\n".encode(),
            Content_Type=f"multipart/form-data; boundary={self.boundary}",
            **self.proof,
        )
        self.last = self.expect(answer, 200).json()
        self._keep(answer)

    def _before(self, number: int, size: int) -> bytes:
        fields = {
            "resumableChunkNumber": number,
            "resumableChunkSize": self.chunk,
            "resumableCurrentChunkSize": size,
            "resumableTotalSize": self.size,
            "resumableIdentifier": self.key,
            "resumableFilename": "a.bin",
            "resumableRelativePath": "a.bin",
        }
        parts = [
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"'
            f"\r\n\r\n{value}\r\n"
            for name, value in fields.items()
        ]
        file = f'--{self.boundary}\r\nContent-Disposition: form-data; name="file"'
        kind = '; filename="a.bin"\r\nContent-Type: application/octet-stream\r\n\r\n'
        return "".join([*parts, file, kind]).encode()

    def finish(self) -> None:
        self.path = f"/uploads/{self.last['id']}/"
        super().finish()


class Tus(Client):
    """tus 1.0."""

    name = "tus"
    endpoint = "/files/"

    def open(self, size: int, chunk: int) -> None:
        answer = self.wire.ask(
            "POST",
            self.endpoint,
            Tus_Resumable="1.0.0",
            Upload_Length=str(size),
            # One server refuses HEAD where there is no type.
            Upload_Metadata="filename YS5iaW4=,filetype YXBwbGljYXRpb24vcGRm",
        )
        location = self.expect(answer, 201).headers["location"]
        self.path = "/" + location.split("://", 1)[-1].split("/", 1)[1]

    def send(self, offset: int, size: int) -> None:
        answer = self.wire.send(
            "PATCH",
            self.path,
            size,
            Tus_Resumable="1.0.0",
            Upload_Offset=str(offset),
            Content_Type="application/offset+octet-stream",
        )
        self.expect(answer, 204)

    def ask(self) -> Answer:
        answer = self.wire.ask("HEAD", self.path, Tus_Resumable="1.0.0")
        return self.expect(answer, 200, 204)

    def drop(self) -> None:
        # Not all servers can; those are cleaned up afterwards.
        self.wire.ask("DELETE", self.path, Tus_Resumable="1.0.0")


class AppTus(Tus):
    """tus 1.0, where the app speaks it."""

    endpoint = "/uploads/tus/"

    def finish(self) -> None:
        # HEAD tells the offset, and GET when the file is there; a byte of it will do.
        while self.wire.ask("GET", self.path, Range="bytes=0-0").status != 206:
            time.sleep(0.001)


class Part(Client):
    """Parts of Aliyun OSS, signed by its first signature."""

    name = "OSS part"
    bucket = "/demo-bucket"

    def open(self, size: int, chunk: int) -> None:
        if "sessionid" not in self.wire.cookies:
            # The page sees to that, and gets credentials.
            self.expect(self.wire.ask("GET", "/upload/"), 200)
            self.held = self._credentials()
        self.chunk, self.tags = chunk, []
        self.path = f"{self.bucket}/{uuid.uuid4().hex}.bin"
        answer = self._signed("POST", f"{self.path}?uploads")
        found = re.search(rb"<UploadId>(.*?)</UploadId>", answer.body)
        self.upload = found.group(1).decode() if found else ""

    def send(self, offset: int, size: int) -> None:
        number = offset // self.chunk + 1
        resource = f"{self.path}?partNumber={number}&uploadId={self.upload}"
        headers = self._headers("PUT", resource, "application/octet-stream")
        answer = self.wire.send("PUT", resource, size, **headers)
        self.tags.append((number, self.expect(answer, 200).headers["etag"]))

    def finish(self) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            for number, tag in sorted(self.tags)
        )
        listed = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        self._signed("POST", f"{self.path}?uploadId={self.upload}", listed.encode())

    def drop(self) -> None:
        headers = self._headers("DELETE", self.path, "")
        self.expect(self.wire.ask("DELETE", self.path, **headers), 204)

    def _credentials(self) -> dict[str, str]:
        answer = self.wire.ask(
            "POST",
            "/uploads/sts/",
            json.dumps({"bucket": self.bucket.strip("/")}).encode(),
            Content_Type="application/json",
            X_CSRFToken=self.wire.cookies["csrftoken"],
        )
        return self.expect(answer, 200).json()

    def _signed(self, method: str, resource: str, body: bytes = b"") -> Answer:
        headers = self._headers(method, resource, "application/xml")
        return self.expect(self.wire.ask(method, resource, body, **headers), 200)

    def _headers(self, method: str, resource: str, kind: str) -> dict[str, str]:
        date, token = formatdate(usegmt=True), self.held["SecurityToken"]
        text = f"{method}\n\n{kind}\n{date}\nx-oss-security-token:{token}\n{resource}"
        secret = self.held["AccessKeySecret"].encode()
        digest = hmac.digest(secret, text.encode(), hashlib.sha1)
        word = f"{self.held['AccessKeyId']}:{base64.b64encode(digest).decode()}"
        found = {"Date": date, "X-Oss-Security-Token": token}
        if kind:
            found["Content-Type"] = kind
        return found | {"Authorization": f"OSS {word}"}
