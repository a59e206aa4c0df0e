"""The report as a browser shows it: drawn, complete, readable on a desk and on a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation.report import report
from vitrine.settings import Settings

CHROMIUM = Path("/usr/bin/chromium")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="no /usr/bin/chromium: scripts/test_servers.sh installs it"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


class Visit:
    """A page as it was opened: its messages and errors, and the addresses that it asked for."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int]) -> None:
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-charts=drawn]", timeout=60_000)


@pytest.fixture(scope="module")
def written(full_shop: Settings) -> Path:
    return report.write_report(full_shop)


@pytest.fixture(scope="module", params=list(SIZES))
def visit(request: pytest.FixtureRequest, browser: Any, written: Path) -> Iterator[Visit]:
    made = Visit(browser, written, SIZES[request.param])
    yield made
    made.context.close()


def test_nothing_is_complained_of_and_nothing_is_loaded(visit: Visit) -> None:
    assert visit.messages == []
    assert [url for url in visit.asked if not url.startswith(("file://", "data:", "blob:"))] == []
    assert len([url for url in visit.asked if url.startswith("file://")]) == 1


def test_every_picture_loads(visit: Visit) -> None:
    widths = visit.page.evaluate(
        """async () => {
          const pictures = [...document.images];
          for (const picture of pictures) { picture.loading = "eager"; await picture.decode().catch(() => {}); }
          return pictures.map((picture) => picture.naturalWidth);
        }"""
    )
    assert len(widths) > 50 and min(widths) > 0


def test_every_link_has_its_target(visit: Visit) -> None:
    dead = visit.page.evaluate(
        """() => [...document.querySelectorAll("a")].map((a) => a.getAttribute("href"))
          .filter((href) => !(href.startsWith("#") && document.getElementById(href.slice(1))))"""
    )
    assert dead == []


def test_every_chart_is_drawn(visit: Visit) -> None:
    plots = visit.page.locator(".plot")
    assert plots.count() >= 10
    drawn = visit.page.evaluate(
        """() => [...document.querySelectorAll(".plot")]
          .map((plot) => plot.querySelectorAll("svg .points, svg .bars").length)"""
    )
    assert min(drawn) > 0


def test_nothing_is_wider_than_the_screen(visit: Visit) -> None:
    wide = visit.page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          return [document.documentElement.scrollWidth - width, ...[...document.querySelectorAll("body *")]
            .filter((e) => !e.closest(".scroll, nav, .sr, .skip, svg") && e.getBoundingClientRect().right > width + 1)
            .map((e) => e.className || e.tagName)];
        }"""
    )
    assert wide == [0]


def test_what_screen_readers_need(visit: Visit) -> None:
    faults = visit.page.evaluate(
        """() => {
          const faults = [], all = (css) => [...document.querySelectorAll(css)];
          for (const image of all("img")) if (!image.alt) faults.push("a picture without words");
          for (const plot of all(".plot")) if (!plot.getAttribute("aria-label")) faults.push("a chart without words");
          for (const table of all("table"))
            if (!table.caption || !table.querySelector("th[scope]")) faults.push("a bare table");
          for (const region of all("[role=region]"))
            if (region.tabIndex !== 0) faults.push("a region that keys do not reach");
          for (const section of all("section[aria-labelledby]"))
            if (!document.getElementById(section.getAttribute("aria-labelledby"))) faults.push("a nameless section");
          for (const one of ["header", "nav", "main", "footer", "h1"]) if (!all(one).length) faults.push("no " + one);
          let level = 0;
          for (const heading of all("h1, h2, h3, h4")) {
            const own = +heading.tagName[1];
            if (own > level + 1) faults.push("a heading that skips a level: " + heading.textContent);
            level = own;
          }
          return faults;
        }"""
    )
    assert faults == []


def test_the_skip_link_comes_first_and_can_be_seen(visit: Visit) -> None:
    visit.page.evaluate("scrollTo(0, 0)")
    visit.page.keyboard.press("Tab")
    focused = visit.page.evaluate(
        "[document.activeElement.className, document.activeElement.getBoundingClientRect().x]"
    )
    assert focused[0] == "skip" and focused[1] >= 0


def test_words_can_be_read_by_night(visit: Visit) -> None:
    visit.page.emulate_media(color_scheme="dark")
    colours = visit.page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert colours == ["rgb(236, 238, 240)", "rgb(18, 20, 22)"]
    fill = visit.page.evaluate("getComputedStyle(document.querySelector('.plot .annotation text')).fill")
    assert fill == colours[0]
    visit.page.emulate_media(color_scheme="light")
