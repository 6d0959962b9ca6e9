"""The URLs of a host that is a bucket."""

from django.urls import include, path

from resumable_uploads.protocols import multipart

urlpatterns = [path("", include(multipart.oss_host_urls("demo-bucket")))]
