"""The answer: what is chosen, what each option is worth and costs, what was left out, and what would change it."""

from dataclasses import dataclass, field
from typing import Literal

from evaluation.advice.confirm import FROM
from evaluation.advice.shorter_vectors import Shorter
from vitrine.encoders import tuned
from vitrine.names import JOIN

NIGHTS = 30
"""Of a month."""
PRETRAINED, LINEAR = "pretrained", "linear"
Verdict = Literal["chosen", "undecided", "as good", "worse", "worth it", "not worth it", "unclear"]
"""The last three of what was probed: is tuning the encoder so worth its cost?"""
_TUNED = {
    LINEAR: "with a linear head",
    "top": "with a perceptron",
    "partial": "tuned in its last part",
    "low_rank": "tuned by changes of low rank",
    "from_head": "tuned from a head",
    "full": "tuned in full",
}
"""What follows an encoder's name, by strategy."""
_VERBS = {"low_rank": "low-rank", "from_head": "full --from-head"}
"""Of ``vitrine tune``, where the strategy has another name there."""


@dataclass(frozen=True)
class Use:
    """What using an encoder takes: embedding all photos, and then each night those that are new or changed."""

    photos_per_second: float | None
    """As the largest pass so far computed them, with its start; None: not known."""
    first_night_seconds: float | None
    first_night_money: float | None
    night_seconds: float | None
    night_money: float | None
    serving_bytes: int | None = None
    """Of memory, online and in Milvus, with ids and labels."""
    serving_money: float | None = None
    """What their memory costs a month."""


@dataclass(frozen=True)
class Tuning:
    """What probes on the sample foretell of a tuning."""

    over: str
    """The strategy that it is held against."""
    gain: float
    """Of the figure."""
    gain_low: float
    gain_high: float
    """The interval of ``gain``: 90 % for all that were probed of the encoder together."""
    probe_seconds: float
    tuning_seconds: float
    """Of tuning it to the whole catalog, about."""
    tuning_money: float


@dataclass(frozen=True)
class Option:
    """An encoder as it is or tuned, and what is known of it."""

    encoder: str
    encoder_version: str | None
    """None: it was probed, and is not made yet."""
    strategy: str
    verdict: Verdict
    why: str
    measured: float | None
    """On the sample; None: it was probed."""
    curve: list[float]
    """The same with a quarter, a half and all of the sample's products; none of what was probed."""
    value: float
    """Expected on the whole catalog."""
    low: float
    high: float
    """The 90 % interval of ``value``."""
    products: int
    photos: int
    confirmed_by: int
    """Products that the race did not ask, and ``value`` is told by; 0: none were set aside."""
    use: Use
    logme: float | None = None
    """Of the encoder's vectors of the sample, as ``transferability`` has it; None: too few labels. Decides nothing."""
    h_score: float | None = None
    """The same."""
    tuning: Tuning | None = None
    """Of what was probed; None: the race asked it."""

    @property
    def name(self) -> str:
        return option_name(self.encoder, self.strategy)


@dataclass(frozen=True)
class LeftOut:
    """An encoder that was not measured, or a tuning of one that was not probed."""

    encoder: str
    why: str
    strategy: str = ""
    """Of the tuning."""

    @property
    def name(self) -> str:
        return option_name(self.encoder, self.strategy or PRETRAINED)


@dataclass(frozen=True)
class Advice:
    """What ``vitrine advise`` says."""

    dataset: str
    use: str
    metric: str
    margin: float
    state: Literal["decided", "undecided"]
    encoder: str | None
    """None: undecided."""
    strategy: str | None
    why: str
    more_products: int | None
    options: list[Option]
    """The highest expected figure first."""
    left_out: list[LeftOut]
    would_change: list[str]
    catalog_photos: int
    catalog_products: int
    known_share: float
    looks: int
    seconds: float
    money: float
    currency: str
    shorter: Shorter | None = None
    """The fewest bytes that the chosen one's vectors may have; None: undecided, or none is shown to be good enough."""
    first_by_priors: list[str] = field(default_factory=list)
    """The order in which public figures would have encoders measured, the first few."""
    page: str = ""
    label: str = "product_id"
    """What is found, or told: what a tuning learns."""
    learnable: bool = True
    """Has the data set photos that a tuning could learn from?"""

    @property
    def chosen(self) -> Option | None:
        return next((each for each in self.options if each.verdict == "chosen"), None)

    def lines(self) -> list[str]:
        """The answer in sentences."""
        made = [self._headline()]
        if option := self.chosen:
            made += [_worth(option, self), *_costs(option.use, self.currency)]
            made += [] if option.tuning else [_shorter(self)]
            made += _next_steps(option, self)
        made += [_probed(each, self.currency) for each in self.options if each.tuning]
        for why in dict.fromkeys(each.why for each in self.left_out):
            names = ", ".join(each.name for each in self.left_out if each.why == why)
            made.append(f"Left out: {names}: {why}")
        made += [f"What would change this: {each}" for each in self.would_change]
        cost = f" and {self.money:.4f} {self.currency}" if self.money else ""
        return [*made, f"This advice took {self.seconds:.0f} s{cost}, {self.looks} look{'s' * (self.looks != 1)}."]

    def _headline(self) -> str:
        if option := self.chosen:
            return f"For {self.use} in {self.dataset}: {option.name}: {self.why}."
        between = [each.name for each in self.options if each.verdict == "undecided"]
        if not between:
            return f"Undecided: {self.why}."
        more = f": about {self.more_products:,} more products would decide" if self.more_products else ""
        if self.more_products and self.more_products > self.catalog_products:
            more += ", which the catalog has not"
        return f"Undecided between {' and '.join(between)}{more}; {self.why}."


def _worth(option: Option, advice: Advice) -> str:
    expected = (
        f"Expected {advice.metric} {option.value:.3f} ({option.low:.3f} to {option.high:.3f}) on the whole catalog"
    )
    if tuning := option.tuning:
        over = option_name(option.encoder, tuning.over)
        return f"{expected}: what is expected of {over}, and what probes on the sample foretell, {_gain(tuning)}."
    told = f"confirmed by {option.confirmed_by:,} products that did not choose it"
    if option.photos >= advice.catalog_photos:
        told = "as measured on all of it; the interval is for products like these"
    elif not option.confirmed_by:
        told = (
            f"a little flattered, since of fewer than {FROM} products with two photos none is set aside to confirm it"
        )
    return f"{expected}, {told}; {option.measured:.3f} on {option.photos:,} photos of {option.products:,} products."


def _gain(tuning: Tuning) -> str:
    return f"{tuning.gain:+.3f} ({tuning.gain_low:+.3f} to {tuning.gain_high:+.3f})"


def _probed(option: Option, currency: str) -> str:
    tuning = option.tuning
    assert tuning
    money = f", {tuning.tuning_money:.4f} {currency}" if tuning.tuning_money else ""
    return (
        f"Probed for {tuning.probe_seconds:,.0f} s: {option.name}: {_gain(tuning)} over "
        f"{option_name(option.encoder, tuning.over)}: {option.why}; tuning it takes about "
        f"{tuning.tuning_seconds:,.0f} s{money}."
    )


def _next_steps(option: Option, advice: Advice) -> list[str]:
    """The commands that follow."""
    made, name, where = [], option.encoder, f"--dataset {advice.dataset}"
    if option.strategy != PRETRAINED:
        verb, label = _VERBS.get(option.strategy, option.strategy), advice.label
        told = f" --label {label}" if label != "product_id" else ""
        first = "" if advice.learnable else f", once {advice.dataset} has a split train to learn from"
        made.append(f"Tune it{first}: vitrine tune {verb} {where} --encoder {name}{told}")
    if option.tuning or JOIN in name:  # joined, they are no encoder before
        name = tuned.default_name(name, option.strategy, advice.dataset)
    return [*made, f"Embed the rest: vitrine embed {where} --encoder {name}"]


def _costs(use: Use, currency: str) -> list[str]:
    made = []
    if use.first_night_seconds is not None and use.night_seconds is not None:
        first, nightly = (
            f", {each:.4f} {currency}" if each else "" for each in (use.first_night_money, use.night_money)
        )
        nights = f"later ones {use.night_seconds:,.1f} s{nightly}"
        made.append(f"First night about {use.first_night_seconds:,.0f} s{first}; {nights}.")
    if use.serving_bytes is not None:
        priced = f", {use.serving_money:.4f} {currency} a month" if use.serving_money else ""
        beside = f"; {NIGHTS} nights beside it {NIGHTS * use.night_money:.4f} {currency}" if use.night_money else ""
        made.append(f"Serving holds {use.serving_bytes / 1e6:,.1f} MB online and in Milvus{priced}{beside}.")
    return made


def _shorter(advice: Advice) -> str:
    if not (found := advice.shorter):
        return f"No shorter vectors are shown to lose less than {advice.margin:g} on the sample."
    return (
        f"Vectors of {found.bytes:,} bytes in place of {found.full_bytes:,} ({found.codec}) surely lose less than "
        f"{advice.margin:g}: {found.change:+.3f} ({found.low:+.3f} to {found.high:+.3f}) on the sample."
    )


def option_name(encoder: str, strategy: str) -> str:
    return encoder if strategy == PRETRAINED else f"{encoder} {_TUNED[strategy]}"
