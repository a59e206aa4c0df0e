"""The lake and the photos on S3: servers of their own, Spark and delta-rs on the same tables."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import EndpointConnectionError
from deltalake import write_deltalake

from vitrine import lake, photo_files, photo_store, staging
from vitrine.datasets import folder, registry
from vitrine.errors import UserError, VitrineError
from vitrine.runs import record
from vitrine.settings import Settings, load_settings
from vitrine.spark_conf import reads_s3, s3_jars, spark_conf, spark_jars
from vitrine.tables import PROMOTIONS, RUNS

KEY, SECRET = "key", "never-in-a-table-or-log"
CONFIG = """
lake_uri = "s3a://shop/vitrine/lake/"

[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[spark.conf]
"spark.driver.memory" = "1g"
"""
# Verbs in one process, and so in one JVM; each line of the input is a verb's arguments, as JSON. A verb of the test's
# own: one photo of the bucket becomes another.
VERBS = """
import json, os, sys
import boto3
from vitrine.cli.main import app

for line in sys.stdin:
    arguments = json.loads(line)
    if arguments[0] == "copy":
        client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
        client.copy_object(Bucket="shop", CopySource="shop/" + arguments[1], Key=arguments[2])
    else:
        app(arguments, standalone_mode=False)
"""


def moto(folder: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def versitygw(folder: Path, port: int) -> list[str]:
    """A gateway to a folder, stricter than moto: it refuses a wrong signature or checksum."""
    program = shutil.which("versitygw")
    if not program:
        pytest.skip("no versitygw: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0")
    return [program, "--port", f"127.0.0.1:{port}", "posix", str(folder)]


@pytest.fixture(scope="module", params=[moto, versitygw])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an S3 server with a bucket ``shop``: a process, since delta-rs holds the GIL while it asks."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = request.param(tmp_path_factory.mktemp("buckets"), port)
    keys = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    with subprocess.Popen(
        command, env=os.environ | keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )
        try:
            while True:
                try:
                    client.create_bucket(Bucket="shop")
                    break
                except EndpointConnectionError:
                    assert process.poll() is None, "the server ended"
                    time.sleep(0.1)
            yield endpoint
        finally:
            process.terminate()


@pytest.fixture
def on_s3(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a home whose lake is in the bucket; AWS's environment says where and by which key."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "vitrine.toml").write_text(CONFIG.replace("/lake/", f"/{tmp_path.name}/"))
    monkeypatch.chdir(tmp_path)
    return load_settings(tmp_path)


def keys(prefix: str) -> list[str]:
    import boto3

    found = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).list_objects_v2(
        Bucket="shop", Prefix=prefix
    )
    return [item["Key"] for item in found.get("Contents", []) if item["Size"]]


def upload(folder: Path, prefix: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "shop", f"{prefix}/{path.relative_to(folder)}")


@pytest.mark.parametrize(
    "bad",
    ["/mnt/lake", "s3://", "s3://b", "s3://shop/a b", "s3://shop/../x", "gs://shop/x", "s3://shop/_x", "s3://K:V@shop"],
)
def test_a_lake_uri_that_is_no_bucket_and_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str):
    monkeypatch.setenv("VITRINE_LAKE_URI", bad)
    with pytest.raises(UserError, match="s3://BUCKET") as error:
        load_settings(tmp_path)
    assert "K:V" not in str(error.value)


def test_spark_is_told_of_s3_only_where_it_reads_it(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://store.example")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert not reads_s3(settings) and not any("s3" in key for key in spark_conf(settings))
    for conf in (
        spark_conf(settings, "s3a://shop/list.csv"),
        spark_conf(settings.model_copy(update={"lake_uri": "s3://shop/lake"})),
    ):
        assert conf["spark.hadoop.fs.s3a.endpoint"] == "https://store.example"
        assert SECRET not in str(conf)


def test_delta_rs_alone_makes_writes_and_reads_tables_on_s3(on_s3: Settings):
    assert on_s3.lake_uri and on_s3.lake_uri.startswith("s3://shop/vitrine/")
    with record(on_s3, "ingest", "shop"):
        pass
    stale = lake.delta(on_s3, RUNS)
    with record(on_s3, "embed", "shop"):
        pass
    third = lake.query(on_s3, "SELECT * FROM runs WHERE verb = 'ingest'").set_column(1, "verb", pa.array(["third"]))
    write_deltalake(stale, third.cast(RUNS.schema), mode="append")  # its version is taken: the put is conditional
    assert sorted(row["verb"] for row in lake.rows(on_s3, "SELECT verb FROM runs")) == ["embed", "ingest", "third"]
    assert not on_s3.lake.exists()


def test_a_bucket_that_is_not_there_is_one_clear_error(on_s3: Settings):
    nowhere = on_s3.model_copy(update={"lake_uri": "s3://no-such-bucket/lake"})
    with pytest.raises(VitrineError, match="s3://no-such-bucket/lake") as error:
        lake.create_tables(nowhere, [PROMOTIONS])
    assert str(error.value).isprintable() and SECRET not in str(error.value)


def test_commits_to_a_table_on_s3_are_made_one_at_a_time(on_s3: Settings):
    lake.create_tables(on_s3, [RUNS, PROMOTIONS])
    with ThreadPoolExecutor() as pool:
        with lake.committing(on_s3, RUNS):  # as Spark's merge does
            waits = pool.submit(lake.append, on_s3, RUNS, [])
            lake.append(on_s3, PROMOTIONS, [])
            assert not wait([waits], timeout=1.5).done
        waits.result(timeout=30)


def test_staging_on_s3_is_seen_and_cleared(on_s3: Settings, tmp_path: Path):
    (tmp_path / "part-0.snappy.parquet").write_text("x")
    prefix = f"vitrine/{tmp_path.name}/staging"
    assert not staging.left(on_s3, "d", "v") and staging.remove_stale(on_s3, time.time()) == 0
    staging.clear(on_s3, "d", "v")  # nothing there
    for version in ("v", "w"):
        upload(tmp_path, f"{prefix}/d/encoder_version={version}")
    upload(tmp_path, f"{prefix}/d/_temporary/0")
    assert staging.has_vectors(on_s3, "d", "v") and not staging.has_vectors(on_s3, "d", "x")
    staging.clear(on_s3, "d", "v")
    assert not staging.left(on_s3, "d", "v") and staging.left(on_s3, "d", "w")
    assert staging.remove_stale(on_s3, time.time() - 86_400) == 0
    staging.clear(on_s3, "d", "w")
    assert keys(prefix) == []
    upload(tmp_path, f"{prefix}/d/encoder_version=v")
    assert staging.remove_stale(on_s3, time.time() + 86_400) == 1 and keys(prefix) == []


def test_the_photo_store_lies_beside_the_tables(on_s3: Settings):
    data = b"a photo's bytes"
    sha = hashlib.sha256(data).hexdigest()
    assert photo_store.parts(on_s3) == [] and not photo_store.holds(on_s3.photos, sha, len(data))
    for _ in range(2):
        photo_store.put(on_s3.photos, sha, data)
    place = photo_store.readable(on_s3, "https://shop.example/1.jpg", sha)
    assert place == f"{on_s3.lake_uri}/photos/{sha[:2]}/{sha[2:4]}/{sha}" and photo_files.read(place) == data
    assert photo_store.holds(on_s3.photos, sha, len(data)) and photo_store.parts(on_s3) == [sha[:2]]
    (copy,) = photo_store.copies(on_s3, sha[:2])
    assert (copy.content_sha256, copy.size) == (sha, len(data)) and copy.kept_at > 1.7e9
    photo_store.remove(on_s3, copy.path)
    assert list(photo_store.copies(on_s3)) == []


@pytest.mark.long
def test_two_nights_on_s3(on_s3: Settings, draw: Callable[..., Path], tmp_path: Path):
    fetch_jars()
    photos, prefix = draw(6, 4), f"{tmp_path.name}-photos"
    paths = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    listed = "".join(f"{path},{path.split('/')[0]}\n" for path in paths[:8])
    (photos / "list.csv").write_text(f"uri,product_id\n{listed}")
    upload(photos, prefix)
    source = f"s3a://shop/{prefix}"
    ingest = ["ingest", source, "--dataset", "shop", "--test-share", "0.4", "--json"]
    embed = ["embed", "--encoder", "small", "--dataset", "shop", "--json"]
    first, second, table, evaluated, changed, again, counted, maintained, checked = vitrine(
        ingest,
        embed,
        ["ingest", f"{source}/list.csv", "--dataset", "listed", "--layout", "table", "--json"],
        ["evaluate", "--encoder", "small", "--dataset", "shop", "--json"],
        ["copy", f"{prefix}/{paths[-1]}", f"{prefix}/{paths[0]}"],
        ingest,
        embed,
        ["sql", "SELECT count(*) AS n FROM embeddings", "--format", "json"],
        ["maintain", "--json"],
        ["check", "--dataset", "shop", "--json"],
    )
    assert [first["images"], second["embedded"], table["images"], table["quarantined"]] == [24, 24, 8, 0]
    assert evaluated["queries"] > 0
    assert [changed["changed"], again["embedded"], again["computed"]] == [1, 1, 0], "its content was known"
    assert counted == {"rows": [{"n": 24}]} and maintained["tables"]["catalog"].endswith("-> 2 files")
    assert checked["differences"] == []
    assert len(lake.rows(on_s3, "SELECT * FROM embeddings")) == 24
    assert len(lake.rows(on_s3, "SELECT * FROM product_embeddings")) == 6
    uris = [row["uri"] for row in lake.rows(on_s3, "SELECT uri FROM catalog")]
    assert len(uris) == 32 and all(uri.startswith(f"s3://shop/{prefix}/") for uri in uris)
    assert not keys(f"vitrine/{tmp_path.name}/staging") and not (on_s3.home / "staging").exists()
    assert not on_s3.lake.exists()
    everything = json.dumps([lake.rows(on_s3, f"SELECT * FROM {name}") for name in ("runs", "encoders")], default=str)
    assert SECRET not in everything


NAMES = ["a b.jpg", "a#1.jpg", "a%20b.jpg", "a%20c.jpg", "what?.jpg", "a+b.jpg", "[1]{x}*.jpg", "100%.jpg"]
NAMES += ["\u00fc.jpg", "u\u0308.jpg", "\u978b \U0001f45f.jpg", "a&b=c;d.jpg", "it's.jpg"]


def test_names_on_s3_are_names(on_s3: Settings, tmp_path: Path):
    """Each object gives its own bytes, in product folders and below a root that are named as oddly."""
    root = tmp_path / "photos"
    for name in NAMES:
        for place in (root / "red shoes" / name, root / name.removesuffix(".jpg") / "only here.jpg"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(str(place.relative_to(root)))
    (root / "red shoes" / "@eaDir").mkdir()
    (root / "red shoes" / "@eaDir" / "thumb.jpg").write_text("junk")
    for prefix, source in (("plain", "plain"), ("red shoes#1%20", "red shoes#1%2520"), ("who?", "who%3F")):
        upload(root, f"{tmp_path.name}/{prefix}")
        units = folder.units(on_s3, f"s3a://shop/{tmp_path.name}/{source}")
        listed = {photo.image_id: photo for unit in units for photo in folder.photos(unit)}
        assert len(listed) == 2 * len(NAMES) and not any(photo.refusal for photo in listed.values())
        for image_id, photo in listed.items():
            assert photo_files.read(photo.uri) == image_id.encode()
            assert photo.product_id == image_id.split("/")[0]
    with pytest.raises(UserError, match=r"cannot list .*spelled %25"):
        folder.units(on_s3, f"s3://shop/{tmp_path.name}/no%20such")


def test_tables_on_s3_are_read_by_content_and_name_names(on_s3: Settings, tmp_path: Path):
    (tmp_path / "up" / "list of #1").mkdir(parents=True)
    (tmp_path / "up" / "list of #1" / "t.parquet").write_text("uri\tproduct_id\na%20b.jpg\t1e3\ns3://b/c%20d.jpg\t2\n")
    upload(tmp_path / "up", tmp_path.name)
    for source in ("list of #1/t.parquet", "list of #1", "list%20of%20%231/t.parquet"):
        layout = registry.LAYOUTS["table"]
        units = layout.units(on_s3, f"s3://shop/{tmp_path.name}/{source}")
        listed = [(photo.uri, photo.product_id, photo.refusal) for unit in units for photo in layout.photos(unit)]
        base = source.removesuffix("/t.parquet")
        assert listed == [
            (f"s3://shop/{tmp_path.name}/{base}/a%2520b.jpg", "1e3", None),
            ("s3://b/c%20d.jpg", "2", None),
        ]
    with pytest.raises(UserError, match="no such table"):
        registry.LAYOUTS["table"].units(on_s3, f"s3://shop/{tmp_path.name}/none.csv")


def fetch_jars() -> None:
    """The jars for S3, in a process of their own: it starts a JVM; without a network the test has to be left out."""
    if s3_jars().is_dir() or next(spark_jars().glob("hadoop-aws-*.jar"), None):
        return
    done = subprocess.run([sys.executable, "-m", "spark_jobs.jars", "--s3"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no jars for S3: {done.stderr.strip().splitlines()[-1]}")


def vitrine(*verbs: list[str]) -> list[Any]:
    """What each of the verbs said, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", VERBS],
        input="\n".join(map(json.dumps, verbs)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert SECRET not in done.stdout + done.stderr
    # Delta's VACUUM writes to stdout too, which the command line would have kept for results.
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]
