"""The work of ``vitrine advise``: samples embedded, asked and raced, until the race or the budget ends."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from evaluation.advice import answer, confirm, measure, order, page, priors, race, sample, transferability
from spark_jobs import backfill_order, embed_catalog
from training.ladder import decide
from vitrine import facts, lake, runs, tracking
from vitrine.cli import advice_answer, advice_tuning, embed_costs
from vitrine.cli.advice_answer import Findings, Measured, encoder_of
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import backbones, by_name, identity, tuned
from vitrine.errors import UserError
from vitrine.names import JOIN, split_joined
from vitrine.settings import Settings
from vitrine.tables import ADVICE

SIZES = ((150, 1_500), (300, 3_000), (None, 20_000))
"""Products and photos that the samples have at most, one look each; None: all."""
_MARGIN, _MARGIN_OF_COST = 0.01, 0.03
JOINED = 3
"""So many pairs of encoders are asked, their vectors joined."""
_NAME = "advice"


@dataclass(frozen=True)
class Asked:
    """What the caller says beside the data set; None: as it is usual."""

    use: str = "search"
    budget: str | None = None
    encoders: list[str] = field(default_factory=list)
    margin: float | None = None
    non_commercial: bool = False
    tuning: bool = False
    """Is it probed which tuning the best two are worth?"""


def advise(settings: Settings, dataset: str, asked: Asked) -> "answer.Advice":
    """Measure encoders on samples of ``dataset`` until it is decided which to use, or the budget is spent.

    Raises:
        UserError: nothing can be told of the data set, or of its tuning, where that is asked; a budget that is none, an
            encoder that cannot be had.
    """
    prices = settings.prices
    budget = decide.Budget.parse(asked.budget, prices.currency, bool(prices.core_hour or prices.gpu_hour))
    facts.check_dataset(settings, dataset)
    catalog = sample.catalog(settings, dataset, asked.use)
    if asked.tuning:
        advice_tuning.check(settings, catalog)
    with runs.record(settings, "advise", dataset) as run:
        run.catalog_version = facts.catalog_version(settings, dataset)
        work = Work(settings, catalog, asked, budget)
        found = work.advice()
        run.encoder = found.encoder
        path = settings.reports / f"advice_{dataset}.html"
        found = replace(found, page=str(path))
        run.figures |= asdict(found)
        page.draw(found, path, advice_answer.galleries(work.findings(), found))
        lake.append(settings, ADVICE, advice_answer.rows(found, run))
    tracking.to_mlflow(settings, run, tracking.Details(files=[path]))
    return found


class Work:
    """One advice: ``run`` is its race, ``advice`` all of it."""

    def __init__(self, settings: Settings, catalog: "sample.Catalog", asked: Asked, budget: "decide.Budget") -> None:
        self.settings, self.catalog, self.asked, self.budget = settings, catalog, asked, budget
        usual = _MARGIN_OF_COST if asked.use == sample.COST else _MARGIN
        self.margin = usual if asked.margin is None else asked.margin
        self.started, self.embedding = time.monotonic(), embed_costs.Spent()
        self.left_out: list[answer.LeftOut] = []
        self.backbones = {each.name: each for each in self._candidates()}
        self.costs = embed_costs.Costs(settings, catalog.dataset)
        self.own_catalogs = priors.own_catalogs(settings, catalog.dataset)
        self.measured: dict[str, Measured] = {}  # by encoder, or several joined
        self.worse: dict[str, race.Behind] = {}
        self.common: dict[str, race.Floats] = {}
        self.spaces: dict[tuple[str, str], list[measure.Space]] = {}
        self.looks, self.stopped = 0, ""
        self.asking = 0.0  # seconds of a photo and a network, once it has its vector

    def advice(self) -> "answer.Advice":
        """The answer, once the race, and what is probed after it, or the budget has ended."""
        standing = self.run()
        raced = advice_answer.answer_of(self.findings(), standing)
        if not self.asked.tuning:
            return raced
        within = self._within if self.asked.budget else advice_tuning.usual_bound(self.settings)
        probed = advice_tuning.probe(self.findings(), raced, within)
        spent = self.findings()
        return replace(probed, seconds=round(spent.seconds, 1), money=round(spent.money, 6))

    def run(self) -> "race.Standing | None":
        """Measure until it is decided, or no more can be; how it stands then, None where nothing was measured."""
        standing = None
        for products, photos in SIZES:
            drawn = self.draw(products, photos)
            if self.looks and not self._ask_again(drawn, standing):
                break
            if not self.looks:
                self._ask_first(drawn)
                self._ask_joined(drawn)
            if not self.measured:
                break
            self.looks += 1
            standing = self._judge(drawn)
            self.worse |= standing.left
            if standing.chosen or drawn.whole:
                break
        return standing

    def draw(self, products: int | None, photos: int) -> "sample.Sample":
        return sample.draw(self.settings, self.catalog, products, photos)

    # ---- candidates ----

    def _candidates(self) -> "Iterator[backbones.Backbone]":
        """Those that may be tried; the others are left out, each with its reason.

        Raises:
            UserError: one that the caller names is no network, or none is left.
        """
        allowed = self.asked.non_commercial or self.settings.licences.allow_non_commercial
        any_left = False
        for name in dict.fromkeys(self.asked.encoders) or backbones.names(self.settings):
            if head := by_name.find_head(self.settings, name) if self.asked.encoders else None:
                raise UserError(
                    f"encoder {name!r} is a head on {head.base!r}: advice tries networks, so name {head.base!r}"
                )
            backbone = backbones.resolve(self.settings, name)
            if self.catalog.dataset in tuned.learned_from(self.settings, name):
                why = "it learned from photos of this data set, so what it answers here would flatter it"
            elif backbones.forbids_commerce(backbone.licence) and not allowed:
                why = f"the licence, {backbone.licence}, forbids commercial use (--non-commercial-too tries it)"
            elif not self.asked.encoders and not identity.can_be_had_here(self.settings, backbone):
                why = "no weights on this machine (--encoder fetches them from their hub)"
            else:
                any_left = True
                yield backbone
                continue
            self.left_out.append(answer.LeftOut(name, why))
        if not any_left:
            listed = "; ".join(f"{each.encoder}: {each.why}" for each in self.left_out)
            raise UserError(f"no encoder is left to try: {listed}")

    def _ordered(self, drawn: "sample.Sample") -> "list[priors.Candidate]":
        takes = [max(1.0, self.takes(name, drawn)) for name in self.backbones]
        return priors.candidates(list(self.backbones.values()), takes, self.own_catalogs)

    # ---- asking ----

    def _ask_first(self, drawn: "sample.Sample") -> None:
        """The first sample: in the order of the policy, as far as the budget goes."""
        while self.backbones:
            candidates = self._ordered(drawn)
            known = {name: _best(each, drawn) for name, each in self.measured.items()}
            best = order.next_to_measure(candidates, known, margin=self.margin)
            if best is None:
                break
            takes = self.takes(best.name, drawn)
            if self._within(takes):
                self._try(best.name, drawn)
                continue
            self.stopped = self.stopped or (
                f"the budget of {self.asked.budget} has {max(0.0, self._seconds_left()):.0f} s left, and {best.name} "
                f"on {len(drawn.ids):,} photos takes about {takes:.0f} s"
            )
            why = f"the budget: about {takes:.0f} s" if takes >= 1 else "the budget had ended"
            self.left_out.append(answer.LeftOut(best.name, why))
            del self.backbones[best.name]
        for name in self.backbones.keys() - self.measured.keys():
            why = "by public figures and what was measured not going to be the best here"
            self.left_out.append(answer.LeftOut(name, why))

    def _ask_joined(self, drawn: "sample.Sample") -> None:
        """The best encoder and others, joined: their vectors are there, and a matrix on both takes seconds.

        Without a matrix they are no encoder.
        """
        heads = {name for name, done in self.measured.items() if answer.LINEAR in done.answers}
        figures = {name: _best(self.measured[name], drawn).value for name in heads}
        for name in self.pairs(figures):
            if self._within(takes := self.takes(name, drawn)):
                self.ask(name, drawn)
            else:
                self.left_out.append(answer.LeftOut(name, f"the budget: about {takes:.0f} s", answer.LINEAR))

    def pairs(self, figures: dict[str, float]) -> list[str]:
        return order.pairs(figures, {name: self.backbones[name].spelled for name in figures}, JOINED)

    def _try(self, name: str, drawn: "sample.Sample") -> None:
        """Ask; one that nobody named and that cannot be had is left out.

        Raises:
            UserError: one that the caller named cannot be had.
        """
        try:
            self.ask(name, drawn)
        except UserError as error:
            if self.asked.encoders:
                raise
            self.left_out.append(answer.LeftOut(name, str(error)))
            del self.backbones[name]

    def _ask_again(self, drawn: "sample.Sample", standing: "race.Standing | None") -> bool:
        """A larger sample, of those that are still in; False where the budget does not allow it, or it is no larger."""
        names = dict.fromkeys(encoder_of(each) for each in standing.remaining) if standing else {}
        if any(len(drawn.ids) <= len(self.measured[name].asked.ids) for name in names):
            self.stopped = "all that is measured at once was asked"
            return False
        parts = dict.fromkeys(part for name in names for part in split_joined(name))
        takes = sum(self._embedding(part, drawn) for part in parts) + sum(self._asking(name, drawn) for name in names)
        if not self._within(takes):
            self.stopped = (
                f"the budget of {self.asked.budget} has {max(0.0, self._seconds_left()):.0f} s left, and "
                f"{drawn.product_count:,} products take about {takes:.0f} s"
            )
            return False
        for name in names:
            self.ask(name, drawn)
        return True

    def ask(self, name: str, drawn: "sample.Sample") -> None:
        encoded = EncodedSet(self.catalog.dataset, name, by_name.joined_version(self.settings, name))
        for part in encoded.parts:
            if sample.missing(self.settings, part, drawn):
                self._embed(part, drawn)
        rows = sample.vectors(self.settings, encoded, drawn)
        if not rows.size:
            raise UserError(f"encoder {name!r} could embed none of the {len(drawn.ids)} photos of the sample")
        started, questions = time.monotonic(), measure.Questions(self.catalog, drawn)
        joined = len(encoded.parts) > 1
        answers = advice_answer.asked(questions, rows, joined)
        foretold = None if joined else transferability.scores(rows, drawn.labels)
        self.measured[name] = Measured(encoded, answers, questions, rows.shape[1], foretold)
        self.asking = (time.monotonic() - started) / len(drawn.ids) / len(encoded.parts)
        shown = ", ".join(f"{strategy} {np.nanmean(each.values):.4f}" for strategy, each in answers.items())
        print(f"{name} on {len(drawn.ids):,} photos: {shown}", file=sys.stderr, flush=True)

    def _embed(self, encoded: EncodedSet, drawn: "sample.Sample") -> None:
        with runs.record(self.settings, "embed", encoded.dataset, encoded.encoder) as run:
            run.encoder_version = encoded.encoder_version
            run.figures |= {"backfill": _NAME, "embedded": 0, "computed": 0}
            first = backfill_order.HashedProducts(drawn.limit)
            done = embed_catalog.embed(self.settings, encoded.encoder, encoded.dataset, first=first)
            run.figures |= done | {"pass_seconds": done.get("seconds", 0.0)}
            run.note_rate()
            run.figures["left"] = facts.missing(self.settings, encoded)
        self.embedding = self.embedding.and_of(run.figures)

    # ---- the budget ----

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self.started

    def takes(self, name: str, drawn: "sample.Sample") -> float:
        """Seconds of embedding what the encoder lacks of the sample, and of asking it as the last one was asked."""
        return sum(self._embedding(part, drawn) for part in split_joined(name)) + self._asking(name, drawn)

    def _asking(self, name: str, drawn: "sample.Sample") -> float:
        return self.asking * len(drawn.ids) * len(split_joined(name))

    def _embedding(self, name: str, drawn: "sample.Sample") -> float:
        backbone, lacks = self.backbones[name], len(drawn.ids)
        if known := identity.find(self.settings, backbone):
            encoded = EncodedSet(self.catalog.dataset, name, known.encoder_version)
            lacks = sample.missing(self.settings, encoded, drawn)
        return self.costs.sample_seconds(backbone, lacks, started=self.embedding.passes > 0)

    def _within(self, more: float) -> bool:
        seconds = self._seconds + more
        return self.budget.allows(seconds, self.embedding.money_of(self.settings, seconds))

    def _seconds_left(self) -> float:
        if self.budget.seconds is not None:
            return self.budget.seconds - self._seconds
        hourly = self.embedding.money_of(self.settings, 3600.0)
        spent = self.embedding.money_of(self.settings, self._seconds)
        return ((self.budget.money or 0.0) - spent) / hourly * 3600 if hourly else 0.0

    # ---- the race and the answer ----

    def _judge(self, drawn: "sample.Sample") -> "race.Standing":
        """By the queries of products that are not set aside."""
        growth, findings = advice_answer.doublings(self.catalog, drawn), self.findings()
        still_in = [
            (name, strategy, each)
            for name, done in self.measured.items()
            for strategy, each in done.answers.items()
            if answer.option_name(name, strategy) not in self.worse and done.asked is drawn
        ]
        self.common[drawn.limit] = np.mean([each.moved(growth) for _, _, each in still_in], axis=0)
        asks = ~confirm.set_aside(self.catalog, drawn)
        contenders = []
        for name, strategy, each in still_in:
            moved = each.moved(growth)[asks]
            by = float(np.nanmean(moved - each.values[asks]))
            contenders.append(race.Contender(answer.option_name(name, strategy), moved, findings.price(name), by))
        started = 2 * (len(self.backbones) + sum("budget" in each.why for each in self.left_out))
        started += sum(JOIN in name for name in self.measured)
        of = self.catalog.asking
        standing = race.judge(contenders, drawn.products[asks], self.looks, started, self.margin, of)
        # One product in so many is set aside of those to come, too.
        more = standing.more_products and math.ceil(standing.more_products * (1 + (~asks).sum() / max(1, asks.sum())))
        return replace(standing, more_products=more)

    def findings(self) -> Findings:
        return Findings(
            settings=self.settings,
            catalog=self.catalog,
            use=self.asked.use,
            margin=self.margin,
            measured=self.measured,
            worse=self.worse,
            common=self.common,
            spaces=self.spaces,
            left_out=self.left_out,
            candidates=priors.candidates(list(self.backbones.values()), [1.0] * len(self.backbones), self.own_catalogs),
            costs=self.costs,
            looks=self.looks,
            stopped=self.stopped,
            seconds=self._seconds,
            money=self.embedding.money_of(self.settings, self._seconds),
        )


def _best(done: Measured, drawn: "sample.Sample") -> "order.Measured":
    """The better strategy's figure, as the order of measuring takes it."""
    aside = done.questions.aside
    means = [race.clustered_mean(each.values[~aside], drawn.products[~aside], 1.0) for each in done.answers.values()]
    best = max(means, key=lambda mean: mean.value)
    return order.Measured(best.value, best.error**2)
