"""Photos as training sees them: from a training set's uris, decoded as embedding decodes them, and augmented."""

import random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from training.training_set import open_part
from vitrine import images, photo_files
from vitrine.encoders.networks import Built
from vitrine.images import ImageError

_BATCH = 16


class Photos(Dataset[tuple[torch.Tensor, int]]):
    """``uri`` and ``label`` of one part of a training set.

    A photo that cannot be read is stood in for by the next, and marked in ``unreadable``, bool (N,), which loading
    processes share.
    """

    def __init__(self, folder: str, part: str, transform: Any, min_side: int, max_pixels: int, managed: bool) -> None:
        table = open_part(folder, part).to_table(columns=["uri", "label"], use_threads=False)
        self.uris, self.labels = table["uri"].combine_chunks(), table["label"].to_numpy()
        self.transform, self.min_side, self.max_pixels, self.managed = transform, min_side, max_pixels, managed
        self.unreadable = torch.zeros(len(self.labels), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        for step in range(len(self)):
            photo_at = (at + step) % len(self)
            try:
                data = photo_files.read(self.uris[photo_at].as_py())
                photo = images.decode(data, self.max_pixels, self.min_side, self.managed)
            except ImageError:  # the ingest's and the embedding's quarantine say why
                self.unreadable[photo_at] = True
                continue
            return self.transform(photo), int(self.labels[photo_at])
        raise ImageError("unreadable", f"none of the {len(self)} photos of the training set can be read")


def augmented(built: Built, rand_augment: str, crop: tuple[float, float]) -> Any:
    """timm's training transform at the network's own input size, mean and deviation; "" does what embedding does."""
    if not rand_augment:
        return built.transform
    mean, std = normalisation(built.transform)
    return create_transform(
        built.input_shape[0],
        is_training=True,
        auto_augment=rand_augment,
        color_jitter=None,
        interpolation="random",
        scale=crop,
        mean=mean,
        std=std,
    )


def normalisation(transform: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of a transform of timm, open_clip or torchvision."""
    parts = [transform, *getattr(transform, "transforms", [])]
    normalising = next(part for part in parts if hasattr(part, "mean") and hasattr(part, "std"))
    return tuple(map(float, normalising.mean)), tuple(map(float, normalising.std))


def outputs(network: Any, photos: Any, count: int, device: torch.device) -> NDArray[np.float32]:
    """What ``network`` makes of the first ``count`` photos, (N, D), not of unit length; evaluated, on ``device``.

    ``photos``: ``Photos``, or what ``cached_trunk`` kept of them.
    """
    network.eval().to(device, memory_format=torch.channels_last)
    made = []
    with torch.inference_mode():
        for x, _ in DataLoader(Subset(photos, range(count)), _BATCH):
            made.append(network(x.to(device, memory_format=torch.channels_last)).float().cpu().numpy())
    return np.concatenate(made)


class RepeatedShuffle(Sampler[int]):
    """Repeated augmentation (Berman et al., MultiGrain, 2019): each photo ``repeats`` times in a row of one epoch's
    shuffle, and an epoch ends after as many photos as there are. Ranks take turns, so that theirs together are what one
    process would take.

    timm's RepeatAugSampler does so too, but seeds by the epoch alone and rounds to multiples of 256.
    """

    def __init__(self, count: int, repeats: int, rank: int, ranks: int, seed: int) -> None:
        self.count, self.repeats, self.rank, self.ranks, self.seed = count, repeats, rank, ranks, seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.count // self.ranks

    def __iter__(self) -> Any:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        taken = np.repeat(order, self.repeats)[: len(self) * self.ranks]
        return iter(taken[self.rank :: self.ranks].tolist())


def seed_all(seed: int) -> None:
    """What augmentations are drawn from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def loader(photos: Photos, sampler: RepeatedShuffle, batch_size: int, workers: int, seed: int, epoch: int) -> Any:
    """One epoch's batches; what they look like follows from seed and epoch, so that a resumed run sees the same."""
    mine = seed * 1_000_003 + epoch
    seed_all(mine)
    generator = torch.Generator().manual_seed(mine)
    return DataLoader(
        photos,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        generator=generator,
        drop_last=len(sampler) > batch_size,
    )
