"""Networks that begin alike, computed as one: what they share runs once for all of them.

A network whose last part was tuned has its base's weights before it, and so the same nodes in OpenVINO's graph: equal
operations, of equal constants, of the same input. Such nodes of several networks are made one (common subexpression
elimination); no name and no layer's place is trusted. What comes of it is one graph with an output for each network.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from spark_jobs.worker import probe
from spark_jobs.worker.exported import Exported, ov, read
from vitrine.encoders.networks import Built

LEAST_SHARED = 0.2
"""Of a network's multiply-adds: networks that share less are computed each by itself."""
_LEAST_COSINE = 0.99999
_MULTIPLY = ("Convolution", "GroupConvolution", "MatMul")


class Joined(Exported):
    """Several networks as one: float32 (B, 3, H, W), of any B -> float32 (B, D) of each."""

    def __init__(self, networks: Sequence[Exported]) -> None:
        """``networks``: of one input, precision and number of threads.

        Raises:
            RuntimeError: a file cannot be read any more.
        """
        first = networks[0]
        super().__init__(_joined([read(each.model) for each in networks]), first.precision, first.threads)

    def all(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """What each of the networks gives, in their order."""
        found = self._request.infer([batch.contiguous().numpy()], share_inputs=True)
        return [torch.from_numpy(found[number]) for number in range(len(found))]


def begin_alike(first: Exported, second: Exported) -> bool:
    """Is at least ``LEAST_SHARED`` of the first network also the second's?"""
    try:
        mine, other = read(first.model), read(second.model)
    except RuntimeError:
        return False
    known = _Known()
    total = sum(_work(node) for node, _ in known.add(mine))
    shared = sum(_work(node) for node, equal in known.add(other) if equal is not None)
    return total > 0 and shared >= LEAST_SHARED * total


def gives_the_same(joined: Joined, networks: Sequence[Exported], built: Built) -> bool:
    """Are the vectors that ``joined`` gives two pictures those of each network by itself?"""
    pictures = probe.pictures(built)
    own = [network(pictures).double().numpy() for network in networks]
    return all(
        probe.agree(np.asarray(found.double().numpy()), reference, _LEAST_COSINE)
        for found, reference in zip(joined.all(pictures), own, strict=True)
    )


def _joined(models: "Sequence[ov.Model]") -> "ov.Model":
    known = _Known()
    for model in models:
        for node, equal in known.add(model):
            for mine, theirs in zip(node.outputs(), equal.outputs() if equal else [], strict=False):
                mine.replace(theirs)
    return ov.Model(
        [result for model in models for result in model.get_results()], models[0].get_parameters(), "joined"
    )


class _Known:
    """Nodes by what decides their outputs."""

    def __init__(self) -> None:
        self._nodes: dict[Any, tuple[int, Any]] = {}

    def add(self, model: "ov.Model") -> list[tuple[Any, Any | None]]:
        """Each node of ``model``, and the equal one of a model that was added before, if there is one."""
        numbers: dict[str, int] = {}
        begun = len(self._nodes)
        made = []
        for node in model.get_ordered_ops():
            if node.get_type_name() == "Result":  # each network has its own
                continue
            number, equal = self._nodes.setdefault(_decisive(node, numbers), (len(self._nodes), node))
            numbers[node.get_name()] = number
            made.append((node, equal if number < begun else None))
        return made


def _decisive(node: Any, numbers: dict[str, int]) -> tuple[Any, ...]:
    """What decides the outputs of ``node``: ``numbers`` are those of its inputs' nodes, by name."""
    kind = node.get_type_name()
    if kind == "Parameter":
        return (kind,)
    if kind == "Constant":
        digest = hashlib.sha256(np.ascontiguousarray(node.data).tobytes()).digest()
        return kind, str(node.get_element_type()), tuple(node.shape), digest
    sources = [each.get_source_output() for each in node.inputs()]
    inputs = tuple((numbers[source.get_node().get_name()], source.get_index()) for source in sources)
    return kind, repr(sorted(node.get_attributes().items())), inputs


def _work(node: Any) -> float:
    """Multiply-adds of a photo, of a node that multiplies by weights: each weight meets each place of the output."""
    if node.get_type_name() not in _MULTIPLY:
        return 0.0
    weight, output = node.input(1).get_partial_shape(), node.output(0).get_partial_shape()
    if not weight.is_static:  # two activations
        return 0.0
    places = [side.get_length() for side in list(output)[1:] if side.is_static]
    channels = max(1, places[-1 if node.get_type_name() == "MatMul" else 0]) if places else 1
    return float(math.prod(weight.to_shape()) * math.prod(places) / channels)
