"""Celery for the demo: ``celery -A project worker`` and ``celery -A project beat``."""

import os

from celery import Celery

from resumable_uploads.schedule import BEAT_SCHEDULE

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_finalize.connect
def schedule(sender: Celery, **kwargs: object) -> None:
    """Let beat purge expired uploads and send stuck ones again.

    What CELERY_BEAT_SCHEDULE says under the same names is preferred.
    """
    sender.conf.beat_schedule = BEAT_SCHEDULE | sender.conf.beat_schedule
