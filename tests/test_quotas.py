"""The bound of what an owner holds: never less than it is, and seldom counted anew."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Coalesce
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from resumable_uploads import engine, errors, retention
from resumable_uploads.engine import quotas
from resumable_uploads.models import OPEN_STATES, Holding, State, UploadSession
from resumable_uploads.policies import get_policy

from .making import ALICE, BOB, body, now, open_upload, use, use_policy

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nobody_assembles(settings: Any) -> None:
    use(settings, RUNNER="tests.making.lost_nudge")


def held(owner=ALICE):
    """Return what is there, added up."""
    rows = UploadSession.objects.filter(
        owner=owner.key, state__in=(*OPEN_STATES, State.COMPLETE)
    )
    return rows.aggregate(sum=Sum(Coalesce("length", "received")))["sum"] or 0


def bound(owner=ALICE):
    found = Holding.objects.filter(key=f"default\n{owner.key}").first()
    return found.held if found else None


def sums(call: Callable[[], Any]) -> int:
    """Return how often a call adds up what an owner holds."""
    with CaptureQueriesContext(connection) as asked:
        call()
    return sum("SUM(" in query["sql"] for query in asked)


def test_nothing_is_added_up_while_the_bound_leaves_room(settings):
    use_policy(settings, quota=1000, max_open=None)
    assert sums(lambda: open_upload(10)) == 1
    growing, parts = open_upload(), open_upload()
    for number in range(5):
        append = partial(engine.append, now(growing), number * 3, body(b"abc"))
        put = partial(engine.put_part, now(parts), number + 1, body(b"abc"))
        assert [sums(deed) for deed in (partial(open_upload, 10), append, put)] == [
            0
        ] * 3
    assert bound() == held() == 90


def test_what_has_gone_makes_room_once_it_is_needed(settings):
    use_policy(settings, quota=100, max_open=None)
    first = open_upload(60)
    engine.cancel(first)
    open_upload(30)
    assert (bound(), held()) == (90, 30)
    assert sums(lambda: open_upload(20)) == 1
    assert bound() == held() == 50


def test_who_is_refused_has_changed_nothing(settings):
    use_policy(settings, quota=100, max_open=None)
    open_upload(60)
    with pytest.raises(errors.QuotaExceeded):
        open_upload(41)
    assert bound() == held() == 60


def test_another_quota_holds_at_once(settings):
    use_policy(settings, quota=100)
    open_upload(60)
    use_policy(settings, quota=50)
    with pytest.raises(errors.QuotaExceeded):
        open_upload(1)
    use_policy(settings, quota=61)
    open_upload(1)


def test_a_file_longer_than_any_number_is_refused(settings):
    use_policy(settings, quota=10**30, max_size=None)
    open_upload(quotas.NO_LIMIT)
    use_policy(settings, quota=5, max_size=None)
    with pytest.raises(errors.QuotaExceeded):
        open_upload(quotas.NO_LIMIT)


def test_what_was_opened_without_a_quota_counts_after_the_next_housekeeping(settings):
    use_policy(settings, quota=100)
    open_upload(10)
    use_policy(settings, quota=None)
    open_upload(80)
    use_policy(settings, quota=100)
    assert bound() == 10
    Holding.objects.update(counted_at=timezone.now() - timedelta(hours=2))
    retention.housekeep()
    assert bound() is None
    with pytest.raises(errors.QuotaExceeded):
        open_upload(11)
    open_upload(10)
    assert bound() == held() == 100


@pytest.mark.parametrize("seed", range(6))
def test_the_bound_is_never_less_than_what_is_held(settings, seed):
    """Whatever is opened, grows, is declared, joined, thrown away, in any order."""
    use_policy(settings, quota=300, max_open=None)
    chance, uploads = random.Random(seed), []

    def opened():
        length = chance.choice([None, None, chance.randrange(40)])
        uploads.append(open_upload(length, owner=chance.choice([ALICE, ALICE, BOB])))

    def appended(upload):
        engine.append(upload, upload.received, body(b"x" * chance.randrange(30)))

    def put(upload):
        data = body(b"x" * chance.randrange(30))
        engine.put_part(upload, chance.randrange(1, 4), data)

    def declared(upload):
        engine.declare_length(upload, upload.received + chance.randrange(9))

    def joined(_):
        part = open_upload(7, ends_when_full=False)
        engine.append(part, 0, body(b"x" * 7))
        new = engine.NewUpload(filename="whole")
        parts = [now(part)] * 3
        engine.concatenate(ALICE, "test", get_policy("default"), new, parts)

    deeds = [appended, appended, put, put, declared, joined, engine.cancel]
    refused = 0
    for _ in range(60):
        try:
            opened()
            upload = now(chance.choice(uploads))
            chance.choice(deeds)(upload)
        except errors.QuotaExceeded:
            refused += 1
        except (errors.UploadError, AssertionError):
            continue
        for owner in (ALICE, BOB):
            assert held(owner) <= (bound(owner) or 0), owner
    assert refused
    # The whole of a file that is joined counts beside its parts, as it always did.
    assert held() <= 300 + 60 * 21


# The open ones


def test_those_that_count_as_open_are_counted(settings):
    use_policy(settings, quota=None, max_open=None)
    others = [open_upload(5) for _ in range(9)]
    part = open_upload(3, ends_when_full=False)
    engine.append(part, 0, body(b"abc"))
    engine.cancel(others[0])
    past = timezone.now() - timedelta(seconds=1)
    for changes, upload in zip(
        (
            {"expires_at": past},
            {"expires_at": past, "state": State.ASSEMBLING},
            {"expires_at": past, "state": State.FAILED},
            {"state": State.COMPLETE, "file": "f", "completed_at": past},
            {"owner": BOB.key},
            {"policy": "other"},
            {"ends_when_full": False, "length": None},
            {"ends_when_full": False, "length": 0},
        ),
        others[1:],
        strict=True,
    ):
        UploadSession.objects.filter(pk=upload.pk).update(**changes)
    policy = get_policy("default")
    # The one that is being assembled, the one of unknown length, and the empty one.
    assert quotas._count_open(policy, ALICE) == 3


def test_the_open_ones_are_found_among_any_number_of_files(settings):
    """By the index of just those, whatever the owner has finished."""
    use_policy(settings, quota=None, max_open=100)
    ended = open_upload(1)
    for _ in range(300):
        ended.pk, ended.state, ended._state.adding = uuid.uuid4(), State.EXPIRED, True
        ended.save(force_insert=True)
    if connection.vendor == "postgresql":
        # Of an almost empty table one index is as good as the other.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE resumable_uploads_uploadsession")
    with CaptureQueriesContext(connection) as asked:
        open_upload(1)
    [count] = [query["sql"] for query in asked if "COUNT(" in query["sql"]]
    with connection.cursor() as cursor, contextlib.ExitStack() as stack:
        explain = "EXPLAIN QUERY PLAN"
        if connection.vendor == "postgresql":
            explain = "EXPLAIN"
            # A table of one row is read as a whole.
            cursor.execute("SET LOCAL enable_seqscan = off")
            stack.callback(cursor.execute, "SET LOCAL enable_seqscan = on")
        cursor.execute(f"{explain} {count.replace('%', '%%')}", ())
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    assert "resumable_uploads_client_key" in plan, plan
