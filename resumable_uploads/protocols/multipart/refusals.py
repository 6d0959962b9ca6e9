"""What can be refused, in the words of Amazon S3; Aliyun OSS has others for some."""

from __future__ import annotations

from typing import Any

from ... import errors
from ...buckets import NoSuchBucket
from .chunked import BadSignature

# Which status says what.
STATUSES = {
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "ConditionalRequestConflict": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    "FileAlreadyExists": 409,
    "IncompleteBody": 400,
    "InsufficientStorage": 507,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidDigest": 400,
    "InvalidObjectName": 400,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidSecurityToken": 403,
    "InvalidToken": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedXML": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "SecurityTokenExpired": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "TooManyRequests": 429,
    "TooManyUploads": 400,
    "XAmzContentSHA256Mismatch": 400,
}


class Refusal(errors.UploadError):
    """A request that is refused; ``facts`` are elements of the answer."""

    # In place of the code's own.
    status: int | None = None

    def __init__(self, code: str, message: str = "", **facts: Any) -> None:
        super().__init__(message or MESSAGES.get(code, ""), **facts)
        self.code = code


MESSAGES = {
    "BadDigest": "The bytes do not match the digest that was sent with them.",
    "InvalidPart": "A listed part is missing, or has another ETag.",
    "InvalidPartOrder": "The parts are not listed in ascending order.",
    "NoSuchKey": "There is no such object.",
    "NoSuchUpload": "There is no such upload; it may be complete, or was aborted.",
    "NotImplemented": "That is not supported here.",
    "PreconditionFailed": "A condition of the request does not hold.",
    "ExpiredToken": "The credentials have expired.",
}

# What is refused with a status and no code of the vendors.
BY_STATUS = {
    401: "AccessDenied",
    403: "AccessDenied",
    405: "MethodNotAllowed",
    429: "TooManyRequests",
    500: "InternalError",
}

# From the words of uploads to those of the vendors; the first class that fits counts.
_CODES: dict[type[errors.UploadError], str] = {
    NoSuchBucket: "NoSuchBucket",
    BadSignature: "SignatureDoesNotMatch",
    errors.ChecksumMismatch: "BadDigest",
    errors.Truncated: "IncompleteBody",
    errors.LengthRequired: "MissingContentLength",
    errors.PermissionDenied: "AccessDenied",
    errors.TypeNotAllowed: "AccessDenied",
    # An upload that takes no more parts is none to these clients. Not a word of 404
    # for what may pass: some of them give up for good.
    errors.NotFound: "NoSuchUpload",
    errors.NotReceiving: "NoSuchUpload",
    errors.TooLarge: "EntityTooLarge",
    errors.TooManyUploads: "TooManyUploads",
    errors.Rejected: "InvalidRequest",
    errors.StorageFull: "InsufficientStorage",
    errors.StorageUnavailable: "ServiceUnavailable",
    errors.Interrupted: "ServiceUnavailable",
    errors.UploadError: "InvalidRequest",
}


def refusal_of(error: errors.UploadError) -> Refusal:
    """Return an error in the words of S3."""
    if isinstance(error, Refusal):
        return error
    kinds = type(error).__mro__
    code = next(_CODES[kind] for kind in kinds if kind in _CODES)
    status = error.status if isinstance(error, errors.Rejected) else None
    refusal = Refusal(BY_STATUS.get(status or 0, code), error.message)
    refusal.status = status
    return refusal
