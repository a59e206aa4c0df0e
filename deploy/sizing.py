"""What a catalog of 1, 10 and 100 million photos takes: hours, machines, money, storage, memory; Markdown tables.

    python deploy/sizing.py --core-hour 0.04 --gpu-hour 2.10 --gpu-rate efficientnet_lite0=4883

Rates on processors and bytes in the lake were measured (``MEASURED`` says where); rates on GPUs were not:
they are the caller's to give. Needs nothing but Python.
"""

import argparse
import math
from collections.abc import Iterable
from dataclasses import dataclass

PHOTOS = (1_000_000, 10_000_000, 100_000_000)
GIB = 2**30


@dataclass(frozen=True)
class Measured:
    value: float
    unit: str
    source: str


MEASURED = {
    "efficientnet_lite0": Measured(
        80.8 / 2, "photos/s and core", "docs/benchmarks.md, growth.py: 8,000 drawn photos of 256 pixels, fp32, 2 cores"
    ),
    "resnet50": Measured(
        21.1 / 2,
        "photos/s and core",
        "docs/benchmarks.md, embed_photos.py: 1,000 photos of Grocery Store, start included, bf16, 2 cores",
    ),
    "decode": Measured(
        539.8 / 2, "photos/s and core", "docs/benchmarks.md, steady_state.py: Grocery Store's photos, 2 processes"
    ),
    "products": Measured(
        1_000_000 / 74.1 / 2, "rows/s and core", "docs/benchmarks.md, growth.py --rows 1000000: products' vectors"
    ),
}
DIMS = {"efficientnet_lite0": 1280, "resnet50": 2048, "dinov2_vitb14": 768}
"""Numbers in a vector (docs/encoders.md)."""
LINK_BYTES = 10
"""Of each of HNSW's M edges: "roughly M * 8-10 bytes per stored element" (hnswlib, ALGO_PARAMS.md)."""


@dataclass(frozen=True)
class Bytes:
    """Of one photo, beside the vector itself; benchmarks/row_bytes.py measured it on 20,000 rows."""

    catalog: float = 0.0
    embedding: float = 0.0


BYTES = Bytes(catalog=132, embedding=128)


def vector_bytes(dim: int) -> int:
    """float32."""
    return 4 * dim


def core_hours(photos: int, encoder: str) -> float:
    """To embed ``photos`` once, and make the products' vectors of them."""
    seconds = photos / MEASURED[encoder].value + photos / MEASURED["products"].value
    return seconds / 3600


def gpu_hours(photos: int, rate: float) -> float:
    """At ``rate`` photos a second."""
    return photos / rate / 3600


def feeding_cores(rate: float) -> int:
    """Cores that read and decode for one GPU of ``rate`` photos a second."""
    return math.ceil(rate / MEASURED["decode"].value)


def lake_bytes(photos: int, dim: int, photos_a_product: float) -> float:
    """Catalog, photos' vectors and products' vectors, one encoder version, each row once."""
    row = vector_bytes(dim) + BYTES.embedding
    return photos * (BYTES.catalog + row + row / photos_a_product)


def hnsw_bytes(photos: int, dim: int, m: int) -> float:
    """Of a served collection: its vectors and its graph."""
    return photos * (vector_bytes(dim) + LINK_BYTES * m)


def flat_bytes(photos: int, dim: int) -> float:
    """Of the collection that evaluation searches exactly."""
    return photos * vector_bytes(dim)


def online_bytes(photos: int, dim: int) -> float:
    """Of the vectors alone in Feast's online store; its keys and rows come on top."""
    return photos * vector_bytes(dim)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (list(head), *map(list, rows))]
    return "\n".join([lines[0], "|" + "---|" * lines[0].count(" | ") + "---|", *lines[1:]])


def on_processors(asked: argparse.Namespace) -> str:
    def row(encoder: str, photos: int) -> list[str]:
        hours = core_hours(photos, encoder)
        cores = math.ceil(hours / asked.within)
        return [encoder, f"{photos:,}", f"{hours:,.0f}", f"{cores:,}", f"{hours * asked.core_hour:,.2f}"]

    head = ("encoder", "photos", "core-hours", f"cores for {asked.within:g} hours", asked.currency)
    return table(head, (row(name, photos) for name in ("efficientnet_lite0", "resnet50") for photos in PHOTOS))


def on_gpus(asked: argparse.Namespace) -> str:
    def row(encoder: str, rate: float, photos: int) -> list[str]:
        hours = gpu_hours(photos, rate)
        gpus = math.ceil(hours / asked.within)
        money = f"{hours * asked.gpu_hour:,.2f}"
        return [encoder, f"{rate:,g}", f"{photos:,}", f"{hours:,.1f}", f"{gpus:,}", str(feeding_cores(rate)), money]

    head = (
        *("encoder", "photos/s and GPU", "photos", "GPU-hours", f"GPUs for {asked.within:g} hours"),
        *("cores that feed one", asked.currency),
    )
    return table(head, (row(name, rate, photos) for name, rate in asked.gpu_rate for photos in PHOTOS))


def stored(asked: argparse.Namespace) -> str:
    def row(encoder: str, photos: int) -> list[str]:
        dim = DIMS[encoder]
        sizes = (
            lake_bytes(photos, dim, asked.photos_a_product),
            hnsw_bytes(photos, dim, asked.m),
            flat_bytes(photos, dim),
            online_bytes(photos, dim),
        )
        return [encoder, f"{photos:,}", *(f"{size / GIB:,.0f}" for size in sizes)]

    head = (
        *("encoder", "photos", "lake, GiB"),
        *(f"Milvus, HNSW of M = {asked.m}", "Milvus, exact", "Feast's vectors online"),
    )
    return table(head, (row(name, photos) for name in DIMS for photos in PHOTOS))


def rate(text: str) -> tuple[str, float]:
    """``NAME=PHOTOS_A_SECOND``."""
    name, _, number = text.partition("=")
    if name not in DIMS:
        raise argparse.ArgumentTypeError(f"unknown encoder {name!r}: choose one of {', '.join(DIMS)}")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: a rate is NAME=PHOTOS_A_SECOND, above 0")
    return name, value


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core-hour", type=float, required=True, help="what an hour of a core costs")
    parser.add_argument("--gpu-hour", type=float, default=0.0, help="what an hour of a GPU costs, its cores included")
    parser.add_argument("--gpu-rate", type=rate, action="append", default=[], help="NAME=PHOTOS_A_SECOND; may repeat")
    parser.add_argument("--currency", default="EUR")
    parser.add_argument("--within", type=float, default=8.0, help="hours that the first night may take")
    parser.add_argument("--m", type=int, default=16, help="HNSW's M ([milvus.hnsw] m)")
    parser.add_argument("--photos-a-product", type=float, default=5.0)
    return parser.parse_args(words)


def report(asked: argparse.Namespace) -> str:
    """The tables, as docs/cluster.md has them."""
    parts = [on_processors(asked), *([on_gpus(asked)] if asked.gpu_rate else []), stored(asked)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(report(arguments()))
