"""Photos to a table of vectors: Vitrine beside what people would otherwise use, from the start of the process on.

Every system embeds the same JPEG files with the same weights in a process of its own, the systems in turn, round by
round; the table has each one's best round. Vitrine's catalog is ingested, and its encoder's version found, before: the
others take a list of files and have no versions.

    uv sync --group bench
    python benchmarks/embed_photos.py PHOTOS --network resnet50 --limit 2000
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
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 64  # what examples of each library take
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
        self.network, self.transform = make_network(how)

    def __call__(self, photos: list[bytes]) -> np.ndarray:
        import io

        import torch
        from PIL import Image

        batch = torch.stack([self.transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in photos])
        with torch.inference_mode():
            vectors: np.ndarray = torch.nn.functional.normalize(self.network(batch), dim=1).numpy()
        return vectors


def by_spark(how: Settings) -> None:
    import pandas as pd
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master("local[*]").config("spark.driver.memory", "2g").getOrCreate()
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH))
    cores = os.cpu_count() or 1

    def embed(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        model = Embed(how)
        for frame in frames:
            yield pd.DataFrame({"path": frame["path"], "embedding": list(model(list(frame["content"])))})

    files = spark.createDataFrame([(path,) for path in how["files"]], "path string")
    read = spark.read.format("binaryFile").load(how["files"]).select("path", "content")
    assert files.count() == len(how["files"])
    read.repartition(cores).mapInPandas(embed, "path string, embedding array<float>").write.parquet(how["out"])


def by_daft(how: Settings) -> None:
    import daft

    @daft.udf(return_dtype=daft.DataType.list(daft.DataType.float32()), concurrency=1, batch_size=BATCH)  # type: ignore
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

    ray.init(include_dashboard=False, log_to_driver=False)

    class Model:
        def __init__(self) -> None:
            self.model = Embed(how)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            return {"path": batch["path"], "embedding": list(self.model(list(batch["bytes"])))}

    data = ray.data.read_binary_files(how["files"], include_paths=True)
    data.map_batches(Model, batch_size=BATCH, concurrency=1, num_cpus=1).write_parquet(how["out"])


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
        for batch in torch.utils.data.DataLoader(Photos(), BATCH, num_workers=os.cpu_count() or 1):
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


SYSTEMS: dict[str, Callable[[Settings], None]] = {
    "Vitrine, auto": by_vitrine,
    "Vitrine, fp32": by_vitrine,
    "Spark mapInPandas": by_spark,
    "Daft": by_daft,
    "Ray Data": by_ray,
    "PyTorch DataLoader": by_dataloader,
}


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


def run(name: str, how: Settings, folder: Path) -> float:
    """Seconds of one system, in a process of its own."""
    how = how | {"out": str(folder / "out"), "precision": name.rsplit(" ", 1)[-1]}
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
    return seconds


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder with JPEG files, at any depth")
    parser.add_argument("--network", default="resnet50", help="of timm")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS), choices=list(SYSTEMS))
    given = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in given.systems}
    agree: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        folder = Path(made)
        how = prepare(folder, given.photos, given.network, given.limit)
        first: dict[str, np.ndarray] | None = None
        for _ in range(given.rounds):
            for name in given.systems:
                times[name].append(run(name, how, folder))
                found = vectors(name, folder)
                first = first or found
                assert found.keys() == first.keys(), f"{name}: {len(found)} vectors of {len(first)}"
                agree[name] = min(float(found[path] @ first[path]) for path in found)
                print(f"{name}: {times[name][-1]:.1f} s", file=sys.stderr, flush=True)
    count = len(how["files"])
    others = [min(times[name]) for name in given.systems if not name.startswith(("Vitrine", "PyTorch"))]
    print(f"\n{count} photos, {given.network}, {os.cpu_count()} cores, best of {given.rounds}\n")
    print(
        "| system | seconds | photos/s | against the best of Spark, Daft, Ray | least cosine |\n|---|---|---|---|---|"
    )
    for name in given.systems:
        best = min(times[name])
        against = f"{min(others) / best:.2f}" if others else "-"
        spread = f" (median {statistics.median(times[name]):.1f})" if given.rounds > 1 else ""
        print(f"| {name} | {best:.1f}{spread} | {count / best:.1f} | {against} | {agree[name]:.5f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        SYSTEMS[sys.argv[2]](json.loads(Path(sys.argv[3]).read_text()))
    else:
        main()
