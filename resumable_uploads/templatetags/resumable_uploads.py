"""``{% resumable_uploader %}``: the uploader as a part of any page."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.template import Context
from django.urls import reverse
from django.utils.crypto import salted_hmac

from ..owners import Owner, owner_of
from ..policies import get_policy
from ..texts import messages

register = template.Library()

DAY = 24 * 60 * 60


@register.inclusion_tag("resumable_uploads/uploader.html", takes_context=True)
def resumable_uploader(
    context: Context,
    policy: str = "default",
    *,
    endpoint: str = "",
    multiple: bool = True,
    folders: bool = False,
    max_files: int | None = None,
    accept: str = "",
    parallel: int | None = None,
    records_expire_in: float | None = None,
    digest: bool = False,
    styles: bool = True,
    manual: bool = False,
) -> dict[str, Any]:
    """Render the uploader for a policy. docs/uploader.md explains the parameters.

    Gives visitors a session and everybody a CSRF token, so that the first requests,
    which are parallel, find the same ones. Raise Invalid for an unknown policy.
    """
    request = _request(context)
    rules = get_policy(policy)
    owner = owner_of(request, create=rules.anonymous)
    limits = rules.limits(owner)
    options = {
        "endpoint": endpoint or reverse("resumable_uploads:uploads"),
        "policy": policy,
        "limits": limits,
        "parallel": parallel or limits["parallel"],
        "maxFiles": max_files if multiple else 1,
        "recordsExpireIn": records_expire_in or limits["records_expire_in"] / DAY,
        "digest": digest,
        "scope": _scope(owner),
        "csrf": _csrf(),
        "messages": messages(),
    }
    return {
        "options": json.dumps({k: v for k, v in options.items() if v is not None}),
        "permitted": rules.permits(owner),
        "accept": accept or _accept(limits),
        "multiple": multiple,
        "folders": folders and multiple,
        "styles": styles,
        "manual": manual,
        "csrf_token": context.get("csrf_token"),
    }


def _request(context: Context) -> Any:
    try:
        return context["request"]
    except KeyError:
        raise ImproperlyConfigured(
            "{% resumable_uploader %} needs the request in its template's context: add "
            "django.template.context_processors.request to TEMPLATES."
        ) from None


def _scope(owner: Owner) -> str:
    """Return a name for the owner that keeps records in one browser apart."""
    return salted_hmac("resumable_uploads.records", owner.key).hexdigest()[:16]


def _csrf() -> dict[str, str]:
    header = settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-")
    hidden = settings.CSRF_USE_SESSIONS or settings.CSRF_COOKIE_HTTPONLY
    # Where scripts cannot see the cookie they read the form's field.
    return {
        "headerName": header,
        "cookieName": "" if hidden else settings.CSRF_COOKIE_NAME,
    }


def _accept(limits: dict[str, Any]) -> str:
    return ",".join(limits["allowed_extensions"] or limits["allowed_types"])
