"""Figures about an upload that its row does not hold: how far, how fast, whose."""

from __future__ import annotations

from django.utils.translation import gettext as _

from ..models import State, UploadSession


def percentage(upload: UploadSession) -> int | None:
    """Return how much of an upload is there, or None where nobody knows.

    100 only when all of it is.
    """
    if upload.length is None:
        return None
    return upload.received * 100 // upload.length if upload.length else 100


def bytes_per_second(upload: UploadSession) -> float | None:
    """Return the pace of an upload, pauses included; None where that says nothing."""
    if upload.state == State.COMPLETE:
        until = upload.completed_at
    elif upload.state in (State.RECEIVING, State.ASSEMBLING):
        until = upload.active_at
    else:
        return None
    passed = (until - upload.created_at).total_seconds() if until else 0
    return upload.received / passed if passed > 0 and upload.received else None


def owner_in_words(owner: str) -> str:
    """Return an owner for people, who need not see the whole token of a visitor."""
    kind, _colon, name = owner.partition(":")
    if kind == "session":
        return _("visitor %(name)s…") % {"name": name[:6]}
    return owner
