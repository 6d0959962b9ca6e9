"""What the uploader's template needs, for the tag and for form fields alike."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils.crypto import salted_hmac

from .models import UploadSession
from .owners import Owner, owner_of
from .policies import get_policy, policy_of
from .texts import messages

TEMPLATE = "resumable_uploads/uploader.html"
DAY = 24 * 60 * 60


def uploader_context(
    request: Any,
    policy: str = "default",
    *,
    endpoint: str = "",
    name: str = "",
    required: bool = False,
    multiple: bool = True,
    folders: bool = False,
    camera: bool = False,
    max_files: int | None = None,
    accept: str = "",
    parallel: int | None = None,
    records_expire_in: float | None = None,
    digest: bool = False,
    checksum: bool = False,
    deletable: bool = False,
    initial: Iterable[UploadSession] = (),
    styles: bool = True,
    manual: bool = False,
) -> dict[str, Any]:
    """Return the context of the uploader's template for a policy.

    Gives visitors a session and everybody a CSRF token, so that the first requests,
    which are parallel, find the same ones. Raise Invalid for an unknown policy.
    """
    initial = list(initial)
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
        "checksum": checksum or None,
        "deletable": deletable or None,
        "name": name or None,
        "required": required or None,
        "initial": [_facts(upload) for upload in initial] or None,
        "scope": _scope(owner),
        "csrf": _csrf(),
        "messages": messages(),
    }
    return {
        "options": json.dumps({k: v for k, v in options.items() if v is not None}),
        "permitted": rules.permits(owner),
        "accept": accept or _accept(limits),
        "name": name,
        "required": required,
        "initial": initial,
        "multiple": multiple,
        "folders": folders and multiple,
        "camera": camera,
        "styles": styles,
        "manual": manual,
        "csrf_token": get_token(request),
    }


def _facts(upload: UploadSession) -> dict[str, Any]:
    """Return a complete upload as the list in the browser begins with it."""
    downloadable = policy_of(upload).downloadable
    address = reverse("resumable_uploads:file", args=[upload.pk])
    return {
        "id": str(upload.pk),
        "url": reverse("resumable_uploads:upload", args=[upload.pk]),
        "state": upload.state,
        "filename": upload.filename,
        "relative_path": upload.relative_path,
        "size": upload.length,
        "file": {
            "url": address if downloadable else None,
            "name": upload.filename,
            "size": upload.length,
        },
    }


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
