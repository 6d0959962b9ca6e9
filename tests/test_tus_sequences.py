"""Whatever clients say in whatever order: the file is what was acknowledged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from resumable_uploads.models import Chunk, State, UploadSession

from . import drafts, tus
from .rest import some_bytes
from .visitor import Visitor

SIZE = 60
DATA = some_bytes(SIZE)
SIZES = st.integers(0, SIZE + 3)
# None: where the upload ends.
STARTS = st.none() | SIZES


class Sequences(RuleBasedStateMachine):
    """One upload at the URLs where both protocols are spoken; a model is its offset."""

    @initialize(deferred=st.booleans(), size=SIZES)
    def create(self, deferred: bool, size: int) -> None:
        UploadSession.objects.all().delete()
        self.me = Visitor()
        self.length = None if deferred else SIZE
        self.offset = size if size <= SIZE else 0
        body = DATA[: self.offset]
        self.url = tus.create(self.me, self.length, body, url=drafts.URL)
        self.is_over = self.length == self.offset
        self.is_deleted = False

    @property
    def row(self) -> UploadSession:
        return UploadSession.objects.get()

    def goes_on(self) -> bool:
        return not self.is_deleted

    @precondition(goes_on)
    @rule(start=STARTS, size=SIZES, kind=st.sampled_from(["plain", "pieces", "digest"]))
    def patch(self, start: int | None, size: int, kind: str) -> None:
        """Send bytes, that may or may not belong where they are sent."""
        start = self.offset if start is None else start
        data = (DATA + b"xyz")[start : start + size]
        body: Any = iter([data]) if kind == "pieces" else data
        more = tus.checksum(data) if kind == "digest" else {}
        answer = tus.patch(self.me, self.url, start, body, **more)
        if start != self.offset:
            assert answer.status == 409
            assert answer.headers["Upload-Offset"] == str(self.offset)
        elif self.length is not None and start + len(data) > SIZE:
            assert answer.status == 413
            # Of what is not announced, what fits is kept.
            self.take(SIZE - start if kind == "pieces" else 0)
        else:
            assert answer.status == 204
            assert answer.headers["Upload-Offset"] == str(start + len(data))
            self.take(len(data))

    @precondition(goes_on)
    @rule(size=SIZES, part=st.floats(0, 1), digest=st.booleans())
    def cut(self, size: int, part: float, digest: bool) -> None:
        """Break off in the middle of what would be right."""
        data = DATA[self.offset : min(self.offset + size, SIZE)]
        after = int(part * len(data))
        more = tus.checksum(data) if digest else {}
        answer = tus.cut(self.me, self.url, self.offset, data, after, **more)
        assert answer.status == (204 if after == len(data) else 400)
        self.take(0 if digest and after < len(data) else after)

    @precondition(goes_on)
    @rule(length=SIZES)
    def measure(self, length: int) -> None:
        """Say how long the file is; once it is said it stays."""
        if self.length is None and length >= self.offset:
            # Any other would do as well; the model knows only one.
            length = self.length = SIZE
        answer = tus.patch(self.me, self.url, self.offset, b"", Upload_Length=length)
        assert answer.status == (204 if length == self.length else 400)
        self.take(0)

    @precondition(goes_on)
    @rule(start=STARTS, size=SIZES)
    def append(self, start: int | None, size: int) -> None:
        """Send bytes in the words of the draft."""
        start = self.offset if start is None else start
        data = DATA[start : start + size]
        answer = drafts.append(self.me, self.url, start, data)
        if start != self.offset:
            assert answer.status == 409
        else:
            assert answer.status == 204
            self.take(len(data))

    @precondition(goes_on)
    @rule()
    def ask(self) -> None:
        assert tus.offset_of(self.me, self.url) == self.offset
        told = drafts.head(self.me, self.url).headers
        assert told["Upload-Offset"] == str(self.offset)
        assert told["Upload-Complete"] == ("?1" if self.is_over else "?0")

    @precondition(goes_on)
    @rule()
    def get(self) -> None:
        answer = self.me.get(self.url)
        if self.is_over:
            assert answer.body == DATA
        else:
            assert answer.status == 404

    @rule()
    def delete(self) -> None:
        answer = tus.delete(self.me, self.url)
        assert answer.status == (404 if self.is_deleted else 204)
        self.is_deleted = True

    def take(self, size: int) -> None:
        self.offset += size
        self.is_over = self.offset == self.length

    @invariant()
    def the_rows_are_what_was_acknowledged(self) -> None:
        if not hasattr(self, "url") or self.is_deleted:
            return
        row = self.row
        assert row.received == self.offset
        assert (row.state == State.COMPLETE) == self.is_over
        if not self.is_over:
            sizes = Chunk.objects.values_list("size", flat=True)
            assert sum(sizes) == self.offset


@pytest.mark.django_db
@pytest.mark.once
def test_the_file_is_what_was_acknowledged():
    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=25,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
