"""What would change an advice."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from evaluation.advice.race import Behind
from tests.evaluation.advice.test_answer import OPTION
from vitrine.cli import advice_answer


def test_the_margin_at_which_a_cheaper_one_would_do_is_that_of_the_look_at_which_it_left():
    """One that left early has a figure of other queries, here above all others: what it was below then counts."""
    options = [
        replace(OPTION, encoder="best", verdict="as good", value=0.944),
        replace(OPTION, encoder="chosen", verdict="chosen", value=0.940),
        replace(OPTION, encoder="cheap", verdict="worse", value=0.951),
        replace(OPTION, encoder="cheapest", verdict="worse", value=0.8),
    ]
    prices = {"best": 400.0, "chosen": 200.0, "cheap": 100.0, "cheapest": 50.0}
    by = {"cheap": 0.0131, "cheapest": 0.14}
    worse = {f"{name} with a linear head": Behind("best with a linear head", gap, 0.011) for name, gap in by.items()}
    found = cast(Any, SimpleNamespace(margin=0.01, price=prices.__getitem__, worse=worse))
    assert advice_answer._price_and_margin(found, options[1], options) == [
        "with a --margin above 0.013, cheap with a linear head may do, at 50% of the cost",
        "best with a linear head is as good and costs 2.00 times as much: it would be taken if it cost less",
    ]
