"""One object: its upload by parts or at once, and the finished file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, repeat
from typing import Any

from django.http import HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import http_date

from ... import engine, errors, names
from ...buckets import Bucket
from ...models import Chunk, State, UploadSession
from .. import download
from . import bodies, documents, opening
from .documents import ListedPart, bare_etag
from .manifest import Manifest
from .refusals import Refusal
from .views import MultipartView, etag_of, wire_text

MAX_PARTS = documents.MAX_PARTS
MAX_PAGE = 1000
MAX_PART_SIZE = 5 * 1024**3
# Seconds that a client is kept waiting for its file; most of them give up after 60.
PATIENCE = 45.0
WAITS = (0.02, 0.05, 0.1, 0.2, 0.5)


class ObjectView(MultipartView):
    """An object, by its key."""

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method != "OPTIONS":
            opening.check_key(self.key)

    def post(self, request: Any, **kwargs: Any) -> HttpResponse:
        if "uploads" in self.query:
            return self._initiate()
        if "uploadId" in self.query:
            return self._complete()
        raise Refusal("NotImplemented")

    def put(self, request: Any, **kwargs: Any) -> HttpResponse:
        if {"uploadId", "partNumber"} & set(self.query):
            return self._put_part()
        return self._put_object()

    def get(self, request: Any, **kwargs: Any) -> Any:
        if "uploadId" in self.query:
            return self._list_parts()
        return self._get_object()

    def head(self, request: Any, **kwargs: Any) -> Any:
        return self._get_object()

    def delete(self, request: Any, **kwargs: Any) -> HttpResponse:
        if "uploadId" in self.query:
            return self._abort()
        bucket = self.writable("delete")
        engine.delete_object(self.owner(), bucket.object_key(self.key))
        return HttpResponse(status=204)

    # Uploads by parts

    def _initiate(self) -> HttpResponse:
        bucket = self.writable("put")
        # The body is empty, or its digest would be wrong.
        bodies.document(self.request)
        new = self._new_upload(bucket, is_multipart=True)
        upload = self._opened(bucket, new)
        answer = self.answer(
            "InitiateMultipartUploadResult",
            ("Bucket", bucket.name),
            ("Key", self.key),
            ("UploadId", upload.pk.hex),
        )
        if name := upload.metadata.get("checksum"):
            answer["x-amz-checksum-algorithm"] = name.upper()
            answer["x-amz-checksum-type"] = upload.metadata["checksum_type"]
        return answer

    def _put_part(self) -> HttpResponse:
        upload = self._upload("put")
        number = self.number("partNumber", 0, 1, MAX_PARTS)
        if not number or self.query["partNumber"] != str(number):
            message = f"partNumber must be a number from 1 to {MAX_PARTS}."
            raise Refusal("InvalidArgument", message, ArgumentName="partNumber")
        return self._told(self._recorded(upload, number))

    def _list_parts(self) -> HttpResponse:
        upload = self._upload("list")
        self._check_receiving(upload)
        at_most = self.number("max-parts", MAX_PAGE, 0, MAX_PAGE)
        marker = self.number("part-number-marker", 0, 0, MAX_PARTS)
        rows = Chunk.objects.filter(upload=upload.pk, number__gt=marker)
        parts = list(rows.order_by("number")[: at_most + 1])
        is_truncated, parts = len(parts) > at_most, parts[:at_most]
        name = upload.metadata.get("checksum")
        return self.answer(
            "ListPartsResult",
            ("Bucket", self.bucket_name),
            ("Key", self.encoded(self.key)),
            *self.encoding(),
            ("UploadId", upload.pk.hex),
            *self.owner_pairs(),
            ("StorageClass", self.dialect.storage_class),
            ("PartNumberMarker", marker),
            ("NextPartNumberMarker", parts[-1].number if parts else marker),
            ("MaxParts", at_most),
            ("IsTruncated", is_truncated),
            ("ChecksumAlgorithm", name and name.upper()),
            ("ChecksumType", upload.metadata.get("checksum_type")),
            *(("Part", self._part_pairs(part)) for part in parts),
        )

    def _part_pairs(self, part: Chunk) -> list[tuple[str, Any]]:
        return [
            ("PartNumber", part.number),
            ("LastModified", part.created_at),
            ("ETag", self.dialect.quoted(part.digests.get("md5", ""))),
            ("Size", part.size),
            *self.dialect.part_pairs(part.digests),
        ]

    def _complete(self) -> HttpResponse:
        bucket = self.writable("put")
        listed = documents.manifest(bodies.document(self.request))
        upload = self._upload("put")
        upload = self._finished(bucket, upload, self._manifest(bucket, listed))
        return self._completed(upload)

    def _completed(self, upload: UploadSession) -> HttpResponse:
        tag = self.dialect.quoted(etag_of(upload))
        answer = self.answer(
            "CompleteMultipartUploadResult",
            ("Location", self.request.build_absolute_uri(self.request.path)),
            ("Bucket", self.bucket_name),
            ("Key", self.encoded(self.key)),
            *self.encoding(),
            ("ETag", tag),
            *self.dialect.end_pairs(upload.metadata),
        )
        answer["ETag"] = tag
        self._add_headers(answer, self.dialect.file_headers(upload.metadata, False))
        return answer

    def _abort(self) -> HttpResponse:
        upload = self._upload("abort")
        self._check_receiving(upload)
        try:
            engine.cancel(upload, with_file=False)
        except errors.NotReceiving:
            raise Refusal("NoSuchUpload") from None
        if engine.refreshed(upload).state != State.CANCELLED:
            raise Refusal("NoSuchUpload")
        return HttpResponse(status=204)

    # Uploads at once

    def _put_object(self) -> HttpResponse:
        bucket = self.writable("put")
        new = self._new_upload(bucket, is_multipart=False)
        said = bodies.said_of(self.request)
        if (length := bodies.length_of(self.request, said)) is not None:
            new.length = length
        upload = self._opened(bucket, new)
        try:
            part = self._recorded(upload, 1)
            manifest = self._manifest(bucket, [ListedPart(1, part.digests["md5"])])
            upload = self._finished(bucket, upload, manifest)
        except errors.UploadError:
            # Nobody could go on with it.
            with suppress(errors.NotReceiving):
                engine.cancel(upload, with_file=False)
            raise
        return self._told(part)

    # The finished file

    def _get_object(self) -> Any:
        bucket = self.bucket("get", self.key)
        wished = self._wished()
        found = engine.find_object(self.owner(), bucket.object_key(self.key))
        if found is None:
            raise Refusal("NoSuchKey")
        if self.request.method == "GET" and not bucket.get_policy().downloadable:
            raise Refusal("AccessDenied", "Files of this bucket are not handed out.")
        tag = self.dialect.quoted(etag_of(found))
        modified = int(found.completed_at.timestamp()) if found.completed_at else None
        held = get_conditional_response(self.request, tag, modified)
        if held is not None and held.status_code == 412:
            raise Refusal("PreconditionFailed")
        response = held or download.stream(self.request, found, tag)
        if response.status_code == 416:
            size = found.length or 0
            refusal = Refusal("InvalidRange", "There is none of it in the file.")
            return self.refused(refusal, {"Content-Range": f"bytes */{size}"})
        download.harmless(response, found)
        self._describe(response, found)
        self._add_headers(response, wished)
        return response

    def _wished(self) -> dict[str, str]:
        """Return the headers that the address asks for. Raise Refusal.

        No others, least of all cookies, are for a link to choose.
        """
        names = (*opening.KEPT_HEADERS, "Content-Type")
        asked = {name: self.query.get(f"response-{name.lower()}") for name in names}
        return {
            name: wire_text(opening.printable(value))
            for name, value in asked.items()
            if value is not None
        }

    def _describe(self, response: Any, upload: UploadSession) -> None:
        """Tell what is known of a file, as its client has said it, or wants it."""
        facts = upload.metadata
        for name, value in facts.get("headers", {}).items():
            response[name] = wire_text(value)
        for name, value in facts.get("meta", {}).items():
            response[self.dialect.header(f"meta-{name}")] = wire_text(value)
        if upload.completed_at:
            response["Last-Modified"] = http_date(upload.completed_at.timestamp())
        if response.status_code == 200:
            # Of a part of the file these would be wrong.
            is_asked = self.said_header("checksum-mode").upper() == "ENABLED"
            self._add_headers(response, self.dialect.file_headers(facts, is_asked))
        if kind := self.dialect.object_type(facts["is_multipart"]):
            response[self.dialect.header("object-type")] = kind

    # What these share:

    def writable(self, action: str) -> Bucket:
        """Return the bucket, where the caller may do something to this key."""
        bucket = self.bucket(action, self.key)
        if not self.key.startswith(bucket.prefix_of(self.owner())):
            raise Refusal("AccessDenied", "Your keys begin with another prefix here.")
        return bucket

    def _upload(self, action: str) -> UploadSession:
        """Return the caller's upload of this key. Raise Refusal for any other."""
        bucket = self.writable(action)
        upload = engine.find(self.owner(), self.query.get("uploadId", ""))
        is_here = upload.object_key == bucket.object_key(self.key)
        if not (is_here and upload.metadata.get("is_multipart")):
            raise Refusal("NoSuchUpload")
        return upload

    def _check_receiving(self, upload: UploadSession) -> None:
        if upload.state != State.RECEIVING:
            raise Refusal("NoSuchUpload")

    def _opened(self, bucket: Bucket, new: engine.NewUpload) -> UploadSession:
        self._check_conditions(bucket, None)
        protocol = self.dialect.protocol
        return engine.open(self.owner(), protocol, bucket.get_policy(), new)[0]

    def _new_upload(self, bucket: Bucket, is_multipart: bool) -> engine.NewUpload:
        path, _, last = self.key.rstrip("/").rpartition("/")
        facts: dict[str, Any] = {
            "is_multipart": is_multipart,
            "headers": opening.kept_headers(self.request.headers),
            "meta": opening.metadata(self.request.headers, self.dialect),
            "unless_there": self._wants_new(),
        }
        if is_multipart:
            facts |= opening.checksum_facts(self.request.headers)
        return engine.NewUpload(
            filename=names.filename(last) or "file",
            relative_path=path,
            content_type=self.request.headers.get("Content-Type", ""),
            object_key=bucket.object_key(self.key),
            metadata=facts,
            reserved=tuple(set(facts) - {"headers", "meta"}),
            ends_when_full=False,
        )

    def _recorded(self, upload: UploadSession, number: int) -> Chunk:
        """Record the body as a part."""
        said = bodies.said_of(self.request)
        length = bodies.length_of(self.request, said)
        if (length or 0) > MAX_PART_SIZE:
            raise errors.TooLarge(max_size=MAX_PART_SIZE)
        chosen = upload.metadata.get("checksum", "md5")
        wanted = {"md5", *self.dialect.digests, chosen, *said.checksums}
        with bodies.opened(self.request, said, wanted) as body:
            return engine.put_part(upload, number, body, sorted(wanted))

    def _told(self, part: Chunk) -> HttpResponse:
        """Answer with the digests of what was stored."""
        answer = HttpResponse()
        answer["ETag"] = self.dialect.quoted(part.digests["md5"])
        self._add_headers(answer, self.dialect.part_headers(part.digests))
        return answer

    def _add_headers(self, answer: Any, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            answer[name] = value

    # Ends

    def _manifest(self, bucket: Bucket, listed: Sequence[ListedPart]) -> Manifest:
        least = bucket.min_part_size
        if least is None:
            least = self.dialect.min_part_size
        return Manifest(listed, least, self.request.headers)

    def _finished(
        self, bucket: Bucket, upload: UploadSession, manifest: Manifest
    ) -> UploadSession:
        """Have the file made, unless it has been already; return it when it is there.

        Raise Refusal, Rejected, StorageUnavailable.
        """

        def choose(parts: Sequence[Chunk]) -> Any:
            self._check_conditions(bucket, upload)
            return manifest.choose(upload.metadata, parts)

        upload = engine.finish_with(upload, choose)
        if upload.metadata.get("manifest") != manifest.digest:
            raise Refusal("NoSuchUpload")
        return _awaited(upload)

    def _wants_new(self) -> bool:
        name, value = self.dialect.unless_there
        return self.request.headers.get(name, "").strip() == value

    def _check_conditions(self, bucket: Bucket, upload: UploadSession | None) -> None:
        """See that what must not, or must, be there is so; again when it is decided.

        Raise Refusal.
        """
        held = self.request.headers.get("If-Match")
        before = upload is not None and upload.metadata.get("unless_there")
        wants_new = self._wants_new() or before
        if not (wants_new or held):
            return
        owner, object_key = self.owner(), bucket.object_key(self.key)
        if upload and engine.is_being_made(owner, object_key, but=upload):
            raise Refusal("ConditionalRequestConflict", "Another upload is at its end.")
        found = engine.find_object(owner, object_key)
        if found and wants_new:
            raise Refusal(self.dialect.there_already)
        if held and not found:
            raise Refusal("NoSuchKey")
        if held and found and bare_etag(held) not in ("*", etag_of(found)):
            raise Refusal("PreconditionFailed")


def _awaited(upload: UploadSession) -> UploadSession:
    """Return an upload when its file is there. Raise StorageUnavailable after a while.

    Repeating the request is harmless, and finds what the workers have done since.
    """
    deadline = time.monotonic() + PATIENCE
    waits = chain(WAITS, repeat(WAITS[-1]))
    while not upload.completed_at:
        if upload.retry_at is not None or time.monotonic() > deadline:
            raise errors.StorageUnavailable("The file is not made yet. Ask again.")
        time.sleep(next(waits))
        upload = engine.finish(upload)
    return upload
