"""The files around the app say what is so."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from django.core.management import call_command

from resumable_uploads import __version__, conf
from resumable_uploads.models import UploadSession

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]


def tracked_files() -> list[Path]:
    """Return the files of the repository, those included that are not yet added."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.django_db
def test_the_migrations_are_up_to_date():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db
def test_a_changed_model_would_be_noticed(monkeypatch):
    field = UploadSession._meta.get_field("filename")
    monkeypatch.setattr(field, "max_length", 7)
    with pytest.raises(SystemExit):
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("name", conf.DEFAULTS)
def test_every_setting_is_documented(name):
    assert f"`{name}`" in (ROOT / "docs" / "settings.md").read_text()


def test_no_setting_is_documented_that_does_not_exist():
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^(?:\| *|#+ *)`([A-Z][A-Z_]+)`", text, re.MULTILINE)
    assert set(rows) - set(conf.DEFAULTS) == set()


def environment_variables() -> set[str]:
    """Return the names that the demo project looks up in its environment."""
    reads = r'(?:environ\.get\(|environ\[|flag\(|words\()"([A-Z_]+)"'
    sources = [path.read_text() for path in (ROOT / "project").glob("*.py")]
    return {name for source in sources for name in re.findall(reads, source)}


@pytest.mark.parametrize("name", sorted(environment_variables()))
def test_every_environment_variable_is_documented(name):
    assert f"`{name}`" in (ROOT / "docs" / "environment.md").read_text()


def test_the_commands_of_the_readme_are_in_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    commands = set(re.findall(r"(?:`|^    )make ([a-z]+)", README, re.M))
    assert {"run", "test"} <= commands
    assert commands - targets == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_the_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{__version__}]" in text or "## [Unreleased]" in text


@pytest.mark.parametrize("word", ["/wo" + "rk/", "../sha" + "red", "/tm" + "p/brief"])
def test_nothing_names_a_place_outside_of_the_repository(word):
    guilty = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if word.encode() in path.read_bytes()
    ]
    assert guilty == []


def test_what_is_pinned_is_what_is_installed():
    lines = [
        line
        for name in ("requirements-run.txt", "requirements.txt")
        for line in (ROOT / name).read_text().splitlines()
        if "==" in line
    ]
    pins = dict(line.split("==") for line in lines)
    assert {name: version(name) for name in pins} == pins
