"""The gate on vectors: are they whole, sound, those of the catalog as it is now, and like those of what serves?"""

from typing import Any

from evaluation.gates.data_docs import Decision, Rule, decided, rule, validate
from evaluation.gates.drift import FEWEST, drift_checks, read_probe
from evaluation.gates.gate import Check
from evaluation.gates.gate_rows import COPIES, StartSpark, gate_rows
from vitrine import facts
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.runs import GateFigures
from vitrine.setting_sections import GateSettings
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, QUARANTINE


def gate_embeddings(
    settings: Settings, encoded: EncodedSet, spark: StartSpark, run_id: str | None = None
) -> GateFigures:
    """Are the vectors of one encoder version whole, sound, and those of the catalog as it is now?

    Raises:
        UserError: the version never embedded anything.
    """
    encoder = facts.find_encoder(settings, encoded.encoder_version)
    if encoder is None:
        raise UserError(
            f"encoder {encoded.encoder!r} ({encoded.encoder_version}) never embedded anything: "
            f"run `vitrine embed --encoder {encoded.encoder} --dataset {encoded.dataset}` first"
        )
    serves = facts.serving_set(settings, encoded.dataset)
    asked: list[Rule | Decision] = [*_rules(settings.gates, int(encoder["dim"]))]
    asked += [decided(check, check.name.replace("_", " ")) for check in _drift(settings, encoded, serves)]
    subject = f"{encoded.dataset} {encoded.encoder}"
    with gate_rows(settings, spark, _photos(encoded), CATALOG, EMBEDDINGS, QUARANTINE) as rows:
        served = serves.encoder_version if serves else None
        return validate(settings, "embeddings", subject, asked, run_id, rows, served)


def _drift(settings: Settings, encoded: EncodedSet, serves: EncodedSet | None) -> list[Check]:
    """The version's vectors against those of what serves; nothing to ask where that is nothing, or this version."""
    if serves is None or serves.encoder_version == encoded.encoder_version:
        return []
    probe = read_probe(settings, encoded, serves, settings.gates.probes)
    if probe is None:
        why = f"fewer than {FEWEST} photos of different content have a vector of what serves too"
        return [Check.skipped("drift", why)]
    return drift_checks(probe, settings.gates)


def _rules(gates: GateSettings, dim: int) -> list[Rule]:
    tolerance, most = gates.norm_tolerance, gates.max_quarantine_share

    def never(state: str, text: str) -> Rule:
        return rule("ExpectColumnValuesToNotBeInSet", text, column="state", value_set=[state])

    def among(text: str, column: str, value: int) -> Rule:
        return rule("ExpectColumnValuesToBeInSet", text, column=column, value_set=[value])

    def between(text: str, figures: dict[str, Any], column: str, value: int, apart: float) -> Rule:
        bounds: dict[str, Any] = {"min_value": value - apart, "max_value": value + apart}
        return rule("ExpectColumnValuesToBeBetween", text, figures, column=column, **bounds)

    return [
        rule("ExpectTableRowCountToBeBetween", "there are photos to embed", min_value=1),
        among("one vector an image and encoder version", "copies", 1),
        never("missing", "no photo lacks its vector"),
        never("stale", "every vector is of its photo's current content"),
        never("left over", "no vector is of a photo that left the catalog"),
        between(f"every vector has {dim} dimensions", {"expected": dim}, "dimension", dim, 0),
        among("no vector holds NaN, infinity or null", "finite", True),
        between(f"every vector's norm is 1 ± {tolerance:g}", {"norm_tolerance": tolerance}, "norm", 1, tolerance),
        rule(
            "ExpectColumnMeanToBeBetween",
            f"the encoder put at most {most:.1%} of the photos in quarantine",
            {"max_quarantine_share": most},
            column="in_quarantine",
            max_value=most,
        ),
    ]


def _photos(encoded: EncodedSet) -> str:
    """A row a photo or vector, without the vectors: they are read once, here."""
    measured = "(SELECT *, coalesce(cardinality(embedding), 0) AS dimension, {SQUARES} AS squares FROM {embeddings})"
    states = facts.photo_states(
        encoded,
        catalog="{catalog}",
        embeddings=measured,
        quarantine="{quarantine}",
        carried=("dimension", "squares"),
    )
    finite = "squares IS NOT NULL AND NOT isnan(squares) AND squares < CAST('Infinity' AS DOUBLE)"
    refused = "(state = 'missing' AND refused)"
    return (
        f"SELECT image_id, {COPIES}, CASE WHEN {refused} THEN 'quarantined' ELSE state END AS state, dimension, "
        f"CASE WHEN state <> 'missing' THEN {finite} END AS finite, CASE WHEN {finite} THEN sqrt(squares) END AS norm, "
        f"CASE WHEN state <> 'left over' THEN CAST({refused} AS INT) END AS in_quarantine FROM ({states})"
    )
