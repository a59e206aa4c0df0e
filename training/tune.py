"""From a training set to a tuned encoder by name: the process that tunes, and what it leaves."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from training.training_set import TrainingSet
from vitrine import facts, files
from vitrine.encoders import backbones, by_name, heads, tuned
from vitrine.encoders.identity import identify
from vitrine.encoders.tuned import Tuned
from vitrine.errors import UserError, VitrineError
from vitrine.setting_sections import FullSettings, TopSettings
from vitrine.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_TENSORFLOWS_OWN = ("I0000 00:00:", "WARNING: All log messages before absl::InitializeLog")


def tune_top(
    settings: Settings, rows: TrainingSet, protocol: TopSettings, name: str, seed: int
) -> tuple[Tuned, dict[str, Any]]:
    """Tune a head on ``rows``, or find the one that the same request made before, and give it its name.

    Returns:
        The tuned encoder, and what ``top_tuning.tune`` says.

    Raises:
        UserError: another process is at the same.
        VitrineError: the tuning failed.
    """
    job = _top_job(settings, rows, protocol, seed)
    result = job.run()
    head = heads.load(job.folder)
    base = facts.encoder_row(settings, str(rows.encoder_version))
    made = Tuned(
        **_common(settings, rows, name, seed, job.folder, result),
        strategy="top",
        base=str(rows.encoder),
        base_version=str(rows.encoder_version),
        encoder_version=heads.version(str(rows.encoder_version), head),
        dim=head.dim,
        backbone=base["backbone"],
        family=base["family"],
        licence=base["licence"],
    )
    tuned.register(settings, made)
    return made, result


def tune_full(
    settings: Settings,
    rows: TrainingSet,
    encoder: str,
    protocol: FullSettings,
    name: str,
    seed: int,
    processes: int = 1,
    spark: "SparkSession | None" = None,
) -> tuple[Tuned, dict[str, Any]]:
    """Tune all weights of ``encoder`` on ``rows``, whose photos go by uri, or find what the same request made before.

    ``processes`` share each batch: of this machine, or of the cluster of ``spark`` where that is given, by Spark's
    TorchDistributor; the home is then on storage that all machines share.

    Returns:
        The tuned encoder, and what ``full_tuning.tune`` says.

    Raises:
        UserError: another process is at the same, or the encoder is a head.
        VitrineError: the tuning failed.
    """
    backbone = backbones.resolve(settings, encoder)
    job = _full_job(settings, rows, encoder, protocol, seed, processes)
    result = job.run(spark)
    weights = replace(backbone, name=name, weights=str(job.folder / tuned.WEIGHTS))
    made = Tuned(
        **_common(settings, rows, name, seed, job.folder, result),
        strategy="full",
        base=encoder,
        base_version=by_name.version(settings, encoder),
        encoder_version=identify(settings, weights).encoder_version,
        dim=result["dim"],
        backbone=backbone.spelled,
        input_size=backbone.input_size,
        family=backbone.family,
        licence=backbone.licence,
    )
    tuned.register(settings, made)
    return made, result


def estimate_top(settings: Settings, rows: TrainingSet, protocol: TopSettings, seed: int) -> dict[str, Any]:
    """What ``tune_top`` would take, measured on the rows: nothing is tuned."""
    return _top_job(settings, rows, protocol, seed).estimate(settings)


def estimate_full(
    settings: Settings, rows: TrainingSet, encoder: str, protocol: FullSettings, seed: int
) -> dict[str, Any]:
    """What ``tune_full`` would take in one process, measured on the photos: nothing is tuned."""
    return _full_job(settings, rows, encoder, protocol, seed, 1).estimate(settings)


@dataclass(frozen=True)
class _Job:
    """A request, and the folder that it is worked on in: the same request has the same one."""

    folder: Path
    module: str
    request: dict[str, Any]
    processes: int = 1

    def run(self, spark: "SparkSession | None" = None) -> dict[str, Any]:
        """Work on it in processes of its own, or find it done: TensorFlow and torch never share one."""
        with self._alone():
            if not (self.folder / "result.json").is_file():
                if spark and self.processes > 1:
                    _distribute(spark, self.folder, self.processes)
                else:
                    self._start(self.processes)
        return dict(json.loads((self.folder / "result.json").read_text()))

    def estimate(self, settings: Settings) -> dict[str, Any]:
        with self._alone():
            if (self.folder / "result.json").is_file():
                return {"done": True, **_cost(settings, 0)}
            self._start(1, "--estimate")
        found = json.loads((self.folder / "estimate.json").read_text())
        seconds = sum(found.get(name, 0.0) for name in ("search_seconds", "training_seconds"))
        return {"done": False, **found, **_cost(settings, seconds)}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "lock", timeout=0):
                files.write_json(self.folder / "request.json", self.request)
                yield
        except Timeout:
            raise UserError(f"another process is tuning the same now (it holds {self.folder / 'lock'})") from None

    def _start(self, processes: int, *arguments: str) -> None:
        several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
        command = [sys.executable, "-m", *(several if processes > 1 else []), self.module, str(self.folder), *arguments]
        with subprocess.Popen(command, stdout=sys.stderr.fileno(), stderr=subprocess.PIPE, text=True) as process:
            said = _pass_on(process)
        if process.returncode:
            raise VitrineError(
                f"{self.module} ended with {process.returncode}: {said}; the same command goes on from here"
            )


def _top_job(settings: Settings, rows: TrainingSet, protocol: TopSettings, seed: int) -> _Job:
    request = _request(rows, protocol, seed)
    return _Job(_folder(settings, "top", rows, protocol, seed), "training.top_tuning", request)


def _full_job(
    settings: Settings, rows: TrainingSet, encoder: str, protocol: FullSettings, seed: int, processes: int
) -> _Job:
    backbone = asdict(backbones.resolve(settings, encoder))
    request = {**_request(rows, protocol, seed), "backbone": backbone, "max_pixels": settings.max_pixels}
    folder = _folder(settings, "full", rows, protocol, seed, by_name.version(settings, encoder), processes)
    return _Job(folder, "training.full_tuning", request, processes)


def _request(rows: TrainingSet, protocol: TopSettings | FullSettings, seed: int) -> dict[str, Any]:
    return {
        "training_set": rows.folder,
        "rows": {"train": rows.train, "validation": rows.validation},
        "classes": rows.classes,
        "settings": protocol.model_dump(mode="json"),
        "seed": seed,
    }


def _folder(
    settings: Settings, strategy: str, rows: TrainingSet, protocol: TopSettings | FullSettings, *others: Any
) -> Path:
    inputs = json.dumps([rows.fingerprint, protocol.model_dump(mode="json"), *others])
    return settings.home / "models" / strategy / hashlib.sha256(inputs.encode()).hexdigest()[:16]


def _common(
    settings: Settings, rows: TrainingSet, name: str, seed: int, folder: Path, result: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": name,
        "source_dataset": rows.dataset,
        "label": rows.label,
        "training_set": rows.fingerprint,
        "seed": seed,
        "folder": str(folder.relative_to(settings.home)),
        "cost": _cost(settings, sum(result["seconds"].values()), result.get("gpus", 0)),
    }


def _distribute(spark: "SparkSession", folder: Path, processes: int) -> None:
    from pyspark.ml.torch.distributor import TorchDistributor

    gpus = int(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0) > 0
    # What it returns is another rank's: rank 0 leaves its result in the folder.
    TorchDistributor(num_processes=processes, local_mode=False, use_gpu=gpus).run(_on_worker, str(folder))


def _on_worker(folder: str) -> None:
    from training.full_tuning import tune

    tune(Path(folder))


def check_base(settings: Settings, encoder: str) -> None:
    """Raises UserError where ``encoder`` is a head: there are no heads on heads."""
    if head := by_name.find_head(settings, encoder):
        raise UserError(f"encoder {encoder!r} is a head on {head.base!r} already: tune {head.base!r} itself")


def _pass_on(process: "subprocess.Popen[str]") -> str:
    """Its stderr to ours, line by line; the last one."""
    last = "nothing was said"
    assert process.stderr
    for line in process.stderr:
        if line.startswith(_TENSORFLOWS_OWN):
            continue
        sys.stderr.write(line)
        last = line.strip() or last
    return last[:300]


def _cost(settings: Settings, seconds: float, gpus: int = 0) -> dict[str, Any]:
    """Of the tuning processes, whose machine's cores were all their own."""
    core_seconds = seconds * (os.cpu_count() or 1)
    money = (core_seconds * settings.prices.core_hour + gpus * seconds * settings.prices.gpu_hour) / 3600
    return {
        "seconds": round(seconds, 3),
        "core_seconds": round(core_seconds, 3),
        "gpu_seconds": round(gpus * seconds, 3),
        "money": round(money, 6),
        "currency": settings.prices.currency,
    }
