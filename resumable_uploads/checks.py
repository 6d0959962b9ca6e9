"""System checks: wrong settings are said at start, with a hint.

They ask no network and no database, and make no folder. `uploads_doctor` tries what
can only be found out by trying. docs/operations.md lists the ids.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.files.storage import FileSystemStorage
from django.utils.module_loading import import_string

from .body import CHECKSUM, DIGESTS
from .buckets import NAME
from .conf import DEFAULTS, setting
from .hooks import FAILED as HOOK_FAILED
from .outbox import EVENTS
from .payloads import FORMS
from .policies import UploadPolicy, make_policy
from .runner import RUNNERS
from .schedule import BEAT_SCHEDULE
from .stores import Store, store_for
from .stores.filesystem import FilesystemStore
from .webhooks import SECRET_PREFIX, key_of

TAG = "resumable_uploads"


def register() -> None:
    """Register the checks with Django."""
    checks.register(check_settings, TAG)
    checks.register(check_deployment, TAG, deploy=True)


def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the values in RESUMABLE_UPLOADS, and what they name."""
    chosen = getattr(settings, "RESUMABLE_UPLOADS", {})
    if not isinstance(chosen, dict):
        return [_error(1, "RESUMABLE_UPLOADS is not a dict.", "Make it one.")]
    unknown, wrong = list(_unknown(chosen)), list(_wrong_values(chosen))
    if wrong:
        # What follows would stumble over them.
        return [*unknown, *wrong]
    return [
        *unknown,
        *_runner(),
        *_sizes(),
        *_policies(),
        *_stores(),
        *_storages(),
        *_buckets(),
        *_webhooks(),
        *_body_files(),
    ]


def _error(number: int, message: str, hint: str = "") -> CheckMessage:
    return checks.Error(message, hint=hint or None, id=f"{TAG}.E{number:03}")


def _warning(number: int, message: str, hint: str = "") -> CheckMessage:
    return checks.Warning(message, hint=hint or None, id=f"{TAG}.W{number:03}")


# Values


@dataclass(frozen=True)
class Rule:
    """What a value must be: a test, and the same in words."""

    fits: Callable[[Any], bool]
    words: str

    def or_none(self) -> Rule:
        return Rule(
            lambda value: value is None or self.fits(value), f"None or {self.words}"
        )


def _is_duration(value: Any) -> bool:
    return isinstance(value, timedelta) and value > timedelta(0)


def _is_duration_or_zero(value: Any) -> bool:
    return _is_duration(value) or value == timedelta(0)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_absolute(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and os.path.isabs(value)


def _is_words(value: Any) -> bool:
    return isinstance(value, list | tuple | set) and all(
        isinstance(word, str) for word in value
    )


def _one_of(*choices: Any) -> Rule:
    return Rule(
        lambda value: value in choices, f"one of {', '.join(map(repr, choices))}"
    )


DURATION = Rule(_is_duration, "a timedelta greater than zero")
POSITIVE = Rule(_is_positive, "a whole number greater than zero")
TEXT = Rule(lambda value: isinstance(value, str) and value != "", "a string, not empty")
FLAG = Rule(lambda value: isinstance(value, bool), "True or False")
FOLDER = Rule(_is_absolute, "an absolute path")
WORDS = Rule(_is_words, "a list or tuple of strings")
TABLE = Rule(lambda value: isinstance(value, Mapping), "a dict")

# Characters of a secret that nobody guesses.
LEAST_SECRET = 16

RULES = {
    "POLICIES": Rule(lambda value: TABLE.fits(value) and value, "a dict, not empty"),
    "RECORDS_EXPIRE_IN": DURATION,
    "EXPIRE_AT_MOST": DURATION.or_none(),
    "TOMBSTONES_KEPT_FOR": Rule(_is_duration_or_zero, "a timedelta, not negative"),
    "CHUNK_SIZE": POSITIVE,
    "MAX_CHUNK_SIZE": POSITIVE,
    "MAX_CHUNKS": POSITIVE,
    "SEGMENT_SIZE": POSITIVE,
    "BUFFER_SIZE": POSITIVE,
    "STALL_TIMEOUT": DURATION,
    "IDLE_FLUSH": DURATION,
    "PROGRESS_EVERY": DURATION,
    "PARALLEL": POSITIVE,
    "RUNNER": TEXT,
    "ASSEMBLY_TIMEOUT": DURATION,
    "ASSEMBLY_ATTEMPTS": POSITIVE,
    "STAGING_ROOT": FOLDER.or_none(),
    "STAGING_STORAGE": TEXT.or_none(),
    "STAGING_PREFIX": TEXT,
    "STORES": TABLE,
    "FSYNC": _one_of("finish", "chunk", "never"),
    "SENDFILE": _one_of(None, "X-Accel-Redirect", "X-Sendfile"),
    "SENDFILE_ROOT": Rule(
        lambda value: isinstance(value, str) and value[:1] == value[-1:] == "/",
        'a path that begins and ends with "/"',
    ),
    "CORS_ORIGINS": WORDS,
    "CORS_CREDENTIALS": FLAG,
    "INTERIM_RESPONSES": FLAG,
    "BUCKETS": TABLE,
    "CREDENTIALS_EXPIRE_IN": DURATION,
    "WEBHOOKS": TABLE,
    "WEBHOOK_TIMEOUT": DURATION,
    "WEBHOOK_ATTEMPTS": POSITIVE,
    "WEBHOOKS_KEPT_FOR": DURATION,
    "BODY_FILES_ROOT": FOLDER.or_none(),
    "BODY_FILES_SECRET": Rule(lambda value: isinstance(value, str), "a string"),
    "CAPABILITIES_EXPIRE_IN": DURATION.or_none(),
    "PURGE_BATCH_SIZE": POSITIVE,
    "HOUSEKEEPING_EVERY": DURATION,
}

POLICY_RULES = {
    "max_size": POSITIVE.or_none(),
    "allowed_types": WORDS,
    "allowed_extensions": WORDS,
    "quota": POSITIVE.or_none(),
    "max_open": POSITIVE.or_none(),
    "anonymous": FLAG,
    "downloadable": FLAG,
    "capability_urls": FLAG,
    "storage": TEXT,
    "upload_to": Rule(lambda value: isinstance(value, str), "a string"),
    "expires_in": DURATION.or_none(),
    "expires_at_most": DURATION.or_none(),
    "digest": _one_of("", CHECKSUM, *DIGESTS),
}


def _unknown(chosen: dict[Any, Any]) -> Iterator[CheckMessage]:
    for name in chosen:
        if name not in DEFAULTS:
            close = difflib.get_close_matches(str(name), DEFAULTS, 1)
            hint = f"Did you mean {close[0]!r}?" if close else "Remove it."
            yield _error(2, f"RESUMABLE_UPLOADS has no setting {name!r}.", hint)


def _wrong_values(chosen: dict[Any, Any]) -> Iterator[CheckMessage]:
    for name, rule in RULES.items():
        if name in chosen and not rule.fits(chosen[name]):
            yield _error(
                3,
                f"RESUMABLE_UPLOADS[{name!r}] is {chosen[name]!r}.",
                f"Make it {rule.words}.",
            )


def _sizes() -> Iterator[CheckMessage]:
    if setting("CHUNK_SIZE") > setting("MAX_CHUNK_SIZE"):
        yield _warning(
            1,
            "CHUNK_SIZE is greater than MAX_CHUNK_SIZE.",
            "Clients are advised to send chunks that are refused.",
        )


def _runner() -> Iterator[CheckMessage]:
    chosen = setting("RUNNER")
    if chosen == "celery" and find_spec("celery") is None:
        yield _error(
            4,
            'RUNNER is "celery", and Celery is not installed.',
            'Install "django-resumable-uploads[celery]", or use "inline".',
        )
    elif chosen not in RUNNERS and not callable(_imported(chosen)):
        yield _error(
            4,
            f"RUNNER {chosen!r} cannot be imported, or cannot be called.",
            'Use "inline", "celery" or the dotted path of a callable.',
        )


def _imported(path: Any) -> Any:
    """Return what a dotted path names, or None."""
    if not isinstance(path, str):
        return path
    try:
        return import_string(path)
    except ImportError:
        return None


# Policies


def _policies() -> Iterator[CheckMessage]:
    if "default" not in setting("POLICIES"):
        yield _warning(
            2,
            'There is no policy "default".',
            "Clients that name no policy are refused.",
        )
    for name, entry in setting("POLICIES").items():
        try:
            policy = make_policy(name, entry)
        except Exception as error:
            yield _error(
                5,
                f"The policy {name!r} cannot be made: {error}",
                "Use the dotted path of an UploadPolicy, or a dict of its attributes.",
            )
        else:
            yield from _policy(policy)


def _policy(policy: Any) -> Iterator[CheckMessage]:
    if not isinstance(policy, UploadPolicy):
        yield _error(5, f"The policy {type(policy).__name__} is no UploadPolicy.")
        return
    for name, rule in POLICY_RULES.items():
        value = getattr(policy, name)
        if not rule.fits(value):
            yield _error(
                6,
                f"{name} of the policy {policy.name!r} is {value!r}.",
                f"Make it {rule.words}.",
            )


def _good_policies() -> Iterator[UploadPolicy]:
    for name, entry in setting("POLICIES").items():
        try:
            policy = make_policy(name, entry)
        except Exception:  # nosec B112
            # Another check tells of it.
            continue
        if isinstance(policy, UploadPolicy):
            yield policy


# Storages and folders


def _stores() -> Iterator[CheckMessage]:
    for storage, store in setting("STORES").items():
        found = _imported(store)
        if not (isinstance(found, type) and issubclass(found, Store)):
            yield _error(
                7,
                f"STORES has no store class for {storage!r}: {store!r}.",
                "Use the dotted path of a subclass of Store.",
            )


def _storages() -> Iterator[CheckMessage]:
    aliases = {str(policy.storage) for policy in _good_policies()}
    if setting("STAGING_STORAGE"):
        aliases.add(setting("STAGING_STORAGE"))
    for alias in sorted(aliases):
        if alias not in settings.STORAGES:
            yield _error(
                8,
                f"The storage {alias!r} is not in STORAGES.",
                "Add it there, or name another one in the policy or STAGING_STORAGE.",
            )
            continue
        try:
            store = store_for(alias)
        except Exception as error:
            yield _error(8, f"The storage {alias!r} cannot be made: {error}")
        else:
            yield from _folders(alias, store)


def _folders(alias: str, store: Store) -> Iterator[CheckMessage]:
    if not isinstance(store, FilesystemStore):
        return
    if not store.final.base_location:
        yield _warning(
            3,
            f"The storage {alias!r} has no folder, so files go where the site runs.",
            "Set MEDIA_ROOT, or the storage's location.",
        )
    for folder in _served_folders(store.final):
        if _lies_in(store.root, folder):
            yield _error(
                9,
                f"Chunks lie in {store.root}, within {folder}, which may be served.",
                "Set STAGING_ROOT to a folder of its own.",
            )
            break
    if _device(store.root) != _device(Path(store.final.location)):
        yield _warning(
            4,
            f"{store.root} and {store.final.location} are on different devices.",
            "Each finished file is copied, not renamed. Move STAGING_ROOT.",
        )


def _served_folders(final: FileSystemStorage) -> Iterator[Path]:
    listed = getattr(settings, "STATICFILES_DIRS", ())
    roots: Iterable[Any] = (
        final.location,
        settings.MEDIA_ROOT,
        settings.STATIC_ROOT,
        *(entry[1] if isinstance(entry, list | tuple) else entry for entry in listed),
    )
    return (Path(root) for root in roots if root)


def _lies_in(folder: Path, other: Path) -> bool:
    return folder.resolve().is_relative_to(other.resolve())


def _device(folder: Path) -> int:
    """Return the device of a folder, or of where it would be made."""
    while not folder.exists():
        folder = folder.parent
    return os.stat(folder).st_dev


def _body_files() -> Iterator[CheckMessage]:
    root = setting("BODY_FILES_ROOT")
    if root is None:
        return
    if len(setting("BODY_FILES_SECRET")) < LEAST_SECRET:
        yield _error(
            12,
            "BODY_FILES_ROOT is set, and BODY_FILES_SECRET is too short.",
            "Without it, any client could name files. "
            f"Make it at least {LEAST_SECRET} random characters.",
        )
    stores = [store_for(policy.storage) for policy in _good_policies()]
    finals = [store.final for store in stores if isinstance(store, FilesystemStore)]
    folders = {folder for final in finals for folder in _served_folders(final)}
    if any(_lies_in(Path(root), folder) for folder in folders):
        yield _error(
            12,
            f"Bodies lie in {root}, which may be served.",
            "Set BODY_FILES_ROOT to a folder of its own.",
        )


# Buckets

BUCKET_RULES = {
    "policy": TEXT,
    "prefix": Rule(lambda value: isinstance(value, str), "a string"),
    "origins": WORDS,
    "min_part_size": Rule(
        lambda value: isinstance(value, int) and value >= 0, "a number of bytes"
    ).or_none(),
}


def _buckets() -> Iterator[CheckMessage]:
    for name, entry in setting("BUCKETS").items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield _error(
                10,
                f"{name!r} is no name of a bucket.",
                "Use 3 to 63 lower case letters, digits and hyphens.",
            )
        if not isinstance(entry, Mapping):
            yield _error(10, f"The bucket {name!r} is {entry!r}.", "Make it a dict.")
        else:
            yield from _bucket(name, entry)


def _bucket(name: str, entry: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for option, value in entry.items():
        rule = BUCKET_RULES.get(option)
        if rule is None:
            close = difflib.get_close_matches(str(option), BUCKET_RULES, 1)
            hint = f"Did you mean {close[0]!r}?" if close else "Remove it."
            yield _error(10, f"The bucket {name!r} has no option {option!r}.", hint)
        elif not rule.fits(value):
            hint = f"Make it {rule.words}."
            yield _error(10, f"{option} of the bucket {name!r} is {value!r}.", hint)
    if entry.get("policy", "default") not in setting("POLICIES"):
        hint = "Name one of the setting POLICIES."
        yield _error(10, f"The bucket {name!r} has an unknown policy.", hint)
    if not _is_prefix(entry.get("prefix", "")):
        hint = 'Use "{owner}" and "{user}"; write other braces twice.'
        yield _error(10, f"The prefix of the bucket {name!r} is malformed.", hint)


def _is_prefix(prefix: Any) -> bool:
    try:
        str(prefix).format(owner="", user="")
    except (LookupError, ValueError):
        return False
    return True


# Webhooks

# The shortest key that Standard Webhooks lets be one, and the longest, in bytes.
KEY_SIZES = range(24, 65)


def _is_url(value: Any) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except (TypeError, ValueError, AttributeError):
        return False


def _is_secret(value: Any) -> bool:
    try:
        return value.startswith(SECRET_PREFIX) and len(key_of(value)) in KEY_SIZES
    except (AttributeError, ValueError):
        return False


def _are_secrets(value: Any) -> bool:
    secrets = value if isinstance(value, list | tuple) else [value]
    return bool(secrets) and all(map(_is_secret, secrets))


WEBHOOK_RULES = {
    "url": Rule(_is_url, "an absolute URL, https or http"),
    "secret": Rule(
        _are_secrets,
        f'"{SECRET_PREFIX}" and 24 to 64 bytes in base64, or a list of such',
    ),
    "events": Rule(
        lambda value: _is_words(value) and value and set(value) <= set(EVENTS),
        f"a list of some of {', '.join(EVENTS)}",
    ),
    "form": _one_of(*FORMS),
    "policies": WORDS,
}


def _webhooks() -> Iterator[CheckMessage]:
    for name, entry in setting("WEBHOOKS").items():
        if not isinstance(entry, Mapping):
            yield _error(11, f"The webhook {name!r} is {entry!r}.", "Make it a dict.")
        else:
            yield from _webhook(name, entry)


def _webhook(name: str, entry: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for option in ("url", "secret"):
        if option not in entry:
            yield _error(11, f"The webhook {name!r} has no {option}.", "Add it.")
    for option, value in entry.items():
        rule = WEBHOOK_RULES.get(option)
        if rule is None:
            close = difflib.get_close_matches(str(option), WEBHOOK_RULES, 1)
            hint = f"Did you mean {close[0]!r}?" if close else "Remove it."
            yield _error(11, f"The webhook {name!r} has no option {option!r}.", hint)
        elif not rule.fits(value):
            # A secret that is almost right is still one.
            shown = "not a possible one" if option == "secret" else repr(value)
            hint = f"Make it {rule.words}."
            yield _error(11, f"{option} of the webhook {name!r} is {shown}.", hint)
    if entry.get("form") == "tusd" and HOOK_FAILED in entry.get("events", ()):
        hint = "Leave the event out, or use the native form."
        yield _error(11, f'tusd has no word for "{HOOK_FAILED}" ({name!r}).', hint)
    for policy in set(entry.get("policies", ())) - set(setting("POLICIES")):
        hint = "Name some of the setting POLICIES."
        yield _error(11, f"The webhook {name!r} has no policy {policy!r}.", hint)


# Deployment


def check_deployment(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Check what matters where real people upload: for `check --deploy`."""
    if any(found.level >= checks.ERROR for found in check_settings()):
        return []
    return [*_inline_runner(), *_schedule(), *_visitors(), *_hosts(), *_in_clear()]


def _inline_runner() -> Iterator[CheckMessage]:
    if setting("RUNNER") == "inline":
        yield _warning(
            10,
            'RUNNER is "inline": the web process assembles files and purges.',
            "That is right for local disk and one host. Otherwise use Celery; or run "
            "`uploads_doctor --resend` and `purge_uploads` now and then.",
        )


def _schedule() -> Iterator[CheckMessage]:
    if setting("RUNNER") != "celery":
        return
    if missing := unscheduled():
        yield _warning(
            11,
            f"Celery's beat has no schedule for {', '.join(sorted(missing))}.",
            "Add resumable_uploads.schedule.BEAT_SCHEDULE to beat_schedule.",
        )


def unscheduled() -> set[str]:
    """Return which of our tasks beat does not send, as far as settings tell."""
    app = import_string("resumable_uploads.tasks.purge").app
    if "PersistentScheduler" not in app.conf.beat_scheduler:
        # The schedule is somewhere else, as in the database of django-celery-beat.
        return set()
    there = {entry["task"] for entry in app.conf.beat_schedule.values()}
    return {entry["task"] for entry in BEAT_SCHEDULE.values()} - there


def _visitors() -> Iterator[CheckMessage]:
    visited = [policy for policy in _good_policies() if policy.anonymous]
    if not visited:
        return
    if not settings.SESSION_COOKIE_SECURE:
        yield _warning(
            12,
            "Visitors own uploads by a session cookie that is sent in clear.",
            "Set SESSION_COOKIE_SECURE, or anonymous = False in the policies.",
        )
    longest = max(policy.lifetime for policy in visited)
    if timedelta(seconds=settings.SESSION_COOKIE_AGE) < longest:
        yield _warning(
            13,
            "Visitors' sessions end before their uploads expire.",
            f"Make SESSION_COOKIE_AGE at least {int(longest.total_seconds())}.",
        )


def _in_clear() -> Iterator[CheckMessage]:
    for name, entry in setting("WEBHOOKS").items():
        if urlsplit(entry["url"]).scheme == "http":
            yield _warning(
                14,
                f"The webhook {name!r} is sent in clear.",
                "Use https, unless it does not leave the host.",
            )


def _hosts() -> Iterator[CheckMessage]:
    stores = [store_for(policy.storage) for policy in _good_policies()]
    roots = {str(store.root) for store in stores if isinstance(store, FilesystemStore)}
    for root in sorted(roots):
        yield checks.Info(
            f"Chunks lie in the folder {root}.",
            hint="With several web or worker hosts, all of them must share it.",
            id=f"{TAG}.I001",
        )
