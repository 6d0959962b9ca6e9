"""Purge uploads whose time is up, as a cron job does where no Celery beat runs."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand

from resumable_uploads import inline, retention

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """Return what "90s", "30m", "12h", "3d" or "2w" means."""
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip().lower())
    if not match:
        raise ArgumentTypeError(f"{text!r} is not like 30m, 12h, 3d or 2w.")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number greater than zero.")
    return int(text)


class Command(BaseCommand):
    help = (
        "Expire unfinished uploads whose time is up, drop their bytes, and forget the "
        "records of uploads that ended long ago. Uploads that are being sent, complete "
        "or in use are never touched."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say what would be done."
        )
        parser.add_argument(
            "--batch-size",
            type=positive,
            metavar="N",
            help="How many uploads to deal with at once (setting PURGE_BATCH_SIZE).",
        )
        parser.add_argument(
            "--older-than",
            type=duration,
            metavar="TIME",
            help="Also expire unfinished uploads that nothing has come for in this "
            "time, as 30m, 12h, 3d or 2w.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run = options["dry_run"]
        purged = retention.purge(
            batch_size=options["batch_size"],
            older_than=options["older_than"],
            dry_run=dry_run,
        )
        words = (
            "{0.expired} to expire, {0.forgotten} to forget, {0.settled} to tidy up."
            if dry_run
            else "{0.expired} expired, {0.forgotten} forgotten, {0.settled} tidied up."
        )
        self.stdout.write("Uploads: " + words.format(purged))
        inline.finish()
