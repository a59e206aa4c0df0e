"""What each encoder finds, one row an encoder, filled as the answers come in."""

from nicegui import html, run
from nicegui.element import Element

from evaluation.browse.buttons import jump_button
from evaluation.browse.catalog import Candidate
from evaluation.browse.search import Near
from evaluation.browse.site import NEIGHBOURS, Query
from evaluation.browse.tiles import count, tile
from evaluation.browse.view import View
from evaluation.pages.text import shown

FAMILIES = {"self_supervised": "self-supervised"}
STRATEGIES = {
    "linear": "linear head",
    "top": "top-tuned",
    "full": "tuned as a whole",
    "from_head": "tuned from a head",
    "partial": "last part tuned",
    "low_rank": "changes of low rank tuned",
    "distil": "distilled",
    "int8": "in 8 bits",
}


async def results(view: View, query: Query) -> None:
    """A row for each encoder."""
    _legend(view)
    candidates = view.snapshot.candidates
    rows = [(candidate, *_row(view, candidate)) for candidate in candidates.shown]
    if candidates.left_off:
        left = count(candidates.left_off, "encoder version")
        html.p(f"{left} more: start with vitrine browse --encoder NAME to choose.").classes("soft small")
    for candidate, verdict, body in rows:
        near = await run.io_bound(view.site.search, view.snapshot, query, candidate, view.labels, view.split)
        if near is None:  # the visitor has gone on
            return
        body.clear()
        with body:
            if isinstance(near, str):
                html.p(shown(near, 400), role="alert").classes("note")
            else:
                verdict.props["title"] = f"of {count(near.searched, 'photo')}"
                verdict.set_visibility(True)
                _fill(view, near, verdict)


def _legend(view: View) -> None:
    where = " ".join(
        part for part in ("split " + shown(view.split) if view.split else "", *map(shown, view.labels.values())) if part
    )
    relevant = view.snapshot.outcomes.relevant.removesuffix("_id")
    with html.p().classes("soft small legend"):
        html.span(f"The {NEIGHBOURS} nearest photos in {where or 'all of ' + view.snapshot.catalog.dataset}. ")
        if view.photo:
            html.span("✓").classes("sign good")
            html.span(f" the same {relevant}, ")
            html.span("✕").classes("sign bad")
            html.span(" another one.")


def _row(view: View, candidate: Candidate) -> tuple[Element, Element]:
    """A card with its heading; returns where the verdict goes, and the body."""
    outcomes = view.snapshot.outcomes
    with html.section(**{"aria-label": f"By {candidate.encoder}"}).classes("card encoder"):
        with html.header().classes("row-head"):
            with html.div().classes("names"):
                html.h3(candidate.encoder, title=f"version {candidate.encoder_version}")
                if candidate.serves:
                    html.span("Serves now").classes("badge good")
                html.span(FAMILIES.get(candidate.family, shown(candidate.family))).classes("badge")
                if candidate.strategy in STRATEGIES:
                    html.span(STRATEGIES[candidate.strategy]).classes("badge brand")
            with html.div().classes("figures soft"):
                for name, value in outcomes.figures.get(candidate.encoder_version, {}).items():
                    html.span(f"{name} {value:.3f}", title="When it was evaluated last")
                if wrong := outcomes.wrong(candidate.encoder_version):
                    jump_button(view, f"{len(wrong):,} wrong queries", lambda: wrong, small=True)
                verdict = html.span().classes("took")
                verdict.set_visibility(False)
        with html.div().classes("row-body") as body:
            html.p("Searching …", role="status").classes("soft")
    return verdict, body


def _fill(view: View, near: Near, verdict: Element) -> None:
    """The neighbours, each marked right or wrong where the query's label is known."""
    catalog = view.snapshot.catalog
    neighbours = [catalog.photo(int(at)) for at in near.positions]
    labels = catalog.label(view.snapshot.outcomes.relevant)
    wanted = labels[catalog.positions[view.photo.image_id]] if view.photo else None
    right = [None if wanted is None else bool(labels[at] == wanted) for at in near.positions]
    parts = [f"{sum(map(bool, right))} of {len(right)} right"] if wanted is not None and right else []
    with verdict:
        html.span(" · ".join([*parts, f"{1000 * near.seconds:.1f} ms"]))
    if not neighbours:
        html.p("No photo is there to be searched.").classes("soft")
        return
    with html.ol().classes("shots near"):
        for rank, (one, is_right) in enumerate(zip(neighbours, right, strict=True), 1):
            tile(view.address, one, rank=rank, similarity=float(near.similarities[rank - 1]), right=is_right)
