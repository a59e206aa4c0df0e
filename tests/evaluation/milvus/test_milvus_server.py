"""A real Milvus server behind TLS, a token and a database: the code that Lite runs too, and what only a server shows,
an index that misses some, searches while the alias moves, and a death in the middle of a sync."""

import datetime
import ipaddress
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from deltalake import DeltaTable
from filelock import FileLock
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from evaluation.consistency import check
from evaluation.milvus.vector_index import VectorIndex
from evaluation.promotion.milvus_alias import follow
from evaluation.promotion.promote import promote, rollback
from vitrine import lake
from vitrine.cli.verbs import features, index
from vitrine.cli.verbs import promote as promote_verb
from vitrine.encoded_set import EncodedSet
from vitrine.errors import GateRefused, UserError, VitrineError
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS

pytest.importorskip("milvus", reason="the server's wheel is there for some platforms only")
pytestmark = pytest.mark.slow

ONE, TWO = "1" * 16, "2" * 16
NAMES = {ONE: "one", TWO: "two"}
TOKEN = "root:Milvus"  # the server's own first one
DIM = 32
WEAK = {"m": 4, "ef_construction": 8, "ef": 11}  # misses many


class Server:
    """The server of the PyPI wheel, on the same data from start to start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mutual = False
        """Does it ask its clients for a certificate too?"""
        self._process: subprocess.Popen[bytes] | None = None
        make_certificates(folder)

    def start(self) -> None:
        """Returns once it answers."""
        options = {"data": self.folder / "data", "authorization-enabled": 1, "tls-mode": 2 if self.mutual else 1}
        options |= {"server-pem-path": self.folder / "server.pem", "server-key-path": self.folder / "server.key"}
        options |= {"ca-pem-path": self.folder / "ca.pem"}
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        # Else a start after a kill waits out the old one's lease of 30 s, and each flush some 2 s.
        for faster in ("common.session.ttl=5", "dataCoord.segment.assignmentExpiration=300"):
            arguments += ["--extra-config", faster]
        with (self.folder / "said.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "import milvus; milvus.main()", *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 90
        while self._process and self._process.poll() is None and time.monotonic() < until:
            try:
                self.client().close()
                return
            except (OSError, MilvusException):
                time.sleep(0.2)
        raise AssertionError(f"no server: see {self.folder}")

    def kill(self) -> None:
        """SIGKILL to all of it: the process that serves is a child, and would outlive this one."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)

    @property
    def uri(self) -> str:
        config = yaml.safe_load((self.folder / "data" / "configs" / "milvus.yaml").read_text())
        return f"https://127.0.0.1:{config['proxy']['port']}"  # the next free one, where its own is not

    def environment(self) -> dict[str, str]:
        found = {"URI": self.uri, "TOKEN": TOKEN, "CA_CERTIFICATE": f"{self.folder}/ca.pem"}
        if self.mutual:
            found |= {"CLIENT_CERTIFICATE": f"{self.folder}/client.pem", "CLIENT_KEY": f"{self.folder}/client.key"}
        return {f"VITRINE_MILVUS__{name}": value for name, value in found.items()}

    def client(self, database: str = "default") -> MilvusClient:
        """What a program that is not ours would make."""
        pems = {"server_pem_path": f"{self.folder}/ca.pem"}
        if self.mutual:
            pems = {f"{name}_path": f"{self.folder}/{name.replace('_', '.')}" for name in ("ca_pem", "client_pem")}
            pems["client_key_path"] = f"{self.folder}/client.key"
        return MilvusClient(self.uri, token=TOKEN, db_name=database, timeout=5, dedicated=True, **pems)


def make_certificates(folder: Path) -> None:
    """An authority, and by it a server's and a client's certificate: NAME.pem and NAME.key."""
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    issuer = None
    for name in ("ca", "server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = issuer or (subject, key)
        made = x509.CertificateBuilder().issuer_name(issuer[0]).subject_name(subject).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
        made = made.add_extension(x509.BasicConstraints(name == "ca", None), True)
        signed = made.add_extension(x509.SubjectAlternativeName(here), False).sign(issuer[1], hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        form = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    # A machine has room for one: a port of its etcd is no setting.
    with FileLock(Path(tempfile.gettempdir()) / "vitrine-tests-milvus.lock"):
        try:
            made.start()
            yield made
        finally:
            made.kill()


Home = Callable[..., Settings]


@pytest.fixture
def home(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The settings of an empty home with a database of its own in the server; call it again after a new start."""
    database = f"d{tmp_path.name.encode().hex()[-40:]}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VITRINE_MILVUS__DATABASE", database)

    def make(**settings: Any) -> Settings:
        client = server.client()
        if database not in client.list_databases():
            client.create_database(database)
        client.close()
        for name, value in (server.environment() | settings).items():
            monkeypatch.setenv(name, str(value))
        return load_settings(tmp_path)

    return make


def unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(version: str, ids: list[str], vectors: np.ndarray) -> list[dict[str, Any]]:
    facts = {"dataset": "d", "product_id": "d/p", "encoder": NAMES[version], "encoder_version": version}
    facts |= {"content_sha256": "0" * 64} | dict.fromkeys(("event_timestamp", "created_timestamp"), lake.now())
    return [facts | {"image_id": i, "embedding": v.tolist()} for i, v in zip(ids, vectors, strict=True)]


def embed(settings: Settings, version: str, count: int) -> tuple[list[str], np.ndarray]:
    """``count`` images of data set ``d``; those of one encoder version are not those of the other."""
    ids, vectors = [f"d/{NAMES[version]}/{n}" for n in range(count)], unit(count, int(version[0]))
    moment = lake.now()
    photo = {"dataset": "d", "product_id": "d/p", "uri": "u", "content_sha256": "0" * 64, "size": 1, "width": 1}
    photo |= {"height": 1, "modified_at": moment, "content_seen_at": moment, "updated_at": moment}
    lake.append(settings, CATALOG, [photo | {"image_id": image_id} for image_id in ids])
    lake.append(settings, EMBEDDINGS, rows(version, ids, vectors))
    made = {"encoder_version": version, "encoder": NAMES[version], "state": "experiment", "backbone": "b", "dim": DIM}
    made |= {"family": "supervised", "strategy": "pretrained", "weights_uri": "hub", "licence": "MIT"}
    lake.append(settings, ENCODERS, [made | {"created_at": moment}])
    return ids, vectors


def milvus_differences(settings: Settings) -> dict[str, int]:
    found = check.state(settings, "d")["differences"]
    return {each["name"]: each["count"] for each in found if each["name"].startswith("milvus.")}


def nearest(ids: list[str], vectors: np.ndarray, queries: np.ndarray, limit: int) -> list[list[str]]:
    return [[ids[n] for n in ranks[:limit]] for ranks in np.argsort(-(queries @ vectors.T), axis=1)]


def serve(settings: Settings, version: str) -> None:
    promote(settings, EncodedSet("d", NAMES[version], version), force=True, reason="test")


def test_exact_search_is_exact_and_what_the_served_index_misses_is_refused(home: Home) -> None:
    settings = home(
        VITRINE_MILVUS__INDEX="HNSW",
        VITRINE_GATES__MIN_RECALL=1,
        **{f"VITRINE_MILVUS__HNSW__{name}": value for name, value in WEAK.items()},
    )
    ids, vectors = embed(settings, ONE, 3_000)
    serve(settings, ONE)
    asked = (ids[:500], vectors[:500])
    with VectorIndex(settings) as milvus:
        with pytest.raises(GateRefused, match=r"HNSW finds at least 100.0% of the exact 10 nearest"):
            follow(settings, milvus, "d", gated=True)
        assert milvus.alias_collection("d") is None
        found, _ = milvus.search(EncodedSet("d", "e", ONE), asked[1], 11, served=True)
        exact, _ = milvus.search(EncodedSet("d", "e", ONE), asked[1], 11)
        assert exact == nearest(ids, vectors, asked[1], 11)
        assert follow(settings, milvus, "d") == {"serving": ONE}
        assert milvus.alias_collection("d") == f"d__{ONE}__hnsw_4_8"
    (run,) = lake.rows(settings, "SELECT * FROM runs WHERE verb = 'gate'")
    figures = json.loads(run["figures"])["failed"][0]["figures"]
    assert (run["state"], figures["collection"], figures["queries"]) == ("refused", f"d__{ONE}__hnsw_4_8", 1_000)
    missed = [len(set(near) - set(hits)) for near, hits in zip(exact, found, strict=True)]
    assert figures["value"] < 0.9
    assert abs(figures["value"] - (1 - np.mean(missed) / 10)) < 0.1


@pytest.mark.parametrize("kind", ["IVF_SQ8", "IVF_PQ"])
def test_an_index_of_fewer_bits(home: Home, kind: str) -> None:
    tuned = {"NLIST": 16, "NPROBE": 16} | ({"PARTS": 8} if kind == "IVF_PQ" else {})
    settings = home(
        VITRINE_MILVUS__INDEX=kind,
        VITRINE_GATES__MIN_RECALL=0.5,
        **{f"VITRINE_MILVUS__{kind}__{name}": value for name, value in tuned.items()},
    )
    ids, vectors = embed(settings, ONE, 3_000)
    serve(settings, ONE)
    with VectorIndex(settings) as milvus:
        followed = follow(settings, milvus, "d", gated=True)
        assert followed["serving"] == ONE and followed["recall"] > (0.97 if kind == "IVF_SQ8" else 0.5)
        assert milvus.alias_collection("d") == f"d__{ONE}__{kind.lower()}_16{'_8_8' if kind == 'IVF_PQ' else ''}"
        found, _ = milvus.search(EncodedSet("d", "e", ONE), vectors[:100], 10, served=True)
    exact = nearest(ids, vectors, vectors[:100], 10)
    shares = [len({*hits} & {*near}) / 10 for hits, near in zip(found, exact, strict=True)]
    assert (0.97 if kind == "IVF_SQ8" else 0.5) < np.mean(shares) <= 1


def test_searches_meet_one_version_while_the_alias_moves(home: Home, server: Server) -> None:
    settings = home()
    embed(settings, ONE, 300)
    embed(settings, TWO, 400)
    answers: list[tuple[float, set[str]]] = []
    failures: list[Exception] = []
    done = threading.Event()

    def search() -> None:
        client, queries = server.client(settings.milvus.database), unit(5, 9)
        while not done.is_set():
            started = time.monotonic()
            try:
                found = client.search("d_serving", data=queries, limit=5, output_fields=["image_id"])
                answers.append((started, {hit["entity"]["image_id"].split("/")[1] for hits in found for hit in hits}))
            except Exception as error:
                failures.append(error)
        client.close()

    with VectorIndex(settings) as milvus:
        serve(settings, ONE)
        assert follow(settings, milvus, "d") == {"serving": ONE}
        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        serve(settings, TWO)
        assert follow(settings, milvus, "d") == {"serving": TWO}  # fills it under load, then moves
        for version in (ONE, TWO) * 5:
            time.sleep(0.1)
            milvus.point_alias(EncodedSet("d", "e", version))
        rollback(settings, "d")
        assert follow(settings, milvus, "d") == {"serving": ONE}
        moved = time.monotonic()
        time.sleep(0.5)
        done.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert {frozenset(names) for _, names in answers} == {frozenset({"one"}), frozenset({"two"})}
    after = [names for started, names in answers if started > moved]
    assert after and all(names == {"one"} for names in after)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"TOKEN": "root:wr0ng"}, VitrineError, "auth check failure"),
        ({"URI": "https://someone:wr0ng@127.0.0.1:9"}, VitrineError, r"https://127\.0\.0\.1:9: UNAVAILABLE"),
        ({"URI": "https://127.0.0.1:many"}, VitrineError, "many"),
        ({"DATABASE": "nowhere"}, VitrineError, "nowhere"),
        ({"CA_CERTIFICATE": "no.pem"}, UserError, r"milvus\.ca_certificate names '.*/no\.pem', which is not a file"),
    ],
)
def test_what_does_not_connect_says_why_and_no_secret(
    home: Home, change: dict[str, str], error: type[VitrineError], said: str
) -> None:
    settings = home(**{f"VITRINE_MILVUS__{name}": value for name, value in change.items()})
    with pytest.raises(error, match=said) as caught, VectorIndex(settings):
        pass
    told = str(caught.value)
    assert "\n" not in told and "wr0ng" not in told and TOKEN not in told


def test_a_server_killed_in_the_middle_of_a_sync(home: Home, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = home()
    ids, vectors = embed(settings, ONE, 3_000)
    index.index([ONE], ["d"])
    promote_verb.promote(ONE, "d", force=True, reason="test")
    moved = unit(2_500, 11)
    embeddings = DeltaTable(str(EMBEDDINGS.path(settings)))
    new = pa.Table.from_pylist(rows(ONE, ids[:2_500], moved), schema=EMBEDDINGS.schema)
    merge = embeddings.merge(new, "t.image_id = s.image_id", source_alias="s", target_alias="t")
    merge.when_matched_update_all().execute()
    for table in (embeddings, DeltaTable(str(CATALOG.path(settings)))):
        table.delete(f"image_id = {lake.quote(ids[0])}")

    upsert = MilvusClient.upsert

    def dies_after_the_first(self: MilvusClient, *arguments: Any) -> None:
        upsert(self, *arguments)
        server.kill()

    with monkeypatch.context() as patch:
        patch.setattr(MilvusClient, "upsert", dies_after_the_first)
        with pytest.raises(VitrineError, match=server.uri) as caught:
            index.index([ONE], ["d"])
    assert TOKEN not in str(caught.value)

    server.mutual = True
    server.start()
    settings = home()
    features.features(["d"])
    assert milvus_differences(settings) == {"milvus.behind": 2_500, "milvus.other": 499, "milvus.too_many": 1}
    with VectorIndex(settings) as milvus:
        result = milvus.sync(EncodedSet("d", "e", ONE))
        assert (result.upserted, result.deleted, result.from_version, result.rows) == (2_499, 1, 1, 2_999)
        queries, now = unit(20, 7), np.concatenate([moved[1:], vectors[2_500:]])
        assert milvus.search(EncodedSet("d", "e", ONE), queries, 50)[0] == nearest(ids[1:], now, queries, 50)
    assert milvus_differences(settings) == {}
