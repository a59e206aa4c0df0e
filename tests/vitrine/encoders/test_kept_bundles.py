"""The bundles that a server keeps: made once, mended where damaged, and a failure said and tried again."""

import time
from pathlib import Path

import pytest

from tests.support.served_home import blank
from vitrine import lake
from vitrine.datasets.drawn.probes import probe_photos
from vitrine.encoders import by_name, kept_bundles
from vitrine.encoders.kept_bundles import KeptBundles
from vitrine.errors import UserError, VitrineError
from vitrine.settings import Settings, load_settings
from vitrine.tables import ENCODERS

pytestmark = pytest.mark.slow
CONFIG = """
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:{seed}"
input_size = 64
"""


@pytest.fixture
def home(settings: Settings, tmp_path: Path) -> tuple[Settings, str]:
    """A home that once embedded with ``small``, and that version."""
    (tmp_path / "vitrine.toml").write_text(CONFIG.format(seed=1))
    settings = load_settings(tmp_path)
    version = by_name.version(settings, "small")
    lake.append(settings, ENCODERS, [blank(ENCODERS, encoder="small", encoder_version=version, dim=512)])
    return settings, version


def test_it_is_made_once_and_again_where_it_is_damaged(home: tuple[Settings, str]):
    settings, version = home
    kept = KeptBundles(settings)
    encoder = kept.encoder(version).result()
    photo = probe_photos()["01.jpg"]
    assert (encoder.encoder_version, encoder.encode(photo).shape) == (version, (512,))
    assert kept.encoder(version).result() is encoder
    kept.forget_others({version})
    assert kept.encoder(version).result() is encoder
    network = kept_bundles.folder(settings, version) / "network_0.onnx"
    made_at = network.stat().st_mtime_ns
    assert KeptBundles(settings).encoder(version).result().check() > 0.9999  # another process finds it
    assert network.stat().st_mtime_ns == made_at
    network.write_bytes(b"half of it")
    assert KeptBundles(settings).encoder(version).result().check() > 0.9999
    assert network.stat().st_size > 1_000_000


def test_a_failure_says_why_and_is_tried_again(
    home: tuple[Settings, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings, version = home
    monkeypatch.setattr(kept_bundles, "_RETRY_SECONDS", 2.0)
    kept = KeptBundles(settings)
    (tmp_path / "vitrine.toml").write_text(CONFIG.format(seed=2))
    for _ in range(2):  # the second one is told the same, at once
        failed = kept.encoder(version)
        with pytest.raises(
            VitrineError, match=rf"cannot be exported: encoder 'small' is version \w+ by now, and not {version}"
        ):
            failed.result()
    assert kept.encoder(version) is failed
    assert not kept_bundles.folder(settings, version).exists()
    (tmp_path / "vitrine.toml").write_text(CONFIG.format(seed=1))
    time.sleep(2)
    assert kept.encoder(version).result().encoder_version == version
    with pytest.raises(UserError, match="unknown encoder version"):
        kept.encoder("0" * 16).result()
