"""What has happened to an upload, and what will, in words.

Everything is read from the row and the sums of its chunks; nothing is logged for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..engine import WAITING_STATES
from ..models import State, UploadSession
from .chunk_map import ChunkMap


@dataclass(frozen=True)
class Event:
    """Something that has happened, or will; ``when`` is None for what is so now."""

    when: datetime | None
    text: str
    kind: str = ""


def events(upload: UploadSession, chunks: ChunkMap) -> Iterator[Event]:
    """Yield what has happened to an upload, oldest first, and then what is to come."""
    yield Event(upload.created_at, _opened(upload))
    yield from _received(upload, chunks)
    yield from _attempts(upload)
    if upload.completed_at:
        words = _("Complete. The file is %(name)s on the storage “%(storage)s”.")
        facts = {"name": upload.file.name, "storage": upload.storage}
        yield Event(upload.completed_at, words % facts, "good")
    if upload.claimed_at:
        yield Event(upload.claimed_at, _("Another part of the site uses the file."))
    yield from _ended(upload)
    yield from _outlook(upload)


def _opened(upload: UploadSession) -> str:
    size = _("of unknown size")
    if upload.length is not None:
        size = filesizeformat(upload.length)
    words = _("Opened: protocol %(protocol)s, policy “%(policy)s”, %(size)s.")
    facts = {"protocol": upload.protocol, "policy": upload.policy, "size": size}
    return words % facts


def _received(upload: UploadSession, chunks: ChunkMap) -> Iterator[Event]:
    first, last = chunks.first_recorded, chunks.last_recorded
    if first is None or last is None:
        if upload.state == State.RECEIVING:
            yield Event(None, _("Nothing has come yet."))
        return
    yield Event(first, _("The first bytes came."))
    words = ngettext(
        "The last bytes so far came: %(received)s in %(count)d chunk.",
        "The last bytes so far came: %(received)s in %(count)d chunks.",
        chunks.there,
    )
    facts = {"received": filesizeformat(upload.received), "count": chunks.there}
    yield Event(last, words % facts)


def _attempts(upload: UploadSession) -> Iterator[Event]:
    """Yield how the assembly has gone so far."""
    if upload.error and upload.state in (State.ASSEMBLING, State.FAILED):
        words = ngettext(
            "%(count)d attempt to make the file failed (%(code)s): %(error)s",
            "%(count)d attempts to make the file failed, last (%(code)s): %(error)s",
            _failed_attempts(upload),
        )
        facts: dict[str, Any] = {
            "count": _failed_attempts(upload),
            "code": upload.error_code,
            "error": upload.error,
        }
        # Who is at it now keeps active_at moving.
        when = None if upload.lease else upload.active_at
        yield Event(when, words % facts, "bad")


def _failed_attempts(upload: UploadSession) -> int:
    under_way = upload.state == State.ASSEMBLING and upload.lease
    return upload.attempts - 1 if under_way else upload.attempts


def _ended(upload: UploadSession) -> Iterator[Event]:
    words = {
        State.CANCELLED: _("Cancelled."),
        State.EXPIRED: _("Expired: nothing came for too long."),
        State.REJECTED: _("Refused (%(code)s): %(error)s"),
    }
    if upload.is_gone:
        facts = {"code": upload.error_code, "error": upload.error}
        yield Event(upload.active_at, words[State(upload.state)] % facts, "bad")
    if not upload.is_open and not upload.settled:
        yield Event(None, _("Its chunks are still to be dropped."), "bad")


def _outlook(upload: UploadSession) -> Iterator[Event]:
    now = timezone.now()
    if upload.state == State.ASSEMBLING:
        yield Event(None, _assembling(upload, now))
    if upload.state == State.FAILED:
        yield Event(None, _("Nobody tries again unless asked to: retry or cancel."))
    if upload.state in WAITING_STATES:
        yield Event(upload.expires_at, expiry(upload, now))
    if upload.is_gone:
        words = _("This record is forgotten in %(time)s.")
        if upload.expires_at <= now:
            words = _("This record is forgotten by the next purge.")
        yield Event(upload.expires_at, words % {"time": _until(upload.expires_at, now)})


def _assembling(upload: UploadSession, now: datetime) -> str:
    if upload.lease:
        words = _(
            "The file is being made: attempt %(count)d, last sign of life %(time)s ago."
        )
        time = timesince(upload.active_at, now)
        return words % {"count": upload.attempts, "time": time}
    if upload.retry_at and upload.retry_at > now:
        return _("The next attempt is in %(time)s.") % {
            "time": _until(upload.retry_at, now)
        }
    return _("All bytes are there; the file waits to be made.")


def expiry(upload: UploadSession, now: datetime) -> str:
    """Say when an upload that waits for bytes, or for help, is given up."""
    if upload.expires_at <= now:
        return _("Its time is up: the next purge ends it.")
    words = _("Expires in %(time)s, if nothing happens before.")
    return words % {"time": _until(upload.expires_at, now)}


def _until(moment: datetime, now: datetime) -> str:
    return timeuntil(moment, now)
