"""Training sets for the verbs that learn: embedded, joined by Feast in Spark, recorded and gated."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from evaluation.gates import ask_gate
from feature_repo import definitions
from spark_jobs import progress, session
from training import build_training_set, training_set
from vitrine import facts, feature_store, runs
from vitrine.cli.verbs.embed import embed_named
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name
from vitrine.names import JOIN, split_joined
from vitrine.settings import Settings

Source = tuple[str, str | None]
"""A data set, and the encoder whose vectors are learned from; None: the photos themselves are."""


def training_sets(
    settings: Settings,
    sources: Iterable[Source],
    label: str,
    seed: int | None,
    as_of: datetime | None = None,
    with_photos: bool = False,
    products_below: str | None = None,
    unlabelled: Sequence[str] = (),
) -> "dict[Source, training_set.TrainingSet]":
    """One for each source, that its gate let through. Spark's memory is free again afterwards.

    ``as_of`` is in UTC; a ``seed`` of None is the settings'. ``with_photos``: rows of vectors have the photos too.
    ``products_below``: of the products alone whose ids' SHA-256 is below it; then nothing is embedded. ``unlabelled``:
    splits that are learned from too, without their labels.

    Raises:
        UserError: there is nothing to learn from.
        GateRefused: nothing may learn from it.
    """
    sources = list(dict.fromkeys(sources))
    spark = session.build_session(settings, "training set")
    for dataset, encoder in sources:
        if encoder and products_below is None:
            embed_named(settings, split_joined(encoder), dataset)
    feature_store.apply(feature_store.open_store(settings), definitions.objects(settings))
    moment = as_of.replace(tzinfo=UTC) if as_of else None
    share, seed = settings.tune.validation_share, settings.tune.seed if seed is None else seed
    made = {}
    for dataset, encoder in sources:
        encoded = _encoded(settings, dataset, encoder) if encoder else None
        with (
            runs.record(settings, "training_set", dataset, encoder) as run,
            progress.progress(spark, f"training set of {dataset}"),
        ):
            rows = build_training_set.build_training_set(
                settings,
                spark,
                dataset,
                label,
                encoded,
                as_of=moment,
                validation_share=share,
                seed=seed,
                with_photos=with_photos,
                products_below=products_below,
                unlabelled=unlabelled,
            )
            run.encoder_version = rows.encoder_version
            run.figures |= {"training_set": rows.fingerprint, **rows.sizes}
        ask_gate.ask_training_set(settings, rows, rows.encoder_version)
        made[dataset, encoder] = rows
    session.end_session()
    return made


def _encoded(settings: Settings, dataset: str, encoder: str) -> EncodedSet:
    """Views go by the name that the encoder's version was registered under."""
    version = by_name.joined_version(settings, encoder)
    registered = [facts.encoder_row(settings, each)["encoder"] for each in split_joined(version)]
    return EncodedSet(dataset, JOIN.join(registered), version)
