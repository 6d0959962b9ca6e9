"""Leave for pages of other sites, on refusals too: they could not read them else."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpResponse
from django.utils.cache import patch_vary_headers

# For so many seconds a browser need not ask again for the same address.
MAX_AGE = 24 * 60 * 60
METHODS = "GET, HEAD, PUT, POST, DELETE"


def grant_preflight(answer: HttpResponse, headers: str) -> None:
    """Say what a page may send. Whether it may at all is said by ``allow``."""
    answer["Access-Control-Allow-Methods"] = METHODS
    # A "*" would not let Authorization through.
    answer["Access-Control-Allow-Headers"] = headers
    answer["Access-Control-Max-Age"] = str(MAX_AGE)
    patch_vary_headers(answer, ["Access-Control-Request-Headers"])


def allow(answer: HttpResponse, origin: str | None, origins: Sequence[str]) -> None:
    """Let a page of a site read an answer, if its site is one of these."""
    if origins:
        patch_vary_headers(answer, ["Origin"])
    if not origin or not ({origin, "*"} & set(origins)):
        for name in [name for name in answer.headers if _is_about_this(name)]:
            del answer.headers[name]
        return
    answer["Access-Control-Allow-Origin"] = origin
    told = [name for name in answer.headers if not _is_about_this(name)]
    answer["Access-Control-Expose-Headers"] = ", ".join(told)


def _is_about_this(name: str) -> bool:
    return name.lower().startswith("access-control-")
