"""The bundled upload page and the demo's own pages, without a browser."""

from __future__ import annotations

import re

import pytest
from django.urls import path

from project.urls import urlpatterns as demo
from resumable_uploads import engine
from resumable_uploads.models import State, UploadSession
from resumable_uploads.owners import Owner
from resumable_uploads.pages import UploadPage
from resumable_uploads.policies import get_policy

urlpatterns = [
    *demo,
    path("bundled/", UploadPage.as_view()),
    path("members/", UploadPage.as_view(policy="members")),
]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__), pytest.mark.once]


def opened(owner, filename="film.bin", size=10):
    policy = get_policy("default")
    new = engine.NewUpload(filename=filename, length=size, chunk_size=10)
    return engine.open(owner, "rest", policy, new)[0]


@pytest.fixture
def ann(django_user_model, client):
    user = django_user_model.objects.create_user("ann")
    client.force_login(user)
    return Owner(f"user:{user.pk}", user)


def test_the_bundled_page_stands_alone(client):
    answer = client.get("/bundled/")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert "data-ru-uploader" in html
    assert '<html lang="en">' in html
    assert html.count("uploader.css") == 1


def test_the_first_look_at_the_page_begins_one_session(client):
    answer = client.get("/bundled/")
    assert {"sessionid", "csrftoken"} <= set(answer.cookies)
    assert "sessionid" not in client.get("/bundled/").cookies


def test_a_page_for_members_begins_no_session_for_strangers(client, settings):
    settings.RESUMABLE_UPLOADS = {"POLICIES": {"members": {"anonymous": False}}}
    answer = client.get("/members/")
    assert "sessionid" not in answer.cookies
    assert b"Please sign in" in answer.content


def test_the_demo_explains_itself(client):
    html = client.get("/").content.decode()
    assert "Try to break it" in html
    for address in ("/upload/", "/my-uploads/", "/admin/", "/uploads/"):
        assert f'href="{address}' in html


def test_no_page_of_the_demo_has_inline_code(client, ann):
    opened(ann)
    for address in ("/", "/upload/", "/my-uploads/"):
        html = client.get(address).content.decode()
        assert (
            re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", html)
            == []
        )


def test_my_uploads_are_mine(client, ann):
    opened(ann, "mine.bin")
    opened(Owner("session:other"), "hers.bin")
    html = client.get("/my-uploads/").content.decode()
    assert "mine.bin" in html
    assert "hers.bin" not in html


def test_the_demo_s_own_pages_are_in_one_language(client, ann):
    opened(ann)
    headers = {"Accept-Language": "de"}
    html = client.get("/my-uploads/", headers=headers).content.decode()
    assert '<html lang="en">' in html
    assert "Receiving" in html
    html = client.get("/upload/", headers=headers).content.decode()
    assert '<html lang="de">' in html


@pytest.mark.parametrize(
    ("wanted", "language"), [("de", "de"), ("tlh", "en"), ("", "en")]
)
def test_an_answer_is_in_the_language_that_is_asked_for(client, wanted, language):
    answer = client.get("/uploads/limits", headers={"Accept-Language": wanted})
    assert answer.headers["Content-Language"] == language
    assert "Accept-Language" in answer.headers["Vary"]


def test_names_are_text_and_never_markup(client, ann):
    opened(ann, "<img src=x onerror=alert(1)>.bin")
    html = client.get("/my-uploads/").content.decode()
    assert "<img" not in html
    assert "&lt;img" in html


def test_a_stranger_without_a_session_sees_nothing_and_gets_no_session(client):
    answer = client.get("/my-uploads/")
    assert b"Nothing is unfinished." in answer.content
    assert "sessionid" not in answer.cookies


def test_discarding_ends_the_upload(client, ann):
    upload = opened(ann)
    answer = client.post(f"/my-uploads/{upload.pk}/discard/", follow=True)
    assert "“film.bin” was discarded." in answer.content.decode()
    assert UploadSession.objects.get().state == State.CANCELLED


def test_discarding_needs_a_post_and_the_owner(client, ann):
    mine = opened(ann)
    hers = opened(Owner("session:other"))
    assert client.get(f"/my-uploads/{mine.pk}/discard/").status_code == 405
    assert client.post(f"/my-uploads/{hers.pk}/discard/").status_code == 404
    states = set(UploadSession.objects.values_list("state", flat=True))
    assert states == {State.RECEIVING}
