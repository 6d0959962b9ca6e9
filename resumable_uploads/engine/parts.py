"""The door for parts: numbered as the client likes, of any sizes, until its manifest.

Where a part will lie in the file is known only at the end. Most clients make all parts
but the last of one size, so a part is written where it would then belong; if the
manifest says otherwise, the file is joined from where the parts lie. See
docs/architecture.md, "Parts".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import IntegrityError, connections, router

from .. import errors, runner
from ..body import Body
from ..changes import AtLeast, Plus, insert
from ..lookups import quoted_table
from ..models import Chunk, State, UploadSession
from ..policies import policy_of
from ..statements import Statement, kept
from ..stores import Place, Writer, store_for
from ..transactions import durable
from ..values import Preparers, prepared, preparers
from .ending import lenders
from .numbering import Outrun, advance, known_chunk, swap_chunk
from .quotas import room_for
from .rows import ENDED, check_receiving, receiving, refreshed, slide_if_near
from .watching import watched
from .writing import discard, is_same, new_chunk, writing, written

# Sizes that clients choose for their parts are multiples of it; rests are hardly ever.
ROUND = 1024

# From the recorded parts: those that make the file, and what is to be kept of them.
Choice = Callable[[Sequence[Chunk]], tuple[Sequence[Chunk], dict[str, Any]]]


@watched
def put_part(
    upload: UploadSession, number: int, body: Body, digests: Iterable[str] = ()
) -> Chunk:
    """Record a body as the part with a number; it takes the place of a former one.

    ``digests`` names those of the body that are kept with the part. The last request
    to end wins. Raise TooLarge, QuotaExceeded, Truncated, ChecksumMismatch,
    NotReceiving, Gone, NotFound, StorageUnavailable; nothing is kept of what is
    refused.
    """
    check_receiving(upload)
    slide_if_near(upload)
    room = room_for(upload, policy_of(upload))
    if body.length is not None and body.length > room:
        raise errors.TooLarge(max_size=room)
    store = store_for(upload.storage)
    offset = _guessed_offset(upload, number, body.length)
    with writing(store, upload, offset, body.length) as writer:
        # What was true when the request came may not be true any more, and only now
        # does the lock keep others from writing here.
        check_receiving(refreshed(upload))
        if offset is None or not _is_taken(upload, writer, offset, body.length or 0):
            return _store(upload, number, body, room, digests, writer)
    with writing(store, upload, None, body.length) as writer:
        return _store(upload, number, body, room, digests, writer)


def _guessed_offset(upload: UploadSession, number: int, size: int | None) -> int | None:
    """Return where a part belongs if all but the last are as long as the longest."""
    if not size:
        return None
    longest = max(upload.chunk_size or 0, size)
    is_guess = number == 1 or upload.chunk_size or size % ROUND == 0
    return (number - 1) * longest if is_guess else None


def _is_taken(upload: UploadSession, writer: Writer, offset: int, size: int) -> bool:
    """Tell whether recorded bytes lie where a writer would write in place."""
    if not writer.in_place:
        return False
    connection = connections[router.db_for_read(Chunk)]
    statement, prepare = kept(connection, _is_taken, lambda: _looking(connection))
    asked = [upload.pk, writer.shared_key, offset + size, offset]
    return statement.first(prepared(prepare, asked)) is not None


def _looking(connection: Any) -> tuple[Statement, Preparers]:
    names = ("upload", "key", "start", "size")
    fields: list[Any] = [Chunk._meta.get_field(name) for name in names]
    quote = connection.ops.quote_name
    upload, key, start, size = (quote(field.column) for field in fields)
    sql = f"""
        SELECT 1 FROM {quoted_table(Chunk, connection)}
        WHERE {upload} = %s AND {key} = %s
        AND {start} < %s AND {start} + {size} > %s LIMIT 1
    """  # nosec B608
    return Statement(connection, sql), preparers([*fields[:3], fields[2]], connection)


def _store(
    upload: UploadSession,
    number: int,
    body: Body,
    room: int,
    digests: Iterable[str],
    writer: Writer,
) -> Chunk:
    segment = body.whole(room)
    with written(writer, segment) as place:
        body.check_end()
        body.check_digests()
        chunk = new_chunk(upload, number, None, segment, place)
        chunk.digests = {name: body.digest(name).hex() for name in digests}
        return _record(upload, chunk, writer)


def _record(upload: UploadSession, chunk: Chunk, writer: Writer) -> Chunk:
    """Make a part count, in the place of the one with its number if there is one."""
    while True:
        try:
            with durable():
                _insert(upload, chunk)
            return chunk
        except IntegrityError:
            known = known_chunk(upload, chunk.number)
        except Outrun:
            raise errors.NotReceiving(state=upload.state) from None
        if known is None:
            # It was there a moment ago: another request has dropped it.
            continue
        if is_same(known, chunk) and known.digests == chunk.digests:
            discard(writer, Place(chunk.key, chunk.start))
            return known
        if swap_chunk(upload, known, chunk):
            if not lenders([upload.pk]):
                discard(writer, Place(known.key, known.start))
            return chunk
        check_receiving(refreshed(upload))


def _insert(upload: UploadSession, chunk: Chunk) -> None:
    changes: dict[str, Any] = {"chunk_count": Plus(1)}
    if chunk.size:
        changes["chunk_size"] = AtLeast(chunk.size)
    advance(upload, chunk.size, chunk.created_at, **changes)
    insert(chunk)


def finish_with(upload: UploadSession, choose: Choice) -> UploadSession:
    """Have the file made of the parts that are chosen, in the order of their numbers.

    ``choose`` is given the recorded parts while nobody can change them; what it raises
    leaves the upload as it is, and what it returns besides is added to the metadata.
    Return the upload, also one that takes no more parts.
    """
    with durable():
        if receiving(upload).update(**ENDED):
            parts = list(Chunk.objects.filter(upload=upload.pk).order_by("number"))
            chosen, facts = choose(parts)
            _keep_only(upload, parts, chosen, facts)
            runner.nudge(runner.ASSEMBLE, upload.pk)
    return refreshed(upload)


def _keep_only(
    upload: UploadSession,
    parts: Sequence[Chunk],
    chosen: Sequence[Chunk],
    facts: dict[str, Any],
) -> None:
    kept = {part.pk for part in chosen}
    dropped = [part.pk for part in parts if part.pk not in kept]
    Chunk.objects.filter(pk__in=dropped).delete()
    length = sum(part.size for part in chosen)
    UploadSession.objects.filter(pk=upload.pk, state=State.ASSEMBLING).update(
        length=length,
        received=length,
        chunk_count=len(chosen),
        metadata=upload.metadata | facts,
    )
