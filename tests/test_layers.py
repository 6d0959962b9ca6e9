"""Imports point down: the layers of docs/architecture.md, read from the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "resumable_uploads"

# From the ground up. A module may import what stands below its own layer, and its
# neighbours in the same one, as long as that makes no circle.
LAYERS = [
    {"errors", "conf", "signals", "owners", "names", "schedule", "texts"}
    | {"changes", "libpq", "logs", "lookups", "sessions", "statements"}
    | {"transactions", "turns", "values"},
    {"body", "buffers", "sources", "models", "stores"},
    {"policies", "hooks", "engine", "runner", "buckets", "credentials"}
    | {"capabilities", "outbox", "payloads"},
    {"assembly", "retention", "webhooks"},
    {"inline", "tasks", "admin", "checks", "management", "protocols"}
    | {"forms", "rendering", "urls", "pages", "templatetags"}
    | {"health", "metrics", "workers"},
]
# Django's entry: it ties everything together, and nobody imports it.
ENTRY = {"apps", "__init__", "migrations"}

# Who may know what.
HOMES = {
    "celery": {"tasks"},
    "rest_framework": {"protocols"},
    "drf_spectacular": {"protocols"},
    "django.http": {"admin", "health", "metrics", "pages", "protocols"},
    "django.views": {"admin", "health", "metrics", "pages", "protocols", "urls"},
    "django.urls": {"admin", "pages", "protocols", "rendering", "urls"}
    | {"health", "metrics"},
    "gunicorn": {"workers"},
    "prometheus_client": {"metrics"},
    "psycopg": {"libpq"},
}

Import = tuple[str, int]


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if part(path) not in ENTRY]


def part(path: Path) -> str:
    """Return the module or folder of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, tree: ast.AST) -> Iterator[Import]:
    """Yield the absolute name of everything a file imports, with the line."""
    package = ("resumable_uploads", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import errors` imports a module, `from .errors import Gone` too.
            yield from ((f"{origin}.{a.name}", node.lineno) for a in node.names)


def own_imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the parts of the package that a file imports, with the line."""
    for name, line in imports(path, ast.parse(path.read_text())):
        steps = name.split(".")
        if steps[0] == "resumable_uploads" and len(steps) > 1:
            yield steps[1], line


def layer(name: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if name in names)


def arrows() -> dict[str, set[str]]:
    """Return which parts each part imports."""
    found: dict[str, set[str]] = {name: set() for names in LAYERS for name in names}
    for path in modules():
        found[part(path)] |= {name for name, _ in own_imports(path)} - {part(path)}
    return found


def test_every_module_has_a_layer():
    known = set().union(*LAYERS)
    assert {part(path) for path in modules()} - known == set()


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_imports_point_down(path):
    upwards = [
        f"{path.name}:{line} imports {name}"
        for name, line in own_imports(path)
        if name not in ENTRY and layer(name) > layer(part(path))
    ]
    assert upwards == []


def test_imports_make_no_circle():
    rest = arrows()
    while ends := {name for name, below in rest.items() if not below & set(rest)}:
        rest = {name: below for name, below in rest.items() if name not in ends}
    assert rest == {}, f"a circle among {sorted(rest)}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_frameworks_stay_at_home(path):
    strays = [
        f"{path.name}:{line} imports {name}"
        for name, line in imports(path, ast.parse(path.read_text()))
        for framework, homes in HOMES.items()
        if f"{name}.".startswith(f"{framework}.") and part(path) not in homes
    ]
    assert strays == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_nothing_is_imported_inside_a_function(path):
    hidden = [
        f"{path.name}:{line} imports {name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name, line in imports(path, node)
    ]
    assert hidden == []


def test_the_app_needs_nothing_of_the_demo_project():
    names = {
        name.split(".")[0]
        for path in PACKAGE.rglob("*.py")
        for name, _ in imports(path, ast.parse(path.read_text()))
    }
    assert names & {"project", "tests"} == set()
    assert {"django", "awscrt"} <= names


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("engine.py", "from . import assembly", "assembly"),
        ("engine.py", "from .assembly import assemble", "assembly"),
        ("stores/base.py", "from .. import models", "models"),
        ("stores/base.py", "from ..models import Chunk", "models"),
        ("stores/base.py", "from .filesystem import FileSystemStore", "stores"),
        ("body.py", "import resumable_uploads.engine", "engine"),
    ],
)
def test_every_way_of_importing_is_seen(file, source, found):
    names = [name for name, _ in imports(PACKAGE / file, ast.parse(source))]
    assert names[0].split(".")[:2] == ["resumable_uploads", found]
