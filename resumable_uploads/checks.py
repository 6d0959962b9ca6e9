"""System checks: wrong settings are said at start, with a hint, without a network."""

from __future__ import annotations


def register() -> None:
    """Register the checks with Django."""
