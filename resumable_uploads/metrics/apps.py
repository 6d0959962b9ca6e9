"""The app whose being installed means that events are counted."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import import_string


class MetricsConfig(AppConfig):
    name = "resumable_uploads.metrics"
    label = "resumable_uploads_metrics"

    def ready(self) -> None:
        # It has models, for which it is too early before.
        import_string("resumable_uploads.metrics.counting.connect")()
