"""An independent look at what a site keeps: raw SQL and files, nothing of the app."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

UPLOADS = "resumable_uploads_uploadsession"
CHUNKS = "resumable_uploads_chunk"
ENDED = ("complete", "rejected", "cancelled", "expired")


@dataclass
class Row:
    """The row of an upload."""

    id: str
    filename: str
    state: str
    received: int
    length: int | None
    file: str
    settled: bool
    lease: str


@dataclass
class Stretch:
    """Recorded bytes: which of the file, and where they lie."""

    begin: int
    size: int
    key: str
    start: int


class Books:
    """What a site has in its database and its folders.

    ``files`` is where its media are, if not in its folder.
    """

    def __init__(
        self, folder: Path, database_url: str = "", files: Path | None = None
    ) -> None:
        self.folder = folder
        self.files = files or folder
        self.database_url = database_url

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask, or tell, the database; parameters are ``?``."""
        if self.database_url:
            url = self.database_url.replace("postgres://", "postgresql://")
            with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
                answer = connection.execute(query.replace("?", "%s").encode(), values)
                return answer.fetchall() if answer.description else []
        database = sqlite3.connect(self.folder / "db.sqlite3", timeout=20)
        try:
            with database:
                return database.execute(query, values).fetchall()
        finally:
            database.close()

    def rows(self, filename: str = "") -> list[Row]:
        query = (
            "SELECT id, filename, state, received, length, file, settled, lease"
            f" FROM {UPLOADS}"
        )
        found = (
            self.ask(f"{query} WHERE filename = ?", filename)
            if filename
            else self.ask(query)
        )
        return [Row(str(uuid.UUID(str(row[0]))), *row[1:]) for row in found]

    def stretches(self, row: Row, piece: int) -> list[Stretch]:
        """Return what is recorded of an upload; parts have no offset but a number."""
        found = self.ask(
            f'SELECT number, "offset", size, key, start FROM {CHUNKS}'
            " WHERE upload_id = ?",
            self.key(row.id),
        )
        return [
            Stretch(
                (number - 1) * piece if offset is None else offset, size, key, start
            )
            for number, offset, size, key, start in found
        ]

    def key(self, upload_id: str) -> str:
        return upload_id if self.database_url else upload_id.replace("-", "")

    def bytes_at(self, stretch: Stretch) -> bytes:
        with (self.files / "media-staging" / stretch.key).open("rb") as file:
            file.seek(stretch.start)
            return file.read(stretch.size)

    def expire(self, filename: str) -> None:
        """Let the time of an unfinished upload be up."""
        self.ask(
            f"UPDATE {UPLOADS} SET expires_at = '2001-01-01 00:00:00+00:00'"
            " WHERE filename = ? AND state IN ('receiving', 'failed')",
            filename,
        )

    def age(self) -> None:
        """Have all that waits for its turn, or for another worker, wait no more."""
        self.ask(
            f"UPDATE {UPLOADS} SET active_at = '2001-01-01 00:00:00+00:00',"
            " retry_at = NULL WHERE state = 'assembling' OR NOT settled"
            " AND state <> 'receiving'"
        )

    # Judgements: each yields what is wrong, in words.

    def missing(self, filename: str, data: bytes, piece: int, acked: set[int]) -> str:
        """Say what was acknowledged of a file and is in none of its open uploads."""
        rows = self.rows(filename)
        if any(row.state in ("assembling", "complete") for row in rows):
            return ""
        wrong, gone = [], []
        for row in (row for row in rows if row.state == "receiving"):
            there = bytearray(len(data))
            for stretch in self.stretches(row, piece):
                end = stretch.begin + stretch.size
                if self.bytes_at(stretch) != data[stretch.begin : end]:
                    wrong.append(f"{row.id}: other bytes at {stretch.begin}")
                there[stretch.begin : end] = b"+" * stretch.size
            lost = [
                number
                for number in acked
                if 0 in there[number * piece : (number + 1) * piece]
            ]
            gone.append(f"{row.id}: pieces {lost}" if lost else "")
        # An opening whose answer was lost is another upload, with nothing in it.
        if acked and "" not in gone:
            wrong.append(f"gone: {gone} of {rows}")
        return "; ".join(wrong)

    def wrong_files(self, expected: dict[str, str]) -> Iterator[str]:
        """Compare the finished files with the SHA-256 of each file's name."""
        paths: Counter[Path] = Counter()
        for row in self.rows():
            if row.state != "complete":
                continue
            path = self.files / "media" / row.file
            paths[path] += 1
            if not path.exists():
                yield f"{row.id} {row.filename}: its file is gone"
            elif sha256(path) != expected[row.filename]:
                yield f"{row.id} {row.filename}: its file has other bytes"
        for path in _files(self.files / "media"):
            if paths[path] != 1:
                yield f"{path} belongs to {paths[path]} uploads"

    def left_overs(self) -> Iterator[str]:
        """Name what should be gone once all is quiet and the house was kept."""
        rows = {row.id: row for row in self.rows()}
        for row in rows.values():
            if row.state in ("assembling", "failed"):
                yield f"{row.id} {row.filename} is stuck: {row.state}"
            elif row.state in ENDED and (not row.settled or row.lease):
                yield f"{row.id} {row.filename} is not settled"
        for path in _files(self.files / "media-staging"):
            owner = rows.get(path.parent.name)
            if owner is None or owner.state in ENDED:
                yield f"{path} belongs to {owner.state if owner else 'nobody'}"
        chunks = f"SELECT c.id, u.state FROM {CHUNKS} c JOIN {UPLOADS} u"
        for chunk, state in self.ask(f"{chunks} ON u.id = c.upload_id"):
            if state in ENDED:
                yield f"chunk {chunk} of an upload that is {state}"
        for path in _files(self.folder / "tmp"):
            yield f"{path} was forgotten"

    def untold(self) -> Iterator[str]:
        """Name the ends that nobody has been told of."""
        told = self.told()
        for row in self.rows():
            if row.state in ENDED and not told[f"{row.state} {row.id}"]:
                yield f"{row.id} {row.filename}: nobody was told: {row.state}"

    def told(self) -> Counter[str]:
        path = self.folder / "told"
        return Counter(path.read_text().splitlines() if path.exists() else [])


def open_files(pid: int, *folders: Path) -> list[str]:
    """Return which uploads, below these folders, a process has open."""
    kept = tuple(f"{folder}/{name}" for folder in folders for name in ("media", "tmp"))
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(kept):
            found.append(target)
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
