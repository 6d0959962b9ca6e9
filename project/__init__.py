"""The demo project: the app as a site uses it. The app needs nothing from here."""

from .celery import app as celery_app

__all__ = ["celery_app"]
