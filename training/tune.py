"""From a training set to a tuned encoder: the process that tunes, and what it leaves."""

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

import numpy as np

from training.training_set import TrainingSet
from training.tuning_process import (
    ESTIMATE,
    REQUEST,
    FullTuningRequest,
    LinearTuningRequest,
    PhotoVectorsRequest,
    TuningRequest,
    read_result,
)
from vitrine import facts, files, locks, surroundings
from vitrine.encoders import backbones, by_name, heads, tuned
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.identity import identify
from vitrine.encoders.tuned import Tuned
from vitrine.errors import UserError, VitrineError
from vitrine.names import JOIN, split_joined
from vitrine.settings import Settings
from vitrine.tuning_sections import (
    DistilSettings,
    FromHeadSettings,
    FullSettings,
    LinearSettings,
    NetworkSettings,
    TopSettings,
)
from vitrine.vectors import Floats

if TYPE_CHECKING:  # only tuning on a cluster needs Spark here
    from pyspark.sql import SparkSession

_TENSORFLOWS_OWN = ("I0000 00:00:", "WARNING: All log messages before absl::InitializeLog")
_OF_ONE_PROCESS = {
    "partial": "training.partial_tuning",
    "low_rank": "training.low_rank_tuning",
    "distil": "training.distil",
}
_MOST_PROCESSES = 64
HeadSettings = LinearSettings | TopSettings
Outcome = tuple[Tuned, dict[str, Any]]
"""The tuned encoder, which its name does not mean yet (``tuned.register``), and what ``result.json`` says."""


def tune_head(settings: Settings, rows: TrainingSet, protocol: HeadSettings, name: str) -> Outcome:
    """Tune a head on ``rows``, by the strategy whose ``protocol`` it is, or find what the same request made before.

    Raises:
        UserError: another process is at the same.
        VitrineError: the tuning failed.
    """
    strategy, job = _head_job(settings, rows, protocol)
    result = job.run()
    head = heads.load(job.folder)
    encoded = rows.encoded
    bases = [facts.encoder_row(settings, part.encoder_version) for part in encoded.parts]
    made = Tuned(
        **_common(settings, rows, name, job.folder, result),
        strategy=strategy,
        base=encoded.encoder,
        base_version=encoded.encoder_version,
        encoder_version=heads.version(encoded.encoder_version, head),
        dim=head.dim,
        backbone=JOIN.join(base["backbone"] for base in bases),
        family=_common_value([base["family"] for base in bases]) or "joined",
        licence=_common_value([base["licence"] for base in bases]) or " AND ".join(base["licence"] for base in bases),
    )
    return made, result


def top_head(settings: Settings, rows: TrainingSet) -> heads.Head:
    """The head that top-tuning makes of ``rows``, with its classifier; it is no encoder's. Raises as ``tune_head``."""
    job = _head_job(settings, rows, settings.tune.top)[1]
    job.run()
    return heads.load(job.folder)


def _common_value(values: list[str]) -> str | None:
    """The value that all have; None where they differ."""
    return values[0] if len(set(values)) == 1 else None


def tune_full(
    settings: Settings,
    rows: TrainingSet,
    encoder: str,
    protocol: NetworkSettings,
    name: str,
    processes: int = 1,
    spark: "SparkSession | None" = None,
) -> Outcome:
    """Tune weights of ``encoder`` on ``rows``, whose photos go by uri, or find what the same request made before.

    Where the ``protocol`` is a distillation, ``rows`` have the teacher's vectors too.

    ``processes`` share each batch: of this machine, or of the cluster of ``spark`` where that is given, by Spark's
    TorchDistributor; the home is then on storage that all machines share.

    Raises:
        UserError: another process is at the same, or the encoder is a head.
        VitrineError: the tuning failed.
    """
    backbone = backbones.resolve(settings, encoder)
    job = _full_job(settings, rows, encoder, protocol, processes)
    result = job.run(spark)
    student = isinstance(protocol, DistilSettings)
    projection = result["dim"] if student else backbone.projection
    weights = replace(backbone, name=name, weights=str(job.folder / tuned.WEIGHTS), projection=projection)
    licences = [backbone.licence]
    if student:
        licences += [facts.encoder_row(settings, each.encoder_version)["licence"] for each in rows.encoded.parts]
    made = Tuned(
        **_common(settings, rows, name, job.folder, result),
        strategy=protocol.strategy,
        base=encoder,
        base_version=by_name.version(settings, encoder),
        encoder_version=identify(settings, weights).encoder_version,
        dim=result["dim"],
        backbone=backbone.spelled,
        input_size=backbone.input_size,
        family=backbone.family,
        licence=" AND ".join(dict.fromkeys(licences)),
        teacher=rows.encoder if student else None,
        projection=projection,
    )
    return made, result


def estimate_head(settings: Settings, rows: TrainingSet, protocol: HeadSettings) -> dict[str, Any]:
    """What ``tune_head`` would take, measured on the rows: nothing is tuned."""
    return _head_job(settings, rows, protocol)[1].estimate(settings)


def estimate_full(settings: Settings, rows: TrainingSet, encoder: str, protocol: NetworkSettings) -> dict[str, Any]:
    """What ``tune_full`` would take in one process, measured on the photos: nothing is tuned."""
    return _full_job(settings, rows, encoder, protocol, 1).estimate(settings)


def photo_vectors(
    settings: Settings, photos: TrainingSet, network: Backbone, version: str, rows: dict[str, int]
) -> tuple[float, dict[str, tuple[list[str], Floats]]]:
    """The first ``rows`` of each part of ``photos`` by a network in tuning, whose encoder version is ``version``.

    Returns:
        Seconds that it took, and by part the photos' ids and their vectors, float32 (N, D) of unit length; a photo that
        cannot be read has zeros.

    Raises:
        VitrineError: they could not be computed.
    """
    key = hashlib.sha256(json.dumps([photos.fingerprint, version, rows]).encode()).hexdigest()[:16]
    folder = settings.home / "models" / "ladder" / key
    request = PhotoVectorsRequest(photos.folder, rows, asdict(network), settings.max_pixels)
    result = _Job(folder, "training.photo_vectors", request).run()
    parts = {
        part: (json.loads((folder / f"{part}.json").read_text()), np.load(folder / f"{part}.npy")) for part in rows
    }
    return sum(result["seconds"].values()), parts


def check_base(settings: Settings, encoder: str) -> None:
    """Raises UserError where ``encoder``, or one of those that it joins, is a head, there is none of that name, or one
    is joined with itself: there are no heads on heads."""
    names = split_joined(encoder)
    for name in names:
        if head := by_name.find_head(settings, name):
            raise UserError(f"encoder {name!r} is a head on {head.base!r} already: tune {head.base!r} itself")
    if len(set(names)) < len(names):
        raise UserError(f"{encoder!r} joins an encoder with itself: name each once")


@dataclass(frozen=True)
class _Job:
    """A request, and the folder that it is worked on in: the same request has the same one."""

    folder: Path
    module: str
    request: TuningRequest | PhotoVectorsRequest
    processes: int = 1

    def run(self, spark: "SparkSession | None" = None) -> dict[str, Any]:
        """Work on it in processes of its own, or find it done: TensorFlow and torch never share one."""
        with self._alone():
            if read_result(self.folder) is None:
                if spark and self.processes > 1:
                    _distribute(spark, self.folder, self.processes)
                else:
                    self._start(self.processes)
        result = read_result(self.folder)
        assert result is not None
        return result

    def estimate(self, settings: Settings) -> dict[str, Any]:
        with self._alone():
            if read_result(self.folder) is not None:
                return {"done": True, **cost(settings, 0)}
            self._start(1, "--estimate")
        estimate = json.loads((self.folder / ESTIMATE).read_text())
        seconds = sum(estimate.get(name, 0.0) for name in ("search_seconds", "training_seconds"))
        return {"done": False, **estimate, **cost(settings, seconds)}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with locks.held_file(self.folder / "lock", seconds=0):
                files.write_json(self.folder / REQUEST, asdict(self.request))
                yield
        except locks.InUse:
            raise UserError(f"another process is tuning the same now (it holds {self.folder / 'lock'})") from None

    def _start(self, processes: int, *arguments: str) -> None:
        several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
        command = [sys.executable, "-m", *(several if processes > 1 else []), self.module, str(self.folder), *arguments]
        with subprocess.Popen(
            command,
            env=surroundings.for_child(),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            last_line = _pass_on(process)
        if process.returncode:
            raise VitrineError(
                f"{self.module} ended with {process.returncode}: {last_line}; the same command goes on from here"
            )


def _head_job(settings: Settings, rows: TrainingSet, protocol: HeadSettings) -> tuple[str, _Job]:
    """The strategy, and its job."""
    if isinstance(protocol, TopSettings):
        folder = _folder(settings, "top", rows, protocol)
        return "top", _Job(folder, "training.top_tuning", TuningRequest(**_request(rows, protocol)))
    share = known_share(settings, rows, protocol.products)
    linear = LinearTuningRequest(**_request(rows, protocol), known_share=share, validation_from=rows.validation_from)
    return "linear", _Job(_folder(settings, "linear", rows, protocol, share), "training.linear_tuning", linear)


def known_share(settings: Settings, rows: TrainingSet, products: str) -> float:
    """How many of the photos that will be asked about show what was learned: all of ``known`` products, none of
    ``new`` ones, or, for ``auto``, as in the split that is reported; a half where there is none."""
    if products != "auto":
        return float(products == "known")
    split = facts.reported_split(settings, rows.encoded)
    labelled = facts.labelled(rows.encoded.parts[0], rows.label, ["split"])
    share = facts.known_share(settings, labelled, split) if split else None
    return 0.5 if share is None else share


def _full_job(settings: Settings, rows: TrainingSet, encoder: str, protocol: NetworkSettings, processes: int) -> _Job:
    folder = _full_folder(settings, rows, protocol, by_name.version(settings, encoder))
    network = backbones.resolve(settings, encoder)
    request = FullTuningRequest(
        **_request(rows, protocol),
        backbone=asdict(identify(settings, network).pinned(network)),
        max_pixels=settings.max_pixels,
        from_head=isinstance(protocol, FromHeadSettings),
    )
    module = _OF_ONE_PROCESS.get(protocol.strategy)
    if module and processes > 1:
        raise UserError(f"a {protocol.strategy} tuning is of one process, not {processes}: leave --processes out")
    return _Job(folder, module or "training.full_tuning", request, processes)


def _full_folder(settings: Settings, rows: TrainingSet, protocol: NetworkSettings, version: str) -> Path:
    """Of a full tuning, however many processes share its batches; earlier versions had their number in the key."""
    now = _folder(settings, protocol.strategy, rows, protocol, version)
    if now.is_dir() or protocol.strategy != FullSettings.strategy:
        return now
    earlier = [_folder(settings, "full", rows, protocol, version, count) for count in range(1, _MOST_PROCESSES + 1)]
    begun = [folder for folder in earlier if folder.is_dir()]
    return next((folder for folder in begun if read_result(folder)), begun[0] if begun else now)


def _request(rows: TrainingSet, protocol: HeadSettings | NetworkSettings) -> dict[str, Any]:
    """What both kinds of request have."""
    return {
        "training_set": rows.folder,
        "rows": rows.sizes,
        "classes": rows.classes,
        "settings": protocol.model_dump(mode="json"),
        "seed": rows.seed,
    }


def _folder(
    settings: Settings, strategy: str, rows: TrainingSet, protocol: HeadSettings | NetworkSettings, *others: Any
) -> Path:
    inputs = json.dumps([rows.fingerprint, protocol.digested(), rows.seed, *others])
    return settings.home / "models" / strategy / hashlib.sha256(inputs.encode()).hexdigest()[:16]


def _common(settings: Settings, rows: TrainingSet, name: str, folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What both kinds of tuned encoder have."""
    return {
        "name": name,
        "source_dataset": rows.dataset,
        "label": rows.label,
        "training_set": rows.fingerprint,
        "seed": rows.seed,
        "folder": str(folder.relative_to(settings.home)),
        "cost": cost(settings, sum(result["seconds"].values()), result.get("gpus", 0)),
    }


def _distribute(spark: "SparkSession", folder: Path, processes: int) -> None:
    from pyspark.ml.torch.distributor import TorchDistributor

    amount = float(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0)
    if 0 < amount < 1:
        raise UserError(
            f"spark.task.resource.gpu.amount is {amount:g}, and each process of a full tuning needs a whole GPU: set "
            "it to 1 where this session is submitted"
        )
    gpus = amount >= 1
    # What it returns is another rank's: rank 0 leaves its result in the folder.
    TorchDistributor(num_processes=processes, local_mode=False, use_gpu=gpus).run(_on_worker, str(folder))


def _on_worker(folder: str) -> None:
    # Not at the top: the driver, which imports this file too, starts its tuning in another process, without torch here.
    from training.full_tuning import tune

    tune(Path(folder))


def _pass_on(process: "subprocess.Popen[str]") -> str:
    """Its stderr to ours, line by line; the last one."""
    last = "it gave no reason"
    assert process.stderr
    for line in process.stderr:
        if line.startswith(_TENSORFLOWS_OWN):
            continue
        sys.stderr.write(line)
        last = line.strip() or last
    return last[:300]


def cost(settings: Settings, seconds: float, gpus: int = 0) -> dict[str, Any]:
    """Seconds and money of the tuning processes, whose machine's cores were all their own."""
    core_seconds = seconds * (os.cpu_count() or 1)
    money = (core_seconds * settings.prices.core_hour + gpus * seconds * settings.prices.gpu_hour) / 3600
    return {
        "seconds": round(seconds, 3),
        "core_seconds": round(core_seconds, 3),
        "gpu_seconds": round(gpus * seconds, 3),
        "money": round(money, 6),
        "currency": settings.prices.currency,
    }
