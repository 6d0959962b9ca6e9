"""Every sentence is there in German too, and what visitors see in more languages."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
from django.utils import translation
from django.utils.translation.template import templatize

from resumable_uploads.texts import SENTENCES

APP = Path(__file__).resolve().parent.parent / "resumable_uploads"
GERMAN = APP / "locale" / "de" / "LC_MESSAGES"
MARKS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
STRING = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""


@pytest.fixture(scope="module")
def catalogue():
    with (GERMAN / "django.mo").open("rb") as file:
        return gettext.GNUTranslations(file)


def marked_in_python(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            first = node.args[0] if node.args else None
            if node.func.id in MARKS and isinstance(first, ast.Constant):
                yield first.value


def marked_in_template(source: str) -> Iterator[str]:
    for literal in re.findall(rf"gettext\(u?{STRING}", templatize(source)):
        yield ast.literal_eval(literal)


def marked() -> set[str]:
    """Return all sentences of the app that are marked for translation."""
    found: set[str] = set()
    for path in APP.rglob("*.py"):
        found.update(marked_in_python(path.read_text()))
    for path in APP.rglob("*.html"):
        found.update(marked_in_template(path.read_text()))
    return found


def translated(catalogue: gettext.GNUTranslations, sentence: str) -> list[str]:
    """Return the translations of a sentence, in all its plural forms."""
    forms = catalogue._catalog
    keys = [sentence, (sentence, 0), (sentence, 1)]
    return [forms[key] for key in keys if forms.get(key)]


def fields(sentence: str) -> set[str]:
    braces = {name for _, name, _, _ in Formatter().parse(sentence) if name}
    return braces | set(re.findall(r"%\(\w+\)[sd]|%[sd]", sentence))


def test_sentences_are_found_in_code_and_in_templates():
    assert {"receiving", "Choose files", "Resumable uploads"} <= marked()
    assert len(marked()) > 150


@pytest.mark.parametrize("sentence", sorted(marked()))
def test_every_sentence_is_translated(catalogue, sentence):
    forms = translated(catalogue, sentence)
    assert forms, "run `make messages` and complete the German catalogue"
    assert all(fields(form) == fields(sentence) for form in forms)


def test_the_catalogue_is_compiled_from_its_source(catalogue):
    source = (GERMAN / "django.po").read_text()
    compiled = {
        form for form in catalogue._catalog.values() if "Plural-Forms" not in form
    }
    literals = re.findall(rf"^msgstr(?:\[\d\])? {STRING}$", source, re.MULTILINE)
    assert compiled == {ast.literal_eval(literal) for literal in literals} - {""}


# --- What visitors see --------------------------------------------------------------

OTHERS = ["es", "fr", "zh_Hans"]


def seen_by_visitors() -> set[str]:
    """Return the sentences of the widget, its pages and the form field."""
    found = {str(sentence) for sentence in SENTENCES.values()}
    found.update(marked_in_python((APP / "forms.py").read_text()))
    for path in (APP / "templates" / "resumable_uploads").glob("*.html"):
        found.update(marked_in_template(path.read_text()))
    return found


@pytest.mark.parametrize("locale", OTHERS)
def test_what_visitors_see_is_translated(locale):
    path = APP / "locale" / locale / "LC_MESSAGES" / "django.mo"
    with path.open("rb") as file:
        catalogue = gettext.GNUTranslations(file)
    assert len(seen_by_visitors()) > 100
    for sentence in seen_by_visitors():
        (form,) = translated(catalogue, sentence) or [""]
        assert form, f"{sentence!r} is not in the catalogue of {locale}"
        assert fields(form) == fields(sentence), sentence


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", "Dateien auswählen"),
        ("es", "Elegir archivos"),
        ("fr", "Choisir des fichiers"),
        ("zh-hans", "选择文件"),
    ],
)
def test_django_finds_the_translation(language, words):
    with translation.override(language):
        assert translation.gettext("Choose files") == words
