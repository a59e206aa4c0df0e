"""Each codec's figures as rows of ``metrics``, where nobody takes them for the encoder's own.

Their ``classifier`` is ``codec``: an encoder's own figures have none, and whoever reads those asks for none. Their
``slice`` is ``codec=NAME``, one a codec: whoever reads classifiers' figures asks for the slice ``all``, or for one
classifier.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from evaluation.metrics_table import Evaluation, Interval, Scores, newest, write_scores
from evaluation.retrieval.slices import value_slice
from evaluation.statistics.bootstrap import SEED, PairedDifference
from evaluation.task import Task
from vitrine import lake
from vitrine.settings import Settings

CODEC = "codec"
IN_FULL = "in full, float32"
"""What vectors without a codec are called, on the same queries."""
BYTES = "bytes"
"""Of a vector, beside the metrics."""


def change_of(metric: str) -> str:
    """The name of a codec's ``metric`` minus that of the vectors in full."""
    return f"change of {metric}"


def codec_scores(name: str, scores: Scores, size: int, change: tuple[str, PairedDifference] | None = None) -> Scores:
    """The figures of a codec by its ``name``: those of ``scores``, the bytes of a vector, and the ``change`` of a
    metric."""
    values, intervals = scores.values | {BYTES: float(size)}, scores.intervals | {BYTES: (None, None)}
    if change:
        metric, by = change
        bounds: Interval = (None, None) if math.isnan(by.low) else (by.low, by.high)
        values, intervals = values | {change_of(metric): by.value}, intervals | {change_of(metric): bounds}
    return replace(scores, slice=value_slice(CODEC, name), values=values, intervals=intervals)


def write_rows(settings: Settings, task: Task, input_version: str, run_id: str, codecs: Iterable[Scores]) -> None:
    """Write ``codec_scores`` of all ``codecs`` that were tried, in one commit, in place of the task's earlier ones."""
    about = {"encoder": task.encoded.encoder, "run_id": run_id, "input_version": input_version}
    write_scores(settings, task.key | {"classifier": CODEC, "seed": SEED}, about, codecs)


def read_rows(settings: Settings, dataset: str) -> list[Evaluation]:
    """The newest figures of codecs that each encoder version has in ``dataset``, by protocol, the last ones first;
    ``scores`` are by the codec's name, that of the vectors in full is ``IN_FULL``."""
    begins = value_slice(CODEC, "")
    return [
        replace(each, scores={name.removeprefix(begins): scores for name, scores in each.scores.items()})
        for each in newest(settings, lake.matches(dataset=dataset, classifier=CODEC))
    ]
