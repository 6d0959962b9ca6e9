"""Structured fields (RFC 9651), as far as uploads need them.

A value of another type than the one that is asked for is as good as none.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from django.utils.http import parse_header_parameters

_PARAMETERS = r"(?: *; *[a-z*][a-z0-9_.*-]*(?:=[!-:<-~]*)?)*"
_BOOLEAN = re.compile(rf" *\?([01]){_PARAMETERS} *")
_INTEGER = re.compile(rf" *(-?[0-9]{{1,15}}){_PARAMETERS} *")
_PREFERENCE = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=(\d{1,2})\s*")

# It takes precedence over the plain one.
_EXTENDED_NAME = re.compile(
    r"; *filename\* *= *(utf-8|iso-8859-1)'[^']*'([^;]*)", re.IGNORECASE
)


def boolean(header: str | None) -> bool | None:
    match = _BOOLEAN.fullmatch(header or "")
    return match[1] == "1" if match else None


def whole_number(header: str | None) -> int | None:
    """Return an integer that is not negative, or None."""
    match = _INTEGER.fullmatch(header or "")
    number = int(match[1]) if match else -1
    return number if number >= 0 else None


def preferences(header: str | None) -> list[str]:
    """Return what a Want-Repr-Digest prefers, most wanted first, without the rest."""
    matches = [_PREFERENCE.fullmatch(member) for member in (header or "").split(",")]
    wanted = {match[1]: int(match[2]) for match in matches if match}
    found = sorted(wanted, key=lambda name: -wanted[name])
    return [name for name in found if wanted[name]]


def filename(header: str | None) -> str:
    """Return the file name of a Content-Disposition (RFC 6266), or ""."""
    # Headers come as Latin-1; some clients send UTF-8 all the same.
    text = (header or "").encode("latin-1", "replace").decode("utf-8", "replace")
    if match := _EXTENDED_NAME.search(text):
        return unquote(match[2].strip(), match[1], "replace")
    try:
        return parse_header_parameters(text)[1].get("filename", "")
    except ValueError:
        return ""
