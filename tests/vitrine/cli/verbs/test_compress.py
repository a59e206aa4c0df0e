"""``vitrine compress`` from stored vectors to a shorter encoder that is embedded and judged like any other."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.compression.codec_rows import CODEC
from evaluation.compression.study import study
from evaluation.gates import metrics
from tests.support.tuned_by_hand import make_head
from tests.support.verbs_here import told, vitrine
from vitrine import facts, lake
from vitrine.cli.choices import encoded_set
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name, heads, tuned
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[encoders.other]
backbone = "torchvision/squeezenet1_0"
weights = "random:2"
input_size = 64
"""


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_a_shorter_encoder_is_made_and_embedded_without_a_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    vitrine("ingest", "30x8", "--dataset", "shop", "--layout", "generated", "--test-share", "0.25")
    vitrine("embed", "--encoder", "small", "--dataset", "shop")
    compress = ("compress", "--encoder", "small", "--dataset", "shop")
    done = told(*compress, "--make", "--max-drop", "0.2")
    assert (done["dim"], done["bytes"], done["made"]) == (512, 2048, f"small__pca{done['made_dim']}")
    codecs = {each["codec"]: each for each in done["codecs"]}
    assert done["made_of"].startswith(f"PCA {done['made_dim']}") and done["made_of"].endswith(", float32")
    assert codecs[done["made_of"]]["good_enough"] and codecs[done["cheapest"]]["good_enough"]
    assert done["cheapest_bytes"] == min(each["bytes"] for each in done["codecs"] if each["good_enough"])
    assert "How short may vectors of small be" in Path(done["page"]).read_text()
    kept = {(each["store"], each["kept"]): each["bytes_a_row"] for each in done["stores"]}
    assert kept["Redis", "float32"] > kept["Redis", "int8"] and kept["Milvus", "FLAT"] > kept["Milvus", "IVF_SQ8"]
    assert f"Milvus IVF_SQ8 {kept['Milvus', 'IVF_SQ8']:,} bytes" in Path(done["page"]).read_text()
    with pytest.raises(UserError, match="encoder 'small' is there already"):
        told(*compress, "--make", "--name", "small")
    for wrong in (("--make", "--components", "100"), ("--components", "64")):
        with pytest.raises(UserError, match=f"--components {wrong[-1]}: with --make, and one of 256, 128, 96, 64"):
            told(*compress, *wrong)
    narrow = told(*compress, "--max-drop", "0.2", "--bytes-at-most", "1")
    assert narrow["cheapest"] is None and "made" not in narrow

    embedded = told("embed", "--encoder", done["made"], "--dataset", "shop")
    assert (embedded["embedded"], embedded["dim"]) == (240, done["made_dim"])
    settings = load_settings(tmp_path)
    made = tuned.find(settings, done["made"])
    assert made and (made.strategy, made.base) == ("codec", "small") and made.encoder_version == done["made_version"]
    sql = "SELECT embedding FROM embeddings WHERE encoder_version = '{}' ORDER BY image_id"
    full, short = (
        np.array([row["embedding"] for row in lake.rows(settings, sql.format(version))], np.float32)
        for version in (made.base_version, made.encoder_version)
    )
    assert np.allclose(heads.load(made.path(settings)).embed(full.copy()), short, atol=1e-6)
    measured = told("evaluate", "--encoder", made.name, "--dataset", "shop")
    assert measured["metrics"]["mMP@5"] == pytest.approx(codecs[done["made_of"]]["metrics"]["mMP@5"], abs=0.002)
    told("evaluate", "--encoder", "small", "--dataset", "shop")
    against = metrics.compared_with(settings, EncodedSet("shop", made.name, made.encoder_version))
    assert [(one.kind, one.encoded.encoder) for one in against] == [("base", "small")]
    assert facts.encoder_row(settings, made.encoder_version)["strategy"] == "codec"
    assert told("compress", "--encoder", made.name, "--dataset", "shop")["dim"] == made.dim
    longer = told(*compress, "--make", "--components", "64", "--max-drop", "0.2")
    of_64 = [codecs[f"PCA 64{kind}, float32"] for kind in ("", " half-whitened")]
    better = max(of_64, key=lambda each: each["change"] if each["good_enough"] else -1)
    assert (longer["made"], longer["made_dim"], longer["made_of"]) == ("small__pca64", 64, better["codec"])
    recalls = [each["lists_recall"] for each in done["codecs"]]
    assert 0.5 < min(recalls) <= max(recalls) <= 1 and 0.5 < done["lists_recall"] <= 1
    rows = lake.rows(settings, f"SELECT * FROM metrics WHERE encoder = 'small' AND {lake.matches(classifier=CODEC)}")
    assert len({row["slice"] for row in rows}) == len(done["codecs"]) + 1
    (one,) = [row["value"] for row in rows if (row["slice"], row["metric"]) == (f"codec={done['cheapest']}", "mMP@5")]
    assert one == codecs[done["cheapest"]]["metrics"]["mMP@5"]


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_vectors_of_a_head_are_made_shorter_by_one_head_on_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)  # other tests go on with it
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    vitrine("ingest", "30x8", "--dataset", "shop", "--layout", "generated", "--test-share", "0.25")
    vitrine("embed", "--encoder", "small", "--encoder", "other", "--dataset", "shop")
    settings = load_settings(tmp_path)
    for name, strategy, base, widths in (
        ("a_line", "linear", "small", (512, 40)),
        ("a_perceptron", "top", "small+other", (1024, 48, 80)),
    ):
        make_head(settings, name, strategy, base, widths)
        check_shorter(settings, name, base)
    told("retire", "a_line")
    made = tuned.find(settings, "a_line__pca16")
    assert made
    (against,) = metrics.compared_with(settings, EncodedSet("shop", made.name, made.encoder_version))
    assert against.encoded.encoder_version == made.base_version


def check_shorter(settings: Settings, name: str, base: str) -> None:
    """Of the encoder that is made of the head ``name``."""
    vitrine("embed", "--encoder", name, "--dataset", "shop")
    of_head = told("evaluate", "--encoder", name, "--dataset", "shop")
    longer = encoded_set(settings, name, "shop")
    done = told("compress", "--encoder", name, "--dataset", "shop", "--make", "--max-drop", "0.9")
    made = tuned.find(settings, done["made"])
    assert made and made.base == base and made.base_version == by_name.joined_version(settings, base)
    assert (made.strategy, made.shortens, made.shortens_version) == ("codec", name, longer.encoder_version)
    embedded = told("embed", "--encoder", made.name, "--dataset", "shop")
    assert (embedded["embedded"], embedded["dim"]) == (240, made.dim) and made.dim < done["dim"]
    stored, short = stored_vectors(settings, longer.encoder_version), stored_vectors(settings, made.encoder_version)
    linear = {row.codec.name: row.codec.linear for row in study(settings, longer, "product_id", 0.9).rows}
    wanted = linear[done["made_of"]].apply(stored)
    assert (wanted * short).sum(1).min() > 0.99999
    measured = told("evaluate", "--encoder", made.name, "--dataset", "shop")
    (codec,) = [each for each in done["codecs"] if each["codec"] == done["made_of"]]
    assert measured["metrics"]["mMP@5"] == pytest.approx(codec["metrics"]["mMP@5"], abs=0.002)

    encoded = EncodedSet("shop", made.name, made.encoder_version)
    against = metrics.compared_with(settings, encoded)
    assert [(one.kind, one.encoded) for one in against] == [("base", longer)], "held against the head, not its base"
    checks = {check["expectation"].split(":")[0]: check for check in metrics.gate_metrics(settings, encoded).checks}
    held = checks["no worse than its own backbone"]["figures"]
    assert held["difference"] == pytest.approx(measured["metrics"]["mMP@5"] - of_head["metrics"]["mMP@5"])


def stored_vectors(settings: Settings, version: str) -> np.ndarray:
    sql = f"SELECT embedding FROM embeddings WHERE {lake.matches(encoder_version=version)} ORDER BY image_id"
    return np.array([row["embedding"] for row in lake.rows(settings, sql)], np.float32)
