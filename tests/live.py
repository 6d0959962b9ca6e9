"""The demo site as its users run it: real processes, a real database, real files."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import processes
from .services import PostgreSQL

# What may come in from the environment of the tests: nothing that changes the site.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
SECRET_KEY = "the same over restarts"


class LiveSite:
    """One demo site: a folder, a database, a port and gunicorn.

    Port, folder and database stay the same over ``stop``, ``kill`` and ``start``.

    ``uploads`` are changes to RESUMABLE_UPLOADS and ``settings`` to other settings, as
    Python values; ``env`` are environment variables. ``database_url`` is where another
    database than an SQLite file in the folder is. The database has to be migrated.
    ``within`` is a command that prepares the ground, and then runs what follows it.
    With ``preload`` the app is loaded once for all workers, in half of the time; then
    what patches a module for the workers patches it for gunicorn itself as well.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        database_url: str = "",
        uploads: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
        preload: bool = False,
    ) -> None:
        self.within = within
        self.preload = preload
        self.data_dir = data_dir
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = clean_environment()
        self.env |= {
            "DATA_DIR": str(data_dir),
            "PORT": str(self.port),
            "SECRET_KEY": SECRET_KEY,
            "PYTHONPATH": os.pathsep.join([str(processes.ROOT), str(data_dir)]),
            "GRACEFUL_TIMEOUT": "3",
        }
        if database_url:
            self.env["DATABASE_URL"] = database_url
        self.env |= env or {}
        if uploads or settings:
            self._write_settings(uploads or {}, settings or {})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> LiveSite:
        """Serve, and return when the site answers."""
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", "project/gunicorn.conf.py"]
        command = [*self.within, *gunicorn, *(["--preload"] if self.preload else [])]
        self.process = processes.start(command, log=self._log_path, env=self.env)
        processes.wait_for(self._is_up_or_gone, 60, "the site answers")
        if self.process.poll() is not None:
            raise RuntimeError(self.log())
        return self

    def stop(self) -> int:
        """Stop as Ctrl-C and service managers do; return gunicorn's exit status."""
        process, self.process = self.process, None
        return processes.stop(process) if process else 0

    def kill(self) -> None:
        """Kill -9 the whole process group: nobody gets to tidy up."""
        if self.process:
            processes.kill(self.process)
        self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def manage(self, *arguments: object, check: bool = True) -> str:
        """Run a management command in the site; return what it prints.

        Raise AssertionError when it fails, unless ``check`` is False.
        """
        done = subprocess.run(
            [sys.executable, "manage.py", *map(str, arguments)],
            cwd=processes.ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            raise AssertionError(f"manage.py {arguments}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def shell(self, code: str) -> Any:
        """Run Python in the site; return what it left in ``answer``, through JSON."""
        tail = "import json\nprint('\\n' + json.dumps(answer, default=str))"
        code = f"answer = None\n{code}\n{tail}"
        printed = self.manage("shell", "--no-imports", "--command", code)
        return json.loads(printed.strip().splitlines()[-1])

    def make_user(self, name: str, password: str = "", admin: bool = False) -> None:
        """Make a user, whose password is the name where none is given."""
        make = "create_superuser" if admin else "create_user"
        self.shell(
            "from django.contrib.auth.models import User\n"
            f"User.objects.{make}({name!r}, password={(password or name)!r})"
        )

    def sql(self, query: str, *values: str) -> list[Any]:
        """Ask the site's SQLite database, behind the server's back."""
        database = sqlite3.connect(self.data_dir / "db.sqlite3", timeout=20)
        try:
            with database:
                return database.execute(query, values).fetchall()
        finally:
            database.close()

    def log(self) -> str:
        """Return what the server has said so far."""
        return self._log_path.read_text(errors="replace")

    @property
    def media(self) -> Path:
        return self.data_dir / "media"

    def files(self) -> list[Path]:
        """Return the finished files on disk."""
        return sorted(path for path in self.media.rglob("*") if path.is_file())

    def memory(self) -> int:
        """Return the highest resident size of any worker so far, in bytes."""
        assert self.process
        status = [
            Path(f"/proc/{child}/status").read_text()
            for child in _children(self.process.pid)
        ]
        lines = [line for text in status for line in text.splitlines()]
        peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return 1024 * max(map(int, peaks))

    @property
    def _log_path(self) -> Path:
        return self.data_dir / "server.log"

    def _is_up_or_gone(self) -> bool:
        assert self.process
        return self.process.poll() is not None or _answers(
            f"{self.url}/uploads/limits/"
        )

    def _write_settings(
        self, uploads: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        changes = [f"{name} = {value!r}" for name, value in settings.items()]
        changes.append(f"RESUMABLE_UPLOADS |= {dict(uploads)!r}")
        head = ["import datetime", "from project.settings import *"]
        path = self.data_dir / "site_settings.py"
        path.write_text("\n".join([*head, *changes, ""]))
        self.env["DJANGO_SETTINGS_MODULE"] = path.stem


class CeleryWorker:
    """A Celery worker, or beat, of a site; the site's ``env`` names its broker."""

    def __init__(self, site: LiveSite, *, concurrency: int = 1, beat: bool = False):
        self.site = site
        name = "beat" if beat else "worker"
        self.log_path = site.data_dir / f"{name}-{processes.free_port()}.log"
        self.command = [sys.executable, "-m", "celery", "-A", "project", name]
        self.command += ["--loglevel", "INFO"]
        if beat:
            self.command += ["--schedule", str(site.data_dir / "beat-schedule")]
        else:
            self.command += ["--concurrency", str(concurrency)]
        self._says_when_ready = "beat: Starting..." if beat else " ready."
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> CeleryWorker:
        """Start, and return when it takes tasks."""
        seen = len(self.log())
        self.process = processes.start(
            self.command, log=self.log_path, env=self.site.env
        )
        processes.wait_for(lambda: self._is_ready_or_gone(seen), 60, "Celery is up")
        if self.process.poll() is not None:
            raise RuntimeError(self.log())
        return self

    def stop(self) -> int:
        """Stop when the task in hand is done; return the exit status."""
        process, self.process = self.process, None
        return processes.stop(process) if process else 0

    def kill(self) -> None:
        """Kill -9 the worker with all its processes."""
        if self.process:
            processes.kill(self.process)
        self.process = None

    def log(self) -> str:
        """Return what it has said so far."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(errors="replace")

    def _is_ready_or_gone(self, seen: int) -> bool:
        assert self.process
        is_gone = self.process.poll() is not None
        return is_gone or self._says_when_ready in self.log()[seen:]


class SiteTemplates:
    """Migrated databases; each site gets a copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres_names: list[str] = []

    def sqlite(self, data_dir: Path) -> None:
        """Put a migrated database into a site's folder."""
        template = processes.run_dir() / "template.sqlite3"
        with (processes.run_dir() / "template.lock").open("w") as lock:
            # One process makes it, and the others wait.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                folder = self.folder / "sqlite"
                folder.mkdir(parents=True)
                LiveSite(folder).manage("migrate", "--verbosity", 0)
                shutil.copy(folder / "db.sqlite3", template)
        data_dir.mkdir(parents=True, exist_ok=True)
        shutil.copy(template, data_dir / "db.sqlite3")

    def postgres(self, server: PostgreSQL) -> str:
        """Make a migrated database; return its URL."""
        template = f"template_{os.getpid()}"
        if not self.postgres_names:
            url = server.create(template)
            folder = self.folder / "postgres"
            folder.mkdir(parents=True)
            LiveSite(folder, database_url=url).manage("migrate", "--verbosity", 0)
        self.postgres_names.append(f"live_{os.getpid()}_{len(self.postgres_names)}")
        return server.create(self.postgres_names[-1], template)


def clean_environment() -> dict[str, str]:
    """Return the environment of the tests without what would change a site."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _children(pid: int) -> list[str]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return path.read_text().split()
