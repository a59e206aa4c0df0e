"""The decision on an encoder's figures: pure, no table, no file, no Great Expectations."""

from dataclasses import dataclass, field

from vitrine.setting_sections import GateSettings

_NOISE = 1e-12  # so that 0.62 - 0.01 against 0.61 is decided by the figures, not by their last bit


@dataclass(frozen=True)
class Figures:
    """One retrieval figure of one encoder version."""

    encoder: str
    encoder_version: str
    metric: str
    value: float
    """In [0, 1]."""


@dataclass(frozen=True)
class Check:
    """What one rule says: ``detail`` is a sentence with the figures in it."""

    name: str
    passed: bool
    detail: str
    figures: dict[str, float | str] = field(default_factory=dict)


def decide(candidate: Figures, chance: float, thresholds: GateSettings) -> list[Check]:
    """Is ``candidate`` any good by itself? Two checks, each of which has to pass: ``floor`` and ``chance``.

    ``chance`` is the candidate's own figure on shuffled labels. A NaN passes nothing. What it is held against is the
    business of ``regression``.
    """
    return [
        _floor(candidate, thresholds.min_value),
        _chance(candidate, chance, thresholds.min_above_chance),
    ]


def _floor(candidate: Figures, least: float) -> Check:
    value = candidate.value
    passed = value >= least - _NOISE
    said = "is at least" if passed else "is below"
    detail = f"{candidate.metric} {value:.4f} {said} the floor {least:.4f}"
    return Check("floor", passed, detail, {"value": value, "min_value": least})


def _chance(candidate: Figures, chance: float, margin: float) -> Check:
    value, gain = candidate.value, candidate.value - chance
    passed = gain >= margin - _NOISE
    detail = (
        f"{candidate.metric} {value:.4f} against {chance:.4f} on shuffled labels: {gain:+.4f}, "
        f"at least {margin:+.4f} asked"
    )
    return Check("chance", passed, detail, {"value": value, "chance": chance, "min_above_chance": margin})
