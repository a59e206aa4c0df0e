"""The Hugging Face Hub and the authors' servers as a machine without a network has them: files that were fetched
before, in the libraries' own caches; and random weights in the layout that is published there."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from vitrine.encoders.backbones import Backbone

COMMIT, NEXT_COMMIT = "a" * 40, "b" * 40
State = dict[str, torch.Tensor]


def offline(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let this process look for published files in ``folder`` alone."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))


def commit(folder: Path, repository: str, name: str, state: State, of: str = COMMIT, newest: bool = True) -> Path:
    """Keep ``state`` as the file ``name`` of a commit of ``repository``, its ``newest`` or an older one."""
    kept = folder / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = kept / "snapshots" / of
    snapshot.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, snapshot / name)
    (kept / "refs").mkdir(exist_ok=True)
    if newest:
        (kept / "refs" / "main").write_text(of)
    return snapshot / name


def publish(folder: Path, entry: Backbone, seed: int = 1, of: str = COMMIT, newest: bool = True) -> Path:
    """Random weights of ``entry``'s layout, kept where its source's own library looks for them."""
    if entry.source == "timm":
        import timm

        with torch.device("meta"):
            whole = timm.create_model(entry.model)
        return commit(
            folder, str(whole.pretrained_cfg["hf_hub_id"]), "model.safetensors", filled(whole, seed), of, newest
        )
    if entry.source == "open_clip":
        import open_clip

        with torch.device("meta"):
            whole = open_clip.create_model(entry.model, device="meta")
        config = open_clip.get_pretrained_cfg(entry.model, entry.tag)
        repository, _, name = config["hf_hub"].rpartition("/")
        if entry.hub:
            repository, name = entry.hub.removeprefix("hf-hub:"), ""
        file = commit(folder, repository, name or "open_clip_model.safetensors", filled(whole, seed), of, newest)
        if entry.hub:
            preprocessing = {key: config[key] for key in ("mean", "std", "interpolation", "resize_mode")}
            described = {"model_cfg": open_clip.get_model_config(entry.model), "preprocess_cfg": preprocessing}
            (file.parent / "open_clip_config.json").write_text(json.dumps(described))
        return file
    assert entry.hub
    with torch.device("meta"):
        whole = _published(entry)
    file = folder / "torch" / "hub" / "checkpoints" / entry.hub.rpartition("/")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(filled(whole, seed), file)
    return file


def _published(entry: Backbone) -> torch.nn.Module:
    """DINO's ResNet-50 and MAWS's vision transformer, in their authors' own words."""
    import torchvision
    from timm.models.vision_transformer import VisionTransformer

    if entry.source == "maws":
        return VisionTransformer(patch_size=16, embed_dim=768, depth=12, num_heads=12, num_classes=0)
    resnet = torchvision.models.resnet50(weights=None)
    resnet.fc = torch.nn.Identity()
    return resnet


def filled(network: torch.nn.Module, seed: int) -> State:
    """Small random numbers in place of the tensors of ``network``, which may be on the meta device."""
    dice = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.state_dict().items():
        numbers = torch.empty(value.shape).normal_(0, 0.05, generator=dice)
        if key.endswith("running_var") or (key.endswith("weight") and value.ndim == 1):
            numbers = numbers.abs() + 1  # of a normalisation
        state[key] = (
            numbers.to(value.dtype) if value.is_floating_point() else torch.zeros(value.shape, dtype=value.dtype)
        )
    return state
