"""What goes, and what must not, when uploads are deleted in the admin.

Chunks are counted and never loaded: an upload may have ten thousand of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import NestedObjects
from django.db import router
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from ..models import Chunk


class Doomed(NestedObjects):
    """What is deleted together, but for the uploads' own chunks."""

    def related_objects(self, related_model: Any, fields: Any, objs: Any) -> Any:
        rows = super().related_objects(related_model, fields, objs)
        if Chunk._meta.get_field("upload") in fields:
            return rows.none()
        return rows

    def obstacles(self) -> list[str]:
        """Return what must not go, each upload that borrows chunks only once."""
        lent = {row.upload_id for row in self.protected if isinstance(row, Chunk)}
        words = _("Upload %(id)s is made of its chunks")
        others = [
            _in_words(row) for row in self.protected if not isinstance(row, Chunk)
        ]
        return others + [words % {"id": pk} for pk in sorted(lent)]


class DeletionAdmin(admin.ModelAdmin):
    """Says what is deleted with uploads, without loading it all."""

    def get_deleted_objects(self, objs: Any, request: Any) -> Any:
        """Return what goes with uploads; their chunks are only counted."""
        doomed = Doomed(router.db_for_write(self.model), origin=objs)
        doomed.collect(objs)
        counts = {
            model._meta.verbose_name_plural: len(rows)
            for model, rows in doomed.model_objs.items()
        }
        if chunks := Chunk.objects.filter(upload__in=objs).count():
            counts[Chunk._meta.verbose_name_plural] = chunks
        refused = {
            model._meta.verbose_name
            for model, rows in doomed.model_objs.items()
            if not self._may_delete(request, model, rows)
        }
        return doomed.nested(_in_words), counts, refused, doomed.obstacles()

    def _may_delete(self, request: Any, model: Any, rows: Iterable[Any]) -> bool:
        if not self.admin_site.is_registered(model):
            return True
        responsible = self.admin_site.get_model_admin(model)
        return all(responsible.has_delete_permission(request, row) for row in rows)


def _in_words(row: Any) -> str:
    return f"{capfirst(row._meta.verbose_name)}: {row}"
