"""Vectors of photos by a network in tuning: as embedding makes them, and zeros for what cannot be read."""

import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from tests.support.profiles import DISPLAY_P3, profile
from training import photo_vectors
from vitrine import images
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import build
from vitrine.files import write_json


@pytest.mark.parametrize("colours", [None, "srgb"])
def test_a_photo_is_decoded_as_its_encoder_asks(tmp_path: Path, colours: str | None):
    network = Backbone(
        "small", "timm", "convnext_atto", "supervised", weights="random:1", input_size=32, colours=colours
    )
    drawn, wide = Image.open(io.BytesIO(draw_photo(product(1), 1, size=64, difficulty=0.1))), io.BytesIO()
    drawn.save(wide, "JPEG", quality=95, icc_profile=profile(DISPLAY_P3))
    (tmp_path / "wide.jpg").write_bytes(wide.getvalue())
    (tmp_path / "torn.jpg").write_bytes(wide.getvalue()[:80])
    part = tmp_path / "rows" / "train"
    part.mkdir(parents=True)
    uris = [str(tmp_path / name) for name in ("wide.jpg", "torn.jpg")]
    table = pa.table({"image_id": ["wide", "torn"], "label": pa.array([0, 1], pa.int32()), "uri": uris})
    pyarrow.parquet.write_table(table, part / "part-0.parquet")
    asked = {
        "training_set": str(part.parent),
        "rows": {"train": 2},
        "backbone": asdict(network),
        "max_pixels": 1_000_000,
    }
    write_json(tmp_path / "request.json", asked)
    photo_vectors.embed(tmp_path)
    vectors = np.load(tmp_path / "train.npy")
    assert json.loads((tmp_path / "train.json").read_text()) == ["wide", "torn"] and not vectors[1].any()
    built = build(network)
    expected = {}
    for managed in (False, True):
        photo = images.decode(wide.getvalue(), 1_000_000, built.min_side, managed)
        with torch.inference_mode():
            vector = built.network.eval()(built.transform(photo)[None])[0]
        expected[managed] = (vector / vector.norm()).numpy()
    near = {managed: float(vectors[0] @ each) for managed, each in expected.items()}
    assert near[colours is not None] > 0.99999 > near[colours is None]
