"""The decision on an encoder's figures: pure, no table, no file, no Great Expectations."""

from dataclasses import dataclass, field

from vitrine.settings import GateSettings

_NOISE = 1e-12  # so that 0.62 - 0.01 against 0.61 is decided by the figures, not by their last bit


@dataclass(frozen=True)
class Figures:
    """One retrieval figure of one encoder version."""

    encoder: str
    encoder_version: str
    metric: str
    value: float
    """In [0, 1]."""
    protocol: str = ""
    """Which queries against which index, what counts as relevant; two figures compare only where it is equal."""


@dataclass(frozen=True)
class Check:
    """What one rule says: ``detail`` is a sentence with the figures in it."""

    name: str
    passed: bool
    detail: str
    figures: dict[str, float | str] = field(default_factory=dict)


def decide(candidate: Figures, chance: float, serving: Figures | None, thresholds: GateSettings) -> list[Check]:
    """May ``candidate`` serve? Three checks, each of which has to pass: ``floor``, ``chance`` and ``serving``.

    ``chance`` is the candidate's own figure on shuffled labels. ``serving`` is the figure of what serves, on the same
    queries and catalog version; None where nothing serves yet. A NaN passes nothing.

    Raises:
        ValueError: the two figures are of different metrics or protocols.
    """
    return [
        _floor(candidate, thresholds.min_value),
        _chance(candidate, chance, thresholds.min_above_chance),
        _serving(candidate, serving, thresholds.max_drop),
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


def _serving(candidate: Figures, serving: Figures | None, most: float) -> Check:
    if serving is None:
        return Check("serving", True, "skipped: nothing serves yet", {"skipped": "nothing serves yet"})
    if serving.encoder_version == candidate.encoder_version:
        return Check("serving", True, "skipped: this version is what serves", {"skipped": "it is what serves"})
    if (serving.metric, serving.protocol) != (candidate.metric, candidate.protocol):
        raise ValueError(f"{candidate} and {serving} do not compare")
    drop = serving.value - candidate.value
    passed = drop <= most + _NOISE
    detail = (
        f"{candidate.metric} {candidate.value:.4f} against {serving.value:.4f} of the serving {serving.encoder} "
        f"({serving.encoder_version}): {-drop:+.4f}, down to {-most:+.4f} allowed"
    )
    figures = {"value": candidate.value, "serving": serving.value, "max_drop": most}
    return Check("serving", passed, detail, figures | {"serving_version": serving.encoder_version})
