"""What axe-core has to say about a page."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.processes import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
ALL = {"type": "tag", "values": TAGS}
# What is not the same in light and in dark.
OF_COLOUR = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}


def violations(page: Page, rules: dict[str, Any]) -> list[str]:
    """Return the rules that a page breaks, with the elements."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make clients")
    page.wait_for_load_state()
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    return page.evaluate(
        """async (rules) => {
            // Colours that are still changing are none of the page's.
            const changes = document.getAnimations()
                .filter((one) => one instanceof CSSTransition);
            await Promise.allSettled(changes.map((one) => one.finished));
            // Without preload: that makes inline styles, which the site forbids.
            const options = {runOnly: rules, preload: false};
            const {violations} = await axe.run(options);
            return violations.map(({id, nodes}) =>
                `${id}: ${nodes.map((node) => node.html.slice(0, 150)).join(' | ')}`);
        }""",
        rules,
    )


def check(page: Page) -> None:
    """See that axe-core finds nothing, whether it is light or dark."""
    page.emulate_media(color_scheme="light")
    assert violations(page, ALL) == [], page.url
    page.emulate_media(color_scheme="dark")
    assert violations(page, OF_COLOUR) == [], f"{page.url}, dark"
