"""Photos to a table of vectors: Vitrine beside what people would otherwise use, from the start of the process on.

Every system embeds the same JPEG files with the same weights in a process of its own, the systems in turn, round by
round; the table has each one's least and median seconds. Vitrine's catalog is ingested, and its encoder's version
found, before: the others take a list of files and have no versions.

The others are written as their documentation writes such work. ``--systems`` also takes what is tuned beyond that, as
somebody would who measured: a process a core with one thread each, batches of 8, channels-last order, and bf16 where
the name says so.

    uv sync --group bench
    python benchmarks/embed_photos.py PHOTOS --network resnet50 --limit 2000
    python benchmarks/embed_photos.py PHOTOS --systems "Vitrine, auto" "Spark mapInPandas, tuned, bf16"
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 64  # what examples of each library take
TUNED_BATCH = 8
CORES = os.cpu_count() or 1
Settings = dict[str, Any]


def make_network(how: Settings) -> tuple[Any, Any]:
    """timm's network and transform, with the weights of the file."""
    import timm
    from safetensors.torch import load_file

    network = timm.create_model(how["network"], num_classes=0)
    network.load_state_dict(load_file(how["weights"]))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    return network.eval(), transform


class Embed:
    """What all others share: bytes or paths to unit vectors, as a tutorial writes it."""

    def __init__(self, how: Settings) -> None:
        import torch

        self.network, self.transform = make_network(how)
        self.bf16 = how["precision"] == "bf16"
        if how["tuned"]:
            torch.set_num_threads(1)
            self.network.to(memory_format=torch.channels_last)

    def __call__(self, photos: list[bytes]) -> np.ndarray:
        import io

        import torch
        from PIL import Image

        batch = torch.stack([self.transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in photos])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            output = self.network(batch)
        vectors: np.ndarray = torch.nn.functional.normalize(output.float(), dim=1).numpy()
        return vectors


def by_spark(how: Settings) -> None:
    import pandas as pd
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master("local[*]").config("spark.driver.memory", "2g").getOrCreate()
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(how["batch"]))

    def embed(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        model = Embed(how)
        for frame in frames:
            yield pd.DataFrame({"path": frame["path"], "embedding": list(model(list(frame["content"])))})

    files = spark.createDataFrame([(path,) for path in how["files"]], "path string")
    read = spark.read.format("binaryFile").load(how["files"]).select("path", "content")
    assert files.count() == len(how["files"])
    read.repartition(CORES).mapInPandas(embed, "path string, embedding array<float>").write.parquet(how["out"])


def by_daft(how: Settings) -> None:
    import daft

    # One process whose network takes all cores; tuned: a process a core. (``daft.cls`` imports TensorFlow where it is
    # installed, which does not live in one process with torch's triton.)
    processes = CORES if how["tuned"] else 1
    floats = daft.DataType.list(daft.DataType.float32())

    @daft.udf(return_dtype=floats, concurrency=processes, batch_size=how["batch"])  # type: ignore
    class Model:
        def __init__(self) -> None:
            self.model = Embed(how)

        def __call__(self, content: Any) -> list[np.ndarray]:
            return list(self.model(content.to_pylist()))

    frame = daft.from_pydict({"path": how["files"]})
    frame = frame.with_column("content", frame["path"].download())
    frame.select("path", Model(frame["content"]).alias("embedding")).write_parquet(how["out"])


def by_ray(how: Settings) -> None:
    import ray

    class Model:
        def __init__(self) -> None:
            self.model = Embed(how)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            return {"path": batch["path"], "embedding": list(self.model(list(batch["bytes"])))}

    # An actor a core, as many as there are. Tuned: all from the start, and reading and writing beside them.
    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2 * CORES if how["tuned"] else None)
    actors = {"size": CORES} if how["tuned"] else {"min_size": 1, "max_size": CORES}
    data = ray.data.read_binary_files(how["files"], include_paths=True)
    compute = ray.data.ActorPoolStrategy(**actors)
    data.map_batches(Model, batch_size=how["batch"], compute=compute).write_parquet(how["out"])


def by_dataloader(how: Settings) -> None:
    import pyarrow as pa
    import pyarrow.parquet
    import torch
    from PIL import Image

    network, transform = make_network(how)

    class Photos(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(how["files"])

        def __getitem__(self, at: int) -> torch.Tensor:
            tensor: torch.Tensor = transform(Image.open(how["files"][at]).convert("RGB"))
            return tensor

    found = []
    with torch.inference_mode():
        for batch in torch.utils.data.DataLoader(Photos(), BATCH, num_workers=CORES):
            found.append(torch.nn.functional.normalize(network(batch), dim=1).numpy())
    table = pa.table({"path": how["files"], "embedding": list(np.concatenate(found))})
    Path(how["out"]).mkdir()
    pyarrow.parquet.write_table(table, Path(how["out"]) / "vectors.parquet")


def by_vitrine(how: Settings) -> None:
    # Not at the top: the other systems' processes, which are timed from their start, do not load it.
    from vitrine.cli.main import main

    os.chdir(how["project"])
    os.environ["VITRINE_EMBED__PRECISION"] = how["precision"]
    main(["embed", "--encoder", "benchmark", "--dataset", "photos", "--json"])


@dataclass(frozen=True)
class System:
    work: Callable[[Settings], None]
    precision: str = "fp32"
    tuned: bool = False


SYSTEMS = {
    "Vitrine, auto": System(by_vitrine, "auto"),
    "Vitrine, fp32": System(by_vitrine),
    "Spark mapInPandas": System(by_spark),
    "Daft": System(by_daft),
    "Ray Data": System(by_ray),
    "PyTorch DataLoader": System(by_dataloader),
    "Spark mapInPandas, tuned": System(by_spark, tuned=True),
    "Spark mapInPandas, tuned, bf16": System(by_spark, "bf16", tuned=True),
    "Daft, tuned": System(by_daft, tuned=True),
    "Daft, tuned, bf16": System(by_daft, "bf16", tuned=True),
    "Ray Data, tuned": System(by_ray, tuned=True),
    "Ray Data, tuned, bf16": System(by_ray, "bf16", tuned=True),
}
PLAIN = [name for name, system in SYSTEMS.items() if not system.tuned]


def prepare(folder: Path, photos: Path, network: str, limit: int) -> Settings:
    """Weights, and a Vitrine project with the photos ingested."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = folder / "weights.safetensors"
    save_file(timm.create_model(network, num_classes=0).state_dict(), weights)
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    files = [str(path.resolve()) for path in found[:: max(1, len(found) // limit)][:limit]]
    (folder / "photos.csv").write_text("uri,product_id\n" + "".join(f"{path},p\n" for path in files))
    (folder / "vitrine.toml").write_text(
        f'[encoders.benchmark]\nbackbone = "timm/{network}"\nweights = "weights.safetensors"\n'
    )
    vitrine(folder, "ingest", str(folder / "photos.csv"), "--dataset", "photos", "--layout", "table")
    vitrine(folder, "embed", "--encoder", "benchmark", "--dataset", "photos", "--dry-run")
    return {"network": network, "weights": str(weights), "files": files, "project": str(folder)}


def vitrine(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "vitrine", *arguments], cwd=folder, check=True, capture_output=True)


def run(name: str, how: Settings, folder: Path) -> tuple[float, str]:
    """Seconds of one system, in a process of its own, and the precision that it computed in."""
    system = SYSTEMS[name]
    batch = TUNED_BATCH if system.tuned else BATCH
    how = how | {"out": str(folder / "out"), "precision": system.precision, "tuned": system.tuned, "batch": batch}
    shutil.rmtree(how["out"], ignore_errors=True)
    for table in ("embeddings", "product_embeddings", "encoders"):
        if name.startswith("Vitrine"):
            shutil.rmtree(folder / ".vitrine" / "lake" / table, ignore_errors=True)
    (folder / "how.json").write_text(json.dumps(how))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, __file__, "--run", name, str(folder / "how.json")], capture_output=True, text=True
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return seconds, json.loads(done.stdout)["precision"] if name.startswith("Vitrine") else system.precision


def vectors(name: str, folder: Path) -> dict[str, np.ndarray]:
    """By file's name with its folders, since systems spell paths in their own ways."""
    if name.startswith("Vitrine"):
        # Not at the top, as in ``by_vitrine``.
        from vitrine import lake
        from vitrine.settings import load_settings

        sql = "SELECT c.uri AS path, e.embedding FROM embeddings e JOIN catalog c ON c.image_id = e.image_id"
        rows = lake.rows(load_settings(folder), sql)
    else:
        import pyarrow.dataset

        rows = pyarrow.dataset.dataset(folder / "out").to_table().to_pylist()
    return {"/" + row["path"].removeprefix("file:").lstrip("/"): np.array(row["embedding"]) for row in rows}


def main() -> None:
    # Not at the top, as in ``by_vitrine``.
    from vitrine.encoders import processor

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder with JPEG files, at any depth")
    parser.add_argument("--network", default="resnet50", help="of timm")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="*", default=PLAIN, choices=list(SYSTEMS))
    given = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in given.systems}
    agree: dict[str, float] = {}
    precisions: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        folder = Path(made)
        how = prepare(folder, given.photos, given.network, given.limit)
        first: dict[str, np.ndarray] | None = None
        for _ in range(given.rounds):
            for name in given.systems:
                seconds, precisions[name] = run(name, how, folder)
                times[name].append(seconds)
                here = vectors(name, folder)
                first = first or here
                assert here.keys() == first.keys(), f"{name}: {len(here)} vectors of {len(first)}"
                agree[name] = min(float(here[path] @ first[path]) for path in here)
                print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    where = f"{CORES} cores of {processor.model()} ({processor.instruction_set()})"
    print(f"\n{len(how['files'])} photos, {given.network}, {where}, rounds in turn: {given.rounds}\n")
    print(table(times, precisions, agree, len(how["files"])))


def table(times: dict[str, list[float]], precisions: dict[str, str], agree: dict[str, float], photos: int) -> str:
    """A row a system; how many times as fast as the quickest of the plain others, by least and by median seconds."""
    least = {name: min(each) for name, each in times.items()}
    median = {name: statistics.median(each) for name, each in times.items()}
    others = [name for name in times if name in PLAIN and not name.startswith(("Vitrine", "PyTorch"))]
    of = f"times the best of {', '.join(name.split()[0] for name in others) or 'the others'}: by least, median"
    lines = [f"| system | precision | seconds, least | median | photos/s | {of} | least cosine |", "|---" * 7 + "|"]
    for name in times:
        against = [f"{min(each[other] for other in others) / each[name]:.2f}" for each in (least, median) if others]
        cells = (name, precisions[name], f"{least[name]:.1f}", f"{median[name]:.1f}", f"{photos / least[name]:.1f}")
        lines.append(f"| {' | '.join(cells)} | {', '.join(against) or '-'} | {agree[name]:.5f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        SYSTEMS[sys.argv[2]].work(json.loads(Path(sys.argv[3]).read_text()))
    else:
        main()
