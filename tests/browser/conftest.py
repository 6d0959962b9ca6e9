"""What the browser tests share: one site for those that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.live import LiveSite, SiteTemplates

from .desk import MIB, Desk


@pytest.fixture(scope="module")
def site(
    site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSite]:
    """The demo site, for all tests of a module; each comes as another visitor.

    Its chunks are small, so that small files have many.
    """
    data_dir = tmp_path_factory.mktemp("site")
    site_templates.sqlite(data_dir)
    live = LiveSite(data_dir, uploads={"CHUNK_SIZE": MIB}, preload=True).start()
    yield live
    live.kill()


@pytest.fixture
def desk(page: Page, site: LiveSite) -> Desk:
    """The upload page, open."""
    return Desk(page, site.url).open()
