"""The template tag, and the texts and files that the widget is made of."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.staticfiles import finders
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Template
from django.template.context_processors import csrf
from django.test import RequestFactory
from django.utils import translation

from resumable_uploads import errors, texts
from resumable_uploads.models import UploadSession
from resumable_uploads.rendering import uploader_context

STATIC = Path(texts.__file__).parent / "static" / "resumable_uploads"


@pytest.fixture
def request_of_a_visitor(db):
    request = RequestFactory().get("/")
    request.session = SessionStore()
    request.user = AnonymousUser()
    return request


def render(request, parameters=""):
    source = f"{{% load resumable_uploads %}}{{% resumable_uploader {parameters} %}}"
    context = Context({"request": request, **csrf(request)})
    return Template(source).render(context)


def options(html):
    return json.loads(unescape(re.search(r'data-ru-options="([^"]*)"', html)[1]))


def policies(settings, **entries):
    settings.RESUMABLE_UPLOADS = {"POLICIES": {"default": {}, **entries}}


def test_the_page_knows_the_limits_before_it_asks(request_of_a_visitor, settings):
    policies(settings, images={"max_size": 5000, "allowed_extensions": ["png"]})
    html = render(request_of_a_visitor, "policy='images'")
    found = options(html)
    assert found["policy"] == "images"
    assert found["limits"]["max_size"] == 5000
    assert found["limits"]["allowed_extensions"] == [".png"]
    assert found["endpoint"] == "/uploads/"
    assert found["recordsExpireIn"] == 7
    assert found["parallel"] == 3
    assert 'accept=".png"' in html


def test_a_visitor_gets_one_session_and_a_token(request_of_a_visitor):
    html = render(request_of_a_visitor)
    assert request_of_a_visitor.session.session_key
    assert 'name="csrfmiddlewaretoken"' in html
    assert request_of_a_visitor.META["CSRF_COOKIE"]


def test_two_people_do_not_share_records(request_of_a_visitor, django_user_model):
    visitor = options(render(request_of_a_visitor))["scope"]
    again = options(render(request_of_a_visitor))["scope"]
    request_of_a_visitor.user = django_user_model.objects.create_user("ann")
    ann = options(render(request_of_a_visitor))["scope"]
    assert visitor == again != ann
    assert str(request_of_a_visitor.user.pk) != ann


def test_who_may_not_upload_is_asked_to_sign_in(request_of_a_visitor, settings):
    policies(settings, members={"anonymous": False})
    html = render(request_of_a_visitor, "policy='members'")
    assert "Please sign in" in html
    assert "data-ru-uploader" not in html
    assert not request_of_a_visitor.session.session_key
    request_of_a_visitor.user = User.objects.create_user("ann")
    assert "data-ru-uploader" in render(request_of_a_visitor, "policy='members'")


def test_parameters_reach_the_widget(request_of_a_visitor):
    html = render(
        request_of_a_visitor,
        "parallel=5 max_files=2 accept='image/*' records_expire_in=1 digest=True"
        " endpoint='https://files.example.com/uploads/' folders=True styles=False"
        " manual=True",
    )
    found = options(html)
    assert found["parallel"] == 5
    assert found["maxFiles"] == 2
    assert found["recordsExpireIn"] == 1
    assert found["digest"] is True
    assert found["endpoint"] == "https://files.example.com/uploads/"
    assert 'accept="image/*"' in html
    assert "webkitdirectory" in html
    assert "<link" not in html
    assert 'data-ru-uploader="manual"' in html


def test_what_is_not_asked_for_is_not_there(request_of_a_visitor):
    plain = render(request_of_a_visitor)
    assert {"name", "required", "deletable", "checksum", "initial"} & set(
        options(plain)
    ) == set()
    assert "capture=" not in plain
    html = render(
        request_of_a_visitor, "camera=True deletable=True checksum=True name='scans'"
    )
    found = options(html)
    assert [found[key] for key in ("name", "deletable", "checksum")] == [
        "scans",
        True,
        True,
    ]
    assert 'capture="environment"' in html
    assert 'name="scans"' in html
    with pytest.raises(TypeError, match="colour"):
        render(request_of_a_visitor, "colour='red'")


def test_the_list_may_begin_with_complete_uploads(request_of_a_visitor, settings):
    policies(settings, shown={"downloadable": True})
    row = UploadSession(filename="a.txt", length=5, policy="shown", state="complete")
    context = uploader_context(request_of_a_visitor, initial=[row])
    (facts,) = json.loads(context["options"])["initial"]
    assert (facts["filename"], facts["size"]) == ("a.txt", 5)
    assert facts["file"]["url"] == f"/uploads/{row.pk}/file/"
    row.policy = "default"
    context = uploader_context(request_of_a_visitor, initial=[row])
    assert json.loads(context["options"])["initial"][0]["file"]["url"] is None


def test_one_file_only(request_of_a_visitor):
    html = render(request_of_a_visitor, "multiple=False folders=True")
    assert options(html)["maxFiles"] == 1
    assert "Choose a file" in html
    assert not re.search(r"<input[^>]*\bmultiple\b", html)
    assert "webkitdirectory" not in html


def test_an_unknown_policy_is_an_error_of_the_page_s_author(request_of_a_visitor):
    with pytest.raises(errors.Invalid, match="no upload policy 'nothing'"):
        render(request_of_a_visitor, "policy='nothing'")


def test_a_context_without_a_request_is_explained():
    source = "{% load resumable_uploads %}{% resumable_uploader %}"
    with pytest.raises(ImproperlyConfigured, match="context_processors.request"):
        Template(source).render(Context())


def test_the_names_of_the_csrf_cookie_and_header_are_the_project_s(
    request_of_a_visitor, settings
):
    settings.CSRF_COOKIE_NAME = "token"
    settings.CSRF_HEADER_NAME = "HTTP_X_TOKEN"
    found = options(render(request_of_a_visitor))["csrf"]
    assert found == {"cookieName": "token", "headerName": "X-TOKEN"}
    settings.CSRF_USE_SESSIONS = True
    assert options(render(request_of_a_visitor))["csrf"]["cookieName"] == ""


def test_nothing_is_inline(request_of_a_visitor):
    html = render(request_of_a_visitor)
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=", html) == []


def test_every_file_that_is_named_is_there(request_of_a_visitor):
    html = render(request_of_a_visitor)
    named = re.findall(r'(?:src|href)="/static/([^"]+)"', html)
    assert len(named) == 2
    assert all(finders.find(name) for name in named)
    for module in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', module.read_text()):
            assert (STATIC / name).is_file(), f"{module.name} imports {name}"


def test_the_sentences_are_those_of_the_script():
    script = (STATIC / "messages.js").read_text()
    english = dict(re.findall(r'^  (\w+): "(.*)",$', script, re.MULTILINE))
    with translation.override("en"):
        assert {k: str(v) for k, v in texts.SENTENCES.items()} == english


def test_in_another_language_the_page_brings_its_sentences(request_of_a_visitor):
    with translation.override("en-gb"):
        assert options(render(request_of_a_visitor))["messages"] == {}
    with translation.override("de"):
        found = options(render(request_of_a_visitor))["messages"]
    assert set(found) == set(texts.SENTENCES)


def test_hashed_names_of_static_files_work(settings, tmp_path):
    """Also with the modules' imports rewritten, as Django can."""
    from django.contrib.staticfiles.storage import (  # noqa: PLC0415
        ManifestStaticFilesStorage,
    )

    class Storage(ManifestStaticFilesStorage):
        support_js_module_import_aggregation = True

    storage = Storage(location=tmp_path)
    names = [f"resumable_uploads/{path.name}" for path in STATIC.iterdir()]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((STATIC / Path(name).name).read_bytes())
    done = storage.post_process({name: (storage, name) for name in names})
    assert [result for *_, result in done if isinstance(result, Exception)] == []
    hashed = storage.hashed_files["resumable_uploads/autostart.js"]
    assert re.search(r'"\./widget\.[0-9a-f]{12}\.js"', (tmp_path / hashed).read_text())
