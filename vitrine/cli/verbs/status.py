"""``vitrine status``: what there is, what serves, and how the last runs went."""

from typing import Any

from vitrine import facts, lake
from vitrine.cli import output
from vitrine.cli.options import Json
from vitrine.settings import Settings, load_settings


def status(as_json: Json = False) -> None:
    """What there is, what serves, and how the last runs went."""
    settings = load_settings()
    found = read_status(settings)
    if as_json:
        output.emit_json(found)
        return
    output.emit(f"home {settings.home}")
    for title in ("datasets", "encoders", "last_runs"):
        if found[title]:
            output.emit(f"\n{title.replace('_', ' ')}")
            output.emit_rows(list(found[title][0]), [list(row.values()) for row in found[title]])
        else:
            output.emit(f"\nno {title.replace('_', ' ')} yet: try vitrine demo")


def read_status(settings: Settings) -> dict[str, Any]:
    """``status --json``: lists ``datasets``, ``encoders`` and ``last_runs``; the tables' sizes do not matter."""
    datasets = []
    for name in facts.ingested(settings):
        where = f"WHERE dataset = {lake.quote(name)}"
        counts = lake.rows(
            settings, f"SELECT count(*) AS images, count(DISTINCT product_id) AS products FROM catalog {where}"
        )[0]
        bad = lake.rows(settings, f"SELECT count(*) AS n FROM quarantine {where}")[0]["n"]
        serves = facts.serving(settings, name)
        datasets.append(
            {
                "dataset": name,
                **counts,
                "quarantined": bad,
                "serves": f"{serves['encoder']} {serves['encoder_version']}" if serves else None,
                "since": serves["promoted_at"] if serves else None,
            }
        )
    encoders = lake.rows(
        settings,
        "SELECT e.encoder, e.encoder_version, e.state, m.dataset, m.images FROM encoders e JOIN "
        "(SELECT encoder_version, dataset, count(*) AS images FROM embeddings GROUP BY encoder_version, dataset) m "
        "USING (encoder_version) ORDER BY e.encoder, m.dataset",
    )
    runs = lake.rows(
        settings,
        "SELECT started_at, verb, dataset, encoder, state, round(seconds, 1) AS seconds FROM runs "
        "ORDER BY started_at DESC LIMIT 12",
    )
    for row in runs:
        row["started_at"] = f"{row['started_at']:%Y-%m-%d %H:%M:%S}+00:00"
    return {"home": str(settings.home), "datasets": datasets, "encoders": encoders, "last_runs": runs}
