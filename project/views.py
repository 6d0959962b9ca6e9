"""The demo site's own pages; the upload page is the app's."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from django.views.generic import TemplateView

from resumable_uploads import engine, errors
from resumable_uploads.models import OPEN_STATES, State, UploadSession
from resumable_uploads.owners import owner_of
from resumable_uploads.pages import UploadPage

# Of more uploads than this the newest are shown.
SHOWN = 100


class Index(UploadPage):
    """What the demo is, and how to try it."""

    template_name = "index.html"


class MyUploads(TemplateView):
    """The visitor's own uploads: unfinished ones, and files."""

    template_name = "my_uploads.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        owner = owner_of(self.request)
        mine = UploadSession.objects.filter(owner=owner.key).exclude(owner="")
        mine = mine.order_by("-created_at")
        return super().get_context_data(
            unfinished=mine.filter(state__in=OPEN_STATES)[:SHOWN],
            files=mine.filter(state=State.COMPLETE)[:SHOWN],
            shown=SHOWN,
            **kwargs,
        )

    def render_to_response(self, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().render_to_response(*args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response


@require_POST
@never_cache
def discard(request: HttpRequest, upload_id: Any) -> HttpResponse:
    """Throw away one of the visitor's own uploads, with its bytes."""
    try:
        upload = engine.find(owner_of(request), upload_id)
        engine.cancel(upload)
    except errors.NotFound:
        raise Http404 from None
    except errors.NotReceiving as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, f"“{upload.filename}” was discarded.")
    return redirect("my-uploads")
