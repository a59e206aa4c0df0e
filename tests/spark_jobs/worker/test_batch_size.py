"""How the batch size is searched for."""

from pathlib import Path

import pytest
import torch

from spark_jobs.worker.batch_size import BatchSize
from spark_jobs.worker.encoder_plan import EncoderPlan
from vitrine.encoders.backbones import Backbone

SMALL = Backbone("small", "torchvision", "squeezenet1_0", "supervised", weights="random:1", input_size=64)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1, 2: 1, 4: 1, 8: 4, 16: 16}, 4),  # two worse in turn end it
        ({1: 1, 2: 3, 4: 3, 8: 3, 16: 3, 32: 9}, 16),  # one that is worse does not
        ({1: 1, 2: 2, 4: 4}, 1),  # as good: the smallest
    ],
)
def test_the_best_batch_size_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], best: int
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    size = BatchSize(torch.nn.Identity(), "cpu", EncoderPlan(SMALL, None, "fp32", max_pixels=1_000_000, threads=1))
    for photos, took in seconds.items():
        assert size.now == photos
        size.took(photos - 1, 0.001)  # the last batch of a task
        for turn in range(3):
            size.took(photos, took + 5 * (turn == 0))
    assert size.now == best
