"""The protocols of buckets keep the contract of all protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from .buckets import Client, OssClient, S3Client, credentials, text_of, texts_of
from .contracts.ground import InProcess, Live
from .contracts.protocol import Driver, File, ProtocolContract, Request, must
from .rest import change


@dataclass
class Handle:
    """An upload by parts, as its client knows it."""

    key: str
    upload_id: str


class Signed(Request):
    """A request that is signed by whoever sends it."""

    def __init__(self, driver: BucketDriver, method: str, key: str, **query: str):
        super().__init__(method, key)
        self.driver = driver
        self.query = query

    def send(self, me: Any) -> Any:
        client = self.driver.client(me)
        return client.request(self.method, self.path, self.body, **self.query)

    def bringing(self, body: bytes) -> Signed:
        self.body = body
        return self


class BucketDriver(Driver):
    """A client of a bucket, which looks for unfinished uploads before it begins."""

    # As long as a part of Aliyun's has to be.
    piece = 102_400
    any_order = True
    unknown_size = True
    gone = (404,)
    too_large = (400,)
    repeats = (200, 404)
    kind: type[Client]

    def client(self, me: Any) -> Client:
        if not hasattr(me, "bucket_credentials"):
            me.bucket_credentials = credentials(me)
        return self.kind(me, me.bucket_credentials)

    def begin(self, me: Any, file: File) -> Handle:
        client = self.client(me)
        if file.size and file.size > 10 * 1024**3:
            # How large a file will be is told only by those who send it at once.
            headers = {
                "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
                "X-Amz-Decoded-Content-Length": str(file.size),
            }
            must(client.request("PUT", file.name, b"", headers), 200)
        listed = must(client.request("GET", uploads="", prefix=file.name), 200)
        keys = texts_of(listed, "Upload/Key")
        ids = texts_of(listed, "Upload/UploadId")
        for key, upload_id in zip(keys, ids, strict=True):
            if key == file.name:
                return Handle(key, upload_id)
        answer = must(client.request("POST", file.name, uploads=""), 200)
        return Handle(file.name, text_of(answer, "UploadId"))

    def send(self, me: Any, handle: Handle, file: File, number: int) -> None:
        piece = file.pieces(self.piece)[number]
        client = self.client(me)
        must(client.put_part(handle.key, handle.upload_id, number + 1, piece), 200)

    def cut(
        self, me: Any, handle: Handle, file: File, number: int, after: int, how: str
    ) -> None:
        made = self.client(me).made(
            "PUT",
            handle.key,
            file.pieces(self.piece)[number],
            partNumber=str(number + 1),
            uploadId=handle.upload_id,
        )
        me.cut(**made, after=after, how=how)

    def resume(self, me: Any, handle: Handle, file: File) -> None:
        listed = must(self.client(me).parts(handle.key, handle.upload_id), 200)
        there = set(texts_of(listed, "Part/PartNumber"))
        for number in range(len(file.pieces(self.piece))):
            if str(number + 1) not in there:
                self.send(me, handle, file, number)

    def finish(self, me: Any, handle: Handle, file: File) -> None:
        client = self.client(me)
        answer = client.parts(handle.key, handle.upload_id)
        if answer.status == 200:
            numbers = texts_of(answer, "Part/PartNumber")
            me.listed = list(zip(numbers, texts_of(answer, "Part/ETag"), strict=True))
        must(client.complete(handle.key, handle.upload_id, me.listed), 200)

    def requests(self, handle: Handle, file: File) -> list[Request]:
        key, upload_id = handle.key, handle.upload_id
        part = Signed(self, "PUT", key, partNumber="2", uploadId=upload_id)
        manifest = (
            b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            b"<ETag>0</ETag></Part></CompleteMultipartUpload>"
        )
        return [
            part.bringing(file.data[: self.piece]),
            Signed(self, "GET", key, uploadId=upload_id),
            Signed(self, "POST", key, uploadId=upload_id).bringing(manifest),
        ]

    def cancels(self, handle: Handle) -> list[Request]:
        return [Signed(self, "DELETE", handle.key, uploadId=handle.upload_id)]

    def called(self, name: str) -> Handle:
        return Handle("a file.bin", name)


class OssDriver(BucketDriver):
    kind = OssClient


class S3Driver(BucketDriver):
    kind = S3Client


class Aborts:
    """Has its own word for the end, which is said only once."""

    driver: Driver

    def cancel(self, me: Any, handle: Handle, upload: Any) -> None:
        for request in self.driver.cancels(handle):
            must(request.send(me), 204)


# Files are made while their clients wait, so commits have to be real ones.
@pytest.mark.usefixtures("transactional_db")
class TestOss(InProcess, Aborts, ProtocolContract):
    driver = OssDriver()
    # It has no way to announce a size but to send the bytes: see test_multipart.
    test_a_file_that_is_too_large_is_refused = None


@pytest.mark.once
@pytest.mark.usefixtures("transactional_db")
class TestS3(InProcess, Aborts, ProtocolContract):
    driver = S3Driver()

    @pytest.fixture(autouse=True)
    def _small_parts(self, settings: Any) -> None:
        change(settings, BUCKETS={"demo-bucket": {"min_part_size": 0}})


class TestOssLive(Live, Aborts, ProtocolContract):
    driver = OssDriver()
    test_a_file_that_is_too_large_is_refused = None
