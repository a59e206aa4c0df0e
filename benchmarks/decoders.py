"""What another JPEG decoder does to vectors: torchvision's, whose photos are scaled as tensors, against Vitrine's own.

On a GPU that is nvJPEG (``torchvision.io.decode_jpeg(device="cuda")``), which would take decoding off the processor;
on a processor it is libjpeg, as in Pillow, so that what differs is where and how photos are scaled. A second row
repeats colours instead of interpolating them, as decoders do that were made to be fast. The network is
EfficientNet-Lite0 with its trained weights: random ones are less sensitive.

    python benchmarks/decoders.py PHOTOS
    python benchmarks/decoders.py PHOTOS --device cuda
"""

import argparse
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from spark_jobs.worker.exported import LEAST_COSINE
from vitrine import images
from vitrine.encoders import backbones
from vitrine.encoders.networks import Built, build
from vitrine.settings import load_settings


def scaled_as_tensors(built: Built) -> transforms.Compose:
    """The network's own steps, for float tensors of [0, 1] in place of pictures."""
    steps = built.transform.transforms  # type: ignore[attr-defined]
    kinds = transforms.Resize | transforms.CenterCrop | transforms.Normalize
    kept = [step for step in steps if isinstance(step, kinds)]
    assert len(kept) == 3, steps
    return transforms.Compose(kept)


def decoded(data: bytes, device: str) -> torch.Tensor:
    """uint8 (3, H, W), of the whole size."""
    as_tensor = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
    return torchvision.io.decode_jpeg(as_tensor, torchvision.io.ImageReadMode.RGB, device).cpu()


def with_repeated_colours(data: bytes) -> torch.Tensor:
    """uint8 (3, H, W): of each two by two pixels one colour, of each pixel its own brightness."""
    ycc = np.asarray(Image.open(BytesIO(data)).convert("YCbCr"))
    height, width = ycc.shape[0] // 2 * 2, ycc.shape[1] // 2 * 2
    ycc = ycc[:height, :width].copy()
    for channel in (1, 2):
        means = ycc[..., channel].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)).round()
        ycc[..., channel] = means.repeat(2, axis=0).repeat(2, axis=1)
    return torch.from_numpy(np.asarray(Image.fromarray(ycc, "YCbCr").convert("RGB")).copy()).permute(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder with JPEG files, at any depth")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    given = parser.parse_args()
    found = sorted(path for path in given.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    files = [path.read_bytes() for path in found[:: max(1, len(found) // given.limit)][: given.limit]]
    built = build(backbones.resolve(load_settings(), "efficientnet_lite0"))
    scale = scaled_as_tensors(built)

    def vectors(inputs: list[torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            parts = [built.network(torch.stack(inputs[start : start + 16])) for start in range(0, len(inputs), 16)]
        return torch.nn.functional.normalize(torch.cat(parts), dim=1)

    ours = vectors([built.input(images.decode(data, min_side=built.min_side)) for data in files])
    ways = {
        f"torchvision on {given.device}, scaled as tensors": lambda data: decoded(data, given.device),
        "the same, colours repeated": with_repeated_colours,
    }
    bound = LEAST_COSINE["bf16"]
    print(f"{len(files)} photos, efficientnet_lite0, fp32: cosine to the vectors of Vitrine's own decoding\n")
    print(f"| decoder | least | median | photos below {bound} |\n|---|---|---|---|")
    for name, decode in ways.items():
        cosines = (ours * vectors([scale(decode(data).float() / 255) for data in files])).sum(dim=1)
        share = float((cosines < bound).float().mean())
        print(f"| {name} | {cosines.min():.5f} | {cosines.median():.5f} | {100 * share:.1f} % |")


if __name__ == "__main__":
    main()
