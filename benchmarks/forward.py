"""The forward pass on one core of a processor, without reading or decoding: torch beside OpenVINO, at both precisions.

- torch: the network as it is built, in channels-last order, bf16 by autocast;
- frozen: traced and frozen by torch, as workers compute where OpenVINO cannot;
- openvino: the export, as workers compute.

All take turns, round by round; each figure is the best batch's shortest pass, in photos a second, with that batch's
size behind it. The cosine is the least of OpenVINO's vectors to torch's in fp32. ``--isa avx2`` keeps both engines from
newer instructions than the name says, as far as their libraries let themselves be told (oneDNN and ATen do; OpenVINO
compiles some kernels of its own).

    python benchmarks/forward.py
    python benchmarks/forward.py --isa avx2 --precisions fp32 --networks resnet50 vit_base_patch16_224
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from steady_state import plan

from vitrine.encoders import processor
from vitrine.encoders.allocator import keep_freed_memory
from vitrine.encoders.networks import Built, build

NETWORKS = [
    "resnet50",
    "mobilenetv3_large_100",
    "tf_efficientnet_lite0",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
    "vit_base_patch16_224",
    "ViT-B-32",
]
ENGINES = ("torch", "frozen", "openvino")


def engines(network: str, precision: str) -> tuple[Built, dict[str, Any]]:
    """The network as it was built, and as each engine computes it; one that cannot is left out."""
    # Not at the top, here and below: the libraries read the environment, which ``main`` sets, when they are loaded.
    import torch

    from spark_jobs.worker import probe
    from spark_jobs.worker.exported import CannotExport, open_exported
    from spark_jobs.worker.precision import _frozen

    asked = plan(network, precision, 1)
    built = build(asked.backbone)
    networks: dict[str, Any] = {}
    try:
        networks["openvino"], _ = open_exported(built, asked, [precision])
    except CannotExport as error:
        print(f"{network} {precision}: no export: {error}")
    networks["torch"] = built.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    frozen = _frozen(built.network, probe.pictures(built), "cpu", precision)
    return built, networks | ({"frozen": frozen} if frozen is not None else {})


def row(network: str, precision: str, batches: list[int], rounds: int, seconds: float) -> str:
    import numpy as np
    import torch

    from spark_jobs.worker.precision import finish_forward, start_forward

    built, networks = engines(network, precision)
    photos = torch.randn(max(batches), 3, *built.input_shape, generator=torch.Generator().manual_seed(0))

    def vectors(engine: str, batch: int, precision: str = precision) -> "np.ndarray":
        return finish_forward(start_forward(networks[engine], photos[:batch], "cpu", precision))

    cosine = float("nan")
    if "openvino" in networks:
        ours, theirs = vectors("openvino", max(batches)), vectors("torch", max(batches), "fp32")
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosine = float(((ours * theirs).sum(axis=1) / lengths).min())
    steps: dict[tuple[str, int], Callable[[], Any]] = {
        (engine, batch): partial(vectors, engine, batch) for engine in networks for batch in batches
    }
    shortest = {key: shortest_pass(step, 0) for key, step in steps.items()}  # the first of a size is slower
    for _ in range(rounds):
        for key, step in steps.items():
            shortest[key] = min(shortest[key], shortest_pass(step, seconds))
    rates = {engine: max((b / shortest[engine, b], b) for b in batches) for engine in networks}
    cells = [f"{rates[engine][0]:.2f} ({rates[engine][1]})" if engine in rates else "-" for engine in ENGINES]
    best_torch = max(rate for engine, (rate, _) in rates.items() if engine != "openvino")
    gain = f"{rates['openvino'][0] / best_torch:.2f}" if "openvino" in rates else "-"
    return f"| {network} | {precision} | {' | '.join(cells)} | {gain} | {cosine:.8f} |"


def shortest_pass(step: Callable[[], Any], seconds: float) -> float:
    """Of as many passes as fit into ``seconds``, at least one."""
    begun, shortest = time.perf_counter(), float("inf")
    while True:
        started = time.perf_counter()
        step()
        shortest = min(shortest, time.perf_counter() - started)
        if time.perf_counter() - begun >= seconds:
            return shortest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="timm or open_clip")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each engine and batch size, a round")
    parser.add_argument("--isa", choices=["avx2"], help="the newest instructions that may be used")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if given.isa:
        os.environ |= {"ATEN_CPU_CAPABILITY": given.isa, "ONEDNN_MAX_CPU_ISA": given.isa.upper()}
    import torch

    from spark_jobs.worker.exported import Exported

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    isa = given.isa or torch.backends.cpu.get_cpu_capability()
    bf16 = "bf16 in hardware" if processor.has_bf16() else "no bf16"
    print(f"{processor.model()}, {isa}, {bf16}; one thread; torch {torch.__version__}, {Exported.engine}")
    print(f"photos a second (batch), {given.rounds} rounds, one-minute load {os.getloadavg()[0]:.1f}\n")
    print(
        "| network | precision | torch | frozen | openvino | to torch's best | cosine |\n|---|---|---|---|---|---|---|"
    )
    for network in given.networks:
        for precision in given.precisions:
            print(row(network, precision, given.batches, given.rounds, given.seconds), flush=True)


if __name__ == "__main__":
    main()
