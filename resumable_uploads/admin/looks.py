"""What all of the app's own pages in the admin look like, to eyes and to readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.widgets import AdminSplitDateTime
from django.utils.translation import gettext as _


class StyledAdmin(admin.ModelAdmin):
    """A model's pages with the app's style sheet."""

    class Media:
        css = {"all": ("resumable_uploads/admin.css",)}


class LabelledDateTime(AdminSplitDateTime):
    """A date and a time whose labels are not only beside them: Django 5 has no more."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        labels = (context["date_label"], context["time_label"])
        for part, label in zip(context["widget"]["subwidgets"], labels, strict=True):
            part["attrs"]["aria-label"] = label
        return context


class BlankIsAllFilter(admin.AllValuesFieldListFilter):
    """A filter by values, of which an empty one stands for all of them."""

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        for choice in super().choices(changelist):
            shown = choice["display"]
            # With counts, they are what follows the empty value.
            if not shown or shown.startswith(" ("):
                choice["display"] = _("all of them") + shown
            yield choice
