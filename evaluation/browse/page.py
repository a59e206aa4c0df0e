"""The page: a query photo, and what each encoder finds for it, side by side.

Everything that comes out of the tables, the address or an upload is hostile text: NiceGUI makes text nodes and
attributes of it, never markup, and ``shown`` spells out what does not print.
"""

from dataclasses import dataclass

from nicegui import PageArguments, html, run, ui
from nicegui.element import Element

from evaluation.browse.catalog import Photo
from evaluation.browse.jump import jump
from evaluation.browse.results import results
from evaluation.browse.shared import Missing, Query, Scene, Shared
from evaluation.browse.state import EVERYWHERE, State, thumbnail
from evaluation.browse.tiles import count, label, tile
from evaluation.browse.upload_button import upload_button
from evaluation.pages.text import shown

OFFERED = 24  # random photos to pick from
FOUND = 50  # photos that a search by name lists


@dataclass(frozen=True)
class View:
    """One page as it is built: what it shows, and of what."""

    shared: Shared
    scene: Scene
    state: State

    @property
    def photo(self) -> Photo | None:
        """The query, where it is a photo of the catalog."""
        return self.scene.catalog.find(self.state.image) if self.state.image else None

    @property
    def query(self) -> Query | None:
        """What is searched by; None where nothing is picked, or it is gone."""
        if self.state.image:
            return Query(image_id=self.state.image) if self.photo else None
        upload = self.shared.uploads.find(self.state.upload)
        return Query(upload=upload) if upload else None

    @property
    def split(self) -> str:
        """The split that is searched; empty for all."""
        asked = self.state.within or self.scene.outcomes.index_split
        return asked if asked in self.scene.catalog.split_names else ""


async def show(shared: Shared, arguments: PageArguments) -> None:
    """Build the page that an address asks for."""
    state = State.read(arguments.query_parameters)
    scene = await run.io_bound(shared.scene, state.dataset)
    if scene is None:  # the visitor has gone on
        return
    if isinstance(scene, Missing):
        missing(scene)
        return
    view = View(shared, scene, State.read({**arguments.query_parameters, "dataset": scene.catalog.dataset}))
    moved = not ui.context.client.sub_pages_router.is_initial_request
    with html.div().classes("layout" if view.query else "layout picking"):
        with html.section(**{"aria-label": "Query"}).classes("query-panel"):
            title = query_panel(view)
            actions(view)
        with html.section(**{"aria-label": "Find a photo"}).classes("find-panel"):
            find(view)
        with html.section(**{"aria-label": "Results"}).classes("results"):
            if moved:
                title.run_method("focus")  # else the keyboard would be at the top again
            if view.query:
                await results(view.shared, scene, state, view.query, view.split, view.photo)
            else:
                offer(view)


def missing(why: Missing) -> None:
    """What to do where there is nothing to be shown."""
    with html.section().classes("card empty"):
        html.h2(shown(why.title))
        html.p(shown(why.text)).classes("soft")
        for command in why.commands:
            html.code(shown(command)).classes("command")
        with html.p().classes("soft small"):
            html.span("Then ")
            html.a("look again", href="/")
            html.span(".")


# ---- the query ----


def query_panel(view: View) -> Element:
    """The query's photo and name; returns the heading."""
    photo, query = view.photo, view.query
    if photo:
        title = _heading(label(photo.product_id, view.scene.catalog.dataset))
        ui.page_title(f"{shown(photo.product_id)} · Vitrine")
        _large(thumbnail(view.scene.catalog.dataset, photo, "large"), shown(photo.product_id))
        with html.dl().classes("facts"):
            _fact("Photo", label(photo.image_id, view.scene.catalog.dataset))
            _fact("Category", shown(photo.category or "none"))
            if photo.split:
                _fact("Split", shown(photo.split))
    elif query and query.upload:
        title = _heading("Your photo")
        ui.page_title("Uploaded photo · Vitrine")
        _large(f"/uploaded/{view.state.upload}", "Your photo")
        with html.dl().classes("facts"):
            _fact("File", shown(query.upload.name or "without a name"))
    else:
        title = _heading("Pick a photo")
        ui.page_title("Vitrine")
        html.p("See what each encoder takes for its nearest photos.").classes("soft small")
        if view.state.image:
            _note(f"There is no photo {shown(view.state.image)} in {view.state.dataset} now.")
        elif view.state.upload:
            _note("That upload is no longer kept: choose the file again.")
    return title


def _heading(text: str) -> Element:
    return html.h2(text, tabindex="-1").classes("query-title")


def _large(source: str, what: str) -> None:
    with html.span().classes("frame large"):
        html.img(src=source, alt=f"Query photo: {what}")


def _fact(name: str, value: str) -> None:
    html.dt(name)
    with html.dd():
        html.bdi(value)


def _note(text: str) -> None:
    html.p(text, role="alert").classes("note")


# ---- other queries ----


def actions(view: View) -> None:
    """Ways to the next query."""
    scene, state = view.scene, view.state
    shown_versions = [one.encoder_version for one in scene.candidates.shown]
    evaluated = [one for one in scene.candidates.shown if scene.outcomes.right.get(one.encoder_version)]
    with html.div().classes("actions"):
        jump(
            scene, state, "Random photo", lambda: {photo.image_id for photo in scene.catalog.random(2, state.category)}
        )
        if evaluated:
            first = evaluated[0]
            wrong = jump(scene, state, "Random wrong query", lambda: scene.outcomes.wrong(first.encoder_version))
            wrong.props["title"] = f"Whose nearest photo by {first.encoder} is wrong"
        if len(evaluated) > 1:
            differ = jump(scene, state, "Where they differ", lambda: scene.outcomes.differing(shown_versions))
            differ.props["title"] = "One encoder's nearest photo is right, another one's is wrong"
    if not evaluated:
        with html.p().classes("soft small"):
            html.span("To jump to wrong queries, evaluate first: ")
            html.code(f"vitrine evaluate --encoder {scene.candidates.shown[0].encoder} --dataset {state.dataset}")


def find(view: View) -> None:
    """By name, by category, or from the visitor's own disk."""
    catalog, state = view.scene.catalog, view.state

    async def list_found() -> None:
        text = str(field.value or "")
        photos = await run.io_bound(catalog.like, text, FOUND + 1, state.category)
        if photos is None or text != str(field.value or ""):
            return  # the visitor has gone on, or typed on
        found.clear()
        with found:
            _found(view, text, photos)

    field = ui.input("Product or photo id", on_change=list_found).props("outlined dense clearable debounce=120")
    field.classes("field search").props["autocomplete"] = "off"
    found = html.div(role="status").classes("found")
    categories = {"": "All categories", **{name: shown(name) for name in catalog.category_names}}
    if len(categories) > 1:
        chosen = state.category if state.category in categories else ""
        ui.select(categories, label="Category", value=chosen, on_change=lambda e: _go(state, category=e.value)).props(
            "outlined dense options-dense"
        ).classes("field")
    if state.category:
        ui.checkbox(
            "Search in this category alone",
            value=bool(state.alone),
            on_change=lambda e: _go(state, alone="1" if e.value else ""),
        ).props("dense")
    if catalog.split_names:
        splits = {EVERYWHERE: "All splits", **{name: shown(name) for name in catalog.split_names}}
        ui.select(
            splits, label="Search in", value=view.split or EVERYWHERE, on_change=lambda e: _go(state, within=e.value)
        ).props("outlined dense options-dense").classes("field")
    upload_button(view.shared.uploads, state)


def _go(state: State, **changes: str) -> None:
    ui.navigate.to(state.to(**changes))


def _found(view: View, text: str, photos: list[Photo]) -> None:
    if not text.strip():
        return
    said = f"the first {FOUND}" if len(photos) > FOUND else count(len(photos), "photo")
    html.p(f"No photo is called like {shown(text)}" if not photos else said).classes("soft small")
    with html.ul().classes("hits"):
        for photo in photos[:FOUND]:
            with html.li(), html.a(href=view.state.to(image=photo.image_id, upload="")).classes("hit shot"):
                html.img(src=thumbnail(view.state.dataset, photo), alt="", loading="lazy")
                with html.span():
                    html.bdi(label(photo.product_id, view.state.dataset)).classes("id")
                    html.bdi(label(photo.image_id, view.state.dataset)).classes("soft")


def offer(view: View) -> None:
    """Random photos to pick from."""
    photos = view.scene.catalog.random(OFFERED, view.state.category)
    with html.header().classes("row-head"):
        html.h3("Some of the photos")
        others = html.button("Show others", type="button").classes("button small")
    grid = html.ul().classes("shots offer")
    others.on("click", lambda: _others(view, grid))
    with grid:
        _tiles(view, photos)


def _others(view: View, grid: Element) -> None:
    grid.clear()
    with grid:
        _tiles(view, view.scene.catalog.random(OFFERED, view.state.category))


def _tiles(view: View, photos: list[Photo]) -> None:
    for photo in photos:
        tile(view.state, photo)
    if not photos:
        html.li(f"No photo is of category {shown(view.state.category)}.").classes("soft")
