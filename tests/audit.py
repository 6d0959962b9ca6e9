"""Ask whether weaknesses of the pinned packages are known: ``make audit``.

Where the service that knows cannot be asked, that is said, and nothing fails. Where it
can, a known weakness fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

REQUIREMENTS = "requirements-run.txt"
PATIENCE = 120


def ask() -> tuple[str, str]:
    """Return what pip-audit has found, as JSON, and its complaints."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--disable-pip"]
    command += ["--no-deps", "--progress-spinner", "off", "-r", REQUIREMENTS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return "", "no answer in time"
    return done.stdout, done.stderr


def verdict(found: str, complaints: str) -> tuple[bool, list[str]]:
    """Return whether all is well, as far as is known, and what to say."""
    try:
        packages: list[dict[str, Any]] = json.loads(found)["dependencies"]
    except (ValueError, KeyError):
        last = complaints.strip().splitlines()[-1:] or ["no answer"]
        return True, [f"NOT AUDITED: the service cannot be asked here: {last[0]}"]
    left_out = [one["name"] for one in packages if "skip_reason" in one]
    if len(left_out) == len(packages):
        return True, ["NOT AUDITED: the service here knows none of the packages."]
    said = [f"Not audited: {name}" for name in left_out]
    weak = [
        f"{one['name']} {one['version']}: {weakness['id']}"
        for one in packages
        for weakness in one.get("vulns", ())
    ]
    audited = f"Audited: {len(packages) - len(left_out)} of {len(packages)} packages."
    return not weak, [*said, *weak, audited]


def main() -> int:
    well, said = verdict(*ask())
    print("\n".join(said))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
