"""What every store has to keep, whatever it is made of."""

from __future__ import annotations

import errno
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence

import pytest

from resumable_uploads import errors
from resumable_uploads.stores import Piece, Place, Store
from resumable_uploads.stores.base import translated_errors

from ..making import content

ONE, TWO = uuid.uuid4(), uuid.uuid4()
SIZE = 1000


def blocks(data: bytes, size: int = 300) -> Iterator[memoryview]:
    """Yield blocks as bodies do: in one buffer that is used again and again."""
    buffer = bytearray(size)
    for start in range(0, len(data), size):
        block = data[start : start + size]
        buffer[: len(block)] = block
        yield memoryview(buffer)[: len(block)]


def full_disk(data: bytes) -> Iterator[memoryview]:
    """Yield some bytes, and then there is no space for more."""
    yield memoryview(data)
    raise OSError(errno.ENOSPC, "No space left on device")


def put(store: Store, upload_id: uuid.UUID, offset: int | None, data: bytes) -> Piece:
    """Write as one request does, and return what it has written."""
    writer = store.writer(upload_id, offset, len(data))
    try:
        return Piece(writer.write(blocks(data)), len(data))
    finally:
        writer.close()


def write(store: Store, offset: int | None, data: Iterable[memoryview]) -> Place:
    """Write as one request of the engine's does, with its errors."""
    writer = store.writer(ONE, offset, SIZE)
    try:
        with translated_errors():
            return writer.write(data)
    finally:
        writer.close()


def publish(
    store: Store, upload_id: uuid.UUID, pieces: Sequence[Piece], name: str = "a/f.bin"
) -> str:
    whole = store.join(upload_id, pieces)
    try:
        return whole.publish(name)
    finally:
        whole.close()


def in_store(store: Store, place: Place, size: int) -> bytes:
    with store.open(place) as stream:
        return stream.read(size)


def final_bytes(store: Store, name: str) -> bytes:
    with store.final.open(name) as file:
        return file.read()


def three_pieces(store: Store, data: bytes) -> list[Piece]:
    """Write data in three pieces, the last one first."""
    parts = [(start, data[start : start + SIZE]) for start in range(0, len(data), SIZE)]
    pieces = [put(store, ONE, start, part) for start, part in reversed(parts)]
    return pieces[::-1]


class StoreContract:
    """Inherit, and make a fixture ``store``."""

    data = content(3 * SIZE - 123)

    def test_what_was_written_is_read_where_it_was_put(self, store: Store):
        piece = put(store, ONE, 0, self.data)
        assert in_store(store, piece.place, piece.size) == self.data

    def test_keys_lie_in_the_uploads_own_folder(self, store: Store):
        for offset in (0, None):
            piece = put(store, ONE, offset, self.data)
            assert piece.place.key.startswith(f"{store.folder(ONE)}/")

    def test_a_writer_goes_on_after_its_last_piece(self, store: Store):
        writer = store.writer(ONE, 0, None)
        pieces = [Piece(writer.write(blocks(part)), 3) for part in (b"abc", b"def")]
        writer.close()
        assert final_bytes(store, publish(store, ONE, pieces)) == b"abcdef"

    def test_closing_a_writer_twice_is_harmless(self, store: Store):
        writer = store.writer(ONE, 0, 3)
        writer.close()
        writer.close()

    def test_pieces_that_came_in_any_order_make_the_file(self, store: Store):
        pieces = three_pieces(store, self.data)
        assert final_bytes(store, publish(store, ONE, pieces)) == self.data

    def test_the_order_of_the_pieces_is_the_callers(self, store: Store):
        first, second = put(store, ONE, 0, b"first"), put(store, ONE, 5, b"second")
        name = publish(store, ONE, [second, first])
        assert final_bytes(store, name) == b"secondfirst"

    def test_pieces_of_other_uploads_can_be_joined(self, store: Store):
        pieces = [put(store, ONE, 0, b"one, "), put(store, TWO, 0, b"two")]
        upload_id = uuid.uuid4()
        assert final_bytes(store, publish(store, upload_id, pieces)) == b"one, two"
        assert in_store(store, pieces[0].place, 5) == b"one, "

    def test_an_empty_file_is_a_file(self, store: Store):
        assert final_bytes(store, publish(store, ONE, [])) == b""

    def test_the_name_is_as_asked_where_it_is_free(self, store: Store):
        name = publish(store, ONE, [put(store, ONE, 0, b"x")], "deep/down/f.bin")
        assert name == "deep/down/f.bin"

    def test_a_file_is_never_published_over_another(self, store: Store):
        first = publish(store, ONE, [put(store, ONE, 0, b"first")])
        second = publish(store, TWO, [put(store, TWO, 0, b"second")])
        assert final_bytes(store, first) == b"first"
        assert final_bytes(store, second) == b"second"

    def test_joining_can_be_repeated_after_a_death_before_publishing(self, store):
        pieces = three_pieces(store, self.data)
        store.join(ONE, pieces).close()
        assert final_bytes(store, publish(store, ONE, pieces)) == self.data

    def test_joining_can_be_repeated_after_a_death_after_publishing(self, store):
        pieces = three_pieces(store, self.data)
        name = publish(store, ONE, pieces)
        if not store.is_published(ONE, name, len(self.data)):
            store.delete_file(ONE, name)
            name = publish(store, ONE, pieces)
        assert final_bytes(store, name) == self.data

    def test_nothing_is_published_before_it_is(self, store: Store):
        pieces = three_pieces(store, self.data)
        assert not store.is_published(ONE, "a/f.bin", len(self.data))
        store.join(ONE, pieces).close()
        assert not store.is_published(ONE, "a/f.bin", len(self.data))

    def test_the_file_of_another_is_not_taken_for_ones_own(self, store: Store):
        name = publish(store, TWO, [put(store, TWO, 0, self.data)])
        three_pieces(store, self.data)
        assert not store.is_published(ONE, name, len(self.data))

    def test_the_whole_is_read_across_its_pieces(self, store: Store):
        whole = store.join(ONE, three_pieces(store, self.data))
        with whole.open() as file:
            assert file.read(SIZE - 1) == self.data[: SIZE - 1]
            assert file.tell() == SIZE - 1
            assert file.read(10) == self.data[SIZE - 1 : SIZE + 9]
            assert file.seek(2 * SIZE - 5) == 2 * SIZE - 5
            assert file.read(10) == self.data[2 * SIZE - 5 : 2 * SIZE + 5]
            assert file.seek(-7, 2) == len(self.data) - 7
            assert file.read() == self.data[-7:]
            assert file.read() == b""
            file.seek(0)
            assert b"".join(file.chunks(97)) == self.data
        assert whole.size == len(self.data)
        whole.close()

    def test_the_whole_can_be_read_before_it_is_published(self, store: Store):
        whole = store.join(ONE, three_pieces(store, self.data))
        for _ in range(2):
            with whole.open() as file:
                assert file.read() == self.data
        name = whole.publish("f.bin")
        whole.close()
        assert final_bytes(store, name) == self.data

    def test_a_discarded_piece_does_no_harm_to_its_neighbours(self, store: Store):
        pieces = three_pieces(store, self.data)
        for offset in (len(self.data), None):
            writer = store.writer(ONE, offset, None)
            writer.discard(writer.write(blocks(b"not wanted")))
            writer.close()
        assert final_bytes(store, publish(store, ONE, pieces)) == self.data

    @pytest.mark.parametrize("offset", [0, None])
    def test_a_full_disk_leaves_no_partial_file(self, store: Store, offset):
        kept = put(store, ONE, SIZE, b"kept")
        before = stored(store, ONE)
        with pytest.raises(errors.StorageFull):
            write(store, offset, full_disk(b"partial"))
        assert stored(store, ONE) == before
        assert in_store(store, kept.place, 4) == b"kept"

    def test_what_was_cut_short_can_be_written_again(self, store: Store):
        for data in (full_disk(b"partial"), blocks(self.data)):
            writer = store.writer(ONE, 0, len(self.data))
            try:
                place = writer.write(data)
            except OSError:
                continue
            finally:
                writer.close()
        name = publish(store, ONE, [Piece(place, len(self.data))])
        assert final_bytes(store, name) == self.data

    def test_other_failures_are_told_as_unavailable(self, store: Store):
        def broken() -> Iterable[memoryview]:
            yield memoryview(b"partial")
            raise RuntimeError("a storage's own words")

        with pytest.raises(errors.StorageUnavailable) as caught:
            write(store, None, broken())
        assert "own words" not in caught.value.message

    def test_missing_bytes_never_make_a_shorter_file(self, store: Store):
        pieces = three_pieces(store, self.data)
        pieces.append(Piece(Place(pieces[-1].place.key, 10 * SIZE), 7))
        with pytest.raises(errors.StorageUnavailable):
            publish(store, ONE, pieces)

    def test_releasing_drops_all_bytes_of_the_upload_and_no_others(self, store: Store):
        mine = three_pieces(store, self.data)
        other = put(store, TWO, 0, b"other")
        name = publish(store, ONE, mine)
        store.release(ONE, [piece.place.key for piece in mine])
        assert stored(store, ONE) == []
        assert in_store(store, other.place, 5) == b"other"
        assert final_bytes(store, name) == self.data

    def test_releasing_drops_also_what_no_row_knows_of(self, store: Store):
        three_pieces(store, self.data)
        store.release(ONE)
        assert stored(store, ONE) == []

    def test_releasing_does_not_touch_keys_of_other_uploads(self, store: Store):
        other = put(store, TWO, 0, b"other")
        store.release(ONE, [other.place.key])
        assert in_store(store, other.place, 5) == b"other"

    def test_releasing_is_repeatable(self, store: Store):
        keys = [piece.place.key for piece in three_pieces(store, self.data)]
        store.release(ONE, keys)
        store.release(ONE, keys)
        store.release(uuid.uuid4())

    def test_uploads_are_those_that_have_bytes(self, store: Store):
        assert list(store.uploads()) == []
        put(store, ONE, 0, b"1")
        put(store, TWO, None, b"2")
        assert sorted(store.uploads()) == sorted([ONE, TWO])
        store.release(ONE)
        assert list(store.uploads()) == [TWO]

    def test_a_folder_knows_when_it_was_touched(self, store: Store):
        put(store, ONE, 0, b"1")
        assert abs(store.touched_at(ONE) - time.time()) < 60
        assert abs(store.touched_at(uuid.uuid4()) - time.time()) < 60

    def test_a_finished_file_can_be_deleted_twice(self, store: Store):
        name = publish(store, ONE, [put(store, ONE, 0, b"x")])
        store.delete_file(ONE, name)
        store.delete_file(ONE, name)
        assert not store.final.exists(name)


def stored(store: Store, upload_id: uuid.UUID) -> list[str]:
    """Return the names in an upload's folder; none where there is no folder."""
    try:
        return sorted(store.staging.listdir(store.folder(upload_id))[1])
    except FileNotFoundError:
        return []
