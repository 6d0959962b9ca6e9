"""The log of webhooks: what was told to whom, and what came of it."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.db.models import Q, QuerySet
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy, ngettext

from .. import runner, webhooks
from ..models import WebhookDelivery
from .looks import StyledAdmin
from .performing import AT_ONCE


@admin.action(
    description=gettext_lazy("Send the selected deliveries again"),
    permissions=["operate"],
)
def send_again(
    model_admin: WebhookDeliveryAdmin, request: Any, queryset: QuerySet
) -> None:
    """Have deliveries attempted anew, also those that have arrived."""
    pks = list(queryset.values_list("pk", flat=True)[:AT_ONCE])
    for pk in pks:
        webhooks.send_again(pk)
    runner.nudge(runner.DELIVER)
    words = ngettext(
        "%(count)d delivery is sent again.",
        "%(count)d deliveries are sent again.",
        len(pks),
    )
    model_admin.message_user(request, words % {"count": len(pks)}, messages.SUCCESS)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(StyledAdmin):
    """Deliveries, to be looked at and sent again, never edited."""

    actions = (send_again,)
    list_display = ("created_at", "webhook", "event", "upload", "state", "attempts")
    list_display += ("status", "due_at")
    list_filter = ("state", "event", "webhook")
    # What is searched is decided below; this shows the box.
    search_fields = ("upload",)
    search_help_text = gettext_lazy("The id of an upload, or of a delivery.")
    ordering = ("-created_at",)
    show_full_result_count = False
    fields = ("id", "webhook", "event", "upload_link", "state", "attempts", "due_at")
    fields += ("status", "error", "created_at", "sent_at", "told")

    def has_add_permission(self, request: Any) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def has_operate_permission(self, request: Any, obj: Any = None) -> bool:
        """May this user have deliveries sent again?"""
        codename = get_permission_codename("change", self.opts)
        return request.user.has_perm(f"{self.opts.app_label}.{codename}")

    def get_readonly_fields(self, request: Any, obj: Any = None) -> Any:
        return self.fields

    def get_search_results(
        self, request: Any, queryset: QuerySet[WebhookDelivery], search_term: str
    ) -> tuple[QuerySet[WebhookDelivery], bool]:
        if not search_term:
            return queryset, False
        try:
            pk = uuid.UUID(search_term.strip())
        except ValueError:
            return queryset.none(), False
        return queryset.filter(Q(pk=pk) | Q(upload=pk)), False

    @admin.display(description=gettext_lazy("upload"))
    def upload_link(self, delivery: WebhookDelivery) -> str:
        name = f"{self.admin_site.name}:{self.opts.app_label}_uploadsession_change"
        try:
            url = reverse(name, args=(delivery.upload,))
        except NoReverseMatch:
            return str(delivery.upload)
        return format_html('<a href="{}">{}</a>', url, delivery.upload)

    @admin.display(description=gettext_lazy("body"))
    def told(self, delivery: WebhookDelivery) -> str:
        text = json.dumps(json.loads(delivery.body), indent=2, ensure_ascii=False)
        return format_html('<pre class="upload-metadata">{}</pre>', text)
