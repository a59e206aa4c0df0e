"""How each encoder's queries ended when it was evaluated last: which of them its nearest photo answered wrong."""

from dataclasses import dataclass, field

from evaluation.browse.table_cache import Versions
from evaluation.task import ALL
from vitrine import lake
from vitrine.lake import quote
from vitrine.settings import Settings

FIGURES = ("mR@1", "mMP@5")


@dataclass(frozen=True)
class Outcomes:
    """Of each encoder version that was evaluated, by one protocol: what a page can pick queries from."""

    relevant: str
    """``product_id`` or ``category``: what a neighbour has to share with the query to be right."""
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


def read_outcomes(settings: Settings, at: Versions, dataset: str) -> Outcomes:
    """The outcomes of ``dataset`` by the protocol that was evaluated last, one by product before one by category."""
    named = ", ".join(map(quote, FIGURES))
    key = "encoder_version, catalog_version, query_split, index_split, relevant"
    sql = (
        f"SELECT {key}, metric, value FROM metrics WHERE dataset = {quote(dataset)} AND classifier = '' "
        f"AND slice = 'all' AND metric IN ({named}) ORDER BY computed_at DESC, {key}"
    )
    rows = lake.query(settings, sql, at).to_pylist()
    if not rows:
        return Outcomes(settings.nightly.relevant)
    first = next((row for row in rows if row["relevant"] == "product_id"), rows[0])
    protocol = {name: first[name] for name in ("query_split", "index_split", "relevant")}
    newest: dict[str, str] = {}  # catalog version by encoder version
    figures: dict[str, dict[str, float]] = {}
    for row in rows:
        if all(row[name] == value for name, value in protocol.items()):
            version = row["encoder_version"]
            if newest.setdefault(version, row["catalog_version"]) == row["catalog_version"]:
                figures.setdefault(version, {}).setdefault(row["metric"], row["value"])
    right = {
        version: _right(
            settings,
            at,
            {"dataset": dataset, "encoder_version": version, "catalog_version": catalog_version, **protocol},
        )
        for version, catalog_version in newest.items()
    }
    searched = "" if protocol["index_split"] == ALL else protocol["index_split"]
    return Outcomes(protocol["relevant"], searched, right, figures)


def _right(settings: Settings, at: Versions, key: dict[str, str]) -> dict[str, bool]:
    where = " AND ".join(f"{name} = {quote(value)}" for name, value in key.items())
    sql = (
        f"SELECT query_id, coalesce(relevance[1], false) AS correct FROM query_results WHERE {where} AND n_relevant > 0"
    )
    found = lake.query(settings, sql, at)
    if not found.num_rows:
        return {}
    return dict(zip(found.column("query_id").to_pylist(), found.column("correct").to_pylist(), strict=True))
