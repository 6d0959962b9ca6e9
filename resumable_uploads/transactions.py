"""Transactions of the database that uploads are in, which need not be the default one.

A router of the site's says which that is, and Django's own functions do not ask it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from django.apps import apps
from django.db import router, transaction


def durable() -> transaction.Atomic:
    """Return a transaction that no other one may be around."""
    return transaction.atomic(using=_alias(), durable=True)


def atomic() -> transaction.Atomic:
    """Return a transaction, or a part of the one that is around it."""
    return transaction.atomic(using=_alias())


def after_commit(call: Callable[[], Any], robust: bool = False) -> None:
    """Call something once the transaction is committed; at once where there is none.

    With ``robust``, what it raises is logged, and others are called all the same.
    """
    transaction.on_commit(call, using=_alias(), robust=robust)


def _alias() -> str:
    return router.db_for_write(_model())


@cache
def _model() -> Any:
    return apps.get_model("resumable_uploads", "UploadSession")
