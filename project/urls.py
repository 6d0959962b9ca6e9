"""The demo site's URLs."""

from django.contrib import admin
from django.urls import include, path

from resumable_uploads.pages import UploadPage

from . import views

urlpatterns = [
    path("", views.Index.as_view(), name="index"),
    path("upload/", UploadPage.as_view(template_name="upload.html"), name="upload"),
    path("my-uploads/", views.MyUploads.as_view(), name="my-uploads"),
    path("my-uploads/<uuid:upload_id>/discard/", views.discard, name="discard"),
    path("admin/", admin.site.urls),
    path("uploads/", include("resumable_uploads.urls")),
]
