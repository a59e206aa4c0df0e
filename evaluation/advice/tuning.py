"""What probes of tuning do to an answer: which strategy is named, and for which encoder.

The race says which encoder, as it is or with a linear head. Probes of the best two say what a further tuning gains on
the sample. An option is expected to be as good as the one below it, and what it gains; its bounds are the sums of both
bounds, so that with two intervals of 90 % it holds the truth in 80 % of all cases at least (Bonferroni's inequality).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evaluation.advice.answer import Advice, LeftOut, Option, Tuning, Verdict

PROBED = 2
"""Encoders, the best ones."""
WORTH_IT: Verdict = "worth it"
BEYOND = "beyond the budget"
"""What the reason of one that the budget had no room for says."""


def tuned_option(over: Option, strategy: str, verdict: Verdict, why: str, tuning: Tuning) -> Option:
    """``over``'s encoder, tuned further."""
    sums = (over.value + tuning.gain, over.low + tuning.gain_low, over.high + tuning.gain_high)
    value, low, high = (round(float(np.clip(each, 0, 1)), 5) for each in sums)
    changed = replace(over, strategy=strategy, verdict=verdict, why=why, tuning=tuning, value=value, low=low, high=high)
    return replace(changed, encoder_version=None, measured=None, curve=[], logme=None, h_score=None)


def with_probes(advice: Advice, probed: Sequence[Option], left_out: Sequence[LeftOut]) -> Advice:
    """``advice`` with what was ``probed``, the lowest rung of each encoder first.

    The encoder that the race chose is tuned by the highest rung that is worth it. Another one takes its place, or ends
    what was undecided, only where its tuning is surely ahead of all options of all other encoders by the margin.
    """
    options, would_change = [*advice.options, *probed], list(advice.would_change)
    if names := [each.name for each in left_out if BEYOND in each.why]:
        would_change.append(f"a larger budget probes {', '.join(names)}")
    changed = replace(advice, left_out=[*advice.left_out, *left_out], would_change=would_change)
    worth = {each.encoder: each for each in probed if each.verdict == WORTH_IT}
    others = [each for each in worth.values() if each.encoder != advice.encoder]
    ahead = next((each for each in others if _is_ahead(each, options, advice.margin)), None)
    if picked := ahead or worth.get(advice.encoder or ""):
        changed = _picked(changed, picked, options)
    else:
        changed = replace(changed, options=options)
    return replace(changed, options=sorted(changed.options, key=lambda each: (each.verdict != "chosen", -each.value)))


def _is_ahead(option: Option, options: Sequence[Option], margin: float) -> bool:
    """Is it surely ahead of all other encoders, whatever is done to them?"""
    return all(option.low > each.high + margin for each in options if each.encoder != option.encoder)


def _picked(advice: Advice, picked: Option, options: Sequence[Option]) -> Advice:
    if picked.encoder == advice.encoder:
        why = f"the race chose {picked.encoder}, and by its probes this tuning is worth its cost"
    elif any(each.encoder != picked.encoder for each in options):
        why = f"by its probes, it is surely ahead of all other encoders by more than {advice.margin:g}"
    else:
        why = "by its probes this tuning is worth its cost, and no other encoder was measured"
    beaten = f"{picked.name} is the answer: {picked.why}"
    after = [
        replace(each, verdict="chosen")
        if each is picked
        else replace(each, verdict="worse", why=beaten)
        if each.verdict in ("chosen", "undecided")
        else each
        for each in options
    ]
    return replace(
        advice,
        options=after,
        state="decided",
        encoder=picked.encoder,
        strategy=picked.strategy,
        why=why,
        more_products=None,
        shorter=None,
    )
