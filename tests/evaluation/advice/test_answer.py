"""The expected figure holds what the whole catalog gives, and the answer's sentences say what was found."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.advice.answer import Advice, LeftOut, Option, Use
from evaluation.advice.confirm import expected
from evaluation.advice.measure import Questions
from evaluation.advice.sample import Catalog, Sample
from evaluation.advice.shorter_vectors import Shorter


def test_what_is_expected_of_the_catalog_is_what_it_gives_in_nine_cases_of_ten():
    """20 samples of 100 products from catalogs of 400: without the curve each would be far too high."""
    photos, dim, inside, flattered = 4, 24, 0, 0
    catalog = Catalog("shop", 0, 0, 0, "product_id", 0.0)
    for seed in range(20):
        chance = np.random.default_rng(seed)
        codes = np.repeat(np.arange(400), photos)
        rows = chance.normal(size=(400, dim))[codes] + 0.9 * chance.normal(size=(len(codes), dim))
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

        def asked(products: int) -> Questions:
            some = codes[codes < products]  # noqa: B023
            return Questions(catalog, Sample("g", [str(at) for at in range(len(some))], some, some, False))

        truth = asked(400).as_it_is(rows).values.mean()
        questions = asked(100)
        answers = questions.as_it_is(rows[: 100 * photos])
        figures = answers.moved(doublings=2)
        value, low, high = expected(figures, figures, questions.aside, questions.sample.products)
        inside += low <= truth <= high
        flattered += answers.values.mean() > truth
        assert low <= value <= high
    assert flattered == 20
    assert inside >= 16


OPTION = Option(
    *("e", "v", "linear", "chosen", "", 0.8, [0.9, 0.85, 0.8], 0.75, 0.7, 0.8, 150, 1200, 30),
    use=Use(20.0, 500.0, 0.25, 5.0, 0.0025, serving_bytes=112_640_000, serving_money=0.5632),
)
ADVICE = Advice(
    dataset="shop",
    use="search",
    metric="mMP@5",
    margin=0.01,
    state="decided",
    encoder="e",
    strategy="linear",
    why="all others are surely worse by more than the margin",
    more_products=None,
    options=[OPTION],
    left_out=[LeftOut("f", "no weights"), LeftOut("g", "no weights")],
    would_change=["a larger --budget tries h"],
    catalog_photos=10_000,
    catalog_products=2_000,
    known_share=0.5,
    looks=1,
    seconds=61.0,
    money=0.01,
    currency="EUR",
)


def test_shorter_vectors_are_named_with_what_they_lose():
    found = replace(ADVICE, shorter=Shorter("PCA 64 rotated, 4 bits", 32, 5120, -0.001, -0.004, 0.002))
    assert (
        "Vectors of 32 bytes in place of 5,120 (PCA 64 rotated, 4 bits) surely lose less than 0.01: "
        "-0.001 (-0.004 to +0.002) on the sample."
    ) in found.lines()


def test_the_sentences_of_a_decided_advice():
    assert ADVICE.lines() == [
        "For search in shop: e with a linear head: all others are surely worse by more than the margin.",
        "Expected mMP@5 0.750 (0.700 to 0.800) on the whole catalog, confirmed by 30 products that did not choose it; "
        "0.800 on 1,200 photos of 150 products.",
        "First night about 500 s, 0.2500 EUR; later ones 5.0 s, 0.0025 EUR.",
        "Serving holds 112.6 MB online and in Milvus, 0.5632 EUR a month; 30 nights beside it 0.0750 EUR.",
        "No shorter vectors are shown to lose less than 0.01 on the sample.",
        "Tune it: vitrine tune linear --dataset shop --encoder e",
        "Embed the rest: vitrine embed --dataset shop --encoder e",
        "Left out: f, g: no weights",
        "What would change this: a larger --budget tries h",
        "This advice took 61 s and 0.0100 EUR, 1 look.",
    ]


def test_a_figure_that_nothing_confirms_says_so():
    small = replace(ADVICE, options=[replace(OPTION, confirmed_by=0)])
    assert (
        "Expected mMP@5 0.750 (0.700 to 0.800) on the whole catalog, a little flattered, since of fewer than 50 "
        "products with two photos none is set aside to confirm it; 0.800 on 1,200 photos of 150 products."
    ) in small.lines()


@pytest.mark.parametrize(("more", "says"), [(120, ": about 120 more products would decide"), (None, "")])
def test_the_sentence_of_an_undecided_one(more: int | None, says: str):
    options = [replace(OPTION, verdict="undecided"), replace(OPTION, strategy="pretrained", verdict="undecided")]
    undecided = replace(ADVICE, options=options, more_products=more, why="the budget of 1m has 3 s left")
    assert undecided.lines()[0] == f"Undecided between e with a linear head and e{says}; the budget of 1m has 3 s left."


def test_the_commands_that_follow():
    """Of joined encoders, what is embedded is the head on them; a head learns from a split that has to be there."""
    joined = replace(ADVICE, encoder="e+f", options=[replace(OPTION, encoder="e+f")])
    assert [line for line in joined.lines() if ": vitrine " in line] == [
        "Tune it: vitrine tune linear --dataset shop --encoder e+f",
        "Embed the rest: vitrine embed --dataset shop --encoder e_f__linear__shop",
    ]
    assert (
        "Tune it, once shop has a split train to learn from: vitrine tune linear --dataset shop --encoder e"
        in replace(ADVICE, learnable=False).lines()
    )
