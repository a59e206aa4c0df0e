"""Buttons that lead to another query: a random one of some, or a photo from the visitor's own disk."""

import secrets
from collections.abc import Callable

from nicegui import events, html, run, ui
from nicegui.element import Element

from evaluation.browse.address import Address
from evaluation.browse.uploads import MOST_BYTES, Uploads
from evaluation.browse.view import View
from evaluation.pages.text import shown
from vitrine.images import ImageError

_HEADER = """
<q-btn flat no-caps class="upload-button full-width" @click="props.pickFiles">
  Upload a photo<q-uploader-add-trigger />
</q-btn>
"""


def jump_button(view: View, text: str, queries: Callable[[], set[str]], *, small: bool = False) -> Element:
    """A button to a random one of ``queries`` (image ids), with the chosen labels, other than the query shown."""
    address = view.address

    def go() -> None:
        catalog = view.snapshot.catalog
        places = (catalog.positions.get(image_id) for image_id in queries() if image_id != address.image)
        offered = catalog.within(address.labels)
        fitting = [catalog.ids[at] for at in places if at is not None and offered[at]]
        if fitting:
            ui.navigate.to(address.link(image=secrets.choice(fitting), upload=""))
        else:
            ui.notify("There is no other one" + (" among these" if address.labels else ""))

    return html.button(text, type="button").classes("link-button" if small else "button").on("click", go)


def upload_button(uploads: Uploads, address: Address) -> None:
    """Choose a file, or drop one here; a file that is no picture gives its reason below."""
    limit = f"{MOST_BYTES // 1024**2} MB"

    async def take(event: events.UploadEventArguments) -> None:
        data = await event.file.read()
        try:
            token = await run.io_bound(uploads.take, event.file.name, data)
        except ImageError as error:
            show_fault(f"{shown(event.file.name, 80)}: {error}")
        else:
            if token is not None:  # else the server stops
                ui.navigate.to(address.link(image="", upload=token))
        finally:
            upload.reset()

    def show_fault(text: str) -> None:
        fault.set_visibility(True)
        fault.clear()
        with fault:
            html.span(text)

    upload = ui.upload(
        on_upload=take,
        on_rejected=lambda: show_fault(f"That file is not taken: it must be a picture of at most {limit}."),
        max_file_size=MOST_BYTES,
        auto_upload=True,
    )
    upload.props("flat accept=image/* hide-upload-btn").classes("uploader")
    upload.add_slot("header", _HEADER)
    html.p(f"JPEG, PNG, WebP and others, up to {limit}. It stays on this machine.").classes("soft small hint")
    fault = html.p(role="alert").classes("note")
    fault.set_visibility(False)
