"""What the demo project makes of its environment variables."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from project import environment


def test_a_postgres_url_has_all_parts():
    found = environment.database("postgres://ann:p%40ss@db.host:6432/up%2Floads")
    assert found["ENGINE"] == "django.db.backends.postgresql"
    assert (found["USER"], found["PASSWORD"]) == ("ann", "p@ss")
    assert (found["HOST"], found["PORT"], found["NAME"]) == (
        "db.host",
        "6432",
        "up/loads",
    )


def test_a_postgres_url_may_name_a_unix_socket():
    for url in (
        "postgresql://ann@/site?host=/run/postgresql",
        "postgresql://ann@%2Frun%2Fpostgresql/site",
    ):
        found = environment.database(url)
        assert (found["HOST"], found["NAME"]) == ("/run/postgresql", "site")


def test_what_else_a_postgres_url_says_goes_to_the_driver():
    found = environment.database("postgres://db/site?sslmode=require")
    assert found["OPTIONS"]["sslmode"] == "require"


@pytest.mark.parametrize(
    ("query", "threshold"),
    [("", 5), ("?prepare_threshold=2", 2), ("?prepare_threshold=none", None)],
)
def test_a_postgres_url_says_from_when_on_statements_are_prepared(query, threshold):
    found = environment.database(f"postgres://db/site{query}")
    assert found["OPTIONS"] == {"prepare_threshold": threshold}


def test_an_sqlite_url_is_a_path():
    found = environment.database("sqlite:////srv/my%20site/db.sqlite3")
    assert found["NAME"] == "/srv/my site/db.sqlite3"
    assert found["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_another_database_is_refused_in_words():
    with pytest.raises(ValueError, match="begins with one of postgres"):
        environment.database("mysql://db/site")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", True), ("Yes", True), ("on", True), ("0", False), ("off", False)],
)
def test_a_flag_is_on_or_off(monkeypatch, value, expected):
    monkeypatch.setenv("A_FLAG", value)
    assert environment.flag("A_FLAG", default=not expected) is expected


def test_an_empty_flag_is_the_default(monkeypatch):
    monkeypatch.setenv("A_FLAG", "")
    assert environment.flag("A_FLAG", default=True) is True


def test_a_flag_that_is_nonsense_is_refused(monkeypatch):
    monkeypatch.setenv("A_FLAG", "maybe")
    with pytest.raises(ValueError, match="A_FLAG='maybe'"):
        environment.flag("A_FLAG")


def test_words_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("WORDS", "a.example, b.example,,")
    assert environment.words("WORDS") == ["a.example", "b.example"]


def test_a_given_secret_key_is_not_written_down(tmp_path):
    key = environment.secret_key(tmp_path, {"SECRET_KEY": "given"})
    assert key == "given"
    assert list(tmp_path.iterdir()) == []


def test_a_made_secret_key_stays_the_same_and_is_for_its_user_only(tmp_path):
    first = environment.secret_key(tmp_path, {})
    assert len(first) >= 50
    assert environment.secret_key(tmp_path, {}) == first
    mode = (tmp_path / "secret_key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_processes_that_start_at_once_agree_on_a_secret_key(tmp_path, monkeypatch):
    numbers = iter(range(1000))
    # Threads stand for processes here, so each needs a number of its own.
    monkeypatch.setattr(os, "getpid", lambda: next(numbers))
    with ThreadPoolExecutor(16) as threads:
        keys = set(threads.map(_secret_key, [tmp_path] * 64))
    assert len(keys) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def _secret_key(folder: Path) -> str:
    return environment.secret_key(folder, {})
