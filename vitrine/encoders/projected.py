"""A network with a matrix on what it pools: so a student's vectors come to lie in its teacher's space.

Its file has the network's tensors as their source names them, behind ``network.``, and the matrix:
``projection.weight``, (dim, D), and ``projection.bias``, (dim,).
"""

import torch

from vitrine.encoders.checkpoints import MATRIX, NETWORK, State


class Projected(torch.nn.Module):
    """``network``, whose output is (B, D), and a linear layer on it: (B, dim)."""

    def __init__(self, network: torch.nn.Module, projection: torch.nn.Linear) -> None:
        super().__init__()
        self.network, self.projection = network, projection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.projection(self.network(x))
        return projected


def projection_of(state: State, dim: int) -> torch.nn.Linear | None:
    """The matrix that ``state`` has for vectors of ``dim`` dimensions; None where it has none of that length."""
    weight, bias = state.get(f"{MATRIX}weight"), state.get(f"{MATRIX}bias")
    if weight is None or bias is None or weight.ndim != 2 or (len(weight), bias.shape) != (dim, (dim,)):
        return None
    layer = torch.nn.Linear(weight.shape[1], dim)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.requires_grad_(False)


def named(network: torch.nn.Module, source: str, tensors: State | None = None) -> State:
    """The network's ``tensors`` (left out: its state) as its file has them: under the names of its ``source``."""
    tensors = network.state_dict() if tensors is None else tensors
    if isinstance(network, Projected):
        inner = named(network.network, source, _under(NETWORK, tensors))
        outer = named(network.projection, "", _under(MATRIX, tensors))
        return {f"{NETWORK}{key}": value for key, value in inner.items()} | {
            f"{MATRIX}{key}": value for key, value in outer.items()
        }
    state = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    if source == "torchvision" and any(key.startswith("0.") for key in state):
        return {f"features.{key.removeprefix('0.')}": value for key, value in state.items()}
    return state


def _under(prefix: str, tensors: State) -> State:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
