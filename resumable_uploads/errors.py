"""What can go wrong, in the words of uploads.

Each error has a ``code`` for programs, a sentence for people and ``facts`` that let a
client put things right. Nothing here knows of HTTP: every protocol has its own table
from these classes to its statuses.
"""

from __future__ import annotations

from typing import Any


class UploadError(Exception):
    """Something about an upload that its client, or its operator, must be told."""

    code = "error"
    message = "The upload failed."

    def __init__(self, message: str = "", **facts: Any) -> None:
        self.message = message or self.message
        self.facts = facts
        super().__init__(self.message)


# The request cannot be understood, or contradicts the upload.


class Invalid(UploadError):
    """A value that no upload can have: a negative length, an unknown policy."""

    code = "invalid"
    message = "The request is not valid."


class WrongSize(Invalid):
    """A chunk not as long as its place in the file. Fact: ``expected`` (bytes)."""

    code = "wrong_size"
    message = "The chunk does not have the size of its place in the file."


class Truncated(UploadError):
    """The body ended before its end. Facts: ``received`` and ``expected`` (bytes)."""

    code = "truncated"
    message = "The body ended too early."


class Stalled(Truncated):
    """The line was silent for too long. Facts as for Truncated."""

    message = "No byte has come for too long."


class ShuttingDown(Truncated):
    """The server ends, and does not wait for the rest. Facts as for Truncated."""

    code = "shutting_down"
    message = "The server is being stopped. Go on in a moment."


class LengthRequired(UploadError):
    """The length of the body is unknown, and its end could not be told from a cut."""

    code = "length_required"
    message = "The request needs a Content-Length."


class ChecksumMismatch(UploadError):
    """The bytes are not those that the client has digested."""

    code = "checksum_mismatch"
    message = "The bytes do not match the digest that was sent with them."


# The caller may not.


class PermissionDenied(UploadError):
    """The policy refuses this owner."""

    code = "permission_denied"
    message = "You may not upload here."


class NotFound(UploadError):
    """No such upload, or it is somebody else's: the two look the same."""

    code = "not_found"
    message = "There is no such upload."


class TooLarge(UploadError):
    """More bytes than the policy, or the declared length, admits."""

    code = "too_large"
    message = "The file is too large."


class QuotaExceeded(TooLarge):
    """The owner's uploads together would hold more bytes than the policy admits."""

    code = "quota_exceeded"
    message = "Your uploads would take more space than you may use."


class TooManyUploads(UploadError):
    """The owner has as many open uploads as the policy admits. Fact: ``max_open``."""

    code = "too_many_uploads"
    message = "You have too many unfinished uploads. Finish or cancel one first."


class TypeNotAllowed(UploadError):
    """The policy does not take files of this type or extension."""

    code = "type_not_allowed"
    message = "Files of this type are not accepted here."


class Rejected(UploadError):
    """The project looked at the file, or at what was said of it, and refused for good.

    ``status``: what its protocol shall answer a refused opening with, 400 to 599, in
    place of what it has for this; for protocols that have such numbers.
    """

    code = "rejected"
    message = "The file was refused."

    def __init__(self, message: str = "", status: int | None = None, **facts: Any):
        if status is not None and not 400 <= status <= 599:
            raise ValueError(f"{status} is no status that refuses.")
        self.status = status
        super().__init__(message, **facts)


class Stopped(Rejected):
    """The project stopped the upload while it was being sent. Fact: ``state``."""

    code = "stopped"
    message = "The upload was stopped."


# The upload is not as the client believes.


class OffsetMismatch(UploadError):
    """An append not at the end. Fact: ``offset``, where the end is (bytes)."""

    code = "offset_mismatch"
    message = "The upload continues at another offset."

    def __init__(self, offset: int) -> None:
        super().__init__(offset=offset)


class Interrupted(UploadError):
    """Another request has taken the upload over. Fact: ``offset`` (bytes)."""

    code = "interrupted"
    message = "Another request has taken this upload over."


class ChunkConflict(UploadError):
    """Other bytes than those recorded under the same number. Fact: ``number``."""

    code = "chunk_conflict"
    message = "Other bytes are recorded under this number."


class WrongAddressing(UploadError):
    """Numbered chunks and appended bytes in the same upload. Fact: ``addressed_by``."""

    code = "addressing"
    message = "An upload is fed by numbered chunks or by appending, not by both."


class ClientKeyInUse(UploadError):
    """The owner has an open upload with this client key and another geometry."""

    code = "client_key_in_use"
    message = "You have another open upload with this client key."


class Incomplete(UploadError):
    """The client says it is done, and chunks are missing. Fact: ``missing``, ranges."""

    code = "incomplete"
    message = "Parts of the file are missing."


class NotReceiving(UploadError):
    """The upload takes no more chunks. Fact: ``state``."""

    code = "not_receiving"
    message = "The upload takes no more chunks."


class Gone(NotReceiving):
    """The upload was cancelled, has expired or was rejected. Fact: ``state``."""

    code = "gone"
    message = "The upload is gone. Start again with a new one."


# The server cannot, just now.


class StorageUnavailable(UploadError):
    """The store could not keep or give the bytes; trying again may help."""

    code = "storage_unavailable"
    message = "The file cannot be stored at the moment. Try again later."


class StorageFull(StorageUnavailable):
    """No space is left for the bytes."""

    code = "storage_full"
    message = "There is no space left to store the file."


class HookFailed(StorageUnavailable):
    """The project's own code was to decide, and failed; trying again may help."""

    code = "hook_failed"
    message = "It could not be decided about the file. Try again later."
