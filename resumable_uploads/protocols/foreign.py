"""What the protocols of other people's clients share.

These clients were written for servers of their own. They follow redirects and take the
page behind for success, show what they find in JSON, ask for permission by OPTIONS, and
name their uploads themselves.
"""

from __future__ import annotations

from typing import Any

from django.core.signals import got_request_exception
from django.urls import NoReverseMatch, reverse
from django.utils.log import log_response
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .. import engine, errors, names
from ..body import Body
from ..models import State, UploadSession
from ..policies import UploadPolicy, get_policy, policy_of
from .base import UploadView
from .lean import LongWay


class ForeignView(UploadView):
    """A view whose client is not ours, for the files of one policy."""

    renderer_classes = (JSONRenderer,)
    # Not a part of the site's own API.
    schema: Any = None

    # Option, for as_view():

    policy = "default"

    # What views call:

    def permitted_policy(self) -> UploadPolicy:
        """Return the policy, if the caller may upload by it.

        Raise NotAuthenticated or PermissionDenied.
        """
        policy = get_policy(self.policy)
        self.check_permitted(policy)
        return policy

    def upload_of(self, client_key: str) -> UploadSession | None:
        """Return the caller's upload with a client key, open or completed."""
        if capability := self.capability:
            return self._proven(capability.upload, client_key)
        return engine.find_by_key(self.owner(), self.protocol, client_key)

    def _proven(self, upload: UploadSession, client_key: str) -> UploadSession:
        """Return what a capability was given for, if that is what is meant.

        It opens nothing, and tells nothing of a file that is complete. Raise LongWay.
        """
        upload = engine.not_overdue(upload)
        is_meant = (upload.protocol, upload.client_key) == (self.protocol, client_key)
        if not is_meant or upload.state != State.RECEIVING:
            raise LongWay
        return upload

    def begin(self, policy: UploadPolicy, new: engine.NewUpload) -> UploadSession:
        """Open an upload, unless there is one with its client key already."""
        new.filename = names.filename(new.filename) or "file"
        owner = self.owner(create=True)
        return engine.open(owner, self.protocol, policy, new)[0]

    def facts(self, upload: UploadSession) -> dict[str, Any]:
        """Return what a page may want to know of an upload, in any answer."""
        is_complete = upload.state == State.COMPLETE
        return {
            "id": str(upload.pk),
            "state": upload.state,
            "name": upload.filename,
            "size": upload.length,
            "received": upload.received,
            "checksum": upload.checksum if is_complete else None,
            "file": _file(upload) if is_complete else None,
        }

    # HTTP handlers (subclasses shouldn't need to override):

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # A preflight brings no cookies. Whether it is granted is for the project to
        # say, by a middleware for CORS; here it only must not fail for want of a login.
        if request.method != "OPTIONS":
            super().initial(request, *args, **kwargs)
        else:
            negotiated = self.perform_content_negotiation(request)
            request.accepted_renderer, request.accepted_media_type = negotiated

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(status=204, headers={"Allow": ", ".join(self.allowed_methods)})

    def check_throttles(self, request: Request) -> None:
        """Count what sends something, and not each question."""
        if request.method != "GET":
            super().check_throttles(request)

    def _answer_exception(self, exc: Exception, context: Any) -> Response | None:
        """Answer also what nobody expected in JSON, after telling the operator."""
        response = super()._answer_exception(exc, context)
        if response is not None:
            return response
        request = self.request._request
        got_request_exception.send(sender=type(self), request=request)
        detail = "The server made a mistake."
        response = self._answer(500, "server_error", detail, {})
        log_response(
            "Internal Server Error: %s",
            request.path,
            response=response,
            request=request,
            exception=exc,
        )
        return response


def read_again(upload: UploadSession, body: Body) -> UploadSession:
    """Read bytes that are there already, for an upload that needs no more of them.

    Return the upload; where its assembly has failed, that is tried again. Raise
    Truncated, and TooLarge for more bytes than the whole file has.
    """
    body.skip(upload.length or 0)
    body.check_end()
    return engine.finish(upload)


def check_not_rejected(upload: UploadSession) -> None:
    """Raise Rejected where the finished file was looked at and refused."""
    if upload.state == State.REJECTED:
        raise errors.Rejected(upload.error, state=upload.state)


def _file(upload: UploadSession) -> dict[str, Any]:
    """Return what is known of a finished file, with its URL if there is one."""
    url = None
    if policy_of(upload).downloadable:
        try:
            url = reverse("resumable_uploads:file", args=[upload.pk])
        except NoReverseMatch:
            # The native protocol is not mounted.
            url = None
    return {"name": upload.filename, "size": upload.length, "url": url}
