"""A bucket: is it there, what is in it, and what is under way."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse

from ...buckets import Bucket
from ...models import State, UploadSession
from . import bodies, listing
from .refusals import Refusal
from .views import MultipartView, etag_of


class BucketView(MultipartView):
    """A bucket as a whole: is it there, and what is in it."""

    def head(self, request: Any, **kwargs: Any) -> HttpResponse:
        self.bucket_itself()
        return HttpResponse()

    def put(self, request: Any, **kwargs: Any) -> HttpResponse:
        """Make the bucket, which is there already or never will be."""
        bucket = self.bucket_itself()
        # What region is wished for does not matter.
        bodies.document(request)
        return HttpResponse(headers={"Location": f"/{bucket.name}"})

    def get(self, request: Any, **kwargs: Any) -> HttpResponse:
        if "location" in self.query:
            self.bucket_itself()
            return self.answer("LocationConstraint")
        prefix = self.query.get("prefix", "")
        bucket = self.bucket("list", prefix)
        if "uploads" in self.query:
            return self._uploads(bucket, prefix)
        if "list-type" in self.query:
            return self._objects_v2(bucket, prefix)
        return self._objects_v1(bucket, prefix)

    def post(self, request: Any, **kwargs: Any) -> HttpResponse:
        raise Refusal("NotImplemented")

    def delete(self, request: Any, **kwargs: Any) -> HttpResponse:
        raise Refusal("NotImplemented")

    def bucket_itself(self) -> Bucket:
        """Return the bucket, if there is anything that may be done in it."""
        grant = self.access.grant
        action = next(iter(grant.actions), "")
        return self.bucket(action, grant.prefix)

    def _objects_v1(self, bucket: Bucket, prefix: str) -> HttpResponse:
        marker = self.query.get("marker", "")
        page = self._page(bucket, prefix, marker)
        return self.answer(
            "ListBucketResult",
            ("Name", bucket.name),
            ("Prefix", self.encoded(prefix)),
            ("Marker", self.encoded(marker)),
            ("MaxKeys", self._at_most("max-keys")),
            *self._delimiter(),
            ("IsTruncated", page.is_truncated),
            ("NextMarker", self.encoded(page.next) if page.is_truncated else None),
            *self._contents(page, has_owner=True),
        )

    def _objects_v2(self, bucket: Bucket, prefix: str) -> HttpResponse:
        start_after = self.query.get("start-after", "")
        token = self.query.get("continuation-token")
        page = self._page(bucket, prefix, start_after if token is None else _key(token))
        return self.answer(
            "ListBucketResult",
            ("Name", bucket.name),
            ("Prefix", self.encoded(prefix)),
            ("StartAfter", self.encoded(start_after) or None),
            ("ContinuationToken", token),
            ("MaxKeys", self._at_most("max-keys")),
            *self._delimiter(),
            ("KeyCount", len(page)),
            ("IsTruncated", page.is_truncated),
            ("NextContinuationToken", _token(page.next) if page.is_truncated else None),
            *self._contents(page, self.query.get("fetch-owner") == "true"),
        )

    def _page(self, bucket: Bucket, prefix: str, after: str) -> listing.Page:
        delimiter = self.query.get("delimiter", "")
        at_most = self._at_most("max-keys")
        return listing.page_of(bucket, self.owner(), prefix, delimiter, after, at_most)

    def _at_most(self, name: str) -> int:
        return self.number(name, listing.PAGE, 0, listing.PAGE)

    def _delimiter(self) -> list[tuple[str, Any]]:
        delimiter = self.encoded(self.query.get("delimiter", ""))
        return [("Delimiter", delimiter or None), *self.encoding()]

    def _contents(self, page: listing.Page, has_owner: bool) -> list[tuple[str, Any]]:
        owner = self.owner_pairs() if has_owner else []
        contents = [
            (
                "Contents",
                [
                    ("Key", self.encoded(key)),
                    ("LastModified", upload.completed_at),
                    ("ETag", self.dialect.quoted(etag_of(upload))),
                    ("Type", self._type_of(upload)),
                    ("Size", upload.length),
                    ("StorageClass", self.dialect.storage_class),
                    *owner,
                ],
            )
            for key, upload in page.found
        ]
        return [*contents, *self._common(page.prefixes)]

    def _type_of(self, upload: UploadSession) -> str | None:
        return self.dialect.object_type(upload.metadata["is_multipart"])

    def _common(self, prefixes: Sequence[str]) -> list[tuple[str, Any]]:
        return [
            ("CommonPrefixes", [("Prefix", self.encoded(prefix))])
            for prefix in prefixes
        ]

    def _uploads(self, bucket: Bucket, prefix: str) -> HttpResponse:
        key_marker = self.query.get("key-marker", "")
        id_marker = self.query.get("upload-id-marker", "") if key_marker else ""
        at_most = self._at_most("max-uploads")
        page = listing.unfinished(
            self._unfinished(bucket),
            prefix,
            self.query.get("delimiter", ""),
            lambda key, upload: _is_after(key, upload, key_marker, id_marker),
            at_most,
        )
        last_key, last_id = _last_of(page) if page.is_truncated else ("", "")
        return self.answer(
            "ListMultipartUploadsResult",
            ("Bucket", bucket.name),
            ("KeyMarker", self.encoded(key_marker)),
            ("UploadIdMarker", id_marker),
            ("NextKeyMarker", self.encoded(last_key)),
            ("NextUploadIdMarker", last_id),
            ("Prefix", self.encoded(prefix)),
            *self._delimiter(),
            ("MaxUploads", at_most),
            ("IsTruncated", page.is_truncated),
            *(
                (
                    "Upload",
                    [
                        ("Key", self.encoded(key)),
                        ("UploadId", upload.pk.hex),
                        ("Initiated", upload.created_at),
                        ("StorageClass", self.dialect.storage_class),
                        *self.owner_pairs(),
                    ],
                )
                for key, upload in page.found
            ),
            *self._common(page.prefixes),
        )

    def _unfinished(self, bucket: Bucket) -> list[tuple[str, UploadSession]]:
        rows = UploadSession.objects.filter(
            owner=self.owner().key,
            protocol=self.dialect.protocol,
            state=State.RECEIVING,
        )
        start = len(bucket.object_key(""))
        return [
            (upload.object_key[start:], upload)
            for upload in rows
            if upload.object_key.startswith(bucket.object_key(""))
            and upload.metadata.get("is_multipart")
        ]


def _is_after(key: str, upload: UploadSession, key_marker: str, id_marker: str) -> bool:
    if key.encode() != key_marker.encode():
        return key.encode() > key_marker.encode()
    return bool(id_marker) and upload.pk.hex > id_marker


def _last_of(page: listing.Uploads) -> tuple[str, str]:
    """Return the key and the id from which the next page goes on."""
    ends = [(key, upload.pk.hex) for key, upload in page.found[-1:]]
    ends += [(prefix, "") for prefix in page.prefixes[-1:]]
    return max(ends, default=("", ""))


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _key(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), b"-_", validate=True).decode()
    except ValueError:
        raise Refusal(
            "InvalidArgument", "The continuation token is not one of these."
        ) from None
