"""What an advice says of what it has measured: each option's worth and cost, and what would change the answer."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from evaluation.advice import answer, confirm, measure, priors, race, sample, shorter_vectors
from evaluation.pages import differing
from training import linear_tuning
from vitrine import lake, plain_page, runs
from vitrine.cli import embed_costs, serving_costs
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings

_KINDS, _STRENGTHS = ("discriminants", "whitening"), (0.1, 0.5)


@dataclass(frozen=True)
class Measured:
    """An encoder's answers on the newest sample that it was asked."""

    encoded: EncodedSet
    answers: "dict[str, measure.Answers]"
    """By strategy."""
    questions: "measure.Questions"
    dim: int
    """Of its vectors."""
    foretold: tuple[float, float] | None
    """LogME and the regularised H-score."""

    @property
    def asked(self) -> "sample.Sample":
        return self.questions.sample


@dataclass(frozen=True)
class Findings:
    """What was measured, and how it ended."""

    settings: Settings
    catalog: "sample.Catalog"
    use: str
    margin: float
    measured: dict[str, Measured]
    """By encoder, or several joined."""
    worse: "dict[str, race.Behind]"
    """The options that left, by their names."""
    common: "dict[str, race.Floats]"
    """The mean of the contenders' figures, (Q,), by the limit of the sample that they were asked."""
    spaces: "dict[tuple[str, str], list[measure.Space]]"
    """Where an encoder's strategy was answered, once that is asked for."""
    left_out: "list[answer.LeftOut]"
    candidates: "list[priors.Candidate]"
    costs: "embed_costs.Costs"
    looks: int
    stopped: str
    """Why it went no further; empty: it was decided."""
    seconds: float
    money: float

    def using(self, encoder: str, strategy: str) -> "answer.Use":
        """What using it takes. Discriminants of C classes have C - 1 dimensions at most, whitening keeps all."""
        done, catalog = self.measured[encoder], self.catalog
        taken = done.answers[strategy].taken or ()
        discriminants = [number % len(_KINDS) == _KINDS.index("discriminants") for number in taken]
        dim = min(done.dim, max(1, catalog.products - 1)) if discriminants and all(discriminants) else done.dim
        size = serving_costs.stored_bytes(self.settings, dim, catalog.photos, catalog.products)
        money = round(serving_costs.month_money(self.settings, size), 6)
        return replace(self.costs.use(done.encoded, catalog.photos), serving_bytes=size, serving_money=money)

    def price(self, encoder: str) -> float:
        """Seconds of embedding the catalog and of the nights after; a head costs next to nothing more."""
        return self.costs.horizon_seconds(self.measured[encoder].encoded, self.catalog.photos)


def doublings(catalog: "sample.Catalog", drawn: "sample.Sample") -> float:
    """How often the sample has to double to be the catalog."""
    return float(np.log2(max(1.0, catalog.photos / len(drawn.ids))))


def fitted(rows: Any, classes: Any, dim: int) -> Iterator[Any]:
    """Matrices by the closed form of ``vitrine tune linear``."""
    moments = linear_tuning.Moments.of_rows(rows, classes, int(classes.max()) + 1)
    # Towards a sphere of the same trace: over fewer dimensions its radius is larger.
    odds = [each / (1 - each) * rows.shape[1] / dim for each in _STRENGTHS]
    strengths = [each / (1 + each) for each in odds]
    return (each.embed for each in linear_tuning.solutions(moments, _KINDS, strengths))


def asked(questions: "measure.Questions", rows: Any, joined: bool) -> "dict[str, measure.Answers]":
    """What ``rows``, (N, D), answer by each strategy that they have; joined, they are an encoder by a head alone."""
    found = {} if joined else {answer.PRETRAINED: questions.as_it_is(rows)}
    head = questions.tuned(rows, fitted)
    return found | ({answer.LINEAR: head} if head else {})


def expected(
    catalog: "sample.Catalog", done: Measured, strategy: str, common: "race.Floats"
) -> tuple[float, float, float]:
    """What is expected on the whole catalog, and its 90 % interval; ``common`` as ``confirm.expected`` has it."""
    answers, drawn = done.answers[strategy], done.asked
    figures = answers.moved(doublings(catalog, drawn))
    moved = float(np.nanmean(figures) - np.nanmean(answers.values))
    return confirm.expected(figures, common, done.questions.aside, drawn.products, moved)


def encoder_of(option: str) -> str:
    return option.split(" ")[0]


def answer_of(found: Findings, standing: "race.Standing | None") -> "answer.Advice":
    """The answer, once the race or the budget has ended."""
    chosen, why = _choice(found, standing)
    remaining = standing.remaining if standing else []
    options = [
        _option(found, name, strategy, chosen, remaining)
        for name, done in found.measured.items()
        for strategy in done.answers
    ]
    picked = next((each for each in options if each.verdict == "chosen"), None)
    first = sorted(found.candidates, key=lambda candidate: -candidate.prior)
    return answer.Advice(
        dataset=found.catalog.dataset,
        label=found.catalog.label,
        use=found.use,
        metric="mMP@5" if found.catalog.label == "product_id" else "accuracy of the nearest photo",
        margin=found.margin,
        state="decided" if picked else "undecided",
        encoder=picked.encoder if picked else None,
        strategy=picked.strategy if picked else None,
        why=why,
        more_products=standing.more_products if standing and not picked else None,
        options=sorted(options, key=lambda each: (each.verdict != "chosen", -each.value)),
        left_out=found.left_out,
        would_change=[*_would_change(found, standing, chosen), *_price_and_margin(found, picked, options)],
        catalog_photos=found.catalog.photos,
        catalog_products=found.catalog.products,
        known_share=found.catalog.known_share,
        learnable=found.catalog.learnable,
        looks=found.looks,
        shorter=_shorter(found, picked) if picked else None,
        seconds=round(found.seconds, 1),
        money=round(found.money, 6),
        currency=found.settings.prices.currency,
        first_by_priors=[each.name for each in first[:3]],
    )


def _choice(found: Findings, standing: "race.Standing | None") -> tuple[str | None, str]:
    """What is chosen, if anything, and why."""
    if standing and standing.chosen:
        return standing.chosen, standing.why
    if standing and found.use == sample.COST:
        # Of equal prices the first: the highest figure comes first.
        cheapest = min(standing.remaining, key=lambda name: found.price(encoder_of(name)))
        return cheapest, f"the cheapest that is not shown to be worse by more than {found.margin:g}"
    return None, found.stopped or "all that is measured at once was asked"


def _shorter(found: Findings, picked: "answer.Option") -> "shorter_vectors.Shorter | None":
    return shorter_vectors.shortest(
        found.measured[picked.encoder].questions, _spaces(found, picked.encoder, picked.strategy), found.margin
    )


def _spaces(found: Findings, encoder: str, strategy: str) -> "list[measure.Space]":
    if (encoder, strategy) not in found.spaces:
        done = found.measured[encoder]
        rows = sample.vectors(found.settings, done.encoded, done.asked)
        found.spaces[encoder, strategy] = done.questions.spaces(rows, fitted, done.answers[strategy])
    return found.spaces[encoder, strategy]


def galleries(found: Findings, said: "answer.Advice") -> "list[plain_page.Gallery]":
    """Queries on which the finalists differ: the first option that the race asked, and the best one of another encoder
    that was asked the same sample."""
    raced = [each for each in said.options if each.measured is not None]
    if not raced:
        return []
    first, limit = raced[0], found.measured[raced[0].encoder].asked.limit
    others = (
        each for each in raced if each.encoder != first.encoder and found.measured[each.encoder].asked.limit == limit
    )
    if (other := next(others, None)) is None:
        return []
    questions = found.measured[first.encoder].questions
    ours, theirs = (
        differing.Side(
            each.name,
            found.measured[each.encoder].answers[each.strategy].values,
            partial(questions.nearest, _spaces(found, each.encoder, each.strategy), count=differing.NEAREST),
        )
        for each in (first, other)
    )
    asked, uris = questions.sample, partial(differing.uris, found.settings, found.catalog.dataset)
    photos = differing.Photos(asked.ids.__getitem__, asked.products, uris, found.settings.max_pixels)
    return differing.galleries(photos, ours, theirs)


def _option(found: Findings, name: str, strategy: str, chosen: str | None, remaining: list[str]) -> "answer.Option":
    done, shown = found.measured[name], answer.option_name(name, strategy)
    answers, drawn, aside = done.answers[strategy], done.asked, done.questions.aside
    value, low, high = expected(found.catalog, done, strategy, found.common[drawn.limit])
    verdict: answer.Verdict = "chosen" if shown == chosen else "worse"
    why = found.worse[shown].why if shown in found.worse else ""
    if shown in remaining and shown != chosen:
        verdict = "as good" if chosen else "undecided"
        why = "not shown to be worse, and no cheaper" if chosen else "not shown to be worse"
    return answer.Option(
        encoder=name,
        encoder_version=done.encoded.encoder_version,
        strategy=strategy,
        verdict=verdict,
        why=why,
        measured=round(float(np.nanmean(answers.values)), 5),
        curve=[round(each, 5) for each in answers.curve if not np.isnan(each)],
        value=round(value, 5),
        low=round(low, 5),
        high=round(high, 5),
        products=drawn.product_count,
        photos=len(drawn.ids),
        confirmed_by=len(np.unique(drawn.products[aside])),
        use=found.using(name, strategy),
        logme=done.foretold and round(done.foretold[0], 5),
        h_score=done.foretold and round(done.foretold[1], 5),
    )


def _would_change(found: Findings, standing: "race.Standing | None", chosen: str | None) -> list[str]:
    made = []
    if beyond := [each.encoder for each in found.left_out if each.why.startswith("the budget")]:
        made.append(f"a larger --budget tries {', '.join(beyond)}")
    if standing and not chosen and standing.more_products and "budget" in found.stopped:
        made.append(f"a larger --budget asks more of the {found.catalog.asked:,} products with two photos or more")
    if standing and chosen and chosen != standing.leader:
        made.append(
            f"with a --margin below {found.margin:g}, {standing.leader} may be chosen: it has the highest figure"
        )
    if licences := [each.encoder for each in found.left_out if "licence" in each.why]:
        made.append(f"--non-commercial-too tries {', '.join(licences)}")
    return made


def _price_and_margin(found: Findings, picked: "answer.Option | None", options: "list[answer.Option]") -> list[str]:
    """The margin at which a cheaper option might have stayed, by the look at which it left, since another look's
    figures are of other queries; and the cost at which a dearer one would be taken."""
    if picked is None or not (ours := found.price(picked.encoder)):
        return []
    made = []
    cheaper = [each for each in options if each.name in found.worse and 0 < found.price(each.encoder) < ours]
    if cheaper:
        best = min(cheaper, key=lambda each: found.worse[each.name].by)
        gap, share = max(found.worse[best.name].by, found.margin), found.price(best.encoder) / ours
        made.append(f"with a --margin above {gap:.3f}, {best.name} may do, at {share:.0%} of the cost")
    as_good = [each for each in options if each.verdict == "as good" and each.encoder != picked.encoder]
    if as_good:
        dear = min(as_good, key=lambda each: found.price(each.encoder))
        share = found.price(dear.encoder) / ours
        made.append(f"{dear.name} is as good and costs {share:.2f} times as much: it would be taken if it cost less")
    return made


def rows(found: "answer.Advice", run: "runs.Run") -> list[dict[str, Any]]:
    """Those of the table ``advice``."""
    short = found.shorter
    about = {
        **{"run_id": run.run_id, "dataset": found.dataset, "catalog_version": run.catalog_version or ""},
        **{"use": found.use, "advised_at": lake.now(), "metric": found.metric, "currency": found.currency},
    }
    measured = [
        about
        | {name: value for name, value in asdict(each).items() if name not in ("curve", "use", "tuning")}
        | asdict(each.use)
        | (asdict(each.tuning) if each.tuning else {})
        | ({"codec": short.codec, "codec_bytes": short.bytes} if short and each.verdict == "chosen" else {})
        for each in found.options
    ]
    left = [about | asdict(each) | {"verdict": "left out"} for each in found.left_out]
    return measured + left
