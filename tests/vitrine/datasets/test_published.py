"""Published data sets: a miniature of each layout, read as it is, refused where it is not as published."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from evaluation.evaluate import plan
from tests.support.project import PROJECT, SHARED
from vitrine import lake, runs
from vitrine.datasets import registry
from vitrine.datasets.photo import Photo
from vitrine.datasets.published import adapter as published
from vitrine.encoded_set import EncodedSet
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, RUNS

VERSION = "0123456789abcdef"


def put(root: Path, name: str, *lines: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def put_annotations(path: Path, field: str, *cars: tuple[str, int], **others: object) -> None:
    kinds = np.dtype([("bbox_x1", object), (field, object), ("class", object)])
    annotations = np.array([(1, name, number) for name, number in cars], dtype=kinds)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": annotations} | others)


def class_names() -> np.ndarray:
    return np.array([f"Make Model {number}" for number in range(1, 197)], dtype=object)


def cars196(root: Path) -> None:
    put_annotations(root / "devkit" / "cars_train_annos.mat", "fname", ("00001.jpg", 98), ("00002.jpg", 99))
    put_annotations(root / "cars_test_annos_withlabels.mat", "fname", ("00001.jpg", 1), ("00002.jpg", 196))
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": class_names()})


def deepfashion_inshop(root: Path) -> None:
    put(
        root,
        "Eval/list_eval_partition.txt",
        "3",
        "image_name item_id evaluation_status",
        "img/WOMEN/Dresses/id_00000002/02_1_front.jpg                    id_00000002    train   ",
        "img/MEN/Denim/id_00000080/01_7_additional.jpg                   id_00000080    query   ",
        "img/MEN/Denim/id_00000080/01_1_front.jpg                        id_00000080    gallery ",
    )


def food2k(root: Path) -> None:
    put(root, "Food2k_label/train_finetune.txt", "0/148.jpg 0", "1999/7.jpg 1999")
    put(root, "Food2k_label/val_finetune.txt", "0/149.jpg 0")
    put(root, "Food2k_label/test_finetune.txt", "0/150.jpg 0")


def grocery_store(root: Path) -> None:
    columns = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Image Path (str)"
    put(root, "classes.csv", columns, "Gala,0,Apple,0,/a.jpg", "Kiwi,1,Kiwi,1,/b.jpg")
    put(root, "train.txt", "train/Fruit/Apple/Gala/1.jpg, 0, 0", "train/Fruit/Kiwi/1, 2.jpg, 1, 1")
    put(root, "val.txt", "val/Fruit/Kiwi/1.jpg, 1, 1")
    put(root, "test.txt", "test/Fruit/Apple/Gala/1.jpg, 0, 0")


def products_10k(root: Path) -> None:
    put(root, "train.csv", "name,class,group", "1.jpg,0,0", "2.jpg,1,7")
    put(root, "test_kaggletest.csv", "name,class,Usage", "1.jpg,1,Public", "9.jpg,5,Private")


def rp2k(root: Path) -> None:
    for name in ("train/555·冰炫/0514 1.jpg", "train/others/a.png", "test/others/b.jpg", "test/others/.DS_Store"):
        put(root, f"all/{name}", "x")


def stanford_online_products(root: Path) -> None:
    header = "image_id class_id super_class_id path"
    put(root, "Ebay_train.txt", header, "1 1 1 bicycle_final/111085122871_0.JPG", "2 2 6 coffee_maker_final/2_0.JPG")
    put(root, "Ebay_test.txt", header, "59552 11319 1 bicycle_final/251952414262_0.JPG")


def uned(name: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for split in registry.ADAPTERS[f"uned_{name}"].COUNTS:
            photo = {"path": f"{name}/{split}.jpg", "class_id": 7}
            put(root, f"info_files/{name}/{split.removeprefix('uned_')}.json", json.dumps([photo]))

    return write


def of_uned(name: str, *others: tuple[str, str, None, str]) -> list[tuple[str, str, str | None, str]]:
    return [(f"{name}/{split}.jpg", f"{split}-7", None, split) for split in ("train", "uned_val", "test")] + [*others]


BIKES = "bicycle_final"
# name -> its writer, and the photos that it holds: image_id, product_id, category, split.
MINIATURES: dict[str, tuple[Callable[[Path], None], list[tuple[str, str, str | None, str]]]] = {
    "cars196": (
        cars196,
        [
            ("cars_train/00001.jpg", "Make Model 98", None, "train"),
            ("cars_train/00002.jpg", "Make Model 99", None, "test"),
            ("cars_test/00001.jpg", "Make Model 1", None, "train"),
            ("cars_test/00002.jpg", "Make Model 196", None, "test"),
        ],
    ),
    "cars196_devkit": (
        cars196,
        [
            ("cars_train/00001.jpg", "Make Model 98", None, "train"),
            ("cars_train/00002.jpg", "Make Model 99", None, "train"),
            ("cars_test/00001.jpg", "Make Model 1", None, "test"),
            ("cars_test/00002.jpg", "Make Model 196", None, "test"),
        ],
    ),
    "deepfashion_inshop": (
        deepfashion_inshop,
        [
            ("img/WOMEN/Dresses/id_00000002/02_1_front.jpg", "id_00000002", "WOMEN/Dresses", "train"),
            ("img/MEN/Denim/id_00000080/01_7_additional.jpg", "id_00000080", "MEN/Denim", "query"),
            ("img/MEN/Denim/id_00000080/01_1_front.jpg", "id_00000080", "MEN/Denim", "gallery"),
        ],
    ),
    "food2k": (
        food2k,
        [
            ("0/148.jpg", "0", None, "train"),
            ("1999/7.jpg", "1999", None, "train"),
            ("0/149.jpg", "0", None, "val"),
            ("0/150.jpg", "0", None, "test"),
        ],
    ),
    "grocery_store": (
        grocery_store,
        [
            ("train/Fruit/Apple/Gala/1.jpg", "Gala", "Apple", "train"),
            ("train/Fruit/Kiwi/1, 2.jpg", "Kiwi", "Kiwi", "train"),
            ("val/Fruit/Kiwi/1.jpg", "Kiwi", "Kiwi", "val"),
            ("test/Fruit/Apple/Gala/1.jpg", "Gala", "Apple", "test"),
        ],
    ),
    "products_10k": (
        products_10k,
        [
            ("train/1.jpg", "0", "0", "train"),
            ("train/2.jpg", "1", "7", "train"),
            ("test/1.jpg", "1", "7", "test"),
            ("test/9.jpg", "5", None, "test"),
        ],
    ),
    "rp2k": (
        rp2k,
        [
            ("all/train/555·冰炫/0514 1.jpg", "555·冰炫", None, "train"),
            ("all/train/others/a.png", "others", None, "train"),
            ("all/test/others/b.jpg", "others", None, "test"),
        ],
    ),
    "stanford_online_products": (
        stanford_online_products,
        [
            (f"{BIKES}/111085122871_0.JPG", "1", "bicycle", "train"),
            ("coffee_maker_final/2_0.JPG", "2", "coffee_maker", "train"),
            (f"{BIKES}/251952414262_0.JPG", "11319", "bicycle", "test"),
        ],
    ),
    **{f"uned_{name}": (uned(name), of_uned(name)) for name in ("cars", "food2k", "rp2k", "sop")},
    "uned_inshop": (uned("inshop"), of_uned("inshop", ("inshop/index.jpg", "test-7", None, "index"))),
}
HOMES = {"deepfashion_inshop": "Img/", "food2k": "Food2k_complete/"} | dict.fromkeys(
    (name for name in MINIATURES if name.startswith("uned_")), "images/"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def units(settings: Settings, name: str, allow_partial: bool = True) -> list[str]:
    layout = registry.find(name, allow_partial)
    assert layout
    return layout.units(settings, "set")


def photos(settings: Settings, name: str) -> list[Photo]:
    layout = registry.LAYOUTS[name]  # as executors find it
    assert layout
    return [photo for unit in units(settings, name) for photo in layout.photos(unit)]


def told(found: list[Photo]) -> list[tuple[str, str, str | None, str | None]]:
    return [(photo.image_id, photo.product_id, photo.category, photo.split) for photo in found]


def test_every_published_data_set_has_a_miniature():
    assert set(MINIATURES) == set(registry.ADAPTERS)


@pytest.mark.parametrize("name", MINIATURES)
def test_a_miniature_is_read_as_published(settings: Settings, root: Path, name: str):
    write, wanted = MINIATURES[name]
    write(root)
    found = photos(settings, name)
    assert told(found) == wanted
    assert [photo.uri for photo in found] == [f"{root}/{HOMES.get(name, '')}{photo[0]}" for photo in wanted]
    assert len({photo.image_id for photo in found}) == len(found)


@pytest.mark.parametrize("name", MINIATURES)
def test_units_of_any_size_hold_each_photo_once(
    settings: Settings, root: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    write, wanted = MINIATURES[name]
    write(root)
    assert len(units(settings, name)) == 1
    monkeypatch.setattr(published, "PHOTOS_A_UNIT", 2)
    assert len(units(settings, name)) == 2
    assert told(photos(settings, name)) == wanted


@pytest.mark.parametrize("name", MINIATURES)
def test_other_counts_than_published_are_refused(settings: Settings, root: Path, name: str):
    MINIATURES[name][0](root)
    adapter = registry.ADAPTERS[name]
    counts = ", ".join(f"{split}: {count}" for split, count in adapter.COUNTS.items())
    with pytest.raises(UserError, match=f"'set' has .*; {adapter.TITLE} as published has {counts}") as caught:
        units(settings, name, allow_partial=False)
    assert "--allow-partial" in str(caught.value)


def test_published_counts_are_taken(settings: Settings, root: Path, monkeypatch: pytest.MonkeyPatch):
    stanford_online_products(root)
    adapter = registry.ADAPTERS["stanford_online_products"]
    count = published.Count
    for counts in ({"train": count(2, 2), "test": count(1, 1)}, {"train": count(None, 2)}, {"all": count(3, None)}):
        monkeypatch.setattr(adapter, "COUNTS", counts)
        assert len(units(settings, "stanford_online_products", allow_partial=False)) == 1
    for counts in ({"train": count(2, 1)}, {"test": count(2, None)}, {"val": count(1, None)}, {"all": count(2, 2)}):
        monkeypatch.setattr(adapter, "COUNTS", counts)
        with pytest.raises(UserError, match="take what is there with --allow-partial"):
            units(settings, "stanford_online_products", allow_partial=False)


@pytest.mark.parametrize("name", MINIATURES)
def test_an_empty_folder_is_told_what_has_to_be_there(settings: Settings, root: Path, name: str):
    adapter = registry.ADAPTERS[name]
    first = (*adapter.FILES, *adapter.parts(root))[0]
    with pytest.raises(UserError, match=f"no {re.escape(first)}.* in 'set'") as caught:
        units(settings, name)
    assert adapter.ABOUT in str(caught.value) and adapter.OBTAIN in str(caught.value)


def test_a_list_of_no_photos_is_refused(settings: Settings, root: Path):
    for split in ("train", "val", "test"):
        put(root, f"Food2k_label/{split}_finetune.txt")
    with pytest.raises(UserError, match="no photos in 'set'"):
        units(settings, "food2k")


INSHOP, EBAY = "Eval/list_eval_partition.txt", "image_id class_id super_class_id path"


@pytest.mark.parametrize(
    ("name", "file", "lines", "said"),
    [
        (
            "deepfashion_inshop",
            INSHOP,
            ["many"],
            "list_eval_partition.txt line 1: 'many' is not 'the number of photos'",
        ),
        ("deepfashion_inshop", INSHOP, ["1", "name id"], "line 2: 'name id' is not 'image_name item_id"),
        (
            "deepfashion_inshop",
            INSHOP,
            ["1", "image_name item_id evaluation_status", "img/a/b/1.jpg id_1 val"],
            "line 3",
        ),
        ("deepfashion_inshop", INSHOP, [], "line 1: '' is not"),
        (
            "food2k",
            "Food2k_label/val_finetune.txt",
            ["0/1.jpg 0", "", "0/2.jpg"],
            "line 3: '0/2.jpg' is not 'path class'",
        ),
        ("food2k", "Food2k_label/test_finetune.txt", ["0/1.jpg apple"], "test_finetune.txt line 1"),
        ("grocery_store", "val.txt", ["no commas"], "val.txt line 1: 'no commas' is not 'path, fine class, coarse"),
        (
            "grocery_store",
            "test.txt",
            ["test/1.jpg, 99, 0"],
            "test.txt: class 99 of 'test/1.jpg' is not in classes.csv",
        ),
        (
            "grocery_store",
            "classes.csv",
            ["Name,ID", "Gala,0"],
            r"classes.csv has no column Class ID \(int\), .*Name, ID",
        ),
        ("products_10k", "train.csv", ["name,class", "1.jpg,0"], "train.csv has no column group: it has name, class"),
        ("products_10k", "test_kaggletest.csv", ["name,class", "1.jpg"], r"line 2: \['1.jpg'\] is not"),
        ("products_10k", "test_kaggletest.csv", ["name,class", "1.jpg,"], r"line 2: \['1.jpg', ''\] is not"),
        ("products_10k", "train.csv", [], "train.csv has no column class, group: it has none"),
        ("stanford_online_products", "Ebay_train.txt", ["1 1 1 a_final/1.JPG"], f"line 1: .* is not '{EBAY}'"),
        ("stanford_online_products", "Ebay_test.txt", [EBAY, "1 1 a_final/1.JPG"], f"Ebay_test.txt line 2: .*'{EBAY}'"),
        ("uned_sop", "info_files/sop/val.json", ["[{]"], r"cannot read .*val.json' as JSON: Expecting"),
        ("uned_sop", "info_files/sop/val.json", ["{}"], r"val.json' holds no list of photos"),
        ("uned_sop", "info_files/sop/val.json", ['[{"path": "1.jpg", "class_id": [1]}]'], "has no 'path' and number"),
        ("cars196", "cars_annos.mat", ["words"], "cannot read .*cars_annos.mat' as a MATLAB file"),
    ],
)
def test_what_is_not_written_as_published_is_one_clear_line(
    settings: Settings, root: Path, name: str, file: str, lines: list[str], said: str
):
    MINIATURES[name][0](root)
    put(root, file, *lines)
    with pytest.raises(UserError, match=said) as caught:
        units(settings, name)
    assert "\n" not in str(caught.value)


def test_lists_that_are_no_text_are_refused(settings: Settings, root: Path):
    stanford_online_products(root)
    (root / "Ebay_test.txt").write_bytes(b"image_id \xff\xfe")
    with pytest.raises(UserError, match=r"cannot read .*Ebay_test.txt' as UTF-8 text"):
        units(settings, "stanford_online_products")
    (root / "Ebay_test.txt").unlink()
    (root / "Ebay_test.txt").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*Ebay_test.txt' as UTF-8 text: Is a directory"):
        units(settings, "stanford_online_products")


def test_cars196_in_one_file(settings: Settings, root: Path):
    cars = [("car_ims/000001.jpg", 1), ("car_ims/016185.jpg", 196)]
    put_annotations(root / "cars_annos.mat", "relative_im_path", *cars, class_names=class_names())
    assert told(photos(settings, "cars196")) == [
        ("car_ims/000001.jpg", "Make Model 1", None, "train"),
        ("car_ims/016185.jpg", "Make Model 196", None, "test"),
    ]
    with pytest.raises(UserError, match=r"cars_annos\.mat has no relative_im_path and class and test"):
        list(photos(settings, "cars196_devkit"))


def test_the_devkits_split_of_cars196_in_one_file(settings: Settings, root: Path):
    fields = [("relative_im_path", object), ("class", int), ("test", int)]
    cars = [("car_ims/000001.jpg", 1, 0), ("car_ims/000002.jpg", 1, 1), ("car_ims/016185.jpg", 196, 0)]
    savemat(root / "cars_annos.mat", {"annotations": np.array(cars, fields), "class_names": class_names()})
    assert [photo[3] for photo in told(photos(settings, "cars196_devkit"))] == ["train", "test", "train"]


@pytest.mark.parametrize(
    ("field", "number", "others", "said"),
    [
        ("relative_im_path", 197, {"class_names": class_names()}, "class 197 of 'car_ims/1.jpg' is none of 1 to 196"),
        ("relative_im_path", 0, {"class_names": class_names()}, "class 0 of"),
        (
            "fname",
            1,
            {"class_names": class_names()},
            "cars_annos.mat has no relative_im_path and class: it has .*fname",
        ),
        ("relative_im_path", 1, {}, "cars_annos.mat has no variable class_names"),
    ],
)
def test_other_matlab_files_are_refused(
    settings: Settings, root: Path, field: str, number: int, others: dict[str, object], said: str
):
    put_annotations(root / "cars_annos.mat", field, ("car_ims/1.jpg", number), **others)
    with pytest.raises(UserError, match=said):
        units(settings, "cars196")


def test_food2k_as_copied_on_hubs(settings: Settings, root: Path):
    food2k(root)
    (root / "Food2k_complete_jpg").mkdir()
    assert photos(settings, "food2k")[0].uri == f"{root}/Food2k_complete_jpg/0/148.jpg"


def test_allow_partial_is_for_published_counts():
    for name in ("folder", "table", "generated"):
        with pytest.raises(UserError, match=f"--allow-partial with layout '{name}'.*grocery_store, products_10k, rp2k"):
            registry.find(name, allow_partial=True)
    with pytest.raises(UserError, match=r"unknown layout 'sop': choose one of cars196, .*stanford_online_products"):
        registry.find("sop", allow_partial=True)


def ingested(settings: Settings, dataset: str, layout: str | None, splits: tuple[str | None, ...]) -> None:
    """What an ingest by ``layout`` and an embedding leave behind, of one photo a split."""
    time = lake.now()
    row = {"dataset": dataset, "product_id": "p", "content_sha256": "c", "category": None}
    rows = [row | {"image_id": f"{dataset}/{split}", "split": split} for split in splits]
    times = dict.fromkeys(("modified_at", "content_seen_at", "updated_at"), time)
    lake.append(settings, CATALOG, [row | times | {"uri": "u", "size": 1, "width": 1, "height": 1} for row in rows])
    made = {"encoder": "e", "encoder_version": VERSION, "event_timestamp": time, "created_timestamp": time}
    lake.append(settings, EMBEDDINGS, [row | made | {"embedding": [1.0]} for row in rows])
    ran(settings, dataset, {"images": 1} | ({"layout": layout} if layout else {}))


def ran(settings: Settings, dataset: str, figures: dict[str, object], state: str = "done") -> None:
    run = {"verb": "ingest", "dataset": dataset, "state": state, "seconds": 1.0, "peak_mib": 1.0}
    lake.append(settings, RUNS, [run | {"run_id": "r", "started_at": lake.now(), "figures": json.dumps(figures)}])


def planned(settings: Settings, dataset: str) -> tuple[str, str]:
    task = plan(settings, EncodedSet(dataset, "e", VERSION), None, None, "product_id")
    return task.query_split, task.index_split


def test_evaluate_takes_the_protocol_of_the_layout(settings: Settings):
    usual = {"food2k", "cars196", "rp2k", "stanford_online_products"} | {
        f"uned_{name}" for name in ("cars", "food2k", "rp2k", "sop")
    }
    others = {"deepfashion_inshop": ("query", "gallery"), "uned_inshop": ("test", "index")}
    for name in registry.ADAPTERS:
        ingested(settings, name, name, ("train", "test", "val", "query", "gallery", "index"))
        wanted = others.get(name, ("test", "test" if name in usual else "train"))
        assert planned(settings, name) == registry.protocol(name) == wanted

    ingested(settings, "shop", "folder", ("train", "test"))
    ingested(settings, "old", None, ("train", "test"))  # by a release that kept no layout
    ingested(settings, "part", "stanford_online_products", ("train", None))
    assert [planned(settings, name) for name in ("shop", "old")] == [("test", "train")] * 2
    assert planned(settings, "part") == ("all", "all")

    ran(settings, "rp2k", {"error": "x"}, state="failed")
    assert planned(settings, "rp2k") == ("test", "test")
    ran(settings, "rp2k", {"layout": "folder"})
    assert (runs.layout(settings, "rp2k"), planned(settings, "rp2k")) == ("folder", ("test", "train"))


def test_the_page_of_data_sets_is_the_adapters():
    page = (PROJECT / "docs" / "datasets.md").read_text().split("# Published data sets")[1]
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", page, re.MULTILINE))
    assert list(rows) == list(registry.ADAPTERS)
    for name, adapter in registry.ADAPTERS.items():
        query, index = adapter.PROTOCOL
        assert f"{query} → {index}" in rows[name]
        numbers = [number for count in adapter.COUNTS.values() for number in count if number is not None]
        assert all(f"{number:,}" in rows[name] for number in numbers)
        assert f"vitrine ingest {name} --dataset {name} --layout {name}" in page


@pytest.mark.skipif(not (SHARED / "data" / "grocery_store").is_dir(), reason="the data set is not here")
def test_grocery_store_as_published(settings: Settings):
    layout = registry.find("grocery_store")
    assert layout
    found = [p for unit in layout.units(settings, str(SHARED / "data" / "grocery_store")) for p in layout.photos(unit)]
    assert len({p.product_id for p in found}) == 81 and len({p.category for p in found}) == 43
    assert len({p.image_id for p in found}) == len(found) == 5_421
    assert all(Path(p.uri).is_file() for p in found[::100])
