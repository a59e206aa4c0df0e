"""Attributes of photos: kept with the catalog and its history, and no reason to embed a photo again."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from spark_jobs.embed_catalog import embed
from spark_jobs.ingest_catalog import ingest
from spark_jobs.sql.queries import ask
from tests.support.table_sizes import IN_BOTH_SIZES
from tests.support.verbs_here import told
from vitrine import facts, lake
from vitrine.change_feed import ChangeFeed
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.setting_sections import EmbedSettings, EncoderSettings
from vitrine.settings import Settings, load_settings
from vitrine.tables import CATALOG, EMBEDDINGS, LABELS, PRODUCT_EMBEDDINGS

GIVEN = {"colour": "Farbe", "brand": "brand"}


def write(root: Path, colours: list[str], brand: str = "Acme") -> str:
    """A table of the photos below ``root``, in Parquet's types where Arrow reads it."""
    photos = sorted(root.glob("*/*.jpg"))
    with (root / "shop.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, ["uri", "product_id", "Farbe", "brand", "size"])
        rows.writeheader()
        for at, photo in enumerate(photos):
            colour = colours[at % len(colours)]
            row = {"uri": photo.relative_to(root), "product_id": photo.parent.name, "Farbe": colour, "brand": brand}
            rows.writerow({**row, "size": "42.5"})
    return str(root / "shop.csv")


def attributes(settings: Settings, table: str = "catalog") -> list[dict[str, str] | None]:
    order = "image_id" + (", valid_from" if table == "labels" else "")
    found = lake.rows(settings, f"SELECT attributes FROM {table} ORDER BY {order}")
    return [row["attributes"] and dict(row["attributes"]) for row in found]


def stored(settings: Settings) -> list[dict[str, str] | None]:
    return attributes(settings, "embeddings")


def products(settings: Settings) -> list[dict[str, str] | None]:
    found = lake.rows(settings, "SELECT attributes FROM product_embeddings ORDER BY product_id")
    return [row["attributes"] and dict(row["attributes"]) for row in found]


def counted(figures: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in figures.items() if count}


@pytest.mark.usefixtures("spark")
@IN_BOTH_SIZES
@pytest.mark.usefixtures("taken_as_large")
def test_nights_of_attributes(settings: Settings, draw: Callable[..., Path]):
    own = {"mine": EncoderSettings(backbone="torchvision/squeezenet1_0", input_size=64, weights="random:1")}
    shop = settings.model_copy(update={"encoders": own, "embed": EmbedSettings(batch_size=4, precision="fp32")})
    root = draw(2, 2)

    def night(colours: list[str], given: dict[str, str] | None = GIVEN, brand: str = "Acme") -> dict[str, int]:
        return counted(ingest(shop, write(root, colours, brand), "d", "table", attributes=given))

    assert night(["red", "", "blue", " "]) == {"images": 4, "added": 4}
    first: list[dict[str, str] | None]
    first = [{"brand": "Acme", "colour": colour} for colour in ("red", "", "blue", "")]
    first = [{name: value for name, value in (row or {}).items() if value} for row in first]
    assert attributes(shop) == attributes(shop, "labels") == first
    made = embed(shop, "mine", "d")
    version = facts.catalog_version(shop, "d")
    encoded = EncodedSet("d", "mine", made["encoder_version"])
    assert facts.settled(shop, encoded) == 4 and stored(shop) == first

    assert night(["red", "", "blue", " "]) == {"images": 4, "unchanged": 4}
    assert night(["red", "", "green", ""]) == {"images": 4, "updated": 1, "unchanged": 3}
    assert attributes(shop)[2] == {"brand": "Acme", "colour": "green"}
    assert attributes(shop, "labels") == [*first[:3], {"brand": "Acme", "colour": "green"}, first[3]]
    assert facts.settled(shop, encoded) is None and facts.missing(shop, encoded) == 0
    again = embed(shop, "mine", "d")
    assert (again["computed"], again["embedded"], again["updated"]) == (0, 0, 1), "nothing is embedded again"
    assert facts.settled(shop, encoded) == 4 and stored(shop) == attributes(shop)
    assert products(shop) == [{"brand": "Acme", "colour": "red"}, {"brand": "Acme", "colour": "green"}]
    assert facts.catalog_version(shop, "d") == version, "figures by product and category stay what they are"

    assert night(["red"], brand="") == {"images": 4, "updated": 4}
    assert attributes(shop) == [{"colour": "red"}] * 4
    assert embed(shop, "mine", "d")["updated"] == 4 and products(shop) == [{"colour": "red"}] * 2
    assert night(["red", "blue"]) == {"images": 4, "updated": 4}
    assert embed(shop, "mine", "d")["updated"] == 4 and products(shop) == [{"brand": "Acme"}] * 2, "photos disagree"
    assert night(["red"], given=None) == {"images": 4, "updated": 4}
    assert attributes(shop) == [None] * 4 and len(attributes(shop, "labels")) == 17
    assert not facts.lacking_labels(shop, "d")


@pytest.mark.usefixtures("spark")
@IN_BOTH_SIZES
@pytest.mark.usefixtures("taken_as_large")
def test_a_home_of_an_earlier_version_gets_the_column_by_its_next_write(
    settings: Settings, draw: Callable[..., Path], tmp_path: Path
):
    own = {"mine": EncoderSettings(backbone="torchvision/squeezenet1_0", input_size=64, weights="random:1")}
    settings = settings.model_copy(update={"encoders": own, "embed": EmbedSettings(batch_size=4, precision="fp32")})
    source = write(draw(2, 2), ["red", "blue"])
    ingest(settings, source, "d", "table")
    encoded = EncodedSet("d", "mine", embed(settings, "mine", "d")["encoder_version"])
    version = facts.catalog_version(settings, "d")
    for table in (CATALOG, LABELS, EMBEDDINGS, PRODUCT_EMBEDDINGS):  # as that version made it
        rows = lake.query(settings, f"SELECT * FROM {table.name}").drop_columns("attributes")
        schema = pa.schema([field for field in table.schema if field.name != "attributes"])
        shutil.rmtree(table.path(settings))
        how = {"partition_by": list(table.partition_by), "configuration": table.properties}
        write_deltalake(table.uri(settings), rows.cast(schema), **how)  # type: ignore[arg-type]
    assert facts.catalog_version(settings, "d") == facts.embedded_version(settings, encoded) == version
    assert not facts.lacking_labels(settings, "d") and not facts.attributes(settings)
    assert facts.settled(settings, encoded) == 4, "nothing is to be done"
    before = [lake.version(settings, table) for table in (EMBEDDINGS, PRODUCT_EMBEDDINGS)]

    assert counted(ingest(settings, source, "d", "table")) == {"images": 4, "unchanged": 4}
    assert attributes(settings) == attributes(settings, "labels") == [None] * 4
    assert facts.catalog_version(settings, "d") == version
    catalog = DeltaTable(CATALOG.uri(settings)).version()
    assert counted(ingest(settings, source, "d", "table")) == {"images": 4, "unchanged": 4}
    assert DeltaTable(CATALOG.uri(settings)).version() == catalog
    assert counted(ingest(settings, source, "d", "table", attributes=GIVEN)) == {"images": 4, "updated": 4}
    assert attributes(settings)[1] == attributes(settings, "labels")[3] == {"brand": "Acme", "colour": "blue"}
    assert [lake.version(settings, table) for table in (EMBEDDINGS, PRODUCT_EMBEDDINGS)] == before
    feed = ChangeFeed(settings, EMBEDDINGS, encoded.where, "image_id")
    again = embed(settings, "mine", "d")
    assert (again["computed"], again["updated"], again["products"]) == (0, 4, 2)
    assert stored(settings) == attributes(settings) and facts.settled(settings, encoded) == 4
    since, until = before[0], lake.version(settings, EMBEDDINGS)
    batches = feed.last_rows(["image_id", "attributes"], since, until, feed.last_changes(since, until))
    assert sum(len(batch.filter(batch.column("attributes").is_valid())) for batch in batches) == 4


@pytest.mark.usefixtures("spark")
def test_attributes_of_a_delta_table(settings: Settings, draw: Callable[..., Path], tmp_path: Path):
    root = draw(1, 2)
    uris = sorted(map(str, root.glob("*/*.jpg")))
    rows = {"uri": uris, "product_id": ["1", "1"], "Size": [42.5, None], "rank": [7, 8], "it's": ["a", "b"]}
    write_deltalake(str(tmp_path / "delta"), pa.table(rows))
    given = {"size": "size", "its_rank": "rank", "whose": "it's"}
    assert ingest(settings, str(tmp_path / "delta"), "d", "table", attributes=given)["images"] == 2
    expected = [{"its_rank": "7", "size": "42.5", "whose": "a"}, {"its_rank": "8", "whose": "b"}]
    assert attributes(settings) == expected
    listed = ask(settings, "SELECT name, value FROM photo_attributes ORDER BY image_id, name", 10)[1]
    assert listed == [["its_rank", "7"], ["size", "42.5"], ["whose", "a"], ["its_rank", "8"], ["whose", "b"]]


@pytest.mark.usefixtures("spark")
def test_a_text_that_no_follower_can_hold_is_a_row_of_quarantine(
    settings: Settings, draw: Callable[..., Path], tmp_path: Path
):
    uris = sorted(map(str, draw(1, 3).glob("*/*.jpg")))
    long = "ä" * 32_501  # two bytes each
    rows = {"uri": uris, "product_id": ["1"] * 3, "category": ["a", long, "a"], "text": [long[:-2], None, long]}
    write_deltalake(str(tmp_path / "delta"), pa.table(rows))
    figures = ingest(settings, str(tmp_path / "delta"), "d", "table", attributes={"told": "text"})
    assert counted(figures)["images"] == 1 and attributes(settings) == [{"told": long[:-2]}]
    refused = lake.rows(settings, "SELECT code, reason FROM quarantine ORDER BY image_id")
    assert refused == [
        {"code": "text_too_long", "reason": "its category has 65,002 bytes; 65,000 is the most"},
        {"code": "text_too_long", "reason": "its told has 65,004 bytes; 65,000 is the most"},
    ]


@pytest.mark.usefixtures("spark")
def test_the_verb_takes_attributes_and_categories(
    tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spark_jobs.session.end_session", lambda: None)
    root = draw(2, 2)
    source = write(root, ["red", "blue"])
    given = ("--attribute", "colour=farbe", "--attribute", "brand")
    assert told("ingest", source, "--dataset", "d", "--layout", "table", *given)["added"] == 4
    settings = load_settings(tmp_path)
    assert attributes(settings)[0] == {"brand": "Acme", "colour": "red"}
    with pytest.raises(UserError, match=r"no column Farb in it.*is it --attribute colour=Farbe"):
        told("ingest", source, "--dataset", "d", "--layout", "table", "--attribute", "colour=Farb")
    (root / "shop.csv").unlink()
    (tmp_path / "by_category").mkdir()
    root.rename(tmp_path / "by_category" / "cups")
    told("ingest", str(tmp_path / "by_category"), "--dataset", "e", "--categories")
    rows = lake.rows(settings, "SELECT DISTINCT category FROM catalog WHERE dataset = 'e'")
    assert rows == [{"category": "cups"}]
