"""The site behind nginx, configured by the very lines of docs/deployment.md."""

from __future__ import annotations

import http.client
import os
import random
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from . import processes, tus
from .test_tus_live import wait_for_offset

MIB = 1024 * 1024
DOCUMENT = (processes.ROOT / "docs" / "deployment.md").read_text()
# What the documented lines say of a server that is not this one.
DOCUMENTED = {
    "upstream": "127.0.0.1:8000",
    "data": "/srv/uploads/var/",
    "snippet": "/etc/nginx/snippets/uploads.conf",
    "certificates": "/etc/ssl/uploads/",
    "listen": "listen 443 ssl;",
}


def documented(name: str) -> str:
    """Return the nginx block that begins with the name of its file."""
    blocks = re.findall(r"^```nginx\n# (\S+)\n(.*?)^```", DOCUMENT, re.M | re.S)
    return dict(blocks)[name]


def adapted(text: str, **changes: object) -> str:
    """Return documented lines for this machine; each change must be one."""
    for what, value in changes.items():
        assert DOCUMENTED[what] in text
        text = text.replace(DOCUMENTED[what], str(value))
    return text


def snippet_for(site) -> str:
    return adapted(
        documented(DOCUMENTED["snippet"]),
        upstream=f"127.0.0.1:{site.port}",
        data=f"{site.data_dir}/",
    )


@pytest.fixture
def in_front(make_nginx, make_client):
    """Put nginx in front of a site; return a visitor who comes through it."""

    def make(site):
        return make_client(make_nginx(snippet_for(site)))

    return make


def open_upload(client, size, path="/uploads/", **more):
    new = {"filename": "film.bin", "size": size} | more
    answer = client.post(path, new)
    assert answer.status == 201, answer.body
    return answer.json()


def received(client, url):
    """Return what is recorded, without claiming the right to go on there."""
    return client.get(url).json()["received"]


def finished(client, content, **more):
    """Upload a file in one stretch; return it as its owner sees it."""
    url = open_upload(client, len(content), **more)["url"]
    assert client.patch(url, 0, content).status == 200
    answer = client.post(f"{url}complete/")
    assert answer.status == 200, answer.body
    return answer.json()


# --- Up -----------------------------------------------------------------------------


def test_a_file_goes_up_and_comes_back_through_nginx(live_site, in_front):
    client = in_front(live_site)
    content = os.urandom(3 * MIB)
    upload = finished(client, content)
    answer = client.get(upload["file"]["url"])
    assert answer.body == content
    assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_what_was_sent_before_a_cut_is_kept(live_site, in_front, how):
    client = in_front(live_site)
    content = random.Random(1).randbytes(10_000_000)
    url = open_upload(client, len(content))["url"]
    sent = 3_000_000
    request = client.begin("PATCH", url, len(content), {"Upload-Offset": "0"})
    request.send(content[:sent])
    processes.wait_for(lambda: received(client, url) == sent, 30, "it is recorded")
    # Of this, nginx drops what it has not passed on when the line breaks.
    request.send(content[sent : sent + 1_000_000])
    {"fin": request.close, "rst": request.reset}[how]()
    offset = int(client.head(url).headers["Upload-Offset"])
    assert sent <= offset <= sent + 1_000_000
    assert client.patch(url, offset, content[offset:]).status == 200
    assert client.get(f"{url}file/").body == content


def test_an_upload_of_tus_that_was_cut_goes_on_through_nginx(live_site, in_front):
    """What had come to the site is not sent again."""
    client = in_front(live_site)
    content = random.randbytes(MIB)
    url = tus.create(client, MIB)
    with client.begin(
        "PATCH", url, MIB, tus.V1 | tus.OFFSETS | {"Upload-Offset": "0"}
    ) as request:
        request.send(content[:700_000])
        wait_for_offset(live_site, url, 700_000)
    assert tus.offset_of(client, url) == 700_000
    assert tus.patch(client, url, 700_000, content[700_000:]).status == 204
    assert client.get(url).body == content


def test_bytes_reach_the_site_while_the_client_is_still_sending(live_site, in_front):
    client = in_front(live_site)
    url = open_upload(client, 1_000_000)["url"]
    start = {"Upload-Offset": "0"}
    with client.cut("PATCH", url, b"x" * 1_000_000, 400_000, "stall", start):
        processes.wait_for(lambda: received(client, url) == 400_000, 10, "it is there")


def test_a_chunk_of_20_mb_is_not_refused(live_site, in_front):
    client = in_front(live_site)
    size = 20_000_000
    upload = open_upload(client, size, chunk_size=size)
    answer = client.put(f"{upload['url']}chunks/0/", bytes(size))
    assert answer.status == 201, answer.body


def test_a_body_of_unknown_length_comes_through(live_site, in_front):
    client = in_front(live_site)
    url = open_upload(client, 3 * MIB)["url"]
    assert client.patch(url, 0, (bytes(MIB) for _ in range(3))).status == 200


def test_without_its_lines_nginx_would_refuse_the_chunk(
    live_site, make_nginx, make_client
):
    lines = snippet_for(live_site).replace("client_max_body_size 0;", "")
    client = make_client(make_nginx(lines))
    upload = open_upload(client, 2 * MIB, chunk_size=2 * MIB)
    answer = client.put(f"{upload['url']}chunks/0/", bytes(2 * MIB))
    assert answer.status == 413


def test_nginx_redirects_nothing_by_itself(live_site, in_front, make_client):
    client = in_front(live_site)
    url = open_upload(client, 10)["url"]
    assert client.get(url.rstrip("/")).status == 200
    by_nginx, by_site = (
        each.post("/uploads") for each in (client, make_client(live_site))
    )
    assert by_nginx.status == by_site.status
    assert by_nginx.headers["Location"] == by_site.headers["Location"]


# --- Down ---------------------------------------------------------------------------


@pytest.fixture
def handing_over(make_live_site):
    """A site that leaves the sending of files to nginx."""
    return make_live_site(env={"SENDFILE": "X-Accel-Redirect"})


def test_nginx_sends_the_file_itself(handing_over, in_front, make_client):
    client = in_front(handing_over)
    content = os.urandom(2 * MIB)
    upload = finished(client, content, filename="Übung 50% (1) #2?.mp4")
    url = upload["file"]["url"]
    answer = client.get(url)
    assert (answer.status, answer.body) == (200, content)
    assert "X-Accel-Redirect" not in answer.headers
    # The site by itself sends no byte of it, only the order to.
    direct = make_client(handing_over)
    direct.cookies = client.cookies
    assert direct.get(url).headers["X-Accel-Redirect"].startswith("/protected/")
    assert direct.get(url).body == b""


def test_nginx_sends_ranges(handing_over, in_front):
    client = in_front(handing_over)
    content = os.urandom(100_000)
    url = finished(client, content)["file"]["url"]
    answer = client.get(url, Range="bytes=1000-1999")
    assert (answer.status, answer.body) == (206, content[1000:2000])
    assert answer.headers["Content-Range"] == "bytes 1000-1999/100000"
    assert client.get(url, Range="bytes=-10").body == content[-10:]
    assert client.get(url, Range="bytes=100000-").status == 416


def test_a_file_that_nginx_sends_is_as_harmless_as_one_that_the_site_sends(
    handing_over, live_site, in_front
):
    page = b"<script>alert(1)</script>"
    said = {"filename": "page.html", "content_type": "text/html"}
    answers = []
    for site in (handing_over, live_site):
        client = in_front(site)
        answers.append(client.get(finished(client, page, **said)["file"]["url"]))
    for name in (
        "Content-Type",
        "Content-Disposition",
        "X-Content-Type-Options",
        "Content-Security-Policy",
        "Cache-Control",
    ):
        by_nginx, by_site = (answer.headers.get_all(name) for answer in answers)
        assert by_nginx == by_site, name
        assert len(by_site) == 1


def test_files_cannot_be_had_past_the_site(handing_over, in_front):
    client = in_front(handing_over)
    finished(client, b"mine")
    (path,) = handing_over.files()
    name = path.relative_to(handing_over.media).as_posix()
    for guess in (
        f"/protected/{name}",
        f"/protected//{name}",
        f"/uploads/../protected/{name}",
        f"/%70rotected/{name}",
        f"/media/{name}",
        "/protected/../db.sqlite3",
        "/protected../db.sqlite3",
    ):
        assert client.get(guess).status == 404, guess


def test_a_stranger_gets_nothing_through_nginx(handing_over, in_front):
    url = finished(in_front(handing_over), b"mine")["file"]["url"]
    answer = in_front(handing_over).get(url)
    assert answer.status == 404
    assert b"mine" not in answer.body


# --- https --------------------------------------------------------------------------


@pytest.fixture
def secure_port(make_live_site, make_nginx, tmp_path):
    """The port of the documented server with TLS, in front of a site that knows it."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    site = make_live_site(env={"BEHIND_HTTPS_PROXY": "1"})
    port = processes.free_port()
    snippet = tmp_path / "snippet.conf"
    snippet.write_text(snippet_for(site))
    make_certificate(tmp_path)
    server = adapted(
        documented("/etc/nginx/sites-enabled/uploads.conf"),
        listen=f"listen 127.0.0.1:{port} ssl;",
        certificates=f"{tmp_path}/",
        snippet=snippet,
    )
    # The fixture has begun a server block; it becomes one that serves nothing.
    make_nginx("return 404;\n}\n" + server.strip().removesuffix("}"))
    return port


def make_certificate(folder: Path) -> None:
    names = ["-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"]
    kind = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run(
        ["openssl", "req", *kind, *names, "-subj", "/CN=127.0.0.1"],
        check=True,
        capture_output=True,
    )


def ask(port, method, path, body=None, **headers):
    """Send one request over TLS; return the answer and its body."""
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, sent)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response, answer


def test_https_is_noticed_and_paths_stay_paths(secure_port):
    token = "t" * 32
    headers = {
        "Cookie": f"csrftoken={token}",
        "X_CSRFToken": token,
        "Content_Type": "application/json",
        "Origin": f"https://127.0.0.1:{secure_port}",
    }
    new = b'{"filename": "film.bin", "size": 5}'
    response, body = ask(secure_port, "POST", "/uploads/", new, **headers)
    assert response.status == 201, body
    assert re.fullmatch(r"/uploads/[0-9a-f-]{36}/", response.headers["Location"])
    assert "Secure" in response.headers["Set-Cookie"]
    headers["Origin"] = "https://elsewhere.example"
    assert ask(secure_port, "POST", "/uploads/", new, **headers)[0].status == 403


def test_an_upload_of_tus_is_known_by_its_url_outside(secure_port):
    headers = {"Tus_Resumable": "1.0.0", "Upload_Length": "5"}
    response, body = ask(secure_port, "POST", "/uploads/tus/", b"", **headers)
    assert response.status == 201, body
    outside = f"https://127.0.0.1:{secure_port}/uploads/tus/"
    assert response.headers["Location"].startswith(outside)


def test_a_client_cannot_pretend_to_come_by_https(make_live_site, in_front):
    client = in_front(make_live_site(env={"BEHIND_HTTPS_PROXY": "1"}))
    headers = {"X-Forwarded-Proto": "https"}
    # Django asks for a Referer only where it takes the request to be secure.
    new = b'{"filename": "film.bin", "size": 5}'
    answer = client.request(
        "POST", "/uploads/", new, headers | {"Content-Type": "application/json"}
    )
    assert answer.status == 201, answer.body


# --- Bodies in files ----------------------------------------------------------------


def test_nginx_takes_chunks_into_files_by_the_documented_lines(
    make_live_site, make_nginx, make_client, tmp_path
):
    secret, bodies = "put-thirty-random-characters-here", tmp_path / "bodies"
    uploads = {"BODY_FILES_ROOT": str(bodies), "BODY_FILES_SECRET": secret}
    site = make_live_site(uploads=uploads)
    lines = adapted(
        documented("/etc/nginx/snippets/upload-bodies.conf"),
        upstream=f"127.0.0.1:{site.port}",
        data=f"{tmp_path}/",
    )
    assert secret in lines
    client = make_client(make_nginx(lines + snippet_for(site)))
    content = random.randbytes(3 * MIB)
    upload = open_upload(client, len(content), chunk_size=2 * MIB)
    for number in (1, 0):
        piece = content[number * 2 * MIB : (number + 1) * 2 * MIB]
        answer = client.put(f"{upload['url']}chunks/{number}/", piece)
        assert answer.status == 201, answer.body
    answer = client.post(f"{upload['url']}complete/")
    assert client.get(answer.json()["file"]["url"]).body == content
    # A client that names a file itself names only what nginx puts in its place.
    again = open_upload(client, 10, chunk_size=10)
    named = {"X-Upload-Body-File": "/etc/hostname", "X-Upload-Body-Secret": secret}
    path = f"{again['url']}chunks/0/"
    assert client.put(path, b"0123456789", **named).status == 201
    assert client.get(f"{again['url']}file/").body == b"0123456789"
    processes.wait_for(lambda: not any(bodies.iterdir()), 10, "nginx has tidied up")
