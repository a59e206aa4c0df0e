"""What the tables say: which data sets there are, what serves them, what an encoder version still lacks.

Each rule that more than one room needs stands here once.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from vitrine import lake, staging
from vitrine.encoded_set import EncodedSet
from vitrine.errors import unknown
from vitrine.lake import matches
from vitrine.names import LEARNED_SPLIT
from vitrine.settings import Settings
from vitrine.tables import (
    CATALOG,
    CLASSIFIERS,
    EMBEDDINGS,
    ENCODERS,
    LABEL_COLUMNS,
    LABELS,
    PRODUCT_EMBEDDINGS,
    PROMOTIONS,
    QUARANTINE,
    RUNS,
    Table,
)

RETIRED = "retired"
LABELS_OF_ALL = ("product_id", "category")
"""The labels that every data set may have; attributes are a data set's own."""
REPORTED = ("test", "query")
"""Splits that classifiers are measured on, the first that there is."""
_ATTRIBUTES = "concat_ws('\x1f', array_join(map_keys({0}), '\x1f'), array_join(map_values({0}), '\x1f'))"
"""A map of attributes as one text, since engines compare no maps; in Spark's words and DataFusion's, as the next."""
PHOTO_OF_PRODUCT = (
    f"concat(image_id, ':', content_sha256, ':', coalesce(category, ''), {_ATTRIBUTES.format('attributes')})"
)
"""What a product's row depends on, of each of its photos."""
_JOINED = 250_000
"""Photos that are joined at once in this process: two kilobytes each."""
_AT_ONCE = 1_000_000
"""Photos that are grouped by product, or joined by id alone, at once."""
# DataFusion's string_agg in order takes several times the memory.
_PRODUCT_MD5 = f"md5(array_to_string(array_sort(array_agg({PHOTO_OF_PRODUCT})), '\n'))"


# ---- data sets ----


def datasets(settings: Settings) -> list[str]:
    """The names of the data sets that hold a photo."""
    return [row["dataset"] for row in lake.rows(settings, "SELECT DISTINCT dataset FROM catalog ORDER BY dataset")]


def ingested(settings: Settings) -> list[str]:
    """The names of the data sets that were ingested, also of those that hold no photo: none could be read, or all
    left."""
    ended = f"SELECT dataset FROM {RUNS.name} WHERE {matches(verb='ingest', state='done')}"
    union = " UNION ".join([*(f"SELECT dataset FROM {table.name}" for table in (CATALOG, LABELS, QUARANTINE)), ended])
    return [row["dataset"] for row in lake.rows(settings, f"SELECT dataset FROM ({union}) ORDER BY dataset")]


def check_dataset(settings: Settings, dataset: str) -> None:
    """Raises UserError, with the choices, where ``dataset`` was never ingested."""
    known = ingested(settings)
    if dataset not in known:
        raise unknown("data set", dataset, known)


def serving(settings: Settings, dataset: str) -> dict[str, Any] | None:
    """The newest row of ``promotions`` for ``dataset``: the one truth of what serves."""
    where = matches(dataset=dataset)
    newest = lake.rows(settings, f"SELECT * FROM {PROMOTIONS.name} WHERE {where} ORDER BY promoted_at DESC LIMIT 1")
    return newest[0] if newest else None


def serving_set(settings: Settings, dataset: str) -> EncodedSet | None:
    """What serves ``dataset``; None where nothing does."""
    row = serving(settings, dataset)
    return EncodedSet.of(row) if row else None


def catalog_version(settings: Settings, dataset: str, label: str = "product_id") -> str:
    """A fingerprint of what the data set holds: ids, contents, products, categories, splits, and the values of
    ``label`` where that is an attribute; 16 hex digits.

    It moves when, and only when, a figure by ``label`` that is computed from the data set could: two equal catalogs
    have one version, whichever runs led to them.
    """
    return _fingerprint(settings, CATALOG, matches(dataset=dataset), [label])


def embedded_version(
    settings: Settings, encoded: EncodedSet, labels: Sequence[str] = (), versions: dict[str, int] | None = None
) -> str:
    """The same of the photos that have a vector, with the values of those of ``labels`` that are attributes: equal
    where all the catalog is embedded."""
    return _fingerprint(settings, EMBEDDINGS, encoded.where, labels, versions)


def _fingerprint(
    settings: Settings, table: Table, where: str, labels: Sequence[str], versions: dict[str, int] | None = None
) -> str:
    own = [f"coalesce({label_in_sql(label)}, '')" for label in labels if label not in LABELS_OF_ALL]
    columns = ("image_id", "content_sha256", "product_id", "coalesce(category, '')", "coalesce(split, '')", *own)
    total, count = lake.digest(settings, columns, f"{table.name} WHERE {where}", versions)
    return hashlib.sha256(f"{total.hex()}/{count}".encode()).hexdigest()[:16]


# ---- labels ----


def label_in_sql(label: str) -> str:
    """The label of a row of ``catalog``, ``labels``, ``embeddings`` or ``product_embeddings``, in Spark's SQL and
    DataFusion's alike: the one way that a label is looked up."""
    return label if label in LABELS_OF_ALL else f"attributes[{lake.quote(label)}]"


def attributes(settings: Settings, dataset: str | None = None) -> list[str]:
    """The names of the attributes that photos of the data set, or of all, were ever said to have, sorted."""
    where = matches(dataset=dataset) if dataset else "true"
    names = f"SELECT unnest(map_keys(attributes)) AS name FROM {LABELS.name} WHERE {where}"
    return [row["name"] for row in lake.rows(settings, f"SELECT DISTINCT name FROM ({names}) ORDER BY name")]


def check_label(settings: Settings, dataset: str, label: str) -> None:
    """Raises UserError, with the choices, where ``label`` is neither of ``LABELS_OF_ALL`` nor an attribute of the data
    set's photos."""
    if label not in LABELS_OF_ALL and label not in (names := attributes(settings, dataset)):
        raise unknown(f"label of data set {dataset!r}", label, (*LABELS_OF_ALL, *names))


def labelled(encoded: EncodedSet, label: str, columns: Sequence[str]) -> str:
    """A query, in DataFusion's SQL, of the rows of ``embeddings``: ``columns``, and the photo's ``label`` by that
    name."""
    names = ", ".join((*columns, f"{label_in_sql(label)} AS label"))
    return f"SELECT {names} FROM {EMBEDDINGS.name} WHERE {encoded.where}"


# ---- encoder versions ----


def encoder_row(settings: Settings, encoder_version: str) -> dict[str, Any]:
    """The row of ``encoders`` of one version.

    Raises:
        UserError: no such version was ever embedded.
    """
    row = find_encoder(settings, encoder_version)
    if row is None:
        known = lake.rows(settings, f"SELECT encoder_version FROM {ENCODERS.name}")
        raise unknown("encoder version", encoder_version, [row["encoder_version"] for row in known])
    return row


def find_encoder(settings: Settings, encoder_version: str) -> dict[str, Any] | None:
    """As ``encoder_row``; None where it never embedded."""
    rows = lake.rows(settings, f"SELECT * FROM {ENCODERS.name} WHERE {matches(encoder_version=encoder_version)}")
    return rows[0] if rows else None


def is_retired(settings: Settings, encoder_version: str) -> bool:
    """Was the version taken out of the nights?"""
    row = find_encoder(settings, encoder_version)
    return row is not None and row["state"] == RETIRED


def usual_state(settings: Settings, encoder: str) -> str:
    """The ``state`` of an encoder's version that is not retired: ``nightly`` or ``experiment``."""
    return "nightly" if encoder in settings.nightly.encoders else "experiment"


def embedded(settings: Settings, encoded: EncodedSet) -> int:
    """How many photos have a vector."""
    return count(settings, EMBEDDINGS, encoded.where)


def count(settings: Settings, table: Table, where: str) -> int:
    """How many rows of ``table`` are as ``where`` says."""
    return int(lake.rows(settings, f"SELECT count(*) AS n FROM {table.name} WHERE {where}")[0]["n"])


def belong_online(settings: Settings, dataset: str) -> list[EncodedSet]:
    """The versions whose vectors of ``dataset`` belong online, by encoder and version: what serves it, and its nightly
    encoders' newest that are not retired."""
    encoders = lake.rows(settings, "SELECT encoder, encoder_version, state FROM encoders ORDER BY created_at")
    wanted = set()
    if serves := serving_set(settings, dataset):
        # Views go by the name that the version was registered under: it may have been promoted under another one.
        names = {row["encoder_version"]: row["encoder"] for row in encoders}
        wanted.add(replace(serves, encoder=names.get(serves.encoder_version, serves.encoder)))
    if dataset in {item.name for item in settings.nightly.datasets}:
        newest = {row["encoder"]: row for row in encoders}
        nightly = [newest[name] for name in settings.nightly.encoders if name in newest]
        wanted |= {EncodedSet.of(row | {"dataset": dataset}) for row in nightly if row["state"] != RETIRED}
    by_name = sorted(wanted, key=lambda encoded: (encoded.encoder, encoded.encoder_version))
    return [encoded for encoded in by_name if embedded(settings, encoded)]


# ---- what is missing ----


def unlabelled(settings: Settings, dataset: str) -> Iterator[str]:
    """Queries, in DataFusion's SQL, that together have the photos whose labels are not the last that ``labels`` has of
    them: each of a part of the catalog that memory can hold."""
    whole, names = matches(dataset=dataset), ("product_id", "category", "attributes")
    lasts = ", ".join(f"last_value({name} ORDER BY valid_from) AS {name}" for name in names)
    same = " AND ".join(f"(c.{name} IS NOT DISTINCT FROM l.{name})" for name in names)
    for low, high in lake.key_ranges(count(settings, CATALOG, whole), _JOINED):
        here = f"{whole} AND {lake.hashed_between('image_id', low, high)}"
        yield (
            f"SELECT c.image_id FROM (SELECT image_id, {', '.join(names)} FROM {CATALOG.name} WHERE {here}) c "
            f"LEFT ANTI JOIN (SELECT image_id, {lasts} FROM {LABELS.name} WHERE {here} GROUP BY image_id) l "
            f"ON c.image_id = l.image_id AND {same}"
        )


def lacking_labels(settings: Settings, dataset: str) -> int:
    """How many photos are ``unlabelled``. Where none was ever relabelled, the tables are alike, which takes no join."""
    columns = ("image_id", *_texts("product_id", "category"), _ATTRIBUTES.format("attributes"))
    rows = (f"{table.name} WHERE {matches(dataset=dataset)}" for table in (CATALOG, LABELS))
    if len({lake.digest(settings, columns, each) for each in rows}) == 1:
        return 0
    return sum(lake.rows(settings, f"SELECT count(*) n FROM ({sql})")[0]["n"] for sql in unlabelled(settings, dataset))


def _texts(*columns: str) -> list[str]:
    """Of columns that may be null, texts that are not, for ``lake.digest``."""
    return [f"coalesce('=' || {name}, '')" for name in columns]


def reported_split(settings: Settings, encoded: EncodedSet) -> str | None:
    """The split of the data set that classifiers are asked about, where there is one with vectors."""
    splits = lake.rows(settings, f"SELECT DISTINCT split FROM {EMBEDDINGS.name} WHERE {encoded.parts[0].where}")
    known = {row["split"] for row in splits}
    return next((split for split in REPORTED if split in known), None)


def known_share(settings: Settings, rows: str, split: str) -> float | None:
    """Of the photos of ``split`` in ``rows``, a query with ``split`` and ``label``, the share whose label is learned,
    since a photo of the split for that has it too, to two digits; None where none has a label."""
    here = f"({rows}) WHERE label IS NOT NULL"
    learned = f"SELECT DISTINCT label AS l FROM {here} AND {matches(split=LEARNED_SPLIT)}"
    asked = f"SELECT label AS a FROM {here} AND {matches(split=split)}"
    row = lake.rows(settings, f"SELECT count(*) AS n, count(l) AS known FROM ({asked}) LEFT JOIN ({learned}) ON a = l")
    return round(row[0]["known"] / row[0]["n"], 2) if row[0]["n"] else None


def has_one_of(settings: Settings, encoded: EncodedSet, split: str, label: str, classes: Iterable[str]) -> bool:
    """Is any photo of ``split`` of one of ``classes`` of ``label``?"""
    rows = labelled(encoded.parts[0], label, ["split"])
    where = f"{matches(split=split)} AND label IS NOT NULL"
    there = lake.rows(settings, f"SELECT DISTINCT label AS name FROM ({rows}) WHERE {where}")
    return not {row["name"] for row in there}.isdisjoint(classes)


def shares_class(settings: Settings, encoded: EncodedSet, split: str, label: str) -> bool:
    """Is any photo of ``split`` of a class of ``label`` that the split for learning has too?"""
    here = f"({labelled(encoded.parts[0], label, ['split'])}) WHERE label IS NOT NULL"
    sides = (f"SELECT DISTINCT label FROM {here} AND {matches(split=each)}" for each in (split, LEARNED_SPLIT))
    first, second = sides
    return bool(lake.rows(settings, f"SELECT a.label FROM ({first}) a JOIN ({second}) b ON a.label = b.label LIMIT 1"))


def lacks_label(label: str, dataset: str) -> str:
    """The condition, in Spark's SQL and DataFusion's alike, for the catalog's photos that are not said to have
    ``label``.

    Every photo of a catalog has a ``product_id``; one without is the data set's name and a slash, or blank after it.
    """
    if label != "product_id":
        return f"{label_in_sql(label)} IS NULL"
    return f"trim(substr(product_id, {len(dataset) + 2})) = ''"


def tagging(settings: Settings, dataset: str, label: str) -> dict[str, Any] | None:
    """The row of ``classifiers`` of what tags that label: the newest by the encoder version that serves; where none is
    by that, the newest. None where nothing tags it."""
    serves = serving_set(settings, dataset)
    by_serving = matches(encoder_version=serves.encoder_version) if serves else "false"
    return _newest_classifier(settings, matches(dataset=dataset, label=label), f"{by_serving} DESC, ")


def classifier_of(settings: Settings, encoded: EncodedSet, label: str) -> dict[str, Any] | None:
    """The newest row of ``classifiers`` by the vectors of ``encoded``: what tags that label once these serve."""
    where = matches(dataset=encoded.dataset, label=label, encoder_version=encoded.encoder_version)
    return _newest_classifier(settings, where)


def _newest_classifier(settings: Settings, where: str, first: str = "") -> dict[str, Any] | None:
    sql = f"SELECT * FROM {CLASSIFIERS.name} WHERE {where} ORDER BY {first}promoted_at DESC LIMIT 1"
    newest = lake.rows(settings, sql)
    return newest[0] if newest else None


def tagged_labels(settings: Settings, dataset: str | None = None) -> list[tuple[str, str]]:
    """Data set and label of what is tagged, in ``dataset`` alone where it is named."""
    where = matches(dataset=dataset) if dataset else "true"
    sql = f"SELECT DISTINCT dataset, label FROM {CLASSIFIERS.name} WHERE {where} ORDER BY dataset, label"
    return [(row["dataset"], row["label"]) for row in lake.rows(settings, sql)]


def photo_states(
    encoded: EncodedSet,
    *,
    catalog: str = CATALOG.name,
    embeddings: str = EMBEDDINGS.name,
    quarantine: str = QUARANTINE.name,
    listed: Sequence[str] = (),
    carried: Sequence[str] = (),
    within: str = "true",
) -> str:
    """A query, in Spark's SQL and DataFusion's alike, of how each photo stands.

    A row for every photo of the catalog and every vector: ``image_id``; ``state``: ``missing`` (no vector),
    ``stale`` (one of other content), ``relabelled`` (one with other labels than the catalog's), ``current``, or
    ``left over`` (a vector of a photo that the catalog has not); ``refused``: is the photo in quarantine for this
    encoder? ``listed`` names columns of ``catalog`` to add, ``carried`` of ``embeddings``; ``within`` is a condition of
    ``image_id`` for all photos that are asked about. The other arguments are the tables' names in the statement.
    """
    columns = ("image_id", "content_sha256", *LABEL_COLUMNS, "attributes")
    relabelled = " OR ".join(f"(e.{name} IS DISTINCT FROM c.{name})" for name in LABEL_COLUMNS)
    relabelled += f" OR {_ATTRIBUTES.format('e.attributes')} <> {_ATTRIBUTES.format('c.attributes')}"
    refused = quarantined(encoded)
    added = "".join(f", {name}" for name in (*(f"c.{name}" for name in listed), *(f"e.{name}" for name in carried)))
    in_catalog, in_embeddings = (", ".join(dict.fromkeys((*columns, *more))) for more in (listed, carried))
    return (
        f"SELECT coalesce(c.image_id, e.image_id) AS image_id, q.image_id IS NOT NULL AS refused{added}, CASE "
        "WHEN e.image_id IS NULL THEN 'missing' WHEN c.image_id IS NULL THEN 'left over' "
        "WHEN e.content_sha256 IS DISTINCT FROM c.content_sha256 THEN 'stale' "
        f"WHEN {relabelled} THEN 'relabelled' ELSE 'current' END AS state "
        f"FROM (SELECT {in_catalog} FROM {catalog} WHERE {matches(dataset=encoded.dataset)} AND {within}) c "
        f"FULL OUTER JOIN (SELECT {in_embeddings} FROM {embeddings} WHERE {encoded.parts[0].where} AND {within}) e "
        f"ON c.image_id = e.image_id LEFT JOIN (SELECT DISTINCT image_id FROM {quarantine} WHERE {refused}) q "
        "ON q.image_id = coalesce(c.image_id, e.image_id)"
    )


def quarantined(encoded: EncodedSet) -> str:
    """The condition for its rows of ``quarantine``."""
    return matches(dataset=encoded.dataset, stage="embed", encoder=encoded.encoder)


def missing(settings: Settings, encoded: EncodedSet) -> int:
    """Photos without a current vector; those that the encoder could not embed are not counted."""
    columns, number = ("image_id", "content_sha256"), 0
    catalog = lake.digest(settings, columns, f"{CATALOG.name} WHERE {matches(dataset=encoded.dataset)}")
    if catalog == lake.digest(settings, columns, f"{EMBEDDINGS.name} WHERE {encoded.parts[0].where}"):
        return 0
    for low, high in lake.key_ranges(catalog[1], _AT_ONCE):
        states = photo_states(encoded, within=lake.hashed_between("image_id", low, high))
        sql = f"SELECT count(*) AS n FROM ({states}) WHERE state IN ('missing', 'stale') AND NOT refused"
        number += int(lake.rows(settings, sql)[0]["n"])
    return number


def settled(settings: Settings, encoded: EncodedSet) -> int | None:
    """The number of photos where nothing at all is to be done, else None: most nights start no JVM for a data set."""
    state = usual_state(settings, encoded.encoder)
    row = find_encoder(settings, encoded.encoder_version)
    if row is None or row["state"] not in (state, RETIRED):
        return None
    if staging.left(settings, encoded.dataset, encoded.encoder_version):  # a run was killed after its last commit
        return None
    if lake.rows(settings, f"SELECT 1 FROM {QUARANTINE.name} WHERE {quarantined(encoded)} LIMIT 1"):
        return None
    columns = ("image_id", "content_sha256", *_texts(*LABEL_COLUMNS), _ATTRIBUTES.format("attributes"))
    catalog = lake.digest(settings, columns, f"{CATALOG.name} WHERE {matches(dataset=encoded.dataset)}")
    if catalog != lake.digest(settings, columns, f"{EMBEDDINGS.name} WHERE {encoded.where}"):
        return None
    return catalog[1] if not _left_of_others(settings, encoded) and products_settled(settings, encoded) else None


def _left_of_others(settings: Settings, encoded: EncodedSet) -> bool:
    """Has another version a vector of a photo that left, of a catalog that ``encoded`` has all of?"""
    others = f"{matches(dataset=encoded.dataset)} AND encoder_version <> {lake.quote(encoded.encoder_version)}"
    number = count(settings, EMBEDDINGS, others)
    for low, high in lake.key_ranges(number, _AT_ONCE) if number else ():
        within = lake.hashed_between("image_id", low, high)
        here, other = (
            f"(SELECT image_id FROM {EMBEDDINGS.name} WHERE {where} AND {within})" for where in (encoded.where, others)
        )
        if lake.rows(settings, f"SELECT 1 FROM {other} a LEFT ANTI JOIN {here} b ON a.image_id = b.image_id LIMIT 1"):
            return True
    return False


def products_settled(settings: Settings, encoded: EncodedSet) -> bool:
    """Has every product the vector of its photos as they are now? Asked without a JVM."""
    columns, total, number = ("product_id", "images_md5"), 0, 0
    for low, high in lake.key_ranges(embedded(settings, encoded), _AT_ONCE):
        where = f"{encoded.where} AND {lake.hashed_between('product_id', low, high)}"
        photos = f"SELECT product_id, {_PRODUCT_MD5} AS images_md5 FROM {EMBEDDINGS.name} WHERE {where}"
        part, products = lake.digest(settings, columns, f"({photos} GROUP BY product_id)")
        total, number = total ^ int.from_bytes(part), number + products
    stored = lake.digest(settings, columns, f"{PRODUCT_EMBEDDINGS.name} WHERE {encoded.where}")
    return (total.to_bytes(16), number) == stored
