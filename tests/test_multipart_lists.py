"""Lists of objects, parts and uploads, page by page."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from .buckets import (
    Client,
    OssClient,
    S3Client,
    assert_refused,
    document,
    held,
    md5,
    text_of,
    texts_of,
)
from .rest import change
from .test_multipart import buckets
from .visitor import Visitor

pytestmark = pytest.mark.django_db(transaction=True)

# By their bytes; a database may be set up to put them in another order.
KEYS = [
    "A",
    "B/1",
    "B/2",
    "_",
    "a",
    "a b",
    "a/",
    "a/x/1",
    "a/x/2",
    "a/y",
    "b",
    "é",
    "😀",
]


@pytest.fixture(autouse=True)
def _small_parts(settings: Any) -> None:
    buckets(settings)


@pytest.fixture(params=[OssClient, S3Client], ids=["oss", "s3"])
def client(request: pytest.FixtureRequest) -> Client:
    return request.param(Visitor(), held())


@pytest.fixture
def full(client: Client) -> Client:
    for key in reversed(KEYS):
        assert client.request("PUT", key, b"x").status == 200
    return client


def pages_v1(client: Client, **query: str) -> tuple[list[str], list[str]]:
    keys, prefixes, marker = [], [], ""
    while True:
        answer = client.request("GET", **query, marker=marker)
        keys += texts_of(answer, "Contents/Key")
        prefixes += texts_of(answer, "CommonPrefixes/Prefix")
        if text_of(answer, "IsTruncated") == "false":
            return keys, prefixes
        marker = text_of(answer, "NextMarker")


def pages_v2(client: Client, **query: str) -> tuple[list[str], list[str]]:
    keys, prefixes, token = [], [], {}
    while True:
        answer = client.request("GET", list_type="2", **query, **token)
        found = texts_of(answer, "Contents/Key")
        common = texts_of(answer, "CommonPrefixes/Prefix")
        assert text_of(answer, "KeyCount") == str(len(found) + len(common))
        keys, prefixes = keys + found, prefixes + common
        if text_of(answer, "IsTruncated") == "false":
            return keys, prefixes
        token = {"continuation-token": text_of(answer, "NextContinuationToken")}


def expected(prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    keys, prefixes = [], {}
    for key in KEYS:
        if not key.startswith(prefix):
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        if end < 0:
            keys.append(key)
        else:
            prefixes[key[: end + 1]] = None
    return keys, list(prefixes)


@pytest.mark.parametrize("pages", [pages_v1, pages_v2])
def test_objects_are_listed_page_by_page(full, pages):
    for size in ("1", "2", "5", "1000"):
        for prefix in ("", "a", "a/", "a/x", "B", "é", "none"):
            for delimiter in ("", "/"):
                query = {"prefix": prefix, "delimiter": delimiter, "max-keys": size}
                assert pages(full, **query) == expected(prefix, delimiter), query


def test_an_object_is_listed_with_its_facts(client):
    client.send("k", b"one", b"two")
    etag = client.request("HEAD", "k").headers["ETag"]
    listed = document(client.request("GET"))
    assert listed.tag == "ListBucketResult"
    assert listed.findtext("Name") == "demo-bucket"
    assert listed.findtext("Contents/ETag") == etag
    assert listed.findtext("Contents/Size") == "6"
    assert listed.findtext("Contents/LastModified", "").endswith(".000Z")
    # ali-oss stumbles over a list without owners.
    assert listed.findtext("Contents/Owner/ID")


def test_a_list_can_begin_behind_a_key(full):
    answer = full.request("GET", list_type="2", start_after="a/x/1")
    assert texts_of(answer, "Contents/Key") == KEYS[KEYS.index("a/x/2") :]


def test_keys_are_encoded_where_that_is_asked_for(client):
    client.request("PUT", "a b/é+&", b"x")
    answer = client.request("GET", encoding_type="url", prefix="a b", delimiter="/")
    assert text_of(answer, "EncodingType") == "url"
    assert text_of(answer, "Prefix") == "a%20b"
    assert texts_of(answer, "CommonPrefixes/Prefix") == ["a%20b/"]
    answer = client.request("GET", encoding_type="url")
    assert texts_of(answer, "Contents/Key") == ["a%20b/%C3%A9%2B%26"]
    upload_id = client.initiate("a b/é+&")
    parts = client.parts("a b/é+&", upload_id, encoding_type="url")
    assert unquote(text_of(parts, "Key")) == "a b/é+&"


def test_no_keys_are_asked_for_and_none_come(full):
    answer = full.request("GET", max_keys="0")
    assert texts_of(answer, "Contents/Key") == []
    assert text_of(answer, "IsTruncated") == "false"


@pytest.mark.parametrize("name", ["max-keys", "max-uploads"])
@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 20])
def test_an_impossible_page_is_refused(client, name, value):
    query = {name: value} | ({"uploads": ""} if name == "max-uploads" else {})
    assert_refused(client.request("GET", **query), 400, "InvalidArgument")


def test_a_larger_page_than_there_is_counts_as_the_largest(client):
    answer = client.request("GET", max_keys="5000")
    assert text_of(answer, "MaxKeys") == "1000"


def test_a_token_that_is_none_is_refused(client):
    query = {"list-type": "2", "continuation-token": "é"}
    assert_refused(client.request("GET", **query), 400, "InvalidArgument")


# Parts


def test_parts_are_listed_page_by_page(client):
    upload_id = client.initiate("k")
    numbers = [1, 2, 5, 9, 10, 9999, 10_000]
    for number in reversed(numbers):
        client.put_part("k", upload_id, number, b"%d" % number)
    for size in ("1", "3", "1000"):
        found, marker = [], ""
        while True:
            answer = client.parts(
                "k", upload_id, max_parts=size, part_number_marker=marker
            )
            found += texts_of(answer, "Part/PartNumber")
            if text_of(answer, "IsTruncated") == "false":
                break
            marker = text_of(answer, "NextPartNumberMarker")
            assert marker == found[-1]
        assert found == [str(number) for number in numbers]
    etags = [etag.strip('"').lower() for etag in texts_of(answer, "Part/ETag")]
    assert etags == [md5(b"%d" % number) for number in numbers]


@pytest.mark.parametrize(
    "query", [{"max-parts": "x"}, {"max-parts": "-1"}, {"part-number-marker": "x"}]
)
def test_an_impossible_page_of_parts_is_refused(client, query):
    upload_id = client.initiate("k")
    assert_refused(client.parts("k", upload_id, **query), 400, "InvalidArgument")


# Uploads


def uploads(client: Client, **query: str) -> tuple[list[tuple[str, str]], list[str]]:
    found, prefixes = [], []
    markers = {"key-marker": "", "upload-id-marker": ""}
    while True:
        answer = client.request("GET", uploads="", **query, **markers)
        ids = texts_of(answer, "Upload/UploadId")
        found += list(zip(texts_of(answer, "Upload/Key"), ids, strict=True))
        prefixes += texts_of(answer, "CommonPrefixes/Prefix")
        if text_of(answer, "IsTruncated") == "false":
            return found, prefixes
        markers = {
            "key-marker": text_of(answer, "NextKeyMarker"),
            "upload-id-marker": text_of(answer, "NextUploadIdMarker"),
        }


def test_uploads_are_listed_page_by_page(client):
    keys = ["B", "a", "a", "a", "a/1", "a/2", "b", "é"]
    opened = sorted((key, client.initiate(key)) for key in reversed(keys))
    client.request("PUT", "at once", b"x")
    for size in ("1", "2", "3", "1000"):
        assert uploads(client, **{"max-uploads": size}) == (opened, [])
        found = uploads(client, **{"max-uploads": size, "prefix": "a"})
        assert found == ([row for row in opened if row[0].startswith("a")], [])
        found = uploads(client, **{"max-uploads": size, "delimiter": "/"})
        assert found == ([row for row in opened if "/" not in row[0]], ["a/"])


def test_only_unfinished_uploads_of_this_bucket_are_listed(client, settings):
    change(settings, BUCKETS={"demo-bucket": {}, "demo-bucket-2": {}})
    client.abort("k", client.initiate("k"))
    client.send("k", b"x")
    assert uploads(client) == ([], [])
    upload_id = client.initiate("k")
    assert uploads(client) == ([("k", upload_id)], [])
    if isinstance(client, S3Client):
        client.held, client.bucket = held(bucket="demo-bucket-2"), "demo-bucket-2"
        assert uploads(client) == ([], [])
        assert texts_of(client.request("GET"), "Contents/Key") == []
