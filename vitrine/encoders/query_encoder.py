"""A customer's photo to the vector that is compared with the shop's: by onnxruntime, Pillow and NumPy alone.

    python query_encoder.py PHOTO...    one JSON object: the encoder version, and a vector a photo
    python query_encoder.py --check     encodes the probe photos; exit 1 where a vector is not what it was at the export

In Python, ``QueryEncoder(FOLDER).encode(data)``, where FOLDER is what ``vitrine export`` made. Photos are decoded,
checked and refused as those of the catalog are (``images``). Vectors have unit length and belong to one encoder
version: compare them with vectors of that version alone.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from vitrine import images

Floats = NDArray[np.float32]
DESCRIPTION = "bundle.json"


class QueryEncoder:
    """An exported encoder, loaded once; safe to call from threads."""

    def __init__(self, folder: Path, threads: int = 0, max_pixels: int | None = None) -> None:
        """``threads``: of a forward pass; 0: as many as the processor has. ``max_pixels``: of a photo; left out: as
        when it was exported."""
        self.folder = folder
        self.bundle: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        self.encoder_version, self.dim = str(self.bundle["encoder_version"]), int(self.bundle["dim"])
        self._max_pixels = max_pixels or int(self.bundle["max_pixels"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would slow other processes
        options.add_session_config_entry("session.set_denormal_as_zero", "1")  # they are slow and mean nothing here
        self._networks = [
            (onnxruntime.InferenceSession(folder / part["network"], options, ["CPUExecutionProvider"]), part["input"])
            for part in self.bundle["networks"]
        ]
        self._layers: list[tuple[Floats, Floats]] = []
        if head := self.bundle["head"]:
            with np.load(folder / head["file"], allow_pickle=False) as tensors:
                self._layers = [(tensors[f"weight_{n}"], tensors[f"bias_{n}"]) for n in range(head["layers"])]

    def encode(self, data: bytes) -> Floats:
        """(dim,), of unit length: the vector of the picture in ``data``, a file's bytes.

        Raises:
            images.ImageError: the picture cannot be used; says why.
        """
        vector = np.concatenate([self._forward(session, data, how) for session, how in self._networks])
        head = self.bundle["head"] or {}
        for number, (weight, bias) in enumerate(self._layers, 1):
            codec = number > len(self._layers) - head.get("codecs", 0)
            vector = (_unit(vector) if codec else vector) @ weight + bias
            if head["activation"] == "relu" and not codec:
                vector = np.maximum(vector, 0)
        return _unit(vector) if self._layers else vector

    def check(self) -> float:
        """The least cosine between the probes' vectors, encoded here and now, and those at the export."""
        probes = self.bundle["probes"]
        expected = np.load(self.folder / probes["vectors"], allow_pickle=False)
        photos = [(self.folder / name).read_bytes() for name in probes["photos"]]
        return min(float(self.encode(data) @ vector) for data, vector in zip(photos, expected, strict=True))

    def _forward(self, session: Any, data: bytes, how: dict[str, Any]) -> Floats:
        photo = images.decode(data, self._max_pixels, how["min_side"], how["managed"])
        (output,) = session.run(None, {session.get_inputs()[0].name: network_input(photo, how)})
        return _unit(output[0])


def network_input(photo: Image.Image, how: dict[str, Any]) -> Floats:
    """(1, 3, height, width): a decoded photo as its network takes it."""
    if max(photo.size) / min(photo.size) * how["min_side"] ** 2 > images.DEFAULT_MAX_PIXELS:
        reason = f"{photo.width} x {photo.height} pixels are too long and narrow to scale"
        raise images.ImageError("too_large", reason)
    for step in how["steps"]:
        photo = _resized(photo, step) if "resize" in step else _cropped(photo, step)
    pixels = np.asarray(photo, np.float32).transpose(2, 0, 1) / np.float32(255)
    mean, std = (np.array(how[name], np.float32)[:, None, None] for name in ("mean", "std"))
    return np.ascontiguousarray((pixels - mean) / std)[None]


def _resized(photo: Image.Image, step: dict[str, Any]) -> Image.Image:
    width, height = photo.size
    if step["resize"] == "shortest":
        (short,) = step["to"]
        long = int(short * max(width, height) / min(width, height))
        size = (short, long) if width <= height else (long, short)
    elif step["resize"] == "ratio":
        to_height, to_width = step["to"]
        ratios, longest = (height / to_height, width / to_width), step["longest"]
        ratio = max(ratios) * longest + min(ratios) * (1 - longest)
        size = (round(width / ratio), round(height / ratio))
    else:
        size = (step["to"][1], step["to"][0])
    return photo if size == photo.size else photo.resize(size, Image.Resampling[step["interpolation"].upper()])


def _cropped(photo: Image.Image, step: dict[str, Any]) -> Image.Image:
    """The middle of the photo, with the fill's colour around it where it is smaller."""
    height, width = step["crop"]
    left, top = (
        round((has - wanted) / 2) if has >= wanted else -((wanted - has) // 2)
        for has, wanted in ((photo.width, width), (photo.height, height))
    )
    canvas = Image.new("RGB", (width, height), tuple(step["fill"]))
    canvas.paste(photo, (-left, -top))
    return canvas


def _unit(vector: NDArray[Any]) -> Floats:
    wide = vector.astype(np.float64)
    length = float(np.linalg.norm(wide))
    if not (np.isfinite(length) and length > 1e-12):
        raise images.ImageError("bad_vector", "the network's output has no finite length: NaN, infinity or all zero")
    return np.asarray(wide / length, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Photos to vectors, by the encoder in this folder.")
    parser.add_argument("photos", nargs="*", metavar="PHOTO")
    parser.add_argument("--check", action="store_true", help="encode the probe photos, and compare")
    given = parser.parse_args()
    encoder = QueryEncoder(Path(__file__).resolve().parent)
    if given.check:
        least, asked = encoder.check(), encoder.bundle["probes"]["least_cosine"]
        print(json.dumps({"encoder_version": encoder.encoder_version, "least_cosine": least, "asked": asked}))
        sys.exit(0 if least >= asked else 1)
    try:
        vectors = {name: encoder.encode(Path(name).read_bytes()).tolist() for name in given.photos}
    except (images.ImageError, OSError) as error:
        sys.exit(f"query_encoder.py: {error}")
    print(json.dumps({"encoder_version": encoder.encoder_version, "vectors": vectors}))


if __name__ == "__main__":
    main()
