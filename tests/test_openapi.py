"""The OpenAPI documents are right, of what is mounted and of what odd requests hear."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import TestCase
from django.urls import resolve
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from resumable_uploads.models import OPEN_STATES, Chunk, UploadSession
from resumable_uploads.protocols import ietf, openapi, tus

from . import drafts
from . import tus as tus_client
from .making import files_in, staging
from .processes import ROOT
from .rest import change, open_upload, some_bytes
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]

# How many odd requests each operation gets, of either kind. `make test` is content with
# few, always the same ones; more: SCHEMATHESIS_EXAMPLES=500, and others each time.
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "0"))
FEW = 6
DATA = some_bytes(100)
PAGE = 4096
PREFIXES = {"tus": "/uploads/tus", "ietf": "/uploads/ietf"}
VIEWS: dict[str, Any] = {"tus": tus.TusView, "ietf": ietf.DraftView}
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")


@cache
def document(protocol: str) -> dict[str, Any]:
    if protocol == "rest":
        found = SchemaGenerator().get_schema(request=None, public=True)
        ours = {
            path: methods
            for path, methods in found["paths"].items()
            if not path.startswith(tuple(PREFIXES.values()))
        }
        return found | {"paths": ours}
    return openapi.document(protocol, PREFIXES[protocol])


# What is mounted


def test_what_is_mounted_is_found():
    assert sorted(openapi.mounted()) == sorted(PREFIXES.items())


def test_what_is_mounted_is_in_the_site_s_document():
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    for protocol in PREFIXES:
        for path, methods in document(protocol)["paths"].items():
            assert set(paths[path]) == set(methods)


@pytest.mark.parametrize("protocol", PREFIXES)
def test_the_document_is_valid(protocol):
    validate_schema(document(protocol))


@pytest.mark.parametrize("protocol", PREFIXES)
def test_every_method_of_the_views_is_described(protocol):
    module = {"tus": tus, "ietf": ietf}[protocol]
    for path, methods in document(protocol)["paths"].items():
        kept = {name for name in methods if name in METHODS}
        view = resolve(path.replace("{upload_id}", str(UploadSession().pk))).func
        kind = getattr(view, "cls", None)
        if kind is None:
            # Both are spoken at this URL.
            names = ("TargetView", "ResourceView")
            kind = getattr(module, names["{" in path])
        assert kept == {name for name in METHODS if hasattr(kind, name)}


@pytest.mark.parametrize("protocol", PREFIXES)
def test_all_statuses_of_the_table_are_described(protocol):
    described = {
        int(status)
        for methods in document(protocol)["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
    }
    assert set(VIEWS[protocol].status_codes.values()) <= described


def test_the_names_of_refusals_are_those_of_the_reference():
    described = {
        name
        for methods in document("tus")["paths"].values()
        for operation in methods.values()
        for answer in operation["responses"].values()
        for name in answer.get("content", {}).get("text/plain", {}).get("examples", ())
    }
    reference = (ROOT / "docs" / "tus.md").read_text()
    assert set(re.findall(r"`(ERR_\w+)`", reference)) <= described
    assert set(tus.NAMES.values()) <= described


# Odd requests

schemathesis.serializer.alias(
    [tus.OFFSET_TYPE, ietf.PARTIAL_TYPE], "application/octet-stream"
)
load_all_checks()
CHECKS_MADE = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)


def operations() -> Iterator[Any]:
    for protocol in ("rest", *PREFIXES):
        for found in schemathesis.openapi.from_dict(
            document(protocol)
        ).get_all_operations():
            operation = found.ok()
            is_simple = not (operation.body or len(operation.headers))
            for mode in GenerationMode:
                if mode == GenerationMode.POSITIVE or not is_simple:
                    name = f"{operation.method}-{operation.path}-{mode.value}"
                    yield pytest.param(protocol, operation, mode, id=name)


class Site:
    """The site as a WSGI application within a test's transaction."""

    def __init__(self) -> None:
        self.handler = WSGIHandler()

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        with TestCase.captureOnCommitCallbacks(execute=True), connections_kept():
            response = self.handler(environ, start_response)
            try:
                return [b"".join(response)]
            finally:
                response.close()


@contextmanager
def connections_kept() -> Iterator[None]:
    """Keep the end of a request from closing the connection of the transaction."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in (request_started, request_finished):
            signal.connect(close_old_connections)


def begun(protocol: str, me: Visitor) -> str:
    """Return the id of a fresh upload of 100 bytes, some of which are there."""
    if protocol == "rest":
        return open_upload(me, 100, chunk_size=10)["id"]
    if protocol == "tus":
        url = tus_client.create(me, 100)
        tus_client.patch(me, url, 0, DATA[:10])
    else:
        url = drafts.begin(me, DATA[:10], Upload_Length=100)
    return url.rpartition("/")[2]


def stored() -> tuple[int, int, int]:
    """Return how much is kept: open uploads, chunks, pages of the disk."""
    rows = UploadSession.objects.filter(state__in=OPEN_STATES)
    # What is discarded is punched out of its file, whose size stays; of the last page
    # only what is in it goes.
    pages = sum(path.stat().st_blocks * 512 // PAGE for path in files_in(staging()))
    return rows.count(), Chunk.objects.count(), pages


@pytest.mark.parametrize(("protocol", "operation", "mode"), list(operations()))
def test_odd_requests_are_answered_as_described(settings, protocol, operation, mode):
    policy = {"downloadable": True, "capability_urls": True, "max_open": None}
    change(settings, POLICIES={"default": policy}, FSYNC="never")
    if protocol == "ietf":
        # Beside tus, what says nothing of the draft is answered in tus.
        settings.ROOT_URLCONF = "tests.draft_urls"
    site, me, number = Site(), Visitor(), count()
    cookies: dict[str, str] = {}
    if protocol == "rest":
        me.get("/upload/")
        cookies = {name: morsel.value for name, morsel in me.client.cookies.items()}

    @hypothesis_settings(
        max_examples=EXAMPLES or FEW,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        turn = next(number)
        if "upload_id" in (case.path_parameters or {}) and turn % 3:
            # Of random ids, none is that of an upload.
            case.path_parameters["upload_id"] = begun(protocol, me)
        if "Upload-Offset" in (case.headers or {}) and turn % 2:
            case.headers["Upload-Offset"] = "0" if protocol == "rest" else "10"
        before = stored()
        headers = {"X-CSRFToken": me.token} if cookies else {}
        response = case.call(
            base_url="http://localhost", app=site, headers=headers, cookies=cookies
        )
        case.validate_response(response, checks=CHECKS_MADE)
        if response.status_code >= 400:
            uploads, chunks, pages = stored()
            assert uploads <= before[0]
            assert chunks <= before[1]
            assert pages <= before[2] + 1

    send()
