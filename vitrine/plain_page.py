"""A page of one answer: a heading, a chart and a table, in one file that opens without a network."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from vitrine import files

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1d2026;
  background: #fff }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 } th, td { text-align: left; padding: .3rem .6rem;
  border-bottom: 1px solid #d5d8de; vertical-align: top }
@media (prefers-color-scheme: dark) { body { color: #e6e8ec; background: #16181d } th, td { border-color: #3a3f49 } }
"""


def write(
    path: Path,
    title: str,
    answer: str,
    about: Sequence[str],
    figure: Any,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
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
        f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></html>",
    )
