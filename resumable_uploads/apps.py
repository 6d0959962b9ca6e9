"""The Django app."""

from __future__ import annotations

from importlib.util import find_spec

from django.apps import AppConfig
from django.db.models.signals import pre_delete
from django.utils.translation import gettext_lazy as _


class ResumableUploadsConfig(AppConfig):
    name = "resumable_uploads"
    verbose_name = _("Resumable uploads")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, logs, retention
        from .models import UploadSession

        checks.register()
        logs.connect()
        pre_delete.connect(
            retention.forget_bytes,
            sender=UploadSession,
            dispatch_uid="resumable_uploads_forget_bytes",
        )
        if find_spec("drf_spectacular"):
            from .protocols import rest_schema  # noqa: F401
