"""The decision, by hand-made figures."""

import math

import pytest

from evaluation.gates.gate import decide
from vitrine.setting_sections import GateSettings

THRESHOLDS = GateSettings(min_value=0.5, min_above_chance=0.1)


def failed(value: float, chance: float = 0.0) -> list[str]:
    checks = decide("mMP@5", value, chance, THRESHOLDS)
    assert [check.name for check in checks] == ["floor", "chance"]
    return [check.name for check in checks if not check.passed]


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, []), (0.51, []), (0.4999, ["floor"]), (0.0, ["floor", "chance"])]
)
def test_floor(value: float, expected: list[str]) -> None:
    assert failed(value) == expected


@pytest.mark.parametrize(("chance", "expected"), [(0.5, []), (0.5001, ["chance"]), (0.7, ["chance"])])
def test_chance(chance: float, expected: list[str]) -> None:
    assert failed(0.6, chance) == expected


def test_nan_passes_nothing() -> None:
    assert failed(math.nan) == ["floor", "chance"]
    assert failed(0.6, math.nan) == ["chance"]


def test_details_tell_the_figures() -> None:
    details = [check.detail for check in decide("mMP@5", 0.4, 0.35, THRESHOLDS)]
    assert details == [
        "mMP@5 0.4000 is below the floor 0.5000",
        "mMP@5 0.4000 against 0.3500 on shuffled labels: +0.0500, at least +0.1000 asked",
    ]
