"""The verbs of uploads, their rules, and all their concurrency.

Three ideas make the verbs safe on any database and any number of hosts:

1. Bytes first, then the row. Slow work holds no transaction; a byte is there when the
   row of its chunk is committed, and not before.
2. A transaction begins with a conditional UPDATE of the session's row. It takes the
   lock and checks the state in one step, also where SELECT ... FOR UPDATE does nothing.
3. The last to ask wins. Whoever wants to append, or to know the offset, takes the
   lease; the forgotten request of a dead connection finds out at its next segment.

Nothing here knows of requests, statuses or task queues.
"""

from __future__ import annotations

from .appending import append
from .ending import (
    SETTLING_TAKES,
    among,
    cancel,
    chunk_keys,
    expire,
    expire_all,
    has_made_file,
    is_idle_since,
    is_overdue,
    overdue,
    reject,
    settle,
    settle_taken,
)
from .finding import (
    LAST_WORDS,
    find,
    find_by_key,
    find_gone,
    forget_key,
    not_overdue,
    take_offset,
)
from .finishing import REMIND_AFTER, finish, retry
from .joining import PARTS_KEPT_FOR, concatenate
from .measuring import declare_length
from .numbering import put_chunk
from .objects import (
    LAST,
    delete_object,
    find_object,
    is_being_made,
    objects_after,
    supersede,
)
from .opening import OPEN_TRIES, NewUpload, advised_chunk_size, open
from .parts import finish_with, put_part
from .quotas import NO_LIMIT, owner_of_upload
from .rewinding import reshape, restart, rewind, skip_known
from .rows import (
    FULL_STATES,
    SLIDE_STEP,
    WAITING_STATES,
    outcome,
    refreshed,
    upload_by_id,
)
from .writing import tidy

__all__ = [
    "FULL_STATES",
    "LAST",
    "LAST_WORDS",
    "NO_LIMIT",
    "NewUpload",
    "OPEN_TRIES",
    "PARTS_KEPT_FOR",
    "REMIND_AFTER",
    "SETTLING_TAKES",
    "SLIDE_STEP",
    "WAITING_STATES",
    "advised_chunk_size",
    "among",
    "append",
    "cancel",
    "chunk_keys",
    "concatenate",
    "declare_length",
    "delete_object",
    "expire",
    "expire_all",
    "find",
    "find_by_key",
    "find_gone",
    "find_object",
    "finish",
    "finish_with",
    "forget_key",
    "has_made_file",
    "is_being_made",
    "is_idle_since",
    "is_overdue",
    "not_overdue",
    "objects_after",
    "open",
    "outcome",
    "overdue",
    "owner_of_upload",
    "put_chunk",
    "put_part",
    "refreshed",
    "reject",
    "reshape",
    "restart",
    "retry",
    "rewind",
    "settle",
    "settle_taken",
    "skip_known",
    "supersede",
    "take_offset",
    "tidy",
    "upload_by_id",
]
