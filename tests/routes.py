"""Every address of the site, from its URL configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern, RoutePattern
from django.utils.regex_helper import normalize

# What the routes of protocols begin with that answer with and without one.
_MAYBE_A_SLASH = "(?:/)?"


@dataclass(frozen=True)
class Route:
    """One way to write an address: ``template`` has its arguments as ``%(name)s``."""

    template: str
    arguments: tuple[str, ...]
    # The view's dotted name, whichever way it was wrapped.
    view: str

    def __str__(self) -> str:
        return self.template.replace("%(", "{").replace(")s", "}")

    def path(self, values: dict[str, Any]) -> str:
        """Return the path with these arguments. Raise KeyError for one left out."""
        said = {
            name: quote(str(values[name]).encode(), safe="/~")
            for name in self.arguments
        }
        return "/" + self.template % said


def routes(patterns: Sequence[Any] | None = None) -> list[Route]:
    """Return all routes below some patterns, or of the whole site."""
    if patterns is None:
        patterns = get_resolver().url_patterns
    return list(dict.fromkeys(_walk(patterns, [("", ())])))


Written = tuple[str, tuple[str, ...]]


def _walk(patterns: Sequence[Any], before: list[Written]) -> Iterator[Route]:
    for pattern in patterns:
        ways = [
            (head + tail, (*given, *arguments))
            for head, given in before
            for tail, arguments in _ways(pattern.pattern)
        ]
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, ways)
            continue
        for template, arguments in ways:
            yield Route(template, arguments, _name(pattern))


def _ways(pattern: RoutePattern | RegexPattern) -> list[Written]:
    """Return the ways to write a part, with and without its first slash."""
    text = pattern.regex.pattern.removeprefix("^")
    texts = [text]
    if text.startswith(_MAYBE_A_SLASH):
        rest = text.removeprefix(_MAYBE_A_SLASH)
        # Without it, what follows would be a name that nobody uses.
        texts = [f"/{rest}", rest] if rest == "$" else [f"/{rest}"]
    return [(way, tuple(names)) for text in texts for way, names in normalize(text)]


def _name(pattern: URLPattern) -> str:
    view = pattern.callback
    found = getattr(view, "view_class", None) or getattr(view, "cls", None) or view
    return f"{found.__module__}.{found.__qualname__}".replace(".<locals>", "")
