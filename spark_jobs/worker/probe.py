"""Two pictures that tell whether a network that was made faster still gives its vectors."""

import numpy as np
import torch

from vitrine.encoders.networks import Built


def pictures(built: Built) -> torch.Tensor:
    """Smooth ones of random colours, float32 (2, 3, H, W): rounding moves their vectors more than those of photos."""
    colours = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 4 - 2
    return torch.nn.functional.interpolate(colours, size=built.input_shape, mode="bicubic")


def agree(vectors: np.ndarray, reference: np.ndarray, least_cosine: float) -> bool:
    """Has each row of ``vectors``, (B, D), at least this cosine to its row of ``reference``?"""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    return bool(np.all((vectors * reference).sum(axis=1) >= least_cosine * lengths))
