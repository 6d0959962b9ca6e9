"""Programs that people have: boto3, Aliyun's and Amazon's SDKs, rclone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from .buckets import BUCKET, credentials
from .client import Client
from .contracts.ground import LiveGround, watched_site
from .live import LiveSite, SiteTemplates
from .processes import ROOT
from .rest import sha256
from .test_nginx import snippet_for

pytestmark = pytest.mark.once
MIB = 1024 * 1024
PARTS = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)


@pytest.fixture(scope="module")
def site(
    site_templates: SiteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSite]:
    folder = tmp_path_factory.mktemp("site")
    site_templates.sqlite(folder)
    site = watched_site(folder).start()
    yield site
    site.kill()


@pytest.fixture
def ground(site: LiveSite) -> Iterator[LiveGround]:
    ground = LiveGround(site)
    yield ground
    ground.close()


@pytest.fixture
def held(site: LiveSite) -> Iterator[dict[str, Any]]:
    with Client(site.url) as me:
        yield credentials(me)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.bin"
    path.write_bytes(os.urandom(12 * MIB + 12345))
    return path


@pytest.fixture
def s3(site: LiveSite, held: dict[str, Any]) -> Iterator[Any]:
    with contextlib.closing(s3_client(site, held)) as client:
        yield client


def s3_client(site: Any, held: dict[str, Any]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"{site.url}/uploads/s3",
        region_name="us-east-1",
        aws_access_key_id=held["AccessKeyId"],
        aws_secret_access_key=held["SecretAccessKey"],
        aws_session_token=held["SessionToken"],
        config=Config(signature_version="s3v4", retries={"max_attempts": 1}),
    )


# boto3


def test_boto3_uploads_and_downloads(s3, ground, film, tmp_path):
    extra = {"Metadata": {"who": "zs"}, "ContentType": "video/mp4"}
    key = "dir/a film +&é.bin"
    s3.upload_file(str(film), BUCKET, key, Config=PARTS, ExtraArgs=extra)
    back = tmp_path / "back.bin"
    s3.download_file(BUCKET, key, str(back), Config=PARTS)
    assert sha256(back.read_bytes()) == sha256(film.read_bytes())
    assert list(ground.files().values()) == [sha256(film.read_bytes())]
    head = s3.head_object(Bucket=BUCKET, Key=key)
    assert (head["Metadata"], head["ContentType"]) == ({"who": "zs"}, "video/mp4")
    assert head["ETag"].endswith('-3"')
    assert ground.upload().filename == "a film +&é.bin"
    s3.delete_object(Bucket=BUCKET, Key=key)
    assert ground.files() == {}


def test_boto3_goes_on_with_what_is_listed(s3, ground, site, held, film):
    data = film.read_bytes()
    pieces = [data[start : start + 5 * MIB] for start in range(0, len(data), 5 * MIB)]
    begun = s3.create_multipart_upload(
        Bucket=BUCKET, Key="k", ChecksumAlgorithm="CRC64NVME"
    )
    where = {"Bucket": BUCKET, "Key": "k", "UploadId": begun["UploadId"]}
    for number in (3, 1):
        s3.upload_part(**where, PartNumber=number, Body=pieces[number - 1])
    site.kill()
    site.start()
    with contextlib.closing(s3_client(site, held)) as later:
        pages = later.get_paginator("list_parts").paginate(**where, MaxParts=1)
        there = {part["PartNumber"]: part for page in pages for part in page["Parts"]}
        assert sorted(there) == [1, 3]
        there[2] = later.upload_part(**where, PartNumber=2, Body=pieces[1])
        listed = [
            {"PartNumber": number, "ETag": there[number]["ETag"]}
            for number in sorted(there)
        ]
        for _ in range(2):
            done = later.complete_multipart_upload(
                **where, MultipartUpload={"Parts": listed}
            )
            assert done["ChecksumType"] == "FULL_OBJECT"
    assert list(ground.files().values()) == [sha256(data)]


def test_addresses_that_boto3_signs_are_enough(s3, ground):
    def signed(what: str, **where: Any) -> str:
        params = {"Bucket": BUCKET, "Key": "k"} | where
        return s3.generate_presigned_url(what, Params=params, ExpiresIn=60)

    assert fetched("PUT", signed("put_object"), b"hello") == (200, b"")
    assert fetched("GET", signed("get_object")) == (200, b"hello")
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="k")
    upload_id = begun["UploadId"]
    part = signed("upload_part", UploadId=upload_id, PartNumber=1)
    assert fetched("PUT", part, b"again") == (200, b"")
    assert fetched("PUT", part.replace("partNumber=1", "partNumber=2"), b"")[0] == 403
    (there,) = s3.list_parts(Bucket=BUCKET, Key="k", UploadId=upload_id)["Parts"]
    listed = [{"PartNumber": 1, "ETag": there["ETag"]}]
    s3.complete_multipart_upload(
        Bucket=BUCKET, Key="k", UploadId=upload_id, MultipartUpload={"Parts": listed}
    )
    assert fetched("GET", signed("get_object")) == (200, b"again")
    assert len(ground.files()) == 1
    s3.delete_object(Bucket=BUCKET, Key="k")


def fetched(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, {"Content-Type": ""}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_signatures_come_through_nginx(site, held, ground, film, make_nginx):
    text = (ROOT / "docs" / "buckets.md").read_text()
    (lines,) = re.findall(r"^```nginx\n(.*?)^```", text, re.M | re.S)
    lines = lines.replace("/film-uploads/", f"/{BUCKET}/")
    lines = lines.replace("127.0.0.1:8000", f"127.0.0.1:{site.port}")
    front = make_nginx(snippet_for(site) + lines)
    key = "dir//a film +&é.bin"
    with contextlib.closing(s3_client(front, held)) as s3:
        s3.upload_file(str(film), BUCKET, key, Config=PARTS)
        got = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert sha256(got) == sha256(film.read_bytes())
    client = aliyuns(front, held)
    where = {"bucket": BUCKET, "key": key}
    client.uploader(part_size=MIB).upload_file(oss.PutObjectRequest(**where), str(film))
    assert list(ground.files().values()) == [sha256(film.read_bytes())]
    client.delete_object(oss.DeleteObjectRequest(**where))
    assert ground.files() == {}


def test_boto3_is_told_in_its_words(s3):
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=BUCKET, Key="none")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.list_objects_v2(Bucket="other-bucket")
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.abort_multipart_upload(Bucket=BUCKET, Key="k", UploadId="none")
    with pytest.raises(ClientError, match="NotImplemented"):
        s3.get_bucket_acl(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"x", IfNoneMatch="*")


# Aliyun's SDK for Python


@pytest.mark.parametrize("version", ["v4", "v1"])
def test_aliyuns_sdk_uploads_and_downloads(site, held, ground, film, tmp_path, version):
    client = aliyuns(site, held, version)
    where = {"bucket": BUCKET, "key": "dir/影片 +.bin"}
    # It compares the CRC-64 of each part and of the whole with the ones it is told.
    uploader = client.uploader(part_size=5 * MIB, parallel_num=3)
    uploader.upload_file(oss.PutObjectRequest(**where), str(film))
    assert list(ground.files().values()) == [sha256(film.read_bytes())]
    back = tmp_path / "back.bin"
    client.downloader().download_file(oss.GetObjectRequest(**where), str(back))
    assert sha256(back.read_bytes()) == sha256(film.read_bytes())
    pages = client.list_objects_v2_paginator().iter_page(
        oss.ListObjectsV2Request(bucket=BUCKET)
    )
    assert [one.key for page in pages for one in page.contents] == [where["key"]]
    client.delete_object(oss.DeleteObjectRequest(**where))
    assert ground.files() == {}


def aliyuns(site: Any, held: dict[str, Any], version: str = "v4") -> oss.Client:
    settings = oss.config.load_default()
    settings.credentials_provider = oss.credentials.StaticCredentialsProvider(
        held["AccessKeyId"], held["AccessKeySecret"], held["SecurityToken"]
    )
    settings.region, settings.signature_version = "local", version
    settings.endpoint, settings.use_path_style = site.url, True
    return oss.Client(settings)


# Programs of others


def run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | (env or {}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("v4", [True, False])
def test_ali_oss_in_node(site, held, ground, film, v4):
    said = {"url": site.url, "held": held, "path": str(film), "v4": v4}
    assert "all is well" in node("ali-oss", said)
    assert list(ground.files().values()) == [sha256(film.read_bytes())]


def test_amazons_sdk_in_node(site, held, ground, film):
    said = {"url": site.url, "held": held, "path": str(film)}
    assert "all is well" in node("aws-sdk", said)
    assert list(ground.files().values()) == [sha256(film.read_bytes())]


def node(name: str, said: dict[str, Any]) -> str:
    if not shutil.which("node") or not (ROOT / "node_modules" / "ali-oss").is_dir():
        pytest.skip("node, or what npm installs, is missing")
    return run("node", f"tests/node/{name}.mjs", json.dumps(said))


def test_rclone_copies_checks_and_deletes(site, held, ground, film, tmp_path):
    rclone = shutil.which("rclone") or str(Path(sys.executable).parent / "rclone")
    settings = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": f"{site.url}/uploads/s3",
        "ACCESS_KEY_ID": held["AccessKeyId"],
        "SECRET_ACCESS_KEY": held["SecretAccessKey"],
        "SESSION_TOKEN": held["SessionToken"],
        "UPLOAD_CUTOFF": "5M",
        "CHUNK_SIZE": "5M",
    }
    env = {f"RCLONE_CONFIG_SITE_{name}": value for name, value in settings.items()}
    env["RCLONE_CONFIG"] = str(tmp_path / "none.conf")
    folder = tmp_path / "folder"
    (folder / "dir").mkdir(parents=True)
    shutil.copy(film, folder / "dir" / "ü film.bin")
    (folder / "small.txt").write_text("hello")
    (folder / "empty.txt").touch()
    target = f"site:{BUCKET}/backup"
    run(rclone, "copy", str(folder), target, env=env)
    run(rclone, "check", str(folder), target, "--download", env=env)
    run(rclone, "check", str(folder), target, env=env)
    assert len(ground.files()) == 3
    names = run(rclone, "lsf", "-R", target, env=env).split("\n")
    assert {"dir/", "dir/ü film.bin", "empty.txt", "small.txt"} <= set(names)
    run(rclone, "delete", target, env=env)
    assert ground.files() == {}
