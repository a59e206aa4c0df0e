"""Tables for people: numbers to the right, with as many decimals as they are worth."""

import math
from typing import Any

import pytest

from vitrine.cli.output import drawn


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.981, 1.0], ["0.981", "1.000"]),
        ([1 / 3, None], ["0.3333", "     -"]),
        ([12.5, 2400.0], ["   12.5", "2,400.0"]),
        ([123456.789], ["123,457"]),
        ([0.00026, 0.00005], ["0.00026", "0.00005"]),
        ([7.0, -0.0], ["7", "0"]),
        ([math.nan, math.inf, 0.5], ["nan", "inf", "0.5"]),
        ([], []),
        ([5, None, 12], [" 5", " -", "12"]),
        ([True, False], ["True ", "False"]),
        (["[bold]", 1.5], ["[bold]", "1.5   "]),
    ],
)
def test_a_column(values: list[Any], shown: list[str]) -> None:
    lines = drawn(["x"], [[value] for value in values]).splitlines()[3:-1]
    assert [line[2:-2] for line in lines] == shown
