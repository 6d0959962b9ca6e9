"""What is wrong with settings is said at start, with an id and a hint."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
from django.core.checks import registry, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from resumable_uploads import checks
from resumable_uploads.conf import DEFAULTS
from resumable_uploads.policies import UploadPolicy

from .making import use


class Videos(UploadPolicy):
    """A policy of a project."""

    max_size = 5


class NoPolicy:
    """Looks like one, and is none."""

    def __init__(self, name):
        self.name = name


def found(deploy=False):
    """Return the ids of what the checks of the app say."""
    messages = run_checks(tags=[checks.TAG], include_deployment_checks=deploy)
    return {message.id.removeprefix("resumable_uploads.") for message in messages}


def said(number):
    messages = run_checks(tags=[checks.TAG], include_deployment_checks=True)
    (message,) = [one for one in messages if one.id == f"resumable_uploads.{number}"]
    return message


def test_the_defaults_are_right(settings):
    settings.RESUMABLE_UPLOADS = {}
    assert found() == set()
    del settings.RESUMABLE_UPLOADS
    assert found() == set()


def test_the_demo_site_is_right():
    assert found() == set()


def test_every_setting_and_every_attribute_of_a_policy_has_its_rule():
    assert set(checks.RULES) == set(DEFAULTS)
    attributes = {
        name
        for name, value in vars(UploadPolicy).items()
        if not name.startswith("_")
        and not callable(value)
        and not isinstance(value, property)
    }
    assert set(checks.POLICY_RULES) == attributes


def test_the_defaults_follow_the_rules():
    for name, rule in checks.RULES.items():
        assert rule.fits(DEFAULTS[name]), name


def test_the_checks_ask_no_database_and_make_no_folder(settings, tmp_path):
    # Without the mark django_db, any query fails.
    settings.MEDIA_ROOT = tmp_path / "new" / "media"
    assert "W004" not in found(deploy=True)
    assert list(tmp_path.iterdir()) == []


def test_the_checks_have_a_tag_and_run_at_start(settings):
    assert registry.registry.tag_exists("resumable_uploads")
    use(settings, FSYNC="sometimes")
    with pytest.raises(SystemCheckError, match="resumable_uploads.E003"):
        call_command("check")


# Values


@pytest.mark.parametrize("value", [None, [], "x"])
def test_the_settings_are_one_dict(settings, value):
    settings.RESUMABLE_UPLOADS = value
    assert found(deploy=True) == {"E001"}


def test_a_misspelt_setting_is_found_and_the_right_one_named(settings):
    use(settings, RECORD_EXPIRE_IN=timedelta(days=1))
    assert found() == {"E002"}
    assert "'RECORD_EXPIRE_IN'" in said("E002").msg
    assert said("E002").hint == "Did you mean 'RECORDS_EXPIRE_IN'?"


def test_a_setting_like_no_other_is_to_be_removed(settings):
    use(settings, **{"xyz": 1})
    assert said("E002").hint == "Remove it."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RECORDS_EXPIRE_IN", 7),
        ("RECORDS_EXPIRE_IN", None),
        ("RECORDS_EXPIRE_IN", timedelta(0)),
        ("EXPIRE_AT_MOST", timedelta(days=-1)),
        ("TOMBSTONES_KEPT_FOR", timedelta(seconds=-1)),
        ("STALL_TIMEOUT", 30),
        ("IDLE_FLUSH", "1s"),
        ("ASSEMBLY_TIMEOUT", 60.0),
        ("HOUSEKEEPING_EVERY", 600),
        ("CHUNK_SIZE", 0),
        ("CHUNK_SIZE", "8 MiB"),
        ("MAX_CHUNK_SIZE", -1),
        ("MAX_CHUNKS", True),
        ("SEGMENT_SIZE", 8.0),
        ("BUFFER_SIZE", None),
        ("PARALLEL", 0),
        ("ASSEMBLY_ATTEMPTS", "8"),
        ("PURGE_BATCH_SIZE", 0),
        ("POLICIES", {}),
        ("POLICIES", ["default"]),
        ("RUNNER", None),
        ("STAGING_ROOT", "staging"),
        ("STAGING_ROOT", 5),
        ("STAGING_STORAGE", ""),
        ("STAGING_PREFIX", ""),
        ("STORES", []),
        ("FSYNC", "always"),
        ("FSYNC", None),
        ("SENDFILE", "X-Accel"),
        ("SENDFILE", True),
        ("SENDFILE_ROOT", "protected"),
        ("SENDFILE_ROOT", "/protected"),
        ("CAPABILITIES_EXPIRE_IN", timedelta(0)),
        ("BODY_FILES_ROOT", "bodies"),
        ("BODY_FILES_SECRET", None),
    ],
)
def test_a_wrong_value_is_found(settings, name, value):
    use(settings, **{name: value})
    assert found(deploy=True) == {"E003"}
    assert repr(name) in said("E003").msg
    assert said("E003").hint.startswith("Make it ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPIRE_AT_MOST", timedelta(days=30)),
        ("TOMBSTONES_KEPT_FOR", timedelta(0)),
        ("FSYNC", "never"),
        ("SENDFILE", "X-Sendfile"),
        ("STAGING_ROOT", Path("/tmp/staging")),
        ("STAGING_ROOT", "/tmp/staging"),
        ("MAX_CHUNKS", 1),
    ],
)
def test_a_right_value_is_not(settings, name, value):
    use(settings, **{name: value})
    assert not {one for one in found() if one.startswith("E")}


def test_an_unknown_setting_does_not_hide_a_wrong_one(settings):
    use(settings, FSYNC="always", fsync="never")
    assert found() == {"E002", "E003"}


def test_advised_chunks_are_not_larger_than_admitted_ones(settings):
    use(settings, CHUNK_SIZE=20, MAX_CHUNK_SIZE=10)
    assert found() == {"W001"}


# The runner


@pytest.mark.parametrize(
    "runner", ["cellery", "no.such.module.run", "resumable_uploads.conf.MIB"]
)
def test_a_runner_that_cannot_be_called_is_found(settings, runner):
    use(settings, RUNNER=runner)
    assert found() == {"E004"}


def test_celery_has_to_be_installed(settings):
    use(settings, RUNNER="celery")
    assert found() == set()
    with mock.patch.object(checks, "find_spec", return_value=None):
        assert found() == {"E004"}
        assert "[celery]" in said("E004").hint


def test_any_callable_may_be_the_runner(settings):
    use(settings, RUNNER="tests.making.lost_nudge")
    assert found() == set()


# Policies


@pytest.mark.parametrize(
    "entry",
    [
        "no.such.Policy",
        "resumable_uploads.policies.NoSuchPolicy",
        "tests.test_checks.NoPolicy",
        {"class": "no.such.Policy"},
        {"max_sise": 5},
        5,
    ],
)
def test_a_policy_that_cannot_be_made_is_found(settings, entry):
    use(settings, POLICIES={"default": entry})
    assert found(deploy=True) - {"W012", "I001"} == {"E005"}


@pytest.mark.parametrize(
    "entry",
    [
        "tests.test_checks.Videos",
        {"class": "tests.test_checks.Videos", "max_open": None},
        {"class": Videos, "quota": 10},
        {"allowed_types": ["image/*"], "expires_in": timedelta(hours=1)},
        {"digest": "sha-256", "upload_to": ""},
    ],
)
def test_a_policy_may_be_said_in_several_ways(settings, entry):
    use(settings, POLICIES={"default": entry})
    assert found() == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_size", "10 GB"),
        ("max_size", 0),
        ("quota", 1.5),
        ("max_open", -1),
        ("allowed_types", "image/png"),
        ("allowed_types", [5]),
        ("allowed_extensions", ".png"),
        ("anonymous", "no"),
        ("downloadable", None),
        ("upload_to", None),
        ("storage", None),
        ("expires_in", 7),
        ("expires_at_most", timedelta(0)),
        ("digest", "sha256"),
    ],
)
def test_a_wrong_attribute_of_a_policy_is_found(settings, name, value):
    use(settings, POLICIES={"default": {name: value}})
    assert "E006" in found()
    assert said("E006").msg.startswith(f"{name} of the policy 'default' is")


def test_clients_that_name_no_policy_need_a_default(settings):
    use(settings, POLICIES={"videos": {}}, BUCKETS={})
    assert found() == {"W002"}


# Buckets


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("Upper", {}),
        ("a", {}),
        ("a/b", {}),
        ("-ab", {}),
        ("demo", "default"),
        ("demo", {"policy": "unknown"}),
        ("demo", {"policy": ""}),
        ("demo", {"polcy": "default"}),
        ("demo", {"prefix": "{nobody}/"}),
        ("demo", {"prefix": "{"}),
        ("demo", {"prefix": 5}),
        ("demo", {"origins": "https://example.com"}),
        ("demo", {"min_part_size": "5 MiB"}),
        ("demo", {"min_part_size": -1}),
    ],
)
def test_a_wrong_bucket_is_found(settings, name, entry):
    use(settings, BUCKETS={name: entry})
    assert found() == {"E010"}


def test_a_misspelled_option_of_a_bucket_is_guessed(settings):
    use(settings, BUCKETS={"demo": {"polcy": "default"}})
    assert said("E010").hint == "Did you mean 'policy'?"


def test_a_bucket_with_all_its_options_is_right(settings):
    options = {"policy": "default", "prefix": "{owner}/{user}/", "origins": ["*"]}
    use(settings, BUCKETS={"demo": options | {"min_part_size": 0}})
    assert found() == set()


# Storages and folders


def test_a_policys_storage_has_to_be_there(settings):
    use(settings, POLICIES={"default": {"storage": "films"}})
    assert found() == {"E008"}
    assert "'films'" in said("E008").msg


def test_the_staging_storage_has_to_be_there(settings):
    use(settings, STAGING_STORAGE="films")
    assert found() == {"E008"}


def test_a_storage_that_cannot_be_made_is_found(settings):
    settings.STORAGES = settings.STORAGES | {"films": {"BACKEND": "no.such.Storage"}}
    use(settings, POLICIES={"default": {"storage": "films"}})
    assert found() == {"E008"}


@pytest.mark.parametrize(
    "store", ["no.such.Store", "resumable_uploads.conf.MIB", "tests.test_checks.Videos"]
)
def test_a_store_class_has_to_be_one(settings, store):
    use(settings, STORES={"some.Storage": store})
    assert found() == {"E007"}


def test_a_store_class_may_be_named(settings):
    use(settings, STORES={"some.Storage": "resumable_uploads.stores.base.Store"})
    assert found() == set()


@pytest.mark.parametrize("folder", ["", "inside", "a/b/c"])
@pytest.mark.parametrize("root", ["MEDIA_ROOT", "STATIC_ROOT", "STATICFILES_DIRS"])
def test_chunks_do_not_lie_where_files_are_served(settings, tmp_path, root, folder):
    served = tmp_path / "served"
    dirs = [tmp_path / "x", ("prefix", served)]
    setattr(settings, root, dirs if root == "STATICFILES_DIRS" else served)
    use(settings, STAGING_ROOT=served / folder)
    assert found() == {"E009"}
    assert str(served) in said("E009").msg


def test_a_link_does_not_hide_where_chunks_lie(settings, tmp_path):
    settings.MEDIA_ROOT.mkdir()
    link = tmp_path / "link"
    link.symlink_to(settings.MEDIA_ROOT)
    use(settings, STAGING_ROOT=link / "staging")
    assert found() == {"E009"}


def test_chunks_do_not_lie_in_the_folder_of_the_storage_itself(settings, tmp_path):
    films = tmp_path / "films"
    settings.STORAGES = settings.STORAGES | {
        "films": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": films},
        }
    }
    use(settings, POLICIES={"default": {"storage": "films"}}, STAGING_ROOT=films / "x")
    assert found() == {"E009"}


def test_a_folder_beside_is_right(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    use(settings, STAGING_ROOT=tmp_path / "media-2")
    assert found() == set()


def test_a_site_without_a_media_folder_is_told(settings):
    settings.MEDIA_ROOT = ""
    assert found() == {"W003"}


@pytest.mark.skipif(
    not os.path.ismount("/dev/shm"), reason="needs a second file system"
)
def test_copying_between_devices_is_told(settings):
    use(settings, STAGING_ROOT="/dev/shm/resumable-uploads/not-there/yet")
    assert found() == {"W004"}
    assert not Path("/dev/shm/resumable-uploads").exists()


# Deployment


@pytest.fixture
def deployed(settings):
    """A site that has done everything right."""
    settings.SESSION_COOKIE_SECURE = True
    use(settings, RUNNER="celery")
    return settings


def test_what_only_matters_in_production_is_only_said_there(deployed):
    deployed.SESSION_COOKIE_SECURE = False
    use(deployed, RUNNER="inline")
    assert found() == set()
    assert found(deploy=True) == {"W010", "W012", "I001"}


def test_a_site_that_does_everything_right_only_hears_of_its_folder(deployed):
    assert found(deploy=True) == {"I001"}
    assert str(deployed.MEDIA_ROOT) in said("I001").msg


def test_beat_has_to_have_a_schedule(deployed):
    app = checks.import_string("resumable_uploads.tasks.purge").app
    with mock.patch.dict(app.conf.beat_schedule, clear=True):
        assert found(deploy=True) == {"I001", "W011"}
        assert "resumable_uploads.purge" in said("W011").msg
        assert "resumable_uploads.resend" in said("W011").msg


def test_a_schedule_kept_somewhere_else_is_not_looked_for(deployed, monkeypatch):
    conf = checks.import_string("resumable_uploads.tasks.purge").app.conf
    scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
    monkeypatch.setitem(conf.changes, "beat_scheduler", scheduler)
    with mock.patch.dict(conf.beat_schedule, clear=True):
        assert found(deploy=True) == {"I001"}


def test_the_cookie_matters_only_where_visitors_may_upload(deployed):
    deployed.SESSION_COOKIE_SECURE = False
    use(deployed, POLICIES={"default": {"anonymous": False}})
    assert "W012" not in found(deploy=True)


def test_sessions_should_not_end_before_uploads_do(deployed):
    deployed.SESSION_COOKIE_AGE = 60 * 60
    assert "W013" in found(deploy=True)
    use(deployed, RECORDS_EXPIRE_IN=timedelta(hours=1))
    assert "W013" not in found(deploy=True)


# The documentation


def test_every_id_is_documented():
    root = Path(checks.__file__).resolve().parent.parent
    page = (root / "docs" / "operations.md").read_text()
    source = Path(checks.__file__).read_text()
    calls = re.findall(r"_(e)rror\(\s*(\d+),|_(w)arning\(\s*(\d+),", source)
    ids = {f"{(e or w).upper()}{int(m or n):03}" for e, m, w, n in calls} | {"I001"}
    assert len(ids) > 15
    listed = {line.split("`")[1] for line in page.splitlines() if line[:3] == "| `"}
    assert {f"resumable_uploads.{one}" for one in ids} <= listed


# Webhooks

SECRET = "whsec_" + "A" * 32


def webhook(**options):
    return {"url": "https://example.org/", "secret": SECRET, **options}


def test_a_right_webhook_is_right(settings):
    entry = webhook(events=["created"], form="tusd", policies=["default"])
    entry["secret"] = [SECRET, SECRET]
    use(settings, WEBHOOKS={"crm": entry})
    assert found() == set()


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {"url": "https://example.org/"},
        {"secret": SECRET},
        webhook(url="example.org"),
        webhook(url="ftp://example.org/"),
        webhook(url=None),
        webhook(secret="A" * 32),
        webhook(secret="whsec_AAAA"),
        webhook(secret="whsec_!"),
        webhook(secret=[]),
        webhook(events=["post-finish"]),
        webhook(events=[]),
        webhook(events="completed"),
        webhook(form="soap"),
        webhook(form="tusd", events=["failed"]),
        webhook(policies=["films"]),
        webhook(event=["completed"]),
    ],
    ids=range(17),
)
def test_a_wrong_webhook_is_an_error(settings, entry):
    use(settings, WEBHOOKS={"crm": entry})
    assert found() == {"E011"}


def test_a_secret_that_is_wrong_is_not_shown(settings):
    use(settings, WEBHOOKS={"crm": webhook(secret="nearly right")})
    assert "nearly" not in said("E011").msg + said("E011").hint


def test_a_webhook_in_clear_is_worth_a_thought(settings):
    use(settings, WEBHOOKS={"crm": webhook(url="http://example.org/")})
    assert "W014" in found(deploy=True)
    use(settings, WEBHOOKS={"crm": webhook()})
    assert "W014" not in found(deploy=True)


# Bodies in files


@pytest.mark.parametrize("secret", ["", "short"])
def test_files_of_bodies_need_a_secret(settings, tmp_path, secret):
    use(settings, BODY_FILES_ROOT=str(tmp_path / "in"), BODY_FILES_SECRET=secret)
    assert found() == {"E012"}
    use(settings, BODY_FILES_ROOT=str(tmp_path / "in"), BODY_FILES_SECRET="x" * 16)
    assert found() == set()


def test_files_of_bodies_must_not_be_served(settings):
    root = str(settings.MEDIA_ROOT / "in")
    use(settings, BODY_FILES_ROOT=root, BODY_FILES_SECRET="x" * 16)
    assert found() == {"E012"}
