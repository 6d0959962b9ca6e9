"""Where a contract is tested: the site in this process, or a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from resumable_uploads import signals
from resumable_uploads.models import Chunk, UploadSession
from tests.client import Client
from tests.live import LiveSite, SiteTemplates
from tests.visitor import Visitor

TABLE = "resumable_uploads_uploadsession"


@dataclass
class Upload:
    """The facts of an upload that outlive it."""

    id: str
    state: str
    filename: str
    length: int | None
    received: int


class Ground:
    """A site that can be looked at from behind, as far as the test at hand goes.

    What was there when the test began is not seen.
    """

    def __init__(self, folder: Path) -> None:
        # Finished files lie in ``media`` of it, unfinished ones in ``media-staging``.
        self.folder = folder
        self._before = {row.id for row in self.all_uploads()}
        self._elsewhere = self._everything_else()

    # Subclass implementation:

    def visitor(self) -> Any:
        """Return somebody whom the site has not seen before."""
        raise NotImplementedError

    def twin(self, me: Any) -> Any:
        """Return the same visitor with another connection."""
        raise NotImplementedError

    def all_uploads(self) -> list[Upload]:
        raise NotImplementedError

    def chunks(self, upload_id: str) -> list[Any]:
        """Return the rows of an upload's chunks."""
        raise NotImplementedError

    def all_completed(self) -> list[str]:
        """Return the ids of uploads that listeners were told are complete."""
        raise NotImplementedError

    def expire(self, upload_id: str) -> None:
        """Let an upload's time be up."""
        raise NotImplementedError

    # What tests ask:

    def uploads(self) -> list[Upload]:
        return [row for row in self.all_uploads() if row.id not in self._before]

    def upload(self, upload_id: str = "") -> Upload:
        """Return an upload, or the only one there is."""
        rows = [row for row in self.uploads() if upload_id in ("", row.id)]
        assert len(rows) == 1, rows
        return rows[0]

    def completed(self) -> list[str]:
        return [found for found in self.all_completed() if found not in self._before]

    def files(self) -> dict[str, str]:
        """Return the finished files' SHA-256 by path."""
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self._files("media")
            if self._is_new(path)
        }

    def staged(self, upload_id: str = "") -> int:
        """Return how many bytes of unfinished uploads there are on disk."""
        return sum(
            path.stat().st_size
            for path in self._files("media-staging")
            if self._is_new(path) and upload_id in path.parts + ("",)
        )

    def kept(self, upload_id: str) -> Any:
        """Return what is there of an upload: its facts, its chunks and bytes."""
        row = next(row for row in self.all_uploads() if row.id == upload_id)
        return row, (self.chunks(upload_id), self.staged(upload_id))

    def check_nothing_escaped(self) -> None:
        """See that no file has been made where none belongs."""
        assert self._everything_else() == self._elsewhere
        assert not list(Path("/tmp").glob("escaped*"))

    def _is_new(self, path: Path) -> bool:
        return not self._before & set(path.parts)

    def _files(self, name: str) -> list[Path]:
        return [path for path in (self.folder / name).rglob("*") if path.is_file()]

    def _everything_else(self) -> set[str]:
        inside = ("media", "media-staging")
        return {path.name for path in self.folder.iterdir() if path.name not in inside}


class ProcessGround(Ground):
    """The site in this process."""

    def __init__(self, folder: Path, told: list[str]) -> None:
        super().__init__(folder)
        self.told = told

    def visitor(self) -> Visitor:
        return Visitor()

    def twin(self, me: Visitor) -> Visitor:
        return me

    def all_uploads(self) -> list[Upload]:
        rows = UploadSession.objects.order_by("created_at")
        return [
            Upload(str(row.pk), row.state, row.filename, row.length, row.received)
            for row in rows
        ]

    def chunks(self, upload_id: str) -> list[Any]:
        return list(Chunk.objects.filter(upload=upload_id).order_by("pk").values())

    def all_completed(self) -> list[str]:
        return list(self.told)

    def expire(self, upload_id: str) -> None:
        past = timezone.now() - timedelta(seconds=1)
        UploadSession.objects.filter(pk=upload_id).update(expires_at=past)


class LiveGround(Ground):
    """A demo site on SQLite, behind gunicorn."""

    def __init__(self, site: LiveSite) -> None:
        self.site = site
        self.clients: list[Client] = []
        super().__init__(site.data_dir)

    def visitor(self) -> Client:
        self.clients.append(Client(self.site.url))
        return self.clients[-1]

    def twin(self, me: Client) -> Client:
        twin = self.visitor()
        twin.cookies = dict(me.cookies)
        return twin

    def all_uploads(self) -> list[Upload]:
        rows = self.site.sql(
            f"SELECT id, state, filename, length, received FROM {TABLE}"
            " ORDER BY created_at"
        )
        return [Upload(as_uuid(row[0]), *row[1:]) for row in rows]

    def chunks(self, upload_id: str) -> list[Any]:
        query = "SELECT * FROM resumable_uploads_chunk WHERE upload_id = ?"
        return self.site.sql(query, upload_id.replace("-", ""))

    def all_completed(self) -> list[str]:
        log = self.site.data_dir / WITNESS / "told"
        return log.read_text().split() if log.exists() else []

    def expire(self, upload_id: str) -> None:
        past = datetime.now(UTC) - timedelta(seconds=1)
        self.site.sql(
            f"UPDATE {TABLE} SET expires_at = ? WHERE id = ?",
            past.strftime("%Y-%m-%d %H:%M:%S.%f"),
            upload_id.replace("-", ""),
        )

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def _everything_else(self) -> set[str]:
        passing = ("db.sqlite3", "static")
        return {
            name for name in super()._everything_else() if not name.startswith(passing)
        }


def as_uuid(digits: str) -> str:
    """Return an id as SQLite has it in the form that answers have."""
    return "-".join(
        (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    )


# An app of the live site that writes down what it was told.
WITNESS = "witness"
WITNESS_APPS = """
from pathlib import Path

from django.apps import AppConfig


class WitnessConfig(AppConfig):
    name = "witness"

    def ready(self):
        from resumable_uploads.signals import upload_completed

        upload_completed.connect(note)


def note(sender, upload, **kwargs):
    with (Path(__file__).parent / "told").open("a") as file:
        file.write(f"{upload.pk}\\n")
"""


def watched_site(folder: Path, **options: Any) -> LiveSite:
    """Return a site, not yet started, that writes down what its listeners are told."""
    (folder / WITNESS).mkdir()
    (folder / WITNESS / "__init__.py").touch()
    (folder / WITNESS / "apps.py").write_text(WITNESS_APPS)
    apps = [*settings.INSTALLED_APPS, WITNESS]
    changes = {"INSTALLED_APPS": apps}
    return LiveSite(folder, settings=changes, preload=True, **options)


@pytest.mark.django_db
class InProcess:
    """Lets a contract be tested on the site in this process."""

    is_live = False

    @pytest.fixture
    def ground(self, tmp_path: Path, db: None) -> Iterator[Ground]:
        told: list[str] = []

        def note(sender: Any, upload: UploadSession, **kwargs: Any) -> None:
            told.append(str(upload.pk))

        signals.upload_completed.connect(note)
        yield ProcessGround(tmp_path, told)
        signals.upload_completed.disconnect(note)


class Live:
    """Lets a contract be tested on a server of its own, over sockets."""

    is_live = True

    @pytest.fixture(scope="class")
    @classmethod
    def site(
        cls, site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[LiveSite]:
        folder = tmp_path_factory.mktemp("site")
        site_templates.sqlite(folder)
        site = watched_site(folder).start()
        yield site
        site.kill()

    @pytest.fixture
    def ground(self, site: LiveSite) -> Iterator[Ground]:
        ground = LiveGround(site)
        yield ground
        ground.close()
