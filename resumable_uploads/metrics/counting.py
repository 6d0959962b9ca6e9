"""What is counted: events in each process, and open uploads in the database."""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.db.models import Count
from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from .. import signals
from ..models import OPEN_STATES, State, UploadSession

LABELS = ("protocol", "policy")
COUNTERS = {
    event: Counter(f"resumable_uploads_{event}", f"Uploads that were {event}.", LABELS)
    for event in signals.LIFE
}
BYTES = Counter(
    "resumable_uploads_completed_bytes", "Bytes of uploads that were completed.", LABELS
)


def connect() -> None:
    """Count from now on, in this process."""
    signals.hear("metrics", _count)


def _count(event: str, upload: UploadSession) -> None:
    COUNTERS[event].labels(upload.protocol, upload.policy).inc()
    if event == "completed":
        BYTES.labels(upload.protocol, upload.policy).inc(upload.length or 0)


class OpenUploads(Collector):
    """How many uploads are open, by state: an index has the answer."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily(
            "resumable_uploads_open", "Uploads that are unfinished.", labels=["state"]
        )
        states = sorted(map(str, OPEN_STATES))
        rows = UploadSession.objects.filter(state__in=states).order_by()
        found = dict(rows.values_list("state").annotate(count=Count("pk")))
        for state in states:
            gauge.add_metric([State(state).value], found.get(state, 0))
        yield gauge


def registry() -> CollectorRegistry:
    """Return what is to be shown: of this process, or of all that share a folder."""
    shown = CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(shown)
    else:
        shown.register(REGISTRY)
    shown.register(OpenUploads())
    return shown
