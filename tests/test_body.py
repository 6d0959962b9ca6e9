"""Bytes in motion: counted, cut, summed up; in no more memory than one buffer."""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest
from awscrt import checksums

from resumable_uploads import errors
from resumable_uploads.body import CHECKSUM, Body, Segment, checksum, combine
from resumable_uploads.sources import Idle

from .making import PAUSE, ScriptedSource, body, content, use

DATA = content(1000)


@pytest.fixture(autouse=True)
def _small(settings: Any) -> None:
    use(
        settings,
        BUFFER_SIZE=64,
        IDLE_FLUSH=timedelta(milliseconds=1),
        STALL_TIMEOUT=timedelta(milliseconds=30),
    )


def taken(segment: Segment) -> bytes:
    return b"".join(bytes(block) for block in segment)


def digests(data: bytes) -> dict[str, bytes]:
    return {
        "md5": hashlib.md5(data).digest(),
        "sha": hashlib.sha1(data).digest(),
        "sha-256": hashlib.sha256(data).digest(),
        "sha-512": hashlib.sha512(data).digest(),
        CHECKSUM: checksums.crc64nvme(data).to_bytes(8, "big"),
    }


# Segments


def test_a_body_is_cut_into_segments():
    brought = body(DATA)
    parts = []
    while not brought.ended:
        parts.append(taken(brought.segment(300)))
    assert [len(part) for part in parts] == [300, 300, 300, 100]
    assert b"".join(parts) == DATA
    assert brought.received == 1000
    assert not brought.truncated


def test_a_segment_knows_its_size_and_checksum():
    brought = body(DATA)
    segment = brought.segment(300)
    taken(segment)
    assert segment.size == 300
    assert segment.checksum == checksums.crc64nvme(DATA[:300])


def test_no_byte_of_the_next_segment_is_taken():
    brought = body(DATA)
    taken(brought.segment(70))
    assert brought.received == 70


def test_blocks_fill_the_buffer_whatever_the_line_brings():
    brought = body(*(DATA[i : i + 7] for i in range(0, 1000, 7)))
    sizes = [len(block) for block in brought.segment(1000)]
    assert sizes == [64] * 15 + [40]


def test_an_empty_body_has_ended_before_it_begins():
    brought = body()
    assert brought.ended
    assert not brought.truncated
    assert taken(brought.segment(10)) == b""


def test_a_pause_ends_a_segment_that_has_begun():
    brought = body(b"early", PAUSE, b"late")
    assert taken(brought.segment(100)) == b"early"
    assert not brought.ended
    assert taken(brought.segment(100)) == b"late"
    assert brought.ended


def test_a_client_that_dribbles_is_not_kept_waiting_for_a_full_segment():
    brought = body(*[b"drop", PAUSE] * 5)
    parts = []
    while not brought.ended:
        parts.append(taken(brought.segment(100)))
    assert parts == [b"drop"] * 5


def test_a_pause_before_the_first_byte_is_waited_for():
    brought = body(PAUSE, PAUSE, b"late")
    assert taken(brought.segment(100)) == b"late"


def test_a_pause_does_not_cut_a_body_that_is_wanted_whole():
    brought = body(b"early", PAUSE, PAUSE, b"late")
    assert taken(brought.whole(100)) == b"earlylate"


def test_a_line_that_stays_silent_is_given_up():
    class Silent(ScriptedSource):
        def readinto(self, view: memoryview, patience: float) -> int:
            if size := super().readinto(view, patience):
                return size
            time.sleep(patience)
            raise Idle

    brought = Body(Silent(b"early", length=10))
    begun = time.monotonic()
    assert taken(brought.whole(10)) == b"early"
    assert 0.03 <= time.monotonic() - begun < 5
    assert brought.ended
    assert brought.truncated


# Truncation


def test_a_body_that_is_too_short_is_truncated():
    brought = body(b"half", length=8)
    assert taken(brought.segment(8)) == b"half"
    assert brought.ended
    assert brought.truncated
    assert brought.received == 4


def test_a_body_of_unknown_length_ends_where_it_ends():
    brought = body(b"all", length=None)
    assert taken(brought.segment(100)) == b"all"
    assert brought.ended
    assert not brought.truncated


def test_a_body_of_unknown_length_whose_line_broke_is_truncated():
    brought = Body(ScriptedSource(b"some", length=None, broken=True))
    taken(brought.segment(100))
    assert brought.truncated


def test_a_body_is_not_truncated_before_it_has_ended():
    brought = body(DATA)
    taken(brought.segment(10))
    assert not brought.truncated


def test_the_end_of_a_body_that_was_cut_is_an_error():
    brought = body(b"half", length=8)
    taken(brought.whole(8))
    with pytest.raises(errors.Truncated) as caught:
        brought.check_end()
    assert caught.value.facts == {"received": 4, "expected": 8}


# Limits


def test_a_body_that_is_announced_too_long_is_refused_unread():
    brought = body(DATA)
    with pytest.raises(errors.TooLarge):
        brought.whole(999)
    assert brought.received == 0


def test_a_body_that_turns_out_too_long_is_found():
    brought = body(DATA, length=None)
    assert taken(brought.whole(999)) == DATA[:999]
    with pytest.raises(errors.TooLarge):
        brought.check_end()


def test_a_body_that_ends_where_it_must_is_not_too_long():
    brought = body(DATA, length=None)
    taken(brought.whole(1000))
    brought.check_end()
    assert brought.ended


# Digests


@pytest.mark.parametrize("algorithm", digests(b""))
def test_a_digest_is_right_or_wrong(algorithm):
    value = digests(DATA)[algorithm]
    brought = body(DATA, expected={algorithm: value})
    taken(brought.whole(1000))
    brought.check_digests()
    brought = body(DATA[::-1], expected={algorithm: value})
    taken(brought.whole(1000))
    with pytest.raises(errors.ChecksumMismatch) as caught:
        brought.check_digests()
    assert caught.value.facts == {"algorithm": algorithm}


def test_all_digests_count():
    expected = digests(DATA) | {"md5": b"wrong"}
    brought = body(DATA, expected=expected)
    taken(brought.whole(1000))
    with pytest.raises(errors.ChecksumMismatch, match="digest"):
        brought.check_digests()


@pytest.mark.parametrize("cut", [0, 1, 300, 999, 1000])
def test_checksums_of_two_stretches_make_that_of_both(cut):
    first, second = checksum(DATA[:cut]), checksum(DATA[cut:])
    assert combine(first, second, 1000 - cut) == checksum(DATA)


def test_a_checksum_can_be_gone_on_with():
    assert checksum(DATA[300:], checksum(DATA[:300])) == checksum(DATA)


def test_the_checksum_is_the_published_one():
    assert f"{checksum(b'123456789'):016x}" == "ae8b14860a799888"


# Draining


def test_draining_reads_so_many_bytes_and_no_more():
    brought = body(DATA)
    brought.drain(130)
    assert brought.received == 130


def test_draining_ends_with_the_body():
    brought = body(DATA)
    brought.drain(10**9)
    assert brought.ended
    assert brought.received == 1000


def test_draining_gives_up_on_a_client_that_dribbles():
    slow = [lambda: time.sleep(0.02), b"x"] * 1000
    brought = body(*slow)
    begun = time.monotonic()
    brought.drain(10**9, patience=0.1)
    assert time.monotonic() - begun < 2
    assert 0 < brought.received < 500


def test_draining_gives_up_on_a_client_that_is_silent():
    brought = body(*[lambda: time.sleep(0.01), PAUSE] * 1000, length=10)
    begun = time.monotonic()
    brought.drain(10, patience=0.05)
    assert time.monotonic() - begun < 2


def test_closing_gives_the_line_back():
    source = ScriptedSource(length=0)
    Body(source).close()
    assert source.closed


# Memory


class Endless:
    """Brings zeros for as long as asked."""

    def __init__(self, length: int) -> None:
        self.length = length

    def readinto(self, view: memoryview, patience: float) -> int:
        return len(view)

    def close(self) -> None:
        pass


def test_memory_does_not_grow_with_the_body(settings):
    use(settings, BUFFER_SIZE=64 * 1024)
    taken(body(b"the buffer is made").segment(100))
    tracemalloc.start()
    try:
        segment = Body(Endless(50 * 1024 * 1024)).segment(50 * 1024 * 1024)
        for _ in segment:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert segment.size == 50 * 1024 * 1024
    assert peak < 64 * 1024


def test_a_changed_buffer_size_is_heeded(settings):
    use(settings, BUFFER_SIZE=10)
    assert [len(block) for block in body(DATA).segment(25)] == [10, 10, 5]
