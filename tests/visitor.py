"""A visitor of the site in this process, with the same verbs as one over sockets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.test import Client as DjangoClient
from django.test import TestCase

from .client import OCTETS, Answer, _named, _token

Body = bytes | Iterable[bytes]


class Visitor:
    """A visitor with cookies and a CSRF token; see tests.client.Client.

    What is to happen after a commit happens before the answer is returned, also where
    the test itself is a transaction.
    """

    def __init__(self, user: Any = None, has_token: bool = True) -> None:
        self.client = DjangoClient(enforce_csrf_checks=True)
        self.token = _token() if has_token else ""
        if user is not None:
            self.client.force_login(user)
        self.client.cookies["csrftoken"] = self.token

    def request(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        **environ: Any,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        An iterable body comes with ``Transfer-Encoding: chunked``. ``environ`` changes
        the WSGI environment.
        """
        sent = {"X-CSRFToken": self.token} | dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            environ = _chunked(body) | environ
        is_said = "Content-Type" in sent
        kind = sent.pop("Content-Type", "application/octet-stream")
        # Django's client leaves it out where there is no body.
        if "wsgi.input" in environ or is_said:
            environ = {"CONTENT_TYPE": kind} | environ
        with TestCase.captureOnCommitCallbacks(execute=True):
            response = self.client.generic(
                method,
                path,
                body if isinstance(body, bytes) else b"",
                kind,
                headers=sent,
                **environ,
            )
            return Answer(response.status_code, response.headers, _content(response))

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=_named(headers))

    def head(self, path: str) -> Answer:
        return self.request("HEAD", path)

    def delete(self, path: str) -> Answer:
        return self.request("DELETE", path)

    def post(self, path: str, data: Any = None, **headers: str) -> Answer:
        """Send data as JSON."""
        body = b"" if data is None else json.dumps(data).encode()
        sent = {"Content-Type": "application/json"} | _named(headers)
        return self.request("POST", path, body, sent)

    def put(self, path: str, body: Body, **headers: str) -> Answer:
        return self.request("PUT", path, body, OCTETS | _named(headers))

    def patch(self, path: str, offset: int, body: Body, **headers: str) -> Answer:
        """Append bytes."""
        sent = OCTETS | {"Upload-Offset": str(offset)} | _named(headers)
        return self.request("PATCH", path, body, sent)

    def cut(
        self,
        method: str,
        path: str,
        body: bytes,
        after: int,
        how: str = "fin",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Announce a body and send only ``after`` bytes of it."""
        return self.request(
            method,
            path,
            b"",
            OCTETS | dict(headers or {}),
            CONTENT_LENGTH=str(len(body)),
            **{"wsgi.input": io.BytesIO(body[:after])},
        )

    def close(self) -> None:
        """There is no connection to close."""


def _chunked(body: Iterable[bytes]) -> dict[str, Any]:
    return {
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
        "wsgi.input": io.BytesIO(b"".join(body)),
        "wsgi.input_terminated": True,
    }


def _content(response: Any) -> bytes:
    if response.streaming:
        return b"".join(response.streaming_content)
    return response.content
