"""The demo project: the app as a site uses it. The app needs nothing from here."""

import os

# Who sends tasks has to know the broker. Without one, Celery would take 12 MB of each
# web worker for nothing; ``celery -A project`` finds its app by itself.
_runner, *_brokers = map(os.environ.get, ("RUNNER", "CELERY_BROKER_URL", "REDIS_URL"))
if _runner == "celery" or any(_brokers):
    from .celery import app as celery_app

    __all__ = ["celery_app"]
