"""The demo's pages for other people's clients."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders

from project.clients import CLIENTS

from .processes import ROOT
from .visitor import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.once]

FOLDERS = [
    (f"npm/{name}", Path("/nowhere"))
    for name in (
        "ali-oss",
        "fine-uploader",
        "flow.js",
        "resumablejs",
        "simple-uploader.js",
        "tus-js-client",
        "uppy",
    )
]


@pytest.mark.parametrize("name", CLIENTS)
def test_each_client_has_a_page_that_says_how_it_is_set_up(name, settings):
    settings.NPM_FOLDERS = FOLDERS
    me = Visitor()
    answer = me.get(f"/demo/{name}/")
    page = answer.body.decode()
    assert answer.status == 200
    assert "How it is set up" in page
    assert "CSRF" in page
    assert CLIENTS[name].endpoint in page
    for script in re.findall(r'<script [^>]*src="/static/([^"]+)"', page):
        assert script in CLIENTS[name].files or finders.find(script), script
    # Before the first requests of the page, which are parallel.
    assert {"sessionid", "csrftoken"} <= set(me.client.cookies)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_page_says_what_is_not_installed(name, settings):
    settings.NPM_FOLDERS = []
    page = Visitor().get(f"/demo/{name}/").body.decode()
    assert ("make clients" in page) == bool(CLIENTS[name].files)
    assert ("<script" in page) != bool(CLIENTS[name].files)


def test_there_is_no_page_for_other_clients():
    assert Visitor().get("/demo/plupload/").status == 404


def test_the_start_page_leads_to_all_of_them():
    page = Visitor().get("/").body.decode()
    assert all(f'href="/demo/{name}/"' in page for name in CLIENTS)


@pytest.mark.parametrize("name", ["resumablejs", "fineuploader", "flowjs"])
def test_an_endpoint_is_no_upload_of_the_native_protocol(name):
    for url in (f"/uploads/{name}/", f"/uploads/{name}"):
        answer = Visitor().request("OPTIONS", url)
        assert "POST" in answer.headers["Allow"]


def test_the_clients_are_pinned_and_name_no_host():
    package = json.loads((ROOT / "package.json").read_text())
    named = package["dependencies"] | package["devDependencies"]
    # Two versions of one package go by two names.
    packages = {name: said.rpartition("@")[2] for name, said in named.items()}
    lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    exact = re.compile(r"\d+\.\d+\.\d+(-\w+)?")
    assert all(exact.fullmatch(version) for version in packages.values())
    for name, version in packages.items():
        locked = lock[f"node_modules/{name}"]
        assert locked["version"] == version
        assert locked["integrity"].startswith("sha512-")
        assert "resolved" not in locked
