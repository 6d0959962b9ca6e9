"""Whether answers are as the OpenAPI documents of tus and the IETF draft say."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils.datastructures import CaseInsensitiveMapping

from resumable_uploads.protocols import openapi
from resumable_uploads.protocols.ietf import speaks_draft

from .client import Answer
from .visitor import Visitor


@cache
def operations(protocol: str, prefix: str) -> dict[tuple[bool, str], dict[str, Any]]:
    """Return operations by whether they are of an upload, and their method."""
    paths = openapi.document(protocol, prefix)["paths"]
    return {
        (path.endswith("{upload_id}"), method.upper()): operation
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


def check(protocol: str, prefix: str, method: str, path: str, answer: Answer) -> None:
    """See that an answer is one of those that are described for its request."""
    is_of_upload = path.partition("?")[0].rstrip("/") != prefix
    operation = operations(protocol, prefix).get((is_of_upload, method))
    if operation is None:
        assert answer.status == 405, (method, path, answer)
        return
    described = operation["responses"].get(str(answer.status))
    assert described, f"{method} {path} is answered {answer.status}: {answer.body!r}"
    for name, header in described.get("headers", {}).items():
        assert not header["required"] or name in answer.headers, (name, answer)
    if answer.body and answer.status >= 400:
        kind = answer.headers["Content-Type"].partition(";")[0]
        entry = described["content"][kind]
        if protocol == "tus":
            name = answer.body.decode().partition(":")[0]
            assert name in entry["examples"], (answer.status, name)
        else:
            assert b'"code":' in answer.body


@pytest.fixture
def described(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check all answers to visitors under the module's PREFIX: (protocol, prefix)."""
    protocol, prefix = request.module.DESCRIBED
    send = Visitor.request

    def checked(me: Any, method: str, path: str, *args: Any, **more: Any) -> Answer:
        answer = send(me, method, path, *args, **more)
        headers = more.get("headers") or (args[1] if len(args) > 1 else {})
        override = (headers or {}).get("X-HTTP-Method-Override", "").strip().upper()
        said = override if override and method != "OPTIONS" else method
        # A slash that is encoded leads to another route, or to none.
        if path.startswith(prefix) and "%2f" not in path.lower():
            found = CaseInsensitiveMapping(headers or {})
            asked = SimpleNamespace(method=said, headers=found)
            is_draft = protocol == "ietf" and speaks_draft(asked)
            check("ietf" if is_draft else "tus", prefix, said, path, answer)
        return answer

    monkeypatch.setattr(Visitor, "request", checked)
