"""What axe-core has to say about a page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.processes import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page, part: str = "html") -> list[str]:
    """Return the rules that a page, or a part of it, breaks, with the elements."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make clients")
    page.wait_for_load_state()
    page.locator(part).wait_for()
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    return page.evaluate(
        """async ([part, rules]) => {
            // Colours that are still changing are none of the page's.
            const changes = document.getAnimations()
                .filter((one) => one instanceof CSSTransition);
            await Promise.allSettled(changes.map((one) => one.finished));
            // Without preload: that makes inline styles, which the site forbids.
            const options = {runOnly: rules, preload: false};
            const {violations} = await axe.run(part, options);
            return violations.map(({id, nodes}) =>
                `${id}: ${nodes.map((node) => node.html.slice(0, 150)).join(' | ')}`);
        }""",
        [part, RULES],
    )
