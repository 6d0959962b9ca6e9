"""The XML that goes in and out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# Only to write; what comes in is read by defusedxml.
from xml.etree.ElementTree import (  # nosec B405
    Element,
    ParseError,
    SubElement,
    tostring,
)

import defusedxml
from defusedxml.ElementTree import fromstring

from .refusals import Refusal

# 10,000 parts with a SHA-256 each take 1.7 MB.
MAX_DOCUMENT = 4 * 1024 * 1024
MAX_PARTS = 10_000
TYPE = "application/xml"
# What XML 1.0 has no way to write.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Of an element: its name and either text, elements, or nothing.
Pairs = Iterable[tuple[str, Any]]


@dataclass(frozen=True)
class ListedPart:
    """A part in the manifest of a client."""

    number: int
    # Without quotes, in lower case.
    etag: str
    # Base64 by the name of the algorithm.
    checksums: dict[str, str] = field(default_factory=dict)


def written(root: str, pairs: Pairs, namespace: str = "") -> bytes:
    """Return a document. Values are text, numbers, moments, or pairs again."""
    element = Element(root, {"xmlns": namespace} if namespace else {})
    _fill(element, pairs)
    head = b'<?xml version="1.0" encoding="UTF-8"?>\n'
    return head + tostring(element, encoding="unicode").encode()


def _fill(element: Element, pairs: Pairs) -> None:
    for name, value in pairs:
        if value is None:
            continue
        child = SubElement(element, name)
        if isinstance(value, list | tuple):
            _fill(child, value)
        else:
            child.text = _UNWRITABLE.sub("\ufffd", _text(value))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return moment(value) if isinstance(value, datetime) else str(value)


def moment(value: datetime) -> str:
    """Return a moment; some clients take only whole seconds, others want a fraction."""
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000Z"


def manifest(document: bytes) -> list[ListedPart]:
    """Return the parts that a client lists. Raise Refusal."""
    try:
        root = fromstring(document, forbid_dtd=True)
    except (ParseError, ValueError, LookupError, defusedxml.DefusedXmlException):
        # LookupError: it says to be in an encoding that there is not.
        raise Refusal("MalformedXML", "The document is not well-formed.") from None
    parts = [_part(child) for child in root if _name(child) == "Part"]
    if _name(root) != "CompleteMultipartUpload" or not 1 <= len(parts) <= MAX_PARTS:
        raise Refusal("MalformedXML", "There must be 1 to 10000 parts.")
    if any(
        one.number >= two.number for one, two in zip(parts, parts[1:], strict=False)
    ):
        raise Refusal("InvalidPartOrder")
    return parts


def _part(element: Element) -> ListedPart:
    found = dict(_children(element))
    number = found.pop("PartNumber", "")
    if not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise Refusal("MalformedXML", "A part has no proper PartNumber.")
    if "ETag" not in found:
        raise Refusal("MalformedXML", "A part has no ETag.")
    checksums = {
        name.removeprefix("Checksum").lower(): value
        for name, value in found.items()
        if name.startswith("Checksum")
    }
    return ListedPart(int(number), bare_etag(found["ETag"]), checksums)


def _children(element: Element) -> Iterator[tuple[str, str]]:
    return ((_name(child), (child.text or "").strip()) for child in element)


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def bare_etag(text: str) -> str:
    """Return an ETag as it is kept; clients quote it or not, in either case."""
    return text.strip().strip('"').lower()
