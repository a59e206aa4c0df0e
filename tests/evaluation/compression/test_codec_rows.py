"""Codecs' figures in ``metrics``: there for who asks, and never taken for the encoder's own."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evaluation import metrics_table
from evaluation.advice import priors
from evaluation.browse.outcomes import read_outcomes
from evaluation.compression.codec_rows import BYTES, CODEC, IN_FULL, change_of, read_rows, write_rows
from evaluation.compression.study import Study, study
from evaluation.evaluate import evaluate
from evaluation.gates.metrics import gate_metrics
from evaluation.report import figures, report
from tests.evaluation.test_evaluate import VERSION, make
from vitrine import facts, lake, tables
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

ENCODED = EncodedSet("shop", "e", VERSION)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    settings = load_settings(tmp_path)
    make(settings, "shop", ("train", "test"))
    return settings


def compress(settings: Settings, run_id: str = "r", dims: tuple[int, ...] = (8, 4)) -> Study:
    done = study(settings, ENCODED, "product_id", 0.05, dims)
    write_rows(settings, done.task, done.input_version, run_id, done.codecs)
    return done


def written(settings: Settings) -> dict[tuple[str, str], dict[str, Any]]:
    rows = lake.rows(settings, f"SELECT * FROM metrics WHERE {lake.matches(classifier=CODEC)}")
    return {(row["slice"], row["metric"]): row for row in rows}


def test_every_codec_has_its_figures_with_their_intervals(settings: Settings) -> None:
    done = compress(settings)
    rows = written(settings)
    assert {name for name, _ in rows} == {"codec=in full, float32", *(f"codec={row.codec.name}" for row in done.rows)}
    assert {row["encoder_version"] for row in rows.values()} == {VERSION}
    assert {(row["query_split"], row["index_split"]) for row in rows.values()} == {("test", "train")}
    assert {row["catalog_version"] for row in rows.values()} == {facts.catalog_version(settings, "shop")}
    for row in done.rows:
        of = {metric: rows[f"codec={row.codec.name}", metric] for metric in (*done.full, BYTES, change_of("mMP@5"))}
        assert of[BYTES]["value"] == row.bytes and of[BYTES]["low"] is None
        for metric in done.full:
            assert of[metric]["value"] == row.metrics[metric]
            assert of[metric]["low"] <= of[metric]["value"] <= of[metric]["high"]
        change = of["change of mMP@5"]
        assert (change["value"], change["low"], change["high"]) == (row.change.value, row.change.low, row.change.high)
    full = {metric: rows[f"codec={IN_FULL}", metric]["value"] for metric in done.full}
    own = evaluate(settings, ENCODED, run_id="r")
    assert full == pytest.approx({metric: own["metrics"][metric] for metric in done.full}, abs=1e-6)
    bounds = [rows[f"codec={IN_FULL}", "mMP@5"][side] for side in ("low", "high")]
    assert bounds == pytest.approx(own["intervals"]["mMP@5"], abs=1e-6)
    sampled = rows[f"codec={IN_FULL}", "mR@1"]
    assert [sampled[name] for name in ("queries", "queries_left_out", "index_size")] == [
        own[name] for name in ("queries", "queries_left_out", "index")
    ]


def test_a_study_replaces_the_one_before(settings: Settings) -> None:
    compress(settings, "first")
    done = compress(settings, "second", dims=(4,))
    rows = written(settings)
    assert {row["run_id"] for row in rows.values()} == {"second"}
    assert len(rows) == len(done.rows) * (len(done.full) + 2) + len(done.full) + 1
    assert not any("PCA 8" in name for name, _ in rows)
    (read,) = read_rows(settings, "shop")
    assert set(read.scores) == {IN_FULL, *(row.codec.name for row in done.rows)}
    evaluate(settings, ENCODED, run_id="third", again=True)
    assert written(settings) == rows, "an evaluation leaves them"


def page(settings: Settings) -> tuple[str, list[Any]]:
    """The report without what is of codecs, of the moment or of the run of this test; its charts likewise."""
    html = report.write_report(settings).read_text(encoding="utf-8")
    charts = json.loads((re.findall(r'id="charts">(.*?)</script>', html, re.S) or ["[]"])[0])
    html = re.sub(r'<section aria-labelledby="set-\d+-codecs">.*?</section>', "", html, flags=re.S)
    html = re.sub(
        r"<time.*?</time>|<title>.*?</title>|<script.*?</script>|<noscript>.*?</noscript>|nonce-[\w-]+",
        "",
        html,
        flags=re.S,
    )
    return re.sub(r"\s+", "", html), [chart for chart in charts if "chart-codecs-" not in chart["id"]]


def answers(settings: Settings) -> dict[str, Any]:
    """What every reader of ``metrics`` makes of it."""
    at = {table.name: lake.version(settings, table) for table in (tables.METRICS, tables.QUERY_RESULTS)}
    like = {"dataset": "shop", "catalog_version": facts.catalog_version(settings, "shop")}
    like |= {"query_split": "test", "index_split": "train", "relevant": "product_id"}
    try:
        gate: Any = [(check["expectation"], check["figures"]) for check in gate_metrics(settings, ENCODED).checks]
    except UserError as error:
        gate = str(error)
    groups = figures.groups(settings, "shop", None, figures.registered(settings))
    return {
        "gate": gate,
        "evaluated": metrics_table.evaluated(settings, VERSION, like),
        "newest": metrics_table.newest(settings, lake.matches(dataset="shop", classifier="")),
        "report": [(group.catalog_version, [vars(each) for each in group.encoders]) for group in groups],
        "page": page(settings),
        "advice": priors.own_catalogs(settings, "another"),
        "outcomes": read_outcomes(settings, at, "shop"),
    }


def test_nobody_takes_them_for_the_encoders_own(settings: Settings) -> None:
    before = answers(settings)
    compress(settings)
    assert answers(settings) == before and not before["evaluated"], "where there are no others"
    assert "no figures of encoder 'e'" in before["gate"]

    evaluate(settings, ENCODED, run_id="r")
    (own,) = answers(settings)["newest"]
    lake.write(settings, tables.METRICS, tables.METRICS.schema.empty_table(), replacing={"classifier": CODEC})
    before = answers(settings)
    assert before["evaluated"] and before["advice"] == [{"e": own.scores["all"].values["mR@1"]}]
    compress(settings)
    assert written(settings) and answers(settings) == before, "where they are the newest"


def test_nor_where_they_alone_are_of_the_catalog_as_it_is_now(settings: Settings) -> None:
    evaluate(settings, ENCODED, run_id="r")
    (photo,) = lake.rows(settings, "SELECT * FROM catalog ORDER BY image_id LIMIT 1")
    lake.append(settings, tables.CATALOG, [photo | {"image_id": "shop/new", "content_sha256": "new"}])
    before = answers(settings)
    assert "on the catalog of 'shop' as it is now" in before["gate"] and not before["evaluated"]
    compress(settings)
    assert answers(settings) == before
