"""Which gates there are, what a check is, and the decision on an encoder's figures: no table, no file, no library."""

from dataclasses import asdict, dataclass, field
from typing import Any

from vitrine.runs import GateFigures
from vitrine.setting_sections import GateSettings
from vitrine.settings import Settings

GATES = ("catalog", "embeddings", "sync", "metrics", "index")
COMPARING = ("embeddings", "metrics")
"""Gates that hold a version against what serves: they are out of date once another version does."""
_NOISE = 1e-12  # so that 0.62 - 0.01 against 0.61 is decided by the figures, not by their last bit


def gates_to_serve(settings: Settings) -> tuple[str, ...]:
    """Those that a version has to pass before it serves."""
    return GATES if settings.milvus.index != "FLAT" else GATES[:-1]


def result_json(result: GateFigures) -> dict[str, Any]:
    """The object that ``gate --json`` prints and ``runs`` keeps: ``serving_version`` is for gates that compare."""
    figures = asdict(result)
    if result.gate not in COMPARING:
        del figures["serving_version"]
    return figures


@dataclass(frozen=True)
class Check:
    """What one rule says: ``detail`` is a sentence with the figures in it."""

    name: str
    passed: bool
    detail: str
    figures: dict[str, float | str] = field(default_factory=dict)

    @classmethod
    def skipped(cls, name: str, why: str, short: str = "") -> "Check":
        """One that there is nothing to decide on; ``short`` is ``why`` as a figure."""
        return cls(name, True, f"skipped: {why}", {"skipped": short or why})


def decide(metric: str, value: float, chance: float, thresholds: GateSettings) -> list[Check]:
    """Is an encoder any good by itself? Two checks, each of which has to pass: ``floor`` and ``chance``.

    ``value`` is its figure of ``metric``, in [0, 1], and ``chance`` the same on shuffled labels. A NaN passes nothing.
    ``regression`` holds it against other versions.
    """
    return [
        _floor(metric, value, thresholds.min_value),
        _chance(metric, value, chance, thresholds.min_above_chance),
    ]


def _floor(metric: str, value: float, least: float) -> Check:
    passed = value >= least - _NOISE
    verdict = "is at least" if passed else "is below"
    detail = f"{metric} {value:.4f} {verdict} the floor {least:.4f}"
    return Check("floor", passed, detail, {"value": value, "min_value": least})


def _chance(metric: str, value: float, chance: float, margin: float) -> Check:
    gain = value - chance
    passed = gain >= margin - _NOISE
    detail = f"{metric} {value:.4f} against {chance:.4f} on shuffled labels: {gain:+.4f}, at least {margin:+.4f} asked"
    return Check("chance", passed, detail, {"value": value, "chance": chance, "min_above_chance": margin})
