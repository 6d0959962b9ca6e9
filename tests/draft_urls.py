"""The demo's URLs, with the IETF draft alone where it is spoken beside tus."""

from django.urls import include, path

from project.urls import urlpatterns as of_the_demo
from resumable_uploads.protocols import ietf

urlpatterns = [path("uploads/ietf", include(ietf.urls())), *of_the_demo]
