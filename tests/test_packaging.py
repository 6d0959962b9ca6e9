"""The wheel holds what the app needs at run time, and nothing of the demo."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "resumable_uploads"
SOURCES = ["CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy as an index or a user would build it."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(APP, source / APP.name, ignore=unwanted)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    done = subprocess.run([*build, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def test_every_file_of_the_app_is_in_the_wheel(wheel):
    files = {
        path.relative_to(ROOT).as_posix()
        for path in APP.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - set(wheel.namelist()) == set()


@pytest.mark.parametrize(
    "needed",
    [
        "resumable_uploads/py.typed",
        "resumable_uploads/migrations/0001_initial.py",
        "resumable_uploads/templates/resumable_uploads/*.html",
        "resumable_uploads/static/resumable_uploads/*.js",
        "resumable_uploads/static/resumable_uploads/*.css",
        "resumable_uploads/locale/*/LC_MESSAGES/django.mo",
        "resumable_uploads/management/commands/purge_uploads.py",
        "*.dist-info/licenses/LICENSE",
    ],
)
def test_what_is_no_python_module_is_in_the_wheel_too(wheel, needed):
    assert any(Path(name).match(needed) for name in wheel.namelist())


def test_nothing_else_is_in_the_wheel(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {APP.name}


def test_the_wheel_asks_for_little_by_itself(metadata):
    needs = [need for need in metadata.get_all("Requires-Dist") if "extra" not in need]
    names = {need.split(">")[0].strip() for need in needs}
    assert names == {"django", "djangorestframework", "awscrt"}


def test_the_rest_comes_with_extras(metadata):
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == {"all", "buckets", "celery", "metrics", "openapi", "postgres"}


def test_the_wheel_knows_its_version(metadata):
    code = "import resumable_uploads; print(resumable_uploads.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert metadata["Version"] == done.stdout.strip()
    assert metadata["Requires-Python"] == ">=3.11"
