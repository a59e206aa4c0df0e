"""What analysts find beside the tables: views and functions, each defined here and nowhere else.

``open_lake`` puts them into a session; ``vitrine sql`` and the SQL server both do. All of it is Spark SQL.
"""

import re
from dataclasses import dataclass

from vitrine.facts import LABELS_OF_ALL
from vitrine.tables import TABLES
from vitrine.tag_review import FIRST, OPEN, OUTCOME, TO_REVIEW


@dataclass(frozen=True)
class Defined:
    """A view's query, or a function's signature and body."""

    about: str
    sql: str


def _label_of(table: str, name: str) -> str:
    """The label that a column says the ``name`` of, of a row of ``catalog`` or ``labels``."""
    of_all = " ".join(f"WHEN '{label}' THEN {table}.{label}" for label in LABELS_OF_ALL)
    return f"CASE {name} {of_all} ELSE {table}.attributes[{name}] END"


_TAGS_BESIDE_LABELS = f"""
          SELECT t.dataset, t.label AS label_name, t.image_id, c.product_id, {_label_of("c", "t.label")} AS label,
                 t.value AS tag, t.probability, t.runner_up, t.abstained, t.reason, c.split, c.uri,
                 t.classifier_version, t.encoder_version, t.tagged_at
          FROM tags t
          JOIN catalog c ON c.image_id = t.image_id AND c.dataset = t.dataset
"""

# A view may name those above it.
VIEWS: dict[str, Defined] = {
    "serving": Defined(
        "which encoder version serves each data set now, and since when",
        """
        SELECT dataset,
               max_by(encoder, promoted_at) AS encoder,
               max_by(encoder_version, promoted_at) AS encoder_version,
               max(promoted_at) AS since
        FROM promotions
        GROUP BY dataset
        """,
    ),
    "current_embeddings": Defined(
        "one vector an image: by the encoder version that serves its data set",
        """
        SELECT e.*
        FROM embeddings e
        JOIN serving s ON e.dataset = s.dataset AND e.encoder_version = s.encoder_version
        """,
    ),
    "metrics_latest": Defined(
        "of each encoder, protocol, slice, seed and metric: the figure that was computed last",
        """
        SELECT * EXCEPT (age)
        FROM (
          SELECT *, row_number() OVER (
            PARTITION BY dataset, encoder, query_split, index_split, relevant, classifier, slice, seed, metric
            ORDER BY computed_at DESC, encoder_version
          ) AS age
          FROM metrics
        )
        WHERE age = 1
        """,
    ),
    "encoder_comparison": Defined(
        "an encoder a row, by data set and protocol: its latest retrieval figures, what it is, how fast it embedded",
        """
        SELECT m.dataset, m.query_split, m.index_split, m.relevant, m.encoder,
               any_value(e.family) AS family, any_value(e.strategy) AS strategy, any_value(e.dim) AS dim,
               max(m.value) FILTER (WHERE m.metric = 'mMP@5') AS mmp_5,
               max(m.low) FILTER (WHERE m.metric = 'mMP@5') AS mmp_5_low,
               max(m.high) FILTER (WHERE m.metric = 'mMP@5') AS mmp_5_high,
               max(m.value) FILTER (WHERE m.metric = 'mR@1') AS mr_1,
               max(m.value) FILTER (WHERE m.metric = 'R@10') AS r_10,
               max(m.value) FILTER (WHERE m.metric = 'MRR') AS mrr,
               max(m.queries) AS queries,
               any_value(r.photos_per_second) AS photos_per_second,
               coalesce(bool_or(m.encoder_version = s.encoder_version), false) AS serves,
               any_value(m.encoder_version) AS encoder_version, any_value(m.catalog_version) AS catalog_version
        FROM metrics_latest m
        LEFT JOIN encoders e ON e.encoder_version = m.encoder_version
        LEFT JOIN serving s ON s.dataset = m.dataset
        LEFT JOIN (
          SELECT encoder_version, sum(numbers.computed) / sum(seconds) AS photos_per_second
          FROM (SELECT *, from_json(figures, 'computed BIGINT') AS numbers FROM runs WHERE verb = 'embed')
          WHERE state = 'done' AND numbers.computed > 0
          GROUP BY encoder_version
        ) r ON r.encoder_version = m.encoder_version
        WHERE m.slice = 'all' AND m.classifier = ''
        GROUP BY m.dataset, m.query_split, m.index_split, m.relevant, m.encoder
        """,
    ),
    "current_tags": Defined(
        "a photo's tag beside what its source says: label is null where nobody said it; outcome: what became of it",
        f"""
        SELECT *, {OUTCOME} AS outcome
        FROM (
          SELECT b.*, s.labelled_at
          FROM ({_TAGS_BESIDE_LABELS}) b
          LEFT JOIN (
            SELECT image_id, label_name, label, min(valid_from) AS labelled_at
            FROM (
              SELECT l.image_id, t.label AS label_name, l.valid_from, {_label_of("l", "t.label")} AS label
              FROM tags t
              JOIN labels l ON l.image_id = t.image_id
            )
            GROUP BY image_id, label_name, label
          ) s ON s.image_id = b.image_id AND s.label_name = b.label_name AND s.label = b.label
        )
        """,
    ),
    "tags_to_review": Defined(
        "what a person should look at: labels that a sure tag disagrees with, surest first, then unlabelled photos",
        f"""
        SELECT *, CASE WHEN outcome = '{OPEN}' THEN 'no label' ELSE 'disagrees' END AS why,
               row_number() OVER (PARTITION BY dataset, label_name ORDER BY {FIRST}) AS place
        FROM current_tags
        WHERE {TO_REVIEW}
        """,
    ),
    "photo_attributes": Defined(
        "an attribute of a photo a row: its name and its value now",
        """
        SELECT dataset, image_id, product_id, category, split, explode(attributes) AS (name, value)
        FROM catalog
        """,
    ),
    "quarantine_open": Defined(
        "what is unreadable now, why, and for how many days",
        """
        SELECT dataset, image_id, stage, encoder, code, reason, uri, first_seen, last_seen,
               datediff(current_timestamp(), first_seen) AS days_open
        FROM quarantine
        """,
    ),
    "cost_by_night": Defined(
        "a night and data set a row: jobs, how many failed, vectors computed, time, cores, GPUs, money",
        """
        SELECT to_date(started_at) AS night, dataset,
               count(*) AS jobs,
               count_if(state = 'failed') AS failed,
               count_if(state = 'refused') AS refused,
               coalesce(sum(numbers.computed) FILTER (WHERE verb = 'embed'), 0) AS vectors,
               sum(seconds) AS seconds,
               sum(numbers.core_seconds) AS core_seconds,
               sum(numbers.gpu_seconds) AS gpu_seconds,
               sum(numbers.money) AS money,
               max(numbers.currency) AS currency
        FROM (
          SELECT *, from_json(
            figures, 'computed BIGINT, core_seconds DOUBLE, gpu_seconds DOUBLE, money DOUBLE, currency STRING'
          ) AS numbers
          FROM runs
        )
        GROUP BY night, dataset
        """,
    ),
}

# By ``vector_functions``.
VECTOR_FUNCTIONS: dict[str, str] = {
    "dot": "dot(a, b): the sum of a_i * b_i of two vectors; of two unit vectors, their cosine",
    "cosine": "cosine(a, b): of the angle between two vectors of any length",
}

TABLE_FUNCTIONS: dict[str, Defined] = {
    "neighbours": Defined(
        "neighbours(image_id, k): the k nearest photos of one, by each encoder version that it has a vector of",
        """
        neighbours(id STRING, k INT)
        RETURNS TABLE (
          encoder STRING, encoder_version STRING, rank INT, image_id STRING, product_id STRING, category STRING,
          similarity DOUBLE
        )
        RETURN
          SELECT encoder, encoder_version, rank, image_id, product_id, category, similarity
          FROM (
            SELECT *, row_number() OVER (PARTITION BY encoder_version ORDER BY similarity DESC, image_id) AS rank
            FROM (
              SELECT /*+ BROADCAST(q) */ e.encoder, e.encoder_version, e.image_id, e.product_id, e.category,
                     dot(e.embedding, q.embedding) AS similarity
              FROM embeddings q
              JOIN embeddings e
                ON e.encoder_version = q.encoder_version AND e.dataset = q.dataset AND e.image_id <> q.image_id
              WHERE q.image_id = id
            )
          )
          WHERE rank <= k
        """,
    ),
}


def known() -> list[tuple[str, str, str]]:
    """(name, kind, what it is) of all that a statement can name."""
    return [
        *((table.name, "table", table.about) for table in TABLES.values()),
        *((name, "view", view.about) for name, view in VIEWS.items()),
        *((name, "function", about) for name, about in VECTOR_FUNCTIONS.items()),
        *((name, "function", function.about) for name, function in TABLE_FUNCTIONS.items()),
    ]


EVERYTHING = frozenset(name for name, _, _ in known())


def named_in(statement: str) -> set[str]:
    """The tables, views and functions that ``statement`` needs, those that views and functions name included."""
    texts = {name: defined.sql for name, defined in (VIEWS | TABLE_FUNCTIONS).items()}
    texts |= dict.fromkeys((*TABLES, *VECTOR_FUNCTIONS), "")
    needed: set[str] = set()
    waiting = [statement]
    while waiting:
        words = set(re.findall(r"\w+", waiting.pop().lower()))
        fresh = (words & texts.keys()) - needed
        needed |= fresh
        waiting += [texts[name] for name in fresh]
    return needed
