"""The length of an upload that was opened without one."""

from __future__ import annotations

from django.utils import timezone

from .. import errors, runner
from ..models import UploadSession
from ..policies import policy_of
from ..transactions import durable
from .quotas import check_quota, owner_of_upload
from .rows import ENDED, check_receiving, receiving, refreshed, slid


def declare_length(upload: UploadSession, length: int) -> UploadSession:
    """Say how long the file is (bytes), once and for all; return the upload.

    To say the same again is harmless. Raise Invalid for another length than the one
    that is known, or for less than is there; TooLarge, QuotaExceeded, NotReceiving.
    """
    policy, owner = policy_of(upload), owner_of_upload(upload)
    policy.check_length(owner, length)
    now = timezone.now()
    with durable():
        unknown = receiving(upload).filter(length=None, received__lte=length)
        if unknown.update(length=length, active_at=now, **slid(upload, policy, now)):
            # It counts with its length from here on.
            check_quota(upload, policy, owner, length, is_counted=True)
            is_last = receiving(upload).filter(ends_when_full=True, received=length)
            if is_last.update(**ENDED):
                runner.nudge(runner.ASSEMBLE, upload.pk)
        else:
            _check_known(refreshed(upload), length)
    return refreshed(upload)


def _check_known(row: UploadSession, length: int) -> None:
    if row.length == length and not row.is_gone:
        return
    check_receiving(row)
    if row.length is None:
        raise errors.Invalid(f"{row.received} bytes are there already.")
    raise errors.Invalid(f"The length is {row.length} and stays so.")
