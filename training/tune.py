"""From a training set to a tuned encoder by name: the process that tunes, and what it leaves."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from training.training_set import TrainingSet
from vitrine import backbones, encoders, heads, lake, networks, tuned
from vitrine.errors import UserError, VitrineError
from vitrine.settings import FullSettings, Settings, TopSettings
from vitrine.tuned import Tuned

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
    assert rows.encoder and rows.encoder_version
    request = {
        "training_set": rows.folder,
        "rows": {"train": rows.train, "validation": rows.validation},
        "classes": rows.classes,
        "settings": protocol.model_dump(mode="json"),
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps([rows.fingerprint, request["settings"], seed]).encode()).hexdigest()[:16]
    folder = settings.home / "models" / "top" / key
    result = _run(folder, "training.top_tuning", request)
    head = heads.load(folder)
    base = lake.encoder_row(settings, rows.encoder_version)
    made = Tuned(
        name=name,
        strategy="top",
        base=rows.encoder,
        base_version=rows.encoder_version,
        encoder_version=heads.version(rows.encoder_version, head),
        source_dataset=rows.dataset,
        label=rows.label,
        training_set=rows.fingerprint,
        seed=seed,
        folder=str(folder.relative_to(settings.home)),
        dim=head.dim,
        backbone=base["backbone"],
        family=base["family"],
        licence=base["licence"],
        cost=_cost(settings, sum(result["seconds"].values())),
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
) -> tuple[Tuned, dict[str, Any]]:
    """Tune all weights of ``encoder`` on ``rows``, whose photos go by uri, or find what the same request made before.

    Returns:
        The tuned encoder, and what ``full_tuning.tune`` says.

    Raises:
        UserError: another process is at the same, or the encoder is a head.
        VitrineError: the tuning failed.
    """
    backbone = backbones.resolve(settings, encoder)
    base_version = encoders.version(settings, encoder)
    request = {
        "training_set": rows.folder,
        "rows": {"train": rows.train, "validation": rows.validation},
        "classes": rows.classes,
        "backbone": asdict(backbone),
        "settings": protocol.model_dump(mode="json"),
        "seed": seed,
        "max_pixels": settings.max_pixels,
    }
    facts = [rows.fingerprint, base_version, request["settings"], seed, processes]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    folder = settings.home / "models" / "full" / key
    result = _run(folder, "training.full_tuning", request, processes)
    tuned_backbone = replace(backbone, name=name, weights=str(folder / tuned.WEIGHTS))
    made = Tuned(
        name=name,
        strategy="full",
        base=encoder,
        base_version=base_version,
        encoder_version=networks.identify(settings, tuned_backbone).encoder_version,
        source_dataset=rows.dataset,
        label=rows.label,
        training_set=rows.fingerprint,
        seed=seed,
        folder=str(folder.relative_to(settings.home)),
        dim=result["dim"],
        backbone=backbone.spelled,
        input_size=backbone.input_size,
        family=backbone.family,
        licence=backbone.licence,
        cost=_cost(settings, sum(result["seconds"].values())),
    )
    tuned.register(settings, made)
    return made, result


def check_base(settings: Settings, encoder: str) -> None:
    """Raises UserError where ``encoder`` is a head: there are no heads on heads."""
    if head := encoders.find_head(settings, encoder):
        raise UserError(f"encoder {encoder!r} is a head on {head.base!r} already: tune {head.base!r} itself")


def _run(folder: Path, module: str, request: dict[str, Any], processes: int = 1) -> dict[str, Any]:
    """``module`` on ``folder``, in processes of its own: TensorFlow and torch never share one."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            asked = folder / "request.json"
            fresh = asked.with_suffix(f".{os.getpid()}.tmp")
            fresh.write_text(json.dumps(request))
            fresh.replace(asked)
            several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
            command = [sys.executable, "-m", *(several if processes > 1 else []), module, str(folder)]
            with subprocess.Popen(command, stdout=sys.stderr.fileno(), stderr=subprocess.PIPE, text=True) as process:
                said = _pass_on(process)
            if process.returncode:
                raise VitrineError(
                    f"{module} ended with {process.returncode}: {said}; the same command goes on from here"
                )
    except Timeout:
        raise UserError(f"another process is tuning the same now (it holds {folder / 'lock'})") from None
    return dict(json.loads((folder / "result.json").read_text()))


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


def _cost(settings: Settings, seconds: float) -> dict[str, Any]:
    """Of the tuning process, whose cores were all its own."""
    core_seconds = seconds * (os.cpu_count() or 1)
    money = core_seconds / 3600 * settings.prices.core_hour
    return {
        "seconds": round(seconds, 3),
        "core_seconds": round(core_seconds, 3),
        "money": round(money, 6),
        "currency": settings.prices.currency,
    }
