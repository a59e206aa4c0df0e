"""What one pass over the photos saves where networks begin alike: a network and one whose last part was changed.

From JPEG files to unit vectors by both networks, on one core: in a pass each; in one pass, which reads and decodes
once; and in one pass in which what they share runs once, as ``vitrine embed --encoder a --encoder b`` does it. Weights
are random; the last part, of at most ``--share`` of the multiply-adds, is cut as ``vitrine tune partial`` cuts it, and
its weights changed. Rounds take turns; photos a second are of both networks, the best of the rounds; in brackets the
least and the most of what each round took less than a pass each.

    python benchmarks/shared_trunk.py PHOTOS --networks tf_efficientnet_lite0 resnet50 --limit 300 --rounds 3
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

from steady_state import plan

from spark_jobs.worker.encoder_plan import EncoderPlan
from vitrine.encoders import processor
from vitrine.encoders.networks import build

Step = Callable[[], None]


def changed(asked: EncoderPlan, share: float, folder: Path) -> EncoderPlan:
    """``asked`` with other weights in the last ``share`` of its multiply-adds."""
    # Not at the top, here and below: torch reads OMP_WAIT_POLICY, which ``main`` sets, when it is loaded.
    import torch
    from safetensors.torch import save_file

    from training.cached_trunk import CutNetwork

    built = build(asked.backbone)
    cut = CutNetwork(built.network, torch.randn(1, 3, *built.input_shape), share)
    before = {key: value.clone() for key, value in built.network.state_dict().items()}
    cut.remove_trunk()
    last = built.network.state_dict().keys()
    path = folder / f"{asked.backbone.name}.safetensors"
    save_file(
        {key: value * 1.1 if key in last and value.is_floating_point() else value for key, value in before.items()},
        path,
    )
    return replace(asked, backbone=replace(asked.backbone, name="changed", weights=str(path)))


def ways(asked: EncoderPlan, share: float, files: Sequence[str], folder: Path) -> dict[str, Step]:
    from spark_jobs.worker import encoder as worker

    pair = (worker.Encoder(asked), worker.Encoder(changed(asked, share, folder)))
    photos = [(path, [path], (0, 1)) for path in files]

    def each() -> None:
        for one in pair:
            for _ in one.encode((key, uris) for key, uris, _ in photos):
                pass

    def one_pass() -> None:
        with mock.patch.object(worker, "together", lambda _: []):
            joined()

    def joined() -> None:
        for _ in worker.encode(pair, photos):
            pass

    assert worker.together(pair), "they do not begin alike"
    return {"a pass each": each, "one pass": one_pass, "one pass, shared once": joined}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--networks", nargs="+", default=["tf_efficientnet_lite0", "resnet50"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before torch is loaded
    files = [str(path) for path in sorted(given.photos.rglob("*.jpg"))[: given.limit]]
    print(f"{processor.model()} ({processor.instruction_set()}); {len(files)} photos, {given.precision}, one core\n")
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as folder:
        for number, network in enumerate(given.networks):
            steps = ways(plan(network, given.precision, 1), given.share, files, Path(folder))
            if not number:
                print(f"| network | {' | '.join(steps)} |\n|---|{'---|' * len(steps)}", flush=True)
            for step in steps.values():
                step()  # batch sizes are found
            seconds: dict[str, list[float]] = {name: [] for name in steps}
            for _ in range(given.rounds):
                for name, step in steps.items():
                    started = time.monotonic()
                    step()
                    seconds[name].append(time.monotonic() - started)
            cells = []
            for name, took in seconds.items():
                ratios = [first / mine for first, mine in zip(seconds["a pass each"], took, strict=True)]
                spread = "" if name == "a pass each" else f" ({min(ratios):.2f} to {max(ratios):.2f})"
                cells.append(f"{len(files) / min(took):.1f}{spread}")
            print(f"| {network} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
