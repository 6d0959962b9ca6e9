"""The audit fails for a known weakness, and says where it could not ask."""

from __future__ import annotations

import json

import pytest

from .audit import verdict

pytestmark = pytest.mark.once

GOOD = {"name": "django", "version": "5.2", "vulns": []}
WEAK = {"name": "six", "version": "1.0", "vulns": [{"id": "PYSEC-1"}]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI"}


def said_of(*packages: dict) -> tuple[bool, str]:
    well, said = verdict(json.dumps({"dependencies": packages}), "")
    return well, "\n".join(said)


def test_packages_without_a_known_weakness_pass():
    assert said_of(GOOD) == (True, "Audited: 1 of 1 packages.")


def test_a_known_weakness_fails_and_is_named():
    well, said = said_of(GOOD, WEAK, UNKNOWN)
    assert not well
    assert "six 1.0: PYSEC-1" in said
    assert "Not audited: ours" in said


@pytest.mark.parametrize("found", ["", "{}", "no JSON"])
def test_where_nobody_answers_that_is_said(found):
    well, said = verdict(found, "ERROR: connection refused")
    assert well
    assert said == [
        "NOT AUDITED: the service cannot be asked here: ERROR: connection refused"
    ]


def test_an_audit_of_nothing_is_none():
    well, said = said_of(UNKNOWN, UNKNOWN)
    assert well
    assert said.startswith("NOT AUDITED")
