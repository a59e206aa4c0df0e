"""Photos a second of the bare forward pass on one core, of several encoders in turns."""

import time

import torch

from spark_jobs.worker.encoder import Encoder
from spark_jobs.worker.precision import finish_forward, start_forward

SIZES, ROUNDS = (1, 4, 8, 16), 3
SECONDS = 0.5
"""Of each encoder and batch size, a round."""


def rates(*encoders: Encoder) -> list[float]:
    """Of each of ``encoders``, whose input is the same, at its best batch: they take turns, round by round, and the
    shortest pass counts."""
    best = [0.0] * len(encoders)
    ready = torch.rand(max(SIZES), 3, *encoders[0].built.input_shape, generator=torch.Generator().manual_seed(0))
    for _ in range(ROUNDS):
        for number, encoder in enumerate(encoders):
            for size in SIZES:
                until = time.perf_counter() + SECONDS
                while time.perf_counter() < until:
                    begun = time.perf_counter()
                    finish_forward(start_forward(encoder.network, ready[:size], encoder.device, encoder.precision))
                    best[number] = max(best[number], size / (time.perf_counter() - begun))
    return best
