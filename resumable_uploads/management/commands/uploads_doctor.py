"""Find out what is wrong, line by line, and say what to do about it."""

from __future__ import annotations

from argparse import ArgumentParser
from itertools import chain
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from resumable_uploads import inline, retention
from resumable_uploads.management.examination import FAIL, OK, WARN, Finding, examine
from resumable_uploads.management.restored import compare


class Command(BaseCommand):
    help = (
        "Examine settings, database, clock, storages, workers and uploads. Writes and "
        "deletes a small file on each storage. The exit status is 1 when something "
        "has to be done (FAIL); what might have to (WARN) leaves it 0."
    )
    # It says itself what they find, and does not stop there.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--sweep",
            action="store_true",
            help="First drop the bytes that belong to no upload.",
        )
        parser.add_argument(
            "--resend",
            action="store_true",
            help="First have stuck assemblies begun again.",
        )

        parser.add_argument(
            "--files",
            action="store_true",
            help="Also compare all records with their files, as after a restore.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["resend"]:
            self.stdout.write(f"Assemblies asked for again: {retention.resend()}")
            inline.finish()
        if options["sweep"]:
            self.stdout.write(f"Orphans dropped: {retention.sweep()}")
        findings = chain(examine(), compare() if options["files"] else ())
        levels = [self.show(finding) for finding in findings]
        failures, warnings = levels.count(FAIL), levels.count(WARN)
        if failures:
            raise CommandError(f"Failures: {failures}, warnings: {warnings}.")
        self.stdout.write(f"No failures, warnings: {warnings}.")

    def show(self, finding: Finding) -> str:
        """Write a finding on a line of its own and return its level."""
        styles = {
            OK: self.style.SUCCESS,
            WARN: self.style.WARNING,
            FAIL: self.style.ERROR,
        }
        level = styles[finding.level](f"{finding.level:<4}")
        self.stdout.write(f"{level}  {finding.subject}: {finding.text}")
        return finding.level
