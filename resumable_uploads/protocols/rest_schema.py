"""The native protocol described for OpenAPI, where drf-spectacular is installed.

The statuses come from the views' own table, so that the two cannot differ. Nothing here
takes part in answering a request.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_field,
    extend_schema_view,
)
from rest_framework import exceptions, serializers

from .. import errors
from ..models import State
from . import rest

OCTETS = "application/octet-stream"
ID = "9f1c2a34-5b6d-4e7f-8a90-b1c2d3e4f506"

# Answers. The names of these classes are those in the schema, where a project's own are
# as well.


def count(text: str, **options: Any) -> serializers.IntegerField:
    return serializers.IntegerField(help_text=text, **options)


def words(text: str, **options: Any) -> serializers.CharField:
    return serializers.CharField(help_text=text, **options)


class UploadLimits(serializers.Serializer):
    """What a policy admits."""

    max_size = count("Bytes of a file; null: no limit.", allow_null=True)
    allowed_types = serializers.ListField(
        child=serializers.CharField(),
        help_text="Media types, such as image/png or image/*; empty: all.",
    )
    allowed_extensions = serializers.ListField(
        child=serializers.CharField(),
        help_text="In lower case, with the dot; empty: all.",
    )
    chunk_size = count("Bytes of a chunk where the client does not choose.")
    max_chunk_size = count("The most bytes that a client may choose.")
    max_chunks = count("The most chunks of one file.")
    parallel = count("How many chunks to send at once.")
    records_expire_in = count(
        "Seconds that an unfinished upload waits for its next byte."
    )


class UploadedFile(serializers.Serializer):
    """The file that an upload has become."""

    url = words("Where to get it; null: not here.", allow_null=True)
    name = words("The file name.")
    size = count("Bytes.")


class UploadFailure(serializers.Serializer):
    """Why an upload is not complete."""

    code = words("For programs.")
    detail = words("For people.")


@extend_schema_field(
    {
        "type": "array",
        "nullable": True,
        "items": {
            "type": "array",
            "items": {"type": "integer"},
            "minItems": 2,
            "maxItems": 2,
        },
    }
)
class Ranges(serializers.Field):
    """Numbers of chunks: [[first, last], ...], both included."""


class ResumableUpload(serializers.Serializer):
    """An upload as its client sees it."""

    id = serializers.UUIDField()
    url = words("The path of the upload.")
    state = serializers.ChoiceField(State.choices)
    filename = words("The file name, without folders and invisible characters.")
    relative_path = words("The folders, such as a/b.")
    content_type = words('The media type; "": not said, or none.')
    size = count("Bytes of the file; null: not known yet.", allow_null=True)
    offset = count("Bytes that are there from the start on, without a gap.")
    received = count("Bytes that are there.")
    chunk_size = count("Bytes of each chunk but the last one.")
    missing = Ranges(
        help_text="The chunks still to be sent. null: it is fed by appending, or its "
        "size is not known."
    )
    checksum = words("algorithm:hexadecimal digits, once complete.", allow_null=True)
    limits = UploadLimits()
    policy = words("The name of the policy it is under.")
    client_key = words("The client's own name for it.", allow_null=True)
    expires_at = serializers.DateTimeField(
        help_text="When it is given up if nothing comes.", allow_null=True
    )
    created_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)
    file = UploadedFile(allow_null=True)
    error = UploadFailure(allow_null=True)
    metadata = serializers.DictField(help_text="As it came.")


class UploadChunk(serializers.Serializer):
    """A chunk that is there."""

    number = count("The number of the chunk.")
    size = count("Bytes of the chunk.")
    received = count("Bytes of the upload that are there.")
    state = serializers.ChoiceField(State.choices)


class UploadAppended(serializers.Serializer):
    """What an upload has after an append."""

    offset = count("Where the next append starts.")
    received = count("Bytes that are there.")
    state = serializers.ChoiceField(State.choices)


# Refusals

# What they carry besides code and detail.
FACTS: dict[type[Exception], dict[str, Any]] = {
    errors.WrongSize: {"expected": 8388608},
    errors.Truncated: {"received": 5000, "expected": 8388608, "offset": 5000},
    errors.ShuttingDown: {"received": 5000, "expected": 8388608, "offset": 5000},
    errors.ChecksumMismatch: {"algorithm": "sha-256"},
    errors.TooLarge: {"max_size": 10737418240},
    errors.QuotaExceeded: {"quota": 107374182400},
    errors.TooManyUploads: {"max_open": 100},
    errors.TypeNotAllowed: {"allowed_extensions": [".png", ".jpg"]},
    errors.Rejected: {"state": State.REJECTED.value},
    errors.Stopped: {"state": State.REJECTED.value},
    errors.OffsetMismatch: {"offset": 5000},
    errors.Interrupted: {"offset": 5000},
    errors.ChunkConflict: {"number": 3},
    errors.WrongAddressing: {"addressed_by": "number"},
    errors.ClientKeyInUse: {"id": ID, "url": f"/uploads/{ID}/"},
    errors.Incomplete: {"missing": [[3, 5], [9, 9]], "offset": 25165824},
    errors.NotReceiving: {"state": State.ASSEMBLING.value},
    errors.Gone: {"state": State.CANCELLED.value},
    exceptions.ValidationError: {"fields": {"filename": ["This field is required."]}},
}
CODES = sorted(
    {
        *(kind.code for kind in rest.RestView.status_codes if kind.code != "error"),
        *(kind.code for kind in (errors.WrongSize, errors.QuotaExceeded)),
        *(kind.code for kind in (errors.Stopped, errors.HookFailed)),
        *("not_authenticated", "authentication_failed", "throttled"),
        *("method_not_allowed", "unsupported_media_type"),
    }
)


class UploadRefusal(serializers.Serializer):
    """Why a request was refused. The facts depend on the code."""

    code = serializers.ChoiceField(CODES)
    detail = words("A sentence for people.")
    fields = serializers.DictField(  # type: ignore[assignment]
        help_text="invalid: what is wrong with which field.", required=False
    )
    offset = count("Where the upload continues.", required=False)
    missing = Ranges(help_text="The chunks still to be sent.", required=False)
    state = serializers.ChoiceField(State.choices, required=False)
    expected = count("Bytes that there should have been.", required=False)
    received = count("Bytes that there were.", required=False)
    max_size = count("Bytes that there may be.", required=False)
    max_document = count("Bytes that a JSON document may have.", required=False)
    max_chunk_size = count("Bytes that a chunk may have.", required=False)
    max_chunks = count("Chunks that a file may have.", required=False)
    last_number = count("The greatest number of a chunk.", required=False)
    quota = count("Bytes that all files together may have.", required=False)
    max_open = count("Uploads that may be open at once.", required=False)
    number = count("The number of the chunk.", required=False)
    addressed_by = words("How the upload is fed: number, offset.", required=False)
    allowed_types = serializers.ListField(required=False)
    allowed_extensions = serializers.ListField(required=False)
    algorithm = words("The digest that does not fit.", required=False)
    algorithms = serializers.ListField(
        help_text="The digests that are known.", required=False
    )
    states = serializers.ListField(help_text="All states.", required=False)
    id = serializers.UUIDField(required=False)
    url = words("The upload that uses the client key.", required=False)


def refusals(*kinds: type[Exception]) -> dict[int, OpenApiResponse]:
    """Return the answers for errors, by status."""
    by_status = defaultdict(list)
    for kind in kinds:
        by_status[_status(kind)].append(_example(kind))
        if kind is exceptions.NotAuthenticated:
            # So where the project's way to authenticate has no WWW-Authenticate.
            by_status[403].append(_example(kind))
    return {status: _refusal(found) for status, found in sorted(by_status.items())}


def _refusal(examples: list[OpenApiExample]) -> OpenApiResponse:
    codes = ", ".join(example.name for example in examples)
    return OpenApiResponse(UploadRefusal, codes, examples=examples)


def _status(kind: type[Exception]) -> int:
    if issubclass(kind, exceptions.APIException):
        return kind.status_code
    table = rest.RestView.status_codes
    return next(table[parent] for parent in kind.__mro__ if parent in table)


def _example(kind: type[Any]) -> OpenApiExample:
    code = getattr(kind, "code", None) or kind.default_code
    detail = getattr(kind, "message", None) or str(kind.default_detail)
    value = {"code": code, "detail": detail, **FACTS.get(kind, {})}
    return OpenApiExample(code, value=value, response_only=True)


# Anybody may meet these.
ALWAYS = (
    exceptions.NotAuthenticated,
    exceptions.AuthenticationFailed,
    errors.PermissionDenied,
    exceptions.Throttled,
    errors.StorageUnavailable,
)
OF_AN_UPLOAD = (*ALWAYS, errors.NotFound)
OF_A_BODY = (
    *OF_AN_UPLOAD,
    errors.Invalid,
    errors.Truncated,
    errors.LengthRequired,
    errors.WrongAddressing,
    errors.NotReceiving,
    errors.Gone,
    errors.TooLarge,
    errors.QuotaExceeded,
    errors.ChecksumMismatch,
    errors.Stopped,
    errors.StorageFull,
)

# Parameters


def header(name: str, text: str, **options: Any) -> OpenApiParameter:
    kind = options.pop("type", str)
    return OpenApiParameter(
        name, kind, OpenApiParameter.HEADER, description=text, **options
    )


UPLOAD_ID = OpenApiParameter("upload_id", OpenApiTypes.UUID, OpenApiParameter.PATH)
DIGEST = header(
    "Content-Digest",
    "The digest of the body (RFC 9530), sha-256=:base64: or crc64nvme=:base64:. "
    "A body that does not fit is not kept.",
)
OFFSET_OF_ANSWER = header(
    "Upload-Offset",
    "Where the next append starts.",
    type=int,
    response=[200, 201, 202],
)
TAGS = ["uploads"]


def described(operation_id: str, summary: str, **options: Any) -> Any:
    return extend_schema(
        operation_id=operation_id, summary=summary, tags=TAGS, **options
    )


# Operations, by view and method

OPERATIONS: dict[type[rest.RestView], dict[str, Any]] = {
    rest.UploadsView: {
        "get": described(
            "uploads_list",
            "List my uploads, newest first",
            parameters=[
                OpenApiParameter(
                    "state",
                    enum=State.values,
                    many=True,
                    description="Only uploads in these states. May be repeated, or "
                    "be several with commas between.",
                )
            ],
            responses={
                200: ResumableUpload(many=True),
                **refusals(*ALWAYS, errors.Invalid, errors.NotFound),
            },
        ),
        "post": described(
            "uploads_create",
            "Open an upload",
            description="An open upload with the same client_key, size and chunk_size "
            "is found again, and answered with 200.",
            parameters=[
                header("Location", "The path of the upload.", response=[200, 201]),
                OFFSET_OF_ANSWER,
            ],
            request=rest.NewUploadSerializer,
            responses={
                201: OpenApiResponse(ResumableUpload, "It is new."),
                200: OpenApiResponse(
                    ResumableUpload, "It was there, with what it has."
                ),
                **refusals(
                    *ALWAYS,
                    exceptions.ValidationError,
                    errors.ClientKeyInUse,
                    errors.TooLarge,
                    errors.QuotaExceeded,
                    errors.TypeNotAllowed,
                    errors.TooManyUploads,
                    errors.Rejected,
                    errors.HookFailed,
                    exceptions.UnsupportedMediaType,
                ),
            },
        ),
    },
    rest.LimitsView: {
        "get": described(
            "uploads_limits",
            "See what may be uploaded",
            parameters=[
                OpenApiParameter(
                    "policy", default="default", description="The name of a policy."
                )
            ],
            responses={200: UploadLimits, **refusals(*ALWAYS, errors.Invalid)},
        ),
    },
    rest.UploadDetailView: {
        "get": described(
            "uploads_retrieve",
            "See what is there",
            description="HEAD answers with the same headers. It also ends an append "
            "that still hangs on a dead connection, so that its Upload-Offset stays "
            "true.",
            parameters=[UPLOAD_ID, OFFSET_OF_ANSWER],
            responses={200: ResumableUpload, **refusals(*OF_AN_UPLOAD)},
        ),
        "patch": described(
            "uploads_append",
            "Append bytes",
            description="What came before a cut is kept, unless a Content-Digest was "
            "sent: then the body is kept whole or not at all.",
            parameters=[
                UPLOAD_ID,
                header(
                    "Upload-Offset",
                    "Where the body starts: the end of what is there.",
                    type=int,
                    required=True,
                ),
                DIGEST,
                OFFSET_OF_ANSWER,
            ],
            request={OCTETS: OpenApiTypes.BINARY},
            responses={
                200: UploadAppended,
                **refusals(
                    *OF_A_BODY,
                    errors.OffsetMismatch,
                    errors.Interrupted,
                    errors.ShuttingDown,
                ),
            },
        ),
        "delete": described(
            "uploads_cancel",
            "Cancel an upload, or delete its file",
            parameters=[UPLOAD_ID],
            responses={
                204: OpenApiResponse(description="It is gone, or was already."),
                **refusals(*OF_AN_UPLOAD, errors.NotReceiving),
            },
        ),
    },
    rest.ChunkView: {
        "put": described(
            "uploads_put_chunk",
            "Send a chunk",
            description="In any order, several at once, and again where in doubt. A "
            "chunk has chunk_size bytes, the last one the rest.",
            parameters=[
                UPLOAD_ID,
                OpenApiParameter(
                    "number", int, OpenApiParameter.PATH, description="From 0."
                ),
                DIGEST,
            ],
            request={OCTETS: OpenApiTypes.BINARY},
            responses={
                201: OpenApiResponse(UploadChunk, "It is recorded."),
                200: OpenApiResponse(UploadChunk, "It was there already."),
                **refusals(*OF_A_BODY, errors.WrongSize, errors.ChunkConflict),
            },
        ),
    },
    rest.CompleteView: {
        "post": described(
            "uploads_complete",
            "Say that all has been sent",
            description="Needed only where the size was null when the upload was "
            "opened; harmless at any time. Asks for another try where the assembly "
            "has failed.",
            parameters=[UPLOAD_ID, OFFSET_OF_ANSWER],
            request=None,
            responses={
                200: OpenApiResponse(ResumableUpload, "The file is complete."),
                202: OpenApiResponse(
                    ResumableUpload, "It is being assembled: ask again."
                ),
                **refusals(
                    *OF_AN_UPLOAD,
                    errors.Incomplete,
                    errors.Gone,
                    errors.Rejected,
                ),
            },
        ),
    },
    rest.FileView: {
        "get": described(
            "uploads_file",
            "Get the finished file",
            parameters=[
                UPLOAD_ID,
                header("Range", "One range of bytes."),
                header("If-Range", "The ETag that the range belongs to."),
                header("ETag", "The checksum of the file.", response=[200, 206]),
                header("Content-Range", "The range.", response=[206, 416]),
                header("Accept-Ranges", "bytes", response=[200, 206]),
            ],
            responses={
                (200, "*/*"): OpenApiTypes.BINARY,
                (206, "*/*"): OpenApiTypes.BINARY,
                416: OpenApiResponse(description="The file has none of the range."),
                **refusals(*OF_AN_UPLOAD, errors.NotReceiving, errors.Gone),
            },
        ),
    },
}


class RestViews(OpenApiViewExtension):
    """Puts the views with their descriptions in the place of the views."""

    target_class = "resumable_uploads.protocols.rest.RestView"
    match_subclasses = True

    def view_replacement(self) -> Any:
        operations = next(
            OPERATIONS[kind] for kind in self.target.__mro__ if kind in OPERATIONS
        )
        # A class of its own: the views that answer stay as they are.
        view = type(self.target.__name__, (self.target,), {})
        return extend_schema_view(**operations)(view)
