"""A head on stored embeddings: a story of nights, as for an encoder that reads photos."""

from typing import Any

import numpy as np
import pytest

from spark_jobs.apply_head import apply_head
from vitrine import facts, lake
from vitrine.encoders import heads, tuned
from vitrine.encoders.heads import Head
from vitrine.encoders.tuned import Tuned
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS

BASE, OTHER, DIM, WIDTH = "00000000000000aa", "00000000000000bb", 6, 4
MOMENT = lake.now()


def vector(seed: int, base: str = BASE) -> list[float]:
    values = np.random.default_rng([seed, int(base, 16)]).normal(size=DIM)
    return [float(value) for value in np.float32(values / np.linalg.norm(values))]


def photo(number: int, content: int | None = None, product: int | None = None) -> dict[str, Any]:
    """A catalog row; equal contents have equal vectors."""
    times = dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), MOMENT)
    return {
        **times,
        "image_id": f"d/{number}",
        "dataset": "d",
        "product_id": f"d/p{number % 3 if product is None else product}",
        "split": "train",
        "uri": "nowhere",
        "content_sha256": f"{number if content is None else content:064d}",
        **{"size": 1, "width": 1, "height": 1},
    }


class Shop:
    """A catalog, and its base's vectors (or those of several that are joined), as data."""

    def __init__(self, settings: Settings, head: Head, *bases: str) -> None:
        self.settings, self.head, self.bases = settings, head, bases
        joined = "+".join(bases)
        self.photos = {at: photo(at) for at in range(8)}
        self.photos[7] = photo(7, content=0)
        folder = settings.home / "models" / "top" / "key"
        folder.mkdir(parents=True)
        heads.save(head, folder)
        self.tuned = Tuned(
            **{"name": "base__top__d", "strategy": "top", "base": "base", "base_version": joined},
            **{
                "encoder_version": heads.version(joined, head),
                "source_dataset": "d",
                "label": "product_id",
                "training_set": "x",
                "seed": 0,
            },
            **{"folder": "models/top/key", "dim": head.dim, "backbone": "timm/x", "family": "supervised"},
            **{"licence": "MIT", "cost": {}},
        )
        tuned.register(settings, self.tuned)

    def night(self, *, without: tuple[int, ...] = ()) -> dict[str, int]:
        lake.create_tables(self.settings)
        import pyarrow as pa

        rows = list(self.photos.values())
        catalog = pa.Table.from_pylist(rows, schema=CATALOG.schema)
        lake.write(self.settings, CATALOG, catalog, replacing={"dataset": "d"})
        for base in self.bases:  # the last one alone lacks some
            made = {"encoder": "base", "encoder_version": base, "event_timestamp": MOMENT, "created_timestamp": MOMENT}
            rows = [
                row | made | {"embedding": vector(int(row["content_sha256"]), base)}
                for number, row in self.photos.items()
                if number not in without or base != self.bases[-1]
            ]
            table = pa.Table.from_pylist(rows, schema=EMBEDDINGS.schema)
            lake.write(self.settings, EMBEDDINGS, table, replacing={"encoder_version": base})
        found = apply_head(self.settings, self.tuned, "d")
        names = ("embedded", "unchanged", "updated", "deleted", "quarantined", "products")
        return {name: found[name] for name in names if found[name]}

    def check(self, *, without: tuple[int, ...] = ()) -> None:
        where = f"encoder_version = '{self.tuned.encoder_version}'"
        rows = {row["image_id"]: row for row in lake.rows(self.settings, f"SELECT * FROM embeddings WHERE {where}")}
        assert rows.keys() == {row["image_id"] for at, row in self.photos.items() if at not in without}
        for number, row in self.photos.items():
            if number not in without:
                parts = [vector(int(row["content_sha256"]), base) for base in self.bases]
                given = np.array([np.concatenate(parts)], np.float32)
                assert np.allclose(rows[row["image_id"]]["embedding"], self.head.embed(given)[0], atol=1e-6)
                assert rows[row["image_id"]]["product_id"] == row["product_id"]
        bad = lake.rows(self.settings, "SELECT image_id, code FROM quarantine ORDER BY image_id")
        assert [(row["image_id"], row["code"]) for row in bad] == [(f"d/{at}", "no_base_vector") for at in without]


def a_head(inputs: int) -> Head:
    random = np.random.default_rng(0)
    widths = ((inputs, 8), (8, WIDTH), (WIDTH, 2))
    layers = [(random.normal(size=shape).astype(np.float32), np.ones(shape[1], np.float32)) for shape in widths]
    return Head(tuple(layers[:2]), layers[2], ("a", "b"))


@pytest.fixture
def shop(settings: Settings) -> Shop:
    return Shop(settings, a_head(DIM), BASE)


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("bases", [(BASE,), (BASE, OTHER)], ids=["one base", "two joined"])
def test_nights_of_a_head(settings: Settings, bases: tuple[str, ...]):
    shop = Shop(settings, a_head(DIM * len(bases)), *bases)
    assert shop.night(without=(3,)) == {"embedded": 7, "quarantined": 1, "products": 3}
    shop.check(without=(3,))
    assert shop.night() == {"embedded": 1, "unchanged": 7, "products": 1}
    shop.check()
    assert shop.night() == {"unchanged": 8}
    registered = facts.encoder_row(shop.settings, shop.tuned.encoder_version)
    assert (registered["strategy"], registered["base_version"], registered["source_dataset"]) == (
        "top",
        "+".join(bases),
        "d",
    )
    assert (registered["state"], registered["dim"]) == ("experiment", WIDTH)
    shop.photos[1] = photo(1, content=100)  # another picture
    shop.photos[2] = photo(2, product=0)  # another label
    del shop.photos[4]
    assert shop.night() == {"embedded": 1, "unchanged": 5, "updated": 1, "deleted": 1, "products": 3}
    shop.check()


@pytest.mark.usefixtures("spark")
def test_an_output_that_is_all_zero_is_no_vector(shop: Shop):
    (weight, bias), last = shop.head.layers
    dead = Head(((weight, bias), (last[0] * 0, last[1] * 0)), shop.head.classifier, ("a", "b"))
    heads.save(dead, shop.tuned.path(shop.settings))
    assert shop.night() == {"quarantined": 8}
    assert {row["code"] for row in lake.rows(shop.settings, "SELECT code FROM quarantine")} == {"bad_vector"}


def test_a_damaged_head_is_refused_before_spark_starts(shop: Shop):
    (shop.tuned.path(shop.settings) / "head.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot read the head"):
        shop.night()
