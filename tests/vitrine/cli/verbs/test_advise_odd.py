"""``vitrine advise`` of catalogs that can tell nothing, and without the time to: exit code and one sentence each."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.advice.test_sample import fill
from tests.support.tuned_by_hand import make_full
from tests.vitrine.cli.test_command_line import Ran
from tests.vitrine.cli.test_command_line import vitrine as process
from vitrine import lake
from vitrine.encoders import tuned
from vitrine.settings import Settings, load_settings

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64

[prices]
core_hour = 0.5
currency = "EUR"

[nightly]
encoders = ["small"]
[[nightly.datasets]]
name = "shop"
source = "photos"
"""
Rows = list[tuple[str, str | None, str | None]]
Advise = Callable[..., Ran]
PRODUCTS: Rows = [(f"p{number % 20}", "shoes", None) for number in range(80)]


@pytest.fixture
def advise(settings: Settings, tmp_path: Path) -> Advise:
    def call(rows: Rows, *more: str) -> Ran:
        (tmp_path / "vitrine.toml").write_text(CONFIG)
        fill(settings, rows)
        return process(tmp_path, "advise", "--dataset", "shop", "--encoder", "small", *more)

    return call


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        (
            [(f"p{number % 5}", None, None) for number in range(10)],
            (),
            "'shop' has 10 photos, of 5 products with two or more: too few to tell encoders apart; advice needs 10 "
            "products with two photos or more",
        ),
        (
            [("p", None, None)] * 40,
            (),
            "all 40 photos of 'shop' are of one product: whatever is found is right, so no encoder can be told from "
            "another; advice needs 10 products with two photos or more",
        ),
        (
            [("", None, None)] * 40,
            (),
            "no photo of 'shop' has a product_id: nothing says which photos belong together, and so which encoder "
            "finds them; advice needs 10 products with two photos or more",
        ),
        (
            [(f"p{number}", None, None) for number in range(40)],
            (),
            "each of the 40 products of 'shop' has one photo: none can be found again; advice needs 10 products with "
            "two photos or more",
        ),
        (
            PRODUCTS,
            ("--use", "tagging"),
            "all photos of 'shop' with a category have one, 'shoes': whatever is told is right, so no encoder can be "
            "told from another; give --use search, or photos of a second category",
        ),
        (
            PRODUCTS,
            ("--tuning",),
            "data set 'shop' has no split 'train' (it has none): tuning learns from one split and is measured on "
            "others",
        ),
        (PRODUCTS, ("--budget", "0s"), "--budget '0s': give a time as 90s, 30m, 2h or 1d, or an amount as 2EUR"),
    ],
    ids=["ten photos", "one product", "no product", "one photo each", "one category", "no split", "no budget"],
)
def test_what_can_tell_nothing_is_the_callers_to_know(advise: Advise, rows: Rows, more: tuple[str, ...], says: str):
    advise(rows, *more).refused(2, says)


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["0.01s", "0.00000001EUR"])
def test_an_absurdly_small_budget_ends_undecided_and_says_what_it_would_take(
    advise: Advise, settings: Settings, budget: str
):
    done = advise(PRODUCTS, "--budget", budget)
    first, left_out, *rest = done.out.splitlines()
    assert done.code == 0, done.err
    assert first.startswith(f"Undecided: the budget of {budget} has 0 s left, and small on 80 photos takes about ")
    assert left_out.startswith("Left out: small: the budget: about ")
    assert rest[0] == "What would change this: a larger --budget tries small"
    assert not lake.rows(settings, "SELECT 1 FROM embeddings LIMIT 1")
    (row,) = lake.rows(settings, "SELECT encoder, strategy, verdict FROM advice")
    assert row == {"encoder": "small", "strategy": "", "verdict": "left out"}
    applied = advise([], "--budget", budget, "--apply")
    assert applied.code == 4 and "nothing was applied" in applied.err.splitlines()[-1], applied.err


@pytest.mark.slow
def test_a_network_that_learned_this_data_set_is_not_asked_about_it(settings: Settings, tmp_path: Path):
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    fill(settings, PRODUCTS)
    make_full(load_settings(tmp_path), "learned", "small", seed=3)
    learned = tuned.find(settings, "learned")
    assert learned
    tuned.register(settings, replace(learned, name="rounded", strategy="int8", base="learned", source_dataset="other"))
    assert tuned.learned_from(settings, "rounded") == {"shop"}, "eight bits learn nothing, their network did"
    assert tuned.learned_from(settings, "small") == set()
    done = process(tmp_path, "advise", "--dataset", "shop", "--encoder", "learned")
    done.refused(
        2,
        "no encoder is left to try: learned: it learned from photos of this data set, so what it answers here would "
        "flatter it",
    )
