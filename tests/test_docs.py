"""What the documents say is so: their code runs, their links lead somewhere."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.core.files.uploadedfile import SimpleUploadedFile
from django.dispatch import Signal
from django.template import engines

from resumable_uploads import (
    checks,
    conf,
    engine,
    errors,
    hooks,
    payloads,
    policies,
    signals,
    webhooks,
)
from resumable_uploads.forms import receive
from resumable_uploads.models import UploadSession
from resumable_uploads.owners import Owner, owner_of

from . import making, processes, tus
from .client import Client
from .live import CeleryWorker, LiveSite, clean_environment
from .receiver import SECRET, Receiver
from .visitor import Visitor

ROOT = processes.ROOT
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = ROOT / "docs" / "settings.md"
UPLOADER = ROOT / "docs" / "uploader.md"
QUICKSTART = ROOT / "docs" / "quickstart.md"
DEPLOYMENT = ROOT / "docs" / "deployment.md"
ENVIRONMENT = ROOT / "docs" / "environment.md"

UNITS = {"KIB": conf.KIB, "MIB": conf.MIB, "GIB": policies.GIB, "timedelta": timedelta}


def blocks(path: Path, *languages: str) -> Iterator[tuple[str, str]]:
    """Yield the language and the text of each fenced block, without its indentation."""
    fenced = r"^( *)```(\w+)\n(.*?)^\1```$"
    for _, language, text in re.findall(fenced, path.read_text(), re.M | re.S):
        if not languages or language in languages:
            yield language, textwrap.dedent(text)


def named_block(path: Path, name: str) -> str:
    """Return the block that begins with the name of its file."""
    (text,) = [text for _, text in blocks(path) if text.startswith(f"# {name}\n")]
    return text


def rows(path: Path, heading: str = "") -> dict[str, list[str]]:
    """Return the rows of tables by the code in their first cell.

    Those under a heading, where one is given.
    """
    text = path.read_text()
    if heading:
        text = re.split(r"^#", text.split(f"{heading}\n")[1], flags=re.M)[0]
    lines = re.findall(r"^\| *`([\w]+)[`(].*?\|(.*)\|$", text, re.M)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


# --- Code and links -----------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_the_documents_compiles(path):
    for _, text in blocks(path, "python", "py"):
        compile(text, f"{path.name}: {text[:40]!r}", "exec")


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ +(.+)$", text, re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_headings_that_are_there(path):
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", path.read_text())
    dead = [
        (target, anchor)
        for target, anchor in links
        if anchor not in anchors((path.parent / target) if target else path)
    ]
    assert dead == []


def test_the_map_names_every_document():
    index = (ROOT / "docs" / "index.md").read_text()
    there = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", index)) >= there


# --- Settings and policies ----------------------------------------------------------


def test_the_defaults_of_settings_are_documented():
    documented = {
        name: eval(cells[1].strip("`"), dict(UNITS))
        for name, cells in rows(SETTINGS).items()
        if name in conf.DEFAULTS
    }
    assert documented == conf.DEFAULTS


def test_the_attributes_of_policies_are_documented_with_their_defaults():
    documented = {
        name: eval(cells[0].strip("`"), dict(UNITS))
        for name, cells in rows(SETTINGS, "### Attributes").items()
        if name in checks.POLICY_RULES
    }
    assert documented == {
        name: value
        for name, value in vars(policies.UploadPolicy).items()
        if not name.startswith("_") and not callable(value) and name != "lifetime"
    }


def test_the_methods_to_override_are_documented():
    source = inspect.getsource(policies.UploadPolicy)
    to_override = source.partition("# To override:")[2].partition("# The rules:")[0]
    methods = set(re.findall(r"def (\w+)", to_override))
    assert methods == set(rows(SETTINGS, "### By subclass"))
    the_others = set(re.findall(r"    def ([a-z]\w+)", source)) - methods
    assert {name for name in the_others if f"`{name}`" not in SETTINGS.read_text()} == {
        "lifetime"
    }


@pytest.fixture
def documented_policies(monkeypatch):
    """The module documents.policies of docs/settings.md."""
    module = ModuleType("documents.policies")
    monkeypatch.setitem(sys.modules, "documents", ModuleType("documents"))
    monkeypatch.setitem(sys.modules, "documents.policies", module)
    exec(named_block(SETTINGS, "documents/policies.py"), vars(module))
    return module


def test_the_documented_settings_pass_the_checks(documented_policies, settings):
    examples = [
        text for _, text in blocks(SETTINGS, "python") if "RESUMABLE_UPLOADS" in text
    ]
    assert len(examples) >= 3
    for text in examples:
        said = {"STORAGES": settings.STORAGES}
        exec(text, said)
        # django-storages is not among the packages of the tests.
        backends = said["STORAGES"].values()
        settings.STORAGES = said["STORAGES"] | {
            alias: settings.STORAGES["default"]
            for alias, entry in said["STORAGES"].items()
            if entry["BACKEND"].startswith("storages.") and entry in backends
        }
        settings.RESUMABLE_UPLOADS = said["RESUMABLE_UPLOADS"]
        settings.MEDIA_ROOT = "/srv/uploads/media"
        found = [message for message in checks.check_settings() if message.is_serious()]
        assert found == []


def test_the_documented_policies_answer_as_they_say(documented_policies):
    visitor = Owner("session:x")
    user = Owner("user:1", SimpleNamespace(is_staff=False))
    boss = Owner("user:2", SimpleNamespace(is_staff=True, max_upload_size=7))
    staff = documented_policies.Staff("staff")
    assert [staff.permits(owner) for owner in (visitor, user, boss)] == [0, 0, 1]
    by_user = documented_policies.ByUser("by_user")
    sizes = [by_user.get_max_size(owner) for owner in (visitor, user, boss)]
    assert sizes == [100 * conf.MIB, 1024 * conf.MIB, 7]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("stream: OK", None),
        ("stream: Eicar FOUND", errors.Rejected),
        ("INSTREAM size limit exceeded. ERROR", OSError),
    ],
)
def test_the_documented_scanner_heeds_the_answer(
    documented_policies, monkeypatch, answer, expected
):
    monkeypatch.setattr(documented_policies, "scan", lambda file: answer)
    policy = documented_policies.Scanned("scanned")
    if expected is None:
        assert policy.validate(None, None) is None
    else:
        with pytest.raises(expected):
            policy.validate(None, None)


# --- Hooks --------------------------------------------------------------------------

HOOKS = ROOT / "docs" / "hooks.md"


def test_every_hook_is_in_the_table():
    table = HOOKS.read_text()
    named = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert {name for name in named if f"`{name}`" not in table} == set()
    methods = {"pre_create", "progress", "validate", "post_create", "post_finish"}
    assert set(re.findall(r"\| `(\w+)\(", table)) == {*methods, "post_terminate"}


@pytest.mark.django_db(transaction=True)
def test_the_documented_hooks_do_what_they_say(settings, django_user_model, capsys):
    module: dict[str, object] = {"__name__": "studio.policies"}
    exec(named_block(HOOKS, "studio/policies.py"), module)
    settings.RESUMABLE_UPLOADS = settings.RESUMABLE_UPLOADS | {
        "POLICIES": {"films": {"class": module["Films"]}},
        "PROGRESS_EVERY": timedelta(microseconds=1),
    }
    jane = django_user_model.objects.create_user("jane")
    owner, film = Owner(f"user:{jane.pk}", jane), bytes(4) + b"ftypmp42" + bytes(99)
    with pytest.raises(errors.Rejected) as refusal:
        making.sent(film, owner=owner, policy="films")
    assert refusal.value.status == 402
    jane.is_superuser = True
    upload = making.sent(film, owner=owner, policy="films")
    assert (upload.filename, upload.state) == ("jane-film.mp4", "complete")
    assert upload.metadata == {"title": "film.mp4"}
    assert making.sent(bytes(99), owner=owner, policy="films").state == "rejected"
    receivers: dict[str, Any] = {}
    exec(named_block(HOOKS, "studio/receivers.py"), receivers)
    try:
        with pytest.raises(errors.Rejected, match="stay at home"):
            making.sent(film, owner=owner, policy="films", filename="Secret.mp4")
        upload = making.open_upload(9, owner=owner, policy="films")
        jane.is_active = False
        jane.save()
        hooks._clock.is_due(upload.pk, 0)
        with pytest.raises(errors.Stopped, match="was closed"):
            engine.append(making.now(upload), 0, making.body(bytes(9)))
        assert "jane-film.mp4 9 of 9" in capsys.readouterr().out
    finally:
        signals.upload_pre_create.disconnect(receivers["no_secrets"])
        signals.upload_progress.disconnect(receivers["show"])


@pytest.mark.django_db(transaction=True)
def test_the_documented_verification_knows_right_from_wrong(settings):
    module: dict[str, Any] = {}
    exec(named_block(HOOKS, "archive/verify.py"), module)
    with Receiver() as receiver:
        webhook = {"url": receiver.url, "secret": SECRET, "events": ["completed"]}
        making.use(
            settings, WEBHOOKS={"archive": webhook}, RUNNER="tests.rest.assembles"
        )
        making.sent(b"abc", metadata={"title": "holiday.mp4"})
        webhooks.deliver()
    (call,) = receiver.calls
    assert module["verify"](call.headers, call.body, SECRET)
    assert not module["verify"](call.headers, call.body + b" ", SECRET)
    assert not module["verify"](call.headers, call.body, "whsec_" + "A" * 32)
    old = call.headers | {"webhook-timestamp": "1600000000"}
    assert not module["verify"](old, call.body, SECRET)
    (_, example) = next(blocks(HOOKS, "json"))
    shown = json.loads(example)
    assert set(shown) == set(call.json())
    assert set(shown["data"]) == set(call.json()["data"])


def test_the_documented_webhooks_pass_the_checks(monkeypatch, settings):
    monkeypatch.setenv("ARCHIVE_WEBHOOK_SECRET", SECRET)
    said: dict[str, Any] = {}
    exec(named_block(HOOKS, "mysite/settings.py"), said)
    settings.RESUMABLE_UPLOADS = said["RESUMABLE_UPLOADS"]
    assert [one for one in checks.check_settings() if one.is_serious()] == []


# --- From tusd ----------------------------------------------------------------------

FROM_TUSD = ROOT / "docs" / "migrating-from-tusd.md"


@pytest.fixture
def migrated(monkeypatch, settings, tmp_path):
    """The site of docs/migrating-from-tusd.md; its folder "media" of modules."""
    monkeypatch.setenv("ARCHIVE_WEBHOOK_SECRET", SECRET)
    for name in ("media", "media.policies", "media.importing", "mysite", "mysite.urls"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name in ("media.policies", "media.importing", "mysite.urls"):
        path = f"{name.replace('.', '/')}.py"
        exec(named_block(FROM_TUSD, path), vars(sys.modules[name]))
    said: dict[str, Any] = {}
    exec(named_block(FROM_TUSD, "mysite/settings.py"), said)
    settings.ROOT_URLCONF = "mysite.urls"
    settings.USE_X_FORWARDED_HOST = said["USE_X_FORWARDED_HOST"]
    settings.SECURE_PROXY_SSL_HEADER = said["SECURE_PROXY_SSL_HEADER"]
    settings.RESUMABLE_UPLOADS = said["RESUMABLE_UPLOADS"] | {
        "RUNNER": "tests.rest.assembles"
    }
    assert [one for one in checks.check_settings() if one.is_serious()] == []
    return settings


@pytest.mark.django_db(transaction=True)
def test_a_site_that_has_left_tusd(migrated, django_user_model, capsys):
    answer = tus.post(Visitor(), url="/files/", Upload_Length=3)
    assert (answer.status, answer.body) == (
        403,
        b"ERR_UPLOAD_REJECTED: Please log in.\n",
    )
    jane = Visitor(django_user_model.objects.create_user("jane"))
    with Receiver() as receiver:
        migrated.RESUMABLE_UPLOADS["WEBHOOKS"]["archive"]["url"] = receiver.url
        headers = tus.metadata(filename="a.mp4") | {"Upload-Length": "3"}
        headers |= {"X-Forwarded-Host": "testserver", "X-Forwarded-Proto": "https"}
        answer = tus.post(jane, url="/files/", **headers)
        assert answer.headers["Location"].startswith("https://testserver/files/")
        url = tus.path(answer)
        assert tus.patch(jane, url, 0, b"abc").status == 204
        upload = UploadSession.objects.get()
        assert upload.metadata["owner"] == "jane"
        assert f"ready: {upload.file.path}" in capsys.readouterr().out
        assert tus.delete(jane, url).status == 204
        webhooks.deliver()
    receive_hook: dict[str, Any] = {}
    exec(named_block(FROM_TUSD, "archive/receiver.py"), receive_hook)
    for call in sorted(receiver.calls, key=lambda call: call.json()["Type"]):
        assert call.is_signed_by(SECRET)
        receive_hook["handle"](call.body)
    told = capsys.readouterr().out
    assert f"{upload.pk} a.mp4 {upload.file.path}" in told
    assert f"{upload.pk} is gone after 3 bytes" in told


@pytest.mark.django_db(transaction=True)
def test_finished_files_of_tusd_are_read_in(migrated, django_user_model, tmp_path):
    jane = django_user_model.objects.create_user("jane")
    for name, size, data in (("one", 3, b"abc"), ("two", 9, b"abc")):
        facts = {"ID": name, "Size": size, "SizeIsDeferred": False}
        facts |= {"MetaData": {"filename": f"{name}.mp4", "filetype": "video/mp4"}}
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"{name}.info").write_text(json.dumps(facts))
    read_in = sys.modules["media.importing"].read_in
    (upload,) = read_in(tmp_path, Owner(f"user:{jane.pk}", jane))
    assert (upload.filename, upload.state) == ("one.mp4", "complete")
    assert making.read(upload) == b"abc"


def test_every_hook_of_tusd_has_its_row():
    named = set(re.findall(r"^\| `((?:pre|post)-\w+)`", FROM_TUSD.read_text(), re.M))
    assert named == {
        *("pre-create", "post-create", "post-receive", "pre-finish"),
        *("post-finish", "pre-terminate", "post-terminate"),
    }
    assert named >= set(payloads.TUSD_TYPES.values())


# --- Environment and servers --------------------------------------------------------


def read_in_project(name: str) -> bool:
    """Does the demo project, or gunicorn's configuration, look a variable up?"""
    sources = [path.read_text() for path in (ROOT / "project").glob("*.py")]
    # With either kind of quotes, since some are within a string.
    return any(re.search(rf"""["']{name}["']""", source) for source in sources)


def test_no_environment_variable_is_documented_that_nobody_reads():
    assert [name for name in rows(ENVIRONMENT) if not read_in_project(name)] == []


def environment_file() -> dict[str, str]:
    lines = named_block(DEPLOYMENT, "/etc/uploads.env").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_the_environment_file_has_documented_variables_only():
    assert set(environment_file()) - set(rows(ENVIRONMENT)) == set()


def test_what_is_said_of_gunicorn_is_in_its_configuration():
    text = (ROOT / "project" / "gunicorn.conf.py").read_text()
    table = DEPLOYMENT.read_text().partition("## gunicorn")[2].partition("\n## ")[0]
    claims = re.findall(r"^\| `(\w+)(?: = ([^`]+))?`(?: \(`(\w+)`\))?", table, re.M)
    assert len(claims) >= 7
    for name, value, variable in claims:
        (line,) = re.findall(rf"^{name} = (.*)$", text, re.M)
        assert value in line
        assert variable in line


def exec_lines(unit: str, key: str) -> list[list[str]]:
    text = named_block(DEPLOYMENT, f"/etc/systemd/system/{unit}")
    return [shlex.split(line) for line in re.findall(rf"^{key}=(.*)$", text, re.M)]


@pytest.fixture
def documented_site(make_live_site, own_valkey):
    """A site with the documented environment, on this run's PostgreSQL and Redis."""
    env = environment_file()
    assert env["DATABASE_URL"].startswith("postgres://")
    env |= {"ALLOWED_HOSTS": "127.0.0.1", "REDIS_URL": own_valkey.url}
    mine = {"DATA_DIR", "DATABASE_URL", "SECRET_KEY"}
    return make_live_site(
        "postgres",
        start=False,
        preload=False,
        env={name: value for name, value in env.items() if name not in mine},
    )


def run_here(command: list[str], site: LiveSite) -> list[str]:
    """Return a documented command for this environment and this site's folder."""
    here = f"{Path(sys.executable).parent}/"
    adapted = [word.replace("/srv/uploads/.venv/bin/", here) for word in command]
    return [word.replace("/srv/uploads/var", str(site.data_dir)) for word in adapted]


def test_the_documented_services_finish_an_upload(documented_site, make_worker):
    site = documented_site
    for command in exec_lines("uploads-web.service", "ExecStartPre"):
        assert command[1] == "manage.py"
        site.manage(*command[2:])
    (web,) = exec_lines("uploads-web.service", "ExecStart")
    assert web[1:] == ["-c", "project/gunicorn.conf.py"]
    site.start()
    services = []
    for unit, is_clock in (
        ("uploads-worker.service", False),
        ("uploads-beat.service", True),
    ):
        (command,) = exec_lines(unit, "ExecStart")
        service = CeleryWorker(site, beat=is_clock)
        service.command = run_here(command, site)
        services.append(service)
    try:
        for service in services:
            service.start()
        with Client(site.url) as client:
            new = {"filename": "talk.mp4", "size": 300_000, "chunk_size": 100_000}
            url = client.post("/uploads/", new).json()["url"]
            for number in range(3):
                client.put(f"{url}chunks/{number}/", bytes(100_000))
            processes.wait_for(
                lambda: client.get(url).json()["state"] == "complete", 30, "it is whole"
            )
            sent_by_nginx = client.get(f"{url}file/").headers["X-Accel-Redirect"]
        assert sent_by_nginx.endswith("/talk.mp4")
        assert "resumable_uploads.assemble" in services[0].log()
    finally:
        for service in services:
            service.kill()


# --- The uploader -------------------------------------------------------------------


@pytest.fixture
def visitor_s_request(rf, db):
    request = rf.get("/")
    request.session = SessionStore()
    request.user = AnonymousUser()
    return request


def test_the_documented_template_renders_the_uploader(visitor_s_request, settings):
    settings.RESUMABLE_UPLOADS = {"POLICIES": {"documents": {"max_size": 10}}}
    _, text = next(blocks(UPLOADER, "django"))
    page = engines["django"].from_string(text).render({}, visitor_s_request)
    assert "data-ru-uploader" in page
    assert "autostart.js" in page


@pytest.fixture
def letters(monkeypatch, tmp_path, settings):
    """The app "letters" of docs/uploader.md; the view it documents is returned."""
    monkeypatch.setitem(sys.modules, "letters", ModuleType("letters"))
    for name in ("forms", "views"):
        module = ModuleType(f"letters.{name}")
        module.__package__ = "letters"
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(named_block(UPLOADER, f"letters/{name}.py"), vars(module))
    (_, html), *_ = [
        block for block in blocks(UPLOADER, "html") if "letters/write.html" in block[1]
    ]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "write.html").write_text(html)
    (templates,) = settings.TEMPLATES
    settings.TEMPLATES = [templates | {"DIRS": [tmp_path]}]
    return sys.modules["letters.views"].write


@pytest.mark.django_db(transaction=True)
def test_the_documented_form_takes_a_file_with_and_without_scripts(
    letters, rf, visitor_s_request, capsys
):
    page = letters(visitor_s_request).content.decode()
    assert 'enctype="multipart/form-data"' in page
    assert re.search(r'<input[^>]*type="file"[^>]*name="scans"', page)

    def send(**fields):
        request = rf.post("/", {"subject": "Hello", **fields})
        request.session, request.user = visitor_s_request.session, AnonymousUser()
        return letters(request).status_code

    assert send(scans=SimpleUploadedFile("a.txt", b"hello")) == 302
    assert capsys.readouterr().out.startswith("a.txt uploads/")
    policy = policies.get_policy("default")
    file = SimpleUploadedFile("b.txt", b"hello", "text/plain")
    upload = receive(owner_of(visitor_s_request), policy, file)
    assert send(scans=[str(upload.pk)]) == 302
    assert capsys.readouterr().out.startswith("b.txt uploads/")
    assert send(scans=[str(upload.pk)]) == 200


def test_each_feature_of_the_table_names_a_test_that_is_there():
    table = UPLOADER.read_text().split("## Features")[1].split("## Measured")[0]
    browser = "".join(
        path.read_text() for path in (ROOT / "tests/browser").glob("test_*.py")
    )
    named = set(re.findall(r"`(test_\w+)`", table))
    assert len(named) > 30
    assert {name for name in named if f"def {name}(" not in browser} == set()
    cases = set(re.findall(r"C \*([^*]+)\*", table))
    assert len(cases) > 12
    assert {case for case in cases if f'    "{case}": (' not in browser} == set()
    rows = [line.split("|")[1:3] for line in table.splitlines() if line[:2] == "| "]
    claims = [(name, here) for name, here in rows if re.match(r" [yo]\b", here)]
    assert len(claims) > 45
    shown = ("test_", '(J "', "(C *", "the same", "make js")
    assert [row for row in claims if not any(word in row[1] for word in shown)] == []


# --- The quick start ----------------------------------------------------------------


class Follower:
    """Somebody who does what the quick start says, and nothing else."""

    # What a file block begins with: "# mysite/urls.py", maybe ", at the end".
    FILE = re.compile(r"(?:# |\{# )(\w[\w./]*\.\w+)(, at the end)?(?: #\})?\n")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = processes.free_port()
        self.env = clean_environment() | {"PYTHONPATH": str(ROOT)}
        self.server = None

    def follow(self, path: Path) -> None:
        for language, text in blocks(path):
            if language == "sh":
                self.type(text)
            elif found := self.FILE.match(text):
                self.write(self.folder / found[1], text, bool(found[2]))

    def type(self, text: str) -> None:
        for line in text.splitlines():
            words = shlex.split(line)
            # The app is here already, as the tests want it.
            if words[0] == "pip":
                continue
            if words[0] == "cd":
                self.folder /= words[1]
            elif words[-1] == "runserver":
                self.serve([*words, "--noreload", str(self.port)])
            else:
                self.run(words)

    def write(self, path: Path, text: str, at_the_end: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text() + text if at_the_end else text)

    def run(self, words: list[str]) -> str:
        log = self.folder / "typed.log"
        log.unlink(missing_ok=True)
        process = processes.start(self.spelled(words), log, env=self.env)
        assert process.wait(60) == 0, log.read_text()
        return log.read_text()

    def serve(self, words: list[str]) -> None:
        log = self.folder / "server.log"
        self.server = processes.start(self.spelled(words), log, env=self.env)
        processes.wait_for(lambda: processes.accepts(self.port), 30, "it is served")

    def spelled(self, words: list[str]) -> list[str]:
        """Return a command that runs in the follower's folder, with our Python."""
        python = shlex.quote(sys.executable)
        programs = {"python": python, "django-admin": f"{python} -m django"}
        line = f"{programs[words[0]]} {shlex.join(words[1:])}"
        return ["sh", "-c", f"cd {shlex.quote(str(self.folder))} && exec {line}"]

    def shell(self, code: str) -> str:
        printed = self.run(["python", "manage.py", "shell", "-v0", "-c", code])
        return printed.splitlines()[-1]


@pytest.fixture
def follower(tmp_path):
    follower = Follower(tmp_path)
    yield follower
    if follower.server:
        processes.kill(follower.server)


def test_the_quick_start_works_word_by_word(follower):
    follower.follow(QUICKSTART)
    with Client(f"http://127.0.0.1:{follower.port}") as client:
        page = client.get("/documents/").body.decode()
        assert "data-ru-uploader" in page
        assert client.get("/static/resumable_uploads/autostart.js").status == 200
        refused = {"filename": "a.exe", "size": 9}
        assert client.post("/uploads/", refused).status == 422
        new = {"filename": "a.pdf", "size": 9}
        url = client.post("/uploads/", new).json()["url"]
        assert client.patch(url, 0, b"%PDF-1.4\n").status == 200
        assert client.get(url).json()["state"] == "complete"
        assert client.delete(url).status == 409
    (path,) = (path for path in follower.folder.glob("media/**/*") if path.is_file())
    assert path.read_bytes() == b"%PDF-1.4\n"
    assert path.is_relative_to(follower.folder / "media" / "documents")
    names = follower.shell(
        "from documents.models import Document\n"
        "from documents.receivers import keep\n"
        "from resumable_uploads.models import UploadSession\n"
        "keep(None, UploadSession.objects.get())\n"
        "print([document.name for document in Document.objects.all()])"
    )
    assert names == "['a.pdf']"
    assert "no issues" in follower.run(["python", "manage.py", "check"])
