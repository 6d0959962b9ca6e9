"""Temporary credentials for whoever is logged in: what an STS gives, by one POST."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from ... import credentials, errors
from ...buckets import MAX_KEY_BYTES, Bucket, get_bucket
from ...conf import setting
from ..base import UploadView

# No client can do anything with less.
SHORTEST = 60


class _Wish(serializers.Serializer):
    """What somebody wants to do, with fields in the words of these clients."""

    bucket = serializers.CharField(max_length=64)
    prefix = serializers.CharField(
        max_length=MAX_KEY_BYTES, default="", allow_blank=True, trim_whitespace=False
    )
    actions = serializers.MultipleChoiceField(
        choices=credentials.ACTIONS, default=credentials.ACTIONS, allow_empty=False
    )
    duration_seconds = serializers.IntegerField(required=False, min_value=SHORTEST)


class CredentialsView(UploadView):
    """Give out temporary credentials, and take all of one's own back."""

    renderer_classes = (JSONRenderer,)
    schema: Any = None
    status_codes = UploadView.status_codes

    def post(self, request: Request) -> Response:
        wish = _Wish(data=request.data)
        wish.is_valid(raise_exception=True)
        said = wish.validated_data
        bucket = get_bucket(said["bucket"])
        self.check_permitted(bucket.get_policy())
        owner = self.owner(create=True)
        prefix = said["prefix"] or bucket.prefix_of(owner)
        if not prefix.startswith(bucket.prefix_of(owner)):
            raise errors.PermissionDenied("Your keys begin with another prefix here.")
        lasts = timedelta(seconds=said.get("duration_seconds", self._longest()))
        if lasts.total_seconds() > self._longest():
            raise errors.Invalid(
                "Credentials are not given out for so long.",
                longest=int(self._longest()),
            )
        issued = credentials.issue(owner, bucket.name, prefix, said["actions"], lasts)
        return Response(_answer(bucket, prefix, issued))

    def delete(self, request: Request) -> Response:
        if owner := self.owner():
            credentials.revoke(owner)
        return Response(status=204)

    def _longest(self) -> float:
        return setting("CREDENTIALS_EXPIRE_IN").total_seconds()


def _answer(
    bucket: Bucket, prefix: str, issued: credentials.Credentials
) -> dict[str, Any]:
    """Return credentials in the words of all clients: each takes those it knows."""
    expiration = f"{issued.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    key, secret, token = issued.access_key_id, issued.secret, issued.token
    return {
        "bucket": bucket.name,
        "prefix": prefix,
        # Aliyun's AssumeRole, and ali-oss with its refreshSTSToken.
        "AccessKeyId": key,
        "AccessKeySecret": secret,
        "SecurityToken": token,
        "Expiration": expiration,
        "accessKeyId": key,
        "accessKeySecret": secret,
        "stsToken": token,
        # Amazon's, and Uppy with its getCredentials. Any region will do.
        "region": "us-east-1",
        "SecretAccessKey": secret,
        "SessionToken": token,
        "credentials": {
            "accessKeyId": key,
            "secretAccessKey": secret,
            "sessionToken": token,
            "expiration": expiration,
        },
    }
