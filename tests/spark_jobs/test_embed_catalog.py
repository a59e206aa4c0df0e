"""Embedding: nights on a changing catalog. Each test is a story of several nights, since a Spark job costs seconds."""

import contextlib
import csv
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from spark_jobs import version_rows
from spark_jobs.embed_catalog import embed, embed_together
from spark_jobs.ingest_catalog import ingest
from tests.support.table_sizes import IN_BOTH_SIZES
from vitrine import facts, lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders.backbones import resolve
from vitrine.encoders.identity import identify
from vitrine.errors import UserError, VitrineError
from vitrine.setting_sections import EmbedSettings, EncoderSettings
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS, ENCODERS, PRODUCT_EMBEDDINGS

pytestmark = pytest.mark.usefixtures("spark")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    small = {"backbone": "torchvision/squeezenet1_0", "input_size": 64}
    encoders = {name: EncoderSettings(**small, weights=f"random:{at}") for at, name in enumerate(("small", "other"))}
    embedding = EmbedSettings(batch_size=3, precision="fp32", task_photos=4)
    return settings.model_copy(update={"encoders": encoders, "embed": embedding})


class Shop:
    """A shop's photos, listed in a CSV with their labels."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self.settings, self.root = settings, root
        photos = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
        self.rows = {uri: {"uri": uri, "product_id": uri.split("/")[0], "split": "train"} for uri in photos}

    def path(self, at: int) -> Path:
        return self.root / list(self.rows)[at]

    def ids(self, dataset: str = "d") -> list[str]:
        return [f"{dataset}/{uri}" for uri in self.rows]

    def ingest(self, dataset: str = "d") -> dict[str, Any]:
        with (self.root / "photos.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["uri", "product_id", "split"])
            writer.writeheader()
            writer.writerows(self.rows.values())
        return ingest(self.settings, str(self.root / "photos.csv"), dataset, "table")


@pytest.fixture
def shop(settings: Settings, draw: Callable[..., Path]) -> Shop:
    root = draw(4, 2)
    made = Shop(settings, root)
    made.path(7).write_bytes(made.path(0).read_bytes())  # equal content
    return made


def rows(settings: Settings, encoder: str = "small", dataset: str = "d") -> dict[str, dict[str, Any]]:
    where = f"encoder = '{encoder}' AND dataset = '{dataset}'"
    found = lake.rows(settings, f"SELECT * FROM embeddings WHERE {where}")
    assert len({row["image_id"] for row in found}) == len(found)
    return {row["image_id"]: row for row in found}


def quarantine(settings: Settings) -> dict[str, tuple[str, str]]:
    found = lake.rows(settings, "SELECT * FROM quarantine WHERE stage = 'embed'")
    return {row["image_id"]: (row["encoder"], row["code"]) for row in found}


COUNTS = ("embedded", "unchanged", "updated", "deleted", "quarantined", "computed", "dry_run", "total")


def figures(found: dict[str, Any]) -> dict[str, int]:
    return {name: n for name, n in found.items() if n and (name in COUNTS or name.startswith("to_"))}


def check_products(settings: Settings) -> None:
    """Every product has the mean of its images' vectors, by every version that embedded it; no other has a row."""
    images: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in lake.rows(settings, "SELECT * FROM embeddings"):
        images.setdefault((row["product_id"], row["encoder_version"]), []).append(row)
    products = lake.rows(settings, "SELECT * FROM product_embeddings")
    assert {(row["product_id"], row["encoder_version"]) for row in products} == images.keys()
    assert len(products) == len(images)
    for row in products:
        mine = images[row["product_id"], row["encoder_version"]]
        mean = np.mean([image["embedding"] for image in mine], axis=0, dtype=np.float64)
        assert np.allclose(row["embedding"], mean / np.linalg.norm(mean), atol=1e-6)
        assert (row["n_images"], row["dataset"]) == (len(mine), mine[0]["dataset"])
        assert row["event_timestamp"] == max(image["event_timestamp"] for image in mine)
    for dataset, version in {(row["dataset"], row["encoder_version"]) for row in products}:
        assert facts.products_settled(settings, EncodedSet(dataset, "", version)), (
            "both engines say of what a row was made"
        )


def truncate(path: Path) -> bytes:
    data = path.read_bytes()
    path.write_bytes(data[:-300])
    return data


def plain_vector(path: Path) -> np.ndarray:
    """One photo, one network, nothing of this project."""
    import torch
    import torchvision
    from PIL import Image

    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_0(weights=None).eval()
    prepare = torchvision.transforms._presets.ImageClassification(crop_size=64, resize_size=73)
    with torch.inference_mode():
        out = network.features(prepare(Image.open(path).convert("RGB"))[None]).mean((2, 3))[0].double().numpy()
    return out / np.linalg.norm(out)


@IN_BOTH_SIZES
@pytest.mark.usefixtures("taken_as_large")
def test_nights(settings: Settings, shop: Shop, draw: Callable[..., Path]):
    shop.ingest()
    ids = shop.ids()
    whole = truncate(shop.path(2))  # between ingest and embed
    plan = embed(settings, "small", "d", dry_run=True)
    assert figures(plan) == {"dry_run": True, "to_embed": 8, "to_compute": 7, "total": 8}
    assert rows(settings) == {} and lake.rows(settings, "SELECT * FROM encoders") == []

    first = embed(settings, "small", "d")
    assert figures(first) == {"embedded": 7, "quarantined": 1, "computed": 7}
    found = rows(settings)
    assert set(found) == set(ids) - {ids[2]}
    assert quarantine(settings) == {ids[2]: ("small", "truncated")}
    catalog = {row["image_id"]: row for row in lake.rows(settings, "SELECT * FROM catalog")}
    for image_id, row in found.items():
        vector = np.array(row["embedding"])
        assert vector.shape == (512,) == (first["dim"],) and abs(np.linalg.norm(vector) - 1) < 1e-6
        assert vector @ plain_vector(Path(catalog[image_id]["uri"])) > 0.9999
        assert row["encoder_version"] == first["encoder_version"]
        for name in ("product_id", "category", "split", "content_sha256"):
            assert row[name] == catalog[image_id][name]
        assert row["event_timestamp"] == catalog[image_id]["content_seen_at"] < row["created_timestamp"]
    assert found[ids[0]]["embedding"] == found[ids[7]]["embedding"]
    (encoder,) = lake.rows(settings, "SELECT * FROM encoders")
    assert (encoder["encoder"], encoder["dim"], encoder["strategy"]) == ("small", 512, "pretrained")
    assert (encoder["weights_uri"], encoder["state"]) == ("random:0", "experiment")
    assert first["products"] == 4 and first["bytes_read"] > 10_000 and first["worker_peak_mib"] > 50
    check_products(settings)

    # Nothing changed: nothing is computed but what failed, and nothing is committed.
    version = lake.version(settings, EMBEDDINGS)
    again = embed(settings, "small", "d")
    assert figures(again) == {"unchanged": 7, "quarantined": 1, "computed": 1}
    assert lake.version(settings, EMBEDDINGS) == version
    assert not (settings.home / "staging").exists() or not any((settings.home / "staging").iterdir())

    # A second encoder stands beside the first one; the same photos in another data set share its work.
    assert figures(embed(settings, "other", "d")) == {"embedded": 7, "quarantined": 1, "computed": 7}
    assert set(quarantine(settings)) == {ids[2]}
    assert rows(settings) == found and rows(settings, "other")[ids[0]]["embedding"] != found[ids[0]]["embedding"]
    shop.path(2).write_bytes(whole)
    shop.ingest("e")
    assert figures(embed(settings, "small", "e")) == {"embedded": 8, "computed": 1}
    others = rows(settings, dataset="e")
    check_products(settings)
    products = lake.rows(settings, "SELECT * FROM product_embeddings WHERE dataset = 'e'")

    # A night of changes: mended, changed, deleted, relabelled, moved to another split, and one changed and poisoned.
    other_photos = sorted(draw(3, 4, "more").rglob("*.jpg"))
    shop.path(1).write_bytes(other_photos[-1].read_bytes())
    shop.path(3).write_bytes(other_photos[-2].read_bytes())
    shop.rows[list(shop.rows)[4]]["product_id"] = "relabelled"
    shop.rows[list(shop.rows)[5]]["split"] = "test"
    del shop.rows[list(shop.rows)[6]]
    shop.ingest()
    truncate(shop.root / ids[3].removeprefix("d/"))
    plan = embed(settings, "small", "d", dry_run=True)
    assert figures(plan) == {
        "dry_run": True,
        "to_embed": 3,
        "to_compute": 2,  # the mended one's content was embedded for the other data set
        "to_update": 2,
        "to_delete": 2,
        "total": 7,
    }
    night = embed(settings, "small", "d")
    assert figures(night) == {
        "embedded": 2,
        "computed": 2,
        "unchanged": 2,
        "updated": 2,
        "deleted": 2,  # by both encoders
        "quarantined": 1,
    }
    after = rows(settings)
    assert set(after) == set(ids) - {ids[3], ids[6]}
    assert after[ids[1]]["embedding"] != found[ids[1]]["embedding"]
    assert after[ids[1]]["event_timestamp"] > found[ids[1]]["event_timestamp"]
    for at, name, value in ((4, "product_id", "d/relabelled"), (5, "split", "test")):
        assert after[ids[at]][name] == value
        assert after[ids[at]]["created_timestamp"] > found[ids[at]]["created_timestamp"]
        same = ("embedding", "event_timestamp", "content_sha256")
        assert [after[ids[at]][key] for key in same] == [found[ids[at]][key] for key in same]
    assert all(after[ids[at]] == found[ids[at]] for at in (0, 7))
    assert rows(settings, dataset="e") == others
    assert ids[6] not in rows(settings, "other")
    check_products(settings)
    assert lake.rows(settings, "SELECT * FROM product_embeddings WHERE dataset = 'e'") == products
    assert quarantine(settings) == {ids[2]: ("other", "truncated"), ids[3]: ("small", "truncated")}


def test_a_killed_run_goes_on_where_it_was(settings: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch):
    shop.ingest()
    with monkeypatch.context() as broken:
        broken.setattr(version_rows, "merge_or_append", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed(settings, "small", "d")
    assert rows(settings) == {}
    assert embed(settings, "small", "d", dry_run=True)["to_compute"] == 0
    with monkeypatch.context() as broken:  # between the images' commit and the products'
        broken.setattr(version_rows, "embed_products", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed(settings, "small", "d")
    assert len(rows(settings)) == 8 and lake.rows(settings, "SELECT * FROM product_embeddings") == []
    last = embed(settings, "small", "d")
    assert figures(last) == {"unchanged": 8} and last["products"] == 4
    check_products(settings)
    found = rows(settings)
    assert set(found) == set(shop.ids())
    assert np.array(found[shop.ids()[3]]["embedding"]) @ plain_vector(shop.path(3)) > 0.9999
    assert len(lake.rows(settings, f"SELECT * FROM {ENCODERS.name}")) == 1
    staging = settings.home / "staging"
    assert not any(staging.iterdir())
    (staging / "d" / f"encoder_version={last['encoder_version']}").mkdir(parents=True)  # killed before it cleared them
    assert figures(embed(settings, "small", "d")) == {"unchanged": 8} and not any(staging.iterdir())


@contextlib.contextmanager
def killed_workers(settings: Settings, when: str, most: int) -> Iterator[set[int]]:
    """Kill Python workers, ``most`` in all, once a file that matches ``when`` is under staging/."""
    killed: set[int] = set()
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.01) and len(killed) < most:
            if not any((settings.home / "staging").glob(when)):
                continue
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    forked = process.parent()
                    if (
                        forked
                        and "-m spark_jobs.worker.worker_daemon" in " ".join(forked.cmdline())
                        and len(killed) < most
                    ):
                        process.kill()
                        killed.add(process.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_a_worker_that_is_killed_costs_its_task_only(settings: Settings, draw: Callable[..., Path]):
    shop = Shop(settings, draw(10, 12, "many"))
    shop.ingest()
    with killed_workers(settings, "*/_temporary/**/_temporary/attempt*", 2) as killed:
        found = embed(settings, "small", "d")
    assert len(killed) == 2, "the test has to hit"
    assert figures(found) == {"embedded": 120, "computed": 120}
    assert set(rows(settings)) == set(shop.ids())
    check_products(settings)


def test_a_job_that_dies_half_way_goes_on_with_what_is_left(settings: Settings, draw: Callable[..., Path]):
    shop = Shop(settings, draw(10, 12, "many"))
    shop.ingest()
    done = "d/encoder_version=*/*.parquet"
    with killed_workers(settings, done, 1000), pytest.raises(Exception, match=r"(?i)worker|job aborted|stage"):
        embed(settings, "small", "d")
    assert rows(settings) == {} and any((settings.home / "staging").glob(done))
    left = embed(settings, "small", "d", dry_run=True)["to_compute"]
    assert 0 < left < 120
    assert figures(embed(settings, "small", "d")) == {"embedded": 120, "computed": left}
    assert set(rows(settings)) == set(shop.ids())
    assert not any((settings.home / "staging").iterdir())


def test_one_version_under_two_names_is_refused_at_once(settings: Settings, shop: Shop):
    shop.ingest()
    twins = settings.model_copy(update={"encoders": settings.encoders | {"twin": settings.encoders["small"]}})
    with pytest.raises(UserError, match=r"'small' and 'twin' are one version, \w+: .* ask for one of them"):
        embed_together(twins, ["small", "twin"], "d")
    assert rows(settings) == {}


def test_the_commit_has_few_files(settings: Settings, draw: Callable[..., Path]):
    shop = Shop(settings.model_copy(update={"embed": EmbedSettings(task_photos=20)}), draw(10, 12, "many"))
    shop.ingest()  # 6 tasks, as many files of checkpoints
    embed(shop.settings, "small", "d")
    for table in (EMBEDDINGS, PRODUCT_EMBEDDINGS):
        assert len(list((settings.lake / table.name).rglob("*.parquet"))) == 1


def test_encoders_share_a_pass(settings: Settings, shop: Shop):
    shop.ingest()
    alone = embed(settings, "other", "d")
    first = rows(settings, "other")
    shop.path(1).write_bytes(shop.path(1).read_bytes()[:-300])  # changed, and unreadable: it leaves the catalog
    shop.path(4).write_bytes(shop.path(5).read_bytes())
    shop.ingest()
    small, other = embed_together(settings, ["small", "other"], "d")
    assert figures(small) == {"embedded": 7, "computed": 5}  # 0 and 7, 4 and 5 are equal
    assert figures(other) == {"embedded": 1, "unchanged": 6, "deleted": 1}
    assert small["encoder_version"] != other["encoder_version"] == alone["encoder_version"]
    distinct = {shop.path(at).read_bytes() for at in (0, 2, 3, 4, 6)}
    assert small["bytes_read"] == sum(map(len, distinct))
    for name, at, other_at in (("small", 2, None), ("other", 2, 2), ("other", 4, 5)):
        vector = np.array(rows(settings, name)[shop.ids()[at]]["embedding"])
        if other_at is None:
            assert vector @ plain_vector(shop.path(at)) > 0.9999
        else:
            assert vector @ np.array(first[shop.ids()[other_at]]["embedding"]) > 0.9999
    check_products(settings)
    shop.path(3).write_bytes(shop.path(3).read_bytes() + b"\0")  # other content, the same picture
    moved = shop.path(2).rename(shop.root / "moved.jpg")  # its vectors, by both encoders, move along
    del shop.rows[list(shop.rows)[2]]
    shop.rows["moved.jpg"] = {"uri": moved.name, "product_id": "moved", "split": "train"}
    size = shop.path(2).stat().st_size
    shop.ingest()
    both = embed_together(settings, ["other", "small"], "d")
    expected = {"embedded": 2, "computed": 1, "unchanged": 5, "deleted": 1}
    assert [figures(found) for found in both] == [expected] * 2
    assert both[0]["bytes_read"] == size
    for name in ("small", "other"):
        assert set(rows(settings, name)) == {*shop.ids()} - {shop.ids()[1]}
    assert abs(sum(found["forward_seconds"] for found in both)) > 0
    check_products(settings)


def test_a_copy_stands_in_for_a_damaged_one(settings: Settings, shop: Shop):
    shop.ingest()
    shop.path(0).unlink()  # the photo with equal content is still there
    shop.path(1).write_bytes(shop.path(2).read_bytes())  # replaced since it was ingested
    assert figures(embed(settings, "small", "d")) == {"embedded": 7, "computed": 7, "quarantined": 1}
    assert quarantine(settings) == {shop.ids()[1]: ("small", "changed")}
    assert rows(settings)[shop.ids()[0]]["embedding"] == rows(settings)[shop.ids()[7]]["embedding"]


def test_a_gpu_asked_for_and_absent_is_one_clear_error(settings: Settings, shop: Shop):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    shop.ingest()
    asking = settings.model_copy(update={"embed": settings.embed.model_copy(update={"device": "cuda"})})
    with pytest.raises(VitrineError, match=r"^device = 'cuda' asks for a GPU, and torch finds none .*\[embed\] device"):
        embed(asking, "small", "d")
    assert rows(settings) == {}
    assert figures(embed(settings, "small", "d")) == {"embedded": 8, "computed": 7}


def test_weights_that_were_exchanged_unseen_are_refused(settings: Settings, shop: Shop, tmp_path: Path):
    import torch
    import torchvision
    from safetensors.torch import save_file

    weights = tmp_path / "weights.safetensors"
    entry = EncoderSettings(backbone="torchvision/squeezenet1_0", input_size=64, weights=str(weights))
    settings = settings.model_copy(update={"encoders": {"mine": entry}})
    state = torchvision.models.squeezenet1_0(weights=None).state_dict()
    save_file(state, weights)
    known = identify(settings, resolve(settings, "mine"))
    at = weights.stat()
    save_file({key: torch.randn_like(value) for key, value in state.items()}, weights)
    os.utime(weights, ns=(at.st_atime_ns, at.st_mtime_ns))  # as large and as old as before: the driver sees no change
    shop.ingest()
    with pytest.raises(
        VitrineError, match=rf"^encoder 'mine': version {known.encoder_version} was asked for, and .*loads"
    ):
        embed(settings, "mine", "d")
    assert rows(settings) == {}


def test_what_is_unknown_is_named_with_the_choices(settings: Settings):
    with pytest.raises(UserError, match=r"unknown encoder 'nope'.*other.*small"):
        embed(settings, "nope", "d")
    with pytest.raises(UserError, match=r"unknown data set 'nope'.*none yet"):
        embed(settings, "small", "nope")
    wrong = settings.model_copy(
        update={"encoders": {"small": EncoderSettings(backbone="torchvision/squeezenet1_0", weights="nowhere.pt")}}
    )
    with pytest.raises(UserError, match="no weights file"):
        embed(wrong, "small", "d")
    assert lake.rows(settings, "SELECT * FROM encoders") == []
