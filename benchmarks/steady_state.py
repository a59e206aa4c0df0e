"""What reading and decoding leave of a network's own rate: the engine beside the bare forward pass, start excluded.

One process a core, or one for the GPU, each with the engine's own network and batch size. Photos a second, summed:

- forward: the network on tensors that are ready in memory;
- decode: files read, decoded and scaled, by the engine's threads, without a network;
- possible: what the two leave together. On processors they share the cores: 1 / (1 / forward + 1 / decode); beside a
  GPU they do not: the smaller of both;
- engine: from JPEG files to unit vectors;
- DataLoader: PyTorch's own, with as many workers as cores, over the same files and weights in fp32, batches of 64.

    python benchmarks/steady_state.py PHOTOS --networks resnet50 mobilenetv3_large_100
    python benchmarks/steady_state.py PHOTOS --networks vit_base_patch16_224 --device cuda --profile
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from spark_jobs.worker.encoder_plan import EncoderPlan
from vitrine import images, photo_files
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.networks import build

Rates = dict[str, float]


def plan(network: str, precision: str, threads: int) -> EncoderPlan:
    source = "open_clip" if network.startswith("ViT-") else "timm"
    backbone = Backbone(network, source, network, "supervised", weights="random:0")
    return EncoderPlan(backbone, None, precision, images.DEFAULT_MAX_PIXELS, threads)


def per_second(step: Callable[[], int], seconds: float) -> float:
    """What ``step`` counts, by the clock, over at least ``seconds``."""
    started, done = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        done += step()
    return done / (time.monotonic() - started)


def engine(network: str, precision: str, device: str, files: list[str], seconds: float, gate: Any, out: Any) -> None:
    """One process's rates; all processes go through each gate together."""
    # Not at the top, here and below: torch reads OMP_WAIT_POLICY, which ``main`` sets, when it is loaded.
    import torch

    from spark_jobs.worker.encoder import Encoder
    from spark_jobs.worker.precision import finish_forward, start_forward

    threads = 1 if device == "cpu" else os.cpu_count() or 1
    encoder = Encoder(plan(network, precision, threads), device)
    forever = ((path, [path]) for path in itertools.cycle(files))
    encoded = encoder.encode(forever)
    while not encoder.batch_size.settled:
        next(encoded)
    size = encoder.batch_size.now
    ready = torch.rand(size, 3, *encoder.built.input_shape)

    def compute() -> int:
        return len(finish_forward(start_forward(encoder.network, ready, device, encoder.precision)))

    def decode(path: str) -> None:
        photo = images.decode(photo_files.read(path), images.DEFAULT_MAX_PIXELS, encoder.built.min_side)
        encoder.built.input(photo)

    rates: Rates = {"batch size": size}
    endless = itertools.cycle(files)
    with ThreadPoolExecutor(threads) as pool:
        steps: dict[str, Callable[[], int]] = {
            "engine": lambda: len(next(encoded).keys),
            "forward": compute,
            "decode": lambda: len(list(pool.map(decode, itertools.islice(endless, 32)))),
        }
        for name, step in steps.items():
            step()
            gate.wait()
            rates[name] = per_second(step, seconds)
    out.put(rates)


def dataloader(network: str, files: list[str], seconds: float, out: Any) -> None:
    import torch
    from PIL import Image

    built = build(plan(network, "fp32", 1).backbone)

    class Photos(torch.utils.data.IterableDataset[torch.Tensor]):
        def __iter__(self) -> Iterator[torch.Tensor]:
            mine = torch.utils.data.get_worker_info()
            assert mine
            for path in itertools.cycle(files[mine.id :: mine.num_workers]):
                yield built.transform(Image.open(path).convert("RGB"))

    workers = os.cpu_count() or 1
    batches = iter(torch.utils.data.DataLoader(Photos(), 64, num_workers=workers, multiprocessing_context="fork"))

    def step() -> int:
        with torch.inference_mode():
            return len(torch.nn.functional.normalize(built.network(next(batches)), dim=1))

    step()
    out.put({"DataLoader": per_second(step, seconds)})
    out.close()
    out.join_thread()
    os._exit(0)  # its workers would be waited for


def together(target: Callable[..., None], count: int, *given: Any) -> list[Rates]:
    """What ``count`` processes of ``target`` measured side by side."""
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    gate = [context.Barrier(count)] if target is engine else []
    processes = [context.Process(target=target, args=(*given, *gate, out)) for _ in range(count)]
    for process in processes:
        process.start()
    found = [out.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def profile(network: str, precision: str, device: str, files: list[str]) -> None:
    """Where the time of some batches goes, by torch's profiler."""
    import torch
    from torch.profiler import ProfilerActivity

    from spark_jobs.worker.encoder import Encoder

    encoder = Encoder(plan(network, precision, os.cpu_count() or 1), device)
    encoded = encoder.encode((path, [path]) for path in itertools.cycle(files))
    while not encoder.batch_size.settled:
        next(encoded)
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * device.startswith("cuda")
    with torch.profiler.profile(activities=kinds) as seen:
        for _ in range(20):
            next(encoded)
    by = "self_cuda_time_total" if device.startswith("cuda") else "self_cpu_time_total"
    print(f"\n{network}, {precision}, 20 batches\n\n{seen.key_averages().table(sort_by=by, row_limit=15)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder with JPEG files, at any depth")
    parser.add_argument(
        "--networks", nargs="+", default=["resnet50", "mobilenetv3_large_100"], help="timm or open_clip"
    )
    parser.add_argument("--precisions", nargs="+", default=["fp32", "auto"], choices=["fp32", "bf16", "auto"])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seconds", type=float, default=20, help="that each figure is taken over")
    parser.add_argument("--profile", action="store_true", help="also print where the time goes")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    files = sorted(str(path) for path in given.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:2000]
    cores = os.cpu_count() or 1
    on_cpu = given.device == "cpu"
    print(f"{len(files)} photos, {given.device}, {cores} cores, photos a second over {given.seconds:g} s\n")
    print(
        "| network | precision | batch | forward | decode | possible | engine | of forward | of possible | DataLoader |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for network in given.networks:
        loader = together(dataloader, 1, network, files, given.seconds)[0]["DataLoader"] if on_cpu else None
        for precision in given.precisions:
            count = cores if on_cpu else 1
            found = together(engine, count, network, precision, given.device, files, given.seconds)
            total = {name: sum(rates[name] for rates in found) for name in ("forward", "decode", "engine")}
            both = 1 / (1 / total["forward"] + 1 / total["decode"])
            possible = both if on_cpu else min(total["forward"], total["decode"])
            size = statistics.median(rates["batch size"] for rates in found)
            print(
                f"| {network} | {precision} | {size:g} | {total['forward']:.1f} | {total['decode']:.1f} "
                f"| {possible:.1f} | {total['engine']:.1f} | {total['engine'] / total['forward']:.2f} "
                f"| {total['engine'] / possible:.2f} | {f'{loader:.1f}' if loader else '-'} |",
                flush=True,
            )
    if given.profile:
        for network in given.networks:
            profile(network, "auto", given.device, files)


if __name__ == "__main__":
    main()
