"""What an operator can do to uploads: a table, and one function for each deed.

The engine decides whether it can still be done; each raises an UploadError if not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from .. import engine, errors
from ..models import GONE_STATES, OPEN_STATES, State, UploadSession
from ..policies import get_policy


@dataclass(frozen=True)
class Deed:
    """Something to be done to the uploads in some states.

    ``name`` is that of the admin action, ``permission`` "operate" or "delete".
    ``question`` is asked before what cannot be undone.
    """

    name: str
    label: Any
    plural_label: Any
    states: tuple[State, ...]
    permission: str
    do: Callable[[UploadSession], None]
    done: Any
    log: Any
    question: Any = ""

    def fits(self, upload: UploadSession) -> bool:
        return upload.state in self.states


def retry(upload: UploadSession) -> None:
    """Have the file made again, with all attempts."""
    if engine.retry(upload).state == State.FAILED:
        raise errors.StorageUnavailable(
            _("The file could not be made this time either.")
        )


def extend(upload: UploadSession) -> None:
    """Give an upload another lifetime of its policy, from its expiry or from now."""
    start = max(upload.expires_at, timezone.now())
    rows = UploadSession.objects.filter(pk=upload.pk, state__in=EXTEND.states)
    expires_at = start + get_policy(upload.policy).lifetime
    if not rows.filter(expires_at__lt=expires_at).update(expires_at=expires_at):
        raise errors.NotReceiving(_("The upload has ended."))


def purge_now(upload: UploadSession) -> None:
    """End an upload as if its time were up, and forget it."""
    waiting = UploadSession.objects.filter(
        pk=upload.pk, state__in=engine.WAITING_STATES, claimed_at=None
    )
    if waiting.update(expires_at=timezone.now()):
        engine.expire(upload)
    row = engine.refreshed(upload)
    if not row.is_gone:
        raise errors.NotReceiving(_("The upload is in use. Cancel it instead."))
    if not row.settled:
        raise errors.StorageUnavailable(
            _("Its bytes could not be dropped yet. The next purge tries again.")
        )
    row.delete()


CANCEL = Deed(
    name="cancel_uploads",
    label=_("Cancel"),
    plural_label=_("Cancel selected uploads"),
    states=OPEN_STATES,
    permission="delete",
    do=partial(engine.cancel, with_file=False),
    done=ngettext_lazy("%d upload was cancelled.", "%d uploads were cancelled."),
    log=_("Cancelled."),
    question=_("What these uploads have sent is dropped; they cannot be resumed."),
)
RETRY = Deed(
    name="retry_assembly",
    label=_("Retry assembly"),
    plural_label=_("Retry assembly of selected uploads"),
    states=(State.FAILED,),
    permission="operate",
    do=retry,
    done=ngettext_lazy(
        "Another attempt was asked for %d upload.",
        "Another attempt was asked for %d uploads.",
    ),
    log=_("Asked for another attempt to make the file."),
)
EXTEND = Deed(
    name="extend_expiry",
    label=_("Extend expiry"),
    plural_label=_("Extend expiry of selected uploads"),
    states=engine.WAITING_STATES,
    permission="operate",
    do=extend,
    done=ngettext_lazy("%d upload was extended.", "%d uploads were extended."),
    log=_("Extended the expiry."),
)
PURGE = Deed(
    name="purge_now",
    label=_("Purge now"),
    plural_label=_("Purge selected uploads now"),
    states=(*engine.WAITING_STATES, *GONE_STATES),
    permission="delete",
    do=purge_now,
    done=ngettext_lazy("%d upload was purged.", "%d uploads were purged."),
    log=_("Purged."),
    question=_(
        "What these uploads have sent is dropped, and nothing is left that says there "
        "were such uploads. Finished files stay."
    ),
)

DEEDS = (RETRY, EXTEND, CANCEL, PURGE)
