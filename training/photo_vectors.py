"""Vectors of a training set's photos by a network in tuning, for those who judge it.

``python -m training.photo_vectors FOLDER``: ``request.json`` says by which weights and how many rows of each part;
``PART.npy``, float32 (N, D) of unit length, and ``PART.json``, the photos' ids, are what comes of it. A photo that
cannot be read has a vector of zeros.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.photo_loader import Photos, outputs
from training.training_set import open_part
from training.tuning_process import RESULT, PhotoVectorsRequest, read_result, run
from vitrine import files
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import build


def embed(folder: Path) -> dict[str, Any]:
    """Write the vectors that ``request.json`` asks for; what ``result.json`` then says. What is there is done."""
    if result := read_result(folder):
        return result
    request, started = PhotoVectorsRequest.read(folder), time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_flush_denormal(True)
    built = build(Backbone(**{**request.backbone, "facts": None}))
    for part, most in request.rows.items():
        if (folder / f"{part}.npy").is_file():
            continue
        ids = open_part(request.training_set, part).head(most, columns=["image_id"], use_threads=False)["image_id"]
        photos = Photos(
            request.training_set, part, built.transform, built.min_side, request.max_pixels, managed=built.managed
        )
        output = torch.from_numpy(outputs(built.network, photos, len(ids), device))
        rows = torch.nn.functional.normalize(output).numpy()
        rows[photos.unreadable[: len(rows)].numpy()] = 0
        files.write_json(folder / f"{part}.json", ids.to_pylist())
        with files.whole(folder / f"{part}.npy") as fresh, fresh.open("wb") as file:
            np.save(file, rows)
    result = {"seconds": {"embedding": round(time.monotonic() - started, 3)}}
    files.write_json(folder / RESULT, result)
    return result


if __name__ == "__main__":
    run(embed, embed, sys.argv[1:])
