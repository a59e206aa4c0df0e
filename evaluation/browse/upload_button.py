"""A photo from the visitor's own disk."""

from nicegui import events, html, run, ui

from evaluation.browse.state import State
from evaluation.browse.uploads import MOST_BYTES, Uploads
from evaluation.pages.text import shown
from vitrine.images import ImageError

_HEADER = """
<q-btn flat no-caps class="upload-button full-width" @click="props.pickFiles">
  Upload a photo<q-uploader-add-trigger />
</q-btn>
"""


def upload_button(uploads: Uploads, state: State) -> None:
    """Choose a file, or drop one here; a file that is no picture gives its reason below."""
    limit = f"{MOST_BYTES // 1024**2} MB"

    async def take(event: events.UploadEventArguments) -> None:
        data = await event.file.read()
        said = await run.io_bound(_take, uploads, event.file.name, data)
        upload.reset()
        if isinstance(said, ImageError):
            tell(f"{shown(event.file.name, 80)}: {said}")
        elif said is not None:
            ui.navigate.to(state.to(image="", upload=said))

    def tell(text: str) -> None:
        fault.set_visibility(True)
        fault.clear()
        with fault:
            html.span(text)

    upload = ui.upload(
        on_upload=take,
        on_rejected=lambda: tell(f"That file is not taken: it must be a picture of at most {limit}."),
        max_file_size=MOST_BYTES,
        auto_upload=True,
    )
    upload.props("flat accept=image/* hide-upload-btn").classes("uploader")
    upload.add_slot("header", _HEADER)
    html.p(f"JPEG, PNG, WebP and others, up to {limit}. It stays on this machine.").classes("soft small hint")
    fault = html.p(role="alert").classes("note")
    fault.set_visibility(False)


def _take(uploads: Uploads, name: str, data: bytes) -> str | ImageError:
    try:
        return uploads.take(name, data)
    except ImageError as error:
        return error
