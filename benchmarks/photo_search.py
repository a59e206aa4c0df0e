"""Search by a photo: how long from a customer's photo to the nearest products, step by step and as a whole.

Products that Vitrine draws, embedded, indexed and promoted in a home of their own; other photos of them are asked for.

    python benchmarks/photo_search.py --encoder efficientnet_lite0 --catalog 200x5 --side 1200 --searches 200

First table: milliseconds of the steps of one photo, in one process, a photo at a time: decoding and scaling, the
forward pass by onnxruntime and, of the same input, by torch as it was loaded, and all of ``QueryEncoder.encode``.
Second table: ``POST /datasets/shop/search`` of ``vitrine serve`` (one process) at 1 and 4 concurrent clients, with how
many searches it answered in a second; and, for comparison, similar products, which need no photo. Milvus is what
VITRINE_MILVUS__URI says, Lite where it says nothing. Steps, and ways of asking, take turns.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vitrine import facts, images
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.encoders import backbones, kept_bundles, networks
from vitrine.encoders.query_encoder import QueryEncoder, network_input
from vitrine.settings import Settings, load_settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support.feature_server import Server, serving  # the tests' own: they are no part of the package

DATASET, BLOCK = "shop", 20


def vitrine(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "vitrine", *arguments], check=True, stdout=subprocess.DEVNULL)


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def shown(times: list[float]) -> str:
    return f"{np.percentile(times, 50):.1f} / {np.percentile(times, 99):.1f}"


def steps(settings: Settings, encoder: str, photos: list[bytes]) -> dict[str, list[float]]:
    """Of a network, not a head: milliseconds of each step, a number a photo; the first photos warm up."""
    serves = facts.serving_set(settings, DATASET)
    assert serves
    query = QueryEncoder(kept_bundles.folder(settings, serves.encoder_version))
    built = networks.build(backbones.resolve(settings, encoder))
    ((session, how),) = query._networks
    name = session.get_inputs()[0].name

    def torch_forward(given: np.ndarray) -> None:
        with torch.inference_mode():
            built.network(torch.from_numpy(given))

    times: dict[str, list[float]] = {}
    for number, data in enumerate(photos):
        given = network_input(images.decode(data, min_side=how["min_side"]), how)
        ways = {
            "decode and scale": partial(_input_of, data, how),
            "forward, onnxruntime": partial(session.run, None, {name: given}),
            "forward, torch": partial(torch_forward, given),
            "photo to vector": partial(query.encode, data),
        }
        for way, work in ways.items():
            took = milliseconds(work)
            if number >= BLOCK:
                times.setdefault(way, []).append(took)
    return times


def _input_of(data: bytes, how: dict) -> np.ndarray:
    return network_input(images.decode(data, min_side=how["min_side"]), how)


def asked(server: Server, clients: int, photos: list[bytes], products: int) -> dict[str, tuple[list[float], float]]:
    """Milliseconds of each request, and how many were answered in a second; by turns in blocks of one way."""

    def search(number: int) -> float:
        return milliseconds(lambda: _good(server.search(DATASET, photos[number])))

    def similar(number: int) -> float:
        path = f"/datasets/{DATASET}/products/{DATASET}%2F{product(number % products).slug}/similar"
        return milliseconds(lambda: _good(server.ask(path)))

    found: dict[str, tuple[list[float], float]] = {}
    seconds: dict[str, float] = {}
    times: dict[str, list[float]] = {}
    with ThreadPoolExecutor(clients) as pool:
        for first in range(0, len(photos), BLOCK * clients):
            block = range(first, min(first + BLOCK * clients, len(photos)))
            for way, ask in {"a photo": search, "similar products": similar}.items():
                started = time.perf_counter()
                times.setdefault(way, []).extend(pool.map(ask, block))
                seconds[way] = seconds.get(way, 0.0) + time.perf_counter() - started
    for way, each in times.items():
        found[way] = each, len(each) / seconds[way]
    return found


def _good(answer: tuple[int, object]) -> None:
    assert answer[0] == 200, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="efficientnet_lite0", help="a network's name")
    parser.add_argument("--catalog", default="200x5", help="PRODUCTSxPHOTOS")
    parser.add_argument("--side", type=int, default=1200, help="pixels of the longest side of a photo that is sent")
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    given = parser.parse_args()
    products = int(given.catalog.split("x")[0])
    photos = [
        draw_photo(product(number % products), 1000 + number // products, size=given.side)
        for number in range(BLOCK + given.searches)
    ]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        os.chdir(folder)
        Path("vitrine.toml").touch()
        vitrine("ingest", given.catalog, "--dataset", DATASET, "--layout", "generated")
        vitrine("embed", "--encoder", given.encoder, "--dataset", DATASET)
        vitrine("index", "--encoder", given.encoder, "--dataset", DATASET)
        vitrine("promote", given.encoder, "--dataset", DATASET, "--force", "--reason", "benchmark")
        rows = []
        with serving(Server(Path(folder))) as server:
            first = milliseconds(lambda: _good(server.search(DATASET, photos[0])))
            for clients in given.clients:
                for way, (times, rate) in asked(server, clients, photos[BLOCK:], products).items():
                    rows.append(f"| {way} | {clients} | {shown(times)} | {rate:.1f} |")
        of_steps = steps(load_settings(), given.encoder, photos)
    print(f"\n| {given.encoder}, photos of {given.side} pixels | p50 / p99 ms |\n|---|---|")
    for way, times in of_steps.items():
        print(f"| {way} | {shown(times)} |")
    print(f"\n| {given.catalog} photos, asked for by | clients | p50 / p99 ms | a second |\n|---|---|---|---|")
    print("\n".join(rows))
    print(f"\nthe first search, which makes the bundle: {first / 1000:.0f} s")


if __name__ == "__main__":
    main()
