"""Lists of objects and of unfinished uploads, page by page, by the bytes of keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ... import engine
from ...buckets import Bucket
from ...models import UploadSession
from ...owners import Owner

PAGE = 1000


@dataclass
class Page:
    """What is on one page; ``next`` is where the following one begins."""

    found: list[tuple[str, UploadSession]] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    is_truncated: bool = False
    next: str = ""

    def __len__(self) -> int:
        return len(self.found) + len(self.prefixes)


def page_of(
    bucket: Bucket,
    owner: Owner,
    prefix: str,
    delimiter: str,
    after: str,
    at_most: int,
) -> Page:
    """Return a page of an owner's objects, what has a delimiter gathered by it."""
    page = Page()
    if not at_most:
        return page
    entries = _entries(bucket, owner, prefix, delimiter, after)
    for name, upload in entries:
        if len(page) == at_most:
            page.is_truncated = True
            break
        if upload is None:
            page.prefixes.append(name)
        else:
            page.found.append((name, upload))
        page.next = name
    return page


def _entries(
    bucket: Bucket, owner: Owner, prefix: str, delimiter: str, after: str
) -> Iterator[tuple[str, UploadSession | None]]:
    """Yield keys with their objects, and common prefixes with None, in order."""
    start = len(bucket.object_key(""))
    position = bucket.object_key(_behind(after, prefix, delimiter))
    while True:
        rows = engine.objects_after(owner, bucket.object_key(prefix), position)
        last = None
        for upload in rows[: PAGE + 1]:
            last = upload.object_key[start:]
            common = common_prefix(last, prefix, delimiter)
            if common is not None:
                # All others with it are gathered here: go on behind them.
                yield common, None
                position = bucket.object_key(common + engine.LAST)
                break
            yield last, upload
            position = upload.object_key
        if last is None:
            return


def _behind(after: str, prefix: str, delimiter: str) -> str:
    """Return the last key that a marker stands for, where it is a common prefix."""
    common = common_prefix(after, prefix, delimiter)
    return after + engine.LAST if common == after and after else after


def common_prefix(key: str, prefix: str, delimiter: str) -> str | None:
    """Return a key up to the first delimiter behind the prefix, if there is one."""
    if not delimiter or not key.startswith(prefix):
        return None
    end = key.find(delimiter, len(prefix))
    return None if end < 0 else key[: end + len(delimiter)]


@dataclass
class Uploads:
    """A page of unfinished uploads, with their keys."""

    found: list[tuple[str, UploadSession]]
    prefixes: list[str]
    is_truncated: bool


def unfinished(
    rows: list[tuple[str, UploadSession]],
    prefix: str,
    delimiter: str,
    is_after: Callable[[str, UploadSession], bool],
    at_most: int,
) -> Uploads:
    """Return a page of uploads; an owner has few, so all of them are looked at."""
    found: list[tuple[str, UploadSession]] = []
    prefixes: dict[str, None] = {}
    rows = [row for row in sorted(rows, key=by_key) if row[0].startswith(prefix)]
    for key, upload in rows:
        common = common_prefix(key, prefix, delimiter)
        if not is_after(common or key, upload) or common in prefixes:
            continue
        if len(found) + len(prefixes) == at_most:
            return Uploads(found, list(prefixes), True)
        if common is None:
            found.append((key, upload))
        else:
            prefixes[common] = None
    return Uploads(found, list(prefixes), False)


def by_key(row: tuple[str, UploadSession]) -> Any:
    key, upload = row
    return key.encode(), upload.pk.hex
