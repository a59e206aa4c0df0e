"""The gate on a training set: may a tuning learn from it?"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from evaluation.gates.data_docs import EXAMPLES, Decision, Rule, rule, validate
from vitrine import lake
from vitrine.names import split_joined
from vitrine.runs import GateFigures
from vitrine.setting_sections import GateSettings
from vitrine.settings import Settings
from vitrine.tables import CATALOG
from vitrine.vectors import lengths

PARTS = ("train", "validation")
SEEN = ("once", "in both parts", "in another split")
UNLABELLED, LACKING = -1, -2
"""In place of a label: of a split that is learned from without any, as ``training.training_set`` has it, and where one
lacks."""
_SHORT = {pa.string(): pd.ArrowDtype(pa.string())}
"""An object of Python's for each id would take five times its bytes."""


class WrittenSet(Protocol):
    """What is asked of a ``training.training_set.TrainingSet``, whose docstrings say what each is."""

    @property
    def folder(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def encoder(self) -> str | None: ...
    @property
    def classes(self) -> list[str]: ...
    @property
    def train(self) -> int: ...
    @property
    def validation(self) -> int: ...
    @property
    def without_features(self) -> int: ...
    @property
    def unlabelled(self) -> list[str]: ...


def gate_training_set(settings: Settings, written: WrittenSet, run_id: str | None = None) -> GateFigures:
    """Judge what is written in ``written.folder``: its labels, its vectors, and that no picture is seen twice."""
    frame = _frame(settings, written)
    asked: list[Rule | Decision] = [
        *_rules(settings.gates, written, "norm" in frame),
        *_shares(settings.gates, written, frame),
    ]
    return validate(settings, "training_set", f"{written.dataset} {written.encoder or 'photos'}", asked, run_id, frame)


def _rules(gates: GateSettings, written: WrittenSet, vectors: bool) -> list[Rule]:
    """Of each row, and how many there are."""
    photos, classes, tolerance = written.train + written.validation, len(written.classes), gates.norm_tolerance
    numbers, numbered = list(range(classes)), f"every label is one of its {classes} classes"
    if written.unlabelled:
        numbers.append(UNLABELLED)
        numbered += f", or none, as in {' and '.join(written.unlabelled)}"

    def among(text: str, column: str, values: list[Any]) -> Rule:
        return rule("ExpectColumnValuesToBeInSet", text, column=column, value_set=values)

    asked = [
        rule("ExpectTableRowCountToEqual", f"all its {photos} photos are there", value=photos),
        rule("ExpectColumnDistinctValuesToContainSet", "both parts have photos", column="part", value_set=[*PARTS]),
        rule("ExpectColumnValuesToBeUnique", "each photo is there once", column="image_id"),
        among(numbered, "label", numbers),
        among("no picture is in both parts, nor in a split that is measured on", "seen", ["once"]),
    ]
    if vectors:
        # Joined encoders have a vector of unit length each.
        norm = len(split_joined(written.encoder or "")) ** 0.5
        text = f"every vector's norm is {norm:g} ± {tolerance:g}"
        bounds: dict[str, Any] = {"min_value": norm - tolerance, "max_value": norm + tolerance}
        asked.append(rule("ExpectColumnValuesToBeBetween", text, column="norm", **bounds))
    return asked


def _shares(gates: GateSettings, written: WrittenSet, frame: pd.DataFrame) -> list[Decision]:
    """Of what the set as a whole lacks."""
    labels = frame.loc[frame["part"] == "train", "label"]
    sizes = labels.value_counts().reindex(range(len(written.classes)), fill_value=0)
    small = (sizes < gates.min_class_photos).to_numpy()
    photos = written.train + written.validation + written.without_features

    def at_most(share: float, most: float, text: str, examples: list[str]) -> Decision:
        figures: dict[str, Any] = {"value": share, "limit": most} | ({"examples": examples} if examples else {})
        return Decision(f"at most {most:.0%} {text}", share <= most, figures)

    few = f"of the classes have fewer than {gates.min_class_photos} photos to learn from"
    examples = [written.classes[at] for at in np.flatnonzero(small)[:EXAMPLES]]
    lacking = "of the photos lack their label or what is learned from"
    return [
        at_most(float(small.mean()), gates.max_small_classes, few, examples),
        at_most(written.without_features / max(1, photos), gates.max_without_features, lacking, []),
    ]


def _frame(settings: Settings, written: WrittenSet) -> pd.DataFrame:
    """A row a photo, without its vector: ``image_id``, ``label``, ``part``, ``seen``, and ``norm`` where there are
    vectors (-1 where one is not finite)."""
    read = [_read(Path(written.folder) / part) for part in PARTS]
    frame = pd.concat(read, ignore_index=True)
    sides = np.repeat(np.arange(len(PARTS), dtype=np.int8), [len(part) for part in read])
    frame["part"] = pd.Categorical.from_codes(sides, pd.Index(PARTS))
    frame["label"] = frame["label"].fillna(LACKING).astype(int)  # what is null is in no set of values, GX passes it
    content, measured = _contents(settings, written, frame["image_id"])
    both = (frame["part"] == "validation") & np.isin(content, content[frame["part"] == "train"])
    seen = np.select([measured, both & (content >= 0)], [2, 1], 0)  # places in SEEN
    frame["seen"] = pd.Categorical.from_codes(seen.astype(np.int8), pd.Index(SEEN))
    return frame


def _contents(settings: Settings, written: WrittenSet, ids: pd.Series) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of each id a number for the photo's content, -1 where no split that is learned from has it, and whether a split
    that is measured on has that content too, or the photo itself. Memory holds the photos of the former alone."""
    learned = ", ".join(map(lake.quote, (*PARTS, "val", *written.unlabelled)))
    here = f"{lake.matches(dataset=written.dataset)} AND coalesce(split, '')"
    measured_on = f"FROM {CATALOG.name} WHERE {here} NOT IN ({learned})"
    sql = (
        f"SELECT image_id, content_sha256, other IS NOT NULL AS measured "
        f"FROM (SELECT DISTINCT content_sha256 AS other {measured_on}) RIGHT JOIN "
        f"(SELECT image_id, content_sha256 FROM {CATALOG.name} WHERE {here} IN ({learned})) ON content_sha256 = other"
    )
    known = lake.columns(settings, sql, encoded=("content_sha256",))
    asked = pa.array(ids, pa.string())
    places = pc.index_in(asked, value_set=known["image_id"].combine_chunks())
    at = places.fill_null(-1).to_numpy()
    codes = known["content_sha256"].combine_chunks().indices.to_numpy()
    # One more: of an id that is not there, -1 is the last.
    content = np.append(codes, -1)[at]
    measured = np.append(known["measured"].to_numpy(), False)[at]
    if places.null_count:  # they changed sides since, or left
        strangers = asked.filter(places.is_null())
        for batch in lake.stream(settings, f"SELECT image_id {measured_on}"):
            moved = batch.column("image_id").filter(pc.is_in(batch.column("image_id"), value_set=strangers))
            measured |= pc.is_in(asked, value_set=moved).to_numpy(zero_copy_only=False)
    return content, measured


def _read(folder: Path) -> pd.DataFrame:
    """Vectors pass in batches: memory holds ids and numbers."""
    frames = []
    for batch in ds.dataset(folder, format="parquet").to_batches():
        columns: dict[str, Any] = {"image_id": batch.column("image_id").to_pandas(types_mapper=_SHORT.get)}
        columns["label"] = batch.column("label").to_pandas()
        if "embedding" in batch.schema.names:
            columns["norm"] = _norms(batch.column("embedding"))
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"image_id": [], "label": []})


def _norms(vectors: pa.ListArray) -> NDArray[np.float64]:
    values = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    counts = lengths(vectors)
    rows = np.repeat(np.arange(len(counts)), counts)
    norms = np.sqrt(np.bincount(rows, weights=values * values, minlength=len(counts)))
    return np.where(np.isfinite(norms), norms, -1.0)
