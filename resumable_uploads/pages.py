"""The bundled upload page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.generic import TemplateView

from .owners import owner_of
from .policies import get_policy


@method_decorator(ensure_csrf_cookie, name="dispatch")
class UploadPage(TemplateView):
    """A page to upload files on, for one policy: ``UploadPage.as_view(policy="...")``.

    A template of your own extends "resumable_uploads/page.html" and fills its blocks.
    """

    template_name = "resumable_uploads/page.html"
    policy = "default"

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        # Before the page is there: its first requests are parallel, and each would
        # begin a session of its own.
        owner_of(request, create=get_policy(self.policy).anonymous)
        response = super().dispatch(request, *args, **kwargs)
        # It holds a token and an owner's name; the browser's "back" shall not bring
        # those of somebody else.
        response["Cache-Control"] = "no-store"
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(policy=self.policy, **kwargs)
