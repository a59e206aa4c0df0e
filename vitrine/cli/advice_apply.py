"""``vitrine advise --apply``: the advised encoder through its gates, and then into ``[nightly]``, as nights want it.

First the backfill, as any other: what the encoder misses, the gate on its vectors, figures beside those of what serves,
the gates on them. Then vitrine.toml, in one rename: an encoder that a gate refuses never comes before a night. The next
night promotes it. Killed anywhere, the same command goes on; once all is done, it changes nothing.
"""

from dataclasses import dataclass
from typing import Any

from evaluation.advice import answer
from spark_jobs import backfill
from vitrine.cli import nightly_file, tuning
from vitrine.cli.choices import encoded_set
from vitrine.cli.tuning import Strategy
from vitrine.cli.verbs.backfill import backfill_one
from vitrine.cli.verbs.embed import embed_named
from vitrine.cli.verbs.evaluate import ask_gates, evaluate_beside
from vitrine.cli.verbs.gate import ask
from vitrine.encoded_set import EncodedSet
from vitrine.errors import Undecided, UserError
from vitrine.names import split_joined
from vitrine.settings import Settings

_NAME = "advice"


@dataclass(frozen=True)
class Applied:
    """What ``--apply`` did."""

    encoder: str
    """That nights promote: the advised network, or the head that was tuned on it."""
    config: str
    changed: bool
    """Was vitrine.toml written?"""
    embedded: int
    datasets: list[str]
    """All that nights bring the encoder to."""

    def lines(self) -> list[str]:
        """What was done, in sentences."""
        others = self.datasets[1:]
        too = f" Nights bring it to {', '.join(others)}, too." if others else ""
        if not self.changed:
            return [f"{self.config} names {self.encoder} first already: it stays as it is.{too}"]
        return [
            f"{self.encoder} now comes first in [nightly] of {self.config}: its gates passed, {self.embedded:,} photos "
            f"were embedded, and the next night promotes it.{too}"
        ]


def check(settings: Settings, dataset: str, non_commercial: bool) -> None:
    """Could any answer be applied?

    Raises:
        UserError: not to this data set, or not by these settings.
    """
    nightly_file.check(settings, dataset)
    if non_commercial and not settings.licences.allow_non_commercial:
        raise UserError(
            "--non-commercial-too with --apply: what forbids commercial use may not serve; leave one of them out, or "
            "set allow_non_commercial under [licences]"
        )


def apply(settings: Settings, found: "answer.Advice") -> Applied:
    """Bring the advised encoder to the catalog, through its gates, and have nights promote it.

    Raises:
        Undecided: there is no answer to apply; nothing is written.
        GateRefused: a gate refuses; vitrine.toml stays as it is.
        UserError: as ``check``, or what is advised has nothing to learn from, or cannot be tuned.
    """
    if not found.encoder:
        raise Undecided(
            f"undecided for {found.dataset}: {found.why}; nothing was applied, and nights go on as they are"
        )
    if found.strategy != answer.PRETRAINED and not found.learnable:
        raise UserError(
            f"{found.chosen.name if found.chosen else found.encoder} learns from the split 'train', and data set "
            f"{found.dataset!r} has none: ingest it with one; nothing was applied, and nights go on as they are"
        )
    path, dataset, name = nightly_file.check(settings, found.dataset), found.dataset, found.encoder
    whole = backfill.Budget(None, None)
    # A tuned network has vectors of its own; the gate on metrics compares it with what it was made of.
    done = [
        backfill_one(settings, part, dataset, _NAME, None, None, None, whole) for part in split_joined(found.encoder)
    ]
    if found.strategy and found.strategy != answer.PRETRAINED:
        name = _tuned(settings, Strategy(found.strategy), found)
    embedded = embed_named(settings, [name], dataset)[0]
    ask(settings, "embeddings", dataset, EncodedSet.of(embedded))
    encoded = encoded_set(settings, name, dataset)
    evaluate_beside(settings, encoded, (None, None, settings.nightly.relevant))
    ask_gates(settings, encoded)
    changed = nightly_file.put_first(path, name)
    others = [each.name for each in settings.nightly.datasets if each.name != dataset]
    return Applied(name, str(path), changed, sum(map(_count, [*done, embedded])), [dataset, *others])


def _count(figures: dict[str, Any]) -> int:
    return int(figures.get("embedded", 0))


def _tuned(settings: Settings, strategy: Strategy, found: "answer.Advice") -> str:
    """The name of what ``vitrine tune`` makes, or has made, of the encoder."""
    tunings = tuning.plan(settings, strategy, [found.dataset], [found.encoder or ""])
    for pair in tuning.with_rows(settings, tunings, found.label, None):
        tuning.tune(settings, *pair)
    return tunings[0].name
