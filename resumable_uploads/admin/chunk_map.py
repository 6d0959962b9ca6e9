"""A picture of which chunks are there: at most 400 squares for any number of chunks.

It is data for a template; the database counts, in one query.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Max, Min
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..models import AddressedBy, Chunk, UploadSession

MAX_CELLS = 400
COLUMNS = 40
# The side of a square with the gap after it, in units of the picture.
STEP = 12


@dataclass(frozen=True)
class Cell:
    """A square: so many neighbouring chunks, and how many of them are there."""

    index: int
    first: int
    size: int
    there: int

    @property
    def x(self) -> int:
        return self.index % COLUMNS * STEP

    @property
    def y(self) -> int:
        return self.index // COLUMNS * STEP

    @property
    def kind(self) -> str:
        if not self.there:
            return "missing"
        return "there" if self.there >= self.size else "some"

    @property
    def title(self) -> str:
        if self.size == 1:
            words = (
                _("Chunk %(first)d is there")
                if self.there
                else _("Chunk %(first)d is missing")
            )
            return words % {"first": self.first}
        return _("Chunks %(first)d to %(last)d: %(there)d of %(size)d are there") % {
            "first": self.first,
            "last": self.first + self.size - 1,
            "there": self.there,
            "size": self.size,
        }


class ChunkMap:
    """The recorded chunks of an upload, summed up."""

    side = STEP - 2

    def __init__(self, upload: UploadSession) -> None:
        self.upload = upload

    @cached_property
    def total(self) -> int:
        """How many chunks the file has, or has so far where its end is unknown."""
        if self.upload.last_number is not None:
            return self.upload.last_number + 1
        if self.upload.addressed_by != AddressedBy.NUMBER:
            return self.upload.chunk_count
        # Numbers may have gaps.
        last = self._chunks.aggregate(last=Max("number"))["last"]
        return 0 if last is None else last + 1

    @property
    def per_cell(self) -> int:
        return max(1, -(-self.total // MAX_CELLS))

    @cached_property
    def _chunks(self) -> Any:
        return Chunk.objects.filter(upload=self.upload.pk)

    @cached_property
    def _groups(self) -> list[dict[str, Any]]:
        """Count the chunks square by square, each under its first number."""
        groups = self._chunks.values(first=F("number") - F("number") % self.per_cell)
        return list(
            groups.annotate(
                there=Count("pk"), since=Min("created_at"), until=Max("created_at")
            ).order_by("first")
        )

    @property
    def there(self) -> int:
        """How many chunks are recorded."""
        return sum(group["there"] for group in self._groups)

    @property
    def first_recorded(self) -> datetime | None:
        return min((group["since"] for group in self._groups), default=None)

    @property
    def last_recorded(self) -> datetime | None:
        return max((group["until"] for group in self._groups), default=None)

    @property
    def is_drawn(self) -> bool:
        """Is there a picture? What is appended has no gaps to be seen."""
        return (
            self.upload.is_open
            and self.upload.addressed_by == AddressedBy.NUMBER
            and self.total > 0
        )

    @property
    def cells(self) -> Iterator[Cell]:
        there = {group["first"]: group["there"] for group in self._groups}
        for index, first in enumerate(range(0, self.total, self.per_cell)):
            size = min(self.per_cell, self.total - first)
            yield Cell(index, first, size, there.get(first, 0))

    @property
    def width(self) -> int:
        return COLUMNS * STEP

    @property
    def height(self) -> int:
        cells = -(-self.total // self.per_cell)
        return -(-cells // COLUMNS) * STEP

    @property
    def label(self) -> str:
        """What the picture shows, in words."""
        if self.upload.length is None:
            return ngettext(
                "%(there)d chunk is there; how many there will be is not known.",
                "%(there)d chunks are there; how many there will be is not known.",
                self.there,
            ) % {"there": self.there}
        return ngettext(
            "%(there)d of %(total)d chunk is there.",
            "%(there)d of %(total)d chunks are there.",
            self.total,
        ) % {"there": self.there, "total": self.total}
