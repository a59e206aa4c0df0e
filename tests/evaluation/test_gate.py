"""The decision, by hand-made figures."""

import math

import pytest

from evaluation.gate import Check, Figures, decide
from vitrine.settings import GateSettings

THRESHOLDS = GateSettings(min_value=0.5, min_above_chance=0.1, max_drop=0.01)


def figures(value: float, version: str = "new", protocol: str = "test against train") -> Figures:
    return Figures("e", version, "mMP@5", value, protocol)


def failed(value: float, chance: float = 0.0, serving: Figures | None = None) -> list[str]:
    checks = decide(figures(value), chance, serving, THRESHOLDS)
    assert [check.name for check in checks] == ["floor", "chance", "serving"]
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, []), (0.51, []), (0.4999, ["floor"]), (0.0, ["floor", "chance"])]
)
def test_floor(value: float, expected: list[str]) -> None:
    assert failed(value) == expected


@pytest.mark.parametrize(("chance", "expected"), [(0.5, []), (0.5001, ["chance"]), (0.7, ["chance"])])
def test_chance(chance: float, expected: list[str]) -> None:
    assert failed(0.6, chance) == expected


@pytest.mark.parametrize(("serving", "expected"), [(0.55, []), (0.62, []), (0.6201, ["serving"]), (0.9, ["serving"])])
def test_what_serves(serving: float, expected: list[str]) -> None:
    assert failed(0.61, 0.0, figures(serving, "old")) == expected


def test_nothing_to_compare_with() -> None:
    assert failed(0.6) == []
    first = decide(figures(0.6), 0.0, None, THRESHOLDS)[2]
    assert first == Check("serving", True, "skipped: nothing serves yet", {"skipped": "nothing serves yet"})
    itself = decide(figures(0.6), 0.0, figures(0.9, "new", "another"), THRESHOLDS)[2]
    assert itself.passed and itself.detail == "skipped: this version is what serves"


def test_figures_that_do_not_compare() -> None:
    with pytest.raises(ValueError, match="do not compare"):
        decide(figures(0.6), 0.0, figures(0.6, "old", "another"), THRESHOLDS)


def test_nan_passes_nothing() -> None:
    assert failed(math.nan, 0.0, figures(0.6, "old")) == ["floor", "chance", "serving"]
    assert failed(0.6, math.nan, figures(math.nan, "old")) == ["chance", "serving"]


def test_details_tell_the_figures() -> None:
    details = [check.detail for check in decide(figures(0.4), 0.35, figures(0.45, "old"), THRESHOLDS)]
    assert details == [
        "mMP@5 0.4000 is below the floor 0.5000",
        "mMP@5 0.4000 against 0.3500 on shuffled labels: +0.0500, at least +0.1000 asked",
        "mMP@5 0.4000 against 0.4500 of the serving e (old): -0.0500, down to -0.0100 allowed",
    ]
