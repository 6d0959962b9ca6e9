"""The door for parts: what is recorded stays, whatever is sent in the place of it."""

from __future__ import annotations

import pytest

from resumable_uploads import engine

from .making import body, content, now, open_upload, read

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND, THIRD = (content(1024, seed) for seed in range(3))


@pytest.mark.parametrize("size", [1024, 4096, 3000, 100])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_part_of_another_size_harms_neither_itself_nor_its_neighbours(number, size):
    upload = open_upload(ends_when_full=False)
    parts = {1: FIRST, 2: SECOND, 3: THIRD}
    for place, data in parts.items():
        engine.put_part(now(upload), place, body(data))
    parts[number] = content(size, 7)
    engine.put_part(now(upload), number, body(parts[number]))
    engine.finish_with(now(upload), lambda parts: (parts, {}))
    assert read(upload) == b"".join(parts.values())
