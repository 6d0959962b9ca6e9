"""What all tests share: a folder for files, services, live sites, a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import TransactionTestCase
from playwright.sync_api import Browser, Page, sync_playwright

from resumable_uploads import libpq

from . import processes
from .client import Client
from .live import CeleryWorker, LiveSite, SiteTemplates
from .services import Nginx, PostgreSQL, Valkey

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
CHROMIUM_SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what asks the other database, or would only be run a second time."""
    database = os.environ.get("DATABASE", "sqlite")
    kept = [item for item in items if _is_for(database, item)]
    if database == "postgres" and not config.option.keyword:
        kept = [item for item in kept if _uses_the_database(item)]
    left_out = [item for item in items if item not in set(kept)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """In CI, nothing may be skipped: what a test needs has to be installed."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"Skipped in CI: {report.longrepr}"
    return report


def _is_for(database: str, item: pytest.Item) -> bool:
    marker = item.get_closest_marker("only_on")
    return marker is None or database in marker.args


def _uses_the_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("once"):
        return False
    test_class = getattr(item, "cls", None)
    if test_class and issubclass(test_class, TransactionTestCase):
        return True
    fixtures = {"db", "transactional_db", "live_server"}
    return bool(
        item.get_closest_marker("django_db")
        or fixtures & set(getattr(item, "fixturenames", ()))
    )


@pytest.fixture(autouse=True)
def own_media(settings: Any, tmp_path: Path) -> Path:
    """Give each test a folder of its own for files."""
    settings.MEDIA_ROOT = tmp_path / "media"
    return settings.MEDIA_ROOT


@pytest.fixture(autouse=True)
def as_in_threads_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have PostgreSQL asked as the threads ask that requests run in, not the first."""
    if os.environ.get("DATABASE") == "postgres":
        monkeypatch.setattr(libpq, "is_interruptible", lambda: False)


# --- Services -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> PostgreSQL:
    """The PostgreSQL of this test run."""
    return PostgreSQL.shared()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Redis server of this process; nobody else puts anything into it."""
    server = Valkey(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Redis server that the test may stop and start."""
    server = Valkey(tmp_path / "valkey").start()
    yield server
    server.stop()


@pytest.fixture
def make_nginx(tmp_path: Path) -> Iterator[Callable[[str], Nginx]]:
    """Start nginx with these lines in its server block."""
    servers = []

    def make(lines: str) -> Nginx:
        server = Nginx(tmp_path / f"nginx-{len(servers)}", lines)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.stop()


# --- Live sites ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def site_templates(tmp_path_factory: pytest.TempPathFactory) -> SiteTemplates:
    """Migrated databases for sites, made when the first site needs one."""
    return SiteTemplates(tmp_path_factory.mktemp("templates"))


@pytest.fixture
def make_live_site(
    site_templates: SiteTemplates, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., LiveSite]]:
    """Make and start a site: ``make_live_site(uploads={"SEGMENT_SIZE": 65536})``.

    With ``database="postgres"`` it gets a database in the PostgreSQL of the run. What
    else is given goes to LiveSite. Its workers are forked from one process that has
    loaded the app, unless ``preload`` is False.
    """
    sites: list[LiveSite] = []

    def make(database: str = "sqlite", start: bool = True, **options: Any) -> LiveSite:
        options.setdefault("preload", True)
        data_dir = tmp_path / f"site-{len(sites)}"
        data_dir.mkdir()
        if database == "postgres":
            server = request.getfixturevalue("postgres")
            options["database_url"] = site_templates.postgres(server)
        else:
            site_templates.sqlite(data_dir)
        sites.append(LiveSite(data_dir, **options))
        return sites[-1].start() if start else sites[-1]

    yield make
    for site in sites:
        site.kill()


@pytest.fixture
def live_site(make_live_site: Callable[..., LiveSite]) -> LiveSite:
    """The demo site on SQLite, running."""
    return make_live_site()


@pytest.fixture
def live_postgres_site(make_live_site: Callable[..., LiveSite]) -> LiveSite:
    """The demo site on PostgreSQL, running."""
    return make_live_site(database="postgres")


@pytest.fixture
def make_worker() -> Iterator[Callable[..., CeleryWorker]]:
    """Start a Celery worker, or with ``beat=True`` its clock, for a site."""
    workers: list[CeleryWorker] = []

    def make(site: LiveSite, **options: Any) -> CeleryWorker:
        workers.append(CeleryWorker(site, **options))
        return workers[-1].start()

    yield make
    for worker in workers:
        worker.kill()


@pytest.fixture
def make_client() -> Iterator[Callable[[LiveSite], Client]]:
    """Make a visitor of a site."""
    clients: list[Client] = []

    def make(site: LiveSite) -> Client:
        clients.append(Client(site.url))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def visitor(live_site: LiveSite) -> Iterator[Client]:
    """A visitor of the live site."""
    with Client(live_site.url) as client:
        yield client


# --- The browser --------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window.

    Playwright has an event loop in this thread, for which Django would refuse to touch
    the database; so it lives as short as one module.
    """
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=False, args=CHROMIUM_SWITCHES
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page in a fresh profile. What breaks the site's policy fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    violations: list[str] = []
    page.on("console", lambda message: _note_violation(violations, message.text))
    yield page
    context.close()
    assert not violations


def _note_violation(violations: list[str], text: str) -> None:
    if "Content Security Policy" in text:
        violations.append(text)


def pytest_configure(config: pytest.Config) -> None:
    """Have the run's folder made by the process that all others descend from."""
    processes.run_dir()
