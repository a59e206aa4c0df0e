"""The truth table of advice, written from a lake's vectors and replayed from its files alone: the script itself."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from evaluation.advice.sample import Sample
from tests.evaluation.advice.test_sample import fill
from tests.support.filled_lake import row
from tests.support.project import PROJECT, load_script
from vitrine import lake
from vitrine.cli import advice
from vitrine.settings import load_settings
from vitrine.tables import EMBEDDINGS

PRODUCTS, PHOTOS = 80, 4
NOISE = {"sharp": 0.5, "dull": 1.0, "blind": 3.0}


@pytest.fixture(scope="module")
def truth() -> ModuleType:
    return load_script(PROJECT / "benchmarks" / "advice_truth.py")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three networks' vectors of 80 products: one whose photos lie near their product's, and two that are worse."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(advice, "SIZES", ((30, 1000), (60, 1000), (None, 1000)))
    config = [
        f'[encoders.{name}]\nbackbone = "torchvision/{network}"\nweights = "random:1"\n'
        for name, network in zip(NOISE, ("squeezenet1_0", "squeezenet1_1", "resnet18"), strict=True)
    ]
    (tmp_path / "vitrine.toml").write_text("\n".join(config))
    settings, products = load_settings(tmp_path), np.arange(PRODUCTS * PHOTOS) % PRODUCTS
    fill(settings, [(f"p{product}", None, None) for product in products])
    for number, (name, noise) in enumerate(NOISE.items()):
        chance = np.random.default_rng(number)
        made = chance.normal(size=(PRODUCTS, 16))[products] + noise * chance.normal(size=(len(products), 16))
        made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
        rows = [
            row(f"shop/{at:05d}", vector, version=f"{number:016x}", dataset="shop") for at, vector in enumerate(made)
        ]
        about = [{"encoder": name, "product_id": f"shop/p{product}"} for product in products]
        lake.append(settings, EMBEDDINGS, [each | more for each, more in zip(rows, about, strict=True)])
    return tmp_path


def test_it_is_written_once_and_replayed(
    truth: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = home / "truth"
    arguments = ["advice_truth.py", "write", "shop", "--out", str(out), "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--encoder", "sharp"])
    truth.main()
    said = capsys.readouterr().out.splitlines()
    assert [line.rsplit(":", 1)[0] for line in said] == [
        f"sharp, seed {seed}, {photos} photos" for seed in (0, 1) for photos in (120, 240, 320)
    ]  # as far as it is, sample by sample
    first = (out / "sharp.parquet").stat()
    monkeypatch.setattr(sys, "argv", [*arguments, "--joined", "dull+sharp"])
    truth.main()
    assert not any(line.startswith("sharp") for line in capsys.readouterr().out.splitlines())
    assert (out / "sharp.parquet").stat().st_mtime_ns == first.st_mtime_ns  # killed, it goes on with the others
    assert {path.stem for path in out.glob("*.parquet")} == {*NOISE, "dull+sharp", "samples"}
    found = truth.read(out)
    assert len(found.figures) == 7 and "dull+sharp" not in found.figures  # joined, they have a head
    alone = {name: figure for name, figure in found.figures.items() if "+" not in name}
    assert max(alone, key=alone.__getitem__).startswith("sharp")
    assert found.figures["dull+sharp with a linear head"] > found.figures["dull with a linear head"]
    whole = found.answers["dull", "pretrained", 0, 2].values.mean()
    assert whole == pytest.approx(found.answers["dull", "pretrained", 1, 2].values.mean(), abs=1e-6)

    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["advice_truth.py", "replay", str(out)])
    truth.main()
    printed = capsys.readouterr()
    assert "not in the table: blind+sharp\n" in printed.err
    said = {line.split("|")[1].strip(): line.split("|")[2:] for line in printed.out.splitlines() if "|" in line}
    assert {"advice", *truth.BASELINES} < set(said)
    assert said["everything"][0].strip() == "0.0000" and said["everything"][4].strip() == "1.000"
    script = load_script(PROJECT / "benchmarks" / "advice_forecasts.py")
    for strategy, options in ((truth.PRETRAINED, len(NOISE)), (truth.LINEAR, len(NOISE) + 1)):
        for look in (0, 1):
            fell, missed, held = zip(*script.forecasts(found, strategy, look), strict=True)
            assert len(held) == 2 * options and np.mean(fell) < 0 < sum(held)
            first = next(key for key in found.answers if key[1:] == (strategy, 0, look))
            measured, name = found.answers[first], truth.option_name(first[0], strategy)
            foretold = measured.moved(np.log2(PRODUCTS / (30, 60)[look])).mean()
            assert fell[0] == pytest.approx(found.figures[name] - measured.values.mean())
            assert missed[0] == pytest.approx(foretold - found.figures[name])

    assert float(said["advice"][0]) >= 0 and 0 < float(said["advice"][4]) <= 1.01


@pytest.mark.parametrize(
    ("asked", "says"), [((), "replay"), (("write",), "--seeds SEEDS [SEEDS ...]"), (("replay",), "--margin MARGIN")]
)
def test_its_help_says_how_it_is_called(
    truth: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: tuple[str, ...],
    says: str,
):
    monkeypatch.setattr(sys, "argv", ["advice_truth.py", *asked, "--help"])
    with pytest.raises(SystemExit) as ended:
        truth.main()
    assert ended.value.code == 0 and says in " ".join(capsys.readouterr().out.split())


def test_a_sub_sample_is_whole_products_and_lies_in_the_next(truth: ModuleType):
    products = np.sort(np.concatenate([np.repeat(np.arange(30), 3), 30 + np.arange(10)]))
    whole = Sample("g", [f"{at:03d}" for at in range(len(products))], products, products, True)
    small, places = truth.subsample(whole, 7, 12, 1000)
    large, _ = truth.subsample(whole, 7, 20, 1000)
    assert set(small.ids) < set(large.ids) and not small.whole
    assert np.bincount(small.products).tolist().count(3) == 12 and small.product_count == len(set(small.products))
    assert [whole.ids[place] for place in places] == small.ids
    assert truth.subsample(whole, 7, None, 1000)[0].whole
    other, _ = truth.subsample(whole, 8, 12, 1000)
    assert set(other.ids) != set(small.ids)
