"""How fast an upload came, as a line of bars: bytes per second over its time.

Read from the chunks that are recorded, in one query; data for a template.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.template.defaultfilters import filesizeformat
from django.utils.functional import cached_property
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from ..models import Chunk, UploadSession

MOST_BARS = 60
# Fewer chunks than this for each bar would show chunks rather than a pace.
CHUNKS_PER_BAR = 2
# The side of the picture, in its own units.
HEIGHT = 40
STEP = 8


@dataclass(frozen=True)
class Bar:
    """A stretch of time: when it began, and the bytes per second in it."""

    index: int
    since: datetime
    pace: float
    height: float

    @property
    def x(self) -> int:
        return self.index * STEP

    @property
    def y(self) -> float:
        return HEIGHT - self.height

    @property
    def title(self) -> str:
        return f"{localtime(self.since):%H:%M:%S} · {filesizeformat(self.pace)}/s"


class Throughput:
    """The pace of an upload from its first recorded chunk to the last one."""

    side = STEP - 1
    height = HEIGHT

    def __init__(self, upload: UploadSession) -> None:
        self.upload = upload

    @cached_property
    def _arrivals(self) -> list[tuple[datetime, int]]:
        chunks = Chunk.objects.filter(upload=self.upload.pk).order_by("created_at")
        return list(chunks.values_list("created_at", "size"))

    @property
    def is_drawn(self) -> bool:
        return len(self._arrivals) >= 2 * CHUNKS_PER_BAR and self._length > timedelta(0)

    @property
    def first(self) -> datetime:
        # The first chunk has been on its way since the upload was opened.
        return min(self.upload.created_at, self._arrivals[0][0])

    @property
    def last(self) -> datetime:
        return self._arrivals[-1][0]

    @property
    def _length(self) -> timedelta:
        return self.last - self.first

    @cached_property
    def bars(self) -> list[Bar]:
        """The bars, oldest first; the highest is as high as the picture."""
        paces = self._paces()
        step = self._length / len(paces)
        peak = max(paces)
        return [
            Bar(index, self.first + index * step, pace, round(HEIGHT * pace / peak, 2))
            for index, pace in enumerate(paces)
        ]

    def _paces(self) -> list[float]:
        """Return the bytes per second of each stretch."""
        count = min(MOST_BARS, len(self._arrivals) // CHUNKS_PER_BAR)
        sums = [0] * count
        for moment, size in self._arrivals:
            index = int((moment - self.first) / self._length * count)
            sums[min(index, count - 1)] += size
        seconds = self._length.total_seconds() / count
        return [total / seconds for total in sums]

    @property
    def width(self) -> int:
        return len(self.bars) * STEP

    @property
    def label(self) -> str:
        """What the picture shows, in words."""
        words = _(
            "Bytes per second while it was received, between %(first)s and %(last)s; "
            "at most %(peak)s/s."
        )
        return words % {
            "first": f"{localtime(self.first):%H:%M:%S}",
            "last": f"{localtime(self.last):%H:%M:%S}",
            "peak": filesizeformat(max(bar.pace for bar in self.bars)),
        }
