"""The report page: complete in itself, safe against hostile text, right about right and wrong."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from evaluation.report import charts, costs, figures, photos, report
from evaluation.report.figures import Group
from vitrine import facts, lake, tables
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

EVIL = "<script>alert(1)</script>"
NIGHT = datetime(2026, 3, 1, 2, tzinfo=UTC)
ENCODERS = {"lite": "aaaaaaaa11111111", "tiny": "bbbbbbbb22222222"}


class Page(HTMLParser):
    """What a test asks of a page: its tags with their attributes, and the text of each kind of script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return load_settings(tmp_path)


def photo_rows(folder: Path, products: list[str], each: int = 3) -> list[dict[str, Any]]:
    folder.mkdir()
    rows = []
    for number, product in enumerate(products):
        for photo in range(each):
            path = folder / f"{number}-{photo}.jpg"
            Image.new("RGB", (300, 200), (40 * number % 256, 80 * photo, 120)).save(path, quality=60)
            rows.append(
                {
                    "image_id": f"shop/{product}/{photo}.jpg",
                    "dataset": "shop",
                    "product_id": f"shop/{product}",
                    "uri": str(path),
                    "size": path.stat().st_size,
                    "modified_at": NIGHT,
                    "content_sha256": f"{number}-{photo}",
                    "width": 300,
                    "height": 200,
                    "content_seen_at": NIGHT,
                    "updated_at": NIGHT,
                }
            )
    return rows


def metric(encoder: str, name: str, value: float, **other: Any) -> dict[str, Any]:
    return {
        "encoder_version": ENCODERS[encoder],
        "encoder": encoder,
        "dataset": "shop",
        "catalog_version": "c1",
        "query_split": "all",
        "index_split": "all",
        "relevant": "product_id",
        "classifier": "",
        "slice": "all",
        "seed": 0,
        "metric": name,
        "value": value,
        "queries": 9,
        "queries_left_out": 1,
        "index_size": 9,
        "run_id": "r",
        "computed_at": NIGHT,
    } | other


def run(verb: str, minute: int, figures: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {
        "run_id": f"{verb}-{minute}",
        "verb": verb,
        "dataset": "shop",
        "state": "done",
        "started_at": NIGHT + timedelta(minutes=minute),
        "seconds": 12.5,
        "peak_mib": 512.0,
        "figures": json.dumps(figures),
    } | other


def promotion(**other: Any) -> dict[str, Any]:
    return {
        "dataset": "shop",
        "promoted_at": NIGHT,
        "encoder": "lite",
        "encoder_version": ENCODERS["lite"],
        "catalog_version": "c1",
        "gates": "{}",
        "forced": False,
    } | other


def query(catalog: list[dict[str, Any]], at: int, near: list[int], n_relevant: int = 2) -> dict[str, Any]:
    products = [row["product_id"] for row in catalog]
    return {
        "encoder_version": ENCODERS["lite"],
        "dataset": "shop",
        "catalog_version": "c1",
        "query_split": "all",
        "index_split": "all",
        "relevant": "product_id",
        "query_id": catalog[at]["image_id"],
        "neighbours": [catalog[n]["image_id"] for n in near],
        "similarities": [0.9 - 0.1 * rank for rank in range(len(near))],
        "relevance": [products[n] == products[at] for n in near],
        "n_relevant": n_relevant,
    }


@pytest.fixture
def catalog(settings: Settings, tmp_path: Path) -> list[dict[str, Any]]:
    """Three products of three photos, one named by an enemy; two encoders, one of which a gate refused."""
    rows = photo_rows(tmp_path / "photos", ["mug", "hat", EVIL])
    lake.append(settings, tables.CATALOG, rows)
    measured = [
        metric(encoder, name, value + 0.01 * at, **({"low": 0.625, "high": 0.75} if at == 0 and value > 0.6 else {}))
        for encoder, value in (("lite", 0.7), ("tiny", 0.5))
        for at, name in enumerate(report.METRICS)
    ]
    measured += [metric("lite", "mMP@5", 0.111, slice="shuffled_labels")]
    measured += [metric("lite", "mMP@5", 0.612, slice="without_duplicates")]
    measured += [metric("lite", "mMP@5", 0.123, catalog_version="c0", computed_at=NIGHT - timedelta(days=1))]
    lake.append(settings, tables.METRICS, measured)
    results = [query(rows, 0, [1, 2, 3]), query(rows, 3, [0, 1, 4]), query(rows, 6, [7, 0, 8])]
    lake.append(settings, tables.QUERY_RESULTS, results)
    refusal = {"expectation": f"floor {EVIL}", "figures": {"observed": 0.41, "min_value": 0.5}}
    lake.append(
        settings,
        tables.RUNS,
        [
            run("ingest", -1440, {"images": 9}),
            run("ingest", 0, {"images": 9, "added": 9, "quarantined": 1}),
            run("embed", 1, {"computed": 9, "money": 0.9}, encoder="lite", encoder_version=ENCODERS["lite"]),
            run("embed", 2, {"computed": 9}, encoder="tiny", encoder_version=ENCODERS["tiny"], seconds=4.5),
            run("gate", 3, {"gate": "metrics", "failed": [], "warnings": [f"unclear {EVIL}"]}, encoder="lite"),
            run("gate", 4, {"gate": "metrics", "failed": [refusal]}, encoder="tiny", state="refused"),
        ],
    )
    lake.append(settings, tables.PROMOTIONS, [promotion()])
    lake.append(
        settings,
        tables.QUARANTINE,
        [
            {
                "image_id": f'shop/a"b\n\u202e{EVIL}.jpg',
                "dataset": "shop",
                "stage": "ingest",
                "encoder": "",
                "uri": "/x.jpg",
                "code": "truncated",
                "reason": f"ends early {EVIL}",
                "first_seen": NIGHT,
                "last_seen": NIGHT,
            }
        ],
    )
    return rows


def write(settings: Settings) -> tuple[str, Page]:
    html = report.write_report(settings).read_text(encoding="utf-8")
    return html, Page(html)


def test_nothing_is_loaded_from_anywhere(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    html, page = write(settings)
    assert not page.all("link") and not page.all("iframe") and not page.all("object") and not page.all("base")
    assert all((a["src"] or "").startswith("data:image/jpeg;base64,") for a in page.all("img"))
    assert all("src" not in a for a in page.all("script"))
    assert all((a["href"] or "").startswith("#") for a in page.all("a"))
    assert "@import" not in html and not re.search(r"url\(", html)
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"] or ""
    assert policy.startswith("default-src 'none'; img-src data:")
    nonce = re.search(r"'nonce-([^']+)'", policy)
    running = [a for a in page.all("script") if a.get("type") is None]
    assert nonce and [a["nonce"] for a in running] == [nonce[1]]
    assert html.count('id="plotly-packed"') == 1
    assert len(html) < 3_000_000


def test_hostile_text_is_only_text(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    html, page = write(settings)
    assert EVIL not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert len(page.all("script")) == 3  # plotly's data, the charts' data, and the one that runs
    assert 'a"b\\n\\u202e' in page.text  # what does not print is spelled out
    assert "\u202e" not in html
    assert all("alert" not in str(a.get("onerror", "")) for _, a in page.tags)


def test_hostile_names_in_charts() -> None:
    about = {"family": "supervised", "strategy": "pretrained"}
    entry = SimpleNamespace(label=EVIL, number=1, values={"mMP@5": 0.5}, intervals={}, about=about)
    group: Any = SimpleNamespace(encoders=[entry], chance={})
    chart = charts.retrieval(group, "mMP@5")
    assert chart is not None
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt;"  # plotly reads entities
    assert chart["data"][0]["customdata"] == [f"1  {escaped}"]
    assert chart["layout"]["annotations"][0]["text"] == f"1  {escaped}"
    ran: Any = SimpleNamespace(verb="</script><b>", seconds=1.0)
    chart = charts.night([ran])
    assert chart is not None
    assert chart["data"][0]["y"] == ["&lt;/script&gt;&lt;b&gt;"]


def test_charts_hold_the_figures(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    html, _ = write(settings)
    embedded = re.search(r'<script type="application/json" id="charts">(.*?)</script>', html, re.S)
    assert embedded
    drawn = {chart["id"]: chart for chart in json.loads(embedded[1])}
    assert set(drawn) == {"chart-retrieval-shop", "chart-night-shop", "chart-seconds-shop"}
    dots = drawn["chart-retrieval-shop"]["data"][0]
    assert (dots["x"], dots["y"]) == ([0.7, 0.5], [0, 1])
    whiskers = dots["error_x"]
    assert whiskers["array"] == pytest.approx([0.05, 0]) and whiskers["arrayminus"] == pytest.approx([0.075, 0])
    assert drawn["chart-retrieval-shop"]["layout"]["shapes"][0]["x0"] == 0.111  # chance
    assert drawn["chart-night-shop"]["data"][0]["x"] == [12.5, 17.0, 25.0]  # yesterday's ingest is not in it
    front, points = drawn["chart-seconds-shop"]["data"]
    assert points["x"] == pytest.approx([12500 / 9, 500.0]) and points["text"] == ["1", "2"]
    assert front["x"] == pytest.approx([500.0, 12500 / 9]) and front["y"] == [0.5, 0.7]


def test_current_figures_and_what_serves(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    _, page = write(settings)
    text = " ".join(page.text.split())
    assert "0.123" not in text  # of an older catalog
    assert "Chance (labels shuffled) 0.111" in text
    assert "0.700 0.625 \N{EN DASH} 0.750" in text
    assert "mMP@5 is 0.612 in place of 0.700 by lite: finding copies made the figure look better by 0.088." in text
    assert "warning unclear <script>alert(1)</script>" in text
    assert "passed its gates" in text and "forced past" not in text
    assert "gate metrics of tiny: refused" in text
    assert "floor <script>alert(1)</script> observed 0.41 · min value 0.5" in text
    assert "With lite the nearest photo is right for 71 of 100 queries" in text
    assert facts.catalog_version(settings, "shop") in text


def test_forced_promotion_says_why(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    gates = json.dumps({"metrics": {"problem": f"refused {EVIL}"}, "catalog": {"problem": None}})
    later = promotion(promoted_at=NIGHT + timedelta(hours=1), forced=True, reason=f"sale {EVIL}", gates=gates)
    lake.append(settings, tables.PROMOTIONS, [later])
    html, page = write(settings)
    assert "forced past its gates" in page.text
    assert f"Forced: sale {EVIL}" in page.text and EVIL not in html
    assert f"refused {EVIL}" in page.text


def test_right_and_wrong_neighbours(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    html, page = write(settings)
    marks = re.findall(r'<li class="(right|wrong)">.*?aria-hidden="true">(.)</span>', html, re.S)
    assert set(marks) == {("right", "✓"), ("wrong", "✕")}
    alts = [a["alt"] or "" for a in page.all("img")]
    assert "Nearest 1, right: shop/mug" in alts and "Nearest 1, wrong: shop/mug" in alts
    assert "2 of the first 2 right" in " ".join(page.text.split())
    data = (page.all("img")[0]["src"] or "").partition(",")[2]
    assert Image.open(BytesIO(base64.b64decode(data))).size == (160, 107)


def main_group(settings: Settings) -> Group:
    serving = facts.serving(settings, "shop")
    served = serving["encoder_version"] if serving else None
    return figures.groups(settings, "shop", served, figures.registered(settings))[0]


def test_worst_queries_come_worst_first(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    gallery = photos.galleries(settings, main_group(settings))
    assert gallery
    assert {q["query_id"] for q in gallery["typical"]} == {catalog[at]["image_id"] for at in (0, 3, 6)}
    # A hit at rank 3 does not count where only two are to be found.
    assert [(q["query_id"], q["score"]) for q in gallery["worst"]] == [
        ("shop/hat/0.jpg", 0.0),
        (f"shop/{EVIL}/0.jpg", 0.5),
    ]


def test_side_by_side_shows_what_one_gets_right_and_the_other_wrong(
    settings: Settings, catalog: list[dict[str, Any]]
) -> None:
    other = {"encoder_version": ENCODERS["tiny"]}
    near = ((0, [5, 4, 3]), (3, [4, 5, 0]), (6, [7, 0, 8]))  # worse, better, as good
    lake.append(settings, tables.QUERY_RESULTS, [query(catalog, at, nearest) | other for at, nearest in near])
    gallery = photos.galleries(settings, main_group(settings))
    assert gallery and (gallery["encoder"].encoder, gallery["other"].encoder) == ("lite", "tiny")
    sides = [(q["query_id"], q["score"], q["other_score"]) for side in ("ours", "theirs") for q in gallery[side]]
    assert sides == [("shop/mug/0.jpg", 1.0, 0.0), ("shop/hat/0.jpg", 0.0, 1.0)]
    assert [it["right"] for it in gallery["ours"][0]["other_near"]] == [False, False, False]
    _, page = write(settings)
    text = " ".join(page.text.split())
    assert re.search(r"lite serves gets right what number 2 tiny gets wrong", text)
    assert "lite: 2 of 2 right" in text and "tiny: 0 of 2 right" in text


def test_near_duplicates_of_different_products_come_first(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    gallery = photos.galleries(settings, main_group(settings))
    assert gallery
    pairs = [(pair["ids"], pair["same_product"], pair["same_content"]) for pair in gallery["copies"]["pairs"]]
    assert pairs[0] == (("shop/hat/0.jpg", "shop/mug/0.jpg"), False, False)
    assert all(same for _, same, _ in pairs[1:]) and gallery["copies"]["equal"] == 0
    lake.append(settings, tables.CATALOG, [catalog[0] | {"image_id": "shop/hat/copy.jpg", "product_id": "shop/hat"}])
    copies = photos.galleries(settings, main_group(settings))
    assert copies and (copies["copies"]["equal"], copies["copies"]["contested"]) == (1, 1)


def test_photos_that_cannot_be_shown(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    Path(catalog[1]["uri"]).unlink()
    Path(catalog[2]["uri"]).write_bytes(b"no picture")
    gone = query(catalog, 0, [1, 2]) | {"query_id": "shop/left/0.jpg"}
    lake.append(settings, tables.QUERY_RESULTS, [gone])
    _, page = write(settings)
    labels = [a["aria-label"] or "" for a in page.all("span", role="img")]
    assert any(label.startswith("Nearest 1, right: shop/mug: missing: ") for label in labels)
    assert any(label.startswith("Nearest 2, right: shop/mug: not_an_image: ") for label in labels)
    assert "Query photo of shop/left/0.jpg: no longer in the catalog" in labels


def test_empty_lake(settings: Settings) -> None:
    html, page = write(settings)
    assert "There is no data set yet" in page.text
    assert not page.all("script") and len(html) < 40_000


def test_catalog_without_metrics(settings: Settings, tmp_path: Path) -> None:
    lake.append(settings, tables.CATALOG, photo_rows(tmp_path / "photos", ["mug"]))
    _, page = write(settings)
    for words in ("There are no metrics yet", "No run has been recorded", "No gate has run", "nothing serves"):
        assert words in page.text


def test_unknown_data_set(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="unknown data set 'nope': choose one of shop"):
        report.write_report(settings, ["nope"])
    assert not (settings.reports / "report.html").exists()


def test_links_to_data_docs_where_there_are(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    docs = settings.reports / "data_docs" / "index.html"
    docs.parent.mkdir(parents=True)
    docs.write_text("x")
    _, page = write(settings)
    assert page.all("a", href="data_docs/index.html")


def test_a_failed_write_leaves_the_old_page(
    settings: Settings, catalog: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = report.write_report(settings)
    before = path.read_bytes()

    def full(self: Path, target: Path) -> Path:
        assert path.read_bytes() == before  # the new page is whole before it takes the old one's place
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        report.write_report(settings)
    assert path.read_bytes() == before
    assert [p.name for p in settings.reports.iterdir()] == ["report.html"]


# ---- a shop with everything ----


def test_a_night_with_little_to_do_is_no_measure_of_costs(settings: Settings, catalog: list[dict[str, Any]]) -> None:
    version = {"encoder": "lite", "encoder_version": ENCODERS["lite"]}
    lake.append(settings, tables.RUNS, [run("embed", 90, {"computed": 1}, **version), run("embed", 91, {}, **version)])
    by_version = costs.by_version(settings, main_group(settings), {})
    lite, tiny = (by_version[ENCODERS[name]] for name in ("lite", "tiny"))
    assert lite.seconds and lite.seconds.value == pytest.approx(12500 / 9)
    assert lite.money and lite.money.value == pytest.approx(100.0) and tiny.money is None


def test_the_whole_page(full_shop: Settings) -> None:
    _, page = write(full_shop)
    text = " ".join(page.text.split())
    for words in (
        "Search", "Tagging by category", "Least cost", "What tuning gains", "Tuned here, measured there",
        "Can its confidence be believed?", "Confusion matrix", "the sale starts at noon", "Without exact duplicates",
        "gate metrics refused: no worse than what serves", "EUR per 1,000 photos", "Most often mistaken",
    ):  # fmt: skip
        assert words in text, words
    undecided = r"Search ≈ the figures do not decide .*? between siglip_vitb16, clip_vitb32 and dinov2_vits14\."
    assert re.search(undecided, text) and "more queries would decide" in text
    assert len(page.all("img")) <= 2 * photos.MOST_THUMBNAILS
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= set(ids)


def test_figures_by_an_attribute(settings: Settings, catalog: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch):
    values = {"colour=red": 0.5, f"colour={EVIL}": 0.9, "colours=not this one": 0.1, "macro_colour": 0.7}
    lake.append(settings, tables.METRICS, [metric("lite", "mMP@5", each, slice=name) for name, each in values.items()])
    assert "colour" not in write(settings)[1].text
    monkeypatch.setenv("VITRINE_EVALUATE__SLICES", '["colour"]')
    html, page = write(load_settings(settings.root))
    assert "in each value of colour, the worst first" in " ".join(page.text.split())
    assert "Mean over values of colour" in page.text and "not this one" not in page.text
    assert [each["href"] for each in page.all("a") if "-by-" in str(each.get("href"))] == ["#set-1-by-colour"]
    assert EVIL not in html
