"""The Celery tasks: one line each, around functions that can be repeated."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from . import assembly, retention, runner, webhooks


@shared_task(
    bind=True, name="resumable_uploads.assemble", acks_late=True, max_retries=None
)
def assemble(self: Any, upload_id: str) -> bool:
    """Assemble an upload; after an error, again with back-off."""
    try:
        return assembly.assemble(upload_id)
    except Exception as error:
        wait = assembly.wait_for_next_try(upload_id)
        if wait is None:
            raise
        raise self.retry(exc=error, countdown=wait) from error


@shared_task(name="resumable_uploads.purge")
def purge() -> dict[str, int]:
    """Expire and forget uploads whose time is up."""
    return vars(retention.purge())


@shared_task(name="resumable_uploads.resend")
def resend() -> int:
    """Send uploads to assembly whose message was lost, or whose worker died."""
    return retention.resend()


@shared_task(name="resumable_uploads.sweep")
def sweep() -> int:
    """Drop bytes that belong to no upload."""
    return retention.sweep()


@shared_task(name="resumable_uploads.deliver")
def deliver() -> int:
    """Send the webhooks that are due."""
    return webhooks.deliver()


def send(name: str, *args: Any) -> None:
    """Be the runner "celery": pass a nudge on to the broker, without waiting for it.

    Beat does the housekeeping, so a nudge for that is not needed.
    """
    if name == runner.ASSEMBLE:
        upload_id = str(args[0])
        assemble.apply_async((upload_id,), retry=False, ignore_result=True)
    elif name == runner.DELIVER:
        deliver.apply_async(retry=False, ignore_result=True)
