"""How Great Expectations' pages are drawn: as its own view does, but complete in themselves and escaped.

Its templates take styles, scripts and pictures from public servers, and draw the index's table by one of those scripts.
The templates under ``data_docs_parts`` take their place: no script, one style sheet within the page, tables and what
was folded away as plain HTML. Its view also passes plain strings on as markup; here they are text.
"""

import html
from pathlib import Path
from typing import Any

from great_expectations.render.view.view import DefaultJinjaIndexPageView, DefaultJinjaPageView
from jinja2 import BaseLoader, ChoiceLoader, Environment, FileSystemLoader, pass_context

from evaluation.pages.style import style_sheet

PARTS = Path(__file__).parent / "data_docs_parts"


class _Offline:
    """Before one of Great Expectations' views: our templates first, strings as text."""

    env: Environment

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        theirs = self.env.loader
        assert isinstance(theirs, BaseLoader)
        self.env.loader = ChoiceLoader([FileSystemLoader(PARTS), theirs])
        self.env.globals["style"] = style_sheet(PARTS / "style.css")

    @pass_context
    def render_content_block(self, jinja_context: Any, content_block: Any, *arguments: Any, **named: Any) -> Any:
        """A string, and each string of a list, escaped; everything else as Great Expectations renders it."""
        if isinstance(content_block, str):
            return html.escape(content_block)
        if isinstance(content_block, list):
            content_block = [html.escape(each) if isinstance(each, str) else each for each in content_block]
        parent: Any = super()
        return parent.render_content_block(jinja_context, content_block, *arguments, **named)


class PageView(_Offline, DefaultJinjaPageView):
    """Of a run, and of a suite."""


class IndexView(_Offline, DefaultJinjaIndexPageView):
    """Of the list of runs."""
