"""``{% resumable_uploader %}``: the uploader as a part of any page."""

from __future__ import annotations

from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.template import Context

from ..rendering import TEMPLATE, uploader_context

register = template.Library()


@register.inclusion_tag(TEMPLATE, takes_context=True)
def resumable_uploader(
    context: Context, policy: str = "default", **parameters: Any
) -> dict[str, Any]:
    """Render the uploader for a policy. docs/uploader.md explains the parameters.

    Raise Invalid for an unknown policy, TypeError for an unknown parameter.
    """
    return uploader_context(_request(context), policy, **parameters)


def _request(context: Context) -> Any:
    try:
        return context["request"]
    except KeyError:
        raise ImproperlyConfigured(
            "{% resumable_uploader %} needs the request in its template's context: add "
            "django.template.context_processors.request to TEMPLATES."
        ) from None
