"""Buttons that lead to a random one of some queries."""

import secrets
from collections.abc import Callable

from nicegui import html, ui
from nicegui.element import Element

from evaluation.browse.shared import Scene
from evaluation.browse.state import State


def jump(scene: Scene, state: State, text: str, among: Callable[[], set[str]], *, small: bool = False) -> Element:
    """A button to a random one of the queries that ``among`` gives, of the chosen category, other than the query."""

    def go() -> None:
        photos = (scene.catalog.find(image_id) for image_id in among() if image_id != state.image)
        fits = sorted(p.image_id for p in photos if p and (not state.category or p.category == state.category))
        if fits:
            ui.navigate.to(state.to(image=secrets.choice(fits), upload=""))
        else:
            ui.notify("There is no other one" + (" of this category" if state.category else ""))

    return html.button(text, type="button").classes("link-button" if small else "button").on("click", go)
