"""What a night came to, from its runs."""

from vitrine import lake, nights
from vitrine.errors import GateRefused
from vitrine.runs import record
from vitrine.settings import Settings


def ran(settings: Settings, verb: str, encoder: str | None = None, refused: bool = False, **figures: object) -> None:
    try:
        with record(settings, verb, "shop", encoder) as run:
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
