"""Uploads in the admin: to be looked at and dealt with, never edited.

A form that saved a row would write back what was true when the page was opened. So
nobody may "change" an upload here; who has the change permission may operate on it.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timesince import timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from .. import errors
from ..engine import WAITING_STATES
from ..models import State, UploadSession
from ..protocols.download import serve
from ..stores.base import translated_errors
from .chunk_map import ChunkMap
from .deletion import DeletionAdmin
from .figures import bytes_per_second, owner_in_words, percentage
from .history import events
from .listing import CappedPaginator, PolicyFilter, ProtocolFilter, UploadList, search
from .looks import StyledAdmin
from .performing import DeedsAdmin
from .throughput import Throughput

TEMPLATES = "admin/resumable_uploads/uploadsession"


@admin.register(UploadSession)
class UploadSessionAdmin(DeedsAdmin, DeletionAdmin, StyledAdmin):
    """The list of uploads, one upload, and what can be done to them."""

    list_display = (
        "name",
        "standing",
        "progress",
        "owned_by",
        "protocol",
        "size",
        "speed",
        "created",
        "expiry",
    )
    list_filter = (
        "state",
        ProtocolFilter,
        PolicyFilter,
        ("created_at", admin.DateFieldListFilter),
    )
    list_select_related = ("user",)
    list_per_page = 50
    ordering = ("-created_at",)
    # Sorting by anything else would sort the whole table.
    sortable_by = ("created",)
    # What is searched is decided by listing.search; this shows the box.
    search_fields = ("filename__startswith",)
    search_help_text = gettext_lazy(
        "The beginning of a file name, an id, a user name, or an owner such as user:7."
    )
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    fieldsets = (
        (
            None,
            {"fields": ("standing", "progress", "chunk_map", "throughput", "history")},
        ),
        (
            gettext_lazy("File"),
            {
                "fields": (
                    "filename",
                    "relative_path",
                    "content_type",
                    "size",
                    "checksum",
                    "declared_checksum",
                    "place",
                )
            },
        ),
        (
            gettext_lazy("Upload"),
            {
                "fields": (
                    "id",
                    "owned_by",
                    "policy",
                    "protocol",
                    "client_key",
                    "speed",
                    "chunk_size",
                    "addressed_by",
                    "ends_when_full",
                    "created_at",
                    "active_at",
                    "expiry",
                    "metadata_text",
                )
            },
        ),
    )

    # Who may do what

    def has_add_permission(self, request: Any) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: Any, obj: Any = None) -> list[str]:
        return [name for _title, part in self.fieldsets for name in part["fields"]]

    # The list

    def get_changelist(self, request: Any, **kwargs: Any) -> type[UploadList]:
        return UploadList

    def get_search_results(
        self, request: Any, queryset: QuerySet[UploadSession], search_term: str
    ) -> tuple[QuerySet[UploadSession], bool]:
        return (search(queryset, search_term) if search_term else queryset), False

    @admin.display(description=gettext_lazy("file name"))
    def name(self, upload: UploadSession) -> str:
        return upload.filename

    @admin.display(description=gettext_lazy("state"))
    def standing(self, upload: UploadSession) -> str:
        return format_html(
            '<span class="upload-state upload-state-{}" title="{}">{}</span>',
            upload.state,
            upload.error if upload.state != State.COMPLETE else "",
            upload.get_state_display(),
        )

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, upload: UploadSession) -> str:
        percent = percentage(upload)
        if percent is None:
            words = _("%(size)s so far") % {"size": filesizeformat(upload.received)}
            return format_html('<span class="upload-so-far">{}</span>', words)
        return format_html(
            '<span class="upload-progress upload-progress-{}">'
            '<progress max="100" value="{}" aria-label="{}"></progress> {} %</span>',
            upload.state,
            percent,
            self.progress.short_description,  # type: ignore[attr-defined]
            percent,
        )

    @admin.display(description=gettext_lazy("owner"))
    def owned_by(self, upload: UploadSession) -> str:
        if upload.user is None:
            return owner_in_words(upload.owner)
        url = self._user_url(upload.user)
        if not url:
            return upload.user.get_username()
        return format_html('<a href="{}">{}</a>', url, upload.user.get_username())

    def _user_url(self, user: Any) -> str:
        opts = user._meta
        name = f"{self.admin_site.name}:{opts.app_label}_{opts.model_name}_change"
        try:
            return reverse(name, args=(quote(user.pk),))
        except NoReverseMatch:
            return ""

    @admin.display(description=gettext_lazy("size"))
    def size(self, upload: UploadSession) -> str:
        if upload.length is None:
            return self.get_empty_value_display()
        return filesizeformat(upload.length)

    @admin.display(description=gettext_lazy("speed"))
    def speed(self, upload: UploadSession) -> str:
        pace = bytes_per_second(upload)
        if pace is None:
            return self.get_empty_value_display()
        return f"{filesizeformat(pace)}/s"

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def created(self, upload: UploadSession) -> str:
        moment = timezone.localtime(upload.created_at)
        return date_format(moment, "SHORT_DATETIME_FORMAT")

    @admin.display(description=gettext_lazy("expires"))
    def expiry(self, upload: UploadSession) -> str:
        if upload.state not in WAITING_STATES:
            return self.get_empty_value_display()
        now = timezone.now()
        if upload.expires_at <= now:
            return _("overdue")
        return _("in %(time)s") % {"time": timeuntil(upload.expires_at, now)}

    # One upload

    @admin.display(description=gettext_lazy("chunks"))
    def chunk_map(self, upload: UploadSession) -> str:
        context = {"upload": upload, "map": self._map(upload)}
        return render_to_string(f"{TEMPLATES}/chunk_map.html", context)

    @admin.display(description=gettext_lazy("throughput"))
    def throughput(self, upload: UploadSession) -> str:
        context = {"throughput": Throughput(upload)}
        return render_to_string(f"{TEMPLATES}/throughput.html", context)

    @admin.display(description=gettext_lazy("what happened"))
    def history(self, upload: UploadSession) -> str:
        context = {"events": events(upload, self._map(upload))}
        return render_to_string(f"{TEMPLATES}/history.html", context)

    def _map(self, upload: UploadSession) -> ChunkMap:
        """Return the sums of an upload's chunks, made once for all that shows them."""
        if not hasattr(upload, "_chunk_map"):
            upload._chunk_map = ChunkMap(upload)  # type: ignore[attr-defined]
        return upload._chunk_map  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("finished file"))
    def place(self, upload: UploadSession) -> str:
        if upload.state != State.COMPLETE:
            return self.get_empty_value_display()
        words = _("%(name)s on the storage “%(storage)s”")
        return words % {"name": upload.file.name, "storage": upload.storage}

    @admin.display(description=gettext_lazy("metadata"))
    def metadata_text(self, upload: UploadSession) -> str:
        if not upload.metadata:
            return self.get_empty_value_display()
        text = json.dumps(upload.metadata, indent=2, ensure_ascii=False)
        return format_html('<pre class="upload-metadata">{}</pre>', text)

    def render_change_form(self, request: Any, context: dict, **kwargs: Any) -> Any:
        upload = kwargs["obj"]
        context["deeds"] = self.offered(request, upload)
        context["has_file"] = upload.state == State.COMPLETE
        return super().render_change_form(request, context, **kwargs)

    # The file

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_safe(self.download_view))
        name = f"{self.opts.app_label}_{self.opts.model_name}_download"
        return [
            path("<path:object_id>/download/", view, name=name),
            *super().get_urls(),
        ]

    def download_view(self, request: Any, object_id: str) -> Any:
        """Send the finished file, also where the policy keeps its owner from it."""
        upload = self.get_object(request, unquote(object_id))
        if upload is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, upload):
            raise PermissionDenied
        if complaint := _why_not_to_be_sent(upload):
            self.message_user(request, complaint, messages.ERROR)
            return HttpResponseRedirect(self.url("change", quote(upload.pk)))
        return serve(request, upload)


def _why_not_to_be_sent(upload: UploadSession) -> str:
    """Return why a file cannot be downloaded, or ""."""
    if upload.state != State.COMPLETE:
        return _("The file is not complete.")
    try:
        with translated_errors():
            there = upload.file.storage.exists(upload.file.name)
    except errors.StorageUnavailable:
        return _("The storage does not answer.")
    return "" if there else _("The file is not on its storage any more.")
