"""The page of tags: photos with what a classifier says of each, how sure it is, and why it abstains."""

from dataclasses import replace

from nicegui import PageArguments, html, run, ui

from evaluation.browse.address import Address, TagAddress
from evaluation.browse.site import NothingToShow, Site, TagSnapshot
from evaluation.browse.tags import KINDS, PAGE, PhotoTag
from evaluation.browse.tiles import count, nothing, tile
from evaluation.pages.text import shown
from vitrine.tag_review import CORRECTED, DISAGREES, OUTCOMES


async def show_tags(site: Site, arguments: PageArguments) -> None:
    """Build the page of tags that an address asks for."""
    address = TagAddress.read(arguments.query_parameters)
    snapshot = await run.io_bound(site.tags, address)
    if snapshot is None:  # the visitor has gone on
        return
    ui.page_title("Tags · Vitrine")
    if isinstance(snapshot, NothingToShow):
        nothing(snapshot.title, snapshot.text, snapshot.commands)
        return
    with html.section(**{"aria-label": "Tags"}).classes("results tags"):
        _choices(snapshot)
        _tiles(snapshot)
        _pages(snapshot)


def _choices(snapshot: TagSnapshot) -> None:
    address = snapshot.address
    with html.header().classes("row-head"):
        html.h2(f"Tags of {shown(address.label)} in {address.dataset}", tabindex="-1")
        html.span(count(snapshot.page.total, "photo")).classes("soft small")
    with html.nav(**{"aria-label": "Which tags"}).classes("choices"):
        for label in snapshot.labels if len(snapshot.labels) > 1 else []:
            _choice(shown(label), replace(address, label=label, page=""), label == address.label)
        for kind, (name, _, _) in KINDS.items():
            _choice(name, replace(address, kind=kind, page=""), kind == address.kind)


def _choice(text: str, address: TagAddress, chosen: bool) -> None:
    spoken = {"aria-current": "true"} if chosen else {}
    html.a(text, href=address.link(), **spoken).classes("badge brand" if chosen else "badge")


def _tiles(snapshot: TagSnapshot) -> None:
    if not snapshot.page.tags:
        html.p("There is none.").classes("soft")
    with html.ul().classes("shots offer"):
        for tag in snapshot.page.tags:
            photo = snapshot.catalog.find(tag.image_id)
            if photo is None:  # it left with the night that goes on
                continue
            with tile(Address(dataset=snapshot.address.dataset), photo), html.div().classes("caption"):
                _said(tag)


def _said(tag: PhotoTag) -> None:
    with html.div():
        html.bdi(shown(tag.tag), title=f"Else: {shown(tag.runner_up)}").classes("id")
        html.span(f" {tag.probability:.3f}", title="Probability").classes("soft")
    if tag.reason:
        html.span(shown(tag.reason), title="It abstains: nobody may take this for a label").classes("badge")
    if tag.label is not None:
        doubted = tag.outcome in (DISAGREES, CORRECTED)
        with html.div(title=OUTCOMES[tag.outcome]).classes("sign bad" if doubted else "soft"):
            html.bdi(f"{tag.outcome}: {shown(tag.label)}")


def _pages(snapshot: TagSnapshot) -> None:
    address, total = snapshot.address, snapshot.page.total
    at = int(address.page or 0)
    with html.nav(**{"aria-label": "Pages"}).classes("actions"):
        if at:
            html.a("Before", href=replace(address, page=str(at - 1)).link()).classes("button")
        if (at + 1) * PAGE < total:
            html.a("After", href=replace(address, page=str(at + 1)).link()).classes("button")
