"""What would change an advice."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from tests.evaluation.advice.test_answer import OPTION
from vitrine.cli import advice_answer


def test_the_margin_at_which_a_cheaper_one_would_do_is_that_to_the_best():
    """The best of all is dearer than the chosen one: the margin is to the best, as the race has it."""
    options = [
        replace(OPTION, encoder="best", verdict="as good", value=0.944),
        replace(OPTION, encoder="chosen", verdict="chosen", value=0.940),
        replace(OPTION, encoder="cheap", verdict="worse", value=0.931),
        replace(OPTION, encoder="cheapest", verdict="worse", value=0.8),
    ]
    prices = {"best": 400.0, "chosen": 200.0, "cheap": 100.0, "cheapest": 50.0}
    found = cast(Any, SimpleNamespace(margin=0.01, price=prices.__getitem__))
    assert advice_answer._price_and_margin(found, options[1], options) == [
        "with a --margin above 0.013, cheap with a linear head may do, at 50% of the cost",
        "best with a linear head is as good and costs 2.00 times as much: it would be taken if it cost less",
    ]
