"""The report's section on codecs: bytes against quality, as the study has it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.compression.codec_rows import IN_FULL, write_rows
from evaluation.report import codecs, report
from tests.evaluation.compression.test_codec_rows import compress
from tests.evaluation.test_evaluate import make
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    settings = load_settings(tmp_path)
    make(settings, "shop", ("train", "test"))
    return settings


def test_the_report_shows_bytes_against_quality(settings: Settings) -> None:
    assert codecs.compressed(settings, "shop", {}) == []
    assert "How short vectors may be" not in report.write_report(settings).read_text()
    done = compress(settings)
    (shown,) = codecs.compressed(settings, "shop", {})
    assert (shown.encoder, shown.older_catalog, shown.index_size) == ("e", False, done.index)
    assert [each.bytes for each in shown.codecs] == sorted((each.bytes for each in shown.codecs), reverse=True)
    by_name = {each.name: each for each in shown.codecs}
    assert set(by_name) == {IN_FULL, *(row.codec.name for row in done.rows)} and by_name[IN_FULL].change is None
    for row in done.rows:
        one = by_name[row.codec.name]
        assert one.figure.value == row.metrics["mMP@5"] and one.change and one.change.low == row.change.low
        beaten = [
            each
            for each in shown.codecs
            if each.bytes <= one.bytes
            and each.figure.value >= one.figure.value
            and (each.bytes, each.figure.value) != (one.bytes, one.figure.value)
        ]
        assert one.on_front is not bool(beaten), one.name
    html = report.write_report(settings).read_text()
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "How short vectors may be" in text and f"{len(shown.others)} others" in text
    for each in shown.codecs:
        assert f"{each.name} {each.bytes:,} {each.figure.value:.3f}" in text
    (charts,) = re.findall(r'id="charts">(.*?)</script>', html, re.S)
    (chart,) = [each for each in json.loads(charts) if each["id"] == "chart-codecs-1-shop"]
    line, dots = chart["data"]
    assert line["x"] == sorted(each.bytes for each in shown.front) and len(dots["x"]) == len(shown.codecs)
    assert dots["error_y"]["array"] and chart["layout"]["xaxis"]["type"] == "log"


def test_the_report_has_the_newest_version_of_each_encoder_and_says_what_is_old(settings: Settings) -> None:
    done = compress(settings)
    older = replace(done.task, encoded=EncodedSet("shop", "f", "f" * 16), catalog_version="long ago")
    write_rows(settings, older, "x", "r", done.codecs)
    twin = replace(done.task, encoded=EncodedSet("shop", "e", "e" * 16))
    write_rows(settings, twin, "x", "r", done.codecs)
    shown = codecs.compressed(settings, "shop", {})
    assert [(each.evaluation.encoded.encoder_version, each.older_catalog) for each in shown] == [
        ("e" * 16, False),
        ("f" * 16, True),
    ]
    html = report.write_report(settings).read_text()
    assert html.count('<span class="badge warn">older catalog</span>') == 1
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
