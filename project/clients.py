"""The demo's pages for other people's browser clients, and what they upload to."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import Http404
from django.urls import include, path, reverse

from resumable_uploads.pages import UploadPage
from resumable_uploads.protocols import (
    byteoffset,
    fineuploader,
    ietf,
    resumablejs,
    tus,
)


@dataclass(frozen=True)
class Client:
    """A client by another author, and how the demo shows it."""

    title: str
    # What of it the demo serves, under npm/ of the static files.
    files: tuple[str, ...] = ()
    # Where it uploads to, from the root of the site.
    endpoint: str = ""

    @property
    def is_installed(self) -> bool:
        folders = {prefix for prefix, _ in settings.NPM_FOLDERS}
        return all(name.rpartition("/")[0] in folders for name in self.files)


CLIENTS = {
    "resumablejs": Client(
        "Resumable.js", ("npm/resumablejs/resumable.js",), "uploads/resumablejs/"
    ),
    "fineuploader": Client(
        "Fine Uploader",
        ("npm/fine-uploader/fine-uploader.min.js",),
        "uploads/fineuploader/",
    ),
    "javascript-info": Client("The uploader of javascript.info"),
    "flowjs": Client("flow.js", ("npm/flow.js/flow.min.js",), "uploads/flowjs/"),
    "simple-uploader": Client(
        "simple-uploader.js",
        ("npm/simple-uploader.js/uploader.min.js",),
        "uploads/simple-uploader/",
    ),
    "uppy": Client("Uppy", ("npm/uppy/uppy.min.js",), "uploads/tus/"),
    "tus": Client("tus-js-client", ("npm/tus-js-client/tus.min.js",), "uploads/tus/"),
    "ali-oss": Client(
        "ali-oss", ("npm/ali-oss/aliyun-oss-sdk.min.js",), "demo-bucket/"
    ),
}


class ClientPage(UploadPage):
    """A page with one client on it."""

    def get_template_names(self) -> list[str]:
        return [f"demo/{self.kwargs['client']}.html"]

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        try:
            client = CLIENTS[self.kwargs["client"]]
        except KeyError:
            raise Http404 from None
        endpoint = reverse("index") + client.endpoint
        return super().get_context_data(client_=client, endpoint=endpoint, **kwargs)


# Below uploads/.
endpoints = {
    "tus": tus.urls(),
    "ietf": ietf.urls(with_tus=True),
    "resumablejs": resumablejs.urls(),
    "flowjs": resumablejs.urls(),
    "simple-uploader": resumablejs.urls(lists_chunks=True),
    "fineuploader": fineuploader.urls(),
    "fineuploader-concurrent": fineuploader.urls(concurrent=True),
}

urlpatterns = [
    path("demo/javascript-info/", include(byteoffset.urls())),
    path("demo/<slug:client>/", ClientPage.as_view(), name="client"),
]
