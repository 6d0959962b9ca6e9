"""Names that clients give to files: data, made presentable; never used as a path."""

from __future__ import annotations

import re
import unicodedata

# Under this key of UploadSession.metadata is what headers said, to be said again.
REQUEST_HEADERS = "request headers"
MAX_FILENAME = 255
MAX_RELATIVE_PATH = 1024
MAX_CONTENT_TYPE = 255
MAX_EXTENSION_BYTES = 20
# What most file systems take for one name, with room for what storages append.
MAX_STORAGE_NAME_BYTES = 200

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
# The joiners of emoji and of several scripts are invisible, but not idle.
_JOINERS = "\u200c\u200d"
_ENDS = re.compile(rf"^[\s{_JOINERS}]+|[\s{_JOINERS}]+$")
_SEPARATORS = re.compile(r'[<>:"/\\|?*\s]+')
# Django's own storages drop these without asking, and then refuse an empty name.
_NOT_IN_STORAGE_NAMES = re.compile(r"[^-\w.]+")
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_TOKEN = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?: *;[ -~]*)?")


# A NUL as JSON writes it, and not a backslash before "u0000".
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def has_nul(text: str) -> bool:
    """Tell whether JSON has a NUL in it, which PostgreSQL does not keep."""
    return _NUL.search(text) is not None


def filename(name: str) -> str:
    """Return a file name without folders, control and invisible characters.

    Return "" where nothing is left. At most 255 characters, the extension is kept.
    """
    last = _trimmed(_visible(name).replace("\\", "/").rsplit("/", 1)[-1])
    return "" if last in (".", "..") else _shorten(last, MAX_FILENAME)


def relative_path(path: str) -> str:
    """Return the folders of a path, as "a/b/c", without climbing or empty steps.

    At most 1024 characters; the steps that do not fit are left out, whole.
    """
    kept: list[str] = []
    room = MAX_RELATIVE_PATH
    for step in map(_trimmed, _visible(path).replace("\\", "/").split("/")):
        if step in ("", ".", ".."):
            continue
        room -= len(step)
        if room < 0:
            break
        kept.append(step)
        room -= 1
    return "/".join(kept)


def content_type(text: str) -> str:
    """Return a media type, or "" for what is none and must not get into a header."""
    text = text.strip(" ")
    fits = len(text) <= MAX_CONTENT_TYPE and _MEDIA_TYPE.fullmatch(text)
    return text if fits else ""


def storage_name(name: str) -> str:
    """Return a file name that every storage and file system can keep."""
    stem, dot, extension = _split(filename(name))
    stem, extension = _storable(stem) or "file", _storable(extension)
    if not extension:
        dot = ""
    if _WINDOWS_DEVICES.match(stem):
        stem = f"_{stem}"
    room = MAX_STORAGE_NAME_BYTES - len((dot + extension).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + extension


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    # What is taken out may have kept two characters from being composed.
    composed = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", "".join(filter(_is_visible, composed)))


def _is_visible(character: str) -> bool:
    kind = unicodedata.category(character)
    if kind == "Cn":
        # Letters that are younger than this Python, or no letters at all.
        point = ord(character)
        return point & 0xFFFE != 0xFFFE and not 0xFDD0 <= point <= 0xFDEF
    return kind not in _INVISIBLE or character in _JOINERS


def _trimmed(text: str) -> str:
    return _ENDS.sub("", text)


def _storable(text: str) -> str:
    return _NOT_IN_STORAGE_NAMES.sub("", _SEPARATORS.sub("_", text)).strip("._-")


def _split(name: str) -> tuple[str, str, str]:
    """Return the stem, the dot and the extension; the last two may be "".

    What is long after a dot is not an extension.
    """
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) > MAX_EXTENSION_BYTES:
        return name, "", ""
    return stem, dot, extension


def _shorten(name: str, length: int) -> str:
    if len(name) <= length:
        return name
    stem, dot, extension = _split(name)
    return _trimmed(stem[: length - len(dot + extension)]) + dot + extension
