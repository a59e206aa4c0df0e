"""``vitrine compress`` from stored vectors to a shorter encoder that is embedded and judged like any other."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.gates import metrics
from tests.support.verbs_here import told, vitrine
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import heads, tuned
from vitrine.errors import UserError
from vitrine.settings import load_settings

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
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
    assert codecs[f"PCA {done['made_dim']}, float32"]["good_enough"] and codecs[done["cheapest"]]["good_enough"]
    assert done["cheapest_bytes"] == min(each["bytes"] for each in done["codecs"] if each["good_enough"])
    assert "How short may vectors of small be" in Path(done["page"]).read_text()
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
    assert measured["metrics"]["mMP@5"] == pytest.approx(
        codecs[f"PCA {made.dim}, float32"]["metrics"]["mMP@5"], abs=0.002
    )
    told("evaluate", "--encoder", "small", "--dataset", "shop")
    against = metrics.compared_with(settings, EncodedSet("shop", made.name, made.encoder_version))
    assert [(one.kind, one.encoded.encoder) for one in against] == [("base", "small")]
    assert facts.encoder_row(settings, made.encoder_version)["strategy"] == "codec"
    with pytest.raises(UserError, match="is a head on 'small' already"):
        told("compress", "--encoder", made.name, "--dataset", "shop", "--make")
    assert told("compress", "--encoder", made.name, "--dataset", "shop")["dim"] == made.dim
