"""The demo site, as `make run` serves it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from project import prepare

from . import processes


def open_upload(client, size):
    answer = client.post("/uploads/", {"filename": "film.bin", "size": size})
    assert answer.status == 201, answer.body
    return answer.json()["url"]


def offset(client, url):
    return int(client.head(url).headers["Upload-Offset"])


def received(client):
    """Return what is recorded, without claiming the right to go on there."""
    return client.get("/uploads/").json()["results"][0]["received"]


# --- Before it is served ------------------------------------------------------------


@pytest.mark.django_db
def test_the_admin_is_made_once_and_can_log_in(tmp_path, client):
    path = tmp_path / "admin_password"
    line = prepare.admin_line(path)
    password = re.search(r"password (\S+)", line)[1]
    assert client.login(username="admin", password=password)
    assert prepare.admin_line(path) == line
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.django_db
def test_a_changed_admin_password_is_neither_undone_nor_told(
    tmp_path, django_user_model
):
    path = tmp_path / "admin_password"
    prepare.admin_line(path)
    admin = django_user_model.objects.get(username="admin")
    admin.set_password("my own")
    admin.save()
    assert prepare.admin_line(path).endswith("with the password you gave it")
    assert path.read_text().strip() not in prepare.admin_line(path)


def test_a_site_is_prepared_from_nothing_and_again(make_live_site):
    site = make_live_site(start=False, preload=False)
    (site.data_dir / "db.sqlite3").unlink()
    first, second = (prepare_site(site) for _ in range(2))
    assert first == second
    assert "user admin, password " in first
    site.start()
    assert site.shell("from django.db import connection as c\n" + JOURNAL) == "wal"


JOURNAL = "answer = c.cursor().execute('PRAGMA journal_mode').fetchone()[0]"


def prepare_site(site):
    done = subprocess.run(
        [sys.executable, "-m", "project.prepare"],
        cwd=processes.ROOT,
        env=site.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- Served -------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_file_goes_up_and_comes_back(make_live_site, make_client, database):
    client = make_client(make_live_site(database))
    content = os.urandom(300_000)
    url = open_upload(client, len(content))
    assert client.patch(url, 0, content).status == 200
    answer = client.get(f"{url}file/")
    assert answer.status == 200
    assert answer.body == content


def test_a_killed_site_goes_on_where_it_was(live_site, visitor):
    url = open_upload(visitor, 1_000_000)
    visitor.cut("PATCH", url, b"x" * 1_000_000, 400_000, headers={"Upload-Offset": "0"})
    processes.wait_for(lambda: received(visitor) == 400_000, 10, "it is recorded")
    live_site.kill()
    # The kernel takes its time to close what the dead have left.
    is_free = lambda: not processes.accepts(live_site.port)  # noqa: E731
    processes.wait_for(is_free, 10, "nobody listens")
    live_site.start()
    visitor.close()
    assert offset(visitor, url) == 400_000
    assert visitor.patch(url, 400_000, b"x" * 600_000).status == 200


def test_ctrl_c_does_not_wait_for_clients(make_live_site, make_client):
    live_site = make_live_site(env={"GRACEFUL_TIMEOUT": "12"}, preload=False)
    visitor = make_client(live_site)
    url = open_upload(visitor, 1_000_000)
    start = {"Upload-Offset": "0"}
    with visitor.cut("PATCH", url, b"x" * 1_000_000, 400_000, "stall", start):
        time.sleep(0.2)
        begun = time.monotonic()
        os.killpg(live_site.process.pid, signal.SIGINT)
        assert live_site.process.wait(30) == 0
        assert time.monotonic() - begun < 30
    assert "SIGKILL" not in live_site.log()


def test_a_service_manager_stops_it_in_good_order(live_site):
    assert live_site.stop() == 0
    assert "Traceback" not in live_site.log()


RUNSERVER = ["manage.py", "runserver", "--noreload", "{port}"]
ASGI = ["-m", "gunicorn", "-b", "127.0.0.1:{port}", "-k", "asgi"]


@pytest.mark.parametrize(
    "server",
    [RUNSERVER, [*ASGI, "--no-control-socket", "project.asgi:application"]],
    ids=["runserver", "asgi"],
)
def test_other_servers_serve_it_too(make_live_site, make_client, server):
    site = make_live_site(start=False)
    command = [sys.executable, *(word.format(port=site.port) for word in server)]
    log = site.data_dir / "other.log"
    site.process = processes.start(command, log=log, env=site.env)
    processes.wait_for(lambda: processes.accepts(site.port), 30, "it is up")
    client = make_client(site)
    content = os.urandom(100_000)
    url = open_upload(client, len(content))
    assert client.patch(url, 0, content).status == 200
    assert client.get(f"{url}file/").body == content
    assert client.get("/static/admin/css/base.css").status == 200
    unreadable = {"Content-Type": "a/b; charset=hex"}
    assert client.request("GET", "/?a=%41", headers=unreadable).status == 400


# --- The policy of its pages --------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/admin/login/", "/uploads/limits/", "/none"])
def test_every_answer_has_a_strict_policy(visitor, path):
    policy = visitor.get(path).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_admin_works_under_the_policy(live_site, page):
    live_site.make_user("admin", admin=True)
    page.goto(f"{live_site.url}/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "admin")
    page.click("input[type=submit]")
    page.goto(f"{live_site.url}/admin/auth/user/1/change/")
    # Its scripts have run: they put the shortcuts for dates there.
    page.click(".datetimeshortcuts a >> nth=0")
    assert page.input_value("#id_last_login_0")
    page.goto(f"{live_site.url}/admin/resumable_uploads/uploadsession/")
    assert "403" not in page.title()


def test_the_browsable_api_works_under_the_policy(live_site, page):
    answer = page.goto(f"{live_site.url}/uploads/")
    assert "script" not in answer.headers["content-security-policy"]
    # Its scripts have run: a menu opens.
    page.click(".dropdown-toggle:visible >> nth=-1")
    assert page.is_visible("ul.dropdown-menu:visible")
