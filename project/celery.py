"""Celery for the demo: ``celery -A project worker`` and ``celery -A project beat``."""

import os

from celery import Celery
from django.utils.module_loading import import_string

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_finalize.connect
def schedule(sender: Celery, **kwargs: object) -> None:
    """Let beat purge expired uploads and send stuck ones again.

    The tasks import models, so their schedule can be read only when Django is set up.
    What CELERY_BEAT_SCHEDULE says under the same names is preferred.
    """
    ready_made = import_string("resumable_uploads.tasks.BEAT_SCHEDULE")
    sender.conf.beat_schedule = ready_made | sender.conf.beat_schedule
