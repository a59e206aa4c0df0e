"""Does Vitrine do on this machine's GPU what it does on processors, and how fast? One table, in under four minutes.

Photos are drawn and weights are random, so that nothing has to be fetched. Checks of vectors ask for a cosine, those of
rates that work was done: what a rate should be is for who knows the card. ``--device cpu`` runs the same, small.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --checks precision "several encoders"
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import steady_state
import torch

from spark_jobs.worker import precision
from spark_jobs.worker.encoder import Encoder, encode
from spark_jobs.worker.encoder_plan import EncoderPlan
from spark_jobs.worker.exported import LEAST_COSINE
from vitrine import lake
from vitrine.encoders import processor
from vitrine.settings import load_settings

SAME = 0.9999
"""The least cosine of two vectors that should be one, computed in other ways."""
MOST_SECONDS = 240
SETTINGS = """
[encoders.checked]
backbone = "timm/{network}"
weights = "random:0"

[embed]
device = "{device}"

[tune.full]
epochs = 2
batch_size = {batch}
warmup_epochs = 1
learning_rate = 0.02
repeats = 1
"""


@dataclass(frozen=True)
class Size:
    """How much is done."""

    source: str
    """Of drawn photos, PRODUCTSxPHOTOS."""
    networks: tuple[str, str]
    batch: int
    """Of tuning."""
    seconds: float
    """That a rate is taken over."""


SIZES = {
    "cuda": Size("250x8", ("resnet50", "vit_base_patch16_224"), 64, 6),
    "cpu": Size("12x4", ("test_resnet", "test_vit"), 8, 0.5),
}
Outcome = tuple[str, bool]
"""The figure, and whether it is right."""


class Machine:
    """What the checks share: a home with drawn photos, and encoders on the device."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device, self.size = folder, device, SIZES[device]
        text = SETTINGS.format(network=self.size.networks[0], device=device, batch=self.size.batch)
        (folder / "vitrine.toml").write_text(text)
        self.vitrine("ingest", self.size.source, "--dataset", "drawn", "--layout", "generated", "--test-share", "0.2")
        rows = lake.rows(load_settings(folder), "SELECT uri FROM catalog ORDER BY image_id")
        self.files = [row["uri"].removeprefix("file://") for row in rows]

    def vitrine(self, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "vitrine", *arguments, "--json"], cwd=self.folder, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"vitrine {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-1500:]}")
        return dict(json.loads(done.stdout))

    def encoder(self, network: str, precision: str = "fp32", device: str = "", **changed: Any) -> Encoder:
        plan: EncoderPlan = steady_state.plan(network, precision, os.cpu_count() or 1)
        return Encoder(replace(plan, **{"batch_size": 32, **changed}), device or self.device)

    def vectors(self, *encoders: Encoder) -> tuple[list[np.ndarray], float]:
        """Of all files by each encoder, (N, D), by one pass; and its seconds."""
        started = time.monotonic()
        by_key: list[dict[str, np.ndarray]] = [{} for _ in encoders]
        for number, done in encode(encoders, ((path, [path], range(len(encoders))) for path in self.files)):
            by_key[number] |= dict(zip(done.keys, done.vectors, strict=True))
        return [np.stack([each[path] for path in self.files]) for each in by_key], time.monotonic() - started


def least_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours * theirs).sum(axis=1).min())


def whole_command(machine: Machine) -> Outcome:
    """Spark's tasks find the GPU, and every photo gets its vector."""
    done = machine.vitrine("embed", "--encoder", "checked", "--dataset", "drawn")
    right = done["embedded"] == len(machine.files) and all(f": {machine.device}" in each for each in done["devices"])
    return f"{done['images_per_second']:.1f} photos/s with the start, on {', '.join(done['devices'])}", right


def steady(machine: Machine) -> Outcome:
    """From files to vectors, beside the network alone on tensors that are ready."""
    how = (machine.size.networks[0], "auto", machine.device, machine.files, machine.size.seconds)
    rates = steady_state.together(steady_state.engine, 1, *how)[0]
    share = rates["engine"] / min(rates["forward"], rates["decode"])
    names = ("engine", "forward", "decode")
    told = ", ".join(f"{name} {rates[name]:.0f}" for name in names)
    return f"photos/s: {told}; {share:.2f} of the slower part; batch {rates['batch size']:g}", rates["engine"] > 0


def same_as_processor(machine: Machine) -> Outcome:
    cosines = []
    for network in machine.size.networks:
        (here,), _ = machine.vectors(machine.encoder(network))
        (there,), _ = machine.vectors(machine.encoder(network, device="cpu"))
        cosines.append(least_cosine(here, there))
    return f"least cosine in fp32 {min(cosines):.6f}", min(cosines) >= SAME


def several(machine: Machine) -> Outcome:
    """Two encoders in one pass give what each gives alone."""
    encoders = [machine.encoder(network) for network in machine.size.networks]
    alone = [machine.vectors(encoder) for encoder in encoders]
    together, seconds = machine.vectors(*encoders)
    cosine = min(least_cosine(ours, theirs) for ours, ((theirs,), _) in zip(together, alone, strict=True))
    apart = sum(took for _, took in alone)
    return f"{seconds:.1f} s together, {apart:.1f} s one by one; least cosine {cosine:.6f}", cosine >= SAME


def memory_full(machine: Machine) -> Outcome:
    """A batch that does not fit is halved, and every photo still gets its vector."""
    encoder = machine.encoder(machine.size.networks[0], batch_size=len(machine.files))
    (whole,), _ = machine.vectors(machine.encoder(machine.size.networks[0]))
    if machine.device == "cpu":
        encoder.network = _Small()
        machine.vectors(encoder)
        return f"batches of {encoder.batch_size.now} after {len(machine.files)}", encoder.batch_size.now <= _Small.MOST
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**30) / total)
    try:
        (halved,), _ = machine.vectors(encoder)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    cosine = least_cosine(halved, whole)
    size = encoder.batch_size.now
    told = f"batches of {size} after {len(machine.files)}, one more GiB given; least cosine {cosine:.6f}"
    return told, size < len(machine.files) and cosine >= SAME


class _Small(torch.nn.Module):
    """A network on a processor that takes some photos at a time, as a small GPU would."""

    MOST = 4

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > self.MOST:
            raise torch.OutOfMemoryError("too many photos")
        return batch.mean(dim=(2, 3)) + 2


def precisions(machine: Machine) -> Outcome:
    """What ``auto`` takes, against fp32: vectors and rates."""
    told, right = [], True
    for network in machine.size.networks:
        auto, exact = machine.encoder(network, "auto"), machine.encoder(network)
        machine.vectors(auto)  # the first pass of a network is slower
        (ours,), quick = machine.vectors(auto)
        (theirs,), slow = machine.vectors(exact)
        cosine = least_cosine(ours, theirs)
        right &= cosine >= LEAST_COSINE[auto.precision]
        told.append(f"{network} {auto.precision}: least cosine {cosine:.6f}, {slow / quick:.2f} times as fast as fp32")
    return "; ".join(told), right


def pinned(machine: Machine) -> Outcome:
    """A batch copied to the GPU by the engine's way, from pinned memory in a stream of its own, and as it lies."""
    if machine.device == "cpu":
        return "no GPU to copy to", True
    batch = torch.rand(256, 3, 224, 224)
    gib = batch.nbytes / 2**30

    def rate(copy: Callable[[], torch.Tensor]) -> float:
        copy()
        torch.cuda.synchronize()
        started = time.monotonic()
        for _ in range(10):
            copy()
        torch.cuda.synchronize()
        return 10 * gib / (time.monotonic() - started)

    there = precision._to_gpu(batch, machine.device)
    torch.cuda.synchronize()
    fixed = batch.pin_memory()
    rates = {
        "pageable": rate(lambda: batch.to(machine.device)),
        "pinned each time, as the engine does": rate(lambda: precision._to_gpu(batch, machine.device)),
        "pinned before": rate(lambda: fixed.to(machine.device, non_blocking=True)),
    }
    told = ", ".join(f"{name} {value:.1f}" for name, value in rates.items())
    return f"GiB/s: {told}", bool(torch.equal(there.cpu(), batch))


def tuning(machine: Machine) -> Outcome:
    """All weights of a network trained on one device, as ``vitrine tune full`` does it."""
    done = machine.vitrine("tune", "full", "--dataset", "drawn", "--encoder", "checked", "--name", "tuned")
    rate = 2 * done["train"] / done["training_seconds"]
    return f"{rate:.1f} photos/s in training; validation accuracy {done['val_accuracy']:.3f}", rate > 0


CHECKS: dict[str, Callable[[Machine], Outcome]] = {
    "same vectors as the processor's": same_as_processor,
    "precision": precisions,
    "several encoders": several,
    "memory full": memory_full,
    "pinned copies": pinned,
    "steady state": steady,
    "vitrine embed": whole_command,
    "vitrine tune full": tuning,
}


def run(machine: Machine, names: list[str]) -> Iterator[tuple[str, str, bool]]:
    """(check, figure, right); a check that fails is told, and the others go on."""
    for name in names:
        try:
            yield name, *CHECKS[name](machine)
        except Exception as error:
            yield name, f"failed: {' '.join(str(error).split())[-300:]}", False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--checks", nargs="+", default=list(CHECKS), choices=list(CHECKS))
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here: --device cpu runs the same checks, small")
    name = torch.cuda.get_device_name() if given.device == "cuda" else processor.model()
    print(f"{name}, {os.cpu_count()} cores ({processor.instruction_set()}), torch {torch.__version__}\n")
    print("| check | figure | ok |\n|---|---|---|", flush=True)
    started, right = time.monotonic(), True
    with tempfile.TemporaryDirectory(prefix="vitrine-gpu-") as folder:
        for check, figure, ok in run(Machine(Path(folder), given.device), given.checks):
            right &= ok
            print(f"| {check} | {figure} | {'yes' if ok else 'NO'} |", flush=True)
    seconds = time.monotonic() - started
    if given.device == "cuda":
        right &= seconds < MOST_SECONDS
    print(f"| all, under four minutes on a GPU | {seconds:.0f} s | {'yes' if seconds < MOST_SECONDS else 'NO'} |")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
