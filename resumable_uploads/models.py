"""Upload sessions and their chunks: facts and constraints, never a file or a verb."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core.files.storage import storages
from django.db import models
from django.db.models import F, Q
from django.db.models.fields.files import FieldFile
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from .lookups import Listing


class StoredFile(FieldFile):
    """A finished file, on the storage whose alias its upload names."""

    @property
    def storage(self) -> Any:
        return storages[self.instance.storage or "default"]

    @storage.setter
    def storage(self, default: Any) -> None:
        """Ignore the field's storage: each upload has its own."""


class StoredFileField(models.FileField):
    """A FileField whose storage is a fact of the row."""

    attr_class = StoredFile


class State(models.TextChoices):
    RECEIVING = "receiving", _("receiving")
    ASSEMBLING = "assembling", _("assembling")
    FAILED = "failed", _("failed")
    COMPLETE = "complete", _("complete")
    REJECTED = "rejected", _("rejected")
    CANCELLED = "cancelled", _("cancelled")
    EXPIRED = "expired", _("expired")


OPEN_STATES = (State.RECEIVING, State.ASSEMBLING, State.FAILED)
GONE_STATES = (State.REJECTED, State.CANCELLED, State.EXPIRED)
END_STATES = (State.COMPLETE, *GONE_STATES)
# What of the open ones is indexed, beginning with their owners.
OPEN_INDEX = "resumable_uploads_client_key"


class AddressedBy(models.TextChoices):
    NUMBER = "number", _("chunk numbers")
    OFFSET = "offset", _("offsets")


# What the admin's list may be filtered by, all at once, and the key: with these in its
# two indexes, no row is read that is not shown.
LISTED = ("state", "protocol", "policy", "filename", "id")


class UploadSession(models.Model):
    """An upload from its opening to its end: an ordered set of chunks and a state."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    # Whose it is, and under what name its client finds it again.
    owner = models.CharField(_("owner"), max_length=150, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
    )
    protocol = models.CharField(_("protocol"), max_length=32)
    client_key = models.CharField(_("client key"), max_length=255, null=True)  # noqa: DJ001
    # "bucket/key", where it is to be found by that: byte for byte, and never a path.
    object_key = models.CharField(_("object"), max_length=1100, blank=True)
    policy = models.CharField(_("policy"), max_length=100, default="default")

    # What is sent.
    filename = models.CharField(_("file name"), max_length=255)
    relative_path = models.CharField(_("folder"), max_length=1024, blank=True)
    content_type = models.CharField(_("content type"), max_length=255, blank=True)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    length = models.BigIntegerField(_("size"), null=True)
    chunk_size = models.BigIntegerField(_("chunk size"), null=True)
    # How many chunks the client makes of the file, where it is not the fewest: some
    # give the rest to the last chunk, which is then longer than the others.
    chunk_total = models.PositiveIntegerField(_("chunks in all"), null=True)
    declared_checksum = models.CharField(
        _("declared checksum"), max_length=160, blank=True
    )
    # Is it over when all bytes are there, or when the client says so?
    ends_when_full = models.BooleanField(_("ends when full"), default=True)

    # What is there.
    received = models.BigIntegerField(_("received"), default=0)
    chunk_count = models.PositiveIntegerField(_("chunks"), default=0)
    addressed_by = models.CharField(
        _("addressed by"), max_length=8, choices=AddressedBy, blank=True
    )

    # How it stands.
    state = models.CharField(
        _("state"), max_length=12, choices=State, default=State.RECEIVING
    )
    error_code = models.CharField(_("error code"), max_length=40, blank=True)
    error = models.TextField(_("error"), blank=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    # The right to append, later to assemble; the last to ask for it holds it.
    lease = models.CharField(max_length=32, blank=True)
    # When an assembly that has gone wrong is worth another try.
    retry_at = models.DateTimeField(_("next attempt"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"))
    active_at = models.DateTimeField(_("last active"))
    expires_at = models.DateTimeField(_("expires"))
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)

    # What became of it.
    storage = models.CharField(_("storage"), max_length=100, default="default")
    file = StoredFileField(_("file"), max_length=1024, blank=True)
    checksum = models.CharField(_("checksum"), max_length=160, blank=True)
    # Has all been done that follows an end: chunks dropped, listeners told?
    settled = models.BooleanField(default=False)
    claimed_at = models.DateTimeField(_("claimed"), null=True, blank=True)

    class Meta:
        verbose_name = _("upload")
        verbose_name_plural = _("uploads")
        constraints = (
            models.UniqueConstraint(
                name=OPEN_INDEX,
                fields=("owner", "protocol", "client_key"),
                condition=Q(state__in=OPEN_STATES),
            ),
            models.CheckConstraint(
                name="resumable_uploads_state", condition=Q(state__in=State.values)
            ),
            models.CheckConstraint(
                name="resumable_uploads_sizes",
                condition=Q(received__gte=0)
                & (Q(length=None) | Q(length__gte=0))
                & (Q(chunk_size=None) | Q(chunk_size__gt=0)),
            ),
            models.CheckConstraint(
                name="resumable_uploads_not_too_long",
                condition=Q(length=None) | Q(received__lte=F("length")),
            ),
            models.CheckConstraint(
                name="resumable_uploads_complete_has_file",
                condition=~Q(state=State.COMPLETE)
                | (~Q(file="") & Q(completed_at__isnull=False)),
            ),
        )
        # None on what changes with every chunk (received, active_at, lease): PostgreSQL
        # then updates the row in place, without touching an index.
        indexes = (
            models.Index("created_at", *LISTED, name="resumable_uploads_list"),
            models.Index(
                "state", "created_at", *LISTED[1:], name="resumable_uploads_by_state"
            ),
            models.Index("state", "expires_at", name="resumable_uploads_expiry"),
            models.Index("owner", "created_at", name="resumable_uploads_by_owner"),
            models.Index(
                "owner",
                "client_key",
                name="resumable_uploads_key",
                condition=Q(client_key__isnull=False),
            ),
            models.Index(
                "owner",
                "object_key",
                name="resumable_uploads_object",
                condition=~Q(object_key=""),
            ),
            models.Index(
                "state",
                name="resumable_uploads_unsettled",
                condition=Q(state__in=END_STATES, settled=False),
            ),
        )

    def __str__(self) -> str:
        return self.filename

    @property
    def file_name(self) -> str:
        """The name of the file on its storage, or the one it is to get; "" for none."""
        return self.file.name or ""

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def is_gone(self) -> bool:
        return self.state in GONE_STATES

    @property
    def is_full(self) -> bool:
        return self.length is not None and self.received >= self.length

    @property
    def last_number(self) -> int | None:
        """The number of the last chunk by the geometry, if that is known."""
        if self.length is None or not self.chunk_size:
            return None
        if self.chunk_total:
            return self.chunk_total - 1
        return max(self.length - 1, 0) // self.chunk_size

    def size_of(self, number: int) -> int | None:
        """Return how many bytes the chunk of a number must have, if that is known."""
        if self.length is None or not self.chunk_size:
            return self.chunk_size
        if number == self.last_number:
            return self.length - number * self.chunk_size
        return self.chunk_size

    def has_chunk(self, number: int, size: int) -> bool:
        """Tell whether the file, of a known length, has such a chunk."""
        last = self.last_number
        return last is not None and number <= last and size == self.size_of(number)

    @cached_property
    def _numbers(self) -> list[int]:
        found = _numbers_of(self.pk) if self.chunk_count else ()
        return [number for (number,) in found]

    @property
    def offset(self) -> int:
        """How many bytes are there from the start without a gap."""
        if self.addressed_by != AddressedBy.NUMBER or self.is_full:
            return self.received
        first = next(gaps(self._numbers, None), (0, 0))[0]
        return min(first * (self.chunk_size or 0), self.received)

    @property
    def missing(self) -> list[tuple[int, int]] | None:
        """The numbers of the chunks still to be sent, as inclusive ranges.

        None where the file is not made of numbered chunks, or its end is unknown.
        """
        if self.is_full or not self.is_open:
            return []
        if self.addressed_by == AddressedBy.OFFSET or self.last_number is None:
            return None
        return list(gaps(self._numbers, self.last_number))


def load_numbers(uploads: Sequence[UploadSession]) -> None:
    """Look up the recorded chunks of many uploads at once."""
    numbered = [
        upload for upload in uploads if upload.addressed_by == AddressedBy.NUMBER
    ]
    for upload in numbered:
        upload._numbers = []
    by_id = {upload.pk: upload for upload in numbered}
    chunks = Chunk.objects.filter(upload__in=by_id).order_by("number")
    for pk, number in chunks.values_list("upload", "number"):
        by_id[pk]._numbers.append(number)


def gaps(numbers: Iterable[int], last: int | None) -> Iterator[tuple[int, int]]:
    """Yield the inclusive ranges that ascending numbers leave out of 0...last.

    Without ``last`` the numbers after the greatest one are a range of their own.
    """
    expected = 0
    for number in numbers:
        if number > expected:
            yield expected, number - 1
        expected = number + 1
    if last is None:
        yield expected, expected
    elif expected <= last:
        yield expected, last


class OwnerLock(models.Model):
    """A row per owner; whoever updates it makes the owner's other openings wait.

    Quotas can only be exact when an owner's uploads are counted by one at a time.
    """

    owner = models.CharField(max_length=150, primary_key=True)
    taken_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.owner


class Holding(models.Model):
    """How many bytes an owner holds under one policy, at the most.

    What is opened and what grows is added; what goes is not taken off. So a quota need
    only be counted anew where it is less than this.
    """

    # The policy's name and the owner, a line each.
    key = models.CharField(max_length=251, primary_key=True)
    held = models.BigIntegerField()
    counted_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key


class AccessKey(models.Model):
    """What a program signs its requests with, in the name of a user.

    The secret is not kept: it follows from the id, the salt and the site's SECRET_KEY.
    """

    access_key_id = models.CharField(_("access key"), max_length=32, unique=True)
    salt = models.CharField(max_length=64)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        related_name="+",
    )
    name = models.CharField(_("what for"), max_length=200)
    # Empty: all of them.
    bucket = models.CharField(_("bucket"), max_length=64, blank=True)
    prefix = models.CharField(_("prefix"), max_length=1023, blank=True)
    actions = models.CharField(_("actions"), max_length=100)
    is_active = models.BooleanField(_("active"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    used_at = models.DateTimeField(_("last used"), null=True, blank=True)

    class Meta:
        verbose_name = _("access key")
        verbose_name_plural = _("access keys")

    def __str__(self) -> str:
        return self.access_key_id


class Revocation(models.Model):
    """Temporary credentials of this owner that were given out before are void."""

    owner = models.CharField(_("owner"), max_length=150, primary_key=True)
    revoked_at = models.DateTimeField(_("revoked"))

    class Meta:
        verbose_name = _("revocation")
        verbose_name_plural = _("revocations")

    def __str__(self) -> str:
        return self.owner


class DeliveryState(models.TextChoices):
    PENDING = "pending", _("pending")
    DELIVERED = "delivered", _("delivered")
    FAILED = "failed", _("failed")


class WebhookDelivery(models.Model):
    """What is to be told by a webhook: written in the transaction of what it tells.

    The upload is named by its id, since this may outlive it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    webhook = models.CharField(_("webhook"), max_length=100)
    event = models.CharField(_("event"), max_length=20)
    upload = models.UUIDField(_("upload"), db_index=True)
    # The bytes that are signed and sent, the same at each attempt.
    body = models.TextField(_("body"))
    state = models.CharField(
        _("state"),
        max_length=12,
        choices=DeliveryState,
        default=DeliveryState.PENDING,
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    # When it is due; who is just sending it moves that on.
    due_at = models.DateTimeField(_("next attempt"))
    # What the last attempt came to.
    status = models.PositiveSmallIntegerField(_("status"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    created_at = models.DateTimeField(_("created"))
    sent_at = models.DateTimeField(_("delivered"), null=True, blank=True)

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        indexes = (
            models.Index(
                "due_at",
                name="resumable_uploads_due",
                condition=Q(state="pending"),
            ),
            models.Index("created_at", name="resumable_uploads_told"),
        )

    def __str__(self) -> str:
        return f"{self.event} {self.upload}"


class Chunk(models.Model):
    """Recorded bytes of an upload: they are there because this row is."""

    # No index but that of the constraint, which begins with it: each chunk writes all.
    upload = models.ForeignKey(
        UploadSession,
        verbose_name=_("upload"),
        on_delete=models.CASCADE,
        db_index=False,
    )
    number = models.PositiveIntegerField(_("number"))
    # Unknown until the manifest, where the client numbers parts as it likes.
    offset = models.BigIntegerField(_("offset"), null=True)
    size = models.BigIntegerField(_("size"))
    checksum = models.CharField(_("CRC-64/NVME"), max_length=16)
    # What else its client wants to know of its bytes: digits by algorithm.
    digests = models.JSONField(_("digests"), default=dict, blank=True)
    # The place of the bytes in the store.
    key = models.CharField(max_length=255)
    start = models.BigIntegerField(default=0)
    # The upload in whose folder the bytes lie, where that is another one.
    source = models.ForeignKey(
        UploadSession,
        on_delete=models.PROTECT,
        null=True,
        related_name="lent_chunks",
        db_index=False,
    )
    created_at = models.DateTimeField(_("recorded"))

    class Meta:
        verbose_name = _("chunk")
        verbose_name_plural = _("chunks")
        constraints = (
            models.UniqueConstraint(
                name="resumable_uploads_chunk_number", fields=("upload", "number")
            ),
            models.CheckConstraint(
                name="resumable_uploads_chunk_sizes",
                condition=Q(size__gte=0)
                & Q(start__gte=0)
                & (Q(offset=None) | Q(offset__gte=0)),
            ),
        )
        indexes = (
            # In the one form in which SQLite sees that it has what a deletion of an
            # upload asks for; else it goes through all chunks for each upload.
            models.Index(
                "source",
                name="resumable_uploads_lent",
                condition=Q(source__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.upload_id} #{self.number}"


_numbers_of = Listing(Chunk, by="upload", fields=("number",))
