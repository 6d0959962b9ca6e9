"""Deeds as actions of the admin's list: who may, the question before, what came of it.

The page of one upload offers the same actions, as forms that are sent to the list.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.actions import delete_selected as django_delete_selected
from django.contrib.admin.utils import quote
from django.contrib.auth import get_permission_codename
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import errors
from ..models import UploadSession
from .deeds import DEEDS, Deed

CONFIRM = "admin/resumable_uploads/uploadsession/confirm.html"
# A request that deals with more would last too long.
AT_ONCE = 500
# Enough messages to see what kind of thing went wrong.
MAX_COMPLAINTS = 5


def as_action(deed: Deed) -> Any:
    """Return a deed as an action of the admin's list."""

    @admin.action(description=deed.plural_label, permissions=[deed.permission])
    def act(model_admin: DeedsAdmin, request: Any, queryset: Any) -> Any:
        return model_admin.perform(request, queryset, deed)

    act.__name__ = deed.name
    return act


@admin.action(
    description=gettext_lazy("Delete selected %(verbose_name_plural)s"),
    permissions=["delete"],
)
def delete_selected(model_admin: DeedsAdmin, request: Any, queryset: QuerySet) -> Any:
    """Delete rows with their bytes and files, as Django does, but only so many."""
    if model_admin.are_too_many(request, list(queryset[: AT_ONCE + 1])):
        return None
    return django_delete_selected(model_admin, request, queryset)


class DeedsAdmin(admin.ModelAdmin):
    """Offers the deeds, and Django's deletion, as actions."""

    actions = (*map(as_action, DEEDS), delete_selected)

    def has_operate_permission(self, request: Any, obj: Any = None) -> bool:
        """May this user do what changes an upload and loses nothing?"""
        codename = get_permission_codename("change", self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    # The engine's transactions must not become parts of one around the request.
    @transaction.non_atomic_requests
    def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
        return super().changelist_view(request, extra_context)

    def offered(self, request: Any, upload: UploadSession) -> list[Deed]:
        """Return what this user can do to an upload as it is."""
        return [
            deed
            for deed in DEEDS
            if deed.fits(upload) and self._may(request, deed, upload)
        ]

    def perform(self, request: Any, queryset: QuerySet, deed: Deed) -> Any:
        """Do something to the selected uploads, after a question where it destroys."""
        uploads = list(queryset[: AT_ONCE + 1])
        if self.are_too_many(request, uploads):
            return None
        if deed.question and "confirmed" not in request.POST:
            return self._ask(request, uploads, deed)
        complaints = [self._do(request, upload, deed) for upload in uploads]
        if done := complaints.count(""):
            self.message_user(request, deed.done % done, messages.SUCCESS)
        self._complain(request, [words for words in complaints if words])
        return self._way_back(request, uploads)

    def are_too_many(self, request: Any, uploads: list[UploadSession]) -> bool:
        if len(uploads) <= AT_ONCE:
            return False
        words = _("Choose at most %(count)d uploads at a time.") % {"count": AT_ONCE}
        self.message_user(request, words, messages.ERROR)
        return True

    def _may(self, request: Any, deed: Deed, upload: UploadSession) -> bool:
        return getattr(self, f"has_{deed.permission}_permission")(request, upload)

    def _do(self, request: Any, upload: UploadSession, deed: Deed) -> str:
        """Do something to an upload; return what speaks against it, or ""."""
        if not self._may(request, deed, upload):
            return _about(upload, _("you may not."))
        if not deed.fits(upload):
            words = _("nothing to do, as it is %(state)s.")
            return _about(upload, words % {"state": upload.get_state_display()})
        try:
            deed.do(upload)
        except errors.UploadError as error:
            return _about(upload, error.message)
        self.log_change(request, upload, str(deed.log))
        return ""

    def _complain(self, request: Any, complaints: list[str]) -> None:
        for words in complaints[:MAX_COMPLAINTS]:
            self.message_user(request, words, messages.ERROR)
        if (left := len(complaints) - MAX_COMPLAINTS) > 0:
            words = _("Nor could %(count)d more uploads be dealt with.")
            self.message_user(request, words % {"count": left}, messages.ERROR)

    def _ask(self, request: Any, uploads: list[UploadSession], deed: Deed) -> Any:
        context = {
            **self.admin_site.each_context(request),
            "title": capfirst(deed.label),
            "opts": self.opts,
            "media": self.media,
            "deed": deed,
            "uploads": [upload for upload in uploads if deed.fits(upload)],
            "others": [upload for upload in uploads if not deed.fits(upload)],
            "checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "back": request.POST.get("back", ""),
            "back_url": self._back_url(request, uploads),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, CONFIRM, context)

    def _back_url(self, request: Any, uploads: list[UploadSession]) -> str:
        """Return where the question came from: the upload, or the list."""
        if "back" in request.POST and len(uploads) == 1:
            return self.url("change", quote(uploads[0].pk))
        return request.get_full_path()

    def _way_back(self, request: Any, uploads: list[UploadSession]) -> Any:
        is_there = UploadSession.objects.filter(pk__in=[row.pk for row in uploads[:1]])
        if "back" in request.POST and not is_there.exists():
            return HttpResponseRedirect(self.url("changelist"))
        return HttpResponseRedirect(self._back_url(request, uploads))

    def url(self, name: str, *args: Any) -> str:
        """Return the path of one of this admin's views."""
        opts = self.opts
        route = f"{self.admin_site.name}:{opts.app_label}_{opts.model_name}_{name}"
        return reverse(route, args=args)


def _about(upload: UploadSession, words: str) -> str:
    return f"“{upload}”: {words}"
