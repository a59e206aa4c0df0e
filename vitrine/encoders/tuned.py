"""Tuned encoders by name: what each was tuned from, and the folder in which its head or its weights lie.

``models/tuned/NAME.json`` is the pointer that an encoder's name follows; it moves in one rename, and the folder that it
names is never changed. A tuned encoder is named like any other, and joins the nights only when ``[nightly]`` says so.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitrine import files
from vitrine.errors import UserError
from vitrine.names import JOIN, NAME_LENGTH, check_name
from vitrine.settings import Settings

WEIGHTS = "model.safetensors"
"""The weights' file in the folder of an encoder whose network is its own."""


_LEAST = 10
"""Characters that a cut name keeps of the data set's."""
HEADS = ("linear", "top", "codec")
"""The strategies that put a head on an encoder's stored vectors; ``codec`` only makes them shorter."""
INT8 = "int8"
NETWORKS = ("full", "from_head", "partial", "low_rank", "distil", INT8)
"""The strategies that make weights of a network: they are tuned, or, by ``INT8``, rounded to eight bits. ``from_head``
starts from a fitted classifier, ``partial`` too, and tunes the last part alone; ``distil`` learns another encoder's
vectors."""


@dataclass(frozen=True)
class Tuned:
    """One tuned encoder, as tuning left it."""

    name: str
    strategy: str
    """One of ``HEADS``: a head on ``base``; one of ``NETWORKS``: a network of its own."""
    base: str
    """What it was tuned from; a head's may be several encoders, with ``names.JOIN`` between them."""
    base_version: str
    encoder_version: str
    source_dataset: str
    label: str
    """``product_id`` or ``category``: what it was tuned to tell apart."""
    training_set: str
    """The training set's fingerprint."""
    seed: int
    folder: str
    """Relative to the home: what ``vitrine.encoders.heads`` writes, or ``WEIGHTS``."""
    dim: int
    backbone: str
    """As in vitrine.toml; a head's is its base's."""
    family: str
    licence: str
    cost: dict[str, Any]
    """Of the tuning: seconds, and money by the price table."""
    input_size: int | None = None
    """Pixels a side, where its base has another than its source says."""
    teacher: str | None = None
    """Whose vectors it learned, where it is a student."""
    projection: int | None = None
    """Of a network with a matrix on what it pools: the dimensions that this has."""
    mlflow_run: str | None = None
    """Where its tuning is logged."""
    shortens: str | None = None
    """Of a codec on a head's vectors: that encoder, which the gate holds it against in place of ``base``."""
    shortens_version: str | None = None

    def registered(self) -> dict[str, Any]:
        """The columns of the table ``encoders`` that say how it was made."""
        return {
            "strategy": self.strategy,
            "source_dataset": self.source_dataset,
            "base_version": self.base_version,
            "cost": json.dumps(self.cost),
            "mlflow_run": self.mlflow_run,
        }

    def path(self, settings: Settings) -> Path:
        return settings.home / self.folder


def default_name(base: str, strategy: str, dataset: str) -> str:
    """``<base>__<strategy>__<dataset>``; the names of joined bases with an underscore between them.

    What would be too long for a name is cut: the data set's, then the base's, with six digits of a digest of the whole.
    """
    whole = f"{base.replace(JOIN, '_')}__{strategy}__{dataset}"
    if len(whole) <= NAME_LENGTH:
        return check_name(whole, "encoder name")
    digest = hashlib.sha256(whole.encode()).hexdigest()[:6]
    room = NAME_LENGTH - len(f"__{strategy}___{digest}")
    of_base = base.replace(JOIN, "_")
    of_dataset = dataset[: max(room - len(of_base), _LEAST)]
    cut = of_base[: room - len(of_dataset)].rstrip("_"), of_dataset.rstrip("_")
    return check_name(f"{cut[0]}__{strategy}__{cut[1]}_{digest}", "encoder name")


def register(settings: Settings, tuned: Tuned) -> None:
    """Let its name mean ``tuned`` from now on; vectors of the encoder that it meant before keep their version."""
    files.write_json(_pointer(settings, check_name(tuned.name, "encoder name")), asdict(tuned), indent=1)


def find(settings: Settings, name: str) -> Tuned | None:
    """The tuned encoder that ``name`` means; None where tuning made none of that name.

    Raises:
        UserError: its pointer cannot be read.
    """
    try:
        path = _pointer(settings, check_name(name, "encoder name"))
    except UserError:  # such an encoder cannot be: the caller names the choices
        return None
    if not path.is_file():
        return None
    try:
        return Tuned(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"cannot read {str(path)!r} ({error}): tune {name!r} again") from None


def learned_from(settings: Settings, name: str) -> set[str]:
    """The data sets from whose photos the weights that ``name`` means were tuned, by it or by what it was made of."""
    datasets, made = set(), find(settings, name)
    while made:
        if made.strategy != INT8:  # it rounds weights, and learns nothing
            datasets.add(made.source_dataset)
        made = find(settings, made.base)
    return datasets


def names(settings: Settings, *strategies: str) -> list[str]:
    """Every tuned encoder's name, or those of ``strategies``."""
    known = sorted(path.stem for path in _pointer(settings, "x").parent.glob("*.json"))
    encoders = ((name, find(settings, name)) for name in known)
    return [name for name, encoder in encoders if encoder and (not strategies or encoder.strategy in strategies)]


def _pointer(settings: Settings, name: str) -> Path:
    return settings.home / "models" / "tuned" / f"{name}.json"
