"""Who gets in: credentials, their limits and ends, clocks, and pages of other sites."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.utils import timezone

from resumable_uploads import credentials
from resumable_uploads.models import AccessKey, Revocation, UploadSession
from resumable_uploads.owners import Owner

from .buckets import (
    BUCKET,
    Client,
    OldOssClient,
    OssClient,
    S3Client,
    assert_refused,
    document,
    held,
    md5,
    text_of,
)
from .buckets import credentials as asked_for
from .rest import change, policies, some_bytes
from .test_multipart import ONE, TWO, buckets, said
from .visitor import Visitor

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]
KINDS = [OssClient, S3Client]


@pytest.fixture(autouse=True)
def _small_parts(settings: Any) -> None:
    buckets(settings)


@pytest.fixture(params=KINDS, ids=["oss", "s3"])
def client(request: pytest.FixtureRequest) -> Client:
    return request.param(Visitor(), held())


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ann", password="ann")


def good(client: Client) -> bool:
    return client.request("HEAD").status == 200


# Temporary credentials


@pytest.mark.parametrize("kind", KINDS)
def test_a_visitor_is_given_credentials_that_work(kind):
    me = Visitor()
    client = kind(me, asked_for(me))
    assert client.request("PUT", "k", ONE).status == 200
    upload = UploadSession.objects.get()
    assert upload.owner.startswith("session:")
    # It is an upload like any other of theirs.
    assert me.get(f"/uploads/{upload.pk}/").json()["state"] == "complete"
    assert me.get(f"/uploads/{upload.pk}/file/").body == ONE


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_is_given_credentials_of_their_own(kind, user):
    client = kind(Visitor(), asked_for(Visitor(user)))
    assert client.request("PUT", "k", ONE).status == 200
    upload = UploadSession.objects.get()
    assert (upload.owner, upload.user) == (f"user:{user.pk}", user)


def test_credentials_come_in_the_words_of_all_clients():
    found = asked_for(Visitor(), duration_seconds=900)
    key, secret, token = (
        found[name] for name in ("AccessKeyId", "AccessKeySecret", "SecurityToken")
    )
    same = {"accessKeyId": key, "accessKeySecret": secret, "stsToken": token}
    same |= {"SecretAccessKey": secret, "SessionToken": token}
    assert found | same == found
    assert found["credentials"]["sessionToken"] == token
    expires = datetime.strptime(found["Expiration"], "%Y-%m-%dT%H:%M:%SZ")
    left = expires.replace(tzinfo=UTC) - timezone.now()
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    assert len(token) < 1500


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({}, 400),
        ({"bucket": "other"}, 404),
        ({"bucket": BUCKET, "actions": ["fly"]}, 400),
        ({"bucket": BUCKET, "actions": []}, 400),
        ({"bucket": BUCKET, "duration_seconds": 5}, 400),
        ({"bucket": BUCKET, "duration_seconds": 7200}, 400),
        ({"bucket": BUCKET, "prefix": "x" * 2000}, 400),
    ],
)
def test_a_wish_that_cannot_be_granted_is_refused(wish, status):
    answer = Visitor().post("/uploads/sts/", wish)
    assert answer.status == status
    assert answer.json()["detail"]


def test_credentials_need_the_token_of_the_session():
    me = Visitor(has_token=False)
    assert me.post("/uploads/sts/", {"bucket": BUCKET}).status == 403


def test_a_policy_for_users_gives_nothing_to_visitors(settings):
    policies(settings, default={"anonymous": False})
    answer = Visitor().post("/uploads/sts/", {"bucket": BUCKET})
    assert answer.status in (401, 403)


def test_a_policy_that_permits_no_more_lets_nobody_in(client, settings):
    assert good(client)
    policies(settings, default={"anonymous": False})
    assert_refused(client.request("GET"), 403, "AccessDenied")


@pytest.mark.parametrize(
    ("action", "method", "key", "query"),
    [
        ("put", "PUT", "k", {}),
        ("put", "POST", "k", {"uploads": ""}),
        ("get", "GET", "k", {}),
        ("get", "HEAD", "k", {}),
        ("list", "GET", "", {}),
        ("list", "GET", "", {"uploads": ""}),
        ("delete", "DELETE", "k", {}),
        ("abort", "DELETE", "k", {"uploadId": "x"}),
        ("list", "GET", "k", {"uploadId": "x"}),
    ],
)
def test_credentials_are_good_for_their_actions_only(
    client, action, method, key, query
):
    others = [name for name in credentials.ACTIONS if name != action]
    client.held = held(actions=others)
    assert client.request(method, key, **query).status == 403
    client.held = held(actions=[action])
    assert client.request(method, key, **query).status in (200, 204, 404)


def test_credentials_are_good_below_their_prefix_only(client):
    client.held = held(prefix="mine/")
    assert client.request("PUT", "mine/k", ONE).status == 200
    assert_refused(client.request("PUT", "other/k", ONE), 403, "AccessDenied")
    assert_refused(client.request("GET"), 403, "AccessDenied")
    assert client.request("GET", prefix="mine/").status == 200


def test_credentials_are_good_for_their_bucket_only(client, settings):
    change(settings, BUCKETS={BUCKET: {}, "other": {}})
    client.held = held(bucket="other")
    assert_refused(client.request("GET"), 403, "AccessDenied")


def test_each_user_has_a_prefix_where_the_bucket_says_so(settings, user):
    buckets(settings, prefix="users/{user}/")
    me = Visitor(user)
    found = asked_for(me)
    assert found["prefix"] == f"users/{user.pk}/"
    client = OssClient(me, found)
    assert client.request("PUT", f"users/{user.pk}/k", ONE).status == 200
    assert_refused(client.request("PUT", "k", ONE), 403, "AccessDenied")
    wish = {"bucket": BUCKET, "prefix": "users/0/"}
    assert me.post("/uploads/sts/", wish).status == 403
    key = access_key(user)
    client.held = key
    assert_refused(client.request("PUT", "k", ONE), 403, "AccessDenied")


# Their ends


def test_credentials_expire(client):
    client.held = held(lasts=timedelta(minutes=-2))
    code, status = said(client, "SecurityTokenExpired", "ExpiredToken"), 400
    status = 403 if client.prefix == "x-oss-" else 400
    assert_refused(client.request("GET"), status, code)
    client.held = held(lasts=-credentials.GRACE / 2)
    assert good(client)


def test_an_upload_goes_on_with_new_credentials(client):
    upload_id = client.initiate("k")
    client.put_part("k", upload_id, 1, ONE)
    client.held = held(lasts=timedelta(minutes=-2))
    assert client.put_part("k", upload_id, 2, TWO).status in (400, 403)
    client.held = held()
    assert client.put_part("k", upload_id, 2, TWO).status == 200
    listed = [(1, md5(ONE)), (2, md5(TWO))]
    assert client.complete("k", upload_id, listed).status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_credentials_can_be_taken_back(kind):
    me = Visitor()
    client = kind(me, asked_for(me))
    other = kind(me, held("session:bob"))
    assert good(client)
    assert me.delete("/uploads/sts/").status == 204
    assert_refused(client.request("GET"), 403, "InvalidAccessKeyId")
    assert good(other)
    client.held = asked_for(me)
    assert good(client)


def test_who_has_none_can_take_none_back():
    assert Visitor().delete("/uploads/sts/").status in (204, 403)
    assert not Revocation.objects.exists()


@pytest.mark.parametrize("end", ["password", "inactive", "deleted"])
def test_credentials_end_with_their_user(client, user, end):
    client.held = held(f"user:{user.pk}", user=user)
    assert good(client)
    if end == "password":
        user.set_password("another one")
        user.save()
    elif end == "inactive":
        User.objects.update(is_active=False)
    else:
        user.delete()
    assert_refused(client.request("GET"), 403, "InvalidAccessKeyId")


def test_credentials_outlive_a_new_secret_key(client, settings):
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new one"
    assert good(client)
    settings.SECRET_KEY_FALLBACKS = []
    code = said(client, "InvalidSecurityToken", "InvalidToken")
    assert text_of(client.request("GET"), "Code") == code


@pytest.mark.parametrize("token", ["nonsense", "", "other"])
def test_a_token_that_is_not_theirs_is_refused(client, token):
    token = held()["SecurityToken"] if token == "other" else token
    client.held = client.held | {"SecurityToken": token}
    code = said(client, "InvalidSecurityToken", "InvalidToken")
    assert text_of(client.request("GET"), "Code") == code


def test_a_secret_of_other_credentials_is_refused(client):
    client.held = client.held | {"AccessKeySecret": held()["AccessKeySecret"]}
    assert_refused(client.request("GET"), 403, "SignatureDoesNotMatch")


# Access keys


def access_key(user: User, **facts: Any) -> dict[str, str]:
    facts.setdefault("actions", " ".join(credentials.ACTIONS))
    key = credentials.new_access_key(user=user, name="backup", **facts)
    key.save()
    secret = credentials.secret_of(key)
    return {"AccessKeyId": key.access_key_id, "AccessKeySecret": secret}


@pytest.mark.parametrize("kind", [*KINDS, OldOssClient])
def test_a_program_gets_in_with_an_access_key(kind, user):
    client = kind(Visitor(), access_key(user))
    assert client.send("k", ONE, TWO).status == 200
    assert UploadSession.objects.get().owner == f"user:{user.pk}"
    assert AccessKey.objects.get().used_at


@pytest.mark.parametrize(
    "facts",
    [
        {"is_active": False},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
    ],
)
def test_an_access_key_that_has_ended_is_refused(client, user, facts):
    client.held = access_key(user, **facts)
    assert client.request("GET").status in (400, 403)


def test_an_access_key_ends_with_its_user(client, user):
    client.held = access_key(user)
    User.objects.update(is_active=False)
    assert_refused(client.request("GET"), 403, "InvalidAccessKeyId")
    user.delete()
    assert_refused(client.request("GET"), 403, "InvalidAccessKeyId")


def test_an_access_key_has_its_limits(client, user):
    client.held = access_key(user, prefix="backup/", actions="put", bucket=BUCKET)
    assert client.request("PUT", "backup/k", ONE).status == 200
    assert_refused(client.request("PUT", "k", ONE), 403, "AccessDenied")
    assert_refused(client.request("GET", "backup/k"), 403, "AccessDenied")
    client.held = access_key(user, bucket="another")
    assert_refused(client.request("GET"), 403, "AccessDenied")


@pytest.mark.parametrize(
    ("key", "token"),
    [("\0", ""), ("é", ""), ("\xff", ""), ("STS.a", "é"), ("a" * 5000, "")],
)
def test_what_is_no_access_key_at_all_is_refused(client, key, token):
    word = said(client, "OSS4-HMAC-SHA256", "AWS4-HMAC-SHA256")
    end = said(client, "oss/aliyun_v4_request", "s3/aws4_request")
    signed = said(client, "", "SignedHeaders=host;x-amz-date;x-amz-security-token,")
    now = datetime.now(UTC)
    headers = {
        "Authorization": f"{word} Credential={key}/{now:%Y%m%d}/r/{end},{signed}"
        "Signature=00",
        f"{client.prefix}date": f"{now:%Y%m%dT%H%M%SZ}",
        f"{client.prefix}security-token": token,
        f"{client.prefix}content-sha256": "UNSIGNED-PAYLOAD",
        "Host": client.host,
    }
    answer = client.me.request("GET", client.path("k"), headers=headers)
    assert text_of(answer, "Code") in (
        "InvalidAccessKeyId",
        "InvalidToken",
        "InvalidSecurityToken",
    )


@pytest.mark.parametrize("date", ["99991231T235959Z", "00000000T000000Z", "x"])
def test_an_impossible_date_is_refused(client, date):
    url = client.presigned("GET", "k")
    name = said(client, "x-oss-date", "X-Amz-Date")
    changed = re.sub(f"{name}=[^&]*", f"{name}={date}", url)
    assert changed != url
    answer = client.me.request("GET", changed, headers={"Host": client.host})
    assert answer.status == 400


def test_an_unknown_access_key_is_refused(client):
    client.held = {"AccessKeyId": "RUNOBODY", "AccessKeySecret": "x"}
    assert_refused(client.request("GET"), 403, "InvalidAccessKeyId")


def test_the_admin_shows_a_secret_once(admin_user, user):
    browser = Browser()
    browser.force_login(admin_user)
    keys = "/admin/resumable_uploads/accesskey/"
    form = {"user": user.pk, "name": "backup", "actions": ["put", "list"]}
    page = browser.post(f"{keys}add/", form | {"is_active": "on"}, follow=True)
    key = AccessKey.objects.get()
    assert (key.user, key.actions) == (user, "put list")
    assert credentials.secret_of(key) in page.content.decode()
    for url in (keys, f"{keys}{key.pk}/change/"):
        assert credentials.secret_of(key) not in browser.get(url).content.decode()
    client = S3Client(
        Visitor(),
        {
            "AccessKeyId": key.access_key_id,
            "AccessKeySecret": credentials.secret_of(key),
        },
    )
    assert good(client)
    browser.post(f"{keys}{key.pk}/change/", {"name": "off", "actions": ["put"]})
    assert not good(client)
    key.refresh_from_db()
    assert (key.name, key.user, key.actions) == ("off", user, "put")


def test_the_admin_takes_temporary_credentials_back(admin_user, client):
    browser = Browser()
    browser.force_login(admin_user)
    url = "/admin/resumable_uploads/revocation/add/"
    assert good(client)
    assert browser.post(url, {"owner": "session:alice"}).status_code == 302
    assert not good(client)
    assert browser.get("/admin/resumable_uploads/revocation/").status_code == 200


# Signatures and clocks


def test_who_has_not_signed_is_refused(client):
    answer = client.me.get(client.path("k"))
    assert_refused(answer, 403, "AccessDenied")
    logged_in = Visitor(User.objects.create_user("eve"))
    assert_refused(logged_in.get(client.path("k")), 403, "AccessDenied")


@pytest.mark.parametrize("kind", [*KINDS, OldOssClient])
@pytest.mark.parametrize("minutes", [-14, 14, -16, 16, 60 * 24])
def test_a_clock_may_be_off_by_a_quarter_of_an_hour(kind, minutes):
    client = kind(Visitor(), held())
    client.at = datetime.now(UTC) + timedelta(minutes=minutes)
    answer = client.request("GET")
    if abs(minutes) < 15:
        assert answer.status == 200
        return
    assert_refused(answer, 403, "RequestTimeTooSkewed")
    told = document(answer)
    assert told.findtext("MaxAllowedSkewMilliseconds") == "900000"
    now = datetime.strptime(told.findtext("ServerTime", ""), "%Y-%m-%dT%H:%M:%S.000Z")
    assert abs(datetime.now(UTC) - now.replace(tzinfo=UTC)) < timedelta(minutes=2)


def test_a_signed_address_has_its_time(monkeypatch):
    client = S3Client(Visitor(), held())
    url = client.presigned("GET", "")
    bare = {"Host": client.host}
    assert client.me.request("GET", url, headers=bare).status == 200
    later = timezone.now() + timedelta(seconds=601)
    monkeypatch.setattr(timezone, "now", lambda: later)
    answer = client.me.request("GET", url, headers=bare)
    assert_refused(answer, 403, "AccessDenied")
    # Uppy looks for these words before it asks for a new address.
    assert text_of(answer, "Message") == "Request has expired"


def test_a_signature_that_cannot_be_read_is_told_to_be_so(client):
    word = said(client, "OSS ", "AWS4-HMAC-SHA256 ")
    made = client.made("GET", "k")
    headers = made["headers"] | {"Authorization": f"{word}nonsense"}
    answer = client.me.request("GET", made["path"], headers=headers)
    code = said(client, "InvalidArgument", "AuthorizationHeaderMalformed")
    assert_refused(answer, 400, code)


def test_the_order_of_checks_is_the_vendors(client):
    # A wrong secret is told before a wrong clock, and that before an old token.
    client.at = datetime.now(UTC) - timedelta(days=1)
    client.held = held(lasts=timedelta(minutes=-2))
    assert_refused(client.request("GET"), 403, "RequestTimeTooSkewed")
    client.held = client.held | {"AccessKeySecret": "x"}
    assert_refused(client.request("GET"), 403, "SignatureDoesNotMatch")


# Pages of other sites

PAGE = "https://example.com"


def test_a_page_of_another_site_is_let_in_where_it_may(client, settings):
    buckets(settings, origins=[PAGE])
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
    asked["Access-Control-Request-Headers"] = "authorization,x-oss-date"
    answer = client.me.request("OPTIONS", client.path("k"), headers=asked)
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,x-oss-date"
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    stored = client.request("PUT", "k", ONE, {"Origin": PAGE})
    assert stored.headers["Access-Control-Allow-Origin"] == PAGE
    exposed = stored.headers["Access-Control-Expose-Headers"].split(", ")
    assert "ETag" in exposed
    assert client.prefix + "request-id" in exposed
    assert "Origin" in stored.headers["Vary"]
    # Without it, a page would be told nothing of what was wrong.
    refused = client.request("GET", "none", headers={"Origin": PAGE})
    assert refused.status == 404
    assert refused.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize("origins", [[], ["https://other.example.com"]])
def test_a_page_of_any_other_site_is_not(client, settings, origins):
    buckets(settings, origins=origins)
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
    for answer in (
        client.me.request("OPTIONS", client.path("k"), headers=asked),
        client.request("PUT", "k", ONE, {"Origin": PAGE}),
    ):
        assert not [name for name in answer.headers if name.startswith("Access-")]


def test_a_preflight_asks_no_database(client, settings, django_assert_num_queries):
    buckets(settings, origins=["*"])
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
    with django_assert_num_queries(0):
        answer = client.me.request("OPTIONS", client.path("k"), headers=asked)
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE


def test_the_name_of_an_owner_is_not_told(client):
    client.request("PUT", "k", some_bytes(5))
    owner = Owner("session:alice")
    assert owner.key.encode() not in client.request("GET").body
