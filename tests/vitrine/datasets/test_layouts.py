"""vitrine.datasets: what each layout finds in a source, without Spark."""

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from vitrine import photo_files
from vitrine.datasets import folder, generated, registry
from vitrine.datasets.photo import Photo
from vitrine.datasets.registry import LAYOUTS, describe
from vitrine.errors import UserError
from vitrine.locations import Location
from vitrine.settings import Settings

HOSTILE = ["it's.jpg", 'say "x".jpg', "line\nbreak.jpg", "ünï 💡.jpg", "a..jpg", "a..b.jpg", "100%25.jpg", "-rf.jpg"]
HOSTILE += ["back\\slash.jpg", " lead.jpg", "file:x.jpg", "s3:x.jpg", "#1?.jpg", "{a}[b]*.jpg", "no suffix"]


def photos_of(layout, settings: Settings, source: str) -> list[Photo]:
    return [photo for unit in layout.units(settings, source) for photo in layout.photos(unit)]


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def test_every_layout_says_what_it_is():
    for name, layout in LAYOUTS.items():
        assert layout is None or (layout.ABOUT and callable(layout.units) and callable(layout.photos)), name
        assert f"{name}: {layout.ABOUT if layout else 'CSV'}" in describe()


def test_a_folder_is_read_by_product(settings: Settings, tmp_path: Path):
    root = put(tmp_path / "shop", "mug/1.jpg", "mug/side/2.PNG", "lamp/1", "loose.jpg", ".git/1.jpg")
    put(root, "mug/.hidden.jpg", "mug/notes.txt", "mug/labels.JSON", "mug/.cache/1.jpg", "lamp/Thumbs.db")
    (root / "empty").mkdir()
    found = photos_of(folder, settings, "shop")  # relative paths start at the settings' root
    beside = found.pop()
    assert beside.image_id == "loose.jpg" and beside.refusal and beside.refusal[0] == "no_product"
    assert [(p.image_id, p.product_id, p.split, p.uri) for p in found] == [
        ("lamp/1", "lamp", None, f"{root}/lamp/1"),
        ("mug/1.jpg", "mug", None, f"{root}/mug/1.jpg"),
        ("mug/side/2.PNG", "mug", None, f"{root}/mug/side/2.PNG"),
    ]


def test_a_first_level_of_split_names_alone_is_one_of_splits(settings: Settings, tmp_path: Path):
    root = put(tmp_path / "shop", "train/mug/1.jpg", "validation/mug/1.jpg", "test/lamp/1.jpg")
    found = photos_of(folder, settings, str(root))
    assert {(p.image_id, p.product_id, p.split) for p in found} == {
        ("train/mug/1.jpg", "mug", "train"),
        ("validation/mug/1.jpg", "mug", "val"),
        ("test/lamp/1.jpg", "lamp", "test"),
    }
    put(root, "test tube/1.jpg")  # a product, and then train is one too? The caller says
    with pytest.raises(UserError, match="'test', 'train', 'validation' beside 'test tube': say --splits"):
        folder.units(settings, str(root))
    assert {p.split for p in photos_of(folder.Folder(False), settings, str(root))} == {None}
    decided = {p.image_id: (p.split, p.refusal) for p in photos_of(folder.Folder(True), settings, str(root))}
    beside = decided.pop("test tube/1.jpg")
    assert {split for split, _ in decided.values()} == {"train", "val", "test"}
    assert beside[0] is None and beside[1] and beside[1][0] == "no_product"


def test_a_level_of_categories_is_asked_for(settings: Settings, tmp_path: Path):
    root = put(tmp_path / "shop", "cups/mug/1.jpg", "cups/mug/side/2.jpg", "lamps/lamp/1.jpg")
    put(root, "loose.jpg", "cups/3.jpg")
    found = {p.image_id: p for p in photos_of(folder.Folder(categories=True), settings, str(root))}
    assert {(p.image_id, p.category, p.product_id, p.split) for p in found.values() if not p.refusal} == {
        ("cups/mug/1.jpg", "cups", "mug", None),
        ("cups/mug/side/2.jpg", "cups", "mug", None),
        ("lamps/lamp/1.jpg", "lamps", "lamp", None),
    }
    refused = {name: p.refusal[0] for name, p in found.items() if p.refusal}
    assert refused == {"loose.jpg": "no_product", "cups/3.jpg": "no_product"}
    put(root, "lamps/mug/1.jpg")
    with pytest.raises(UserError, match="has product 'mug' in 'cups', 'lamps': a product has one category"):
        folder.units(settings, str(root), categories=True)
    with pytest.raises(UserError, match="--categories with layout 'table'"):
        registry.find("table", categories=True)
    (root / "upwards").symlink_to(root)
    with pytest.raises(UserError, match=r"category 'upwards' of .* is a link to a folder above it"):
        folder.units(settings, str(root), categories=True)


def test_categories_lie_in_splits(settings: Settings, tmp_path: Path):
    root = put(tmp_path / "shop", "train/cups/mug/1.jpg", "test/cups/mug/2.jpg", "test/lamps/lamp/1.jpg", "test/4.jpg")
    found = photos_of(folder.Folder(categories=True), settings, root.as_uri())
    assert {(p.image_id, p.split, p.category, p.product_id) for p in found if not p.refusal} == {
        ("train/cups/mug/1.jpg", "train", "cups", "mug"),
        ("test/cups/mug/2.jpg", "test", "cups", "mug"),
        ("test/lamps/lamp/1.jpg", "test", "lamps", "lamp"),
    }
    assert [p.image_id for p in found if p.refusal] == ["test/4.jpg"]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("Train/mug/1.jpg", "TEST/lamp/1.jpg"), {"train", "test"}),
        (("training/mug/1.jpg", "valid/mug/2.jpg", "Testing/lamp/1.jpg"), {"train", "val", "test"}),
        (("dev/mug/1.jpg", "Queries/mug/2.jpg", "gallery/lamp/1.jpg"), {"val", "query", "gallery"}),
        (("training_set/mug/1.jpg", "Test Images/lamp/1.jpg", "valset/x/1.jpg"), {"train", "test", "val"}),
        (("train/1.jpg", "mug/1.jpg", "test/2.jpg"), {None}),  # folders of photos: toys
        (("mug/1.jpg", "lamp/1.jpg"), {None}),
        (("mug/test/1.jpg",), {None}),  # a product's folder of test shots
        (("te\u017ft/a/1.jpg", "tra\u0131n/b/1.jpg", "all/c/1.jpg", "None/d/1.jpg"), {None}),
    ],
)
def test_what_the_first_level_is(settings: Settings, tmp_path: Path, names: tuple[str, ...], splits: set[str | None]):
    root = put(tmp_path / "shop", *names)
    put(root, "__MACOSX/train/._1.jpg", "@eaDir/mug/1.jpg", "$RECYCLE.BIN/1.jpg", ".git/x/1.jpg", "CVS/1.jpg")
    put(root, "System Volume Information/1.jpg", "lost+found/1.jpg", "#recycle/mug/1.jpg")
    put(
        root / names[0].rpartition("/")[0],
        "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "Thumbs.db",
        "Icon\r",
        "~$1.jpg",
        "1.XMP",
        "IMG_1.AAE",
        ".ipynb_checkpoints/1.jpg",
    )
    for source in (str(root), f"file://{root}"):
        listed = photos_of(folder, settings, source)
        assert sorted(p.image_id for p in listed) == sorted(names)
        assert {p.split for p in listed} == splits


def test_a_folder_around_the_splits_is_no_product(settings: Settings, tmp_path: Path):
    root = put(tmp_path / "shop", "unpacked/train/mug/1.jpg", "unpacked/test/mug/2.jpg")
    with pytest.raises(UserError, match=r"holds one folder, 'unpacked'.*--no-splits"):
        folder.units(settings, str(root))
    assert {p.product_id for p in photos_of(folder.Folder(False), settings, str(root))} == {"unpacked"}
    assert {p.split for p in photos_of(folder, settings, str(root / "unpacked"))} == {"train", "test"}
    root = put(tmp_path / "other", "unpacked/train/mug/1.jpg", "unpacked/docs/2.jpg")
    with pytest.raises(UserError, match=r"holds one folder, 'unpacked', and that holds 'train'.*--no-splits"):
        folder.units(settings, str(root))


def test_a_source_starts_at_the_current_folder(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(tmp_path / "photos", "above/1.jpg")
    put(tmp_path / "inner" / "photos", "here/1.jpg")
    monkeypatch.chdir(tmp_path / "inner")
    assert [p.product_id for p in photos_of(folder, settings, "photos")] == ["here"]
    assert settings.place("photos") == str(tmp_path / "photos"), "of vitrine.toml"


@pytest.mark.parametrize("source", ["a\nb", "s3://shop/a\nb", "/tmp/\x1b[31m"])
def test_a_source_of_control_characters_is_refused(settings: Settings, source: str):
    with pytest.raises(UserError, match="control character") as caught:
        folder.units(settings, source)
    assert str(caught.value).isprintable()


def test_very_many_products_are_few_units(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = [f"{split}/{number:03}/1.jpg" for split in ("train", "test") for number in range(50)]
    put(tmp_path / "shop", *names)
    assert len(folder.units(settings, str(tmp_path / "shop"))) == 103, "each by itself"
    whole = photos_of(folder, settings, str(tmp_path / "shop"))
    monkeypatch.setattr(folder, "_UNITS", 8)
    assert len(folder.units(settings, str(tmp_path / "shop"))) == 8 + 3
    assert photos_of(folder, settings, str(tmp_path / "shop")) == whole and len(whole) == 100


@pytest.mark.parametrize("layout", ["folder", "table", "rp2k"])
def test_a_uri_that_names_no_place_is_refused(settings: Settings, layout: str):
    for source, why in (("file://elsewhere/photos", "another host"), ("s3://shop/who?.jpg", "spelled %3F")):
        with pytest.raises(UserError, match=f"bad source '{re.escape(source)}': .*{why}"):
            LAYOUTS[layout].units(settings, source)
    with pytest.raises(UserError, match="password or key") as caught:
        LAYOUTS[layout].units(settings, "s3://AKIA:hunter2@shop/photos")
    assert "hunter2" not in str(caught.value)


URI_NAMES = ["a b.jpg", "a#1.jpg", "a%20b.jpg", "a%20c.jpg", "what?.jpg", "a+b.jpg", "[1]{x}*.jpg", "100%.jpg"]
URI_NAMES += ["\u00fc.jpg", "u\u0308.jpg", "\u978b \U0001f45f.jpg", "a&b=c;d.jpg"]


@pytest.mark.parametrize("start", ["shop", "red shoes#1", "feature%2Fnew", "who?"])
def test_names_in_file_uris_are_escaped_once(settings: Settings, tmp_path: Path, start: str):
    root = tmp_path / start
    for name in URI_NAMES:
        put(root / "mug", name)
        put(root / name.removesuffix(".jpg"), "only here.jpg")
        (root / "mug" / name).write_text(name)
    listed = {p.image_id: p for p in photos_of(folder, settings, root.as_uri())}
    expected = {f"mug/{name}" for name in URI_NAMES} | {f"{n.removesuffix('.jpg')}/only here.jpg" for n in URI_NAMES}
    assert listed.keys() == expected and not any(p.refusal for p in listed.values())
    for name in URI_NAMES:
        assert photo_files.read(listed[f"mug/{name}"].uri) == name.encode()


def test_a_location_is_escaped_once_and_read_once():
    for root in ("s3://shop/photos", "s3://shop/photos?region=eu-west-1", "file:///photos", "/photos"):
        for name in URI_NAMES:
            location = Location(root) / name
            path = location.local_path if location.is_local else location.remote_parts[1]
            assert path.removeprefix("/") == f"photos/{name}"
            if name.isascii() and not set(name) & set("%?#"):
                assert location.text.partition("?")[0] == f"{root.partition('?')[0]}/{name}", "as before"
    given = Location.given("s3a://b/a%20b/t#1.csv?region=eu-west-1")
    assert given.hadoop == "s3://b/a b/t#1.csv"
    assert given.parent == (Location("s3://b/a%20b?region=eu-west-1"), "t#1.csv")
    assert Location("file:///a%20b").hadoop == "/a b" and Location("/a%20b").hadoop == "/a%20b"
    assert Location.given("~nobody/x", Path("/r")).text == "/r/~nobody/x"
    assert Location("s3://b/a%20b").is_same(Location("s3://b/a b"))
    assert not Location("s3://b/a%2520b").is_same(Location("s3://b/a%20b"))
    with pytest.raises(ValueError, match="%3F"):
        Location("s3://b/what?.jpg").remote_parts  # noqa: B018


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_names(settings: Settings, tmp_path: Path, name: str):
    root = put(tmp_path / "shop", f"mug/{name}", f"{name}/1.jpg")
    found = {p.image_id: p for p in photos_of(folder, settings, str(root))}
    assert set(found) == {f"mug/{name}", f"{name}/1.jpg"}
    assert found[f"{name}/1.jpg"].product_id == name
    assert all(p.refusal is None and Path(p.uri).read_bytes() == b"x" for p in found.values())


def test_names_that_are_no_text_are_refused_and_not_lost(settings: Settings, tmp_path: Path):
    root = put(tmp_path / "shop", "mug/1.jpg")
    (root / "mug" / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"x")
    (root / os.fsdecode(b"bad\xfe")).mkdir()
    (root / os.fsdecode(b"bad\xfe") / "1.jpg").write_bytes(b"x")
    found = {p.image_id: p for p in photos_of(folder, settings, str(root))}
    assert {name.split("#")[0]: p.refusal and p.refusal[0] for name, p in found.items()} == {
        "mug/1.jpg": None,
        "mug/bad\\udcff.jpg": "bad_name",
        "bad\\udcfe/1.jpg": "bad_name",
    }
    (root / "mug" / "bad\\udcff.jpg").write_bytes(b"x")  # another file, of the name that the first is shown by
    assert len({p.image_id for p in photos_of(folder, settings, str(root))}) == 4
    for photo in found.values():
        json.dumps([photo.image_id, photo.product_id, photo.uri], ensure_ascii=False).encode()  # text, all of it


def test_links_that_lead_in_a_circle_are_named_and_not_followed(settings: Settings, tmp_path: Path):
    root = put(tmp_path / "shop", "mug/1.jpg", "mug/side/2.jpg", "elsewhere/3.jpg")
    (root / "up").symlink_to("..")
    (root / "self").symlink_to("self")
    (root / "mug" / "side" / "up").symlink_to(root)
    (root / "mug" / "turn").symlink_to("turn")
    (root / "linked").symlink_to("elsewhere")
    found = [(p.image_id, p.refusal and p.refusal[0]) for p in photos_of(folder, settings, str(root))]
    assert sorted(found) == [
        ("elsewhere/3.jpg", None),
        ("linked/3.jpg", None),
        ("mug/1.jpg", None),
        ("mug/side/2.jpg", None),
        ("mug/side/up", "unreadable"),
        ("mug/turn", None),  # reading it says that it is a circle
        ("self", "no_product"),
        ("up", "unreadable"),
    ]


def test_a_folder_that_cannot_be_listed_is_refused_and_not_lost(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = put(tmp_path / "shop", "mug/1.jpg", "mug/side/2.jpg", "lamp/1.jpg")
    units = folder.units(settings, str(root))
    real = os.scandir

    def scandir(path):
        if str(path).endswith("side"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = {p.image_id: p.refusal for unit in units for p in folder.photos(unit)}
    assert found.pop("mug/side") == ("unreadable", "the folder cannot be listed: permission denied")
    assert found == {"mug/1.jpg": None, "lamp/1.jpg": None}


@pytest.mark.parametrize("make", [None, "empty", "loose", "file"])
def test_a_folder_without_products(settings: Settings, tmp_path: Path, make: str | None):
    root = tmp_path / "shop"
    if make == "empty":
        root.mkdir()
    elif make == "loose":
        put(root, "1.jpg")
    elif make == "file":
        put(tmp_path, "shop")
    with pytest.raises(UserError, match=r"ROOT/\[SPLIT/\]PRODUCT/PHOTO") as caught:
        folder.units(settings, str(root))
    assert str(root) in str(caught.value)


def test_a_remote_folder_is_read_the_same_way(settings: Settings, tmp_path: Path):
    root = put(tmp_path / "shop", "train/mug/1 x.jpg", "test/mug/.hidden.jpg", "test/mug/a/2.jpg", "test/mug/n.txt")
    found = photos_of(folder, settings, f"file://{root}")
    assert {(p.image_id, p.product_id, p.split) for p in found} == {
        ("train/mug/1 x.jpg", "mug", "train"),
        ("test/mug/a/2.jpg", "mug", "test"),
    }
    with pytest.raises(UserError, match="cannot list 'file:///nowhere"):
        folder.units(settings, "file:///nowhere/at/all")


@pytest.mark.parametrize(
    "source", ["", "40", "40x", "x12", "0x3", "3x0", "-1x2", "3X4", "3x4:", "3x4:a", "3x4:1:oil", "3x4::sketch"]
)
def test_generated_refuses_what_is_no_size(settings: Settings, source: str):
    with pytest.raises(UserError, match="PRODUCTSxPHOTOS") as caught:
        generated.units(settings, source)
    assert repr(source) in str(caught.value)


def test_generated_grows_and_keeps_what_it_drew(settings: Settings):
    small = photos_of(generated, settings, "2x2")
    before = {p.image_id: (Path(p.uri).read_bytes(), Path(p.uri).stat().st_mtime_ns) for p in small}
    assert len(before) == 4 and len({p.product_id for p in small}) == 2 and all(p.category for p in small)
    large = photos_of(generated, settings, "3x3")
    assert len({p.image_id for p in large}) == 9
    assert {p.image_id: (Path(p.uri).read_bytes(), Path(p.uri).stat().st_mtime_ns) for p in small} == before
    for source in ("2x2:1", "2x2:0:sketch"):
        other = photos_of(generated, settings, source)
        assert {p.uri for p in other}.isdisjoint(p.uri for p in large)
        assert {Path(p.uri).read_bytes() for p in other}.isdisjoint(Path(p.uri).read_bytes() for p in large)
    with Image.open(small[0].uri) as image:
        assert image.format == "JPEG"
    drawn = generated.photos(generated.units(settings, "2x2")[0])
    Path(small[0].uri).unlink()
    assert Path(next(drawn).uri).read_bytes() == before[small[0].image_id][0]


def test_generated_units_cover_each_product_once(settings: Settings):
    for source, products in (("1x1", 1), ("250x1", 250), ("7x500", 7), ("121x60", 121)):
        spans = [json.loads(unit)[4:6] for unit in generated.units(settings, source)]
        assert [n for first, last in spans for n in range(first, last)] == list(range(products))
