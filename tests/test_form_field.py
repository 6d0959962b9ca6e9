"""The uploader as a field of a Django form, with JavaScript and without."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from django import forms
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import QueryDict
from django.test import RequestFactory
from django.utils.datastructures import MultiValueDict

from resumable_uploads import engine, errors
from resumable_uploads.forms import UploadField, UploadFormMixin, claim, receive
from resumable_uploads.models import State, UploadSession
from resumable_uploads.owners import Owner, owner_of
from resumable_uploads.policies import UploadPolicy, get_policy

pytestmark = pytest.mark.django_db(transaction=True)


class Letter(UploadFormMixin, forms.Form):
    subject = forms.CharField()
    scan = UploadField(multiple=True)


class Portrait(UploadFormMixin, forms.Form):
    photo = UploadField(policy="images", required=False)


class Strict(UploadPolicy):
    max_size = 10
    allowed_extensions = (".png",)

    def validate(self, upload, file):
        if file.read(1) == b"!":
            raise errors.Rejected("There is a virus in it.")


@pytest.fixture(autouse=True)
def two_policies(settings):
    images = {"class": f"{__name__}.Strict"}
    settings.RESUMABLE_UPLOADS = {"POLICIES": {"default": {}, "images": images}}


@pytest.fixture
def request_of_a_visitor():
    request = RequestFactory().post("/")
    request.session = SessionStore()
    request.user = AnonymousUser()
    return request


def letter(request, ids=(), files=(), subject="Hello"):
    data = QueryDict(mutable=True)
    data["subject"] = subject
    data.setlist("scan", [str(upload_id) for upload_id in ids])
    return Letter(data, MultiValueDict({"scan": list(files)}), request=request)


def portrait(request, **files):
    return Portrait(QueryDict(), MultiValueDict(files), request=request)


def file(name="a.txt", content=b"hello"):
    return SimpleUploadedFile(name, content, "text/plain")


def uploaded(request, policy="default", name="a.txt"):
    owner = owner_of(request, create=True)
    return receive(owner, get_policy(policy), file(name))


def test_without_javascript_the_posted_file_becomes_an_upload(request_of_a_visitor):
    form = letter(request_of_a_visitor, files=[file(), file("empty.txt", b"")])
    assert form.is_valid(), form.errors
    full, empty = form.cleaned_data["scan"]
    assert (full.state, full.filename, full.protocol) == ("complete", "a.txt", "form")
    with full.file.open() as stored:
        assert stored.read() == b"hello"
    assert empty.state == State.COMPLETE
    assert full.owner == owner_of(request_of_a_visitor).key


def test_with_javascript_the_ids_of_complete_uploads_are_taken(request_of_a_visitor):
    done = [uploaded(request_of_a_visitor) for _ in range(2)]
    form = letter(request_of_a_visitor, ids=[upload.pk for upload in done])
    assert form.is_valid(), form.errors
    assert form.cleaned_data["scan"] == done


def test_uploads_of_others_are_not_there(request_of_a_visitor):
    hers = receive(Owner("session:other"), get_policy("default"), file())
    form = letter(request_of_a_visitor, ids=[hers.pk])
    assert "is not there" in form.errors["scan"][0]


@pytest.mark.parametrize("nonsense", ["x", "00000000-0000-4000-8000-000000000000"])
def test_nor_are_ids_that_nobody_has_given(request_of_a_visitor, nonsense):
    assert not letter(request_of_a_visitor, ids=[nonsense]).is_valid()


def test_unfinished_uploads_and_those_of_another_policy_are_not_taken(
    request_of_a_visitor,
):
    owner = owner_of(request_of_a_visitor, create=True)
    new = engine.NewUpload(filename="a.txt", length=5)
    unfinished, _ = engine.open(owner, "rest", get_policy("default"), new)
    other = uploaded(request_of_a_visitor, "images", "a.png")
    for upload in (unfinished, other):
        assert not letter(request_of_a_visitor, ids=[upload.pk]).is_valid()


def test_an_upload_is_claimed_once(request_of_a_visitor):
    upload = uploaded(request_of_a_visitor)
    assert [claim(upload), claim(upload)] == [True, False]
    form = letter(request_of_a_visitor, ids=[upload.pk])
    assert "in use already" in form.errors["scan"][0]


def test_something_is_required_or_not(request_of_a_visitor):
    assert "required" in letter(request_of_a_visitor).errors["scan"][0]
    form = portrait(request_of_a_visitor)
    assert form.is_valid()
    assert form.cleaned_data["photo"] is None


def test_one_file_is_one_file(request_of_a_visitor):
    one = portrait(request_of_a_visitor, photo=[file("a.png")])
    assert one.is_valid(), one.errors
    assert one.cleaned_data["photo"].filename == "a.png"
    two = portrait(request_of_a_visitor, photo=[file("a.png"), file("b.png")])
    assert two.errors["photo"] == ["Choose one file only."]
    assert UploadSession.objects.count() == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.exe", b"x", "not accepted"),
        ("a.png", b"x" * 11, "too large"),
        ("a.png", b"!", "There is a virus in it."),
    ],
)
def test_posted_files_are_under_the_policy_s_rules(
    request_of_a_visitor, name, content, reason
):
    form = portrait(request_of_a_visitor, photo=[file(name, content)])
    (complaint,) = form.errors["photo"]
    assert complaint.startswith(f"“{name}” was not accepted.")
    assert reason in complaint
    assert not UploadSession.objects.filter(state=State.COMPLETE).exists()


def test_who_may_not_upload_may_not_post_either(request_of_a_visitor, settings):
    settings.RESUMABLE_UPLOADS = {"POLICIES": {"default": {"anonymous": False}}}
    form = letter(request_of_a_visitor, files=[file()])
    assert not form.is_valid()
    assert not UploadSession.objects.exists()


def options(html):
    return json.loads(unescape(re.search(r'data-ru-options="([^"]*)"', html)[1]))


def test_the_field_is_a_plain_file_input_until_the_script_comes(request_of_a_visitor):
    form = Letter(request=request_of_a_visitor)
    html = str(form)
    assert form.is_multipart()
    assert re.search(r'<input[^>]*type="file"[^>]*name="scan" required multiple', html)
    assert "needs JavaScript" not in html
    assert 'name="csrfmiddlewaretoken"' in html
    found = options(html)
    assert (found["name"], found["required"]) == ("scan", True)


def test_a_form_with_mistakes_elsewhere_keeps_the_files(request_of_a_visitor):
    done = uploaded(request_of_a_visitor)
    form = letter(request_of_a_visitor, [done.pk], [file("b.txt")], subject="")
    assert list(form.errors) == ["subject"]
    html = str(form)
    assert [facts["filename"] for facts in options(html)["initial"]] == [
        "a.txt",
        "b.txt",
    ]
    # Without JavaScript too, where they are boxes that are ticked.
    kept = re.findall(r'type="checkbox" name="scan" value="([^"]+)" checked', html)
    assert len(kept) == 2
    assert letter(request_of_a_visitor, ids=kept).is_valid()


def test_a_form_that_does_not_know_the_request_is_explained():
    class Plain(forms.Form):
        scan = UploadField()

    with pytest.raises(ImproperlyConfigured, match="UploadFormMixin"):
        str(Plain())
