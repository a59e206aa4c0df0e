"""How each encoder's queries ended when it was evaluated last: which of them its nearest photo answered wrong."""

from dataclasses import dataclass, field

from evaluation.browse.table_cache import TableVersions
from evaluation.metrics_table import ALL_QUERIES, Evaluation, newest
from evaluation.task import ALL
from vitrine import lake
from vitrine.lake import matches, quote
from vitrine.settings import Settings

FIGURES = ("mR@1", "mMP@5")


@dataclass(frozen=True)
class Outcomes:
    """Of each encoder version that was evaluated, by one protocol: what a page can pick queries from."""

    relevant: str
    """The label that a neighbour has to share with the query to be right."""
    index_split: str = ""
    """What was searched; empty for all."""
    right: dict[str, dict[str, bool]] = field(default_factory=dict)
    """By encoder version and query: is the nearest photo relevant? Queries with nothing to be found are left out."""
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """By encoder version: some of ``metrics``, by name."""

    def wrong(self, encoder_version: str) -> set[str]:
        """The queries whose nearest photo is wrong."""
        return {query for query, right in self.right.get(encoder_version, {}).items() if not right}

    def differing(self, versions: list[str]) -> set[str]:
        """The queries that some of ``versions`` answer right and some wrong, of those that all were asked."""
        asked = [self.right[version] for version in versions if version in self.right]
        common = set(asked[0]).intersection(*asked[1:]) if len(asked) > 1 else set()
        return {query for query in common if len({right[query] for right in asked}) == 2}


def read_outcomes(settings: Settings, at: TableVersions, dataset: str) -> Outcomes:
    """The outcomes of ``dataset`` by the protocol that was evaluated last, one by product before one by category."""
    named = ", ".join(map(quote, FIGURES))
    where = f"{matches(dataset=dataset, classifier='', slice=ALL_QUERIES)} AND metric IN ({named})"
    evaluations = newest(settings, where, at)
    if not evaluations:
        return Outcomes(settings.nightly.relevant)
    first = next((each for each in evaluations if each.relevant == "product_id"), evaluations[0])
    by_version = {each.encoded.encoder_version: each for each in evaluations if each.protocol == first.protocol}
    return Outcomes(
        first.relevant,
        "" if first.index_split == ALL else first.index_split,
        {version: _right(settings, at, each) for version, each in by_version.items()},
        {version: each.scores[ALL_QUERIES].values for version, each in by_version.items()},
    )


def _right(settings: Settings, at: TableVersions, evaluation: Evaluation) -> dict[str, bool]:
    """Of each query that has something to be found: is its nearest photo relevant?"""
    right = lake.query(
        settings,
        "SELECT query_id, coalesce(relevance[1], false) AS is_right FROM query_results "
        f"WHERE {evaluation.results} AND n_relevant > 0",
        at,
    )
    if not right.num_rows:
        return {}
    return dict(zip(right.column("query_id").to_pylist(), right.column("is_right").to_pylist(), strict=True))
