"""What a night came to, from its runs."""

from vitrine import lake, nights
from vitrine.errors import GateRefused
from vitrine.runs import record
from vitrine.settings import Settings


def ran(
    settings: Settings,
    verb: str,
    encoder: str | None = None,
    refused: bool = False,
    dataset: str | None = "shop",
    **figures: object,
) -> None:
    try:
        with record(settings, verb, dataset, encoder) as run:
            run.figures |= figures
            if refused:
                raise GateRefused("no")
    except GateRefused:
        pass


def test_the_summary_says_what_was_done_and_what_refused(settings: Settings) -> None:
    ran(settings, "embed", "earlier", embedded=99)
    since = lake.now()
    ran(settings, "ingest", images=10, quarantined=2)
    ran(settings, "gate", gate="catalog")
    quiet = nights.summary(settings, since)
    assert not quiet["changed"] and "  nothing to embed" in quiet["text"].splitlines()

    ran(settings, "embed", "one", embedded=3, unchanged=7, deleted=1, quarantined=0, seconds=4.0, money=0.25)
    ran(settings, "gate", "one", gate="embeddings")
    ran(settings, "gate", "one", refused=True, gate="metrics")
    busy = nights.summary(settings, since)
    assert busy["changed"] and busy["money"] == 0.25
    lines = busy["text"].splitlines()
    assert lines[:4] == [
        "shop: 10 photos, 2 unreadable",
        "  one: 3 embedded, 7 unchanged, 1 deleted",
        "  gates passed: catalog, embeddings one",
        "  gates that refused: metrics one",
    ]
    assert lines[4] == "  serves: nothing" and lines[-1].endswith("s of work, 0.25 USD")


def test_the_newest_night_is_what_ran_since_the_newest_ingest_and_a_step_counts_as_it_ended_last(
    settings: Settings,
) -> None:
    assert nights.newest(settings, "shop") is None
    ran(settings, "gate", "one", refused=True, gate="index")
    night = nights.newest(settings, "shop")
    assert night and (night.state, len(night.runs)) == ("refused", 1), "without an ingest, the newest day"

    ran(settings, "ingest", images=10)
    ran(settings, "gate", "one", refused=True, gate="metrics")
    ran(settings, "gate", "one", refused=True, gate="embeddings")
    ran(settings, "gate", "one", gate="metrics")
    ran(settings, "ingest", dataset="other", images=5)
    ran(settings, "report", dataset=None)
    night = nights.newest(settings, "shop")
    assert night and [run.verb for run in night.runs] == ["ingest", "gate", "gate", "gate", "report"]
    assert night.since == night.runs[0].started_at and night.ended_at >= night.runs[-1].started_at
    assert [run.gate for run in night.bad] == ["embeddings"] and night.state == "refused"
