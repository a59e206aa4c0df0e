"""The report's recommendations, by use, in words: each follows from figures that the page shows."""

from typing import Any

from evaluation.pages.text import change, ends, money, score, seconds
from evaluation.report.costs import Cost, deciding
from evaluation.report.figures import HEADLINE, Bounds, Group, Row
from evaluation.report.paired import Paired
from evaluation.statistics.recommendation import Comparison, Option, Recommendation, recommend


def advice(
    group: Group | None, costs: dict[str, Cost], queries: Paired, taggers: list[Row], margin: float
) -> list[Row]:
    """A card a use: ``use``, ``question``, what ``Words.card`` says.

    Args:
        group: the main one of ``figures.groups``; None where nothing is evaluated.
        costs: by encoder version.
        queries: ``paired.paired_queries`` of the group.
        taggers: ``classifiers.taggers``, a group a label.
        margin: how much of the figure the cheapest may give away.
    """
    if group is None:
        return []
    unit = deciding(costs.values())
    labels = {entry.encoder_version: entry.label for entry in group.encoders}
    search = [
        _option(entry.encoder_version, entry.values[HEADLINE], entry.intervals.get(HEADLINE), costs, unit)
        for entry in group.current
        if HEADLINE in entry.values
    ]

    def by_queries(other: Option, best: Option, margin: float, confidence: float) -> Any:
        return queries.difference(other.key, best.key, margin, confidence)

    def card(use: str, question: str, made: Recommendation | None, words: "Words") -> list[Row]:
        return [{"use": use, "question": question, **words.card(made)}] if made else []

    words = Words(HEADLINE, "queries", labels, costs, unit)
    cards = card("Search", "Which encoder finds the most?", recommend(search, by_queries), words)
    for tagger in taggers:
        named = {each["key"]: f"{each['label']} + {each['classifier'].replace('_', ' ')}" for each in tagger["rows"]}
        options = [
            _option(each["key"], each["accuracy"]["value"], each["accuracy"]["bounds"], costs, unit)
            for each in tagger["rows"]
        ]

        def by_photos(
            other: Option, best: Option, margin: float, confidence: float, of: Paired = tagger["paired"]
        ) -> Any:
            return of.difference(tuple(other.key.split("/", 1)), tuple(best.key.split("/", 1)), margin, confidence)

        what = "product" if tagger["relevant"] == "product_id" else "category"
        of_tagger = Words("accuracy", "photos", named, costs, unit)
        question = f"Which encoder and classifier predict the {what} best?"
        cards += card(f"Tagging by {what}", question, recommend(options, by_photos), of_tagger)
    cheap = "Which is the cheapest that is good enough?"
    cards += card("Least cost", cheap, recommend(search, by_queries, margin), words)
    # Encoders that learned nothing from this catalog, where one learned from another.
    sources = {entry.encoder_version: entry.about.get("source_dataset") for entry in group.current}
    elsewhere = [option for option in search if sources[option.key] != group.dataset]
    if any(sources[option.key] for option in elsewhere):
        foreign = "Before anything is tuned here: does what was tuned on another catalog help?"
        cards += card("Another catalog's tuning", foreign, recommend(elsewhere, by_queries), words)
    return cards


def _option(key: str, value: float, bounds: Bounds | None, costs: dict[str, Cost], unit: str) -> Option:
    """``key`` begins with the encoder version; of a classifier, ``/`` and its name follow."""
    cost = costs.get(key.split("/")[0], Cost()).point(unit)
    low, high = bounds or (None, None)
    return Option(key, value, low, high, cost.value if cost else None)


class Words:
    """A recommendation in words: of which figure, over what (``noun``), and what its options are called."""

    def __init__(self, metric: str, noun: str, names: dict[str, str], costs: dict[str, Cost], unit: str) -> None:
        self.metric, self.noun, self.names, self.costs, self.unit = metric, noun, names, costs, unit

    def card(self, made: Recommendation) -> Row:
        """``key`` (the encoder version) and ``name`` of what is recommended, its ``figure`` and ``cost``, whether it is
        ``alone`` or the figures have ``decided``, and why: ``sentences``."""
        return {
            "key": made.chosen.key.split("/")[0],
            "name": self.names[made.chosen.key],
            "figure": f"{self.metric} {self._figure(made.chosen)}",
            "cost": self._cost(made.chosen),
            "alone": not made.comparisons,
            "decided": made.decided,
            "sentences": self._within(made) if made.margin else self._best(made),
        }

    def _figure(self, option: Option) -> str:
        bounds = ends(option.low, option.high)
        return score(option.value) + (f" ({bounds})" if bounds else "")

    def _cost(self, option: Option) -> str:
        if option.cost is None:
            return "an unmeasured cost"
        if self.unit == "seconds":
            return f"{seconds(option.cost)} per 1,000 photos"
        currency = self.costs[option.key.split("/")[0]].currency
        return f"{money(option.cost)} {currency} per 1,000 photos"

    def _together(self, made: Recommendation) -> str:
        """The best and its rivals."""
        names = [self.names[made.best.key], *(self.names[each.option.key] for each in made.rivals)]
        shown = names if len(names) <= 4 else [*names[:4], f"{len(names) - 4} more"]
        return f"{', '.join(shown[:-1])} and {shown[-1]}"

    def _against(self, each: Comparison) -> str:
        """How far an option is from the best."""
        if each.paired is None:
            return f"{self.names[each.option.key]} has {self._figure(each.option)}; their {self.noun} cannot be paired"
        interval = ends(each.paired.low, each.paired.high, signed=True)
        return f"{self.names[each.option.key]} differs by {change(each.paired.value)} ({interval})"

    def _more(self, each: Comparison) -> str:
        if not each.more_queries:
            return f"more {self.noun} like these would not tell them apart"
        return f"about {each.more_queries:,} more {self.noun} would decide"

    def _sure(self, made: Recommendation) -> str:
        together = f" over all {len(made.comparisons)} comparisons together" if len(made.comparisons) > 1 else ""
        return f"with 95 % confidence{together}"

    def _best(self, made: Recommendation) -> list[str]:
        best = self.names[made.best.key]
        if not made.comparisons:
            return [f"{best} is the only one that has been measured: there is nothing to choose from yet."]
        if made.decided:
            nearest = made.comparisons[0]
            others = "the other one is" if len(made.comparisons) == 1 else f"all {len(made.comparisons)} others are"
            return [
                f"{best} has the highest {self.metric}, and {others} worse, {self._sure(made)}.",
                f"The nearest: {self._against(nearest)}.",
            ]
        sentences = [f"These figures do not decide, {self._sure(made)}, between {self._together(made)}."]
        sentences += [
            f"{self._against(each)}; {self._more(each)}." if each.paired else f"{self._against(each)}."
            for each in made.rivals[:3]
        ]
        if made.chosen.key != made.best.key:
            costs = f"{self._cost(made.chosen)} against {self._cost(made.best)}"
            return [*sentences, f"{self.names[made.chosen.key]} is the cheapest of them: {costs}."]
        known = all(each.option.cost is not None for each in made.rivals) and made.best.cost is not None
        why = "costs least of them" if known else "has the highest figure; not all of their costs are known"
        return [*sentences, f"{best} {why}."]

    def _within(self, made: Recommendation) -> list[str]:
        chosen, best = self.names[made.chosen.key], self.names[made.best.key]
        allowed = f"{made.margin:.3f} of {self.metric} below the best"
        if not made.comparisons:
            return [f"{chosen} is the only one that has been measured."]
        if made.chosen.key == made.best.key:
            if made.best.cost is None:
                return [f"What {best} costs has not been measured: there is nothing to compare costs with."]
            costs_known = [each.option.cost for each in made.comparisons if each.option.cost is not None]
            if min(costs_known, default=made.best.cost) >= made.best.cost:
                return [f"{best} has the highest {self.metric}, and none that was measured costs less."]
            return [f"Allowed is {allowed}: every cheaper one is surely below that, so it has to be {best} itself."]
        each = next(each for each in made.comparisons if each.option.key == made.chosen.key)
        costs = f"{self._cost(made.chosen)} against {self._cost(made.best)} of {best}"
        why = [f"{costs}.", f"Allowed is {allowed}: {self._against(each)}."]
        if made.decided:
            return [f"{chosen} is the cheapest that is surely good enough.", *why]
        return [
            f"{chosen} is the cheapest that may be good enough, and these figures do not decide whether it is.",
            *why,
            *([f"For that, {self._more(each)}."] if each.paired else []),
        ]
