"""What probes of tuning do to an answer."""

from dataclasses import replace

import pytest

from evaluation.advice.answer import Advice, LeftOut, Option, Tuning
from evaluation.advice.tuning import tuned_option, with_probes
from tests.evaluation.advice.test_answer import ADVICE, OPTION

GAIN = Tuning("linear", 0.03, 0.02, 0.05, 40.0, 300.0, 0.02)
OTHER = replace(OPTION, encoder="f", strategy="pretrained", verdict="worse", value=0.6, low=0.55, high=0.65)


def probed(over: Option, strategy: str = "from_head", verdict: str = "worth it", gain: Tuning = GAIN) -> Option:
    return tuned_option(over, strategy, verdict, "it would gain +0.020 to +0.050", gain)  # type: ignore[arg-type]


def verdicts(advice: Advice) -> list[tuple[str, str, str]]:
    return [(each.encoder, each.strategy, each.verdict) for each in advice.options]


def test_it_is_expected_to_be_what_is_below_and_its_gain_within_both_bounds() -> None:
    made = probed(OPTION)
    assert (made.value, made.low, made.high) == (0.78, 0.72, 0.85)
    assert (made.encoder_version, made.measured, made.curve, made.use) == (None, None, [], OPTION.use)
    assert probed(replace(OPTION, high=0.99)).high == 1


def test_the_races_encoder_is_tuned_by_the_highest_rung_that_is_worth_it() -> None:
    raced = replace(ADVICE, options=[OPTION, OTHER])
    top = probed(OPTION, "top")
    full = probed(top, "full", gain=replace(GAIN, over="top"))
    after = with_probes(raced, [top, full], [])
    assert (after.state, after.encoder, after.strategy) == ("decided", "e", "full")
    assert verdicts(after) == [
        ("e", "full", "chosen"),
        ("e", "top", "worth it"),
        ("e", "linear", "worse"),
        ("f", "pretrained", "worse"),
    ]
    lines = after.lines()
    assert lines[0] == (
        "For search in shop: e tuned in full: the race chose e, and by its probes this tuning is worth its cost."
    )
    assert lines[1] == (
        "Expected mMP@5 0.810 (0.740 to 0.900) on the whole catalog: what is expected of e with a perceptron, and what "
        "probes on the sample foretell, +0.030 (+0.020 to +0.050)."
    )
    assert "Tune it: vitrine tune full --dataset shop --encoder e" in lines
    assert "Embed the rest: vitrine embed --dataset shop --encoder e__full__shop" in lines
    assert (
        "Probed for 40 s: e with a perceptron: +0.030 (+0.020 to +0.050) over e with a linear head: it would gain "
        "+0.020 to +0.050; tuning it takes about 300 s, 0.0200 EUR."
    ) in lines
    assert not any("shorter vectors" in line for line in lines)


@pytest.mark.parametrize("verdict", ["unclear", "not worth it"])
def test_what_is_not_surely_worth_it_changes_nothing(verdict: str) -> None:
    after = with_probes(
        ADVICE, [probed(OPTION, verdict=verdict)], [LeftOut("e", "about 9 s are beyond the budget", "full")]
    )
    assert (after.encoder, after.strategy, after.why) == ("e", "linear", ADVICE.why)
    assert [option.verdict for option in after.options] == ["chosen", verdict]
    assert "Left out: e tuned in full: about 9 s are beyond the budget" in after.lines()
    assert "a larger budget probes e tuned in full" in after.would_change


def test_another_encoder_takes_the_place_only_where_it_is_surely_ahead_of_all() -> None:
    raced = replace(ADVICE, options=[OPTION, OTHER])
    near = probed(OTHER, gain=Tuning("pretrained", 0.22, 0.2, 0.24, 1.0, 1.0, 0.0))
    assert near.low < OPTION.high + ADVICE.margin
    assert with_probes(raced, [near], []).encoder == "e"
    far = probed(OTHER, gain=Tuning("pretrained", 0.3, 0.27, 0.33, 1.0, 1.0, 0.0))
    after = with_probes(raced, [far], [])
    assert (after.encoder, after.strategy, after.state) == ("f", "from_head", "decided")
    assert "surely ahead of all other encoders by more than 0.01" in after.why
    assert ("e", "linear", "worse") in verdicts(after)
    both = with_probes(raced, [probed(OPTION, gain=replace(GAIN, gain_high=0.09)), far], [])
    assert (both.encoder, both.strategy) == ("e", "from_head")  # what tuning does to the other one counts, too


def test_what_was_undecided_stays_so_unless_a_tuning_is_surely_ahead() -> None:
    options = [replace(OPTION, verdict="undecided"), replace(OTHER, verdict="undecided", high=0.71)]
    raced = replace(
        ADVICE, options=options, state="undecided", encoder=None, strategy=None, more_products=40, shorter=None
    )
    stays = with_probes(raced, [probed(OPTION, gain=replace(GAIN, gain_low=0.011))], [])
    assert (stays.state, stays.encoder, stays.more_products) == ("undecided", None, 40)
    decided = with_probes(raced, [probed(OPTION, gain=replace(GAIN, gain_low=0.03))], [])
    assert (decided.state, decided.encoder, decided.strategy, decided.more_products) == (
        "decided",
        "e",
        "from_head",
        None,
    )
    assert [option.verdict for option in decided.options] == ["chosen", "worse", "worse"]


def test_of_one_encoder_alone_no_other_is_spoken_of() -> None:
    tuned = probed(OPTION)
    assert with_probes(ADVICE, [tuned], []).why.startswith("the race chose e, and by its probes")
    undecided = replace(
        ADVICE, options=[replace(OPTION, verdict="undecided")], state="undecided", encoder=None, strategy=None
    )
    after = with_probes(undecided, [tuned], [])
    assert (after.state, after.encoder, after.strategy) == ("decided", "e", "from_head")
    assert after.why == "by its probes this tuning is worth its cost, and no other encoder was measured"
