"""What each encoder finds, one row an encoder, filled as the answers come in."""

from nicegui import html, run
from nicegui.element import Element

from evaluation.browse.catalog import Candidate, Photo
from evaluation.browse.jump import jump
from evaluation.browse.search import Near
from evaluation.browse.shared import NEIGHBOURS, Query, Scene, Shared
from evaluation.browse.state import State
from evaluation.browse.tiles import count, tile
from evaluation.pages.text import shown

FAMILIES = {"self_supervised": "self-supervised"}
STRATEGIES = {"top": "top-tuned", "full": "tuned as a whole"}


async def results(shared: Shared, scene: Scene, state: State, query: Query, split: str, photo: Photo | None) -> None:
    """A row for each encoder; ``photo`` is the query where its label is known."""
    category = state.category if state.alone else ""
    _legend(scene, category, split, photo)
    rows = [(candidate, *_row(scene, state, candidate)) for candidate in scene.candidates.shown]
    if scene.candidates.left_off:
        left = count(scene.candidates.left_off, "encoder version")
        html.p(f"{left} more: start with vitrine browse --encoder NAME to choose.").classes("soft small")
    for candidate, said, body in rows:
        near = await run.io_bound(shared.search, scene, query, candidate, category, split)
        if near is None:  # the visitor has gone on
            return
        body.clear()
        with body:
            if isinstance(near, str):
                html.p(shown(near, 400), role="alert").classes("note")
            else:
                said.props["title"] = f"of {count(near.searched, 'photo')}"
                said.set_visibility(True)
                _fill(scene, state, near, photo, said)


def _legend(scene: Scene, category: str, split: str, photo: Photo | None) -> None:
    where = " ".join(part for part in ("split " + shown(split) if split else "", shown(category)) if part)
    relevant = scene.outcomes.relevant.removesuffix("_id")
    with html.p().classes("soft small legend"):
        html.span(f"The {NEIGHBOURS} nearest photos in {where or 'all of ' + scene.catalog.dataset}. ")
        if photo:
            html.span("✓").classes("sign good")
            html.span(f" the same {relevant}, ")
            html.span("✕").classes("sign bad")
            html.span(" another one.")


def _row(scene: Scene, state: State, candidate: Candidate) -> tuple[Element, Element]:
    """A card with its heading; returns where the verdict goes, and the body."""
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
                for name, value in scene.outcomes.figures.get(candidate.encoder_version, {}).items():
                    html.span(f"{name} {value:.3f}", title="When it was evaluated last")
                if wrong := scene.outcomes.wrong(candidate.encoder_version):
                    jump(scene, state, f"{len(wrong):,} wrong queries", lambda: wrong, small=True)
                said = html.span().classes("took")
                said.set_visibility(False)
        with html.div().classes("row-body") as body:
            html.p("Searching …", role="status").classes("soft")
    return said, body


def _fill(scene: Scene, state: State, near: Near, photo: Photo | None, said: Element) -> None:
    neighbours = [scene.catalog.photo(int(at)) for at in near.positions]
    wanted = getattr(photo, scene.outcomes.relevant) if photo else None
    right = [None if wanted is None else getattr(one, scene.outcomes.relevant) == wanted for one in neighbours]
    parts = [f"{sum(map(bool, right))} of {len(right)} right"] if wanted is not None and right else []
    with said:
        html.span(" · ".join([*parts, f"{1000 * near.seconds:.1f} ms"]))
    if not neighbours:
        html.p("No photo is there to be searched.").classes("soft")
        return
    with html.ol().classes("shots near"):
        for rank, (one, is_right) in enumerate(zip(neighbours, right, strict=True), 1):
            tile(state, one, rank=rank, similarity=float(near.similarities[rank - 1]), right=is_right)
