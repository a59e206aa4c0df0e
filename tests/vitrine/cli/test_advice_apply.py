"""What ``--apply`` refuses before and after an advice, and what it says."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.advice.test_answer import ADVICE
from vitrine.cli import advice_apply
from vitrine.errors import Undecided, UserError
from vitrine.settings import Settings, load_settings

CONFIG = """
[nightly]
encoders = ["old"]  # what serves

[[nightly.datasets]]
name = "shop"
source = "photos"

[[nightly.datasets]]
name = "outlet"
source = "more"
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    return load_settings()


def test_undecided_changes_nothing_and_has_its_own_exit_code(settings: Settings, tmp_path: Path):
    undecided = replace(ADVICE, encoder=None, strategy=None, why="the budget of 1m has 3 s left")
    with pytest.raises(Undecided, match=r"undecided for shop: the budget .* nothing was applied") as caught:
        advice_apply.apply(settings, undecided)
    assert caught.value.exit_code == 4
    assert (tmp_path / "vitrine.toml").read_text() == CONFIG


def test_a_head_without_anything_to_learn_from_is_refused_before_the_backfill(settings: Settings, tmp_path: Path):
    assert ADVICE.strategy == "linear"
    with pytest.raises(UserError, match=r"learns from the split 'train', and data set 'shop' has none.* nothing was"):
        advice_apply.apply(settings, replace(ADVICE, learnable=False))
    assert (tmp_path / "vitrine.toml").read_text() == CONFIG


def test_what_may_not_serve_is_refused_before_it_is_measured(settings: Settings):
    with pytest.raises(UserError, match="what forbids commercial use may not serve"):
        advice_apply.check(settings, "shop", non_commercial=True)
    with pytest.raises(UserError, match="nights do not work on 'other'"):
        advice_apply.check(settings, "other", non_commercial=False)


def test_the_sentences(tmp_path: Path):
    done = advice_apply.Applied("e__linear__shop", "/shop/vitrine.toml", True, 1200, ["shop", "outlet"])
    assert done.lines() == [
        "e__linear__shop now comes first in [nightly] of /shop/vitrine.toml: its gates passed, 1,200 photos "
        "were embedded, and the next night promotes it. Nights bring it to outlet, too."
    ]
    assert replace(done, changed=False, datasets=["shop"]).lines() == [
        "/shop/vitrine.toml names e__linear__shop first already: it stays as it is."
    ]
