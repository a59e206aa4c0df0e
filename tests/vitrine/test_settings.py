"""vitrine.settings: where a value comes from, and what a wrong one is told."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine, text

from tests.support.project import PROJECT
from vitrine import lake
from vitrine.errors import UserError
from vitrine.locations import sqlite_url
from vitrine.names import check_name
from vitrine.settings import find_config, load_settings


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vitrine.toml").write_text(text)
    return folder


@pytest.mark.parametrize("good", ["shop", "a", "dinov2_vitb14", "dinov2_vitb14__top__grocery_store", "a" * 48])
def test_names_that_may_be_part_of_keys_and_paths(good: str):
    assert check_name(good) == good


@pytest.mark.parametrize(
    "bad", ["", "Shop", "a/b", "..", "a b", "1a", "_a", "a_", "a___b", "a-b", "a'b", "a\n", "ä", "a.b", "a" * 49]
)
def test_other_names_are_refused_with_the_rule(bad: str):
    with pytest.raises(UserError) as caught:
        check_name(bad, "data set")
    assert f"bad data set {bad!r}" in str(caught.value) and "lower-case letters" in str(caught.value)


def test_the_nearest_file_upwards_sets_the_root_and_the_home(tmp_path: Path):
    write(tmp_path, '[encoders.small]\nbackbone = "torchvision/squeezenet1_0"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    found = load_settings(inner)
    assert (found.root, found.home, found.lake) == (tmp_path, tmp_path / ".vitrine", tmp_path / ".vitrine" / "lake")
    assert found.encoders["small"].backbone == "torchvision/squeezenet1_0"
    write(tmp_path / "a", "")
    assert load_settings(inner).root == tmp_path / "a"


def test_without_a_file_everything_starts_here(tmp_path: Path):
    if find_config(tmp_path):
        pytest.skip("there is a vitrine.toml above the temporary folder")
    assert load_settings(tmp_path).home == tmp_path / ".vitrine"


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, 'home = "from_file"\nmax_pixels = 5\n[embed]\nbatch_size = 4\ntask_photos = 7\n')
    monkeypatch.setenv("VITRINE_HOME", "elsewhere")
    monkeypatch.setenv("VITRINE_EMBED__BATCH_SIZE", "16")
    monkeypatch.setenv("VITRINE_MILVUS__TOKEN", "s3cret")
    monkeypatch.setenv("VITRINE_SPARK__MASTER", "")  # empty is as good as not set
    found = load_settings(tmp_path)
    assert found.home == tmp_path / "elsewhere"
    assert (found.max_pixels, found.embed.batch_size, found.embed.task_photos) == (5, 16, 7)
    assert found.spark.master is None
    assert found.milvus.token is not None and found.milvus.token.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(found)


def test_the_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "conf", "difficulty = 0.25\n")
    monkeypatch.setenv("VITRINE_CONFIG", str(tmp_path / "conf" / "vitrine.toml"))
    assert load_settings(tmp_path).difficulty == 0.25
    monkeypatch.setenv("VITRINE_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(UserError, match=r"VITRINE_CONFIG names .*missing\.toml"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("home = [", "bad settings"),
        ("difficulty = 2\n", "difficulty = 2"),
        ("colour = 1\n", "colour"),
        ("[embed]\nprecision = 'fp8'\n", "embed.precision = 'fp8'"),
        ("[embed]\nbatch_size = 0\n", "embed.batch_size = 0"),
        ("[encoders.'Bad/Name']\nbackbone = 'timm/resnet18'\n", "'Bad/Name'"),
        ("[encoders.small]\n", "encoders.small.backbone"),
        ("[nightly]\nrelevant = 'Colour'\n", "nightly.relevant"),
        ("[evaluate]\nslices = ['category']\n", "evaluate.slices"),
        ("[milvus]\nuri = 'a server'\n", "milvus.uri: String should match pattern"),
        ("[feast]\nregistry = 'redis://x:y@z'\n", "feast.registry: String should match pattern"),
        ("[[nightly.datasets]]\nname = 'a/b'\nsource = 'x'\n", "'a/b'"),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_rule(tmp_path: Path, text: str, said: str):
    write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path)
    assert said in str(caught.value) and "vitrine.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path):
    (tmp_path / "vitrine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="bad settings"):
        load_settings(tmp_path)


@pytest.mark.parametrize("name", ["TOKEN", "TOKENN"])
def test_a_mistake_beside_a_secret_does_not_print_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(f"VITRINE_MILVUS__{name}", "s3cret")
    monkeypatch.setenv("VITRINE_MILVUS__URI", "['x']")
    monkeypatch.setenv("VITRINE_EMBED__WAVE", "none")
    with pytest.raises(UserError) as caught:
        load_settings(tmp_path)
    assert "s3cret" not in str(caught.value)


def test_a_secret_of_another_type_is_not_printed(tmp_path: Path):
    write(tmp_path, "[milvus]\ntoken = 31415926\n")
    with pytest.raises(UserError, match=r"milvus\.token: ") as caught:
        load_settings(tmp_path)
    assert "31415926" not in str(caught.value)


def test_settings_are_frozen(tmp_path: Path):
    found = load_settings(tmp_path)
    with pytest.raises(ValidationError):
        found.home = Path("elsewhere")
    with pytest.raises(ValidationError):
        found.embed.task_photos = 1


def test_importing_does_nothing(tmp_path: Path):
    write(tmp_path, "home = [\n")  # would fail when read
    code = (
        "import sys, vitrine.settings, vitrine.tables, vitrine.errors\n"
        "import vitrine.encoders.backbones, vitrine.datasets.registry\n"
        "heavy = {'torch', 'pyspark', 'feast', 'pymilvus', 'keras', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = PROJECT
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(root)}, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["vitrine.toml"]


@pytest.mark.parametrize("text", ["\ufeffhome = 'elsewhere'\r\n", "\ufeff[nightly]\nencoders = []\n"])
def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path, text: str) -> None:
    (tmp_path / "vitrine.toml").write_bytes(text.encode())
    assert load_settings(tmp_path).home == tmp_path / ("elsewhere" if "home" in text else ".vitrine")


@pytest.mark.parametrize("name", ["feature%2Fnew", "a[1]", "a^b", "a|b", "a\\b", "a\nb", "a\udcff"])
def test_a_home_that_no_table_can_lie_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="bad home") as error:
        load_settings(tmp_path / name)
    assert str(error.value).isprintable()
    for uri in ("s3://shop/home", "file:///tmp/home", "S3A:/x"):
        monkeypatch.setenv("VITRINE_HOME", uri)
        with pytest.raises(UserError, match=r"bad home .* lake_uri"):
            load_settings(tmp_path / name)
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    assert load_settings(tmp_path / name).home == tmp_path / "home"


@pytest.mark.parametrize("name", ["a b", "a#b", "100%", "a?b", "{x}*", "ü", "a+b", "a`b", "it's"])
def test_homes_of_other_names_hold_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    (tmp_path / name).mkdir()
    settings = load_settings(tmp_path / name)
    lake.create_tables(settings)
    assert lake.rows(settings, "SELECT * FROM catalog") == []
    assert {path.name for path in (tmp_path / name / ".vitrine" / "lake").iterdir()} >= {"catalog", "runs"}
    store = create_engine(sqlite_url(tmp_path / name / "x.db"))
    with store.begin() as connection:
        connection.execute(text("CREATE TABLE t (a INT)"))
    assert (tmp_path / name / "x.db").stat().st_size
