"""How often the gates are right: candidates made worse on purpose, and one that is as good as what serves.

A catalog, drawn or read by a layout, is embedded in this process, by the job's own encoder; each repeat takes half of
its products, drawn anew, for its catalog: two repeats have some in common. What serves is the network as it is, in
fp32. The candidates:

- noisy weights: to every weight tensor, Gaussian noise of ``--noise`` times the tensor's own standard deviation is
  added before the photos are embedded (noise on finished vectors would be another thing: it has no structure);
- one category shuffled: the serving vectors, those of one category permuted among its photos, as a botched backfill of
  one supplier would leave them; another category each repeat, of those with two products or more;
- wrong preprocessing: the same weights, photos normalised by another mean and standard deviation than the network's
  (``--mean``, ``--std``);
- harmless: the same weights and preprocessing, embedded again in other batches, and in bf16 where this machine
  multiplies it in hardware, as another machine would.

The gates' own decisions are asked (``gate.decide``, ``regression.held_against``, ``drift.drift_checks``), with the
thresholds of vitrine.toml, over neighbours by NumPy: exact, as Milvus's are. The first three should be refused, the
last one should pass. Printed: how often that was so, the figure's change from least to most, and which checks refused
how often. Drawn products are of 16 kinds: with 10 of each, a repeat asks 60 queries a category, with 20, 120.

    python benchmarks/gate_power.py --source 640x6 --repeats 20 --device cuda
    python benchmarks/gate_power.py --source GROCERY_STORE --layout grocery_store --repeats 10
"""

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.gates.drift import Probe, drift_checks
from evaluation.gates.gate import Check, decide
from evaluation.gates.regression import Against, PairedQueries, held_against
from spark_jobs.worker.encoder import Encoder
from spark_jobs.worker.encoder_plan import EncoderPlan
from spark_jobs.worker.precision import resolve_precision
from vitrine import images
from vitrine.datasets import registry
from vitrine.datasets.photo import Photo
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import backbones
from vitrine.encoders.networks import Built, build
from vitrine.retrieval_metrics import per_query
from vitrine.settings import Settings, load_settings

HARMLESS = "harmless"


@dataclass(frozen=True)
class Shop:
    """A catalog, and its vectors by what serves, (N, D)."""

    photos: list[Photo]
    serving: np.ndarray

    def part(self, random: np.random.Generator) -> np.ndarray:
        """The places of the photos of half of the products."""
        products = np.unique(self.labels("product_id"))
        return np.flatnonzero(np.isin(self.labels("product_id"), random.permutation(products)[: len(products) // 2]))

    def at(self, places: np.ndarray) -> "Shop":
        return Shop([self.photos[place] for place in places], self.serving[places])

    def labels(self, name: str) -> np.ndarray:
        return np.array([getattr(photo, name) for photo in self.photos], dtype=object)


def embed(
    plan: EncoderPlan, photos: list[Photo], device: str, spoil: Callable[[Built], Built] = lambda built: built
) -> np.ndarray:
    encoder = Encoder(plan, device, spoil(build(plan.backbone)))
    found: dict[str, np.ndarray] = {}
    for done in encoder.encode((photo.image_id, [photo.uri]) for photo in photos):
        assert not done.refused, done.refused
        found |= dict(zip(done.keys, done.vectors, strict=True))
    return np.stack([found[photo.image_id] for photo in photos])


def noisy(level: float, seed: int) -> Callable[[Built], Built]:
    import torch

    def spoil(built: Built) -> Built:
        torch.manual_seed(seed)
        for weights in built.network.parameters():
            if weights.numel() > 1:
                weights += level * weights.std() * torch.randn_like(weights)
        return built

    return spoil


def normalised_by(mean: float, std: float) -> Callable[[Built], Built]:
    """The network's own transform, with its last step replaced."""
    import torch
    from torchvision import transforms

    def spoil(built: Built) -> Built:
        own: Any = built.transform
        steps = [step for step in own.transforms if not isinstance(step, transforms.Normalize)]
        assert len(steps) == len(own.transforms) - 1
        wrong = transforms.Normalize(torch.full((3,), mean), torch.full((3,), std))
        return replace(built, transform=transforms.Compose([*steps, wrong]))

    return spoil


def shuffled(shop: Shop, seed: int) -> np.ndarray:
    categories, products = shop.labels("category"), shop.labels("product_id")
    known = [each for each in sorted(set(categories)) if len(set(products[categories == each])) > 1]
    own = np.flatnonzero(categories == known[seed % len(known)])
    vectors = shop.serving.copy()
    vectors[own] = vectors[np.random.default_rng(seed).permutation(own)]
    return vectors


def figures(vectors: np.ndarray, products: np.ndarray, settings: Settings, labels: np.ndarray | None = None) -> Any:
    """Each photo's figure among all others; ``labels`` are those that the index is taken to have."""
    index = products if labels is None else labels
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1)[:, : min(settings.evaluate.depth, len(vectors) - 1)]
    relevance = index[nearest] == products[:, None]
    counts = (index[None, :] == products[:, None]).sum(axis=1) - (index == products)
    return per_query(relevance.astype(bool), counts)[settings.gates.metric]


def judge(settings: Settings, shop: Shop, vectors: np.ndarray) -> tuple[float, list[Check]]:
    """The figure's change, and every check of the gates that has no table to read."""
    products = shop.labels("product_id")
    ours, theirs = (figures(each, products, settings) for each in (vectors, shop.serving))
    chance = figures(vectors, products, settings, np.random.default_rng(0).permutation(products))
    categories, learned = {"category": shop.labels("category")}, np.ones(len(ours), dtype=bool)
    paired = PairedQueries(settings.gates.metric, ours, theirs, products, categories, learned)
    few = np.random.default_rng(0).permutation(len(vectors))[: settings.gates.probes]
    checks = decide(settings.gates.metric, float(np.nanmean(ours)), float(np.nanmean(chance)), settings.gates)
    checks += held_against(Against("serving", EncodedSet("drawn", "serving", "s")), paired, [], settings.gates)
    checks += drift_checks(Probe(vectors[few], shop.serving[few], True), settings.gates)
    return float(np.nanmean(ours - theirs)), checks


def listed(layout: str, unit: str) -> list[Photo]:
    return list(registry.find(layout).photos(unit))


def candidates(given: argparse.Namespace, settings: Settings) -> Iterator[tuple[int, str, Shop, np.ndarray]]:
    """(repeat, name, catalog of the repeat, vectors); what does not change from repeat to repeat is embedded once."""
    threads = os.cpu_count() or 1
    plan = EncoderPlan(backbones.resolve(settings, given.encoder), None, "fp32", images.DEFAULT_MAX_PIXELS, threads)
    with ProcessPoolExecutor(threads) as pool:
        units = registry.find(given.layout).units(settings, given.source)
        photos = list(chain.from_iterable(pool.map(partial(listed, given.layout), units)))
    everything = Shop(photos, embed(plan, photos, given.device))
    wrong = embed(plan, photos, given.device, normalised_by(given.mean, given.std))
    precision = resolve_precision("auto", given.device)
    again = embed(replace(plan, precision=precision, batch_size=5), photos, given.device)
    for seed in range(given.repeats):
        places = everything.part(np.random.default_rng(seed))
        shop = everything.at(places)
        yield seed, "noisy weights", shop, embed(plan, shop.photos, given.device, noisy(given.noise, seed))
        yield seed, "one category shuffled", shop, shuffled(shop, seed)
        yield seed, "wrong preprocessing", shop, wrong[places]
        yield seed, HARMLESS, shop, again[places]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="640x6", help="PRODUCTSxPHOTOS, or what the layout reads")
    parser.add_argument("--layout", default="generated", choices=list(registry.LAYOUTS))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--noise", type=float, default=0.1, help="of each weight tensor's standard deviation")
    parser.add_argument("--mean", type=float, default=0.0, help="in place of the network's own")
    parser.add_argument("--std", type=float, default=0.1, help="in place of the network's own")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    told: dict[str, list[tuple[float, list[str]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # exports of networks that nobody else will ask for
        settings = load_settings().model_copy(update={"home": Path(folder)})
        for seed, name, shop, vectors in candidates(given, settings):
            change, checks = judge(settings, shop, vectors)
            failed = [check.name for check in checks if not check.passed]
            told.setdefault(name, []).append((change, failed))
            print(f"repeat {seed}: {name}: {change:+.4f}, {', '.join(failed) or 'passed'}", flush=True)
            for check in checks if given.repeats == 1 else ():
                print(f"    {'passed' if check.passed else 'FAILED'} {check.name}: {check.detail}")
    print(f"\n{len(shop.photos)} photos a repeat, {given.encoder}, {settings.gates.metric}\n")
    print("| candidate | the gates were right | change | refused by |\n|---|---|---|---|")
    for name, outcomes in told.items():
        right = sum(bool(failed) != (name == HARMLESS) for _, failed in outcomes)
        changes = sorted(change for change, _ in outcomes)
        by = ", ".join(
            f"{check} {n}" for check, n in Counter(c for _, failed in outcomes for c in failed).most_common()
        )
        print(f"| {name} | {right} of {len(outcomes)} | {changes[0]:+.4f} to {changes[-1]:+.4f} | {by or '-'} |")


if __name__ == "__main__":
    main()
