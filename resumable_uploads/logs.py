"""What happens to uploads, in the log; and formatters that keep a record one line.

The logger ``resumable_uploads.uploads`` tells of each upload when it is opened and when
it ends. No record has a visitor's token, a file's name, a header or a query.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator
from typing import Any

from . import signals

log = logging.getLogger("resumable_uploads.uploads")

# What every record has by itself, and what belongs to a request: of that only its
# status is anybody's business.
_OWN = {*vars(logging.makeLogRecord({})), "asctime", "message", "taskName", "request"}
_PLAIN = str | int | float | bool | None


class LineFormatter(logging.Formatter):
    """Text, whose message cannot begin a new line, and so cannot forge a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; ``upload_id`` is there where a record is about one."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if ids := list(_ids(record.args)):
            said["upload_id"] = str(ids[0])
        said |= {
            name: value
            for name, value in vars(record).items()
            if name not in _OWN and isinstance(value, _PLAIN)
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said)


def one_line(text: str) -> str:
    """Return text with its control characters written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _ids(arguments: Any) -> Iterator[uuid.UUID]:
    """Yield the ids of uploads among the arguments of a record."""
    if isinstance(arguments, uuid.UUID):
        yield arguments
    elif isinstance(arguments, tuple):
        for one in arguments:
            yield from _ids(one)


def connect() -> None:
    """Have the events of uploads logged."""
    signals.hear("log", _note)


def _note(event: str, upload: Any) -> None:
    facts = {
        "event": event,
        "protocol": upload.protocol,
        "policy": upload.policy,
        "size": upload.length,
        "received": upload.received,
        # A visitor is known by a secret.
        "owner": upload.owner if upload.user_id else "visitor",
    }
    if upload.error_code:
        facts["error_code"] = upload.error_code
    log.info(
        "Upload %s was %s: %s of %s bytes, %s, %s",
        upload.pk,
        event,
        upload.received,
        "unknown" if upload.length is None else upload.length,
        upload.protocol,
        facts["owner"],
        extra=facts,
    )
