"""``[nightly]`` is changed in its place: what else vitrine.toml says stays, and a failure leaves it as it was."""

import os
import tomllib
from pathlib import Path

import pytest

from vitrine.cli import nightly_file
from vitrine.errors import UserError
from vitrine.settings import load_settings

DATASETS = '[[nightly.datasets]]\nname = "shop"\nsource = "photos"\n'
FORMS = [
    ('# mine\n[nightly]  # what a night does\nencoders = ["a", "b"]  # the first one serves\n', ["a", "b"]),
    ('[nightly]\nencoders = [\n  "a",  # the first\n  "new",\n  "b",\n]\nrelevant = "category"\n', ["a", "new", "b"]),
    ("[nightly]\n# encoders come later\n", []),
    ('[nightly]\nencoders = []\r\n\r\n[prices]\ncurrency = "EUR"\n', []),
]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "vitrine.toml"


@pytest.mark.parametrize(("text", "names"), FORMS)
def test_the_advised_encoder_comes_first_and_comments_stay(config: Path, text: str, names: list[str]):
    config.write_bytes((text + DATASETS).encode())
    config.chmod(0o640)
    assert nightly_file.put_first(config, "new")
    after = config.read_bytes().decode()
    assert tomllib.loads(after)["nightly"]["encoders"] == ["new", *(name for name in names if name != "new")]
    comments = [line.split("#")[1] for line in text.splitlines() if "#" in line]
    assert all(f"#{comment}" in after for comment in comments)
    assert after.endswith(DATASETS)
    assert config.stat().st_mode & 0o777 == 0o640
    assert load_settings().nightly.encoders[0] == "new"
    assert not nightly_file.put_first(config, "new")
    assert config.read_bytes().decode() == after
    assert [path.name for path in config.parent.iterdir()] == ["vitrine.toml"]


@pytest.mark.parametrize(
    "text", ['nightly = {encoders = ["a"], datasets = [{name = "shop", source = "x"}]}\n', 'nightly.encoders = ["a"]\n']
)
def test_other_spellings_of_the_same(config: Path, text: str):
    config.write_text("\ufeff" + text, encoding="utf-8")
    assert nightly_file.put_first(config, "new")
    assert load_settings().nightly.encoders == ("new", "a")
    assert config.read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_link_stays_one(config: Path, tmp_path: Path):
    target = tmp_path / "shared.toml"
    target.write_text('[nightly]\nencoders = ["a"]\n')
    config.symlink_to(target)
    assert nightly_file.put_first(config, "new")
    assert config.is_symlink() and "new" in target.read_text()


def test_killed_while_it_writes_the_file_is_as_it_was(config: Path, monkeypatch: pytest.MonkeyPatch):
    config.write_text('[nightly]\nencoders = ["a"]\n' + DATASETS)
    before = config.read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(nightly_file.shutil, "copymode", full)
    with pytest.raises(UserError, match=r"vitrine.toml cannot be written: No space left"):
        nightly_file.put_first(config, "new")
    assert config.read_bytes() == before


def test_what_cannot_be_applied_is_said_before_anything_is_measured(config: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"there is no vitrine.toml to write to"):
        nightly_file.check(load_settings(), "shop")
    config.write_text('[nightly]\nencoders = ["a"]\n' + DATASETS)
    assert nightly_file.check(load_settings(), "shop") == config
    with pytest.raises(UserError, match=r"nights do not work on 'other': .* which has shop"):
        nightly_file.check(load_settings(), "other")
    monkeypatch.setitem(os.environ, "VITRINE_NIGHTLY__ENCODERS", '["b"]')
    with pytest.raises(UserError, match=r"VITRINE_NIGHTLY__ENCODERS goes before .*: .* unset it"):
        nightly_file.check(load_settings(), "shop")
