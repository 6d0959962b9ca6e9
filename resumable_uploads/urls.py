"""The routes of the native protocol, each with and without the trailing slash.

Neither redirects: a client would follow, and take the page behind for success.
"""

from __future__ import annotations

from django.urls import URLPattern, re_path

from .protocols import rest
from .protocols.base import UploadView

app_name = "resumable_uploads"


def _routes(path: str, view: type[UploadView], name: str) -> list[URLPattern]:
    handler = view.as_view()
    if not path:
        return [re_path(r"^$", handler, name=name)]
    # Described once is enough.
    twin = view.as_view(schema=None)
    return [re_path(rf"^{path}/$", handler, name=name), re_path(rf"^{path}$", twin)]


_UPLOAD = r"(?P<upload_id>[^/]+)"

urlpatterns = [
    *_routes("", rest.UploadsView, "uploads"),
    *_routes("limits", rest.LimitsView, "limits"),
    *_routes(_UPLOAD, rest.UploadDetailView, "upload"),
    *_routes(rf"{_UPLOAD}/chunks/(?P<number>[^/]+)", rest.ChunkView, "chunk"),
    *_routes(rf"{_UPLOAD}/complete", rest.CompleteView, "complete"),
    *_routes(rf"{_UPLOAD}/file", rest.FileView, "file"),
]
