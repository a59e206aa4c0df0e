"""Which names an encoder that is to be made may have."""

import pytest

from tests.support.small_shop import CONFIG
from tests.support.tuned_by_hand import make_full, make_head
from vitrine.encoders import by_name
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings


@pytest.fixture
def home(settings: Settings) -> Settings:
    (settings.root / "vitrine.toml").write_text(CONFIG)
    home = load_settings(settings.root)
    make_full(home, "whole", "small", seed=2)
    make_head(home, "head", "linear", "whole", (512, 8))
    return home


@pytest.mark.parametrize("name", ["small", "resnet50"])
def test_a_name_of_the_settings_or_the_registry_cannot_be_taken(home: Settings, name: str):
    with pytest.raises(UserError, match=f"encoder '{name}' is there already, and was not made by a command"):
        by_name.check_free(home, name, "whole")


@pytest.mark.parametrize(
    ("name", "of"), [("whole", "whole"), ("whole", "small+whole"), ("whole", "head"), ("head", "head")]
)
def test_an_encoder_does_not_take_the_name_of_what_it_is_made_of(home: Settings, name: str, of: str):
    with pytest.raises(UserError, match=f"encoder '{name}' is what the new one is made of"):
        by_name.check_free(home, name, of)


def test_made_again_it_keeps_its_name(home: Settings):
    assert by_name.check_free(home, "head", "whole") == "head"
