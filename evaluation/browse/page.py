"""The page: a query photo, and what each encoder finds for it, side by side.

Everything that comes out of the tables, the address or an upload is hostile text: NiceGUI makes text nodes and
attributes of it, never markup, and ``shown`` spells out what does not print.
"""

from dataclasses import replace

from nicegui import PageArguments, html, run, ui
from nicegui.element import Element

from evaluation.browse.address import CATEGORY, EVERYWHERE, Address, thumbnail_link
from evaluation.browse.buttons import jump_button, upload_button
from evaluation.browse.catalog import CatalogPhoto
from evaluation.browse.results import results
from evaluation.browse.site import NothingToShow, Site
from evaluation.browse.tags import PhotoTag
from evaluation.browse.tiles import count, label, nothing, tile
from evaluation.browse.view import View
from evaluation.pages.text import shown

OFFERED = 24  # random photos to pick from
MOST_HITS = 50  # photos that a search by name lists


async def show(site: Site, arguments: PageArguments) -> None:
    """Build the page that an address asks for."""
    address = Address.read(arguments.query_parameters)
    snapshot = await run.io_bound(site.snapshot, address.dataset)
    if snapshot is None:  # the visitor has gone on
        return
    if isinstance(snapshot, NothingToShow):
        nothing(snapshot.title, snapshot.text, snapshot.commands)
        return
    view = View(site, snapshot, replace(address, dataset=snapshot.catalog.dataset))
    tags = await run.io_bound(site.photo_tags, view.address.dataset, view.address.image) if view.photo else {}
    if tags is None:  # the visitor has gone on
        return
    moved = not ui.context.client.sub_pages_router.is_initial_request
    with html.div().classes("layout" if view.query else "layout picking"):
        with html.section(**{"aria-label": "Query"}).classes("query-panel"):
            title = query_panel(view, tags)
            actions(view)
        with html.section(**{"aria-label": "Find a photo"}).classes("find-panel"):
            find(view)
        with html.section(**{"aria-label": "Results"}).classes("results"):
            if moved:
                title.run_method("focus")  # else the keyboard would be at the top again
            if view.query:
                await results(view, view.query)
            else:
                offer(view)


# ---- the query ----


def query_panel(view: View, tags: dict[str, PhotoTag]) -> Element:
    """The query's photo and name, and its ``tags`` by label; returns the heading."""
    photo, query = view.photo, view.query
    if photo:
        title = _heading(label(photo.product_id, view.snapshot.catalog.dataset))
        ui.page_title(f"{shown(photo.product_id)} · Vitrine")
        _large(thumbnail_link(view.snapshot.catalog.dataset, photo, "large"), shown(photo.product_id))
        with html.dl().classes("facts"):
            _fact("Photo", label(photo.image_id, view.snapshot.catalog.dataset))
            _fact("Category", shown(photo.category or "none"))
            if photo.split:
                _fact("Split", shown(photo.split))
            for name, value in photo.attributes.items():
                _fact(called(name), shown(value))
            for name, tag in tags.items():
                reason = f", {tag.reason}" if tag.reason else ""
                _fact(f"Tag: {shown(name)}", f"{shown(tag.tag)} ({tag.probability:.3f}{reason})")
    elif query and query.upload:
        title = _heading("Your photo")
        ui.page_title("Uploaded photo · Vitrine")
        _large(f"/uploaded/{view.address.upload}", "Your photo")
        with html.dl().classes("facts"):
            _fact("File", shown(query.upload.name or "without a name"))
    else:
        title = _heading("Pick a photo")
        ui.page_title("Vitrine")
        html.p("See what each encoder takes for its nearest photos.").classes("soft small")
        if view.address.image:
            _note(f"There is no photo {shown(view.address.image)} in {view.address.dataset} now.")
        elif view.address.upload:
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
    snapshot, address = view.snapshot, view.address
    shown_versions = [one.encoder_version for one in snapshot.candidates.shown]
    evaluated = [one for one in snapshot.candidates.shown if snapshot.outcomes.right.get(one.encoder_version)]
    with html.div().classes("actions"):
        jump_button(
            view, "Random photo", lambda: {photo.image_id for photo in snapshot.catalog.random(2, address.labels)}
        )
        if evaluated:
            first = evaluated[0]
            wrong = jump_button(view, "Random wrong query", lambda: snapshot.outcomes.wrong(first.encoder_version))
            wrong.props["title"] = f"Whose nearest photo by {first.encoder} is wrong"
        if len(evaluated) > 1:
            differ = jump_button(view, "Where they differ", lambda: snapshot.outcomes.differing(shown_versions))
            differ.props["title"] = "One encoder's nearest photo is right, another one's is wrong"
    if not evaluated:
        with html.p().classes("soft small"):
            html.span("To jump to wrong queries, evaluate first: ")
            html.code(f"vitrine evaluate --encoder {snapshot.candidates.shown[0].encoder} --dataset {address.dataset}")


def find(view: View) -> None:
    """By name, by category, or from the visitor's own disk."""
    catalog, address = view.snapshot.catalog, view.address

    async def list_hits() -> None:
        text = str(field.value or "")
        photos = await run.io_bound(catalog.like, text, MOST_HITS + 1, address.labels)
        if photos is None or text != str(field.value or ""):
            return  # the visitor has gone on, or typed on
        hits.clear()
        with hits:
            _hits(view, text, photos)

    field = ui.input("Product or photo id", on_change=list_hits).props("outlined dense clearable debounce=120")
    field.classes("field search").props["autocomplete"] = "off"
    hits = html.div(role="status").classes("found")
    for name, values in catalog.choices.items():
        choice(address, name, values)
    if address.labels:
        ui.checkbox(
            f"Search in this {CATEGORY} alone" if [*address.labels] == [CATEGORY] else "Search among these alone",
            value=bool(address.alone),
            on_change=lambda e: _go(address, alone="1" if e.value else ""),
        ).props("dense")
    if catalog.split_names:
        splits = {EVERYWHERE: "All splits", **{name: shown(name) for name in catalog.split_names}}
        ui.select(
            splits, label="Search in", value=view.split or EVERYWHERE, on_change=lambda e: _go(address, within=e.value)
        ).props("outlined dense options-dense").classes("field")
    upload_button(view.site.uploads, address)


def choice(address: Address, name: str, values: list[str]) -> None:
    """The values of a label, of which one may be chosen."""
    options = {"": "All categories" if name == CATEGORY else f"Any {name}"} | {value: shown(value) for value in values}
    now = address.labels.get(name, "")
    chosen = ui.select(
        options,
        label=called(name),
        value=now if now in options else "",
        on_change=lambda e: _go(address, **address.choosing(name, e.value)),
    )
    chosen.props("outlined dense options-dense").classes("field")


def called(label: str) -> str:
    """A label for people."""
    return label.capitalize().replace("_", " ")


def _go(address: Address, **changes: str) -> None:
    ui.navigate.to(address.link(**changes))


def _hits(view: View, text: str, photos: list[CatalogPhoto]) -> None:
    """What a search by name lists."""
    if not text.strip():
        return
    how_many = f"the first {MOST_HITS}" if len(photos) > MOST_HITS else count(len(photos), "photo")
    html.p(f"No photo is called like {shown(text)}" if not photos else how_many).classes("soft small")
    with html.ul().classes("hits"):
        for photo in photos[:MOST_HITS]:
            with html.li(), html.a(href=view.address.link(image=photo.image_id, upload="")).classes("hit shot"):
                html.img(src=thumbnail_link(view.address.dataset, photo), alt="", loading="lazy")
                with html.span():
                    html.bdi(label(photo.product_id, view.address.dataset)).classes("id")
                    html.bdi(label(photo.image_id, view.address.dataset)).classes("soft")


def offer(view: View) -> None:
    """Random photos to pick from."""
    photos = view.snapshot.catalog.random(OFFERED, view.address.labels)
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
        _tiles(view, view.snapshot.catalog.random(OFFERED, view.address.labels))


def _tiles(view: View, photos: list[CatalogPhoto]) -> None:
    for photo in photos:
        tile(view.address, photo)
    if not photos:
        asked = " and ".join(f"{label} {shown(value)}" for label, value in view.address.labels.items())
        html.li(f"No photo is of {asked}.").classes("soft")
