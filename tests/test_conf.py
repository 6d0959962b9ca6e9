"""Settings and policies are looked up once, and anew when settings change."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import override_settings

from resumable_uploads import conf
from resumable_uploads.conf import DEFAULTS, seconds, setting
from resumable_uploads.policies import UploadPolicy, get_policy

from .rest import change, policies

pytestmark = pytest.mark.once


def test_a_changed_setting_is_seen_at_once(settings):
    assert setting("PARALLEL") == DEFAULTS["PARALLEL"]
    change(settings, PARALLEL=7)
    assert setting("PARALLEL") == 7
    with override_settings(RESUMABLE_UPLOADS={"PARALLEL": 8}):
        assert setting("PARALLEL") == 8
        with override_settings(RESUMABLE_UPLOADS={}):
            assert setting("PARALLEL") == DEFAULTS["PARALLEL"]
    assert setting("PARALLEL") == 7


def test_a_duration_that_was_changed_is_seen_at_once(settings):
    for wanted in (3, 5):
        change(settings, IDLE_FLUSH=timedelta(seconds=wanted))
        assert seconds("IDLE_FLUSH") == wanted


def test_who_was_just_looking_up_leaves_no_old_value(settings):
    """A thread may have begun to look before the settings changed."""
    before = conf._values
    change(settings, PARALLEL=7)
    before["PARALLEL"] = 3
    assert setting("PARALLEL") == 7


def test_other_settings_leave_them_as_they_are(settings):
    before = conf._values
    settings.LANGUAGE_CODE = "de"
    assert conf._values is before


def test_an_unknown_setting_is_a_mistake():
    with pytest.raises(KeyError):
        setting("NO_SUCH_THING")


def test_one_policy_answers_until_its_entry_changes(settings):
    policies(settings, default={"max_size": 1}, other={"max_size": 2})
    first = get_policy("default")
    assert get_policy("default") is first
    assert get_policy("other").max_size == 2
    # Another setting changes nothing about it.
    change(settings, PARALLEL=7)
    assert get_policy("default") is first
    policies(settings, default={"max_size": 3})
    assert get_policy("default").max_size == 3
    policies(settings, default=f"{__name__}.Small")
    assert get_policy("default").max_size == 4


def test_equal_entries_under_two_names_are_two_policies(settings):
    entry = {"max_size": 1}
    policies(settings, default=entry, other=entry)
    assert [get_policy(name).name for name in ("default", "other")] == [
        "default",
        "other",
    ]


class Small(UploadPolicy):
    max_size = 4
