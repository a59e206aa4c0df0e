"""A phone's photo in Display P3 beside the same picture in sRGB: how alike an encoder's vectors of the two are.

Drawn photos are written twice: as JPEG in sRGB, and as HEIC whose numbers are of Display P3, with its profile, as
phones write them. The cosine of their vectors is given with the profile heeded, as Vitrine reads HEIC, and without, and
beside it that of the JPEG's and the same picture as HEIC in sRGB: what the format alone costs.

    python benchmarks/wide_colours.py --photos 40
"""

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
import pillow_heif
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.support.profiles import DISPLAY_P3, profile  # the tests' own: no part of the package
from vitrine import images
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.encoders import backbones, networks
from vitrine.encoders.identity import identify
from vitrine.settings import load_settings

QUALITY = 95


def heic(picture: Image.Image, icc: bytes | None) -> bytes:
    out = io.BytesIO()
    picture.save(out, "HEIF", quality=QUALITY, icc_profile=icc)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    given = parser.parse_args()
    pillow_heif.register_heif_opener()
    wide = profile(DISPLAY_P3)
    to_wide = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(wide)), "RGB", "RGB"
    )
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "vitrine.toml").touch()
        settings = load_settings(Path(made))
        backbone = backbones.resolve(settings, given.encoder)
        built = networks.build(identify(settings, backbone).pinned(backbone))

        def vector(data: bytes) -> NDArray[np.float64]:
            photo = images.decode(data, min_side=built.min_side)
            with torch.inference_mode():
                output = built.network(built.input(photo)[None]).double().numpy()[0]
            return np.asarray(output / np.linalg.norm(output))

        rows = []
        for number in range(given.photos):
            drawn = draw_photo(product(number), 0, size=320)
            picture = Image.open(io.BytesIO(drawn)).convert("RGB")
            converted = ImageCms.applyTransform(picture, to_wide)
            assert converted is not None
            jpeg = io.BytesIO()
            picture.save(jpeg, "JPEG", quality=QUALITY)
            same = vector(jpeg.getvalue())
            rows.append(
                [same @ vector(data) for data in (heic(converted, wide), heic(converted, None), heic(picture, None))]
            )
    heeded, ignored, alike = np.array(rows).T
    print(f"cosine to the sRGB JPEG's vector, {given.photos} drawn photos, {given.encoder}\n")
    print("| HEIC | lowest | median |\n|---|---|---|")
    for what, cosines in (
        ("Display P3, profile heeded", heeded),
        ("Display P3, profile ignored, as before", ignored),
        ("sRGB: what the format costs", alike),
    ):
        print(f"| {what} | {cosines.min():.4f} | {np.median(cosines):.4f} |")


if __name__ == "__main__":
    main()
