"""What is another one's is not to be had at any address, by any method, by anybody.

The addresses are those of the URL configuration, so a new one is tried as well; where
nothing is known of how it is asked, the test says what to add here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.urls import path as url
from django.views.generic import RedirectView

from resumable_uploads.models import Chunk, UploadSession
from resumable_uploads.pages import UploadPage

from . import drafts, tus
from .buckets import OssClient, S3Client, credentials
from .client import OCTETS, Answer
from .contracts.protocol import Driver, File
from .foreign import Fine, Rest, Resumable, form
from .foreign import query as query_of
from .making import files_in, staging
from .rest import change
from .routes import Route, routes
from .test_bucket_contracts import OssDriver
from .test_client_contracts import (
    FineDriver,
    ResumableDriver,
)
from .test_client_contracts import RestDriver as OffsetDriver
from .test_protocol_contracts import RestByPut
from .test_tus_contracts import DraftDriver, TusDriver
from .visitor import Visitor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

SAFE = ("GET", "HEAD", "OPTIONS")
METHODS = (*SAFE, "POST", "PUT", "PATCH", "DELETE")
# How somebody is told that there is nothing for them, or that they ask in a wrong way.
NOTHING_HERE = (400, 401, 403, 404, 405, 412, 415)
MARK = b"bytes that nobody else may see. "

DRIVERS: dict[str, Driver] = {
    "rest": RestByPut(),
    "tus": TusDriver(),
    "ietf": DraftDriver(),
    "resumablejs": ResumableDriver(),
    "fineuploader": FineDriver(),
    "byteoffset": OffsetDriver(),
    "oss": OssDriver(),
}

for driver in DRIVERS.values():
    # Short ones, since they are looked at after each request.
    driver.piece = 400


@pytest.fixture(autouse=True)
def _small_parts(settings: Any) -> None:
    change(settings, BUCKETS={"demo-bucket": {"min_part_size": 0}})


@dataclass
class Target:
    """An upload of the victim's, and what its client knows of it."""

    protocol: str
    handle: Any
    file: File
    id: str = ""

    @cached_property
    def facts(self) -> set[str]:
        """What would tell a stranger something."""
        row = UploadSession.objects.get(pk=self.id)
        checksum = row.checksum.rpartition(":")[2]
        found = {self.id, row.pk.hex, row.filename, row.owner, checksum, row.file.name}
        found |= {
            str(row.client_key),
            row.object_key,
            row.lease,
        }
        found |= {row.owner.removeprefix("session:"), str(settings.MEDIA_ROOT)}
        return {fact for fact in found if fact and fact != "None" and len(fact) > 6}

    def kept(self) -> Any:
        """Return all that is there of it: row, chunks, bytes."""
        row = UploadSession.objects.filter(pk=self.id).values().get()
        chunks = Chunk.objects.filter(upload=self.id).order_by("pk").values()
        return row, list(chunks), contents(staging()), contents(settings.MEDIA_ROOT)


def contents(folder: str | Path) -> dict[str, bytes]:
    # Strangers have uploads of their own; those are none of the victim's.
    return {
        str(path): data
        for path in files_in(folder)
        if (data := path.read_bytes()).startswith(MARK)
    }


def sent_by(me: Any, protocol: str, is_complete: bool) -> Target:
    """Have somebody upload a file, or a part of it."""
    driver = DRIVERS[protocol]
    data = (MARK * (5 * driver.piece // 2 // len(MARK) + 1))[: 5 * driver.piece // 2]
    end = "done" if is_complete else "begun"
    file = File(data, f"plan {protocol} {end}.bin", len(data), f"{protocol}-{end}")
    before = set(UploadSession.objects.values_list("pk", flat=True))
    handle = driver.begin(me, file)
    driver.send(me, handle, file, 0)
    if is_complete:
        for number in range(1, len(file.pieces(driver.piece))):
            driver.send(me, handle, file, number)
        driver.finish(me, handle, file)
    row = UploadSession.objects.exclude(pk__in=before).get()
    assert row.state == ("complete" if is_complete else "receiving")
    return Target(protocol, handle, file, str(row.pk))


# Requests, as those who know how would ask


@dataclass
class Said:
    """What goes with a method and a path."""

    query: Mapping[str, object] = field(default_factory=dict)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Says = Callable[[Target, str], list[Said]]


def nothing(target: Target, method: str) -> list[Said]:
    return [Said()]


def a_form(target: Target, method: str) -> list[Said]:
    """Say the upload's id in every word that a form of this site has."""
    fields = {
        "action": "purge",
        "_selected_action": target.id,
        "uploads": target.id,
        "upload": target.id,
        "post": "yes",
        "next": "/my-uploads/",
    }
    body = urlencode(fields).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return [Said({"q": target.id, "next": "/"}, body, kind)]


def as_json(target: Target, method: str) -> list[Said]:
    said = {
        "filename": target.file.name,
        "size": target.file.size,
        "client_key": target.file.key,
        "chunk_size": DRIVERS["rest"].piece,
        "bucket": "demo-bucket",
    }
    kind = {"Content-Type": "application/json"}
    query = {"state": "receiving,complete", "id": target.id}
    return [Said(query, json.dumps(said).encode(), kind)]


def raw(target: Target, method: str) -> list[Said]:
    offset = {"Upload-Offset": str(DRIVERS["rest"].piece)}
    return [Said({}, b"abc", OCTETS | offset)]


def as_tus(target: Target, method: str) -> list[Said]:
    offset = {"Upload-Offset": str(DRIVERS["tus"].piece), "Upload-Length": "3"}
    whole = {"Upload-Concat": f"final;/uploads/tus/{target.id}"}
    drafts_say = drafts.V8 | drafts.PARTIAL | drafts.complete(False) | offset
    return [
        Said({}, b"abc", tus.V1 | tus.OFFSETS | offset),
        Said({}, b"abc", drafts_say),
        *([Said({}, b"", tus.V1 | whole)] if method == "POST" else []),
    ]


def as_resumable(target: Target, method: str) -> list[Said]:
    if target.protocol != "resumablejs":
        return []
    found = []
    for prefix in ("resumable", "flow", ""):
        client: Resumable = target.handle
        client = Resumable(**vars(client) | {"prefix": prefix})
        body, headers = form(client.parameters(2), client.bytes_of(2))
        found.append(
            Said(client.parameters(2)) if method in SAFE else Said({}, body, headers)
        )
    return found


def as_fine(target: Target, method: str) -> list[Said]:
    if target.protocol != "fineuploader":
        return []
    client: Fine = target.handle
    fields = {"qquuid": client.uuid, "qqtotalfilesize": len(client.data)}
    body = urlencode(fields | {"_method": "DELETE"}).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    part = client.request(1)
    if method in SAFE:
        return [Said(fields)]
    return [Said({}, body, kind), Said({}, part["body"], part["headers"])]


def by_offset(target: Target, method: str) -> list[Said]:
    if target.protocol != "byteoffset":
        return []
    client: Rest = target.handle
    start = {"X-Start-Byte": str(DRIVERS["byteoffset"].piece)}
    return [Said({}, b"abc", client.headers | start)]


def in_bucket(target: Target, method: str) -> list[Said]:
    if target.protocol != "oss":
        return []
    upload = {"uploadId": target.handle.upload_id}
    manifest = (
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        b"<ETag>0</ETag></Part></CompleteMultipartUpload>"
    )
    queries: dict[str, list[dict[str, str]]] = {
        "GET": [{}, upload, {"uploads": ""}, {"prefix": ""}, {"list-type": "2"}],
        "PUT": [{}, upload | {"partNumber": "2"}],
        "POST": [{"uploads": ""}, upload, {"delete": ""}],
        "DELETE": [{}, upload],
    }
    body = manifest if method == "POST" else b"abc"
    return [Said(query, body) for query in queries.get(method, [{}])]


VIEWS = "resumable_uploads.protocols"
# Which uploads an address is about, and how it is asked for one.
ASKED: dict[str, tuple[tuple[str, ...], Says]] = {
    "project.views.Index": (("rest",), nothing),
    "project.views.MyUploads": (("rest",), nothing),
    "project.views.discard": (("rest", "tus"), a_form),
    "project.clients.ClientPage": (("rest",), nothing),
    "resumable_uploads.health.live": (("rest",), nothing),
    "resumable_uploads.health.ready": (("rest",), nothing),
    "resumable_uploads.pages.UploadPage": (("rest",), a_form),
    f"{VIEWS}.rest.UploadsView": (("rest",), as_json),
    f"{VIEWS}.rest.LimitsView": (("rest",), as_json),
    f"{VIEWS}.rest.UploadDetailView": (("rest", "tus", "oss"), raw),
    f"{VIEWS}.rest.ChunkView": (("rest", "resumablejs"), raw),
    f"{VIEWS}.rest.CompleteView": (("rest",), raw),
    f"{VIEWS}.rest.FileView": (("rest", "fineuploader"), raw),
    f"{VIEWS}.tus.EndpointView": (("tus",), as_tus),
    f"{VIEWS}.tus.UploadView": (("tus", "rest"), as_tus),
    f"{VIEWS}.ietf._either.view": (("ietf", "tus"), as_tus),
    f"{VIEWS}.resumablejs.ResumableJsView": (("resumablejs",), as_resumable),
    f"{VIEWS}.fineuploader.EndpointView": (("fineuploader",), as_fine),
    f"{VIEWS}.fineuploader.DoneView": (("fineuploader",), as_fine),
    f"{VIEWS}.fineuploader.SessionView": (("fineuploader",), as_fine),
    f"{VIEWS}.fineuploader.DeleteView": (("fineuploader",), as_fine),
    f"{VIEWS}.byteoffset.StatusView": (("byteoffset",), by_offset),
    f"{VIEWS}.byteoffset.AppendView": (("byteoffset",), by_offset),
    f"{VIEWS}.multipart.sts.CredentialsView": (("oss",), as_json),
    f"{VIEWS}.multipart.bucket.BucketView": (("oss",), in_bucket),
    f"{VIEWS}.multipart.objects.ObjectView": (("oss",), in_bucket),
}
# All of the admin is asked in one way.
ADMIN = "admin/"
# What an argument of an address is, where the address is about an upload.
ARGUMENTS: dict[str, Callable[[Target], object]] = {
    "upload_id": lambda target: target.id,
    "object_id": lambda target: target.id,
    "number": lambda target: 1,
    "uuid": lambda target: target.handle.uuid,
    "bucket": lambda target: "demo-bucket",
    "key": lambda target: target.handle.key,
    "client": lambda target: "tus",
    # The admin's own.
    "id": lambda target: target.id,
    "url": lambda target: f"resumable_uploads/{target.id}",
    "app_label": lambda target: "resumable_uploads",
    "content_type_id": lambda target: (
        ContentType.objects.get_for_model(UploadSession).pk
    ),
}
# An argument that names an upload: a stranger is told that there is nothing.
# Names of a client's own choice lead everybody to uploads of their own.
NAMING = {"upload_id", "object_id"}


def asked(route: Route) -> tuple[tuple[str, ...], Says]:
    """Return how an address is asked. Raise AssertionError where nobody has said so."""
    unknown = set(route.arguments) - set(ARGUMENTS)
    assert not unknown, (
        f"{route} has arguments that no test knows: {sorted(unknown)}. Say in "
        "ARGUMENTS of this module which value belongs to an upload of somebody else's."
    )
    if route.template.startswith(ADMIN):
        return ("rest",), a_form
    assert route.view in ASKED, (
        f"{route} is a new address, of {route.view}. Say in ASKED of this module which "
        "protocol's uploads it is about, and what a proper request to it says."
    )
    return ASKED[route.view]


# Strangers


class Stranger:
    """Somebody to whom nothing belongs; ``me`` sends what they say."""

    def __init__(self, me: Visitor, has_credentials: bool = True) -> None:
        self.me = me
        self.held = credentials(me) if has_credentials else None

    def send(self, method: str, path: str, said: Said) -> Answer:
        if "/demo-bucket" in path and self.held:
            return self._signed(method, path, said)
        if said.query:
            path += f"?{query_of(said.query)}"
        return self.me.request(method, path, said.body or None, dict(said.headers))

    def _signed(self, method: str, path: str, said: Said) -> Answer:
        kind = S3Client if path.startswith(S3Client.root) else OssClient
        client = kind(self.me, self.held)
        key = unquote(path.partition("/demo-bucket")[2].removeprefix("/"))
        query = {name.replace("-", "_"): str(it) for name, it in said.query.items()}
        return client.request(method, key, said.body, **query)


def another_user() -> Stranger:
    return Stranger(Visitor(User.objects.create_user("stranger", password="x")))


def another_visitor() -> Stranger:
    return Stranger(Visitor())


def nobody() -> Stranger:
    return Stranger(Visitor(has_token=True), has_credentials=False)


def staff_of_something_else() -> Stranger:
    staff = User.objects.create_user("clerk", is_staff=True)
    staff.user_permissions.set(
        Permission.objects.filter(content_type__app_label="resumable_uploads").exclude(
            content_type__model="uploadsession"
        )
    )
    return Stranger(Visitor(staff))


@pytest.fixture
def victim(request: pytest.FixtureRequest) -> Visitor:
    if request.param == "visitor":
        return Visitor()
    return Visitor(User.objects.create_user("the-victim", password="x"))


def targets(victim: Visitor) -> list[Target]:
    """Have uploads of every protocol, some of them complete."""
    return [
        sent_by(victim, protocol, is_complete)
        for protocol in DRIVERS
        for is_complete in (False, True)
    ]


@cache
def templates() -> set[str]:
    return {route.template for route in routes()}


def about(route: Route, found: list[Target]) -> list[Target]:
    """Return those uploads that an address might be about."""
    protocols, _ = asked(route)
    if re.match(
        "admin/(auth|resumable_uploads/(accesskey|revocation))/", route.template
    ):
        return []
    wanted = [target for target in found if target.protocol in protocols]
    # The same view is asked for the others by another address; a page for all at once.
    is_twin = f"{route.template}/" in templates()
    is_page = not NAMING & set(route.arguments) and protocols == ("rest",)
    return (
        wanted[:1] if is_twin or is_page or route.template.startswith(ADMIN) else wanted
    )


def see_that_nothing_is_had(
    stranger: Stranger, found: list[Target], chosen: Sequence[Route] = ()
) -> None:
    """Try every address by every method.

    First those where a stranger opens nothing: uploads of theirs have the same names.
    """
    known = sorted(routes(), key=lambda route: route.template.startswith("uploads"))
    for route in chosen or known:
        for target in about(route, found):
            kept = target.kept()
            for method in METHODS:
                see_nothing(stranger, route, target, method)
            assert target.kept() == kept, f"{route} changes it"


def see_nothing(stranger: Stranger, route: Route, target: Target, method: str) -> None:
    path = address(route, target)
    for said in asked(route)[1](target, method):
        answer = stranger.send(method, path, said)
        what = f"{method} {path} {dict(said.query)}: {answer.status}"
        # 501 is a bucket's word for what it does not do at all.
        assert answer.status < 500 or answer.status == 501, what
        asked_with = f"{unquote(path)} {said.query} {said.body!r} {said.headers}"
        told = {fact for fact in words_in(answer, target) if fact not in asked_with}
        assert not told, what
        if NAMING & set(route.arguments) and method != "OPTIONS":
            assert is_refusal(answer, route), what


def address(route: Route, target: Target) -> str:
    return route.path({name: ARGUMENTS[name](target) for name in route.arguments})


def words_in(answer: Answer, target: Target) -> set[str]:
    """Return what an answer has of an upload: of its facts, and of its bytes."""
    told = f"{answer.body.decode('latin-1')}\n{dict(answer.headers.items())}"
    return {fact for fact in (*target.facts, MARK.decode()) if fact in told}


def is_refusal(answer: Answer, route: Route) -> bool:
    if route.template.startswith(ADMIN) and answer.status in (301, 302):
        # To the login, or to the same address with "change/": no word about it.
        return True
    return answer.status in NOTHING_HERE


@pytest.mark.parametrize(
    ("victim", "who"),
    [
        ("user", another_user),
        ("visitor", another_visitor),
        ("visitor", nobody),
    ],
    indirect=["victim"],
)
def test_a_stranger_gets_nothing_at_any_address(victim, who):
    found = targets(victim)
    see_that_nothing_is_had(who(), found)


@pytest.mark.parametrize("victim", ["user"], indirect=True)
def test_a_session_that_was_flushed_gets_nothing_at_any_address(victim):
    found = targets(victim)
    victim.client.session.flush()
    see_that_nothing_is_had(Stranger(victim, has_credentials=False), found)


@pytest.mark.parametrize("victim", ["user"], indirect=True)
def test_staff_that_deals_with_something_else_gets_nothing_in_the_admin(victim):
    found = [sent_by(victim, "rest", is_complete=True)]
    mine = [route for route in routes() if "uploadsession" in route.template]
    assert mine
    see_that_nothing_is_had(staff_of_something_else(), found, mine)


def test_an_address_that_nobody_has_thought_of_is_noticed():
    for patterns in (
        [url("new/<uuid:thing_id>/", UploadPage.as_view())],
        [url("new/", RedirectView.as_view(url="/"))],
    ):
        (route,) = routes(patterns)
        with pytest.raises(AssertionError, match="of this module"):
            asked(route)


@pytest.mark.parametrize("victim", ["user"], indirect=True)
def test_the_owner_gets_something_where_strangers_get_nothing(victim):
    found, owner = targets(victim), Stranger(victim)
    got = set()
    for route in routes():
        for target in about(route, found):
            path = route.path(
                {name: ARGUMENTS[name](target) for name in route.arguments}
            )
            for said in asked(route)[1](target, "GET"):
                answer = owner.send("GET", path, said)
                told = (
                    f"{answer.body.decode('latin-1')}\n{dict(answer.headers.items())}"
                )
                if answer.status < 300 and any(fact in told for fact in target.facts):
                    got.add(route.view.rpartition(".")[2])
    assert got >= {"UploadsView", "UploadDetailView", "MyUploads", "SessionView"}
