"""A page of one answer: a heading, a chart, a table and pictures, in one file that opens without a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from vitrine import files

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1d2026;
  background: #fff }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 } th, td { text-align: left; padding: .3rem .6rem;
  border-bottom: 1px solid #d5d8de; vertical-align: top } td:last-child { overflow-wrap: anywhere }
.strip { display: flex; flex-wrap: wrap; gap: .5rem; margin: .5rem 0 }
.strip > p { flex: 0 0 100%; margin: 0 } figure { margin: 0; width: 7rem; font-size: .75rem; overflow-wrap: anywhere }
figure img { width: 7rem; height: 7rem; object-fit: contain; border: 3px solid #8a909c; box-sizing: border-box }
figure.right img { border-color: #2e8b57 } figure.wrong img { border-color: #c0392b; border-style: dashed }
@media (prefers-color-scheme: dark) { body { color: #e6e8ec; background: #16181d } th, td { border-color: #3a3f49 } }
"""


@dataclass(frozen=True)
class Picture:
    """A photo, or why it cannot be shown."""

    data: str | None
    """A data: URI."""
    caption: str
    right: bool | None = None
    """Is it a right answer? None: it is no answer."""


@dataclass(frozen=True)
class Strip:
    """Pictures side by side."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Gallery:
    """Strips under a heading."""

    title: str
    strips: Sequence[Strip]


def write(
    path: Path,
    title: str,
    answer: str,
    about: Sequence[str],
    figure: Any,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    galleries: Sequence[Gallery] = (),
) -> None:
    """Write the page to ``path``. All text is escaped.

    Args:
        answer: a sentence without its full stop, shown in bold; ``about``: paragraphs, the first of them beside it.
        figure: Plotly's, the texts in it escaped.
        head, rows: of the table.
    """
    lead, *others = about
    columns = "".join(f"<th scope=col>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    files.write_text(
        path,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(title)}</h1><p><b>{escape(answer)}.</b> {escape(lead)}</p>"
        f"{''.join(f'<p>{escape(each)}</p>' for each in others)}"
        f"{figure.to_html(include_plotlyjs=True, full_html=False)}"
        f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"
        f"{''.join(map(_gallery, galleries))}</html>",
    )


def _gallery(gallery: Gallery) -> str:
    strips = (
        f"<div class=strip><p>{escape(strip.title)}</p>{''.join(map(_picture, strip.pictures))}</div>"
        for strip in gallery.strips
    )
    return f"<h2>{escape(gallery.title)}</h2>{''.join(strips)}"


def _picture(picture: Picture) -> str:
    name = {None: "", True: " class=right", False: " class=wrong"}[picture.right]
    said = {None: "", True: "✓ ", False: "✕ "}[picture.right] + picture.caption
    shown = f'<img src="{escape(picture.data)}" alt="{escape(said)}">' if picture.data else ""
    return f"<figure{name}>{shown}<figcaption>{escape(said)}</figcaption></figure>"
