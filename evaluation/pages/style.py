"""The style sheet that all pages share."""

from pathlib import Path

SHARED = Path(__file__).with_name("style.css")


def style_sheet(own: Path) -> str:
    """The shared style sheet, followed by a page's ``own``."""
    return SHARED.read_text(encoding="utf-8") + own.read_text(encoding="utf-8")
