"""Low-rank tuning: what each matrix of the network changes by is a product of two narrow ones, and these alone learn.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685); every linear layer has its
own, as Dettmers et al. found it best (QLoRA, arXiv 2305.14314), and every convolution of one pixel. It runs as tuning
from a head does (``training.head_first``), and what comes of it is a whole network: the changes are added in the end.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from training import full_tuning
from training.full_tuning import Tuner
from training.tuning_process import run
from vitrine.encoders.projected import named
from vitrine.tuning_sections import LowRankSettings, NetworkSettings

_MARK = ".parametrizations."


class LowRank(nn.Module):
    """A matrix and its change, ``scale / rank * up @ down``, as ``torch.nn.utils.parametrize`` asks for it.

    ``up`` is zero at first, so that the network begins as it is. A convolution's weight, (O, I, 1, 1), is taken as the
    matrix (O, I).
    """

    def __init__(self, weight: torch.Tensor, rank: int, scale: float) -> None:
        super().__init__()
        out, into = weight.shape[:2]
        rank = min(rank, out, into)
        self.down, self.up = nn.Parameter(weight.new_empty(rank, into)), nn.Parameter(weight.new_zeros(out, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.factor = scale / rank

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.factor * (self.up @ self.down).view_as(weight)


def matrices(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Modules and the names of their weights that are matrices: linear layers, attention's projections, convolutions
    of one pixel."""
    for module in network.modules():
        one_pixel = isinstance(module, nn.Conv2d) and module.groups == 1 and module.weight.shape[2:] == (1, 1)
        if isinstance(module, nn.Linear) or one_pixel:
            yield module, "weight"
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield module, "in_proj_weight"


def adapt(network: nn.Module, rank: int, scale: float) -> None:
    """Freeze ``network``, and give each of its ``matrices`` that learned before a change that learns.

    Raises:
        ArithmeticError: there is none.
    """
    found = [(module, name) for module, name in matrices(network) if getattr(module, name).requires_grad]
    network.requires_grad_(False)
    if not found:
        raise ArithmeticError(
            "the network has no linear layer and no convolution of one pixel that may learn: tune it from a head"
        )
    for module, name in found:
        # Unsafe: a shape is the same after it, and looking whether it is would compute each change once more.
        parametrize.register_parametrization(module, name, LowRank(getattr(module, name), rank, scale), unsafe=True)


def merged(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state of an adapted network as one that is not adapted has it, changes added."""
    modules, state = dict(network.named_modules()), {}
    for key, value in network.state_dict().items():
        owner, is_adapted, rest = key.partition(_MARK)
        if not is_adapted:
            state[key] = value
        elif rest.endswith(".original"):
            name = rest.removesuffix(".original")
            state[f"{owner}.{name}" if owner else name] = getattr(modules[owner], name).detach()
    return state


class LowRankTuner(Tuner):
    """A tuner of the changes and the classifier."""

    kind: type[NetworkSettings] = LowRankSettings

    def prepare(self) -> None:
        assert isinstance(self.settings, LowRankSettings)
        adapt(self.built.network, self.settings.rank, self.settings.scale)

    def weights(self) -> dict[str, torch.Tensor]:
        network = self.learned.network
        return named(network, self._backbone.source, merged(network))


def tune(folder: Path) -> dict[str, Any]:
    """As ``full_tuning.tune``."""
    return full_tuning.tune(folder, LowRankTuner)


def estimate(folder: Path, steps: int = 2) -> dict[str, Any]:
    """As ``full_tuning.estimate``."""
    return full_tuning.estimate(folder, steps, LowRankTuner)


if __name__ == "__main__":
    run(tune, estimate, sys.argv[1:])
