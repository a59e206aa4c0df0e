"""An encoder of fewer dimensions: its name, its head, and what it is refused for."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.tuned_by_hand import make_head
from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import by_name, heads, shorter, tuned
from vitrine.encoders.codecs import LinearPart
from vitrine.errors import UserError
from vitrine.names import NAME_LENGTH, check_name
from vitrine.settings import Settings, load_settings
from vitrine.tables import ENCODERS

CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64
"""


@pytest.fixture
def home(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    return load_settings(tmp_path)


def linear(dim: int, to: int) -> LinearPart:
    random = np.random.default_rng(0)
    return LinearPart("PCA", *(random.normal(size=shape).astype(np.float32) for shape in (dim, (dim, to))))


def test_a_name_that_would_be_too_long_is_cut_and_stays_its_own() -> None:
    assert shorter.default_name("small", 64) == "small__pca64"
    long = "efficientnet_lite0_squeezenet__linear__grocery"
    names = {shorter.default_name(encoder, dim) for encoder in (long, f"{long}2") for dim in (64, 32)}
    assert len(names) == 4
    for name in names:
        assert check_name(name) and len(name) <= NAME_LENGTH and name.startswith("efficientnet_lite0_squeezenet__")


def test_a_head_of_a_head_is_one_on_the_network(home: Settings) -> None:
    make_head(home, "a_line", "linear", "small", (512, 24))
    version = by_name.version(home, "a_line")
    about = {"encoder_version": version, "encoder": "a_line", "state": "experiment", "backbone": "b", "family": "f"}
    about |= {"strategy": "linear", "dim": 24, "weights_uri": "w", "licence": "MIT", "created_at": lake.now()}
    lake.append(home, ENCODERS, [about])
    part, encoded = linear(24, 8), EncodedSet("shop", "a_line", version)
    made = shorter.make(home, shorter.longer(home, encoded), part, None)
    assert (made.name, made.base, made.base_version) == ("a_line__pca8", "small", by_name.version(home, "small"))
    assert (made.shortens, made.shortens_version, made.dim, made.licence) == ("a_line", version, 8, "MIT")
    tuned.register(home, made)
    found = by_name.find_head(home, "a_line__pca8")
    assert found == made and by_name.version(home, "a_line__pca8") == made.encoder_version
    again = shorter.make(home, shorter.longer(home, encoded), part, None)
    assert again == made, "the same vectors, the same version"
    x = np.random.default_rng(2).normal(size=(30, 512)).astype(np.float32)
    line = tuned.find(home, "a_line")
    assert line
    long, short = (heads.load(each.path(home)).embed(x) for each in (line, made))
    assert (part.apply(long) * short).sum(1).min() > 0.99999


def test_a_head_that_its_name_means_no_more_is_refused(home: Settings) -> None:
    make_head(home, "a_line", "linear", "small", (512, 24))
    with pytest.raises(UserError, match=r"encoder 'a_line' is version [0-9a-f]{16} by now, and not 0000000000000000"):
        shorter.longer(home, EncodedSet("shop", "a_line", "0" * 16))
