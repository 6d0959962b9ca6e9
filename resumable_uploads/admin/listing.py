"""What keeps the list of uploads quick, also when there are a million of them.

Nothing here counts or sorts the whole table.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from ..conf import setting
from ..models import UploadSession
from ..protocols.base import spoken

Uploads = QuerySet[UploadSession]


class CappedPaginator(Paginator):
    """Counts no further than anybody turns pages.

    Below the cap, the pages are cut from the keys that were found by counting. Where
    few rows match, a database that sorts by an index would walk through the whole of it
    for every page.
    """

    at_most = 10_000

    @cached_property
    def _found(self) -> list[Any]:
        keys = self.object_list.order_by().values_list("pk", flat=True)
        return list(keys[: self.at_most + 1])

    @property
    def has_more(self) -> bool:
        """Are there more rows than the pages show?"""
        return len(self._found) > self.at_most

    @cached_property
    def count(self) -> int:
        return min(len(self._found), self.at_most)

    def narrowed(self, rows: Uploads) -> Uploads:
        """Return rows by the keys that were found, unless there are more."""
        return rows if self.has_more else rows.filter(pk__in=self._found)

    def page(self, number: Any) -> Any:
        page = super().page(number)
        rows = self.narrowed(self.object_list)
        page.object_list = rows[max(page.start_index() - 1, 0) : page.end_index()]
        return page


class UploadList(ChangeList):
    """The list of Django's admin, which takes a single page past the paginator."""

    def get_results(self, request: Any) -> None:
        super().get_results(request)
        if self.show_all or not self.multi_page:
            self.result_list = self.paginator.narrowed(self.queryset)


class ProtocolFilter(admin.SimpleListFilter):
    """The protocols that the site serves, not those that occur in a million rows."""

    title = _("protocol")
    parameter_name = "protocol"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(spoken)]

    def queryset(self, request: Any, queryset: Uploads) -> Uploads:
        return queryset.filter(protocol=self.value()) if self.value() else queryset


class PolicyFilter(admin.SimpleListFilter):
    """The policies in the settings."""

    title = _("policy")
    parameter_name = "policy"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in sorted(setting("POLICIES"))]

    def queryset(self, request: Any, queryset: Uploads) -> Uploads:
        return queryset.filter(policy=self.value()) if self.value() else queryset


def search(uploads: Uploads, term: str) -> Uploads:
    """Return the uploads that a term names.

    It is an id; or an owner, as "user:7", "session:..." or the name of a user; or the
    beginning of file names.
    """
    term = term.strip()
    if pk := _as_id(term):
        return uploads.filter(pk=pk)
    if term.startswith(("user:", "session:")):
        return uploads.filter(owner=term)
    named = Q(filename__startswith=term)
    for user in _users_named(term):
        theirs = UploadSession.objects.using(uploads.db).filter(owner=f"user:{user}")
        # By key, so that the index of the list still has all that is asked.
        named |= Q(pk__in=theirs.values("pk"))
    return uploads.filter(named)


def _as_id(term: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(term)
    except ValueError:
        return None


def _users_named(name: str) -> list[Any]:
    model = get_user_model()
    users = model._default_manager.filter(**{model.USERNAME_FIELD: name})
    return list(users.values_list("pk", flat=True)[:1])
