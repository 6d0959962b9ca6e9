"""The demo site's URLs."""

from django.apps import apps
from django.contrib import admin
from django.urls import include, path, re_path

from resumable_uploads.pages import UploadPage
from resumable_uploads.protocols.rest import UploadDetailView, UploadsView

from . import buckets, clients, views

ID = "[0-9a-f-]{36}"

# What is mounted beside the native protocol, which would take the names for uploads. No
# prefix has a slash at the end, so that the endpoints answer without one too.
endpoints = clients.endpoints | buckets.endpoints
uploads = [
    # What is asked for most often need not go past all that is mounted beside it.
    path("", UploadsView.as_view(schema=None)),
    re_path(f"^(?P<upload_id>{ID})/$", UploadDetailView.as_view(schema=None)),
    *(path(at, include(of)) for at, of in endpoints.items()),
    path("", include("resumable_uploads.urls")),
]

urlpatterns = [
    # First what is asked for most often: Django goes from one to the next.
    path("uploads/", include(uploads)),
    # Django would redirect a POST without the slash, and clients take the page behind
    # a redirect for success.
    path("uploads", UploadsView.as_view(schema=None)),
    path("", views.Index.as_view(), name="index"),
    path("upload/", UploadPage.as_view(template_name="upload.html"), name="upload"),
    path("my-uploads/", views.MyUploads.as_view(), name="my-uploads"),
    path("my-uploads/<uuid:upload_id>/discard/", views.discard, name="discard"),
    path("admin/", admin.site.urls),
    path("health/", include("resumable_uploads.health")),
    path("", include("project.clients")),
    path("", include("project.buckets")),
]

if apps.is_installed("resumable_uploads.metrics"):
    urlpatterns.append(path("metrics/", include("resumable_uploads.metrics.urls")))
