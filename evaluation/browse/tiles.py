"""Photos with their captions, as every part of the page shows them."""

from collections.abc import Sequence

from nicegui import html
from nicegui.element import Element

from evaluation.browse.address import Address, thumbnail_link
from evaluation.browse.catalog import CatalogPhoto
from evaluation.pages.text import shown


def label(name: str, dataset: str) -> str:
    """An id for people: without the data set before it."""
    return shown(name.removeprefix(f"{dataset}/"))


def count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def tile(
    address: Address, photo: CatalogPhoto, *, rank: int = 0, similarity: float | None = None, right: bool | None = None
) -> Element:
    """One photo that leads to its own neighbours, marked right or wrong where that is known."""
    verdict = {True: "right", False: "wrong", None: ""}[right]
    spoken = ", ".join(part for part in (f"Nearest {rank}" if rank else "Photo", verdict) if part)
    with html.li().classes(verdict) as item, html.a(href=address.link(image=photo.image_id, upload="")).classes("shot"):
        with html.span().classes("frame"):
            html.img(
                src=thumbnail_link(address.dataset, photo),
                alt=f"{spoken}: {shown(photo.product_id)}",
                loading="lazy",
                decoding="async",
            )
            if right is not None:
                html.span("✓" if right else "✕", **{"aria-hidden": "true"}).classes("mark")
        with html.span().classes("caption"):
            html.bdi(label(photo.product_id, address.dataset), title=shown(photo.image_id)).classes("id")
            if similarity is not None:
                html.span(f"{similarity:.3f}", title="Cosine similarity").classes("similarity")
    return item


def nothing(title: str, text: str, commands: Sequence[str]) -> None:
    """What to do where there is nothing to be shown."""
    with html.section().classes("card empty"):
        html.h2(shown(title))
        html.p(shown(text)).classes("soft")
        for command in commands:
            html.code(shown(command)).classes("command")
        with html.p().classes("soft small"):
            html.span("Then ")
            html.a("look again", href="/")
            html.span(".")
