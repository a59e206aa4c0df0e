"""Great Expectations' pages: they load nothing, and what tables hold is text in them."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from evaluation.gates.data_docs import Decision, ask, index_page, rule
from vitrine.settings import Settings

EVIL = "<script>alert(1)</script>"


class Loads(HTMLParser):
    """What a browser would load from elsewhere, what runs, and where links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.remote: list[str] = []
        self.running: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "data", "href") and re.match(r"(https?:)?//", value or ""):
                self.remote.append(f"{tag} {value}")
            if name.startswith("on"):
                self.running.append(f"{tag} {name}")
        if tag in ("script", "iframe", "object", "embed", "base"):
            self.running.append(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first page of a gate that one good and one hostile photo went through."""
    settings = Settings(home=tmp_path_factory.mktemp("docs") / "a $HOME ${nowhere} $1")
    frame = pd.DataFrame({"image_id": ["shop/a", f"shop/{EVIL}"], "width": [10, 0]})
    asked = [
        rule("ExpectColumnValuesToBeInSet", f"a known photo {EVIL}", column="image_id", value_set=["shop/a", EVIL]),
        rule("ExpectColumnValuesToMatchRegex", "a plain id", column="image_id", regex="^[a-z/<]*$"),
        rule("ExpectColumnValuesToBeBetween", "width is at least 1", column="width", min_value=1),
        Decision(f"no category fell: {EVIL} of $hats", False, {"worst": f"{EVIL} $hats", "value": 0.25}),
    ]
    ask(settings, "catalog shop", asked, "r1", frame)
    return index_page(settings)


@pytest.fixture
def pages(index: Path) -> list[Path]:
    return sorted(index.parent.rglob("*.html"))


def test_no_page_loads_anything(pages: list[Path]) -> None:
    assert len(pages) == 3  # the index, the suite, the run
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert Loads(html).remote == [] and "@import" not in html and "url(" not in html
        assert "default-src 'none'" in html


def test_what_a_table_holds_is_text(pages: list[Path]) -> None:
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert EVIL not in html and Loads(html).running == []
    told = "".join(page.read_text(encoding="utf-8") for page in pages if "validations" in page.parts)
    assert f"shop/{EVIL}".replace("<", "&lt;").replace(">", "&gt;") in told  # once, not twice escaped
    assert "of $hats" in told and "$hats, value 0.25" in told


def test_links_lead_to_pages(pages: list[Path], index: Path) -> None:
    links = [link for link in Loads(index.read_text(encoding="utf-8")).links if not link.startswith("#")]
    assert len(links) >= 3
    for page in pages:
        for link in Loads(page.read_text(encoding="utf-8")).links:
            assert link.startswith("#") or (page.parent / unquote(link)).resolve() in pages, (page, link)


def test_the_index_says_how_each_run_ended(index: Path) -> None:
    html = index.read_text(encoding="utf-8")
    assert "Failed" in html and "r1" in html and "catalog shop" in html
