"""The gate on a training set: may a tuning learn from it?"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from evaluation.gates.data_docs import GateResult, Rule, rule, validate
from vitrine import lake
from vitrine.setting_sections import GateSettings
from vitrine.settings import Settings

PARTS = ("train", "validation")


class Rows(Protocol):
    """What is asked of ``training.training_set.TrainingSet``, whose docstrings say what each is."""

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


def gate_training_set(settings: Settings, rows: Rows, run_id: str | None = None) -> GateResult:
    """Judge what is written in ``rows.folder``: its labels, its vectors, and that no picture is seen twice."""
    subject = f"{rows.dataset} {rows.encoder or 'photos'}"
    frame = _frame(settings, rows)
    rules = [*_row_rules(settings.gates, rows, "norm" in frame), *_share_rules(settings.gates, rows, frame)]
    return validate(settings, "training_set", subject, frame, rules, run_id)


def _row_rules(gates: GateSettings, rows: Rows, vectors: bool) -> list[Rule]:
    photos, classes, tolerance = rows.train + rows.validation, len(rows.classes), gates.norm_tolerance

    def among(text: str, column: str, values: list[Any]) -> Rule:
        return rule("ExpectColumnValuesToBeInSet", text, column=column, value_set=values)

    asked = [
        rule("ExpectTableRowCountToEqual", f"all its {photos} photos are there", value=photos),
        rule("ExpectColumnDistinctValuesToContainSet", "both parts have photos", column="part", value_set=[*PARTS]),
        rule("ExpectColumnValuesToBeUnique", "each photo is there once", column="image_id"),
        among(f"every label is one of its {classes} classes", "label", list(range(classes))),
        among("no picture is in both parts, nor in a split that is measured on", "seen", ["once"]),
    ]
    if vectors:
        text = f"every vector's norm is 1 ± {tolerance:g}"
        bounds: dict[str, Any] = {"min_value": 1 - tolerance, "max_value": 1 + tolerance}
        asked.append(rule("ExpectColumnValuesToBeBetween", text, column="norm", **bounds))
    return asked


def _share_rules(gates: GateSettings, rows: Rows, frame: pd.DataFrame) -> list[Rule]:
    """Of what the set as a whole lacks; each share becomes a column of ``frame``, of one value."""
    sizes = frame.loc[frame["part"] == "train", "label"].value_counts().reindex(range(len(rows.classes)), fill_value=0)
    small = (sizes < gates.min_class_photos).to_numpy()
    lacking = rows.without_features / max(1, rows.train + rows.validation + rows.without_features)

    def at_most(share: float, most: float, text: str, examples: list[str]) -> Rule:
        frame[text] = share
        figures: dict[str, Any] = {"value": share, "limit": most} | ({"examples": examples} if examples else {})
        return rule("ExpectColumnMaxToBeBetween", text, figures, column=text, max_value=most)

    classes = f"of the classes have fewer than {gates.min_class_photos} photos to learn from"
    photos = "of the photos lack their label or what is learned from"
    examples = [rows.classes[at] for at in np.flatnonzero(small)[:3]]
    return [
        at_most(
            float(small.mean()), gates.max_small_classes, f"at most {gates.max_small_classes:.0%} {classes}", examples
        ),
        at_most(lacking, gates.max_without_features, f"at most {gates.max_without_features:.0%} {photos}", []),
    ]


def _frame(settings: Settings, rows: Rows) -> pd.DataFrame:
    """A row a photo, without its vector: ``image_id``, ``label``, ``part``, ``seen``, and ``norm`` where there are
    vectors (-1 where one is not finite)."""
    parts = [_read(Path(rows.folder) / part).assign(part=part) for part in PARTS]
    frame = pd.concat(parts, ignore_index=True)
    frame["label"] = frame["label"].fillna(-1).astype(int)  # what is null is in no set of values, and GX passes it
    known = lake.query(
        settings,
        f"SELECT image_id, content_sha256, coalesce(split, '') AS split FROM catalog "
        f"WHERE dataset = {lake.quote(rows.dataset)}",
    ).to_pandas()
    content = frame["image_id"].map(known.set_index("image_id")["content_sha256"])
    learned = {*PARTS, "val"}
    measured = set(known.loc[~known["split"].isin(learned), "content_sha256"])
    train = set(content[frame["part"] == "train"].dropna())
    both = (frame["part"] == "validation") & content.isin(train)
    frame["seen"] = np.where(content.isin(measured), "in another split", np.where(both, "in both parts", "once"))
    return frame


def _read(folder: Path) -> pd.DataFrame:
    """Vectors go by in batches: memory holds ids and numbers."""
    found = []
    for batch in ds.dataset(folder, format="parquet").to_batches():
        columns: dict[str, Any] = {name: batch.column(name).to_pandas() for name in ("image_id", "label")}
        if "embedding" in batch.schema.names:
            columns["norm"] = _norms(batch.column("embedding"))
        found.append(pd.DataFrame(columns))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame({"image_id": [], "label": []})


def _norms(vectors: pa.ListArray) -> NDArray[np.float64]:
    values = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    lengths = pc.fill_null(pc.list_value_length(vectors), 0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    norms = np.sqrt(np.bincount(rows, weights=values * values, minlength=len(lengths)))
    return np.where(np.isfinite(norms), norms, -1.0)
