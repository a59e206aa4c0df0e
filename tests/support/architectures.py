"""The networks of the registry, each once, with random weights."""

from dataclasses import replace

import pytest

from vitrine.encoders.backbones import REGISTRY, Backbone


def architectures() -> dict[tuple[str, str, int | None], Backbone]:
    """One entry of the registry for each network and size; others are the same with other weights."""
    return {
        (entry.source, entry.model, entry.input_size): replace(entry, weights="random:0")
        for entry in reversed(REGISTRY.values())
    }


def is_large(entry: Backbone) -> bool:
    assert entry.facts
    return entry.facts.parameters > 100 or entry.facts.gflops > 100


def marks(entry: Backbone) -> list[pytest.MarkDecorator]:
    """Seconds each: of the larger ones, those in ``OF_A_FAMILY`` alone are tried in every run."""
    assert entry.facts
    if is_large(entry):
        return [pytest.mark.large]
    return [pytest.mark.long] if entry.facts.gflops > MOST_GFLOPS and entry.name not in OF_A_FAMILY else []


OF_A_FAMILY = {"siglip_vitb16", "convnext_base", "maws_vitb16"}
"""Whose families have no small network."""
MOST_GFLOPS = 13
EACH = [pytest.param(entry, id=entry.name, marks=marks(entry)) for entry in architectures().values()]
"""For parametrize."""
