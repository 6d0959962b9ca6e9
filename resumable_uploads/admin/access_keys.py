"""Access keys for programs, and the end of temporary credentials, in the admin."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import credentials
from ..conf import setting
from ..models import AccessKey, Revocation
from .looks import BlankIsAllFilter, LabelledDateTime, StyledAdmin


class AccessKeyForm(forms.ModelForm):
    """What a key is for; its id and its secret are made, not chosen."""

    bucket = forms.ChoiceField(
        label=capfirst(gettext_lazy("bucket")), choices=(), required=False
    )
    actions = forms.MultipleChoiceField(
        label=capfirst(gettext_lazy("actions")),
        choices=[(action, action) for action in credentials.ACTIONS],
        initial=credentials.ACTIONS,
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = AccessKey
        fields = (
            "user",
            "name",
            "bucket",
            "prefix",
            "actions",
            "is_active",
            "expires_at",
        )
        widgets = {"expires_at": LabelledDateTime}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "bucket" in self.fields:
            names = [(name, name) for name in setting("BUCKETS")]
            self.fields["bucket"].choices = [("", _("all of them")), *names]
        if self.instance.pk and "actions" in self.fields:
            self.initial["actions"] = self.instance.actions.split()

    def clean_actions(self) -> str:
        return " ".join(self.cleaned_data["actions"])


@admin.register(AccessKey)
class AccessKeyAdmin(StyledAdmin):
    """Access keys. The secret is shown once, when the key is made."""

    form = AccessKeyForm
    list_display = ("access_key_id", "user", "name", "bucket", "is_active", "used_at")
    list_filter = ("is_active", ("bucket", BlankIsAllFilter))
    list_select_related = ("user",)
    search_fields = ("access_key_id", "name", "user__username")
    readonly_fields = ("access_key_id", "created_at", "used_at")
    raw_id_fields = ("user",)

    def get_readonly_fields(self, request: Any, obj: AccessKey | None = None) -> Any:
        """Leave a key to its user: under another one it would be another key."""
        return (*self.readonly_fields, "user") if obj else self.readonly_fields

    def save_model(self, request: Any, obj: AccessKey, form: Any, change: bool) -> None:
        if not change:
            made = credentials.new_access_key()
            obj.access_key_id, obj.salt = made.access_key_id, made.salt
        super().save_model(request, obj, form, change)
        if not change:
            messages.warning(request, _told_once(obj))


def _told_once(key: AccessKey) -> str:
    return format_html(
        "{} <code>{}</code> {} <code>{}</code>. {}",
        _("Access key:"),
        key.access_key_id,
        _("Secret:"),
        credentials.secret_of(key),
        _("The secret is not shown again."),
    )


@admin.register(Revocation)
class RevocationAdmin(StyledAdmin):
    """Temporary credentials that were taken back, all of an owner at once."""

    fields = ("owner",)
    list_display = ("owner", "revoked_at")
    search_fields = ("owner",)

    def save_model(
        self, request: Any, obj: Revocation, form: Any, change: bool
    ) -> None:
        obj.revoked_at = timezone.now()
        super().save_model(request, obj, form, change)

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        # What was taken back would be good again.
        return False
