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


EACH = [
    pytest.param(entry, id=entry.name, marks=[pytest.mark.large] if is_large(entry) else [])
    for entry in architectures().values()
]
"""For parametrize; a large one is marked so."""
