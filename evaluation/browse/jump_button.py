"""Buttons that lead to a random one of some queries."""

import secrets
from collections.abc import Callable

from nicegui import html, ui
from nicegui.element import Element

from evaluation.browse.view import View


def jump_button(view: View, text: str, queries: Callable[[], set[str]], *, small: bool = False) -> Element:
    """A button to a random one of ``queries`` (image ids), of the chosen category, other than the query shown."""
    address = view.address

    def go() -> None:
        photos = (view.snapshot.catalog.find(image_id) for image_id in queries() if image_id != address.image)
        fitting = sorted(p.image_id for p in photos if p and (not address.category or p.category == address.category))
        if fitting:
            ui.navigate.to(address.link(image=secrets.choice(fitting), upload=""))
        else:
            ui.notify("There is no other one" + (" of this category" if address.category else ""))

    return html.button(text, type="button").classes("link-button" if small else "button").on("click", go)
