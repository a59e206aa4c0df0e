"""How short each encoder's vectors may be: bytes against quality, as ``vitrine compress`` measured it last."""

from dataclasses import dataclass

from evaluation.compression.codec_rows import BYTES, IN_FULL, change_of, read_rows
from evaluation.metrics_table import Evaluation, Scores
from evaluation.report.figures import HEADLINE, UNKNOWN, Figure, Row
from evaluation.statistics.recommendation import pareto_front
from vitrine import facts
from vitrine.settings import Settings

MOST = 8  # encoders


@dataclass(frozen=True)
class CodecFigure:
    """A codec, or the vectors in full."""

    name: str
    bytes: int
    """Of a vector."""
    figure: Figure
    """Of the headline metric."""
    change: Figure | None
    """To the vectors in full, by the same queries; None of these, and where the gate has another metric."""
    on_front: bool
    """Does no other find as much with as few bytes?"""


@dataclass(frozen=True)
class Compressed:
    """An encoder's vectors by every codec that was tried, by one protocol."""

    evaluation: Evaluation
    family: str
    older_catalog: bool
    codecs: list[CodecFigure]
    """The most bytes first."""

    @property
    def encoder(self) -> str:
        return self.evaluation.encoded.encoder

    @property
    def front(self) -> list[CodecFigure]:
        return [each for each in self.codecs if each.on_front]

    @property
    def others(self) -> list[CodecFigure]:
        return [each for each in self.codecs if not each.on_front]

    @property
    def index_size(self) -> int:
        return self.evaluation.scores[IN_FULL].index_size


def compressed(settings: Settings, dataset: str, known: dict[str, Row]) -> list[Compressed]:
    """Of each encoder and protocol the newest version that was compressed, the last one first, ``MOST`` of them.

    ``known`` is what ``figures.registered`` returns.
    """
    chosen: dict[tuple[str, ...], Evaluation] = {}
    for each in read_rows(settings, dataset):
        if IN_FULL in each.scores:
            chosen.setdefault((each.encoded.encoder, *each.protocol), each)
    newest = list(chosen.values())[:MOST]
    now = {label: facts.catalog_version(settings, dataset, label) for label in {each.relevant for each in newest}}
    return [
        Compressed(
            each,
            known.get(each.encoded.encoder_version, UNKNOWN)["family"],
            each.catalog_version != now[each.relevant],
            _codecs(each.scores),
        )
        for each in newest
    ]


def _codecs(scores: dict[str, Scores]) -> list[CodecFigure]:
    sizes = {name: int(one.values[BYTES]) for name, one in scores.items()}
    front = pareto_front({name: (float(sizes[name]), one.values[HEADLINE]) for name, one in scores.items()})
    change = change_of(HEADLINE)
    return [
        CodecFigure(
            name,
            sizes[name],
            Figure.of(scores[name], HEADLINE),
            Figure.of(scores[name], change) if change in scores[name].values else None,
            name in front,
        )
        for name in sorted(scores, key=lambda name: (-sizes[name], name))
    ]
