"""The demo site's Content-Security-Policy. It knows headers, and no upload."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

# No inline script, no inline style, and nothing from other hosts.
STRICT = {
    "default-src": "'self'",
    "img-src": "'self' data:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
# The pages of DRF's browsable API have style attributes, and the colours of Pygments in
# a style element. Scripts stay as strict there; the admin needs no exception.
BROWSABLE_API = STRICT | {"style-src": "'self' 'unsafe-inline'"}


def _header(policy: dict[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in policy.items())


_STRICT, _BROWSABLE_API = _header(STRICT), _header(BROWSABLE_API)


class ContentSecurityPolicy:
    """Send a policy with every response that has none of its own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        policy = _BROWSABLE_API if _is_browsable_api(response) else _STRICT
        response.headers.setdefault("Content-Security-Policy", policy)
        return response


def _is_browsable_api(response: HttpResponse) -> bool:
    renderer = getattr(response, "accepted_renderer", None)
    return getattr(renderer, "format", "") == "api"
