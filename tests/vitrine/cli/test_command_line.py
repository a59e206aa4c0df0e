"""The command line as people and scripts meet it: exit codes, one line of error, one JSON object."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from deltalake import DeltaTable

from vitrine import facts, lake, runs
from vitrine.cli.main import VERBS as LISTED
from vitrine.cli.main import app, load_verb
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, LABELS, PRODUCT_EMBEDDINGS, RUNS, TABLES

HELP = Path(__file__).parent / "help"
SMALL, OTHER = "0123456789abcdef", "fedcba9876543210"
VERBS = (
    *("ingest", "embed", "evaluate", "features", "lookup", "index", "check", "gate", "promote", "rollback"),
    *("encoders", "status", "report", "maintain", "sql", "sql-server", "demo", "tune", "classify", "serve", "browse"),
    *("pending", "night", "retire", "backfill", "tag", "export"),
)
CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[encoders.lost]
backbone = "torchvision/squeezenet1_0"
weights = "nowhere.safetensors"

[encoders.misfit]
backbone = "torchvision/squeezenet1_0"
weights = "misfit.safetensors"

[encoders.words]
backbone = "torchvision/squeezenet1_0"
weights = "words.pth"

[encoders.unseeded]
backbone = "torchvision/squeezenet1_0"
weights = "random:x"

[encoders.modelless]
backbone = "timm/tf_efficientnet_lite9"

[encoders.sourceless]
backbone = "keras/VGG16"
"""

PROGRESS = re.compile(r".+: (\d+ of \d+, )?\d+ s")
"""A line of ``spark_jobs.progress`` where stderr is no terminal: one in ten seconds."""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """What ``--json`` printed: one object, and nothing else."""
        assert self.code == 0, self.err
        found = json.loads(self.out)
        assert isinstance(found, dict) and self.out.count("\n") == 1
        return found

    def refused(self, code: int, *said: str) -> None:
        """One line on stderr, in the words of the user, and nothing on stdout; a slow machine says how far it is."""
        lines = [line for line in self.err.splitlines() if not PROGRESS.fullmatch(line)]
        assert (self.code, self.out) == (code, ""), self.err
        assert len(lines) == 1 and lines[0].startswith("vitrine: "), self.err
        for word in said:
            assert word in lines[0], lines[0]


def vitrine(folder: Path, *arguments: str, **env: str) -> Ran:
    """``python -m vitrine`` in ``folder``, as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "vitrine", *arguments],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


Call = Callable[..., Ran]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """The command line inside this process, whose libraries and Spark session are there: ``call("ingest", ...)``."""
    from vitrine.cli.main import main

    def run(*arguments: str) -> Ran:
        capfd.readouterr()
        stdout = os.dup(1)  # which the command line claims for good
        try:
            with pytest.raises(SystemExit) as ended:
                main(list(arguments))
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
        said = capfd.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


def seed(settings: Settings) -> None:
    """A data set ``shop`` of 8 photos, 4 products, embedded by two encoder versions, without Spark."""
    moment = lake.now()
    photos = [(f"shop/{at // 2}/{at}.jpg", f"shop/{at // 2}", ("train", "test")[at % 2]) for at in range(8)]
    about = {"dataset": "shop", "category": None}
    lake.append(
        settings,
        CATALOG,
        [
            about
            | {"image_id": image, "product_id": product, "split": split, "content_sha256": f"{at:064x}"}
            | {"uri": f"/{image}", "size": 1, "width": 1, "height": 1, "modified_at": moment}
            | {"content_seen_at": moment, "updated_at": moment}
            for at, (image, product, split) in enumerate(photos)
        ],
    )
    labels = {photo: product for photo, product, _ in photos}
    said = about | {"valid_from": moment}
    lake.append(settings, LABELS, [said | {"image_id": image, "product_id": of} for image, of in labels.items()])
    random = np.random.default_rng(0)
    for encoder, version in (("small", SMALL), ("other", OTHER)):
        vectors = random.normal(size=(4, 16)).repeat(2, axis=0) + 0.1 * random.normal(size=(8, 16))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        lake.append(
            settings,
            EMBEDDINGS,
            [
                about
                | {"image_id": image, "product_id": product, "split": split, "content_sha256": f"{at:064x}"}
                | {"encoder_version": version, "encoder": encoder, "embedding": vectors[at].tolist()}
                | {"event_timestamp": moment, "created_timestamp": moment}
                for at, (image, product, split) in enumerate(photos)
            ],
        )
        means = (vectors[::2] + vectors[1::2]) / np.linalg.norm(vectors[::2] + vectors[1::2], axis=1, keepdims=True)
        made = about | {"encoder_version": version, "encoder": encoder, "n_images": 2, "images_md5": "0"}
        made |= {"event_timestamp": moment, "created_timestamp": moment}
        products = [made | {"product_id": f"shop/{at}", "embedding": mean.tolist()} for at, mean in enumerate(means)]
        lake.append(settings, PRODUCT_EMBEDDINGS, products)
        row = {"encoder_version": version, "encoder": encoder, "state": "experiment", "dim": 16, "created_at": moment}
        row |= {"backbone": "torchvision/squeezenet1_0", "family": "supervised", "strategy": "pretrained"}
        row |= {"source_dataset": None, "base_version": None, "weights_uri": "random:1", "licence": "none"}
        lake.append(settings, ENCODERS, [row])


def versions(settings: Settings) -> dict[str, int]:
    """Every table's Delta version, but that of ``runs``, which notes failures too."""
    return {name: lake.version(settings, table) for name, table in TABLES.items() if table is not RUNS}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder whose home has the data set ``shop``."""
    import torch
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("project")
    (root / "vitrine.toml").write_text(CONFIG)
    (root / "empty").mkdir()
    (root / "hollow" / "mug").mkdir(parents=True)
    (root / "words.pth").write_text("no weights")
    save_file({"fc.weight": torch.zeros(2, 2)}, root / "misfit.safetensors")
    seed(load_settings(root))
    return root


EVALUATE = ("evaluate", "--encoder", SMALL, "--dataset", "shop")
RULE = "lower-case letters"
TUNE = ("tune", "top", "--encoder", "small", "--dataset", "shop")
BAD: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "name with a slash": (("ingest", "empty", "--dataset", "a/b"), ("data set 'a/b'", RULE)),
    "name that climbs": (("ingest", "empty", "--dataset", ".."), ("'..'", RULE)),
    "name with a quote": (("ingest", "empty", "--dataset", "it's"), ('"it\'s"', RULE)),
    "name with a line break": (("ingest", "empty", "--dataset", "a\nvitrine: done"), (r"'a\nvitrine: done'", RULE)),
    "no name": (("ingest", "empty", "--dataset", ""), ("''", RULE)),
    "long name": (("ingest", "empty", "--dataset", "a" * 49), ("a" * 49, "at most 48 characters")),
    "layout": (("ingest", "empty", "--dataset", "d", "--layout", "zip"), ("layout 'zip'", "folder", "grocery_store")),
    "no folder": (("ingest", "nowhere", "--dataset", "d"), ("'nowhere'", "No such file", "ROOT/[SPLIT/]PRODUCT")),
    "no products": (("ingest", "empty", "--dataset", "d"), ("no photos in 'empty'", "ROOT/[SPLIT/]PRODUCT")),
    "no table": (("ingest", "no.csv", "--dataset", "d", "--layout", "table"), ("no such table 'no.csv'", "CSV")),
    "no number": (("ingest", "0x9", "--dataset", "d", "--layout", "generated"), ("'0x9'", "PRODUCTSxPHOTOS")),
    "not published so": (
        ("ingest", "empty", "--dataset", "d", "--layout", "grocery_store"),
        ("classes.csv", "'empty'"),
    ),
    "encoder": (("embed", "--encoder", "x'; --", "--dataset", "shop"), ('encoder "x\'; --"', "small", "resnet50")),
    "embed a data set": (("embed", "--encoder", "small", "--dataset", "nope"), ("data set 'nope'", "shop")),
    "embed a bad name": (("embed", "--encoder", "small", "--dataset", "no/pe"), ("data set 'no/pe'", RULE)),
    "weights that are not there": (("embed", "--encoder", "lost", "--dataset", "shop"), ("'lost'", "nowhere.safetens")),
    "other weights": (("embed", "--encoder", "misfit", "--dataset", "shop"), ("do not fit", "squeezenet1_0", "fc.wei")),
    "no weights in it": (("embed", "--encoder", "words", "--dataset", "shop"), ("words.pth", "safetensors")),
    "no seed": (("embed", "--encoder", "unseeded", "--dataset", "shop"), ("'random:x'", "random:SEED")),
    "no hub": (("embed", "--encoder", "resnet50", "--dataset", "shop"), ("resnet50.a1_in1k", "a local file", "random")),
    "model": (("embed", "--encoder", "modelless", "--dataset", "shop"), ("lite9", "tf_efficientnet_lite0")),
    "source": (("embed", "--encoder", "sourceless", "--dataset", "shop"), ("keras/VGG16", "torchvision/NAME")),
    "evaluated encoder": (("evaluate", "--encoder", "nope", "--dataset", "shop"), ("encoder 'nope'", "small")),
    "split": ((*EVALUATE, "--queries", "tset", "--index", "train"), ("'tset'", "test, train")),
    "hostile split": ((*EVALUATE, "--queries", "test", "--index", "a' OR '1'='1"), ("OR", "test, train")),
    "queries alone": ((*EVALUATE, "--queries", "test"), ("--queries 'test'", "--index None", "both")),
    "index alone": ((*EVALUATE, "--index", "train"), ("--index 'train'", "both")),
    "no label": ((*EVALUATE, "--relevant", "category"), ("'shop'", "category", "product_id")),
    "not embedded": (("evaluate", "--encoder", "small", "--dataset", "shop"), ("no vector", "vitrine embed --encoder")),
    "index what is not embedded": (("index", "--encoder", "small", "--dataset", "shop"), ("no vector", "embed")),
    "gate without an encoder": (("gate", "metrics", "--dataset", "shop"), ("gate metrics", "--encoder")),
    "gate a data set": (("gate", "catalog", "--dataset", "nope"), ("data set 'nope'", "shop")),
    "force without a reason": (("promote", SMALL, "--dataset", "shop", "--force"), ("--force", "--reason")),
    "reason without force": (("promote", SMALL, "--dataset", "shop", "--reason", "x"), ("--force", "--reason")),
    "blank reason": (("promote", SMALL, "--dataset", "shop", "--force", "--reason", " "), ("--force", "--reason")),
    "promote unembedded": (("promote", "small", "--dataset", "shop"), ("no vector", "vitrine embed --encoder small")),
    "roll back nothing": (("rollback", "--dataset", "shop"), ("'shop'", "nothing serves")),
    "look up unserved": (("lookup", "shop/0/0.jpg", "--dataset", "shop"), ("nothing serves", "promote")),
    "look up elsewhere": (("lookup", "x", "--dataset", "nope"), ("data set 'nope'", "shop")),
    "report on": (("report", "--dataset", "nope"), ("data set 'nope'", "shop")),
    "check": (("check", "--dataset", "nope"), ("data set 'nope'", "shop")),
    "tune on": (("tune", "top", "--encoder", "small", "--dataset", "nope"), ("data set 'nope'", "shop")),
    "tune what": (("tune", "full", "--encoder", "nope", "--dataset", "shop"), ("encoder 'nope'", "small")),
    "one name for two": ((*TUNE, "--encoder", "other", "--name", "x"), ("--name 'x'", "one encoder", "not 2")),
    "a name that is taken": ((*TUNE, "--name", "lost"), ("'lost'", "another --name")),
    "a bad name": ((*TUNE, "--name", "../x"), ("encoder name '../x'", RULE)),
    "one name for two bases": (
        ("tune", "cross", "--encoder", "small", "--encoder", "other", "--dataset", "shop", "--name", "x"),
        ("--name 'x'", "one encoder", "not 2"),
    ),
    "cross with itself": (("tune", "cross", "--encoder", "small", "--dataset", "shop"), ("two data sets", "not 1")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_and_changes_nothing(
    project: Path, call: Call, monkeypatch: pytest.MonkeyPatch, name: str
):
    arguments, said = BAD[name]
    monkeypatch.chdir(project)
    settings = load_settings(project)
    before = versions(settings)
    ran = vitrine(project, *arguments) if name in AS_PROCESSES else call(*arguments)
    ran.refused(2, *said)
    assert versions(settings) == before
    ended = lake.rows(settings, "SELECT state, count(*) AS n FROM runs GROUP BY state")
    assert {row["state"] for row in ended} <= {"failed"}
    assert not list((project / ".vitrine").rglob("*report.html"))


AS_PROCESSES = ("name with a slash", "other weights", "split", "look up unserved")  # each loads other libraries
CONFIGS = {
    "syntax": ("[encoders\n", ("vitrine.toml", "line 1")),
    "key": ('[milvus]\nurl = "secret"\n', ("milvus.url", "not permitted")),
    "section": ("[milvsu]\nx = 1\n", ("milvsu", "not permitted")),
    "type": ('max_pixels = "many"\n', ("max_pixels", "'many'", "integer")),
    "negative": ("[embed]\nbatch_size = -4\n", ("embed.batch_size", "-4", "greater than or equal to 1")),
    "encoder's name": ('[encoders."a b"]\nbackbone = "timm/x"\n', ("'a b'", RULE)),
    "precision": ('[embed]\nprecision = "fp8"\n', ("'fp8'", "'auto', 'fp32' or 'bf16'")),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_bad_settings_are_one_line(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, name: str):
    text, said = CONFIGS[name]
    (tmp_path / "vitrine.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    ran = call("status")
    ran.refused(2, "bad settings", *said)
    assert "secret" not in ran.err and not (tmp_path / ".vitrine").exists()


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("VITRINE_CONFIG", "nowhere.toml", 2, ("VITRINE_CONFIG", "'nowhere.toml'")),
        ("VITRINE_GATES__MAX_DROP", "2", 2, ("gates.max_drop", "'2'", "equal to 1")),
        ("VITRINE_NIGHTLY", "{", 2, ("nightly",)),
        ("VITRINE_HOME", "file", 1, ("file",)),
    ],
)
def test_a_bad_variable_is_one_line(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, name: str, value: str, code: int, said: tuple[str, ...]
):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    call("status").refused(code, *said)


def test_usage_errors_name_the_choices(project: Path, call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project)
    before = versions(load_settings(project))
    for arguments, said in (
        ((*EVALUATE, "--relevant", "colour"), ("colour", "product_id", "category")),
        (("gate", "quality", "--dataset", "shop"), ("quality", "catalog", "embeddings", "sync", "metrics")),
        (("ingest", "empty"), ("--dataset",)),
        (("embde",), ("embde",)),
    ):
        ran = call(*arguments)
        assert (ran.code, ran.out) == (2, "") and all(word in ran.err for word in said), ran.err
        assert "Traceback" not in ran.err
    assert versions(load_settings(project)) == before


def test_an_interrupt_says_how_to_go_on(call: Call, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    def interrupted(settings: Settings) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitrine.cli.verbs.status.read_status", interrupted)
    call("status").refused(130, "the same command goes on")


def test_an_unforeseen_failure_is_one_line(call: Call, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    def broken(settings: Settings) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("vitrine.cli.verbs.status.read_status", broken)
    call("status").refused(1, "RuntimeError: first line (VITRINE_DEBUG=1 shows where)")


def test_help_goes_to_stdout(tmp_path: Path):
    whole = vitrine(tmp_path, "--help", COLUMNS="120", TERMINAL_WIDTH="120")
    assert whole.out == (HELP / "vitrine.txt").read_text()
    assert whole.code == 0 and not whole.err and all(f" {verb} " in whole.out for verb in VERBS)
    bare = vitrine(tmp_path, COLUMNS="120", TERMINAL_WIDTH="120")
    assert (bare.code, bare.out, bare.err) == (0, whole.out, "")
    assert not (tmp_path / ".vitrine").exists()


def test_every_verbs_help_is_as_it_was(tmp_path: Path):
    """Scripts and people rely on verbs and options: a change of one is a change of its file in ``help/``."""
    script = """
import contextlib, io, json, sys
from vitrine.cli.main import main
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    print(json.dumps([out.getvalue(), err.getvalue()]))
heavy = {"feast", "pyspark", "torch", "pymilvus", "great_expectations", "tensorflow", "nicegui"} & {*sys.modules}
assert not heavy, heavy
"""
    files = sorted(path for path in HELP.glob("*.txt") if path.stem != "vitrine")
    asked = json.dumps([path.stem.split("_") for path in files])
    env = os.environ | {"COLUMNS": "120", "TERMINAL_WIDTH": "120"}
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, cwd=tmp_path, env=env, input=asked, capture_output=True, text=True, check=True)
    assert {path.stem for path in files} >= {*VERBS}
    for path, line in zip(files, ran.stdout.splitlines(), strict=True):
        assert json.loads(line) == [path.read_text(), ""], path.stem
    assert not (tmp_path / ".vitrine").exists()


def test_help_says_all_that_is_written():
    """Rich takes a bracketed word for mark-up, and drops it."""

    def texts(command: Any) -> list[str]:
        inner = [text for each in getattr(command, "commands", {}).values() for text in texts(each)]
        return [command.help or "", *(getattr(each, "help", "") or "" for each in command.params), *inner]

    all_texts = [text for verb in VERBS for text in texts(load_verb(verb))] + texts(typer.main.get_command(app))
    assert len(all_texts) > 100
    assert not [text for text in all_texts if re.search(r"\[[a-z]", text)]


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_of_verbs_says_what_each_says_first(verb: str):
    assert inspect.cleandoc(load_verb(verb).help).split("\n\n")[0] == LISTED[verb]


def test_half_made_stores_are_made_anew(settings: Settings, call: Call):
    """What a kill leaves between two steps of Delta's and Milvus Lite's own: folders with nothing in them."""
    seed(settings)
    lake.create_tables(settings)
    for name in ("metrics", "promotions"):
        log = TABLES[name].path(settings) / "_delta_log"
        shutil.rmtree(log)
        log.mkdir()
    half = settings.home / "milvus.db" / "collections" / f"shop__{SMALL}"
    half.mkdir(parents=True)
    (half / "schema.json.tmp").write_text("{")
    assert call("status", "--json").json()["datasets"][0]["images"] == 8
    assert call("index", "--encoder", SMALL, "--json").json()["upserted"] == 8
    assert call("index", "--encoder", SMALL, "--json").json()["upserted"] == 0


def test_an_empty_home(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch):
    """What reads says that there is nothing yet, or what to do."""
    monkeypatch.chdir(tmp_path)
    status = vitrine(tmp_path, "status", "--json").json()
    home = str(tmp_path / ".vitrine")
    assert status == {"home": home, "datasets": [], "encoders": [], "last_runs": []}
    assert "no datasets yet" in call("status").out
    assert call("encoders", "--json").json() == {"rows": []}
    available = {row["encoder"] for row in call("encoders", "--available", "--json").json()["rows"]}
    assert "efficientnet_lite0" in available and "small" not in available
    call("check").refused(2, "no data set yet", "vitrine ingest")
    call("features").refused(2, "no data set yet", "vitrine ingest")
    call("lookup", "x", "--dataset", "shop").refused(2, "'shop'", "none yet")
    call("embed", "--encoder", "resnet50").refused(2, "no data set yet", "vitrine ingest")
    assert "<html" in Path(call("report", "--json").json()["report"]).read_text()


def test_what_serves_is_told_and_kept(settings: Settings, call: Call, monkeypatch: pytest.MonkeyPatch):
    from evaluation.consistency import milvus

    monkeypatch.setattr(milvus, "PART", 3)  # ids are compared in parts
    seed(settings)
    call("promote", SMALL, "--dataset", "shop").refused(
        3, "has not been asked", "vitrine gate catalog", "What serves goes on"
    )
    assert facts.serving(settings, "shop") is None

    indexed = call("index", "--encoder", SMALL, "--encoder", OTHER, "--dataset", "shop", "--json").json()
    assert [item["upserted"] for item in indexed["results"]] == [8, 8]
    table = DeltaTable(str(ENCODERS.path(settings)))
    table.update({"base_version": lake.quote(SMALL)}, predicate=f"encoder_version = '{OTHER}'")
    split = ("--dataset", "shop", "--queries", "test", "--index", "train", "--json")
    beside = call("evaluate", "--encoder", OTHER, "--with-serving", *split).json()["results"]
    assert [item["encoder_version"] for item in beside] == [OTHER, SMALL]  # and its backbone
    first = call("promote", SMALL, "--dataset", "shop", "--force", "--reason", "first", "--json").json()
    assert (first["promoted"], first["milvus_alias"]) == (True, SMALL)
    call("rollback", "--dataset", "shop").refused(2, "'shop'", "only small", SMALL)
    features = call("features", "--dataset", "shop", "--json").json()
    assert (features["upserted"], features["deleted"]) == (0, 0)
    found = call("check", "--json").json()
    assert found["differences"] == [] and found["catalog"] == 8
    assert found[f"small {SMALL}"] == {"embeddings": 8, "milvus": 8, "online": 8}

    result = call(*EVALUATE[:2], OTHER, "--dataset", "shop", "--queries", "test", "--index", "train", "--json").json()
    assert (result["queries"], result["index"], result["metrics"]["mR@1"]) == (4, 4, 1.0)
    results = call("evaluate", "--encoder", SMALL, "--encoder", OTHER, "--json").json()["results"]
    assert [item["encoder_version"] for item in results] == [SMALL, OTHER]
    monkeypatch.setenv("VITRINE_GATES__MIN_ABOVE_CHANCE", "1")
    call("gate", "metrics", "--dataset", "shop", "--encoder", OTHER, "--json").refused(3, "gate metrics refused", OTHER)
    call("promote", OTHER, "--dataset", "shop").refused(3, "gate metrics refused", "What serves goes on serving")
    serves = facts.serving(settings, "shop")
    assert serves and serves["encoder_version"] == SMALL
    monkeypatch.delenv("VITRINE_GATES__MIN_ABOVE_CHANCE")
    passed = call("gate", "metrics", "--dataset", "shop", "--encoder", OTHER, "--json").json()
    assert passed["success"] and Path(passed["data_docs"]).exists()
    passed = call("gate", "sync", "--dataset", "shop", "--encoder", OTHER, "--json").json()
    assert passed["success"] and len(passed["checks"]) == 4

    assert call("promote", OTHER, "--dataset", "shop", "--force", "--reason", "r", "--json").json()["promoted"]
    ids = ["shop/0/0.jpg", "x'; DROP TABLE catalog; --", 'q"\nq', "shop/../0", "", "ünï 💡", "__lake__/shop"]
    rows = call("lookup", *ids, "--dataset", "shop", "--json").json()["results"]
    assert [row["image_id"] for row in rows] == ids
    assert (rows[0]["encoder_version"], len(rows[0]["embedding"])) == (OTHER, 16)
    assert all(row[name] is None for row in rows[1:] for name in row if name != "image_id")
    back = call("rollback", "--dataset", "shop", "--json").json()
    assert (back["encoder_version"], back["milvus_alias"]) == (SMALL, SMALL)

    status = call("status", "--json").json()
    assert status["datasets"][0]["serves"] == f"small {SMALL}"
    assert [row["images"] for row in call("encoders", "--json").json()["rows"]] == [8, 8]
    assert Path(call("report", "--json").json()["report"]).exists()
    assert "small" in call("status").out and "small" in call("encoders").out


def test_a_catalog_through_spark(spark: object, settings: Settings, call: Call, draw: Callable[..., Path]):
    root = draw(2, 2)
    (Path.cwd() / "vitrine.toml").write_text(CONFIG)
    tables = {
        "nameless.csv": (
            "url,product_id\na.jpg,p\n",
            ("no column uri", "and product_id;", "url, product_id", "is it --column uri=url?"),
        ),
        "twice.csv": ("uri,product_id\na.jpg,p\na.jpg,q\n", ("unique", "d/a.jpg", "'photos/twice.csv'")),
        "bare.csv": ("uri,product_id\n", ("no photos in 'photos/bare.csv'",)),
        "blank.csv": ("uri,product_id\n,p\n", ("no uri",)),
        "split.csv": ("uri,product_id,split\na.jpg,p,../x\n", ("split '../x'", RULE)),
        "words.parquet": ("no table", ("words.parquet", "CSV")),
    }
    lake.create_tables(settings)
    before = versions(settings)
    for name, (text, said) in tables.items():
        (root / name).write_text(text)
        ran = call("ingest", f"photos/{name}", "--dataset", "d", "--layout", "table", "--json")
        ran.refused(2, *said)
    assert versions(settings) == before and facts.datasets(settings) == []

    assert call("ingest", "photos", "--dataset", "d", "--json").json()["added"] == 4
    assert "images" in call("ingest", "photos", "--dataset", "d").out
    plan = call("embed", "--encoder", "small", "--dry-run", "--json").json()
    assert (plan["to_embed"], plan["dry_run"]) == (4, True)
    assert call("embed", "--encoder", "small", "--json").json()["embedded"] == 4
    assert call("gate", "catalog", "--dataset", "d", "--json").json()["success"]
    assert call("gate", "embeddings", "--dataset", "d", "--encoder", "small", "--json").json()["success"]

    sql = ("sql", "--trust")
    assert json.loads(call(*sql, "SELECT count(*) AS n FROM catalog;", "--format", "json").out) == {"rows": [{"n": 4}]}
    assert call(*sql, "SELECT image_id FROM labels WHERE false", "--format", "csv").out == "image_id\n"
    assert "content_sha256" in call(*sql, "DESCRIBE catalog").out
    after = versions(settings)
    call(*sql, "SELEC 1").refused(2, "SELEC", "tables: catalog, labels")
    call(*sql, "SELECT nope FROM catalog").refused(2, "nope", "tables: catalog, labels")
    call(*sql, "SELECT * FROM catalogue").refused(2, "catalogue", "tables: catalog, labels")
    for statement in (
        "DELETE FROM catalog",
        "INSERT INTO promotions SELECT * FROM promotions",
        "UPDATE catalog SET product_id = 'x'",
        f"WITH x AS (SELECT 1) DELETE FROM delta.`{CATALOG.path(settings)}`",
        f"DROP TABLE delta.`{CATALOG.path(settings)}`",
        "CREATE TABLE t AS SELECT 1",
    ):
        call(*sql, statement).refused(2, "bad query", statement.split()[0])
    assert versions(settings) == after


def test_a_published_data_set_in_part(spark: object, settings: Settings, call: Call, draw: Callable[..., Path]):
    photos = draw(1, 2, "bicycle_final")
    header, product = "image_id class_id super_class_id path", next(photos.iterdir()).name
    lines = [f"{number} 1 1 bicycle_final/{product}/{number:02d}.jpg" for number in (0, 1, 2)]  # the last has no file
    (photos.parent / "Ebay_train.txt").write_text(f"{header}\n{lines[0]}\n")
    (photos.parent / "Ebay_test.txt").write_text(f"{header}\n{lines[1]}\n{lines[2]}\n")
    ingest = ("ingest", ".", "--dataset", "sop", "--layout", "stanford_online_products", "--json")
    call(*ingest).refused(2, "train: 1 photos of 1 classes", "59551", "--allow-partial")
    done = call(*ingest, "--allow-partial").json()
    assert (done["images"], done["quarantined"], done["layout"]) == (2, 1, "stanford_online_products")
    assert runs.layout(settings, "sop") == "stanford_online_products"
    rows = lake.rows(settings, "SELECT product_id, category, split FROM catalog ORDER BY image_id")
    assert rows == [{"product_id": "sop/1", "category": "bicycle", "split": split} for split in ("train", "test")]


@pytest.mark.slow
def test_a_session_of_its_own_leaves_stdout_alone(tmp_path: Path, draw: Callable[..., Path]):
    draw(1, 2)
    ran = vitrine(tmp_path, "ingest", "photos", "--dataset", "d", "--json", SPARK_LOCAL_DIRS=str(tmp_path / "spark"))
    assert ran.json()["images"] == 2
