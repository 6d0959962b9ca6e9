"""The servers that are compared, each started anew with a folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.services import Nginx, PostgreSQL

from . import clients

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
PATIENCE = 60


class Server:
    """A server, how it is started and how it is fed."""

    name = ""
    # What it speaks, by the names of ``clients``.
    speaks: tuple[type[clients.Client], ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    @property
    def missing(self) -> str:
        """Why it cannot be started here, or nothing."""
        return ""

    def prepare(self) -> None:
        """Do what is not to be measured."""

    def command(self) -> list[str]:
        raise NotImplementedError(self.name)

    def environment(self) -> dict[str, str]:
        return {}

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                env=os.environ | self.environment(),
                cwd=HERE.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                log_text = (self.folder / "log").read_text()[-2000:]
                raise RuntimeError(f"{self.name} did not start:\n{log_text}")
            time.sleep(0.05)

    @property
    def pids(self) -> list[int]:
        """The processes that, with all that descend from them, do the work."""
        return [self.process.pid]

    @property
    def database_pids(self) -> list[int]:
        """The same, of a database that is a server of its own."""
        return []

    def clean(self) -> None:
        """Drop files that clients could not have dropped."""

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class App(Server):
    """The app as it is deployed: the demo project behind gunicorn's threads."""

    name = "resumable_uploads"
    speaks = (
        clients.Put,
        clients.Patch,
        clients.AppTus,
        clients.Form,
        clients.Part,
    )
    database = ""
    # How many sessions of others have been put into the table.
    crowd = 0

    def environment(self) -> dict[str, str]:
        more = {"DATABASE_URL": self.database} if self.database else {}
        return {
            "DATA_DIR": str(self.folder),
            "PORT": str(self.port),
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PYTHONDONTWRITEBYTECODE": "1",
        } | more

    def prepare(self) -> None:
        self.run("-m", "project.prepare")

    @property
    def database_pids(self) -> list[int]:
        if not self.database:
            return []
        file = PostgreSQL.shared().folder / "data" / "postmaster.pid"
        return [int(file.read_text().split()[0])]

    def gather(self, count: int) -> None:
        """See that so many sessions of others are in the table."""
        if count > self.crowd:
            self.run("-m", "benchmarks.crowd", str(count - self.crowd))
            self.crowd = count

    def run(self, *arguments: str) -> str:
        """Run Python with the site's settings; return what it printed."""
        done = subprocess.run(
            [PYTHON, *arguments],
            env=os.environ | self.environment(),
            cwd=HERE.parent,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def command(self) -> list[str]:
        return [PYTHON, "-m", "gunicorn", "-c", "project/gunicorn.conf.py"]


class BehindNginx(App):
    """The app where nginx puts the bodies of chunks into files, as documented."""

    name = "resumable_uploads, bodies by nginx"
    speaks = (clients.Put,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.inner = free_port()
        self.nginx: Nginx | None = None

    def environment(self) -> dict[str, str]:
        own = {"PORT": str(self.inner), "DJANGO_SETTINGS_MODULE": "nginx_settings"}
        return super().environment() | own | {"PYTHONPATH": str(self.folder)}

    def prepare(self) -> None:
        uploads = {
            "BODY_FILES_ROOT": str(self.folder / "bodies"),
            "BODY_FILES_SECRET": _documented(r"Body-Secret (\S+);"),
        }
        lines = ["from project.settings import *", f"RESUMABLE_UPLOADS |= {uploads!r}"]
        (self.folder / "nginx_settings.py").write_text("\n".join(lines))
        super().prepare()

    def start(self) -> None:
        self.port = self.inner
        super().start()
        lines = _documented(r"^# /\S+upload-bodies\.conf\n(.*?)^```")
        lines += "proxy_http_version 1.1;\nproxy_set_header Host $http_host;"
        lines += "location / { proxy_pass http://127.0.0.1:8000; }"
        lines = lines.replace("127.0.0.1:8000", f"127.0.0.1:{self.inner}")
        lines = lines.replace("/srv/uploads/var", str(self.folder))
        self.nginx = Nginx(self.folder / "nginx", lines).start()
        self.port = self.nginx.port

    @property
    def pids(self) -> list[int]:
        assert self.nginx
        return [self.process.pid, self.nginx.pid]

    def kill(self) -> None:
        super().kill()
        if self.nginx:
            self.nginx.stop()

    def stop(self) -> None:
        if self.nginx:
            self.nginx.stop()
        super().stop()


def _documented(pattern: str) -> str:
    """Return what docs/deployment.md says."""
    text = (HERE.parent / "docs" / "deployment.md").read_text()
    found = re.search(pattern, text, re.M | re.S)
    assert found
    return found.group(1)


class Peer(Server):
    """A server whose folder has nothing but what was sent to it."""

    def clean(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name != "log":
                path.unlink(missing_ok=True)


class Limit(Peer):
    """What the machine allows, without the bytes ever being in the process."""

    name = "limit: splice"
    speaks = (clients.Sink,)
    move = "splice"

    def command(self) -> list[str]:
        arguments = [str(self.port), str(self.folder), self.move]
        return [PYTHON, "-m", "benchmarks.sinks", *arguments]


class CopyLimit(Limit):
    """What the machine allows, by reading and writing."""

    name = "limit: read and write"
    move = "copy"


class BareWsgi(Peer):
    """The least that an application of WSGI does."""

    name = "bare WSGI"
    speaks = (clients.Sink,)

    def environment(self) -> dict[str, str]:
        return {"SINK": str(self.folder)}

    def command(self) -> list[str]:
        options = ["-k", "gthread", "-w", "2", "--threads", "32", "--keep-alive", "75"]
        bind = ["-b", f"127.0.0.1:{self.port}", "--no-control-socket"]
        application = "benchmarks.sinks:application"
        return [PYTHON, "-m", "gunicorn", *options, *bind, application]


class NodeTus(Peer):
    """The reference server of tus in JavaScript, @tus/server."""

    name = "@tus/server"
    speaks = (clients.Tus,)

    @property
    def missing(self) -> str:
        if not shutil.which("node"):
            return "node is not installed"
        if not (HERE / "node_modules/@tus/server").is_dir():
            return "make bench-peers installs it"
        return ""

    def command(self) -> list[str]:
        script = str(HERE / "tus_server.mjs")
        return ["node", script, str(self.port), str(self.folder)]


class Tusd(Peer):
    """The reference server of tus in Go, if TUSD= names its program."""

    name = "tusd"
    speaks = (clients.Tus,)

    @property
    def missing(self) -> str:
        program = os.environ.get("TUSD", "")
        return "" if program and shutil.which(program) else "TUSD= names no program"

    def command(self) -> list[str]:
        place = [f"-upload-dir={self.folder}", "-base-path=/files/"]
        listen = ["-host=127.0.0.1", f"-port={self.port}"]
        return [os.environ["TUSD"], *place, *listen, "-disable-download"]


class TuspyServer(Peer):
    """A server of tus in Python: tuspyserver, FastAPI behind uvicorn."""

    name = "tuspyserver"
    speaks = (clients.Tus,)

    @property
    def missing(self) -> str:
        python = HERE / ".venv/bin/python"
        return "" if python.exists() else "make bench-peers installs it"

    def environment(self) -> dict[str, str]:
        return {"SINK": str(self.folder)}

    def command(self) -> list[str]:
        python = str(HERE / ".venv/bin/python")
        place = ["--host", "127.0.0.1", "--port", str(self.port)]
        application = "benchmarks.tuspy_server:application"
        return [python, "-m", "uvicorn", application, *place, "--log-level", "warning"]


SERVERS: list[type[Server]] = [
    App,
    BehindNginx,
    Limit,
    CopyLimit,
    BareWsgi,
    NodeTus,
    TuspyServer,
    Tusd,
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
