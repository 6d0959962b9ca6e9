"""What the demo project is told by its environment. It knows nothing of Django."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

ENGINES = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}

# Every transaction of the app begins with a write, so it asks for the write lock at
# once and waits for it, where SQLite's own way is to fail when a reader wants to write.
# WAL lets readers go on meanwhile. NORMAL may lose the last transactions when the power
# fails, never when a process is killed, and never leaves a broken database. Each thread
# has a connection, and what that has cached is void as soon as another one has written:
# so a quarter of what SQLite would take for it, in KiB.
SQLITE_OPTIONS: dict[str, Any] = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
    "PRAGMA cache_size=-512;",
}

# PostgreSQL prepares what a connection has asked for so many times.
PREPARE_THRESHOLD = 5


def flag(name: str, default: bool = False) -> bool:
    """Return a switch: 1, true, yes and on are on. Raise ValueError for nonsense."""
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise ValueError(f"{name}={value!r}: say 1 or 0.")
    return value in {"1", "true", "yes", "on"}


def words(name: str, default: str = "") -> list[str]:
    """Return a list that is separated by commas."""
    listed = os.environ.get(name, default).split(",")
    return [word.strip() for word in listed if word.strip()]


def database(url: str) -> dict[str, Any]:
    """Return Django's settings for a database URL.

    ``postgres://user:password@host:5432/name?sslmode=require``,
    ``postgres://user@/name?host=/run/postgresql`` for a Unix socket,
    ``?prepare_threshold=none`` where a pooler of connections stands between,
    ``sqlite:////var/lib/site/db.sqlite3``. Raise ValueError for other kinds.
    """
    parts = urlsplit(url)
    if parts.scheme not in ENGINES:
        raise ValueError(f"DATABASE_URL begins with one of {', '.join(ENGINES)}.")
    if parts.scheme == "sqlite":
        return sqlite(Path(unquote(parts.path[1:])))
    return _postgres(parts)


def sqlite(path: Path) -> dict[str, Any]:
    """Return Django's settings for an SQLite file that several processes share."""
    return {
        "ENGINE": ENGINES["sqlite"],
        "NAME": str(path),
        "CONN_MAX_AGE": None,
        "OPTIONS": dict(SQLITE_OPTIONS),
    }


def _postgres(parts: SplitResult) -> dict[str, Any]:
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    host = options.pop("host", "") or unquote(parts.hostname or "")
    threshold = options.get("prepare_threshold", PREPARE_THRESHOLD)
    options["prepare_threshold"] = None if threshold == "none" else int(threshold)
    return {
        "ENGINE": ENGINES[parts.scheme],
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


def secret_key(data_dir: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Return SECRET_KEY, or the key that this folder keeps, made when there is none."""
    if given := environ.get("SECRET_KEY"):
        return given
    path = data_dir / "secret_key"
    if not path.exists():
        _keep_secret(path, secrets.token_urlsafe(50))
    return path.read_text().strip()


def _keep_secret(path: Path, secret: str) -> None:
    """Write a secret for this user's eyes; the first of several processes decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(secret)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
