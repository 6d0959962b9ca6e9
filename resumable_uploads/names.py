"""Names that clients give to files: data, made presentable; never a path by themselves."""

from __future__ import annotations

import re
import unicodedata

MAX_FILENAME = 255
MAX_RELATIVE_PATH = 1024
# What most file systems take for one name, with room for what storages append.
MAX_STORAGE_NAME_BYTES = 200

_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# The joiners of emoji and of several scripts are invisible, but not idle.
_JOINERS = "\u200c\u200d"
_NOT_IN_STORAGE_NAMES = re.compile(r'[<>:"/\\|?*\s]+')
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def filename(name: str) -> str:
    """Return a file name without folders, control and invisible characters.

    Return "" where nothing is left. At most 255 characters, the extension is kept.
    """
    last = _printable(name).replace("\\", "/").rsplit("/", 1)[-1].strip()
    return "" if last in (".", "..") else _shorten(last, MAX_FILENAME)


def relative_path(path: str) -> str:
    """Return the folders of a path, as "a/b/c", without climbing or empty steps."""
    steps = _printable(path).replace("\\", "/").split("/")
    kept = [step.strip() for step in steps if step.strip() not in ("", ".", "..")]
    return "/".join(kept)[:MAX_RELATIVE_PATH]


def storage_name(name: str) -> str:
    """Return a file name that every storage and file system can keep."""
    name = _NOT_IN_STORAGE_NAMES.sub("_", filename(name)).strip("._ ") or "file"
    if _WINDOWS_DEVICES.match(name):
        name = f"_{name}"
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) > 20:
        return _cut(name, MAX_STORAGE_NAME_BYTES)
    return _cut(stem, MAX_STORAGE_NAME_BYTES - len(extension.encode()) - 1) + dot + extension


def _printable(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    return "".join(
        character
        for character in text
        if unicodedata.category(character) not in _UNPRINTABLE or character in _JOINERS
    )


def _shorten(name: str, length: int) -> str:
    if len(name) <= length:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 20:
        return name[:length]
    return stem[: length - len(extension) - 1] + dot + extension


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
