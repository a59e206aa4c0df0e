"""What would change an advice."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from evaluation.advice.answer import Use
from evaluation.advice.measure import Answers
from evaluation.advice.race import Behind
from tests.evaluation.advice.test_answer import OPTION
from vitrine.cli import advice_answer, serving_costs
from vitrine.settings import Settings


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


def test_discriminants_of_few_products_are_stored_in_few_dimensions(settings: Settings) -> None:
    """Of 81 products: 80 dimensions by discriminants, which both halves took, and all 1,280 where one whitened."""
    figures = np.zeros((3, 4))
    answers = {
        "pretrained": Answers(figures),
        "linear": Answers(figures, taken=(0, 2)),
        "whitened": Answers(figures, taken=(0, 1)),
    }
    measured = {"e": SimpleNamespace(dim=1280, answers=answers, encoded=None)}
    costs = SimpleNamespace(use=lambda *_: Use(None, None, None, None, None))
    catalog = SimpleNamespace(photos=5421, products=81)
    found = cast(Any, SimpleNamespace(settings=settings, measured=measured, costs=costs, catalog=catalog))
    sizes = {strategy: advice_answer.Findings.using(found, "e", strategy).serving_bytes for strategy in answers}
    stored = {dim: serving_costs.stored_bytes(settings, dim, 5421, 81) for dim in (80, 1280)}
    assert sizes == {"pretrained": stored[1280], "linear": stored[80], "whitened": stored[1280]}
    assert stored[80] < stored[1280] / 4
