"""Names that clients give to files come out as data that harms nobody."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resumable_uploads import names

# Whatever can come out of JSON, lone surrogates included.
ANYTHING = st.text(
    st.one_of(
        st.characters(exclude_categories=()),
        st.sampled_from("/\\.:~ \t\n\r\0\u200b\u200d\u202e\u0301\ufeff\ud800e%?*"),
    ),
    max_size=60,
)
LONG = st.builds(lambda text, times: text * times, ANYTHING, st.integers(1, 60))
TEXTS = st.one_of(ANYTHING, LONG)


def for_all(strategy: st.SearchStrategy[str]) -> Callable[..., Any]:
    """Try a test with many texts, on every machine with the same ones."""
    same_everywhere = settings(deadline=None, derandomize=True)
    return lambda test: same_everywhere(given(strategy)(test))


def has_no_invisible(text: str) -> bool:
    kinds = {
        unicodedata.category(letter) for letter in text if letter not in "\u200c\u200d"
    }
    return not kinds & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("  report.pdf  ", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\win.ini", "win.ini"),
        ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
        ("a\0b.txt", "ab.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("line\r\nbreak.txt", "linebreak.txt"),
        ("\ud800half.txt", "half.txt"),
        ("Cafe\u0301.txt", "Caf\u00e9.txt"),
        ("e\u200b\u0301.txt", "\u00e9.txt"),
        ("👩\u200d👩\u200d👧.png", "👩\u200d👩\u200d👧.png"),
        (".htaccess", ".htaccess"),
        ("...", "..."),
        ("a/b/", ""),
        ("..", ""),
        (".", ""),
        ("/", ""),
        ("", ""),
        ("\u200d", ""),
        (" \u200c \u200d", ""),
        ("\u202e\0", ""),
        ("\ufdd0\uffff\U0010ffff", ""),
        # Unicode is older in Python than in phones.
        ("\U0001f3ff\U0001fae8\U000323b0.png", "\U0001f3ff\U0001fae8\U000323b0.png"),
    ],
)
def test_a_filename_is_made_presentable(given, kept):
    assert names.filename(given) == kept


@for_all(TEXTS)
@example("a/.. ")
@example("x" * 254 + " .txt")
def test_a_filename_is_one_visible_name_or_nothing(text):
    name = names.filename(text)
    assert not set(name) & set("/\\\0")
    assert name not in (".", "..")
    assert has_no_invisible(name)
    assert len(name) <= names.MAX_FILENAME
    assert name == name.strip()
    assert name.encode().decode() == name


@for_all(TEXTS)
def test_a_filename_that_is_clean_stays_as_it_is(text):
    name = names.filename(text)
    assert names.filename(name) == name


@for_all(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=40))
def test_letters_and_digits_are_left_alone(text):
    text = unicodedata.normalize("NFC", text)
    assert names.filename(f"{text}.txt") == f"{text}.txt"


@for_all(TEXTS)
def test_two_spellings_of_the_same_name_are_one(text):
    composed = names.filename(unicodedata.normalize("NFC", text))
    assert names.filename(unicodedata.normalize("NFD", text)) == composed


def test_a_long_filename_keeps_its_extension():
    name = names.filename("x" * 300 + ".tar")
    assert len(name) == names.MAX_FILENAME
    assert name.endswith("x.tar")


def test_what_is_long_after_a_dot_is_no_extension():
    assert names.filename("x." + "y" * 300) == "x." + "y" * 253


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a/b/c", "a/b/c"),
        ("/a//b/", "a/b"),
        ("a/../../b", "a/b"),
        ("./a", "a"),
        ("a\\b", "a/b"),
        ("C:\\a", "C:/a"),
        (" a / .. / b ", "a/b"),
        ("a/\0/b", "a/b"),
        ("a/.\u200b./b", "a/b"),
        ("", ""),
        ("..", ""),
    ],
)
def test_a_path_is_made_of_steps_that_go_down(given, kept):
    assert names.relative_path(given) == kept


@for_all(TEXTS)
@example("x" * 1021 + "/..a")
@example("x" * 1020 + "/ab")
@example("xx/" * 600)
def test_a_path_never_climbs_and_fits(text):
    path = names.relative_path(text)
    assert len(path) <= names.MAX_RELATIVE_PATH
    assert has_no_invisible(path)
    assert "\\" not in path
    assert path == "" or not {"", ".", ".."} & set(path.split("/"))
    assert os.path.normpath(f"/{path}") == f"/{path}"
    assert names.relative_path(path) == path


def test_steps_that_do_not_fit_are_left_out_whole():
    assert names.relative_path("x" * 1020 + "/abc") == "x" * 1020 + "/abc"
    assert names.relative_path("x" * 1020 + "/abcd") == "x" * 1020
    assert names.relative_path("x" * 1025) == ""


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("my report.pdf", "my_report.pdf"),
        ("a:b*c?.txt", "a_b_c.txt"),
        ("😀", "file"),
        ("😀.png", "file.png"),
        ("!!!", "file"),
        ("日本語.txt", "日本語.txt"),
        (".htaccess", "file.htaccess"),
        ("...", "file"),
        ("", "file"),
        ("con", "_con"),
        ("LPT1.txt", "_LPT1.txt"),
        ("aux.tar.gz", "_aux.tar.gz"),
        ("console.txt", "console.txt"),
        ("a.", "a"),
        ("-rf.txt", "rf.txt"),
    ],
)
def test_a_name_becomes_one_that_storages_keep(given, kept):
    assert names.storage_name(given) == kept


@for_all(TEXTS)
@example("😀")
@example("%2e%2e%2f")
@example("ß" * 150 + ".txt")
def test_storages_keep_every_name_as_it_is(text):
    name = names.storage_name(text)
    assert len(name.encode()) <= names.MAX_STORAGE_NAME_BYTES + 1
    assert not name.startswith((".", "-"))
    assert FileSystemStorage(location="/").get_valid_name(name) == name
    assert FileSystemStorage(location="/").generate_filename(f"a/{name}") == f"a/{name}"


@for_all(TEXTS)
def test_files_of_every_name_can_be_made(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / names.storage_name(text)
    path.write_bytes(b"x")
    assert path.is_file()
    path.unlink()


@pytest.mark.parametrize(
    "kept",
    ["image/png", "text/plain; charset=utf-8", "application/vnd.a+json", 'x/y;a="b"'],
)
def test_a_media_type_is_kept(kept):
    assert names.content_type(f" {kept} ") == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "png",
        "image/",
        "/png",
        "text/html\r\nSet-Cookie: a=b",
        "text/html\n",
        "text/html; a=\0",
        "text/html; a=é",
        "tëxt/html",
        "a/b/c",
        "a b/c",
        "text/" + "x" * 300,
        "text/plain; a=" + "x" * 300,
    ],
)
def test_what_is_no_media_type_is_none(text):
    assert names.content_type(text) == ""


@for_all(TEXTS)
def test_a_media_type_may_always_go_into_a_header(text):
    kept = names.content_type(text)
    assert kept == "" or (kept.isascii() and kept.isprintable())
