"""Quantisation after training: a network's matrices and convolutions rounded to integers of eight bits.

By onnxruntime's static quantisation (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html):
weights by channel, symmetric, int8; activations by tensor, uint8, between the least and the greatest value that the
network gave on the calibration photos. Nothing is learned, no label is read. Where the processor would overflow,
weights take seven of the eight bits: what is made there gives the same vectors on every processor.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vitrine import images, photo_files
from vitrine.encoders import onnx_network, processor
from vitrine.encoders.networks import Built
from vitrine.encoders.onnx_network import INPUT
from vitrine.errors import UserError, one_line
from vitrine.images import ImageError
from vitrine.settings import Settings

BATCH = 8


def inputs(settings: Settings, built: Built, uris: Sequence[str]) -> list[torch.Tensor]:
    """Of the photos that can be read, the network's input, float32 (3, H, W) each."""
    made = []
    for uri in uris:
        try:
            data = photo_files.read(uri, settings.sources)
            made.append(built.input(images.decode(data, settings.max_pixels, built.min_side, built.managed)))
        except ImageError:
            continue
    return made


def quantised(built: Built, inputs: Sequence[torch.Tensor], encoder: str) -> bytes:
    """``built`` in eight bits, as an ONNX file; ``inputs``: of the calibration photos, float32 (3, H, W) each.

    Raises:
        UserError: the network does not become ONNX, or cannot be quantised.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Photos(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = _batches(inputs)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._batches, None)

    with _quiet(), TemporaryDirectory() as folder:
        plain, ready, made = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "int8"))
        onnx_network.write(built, plain, encoder)
        try:
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready),
                str(made),
                Photos(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=not processor.adds_products_exactly(),
            )
        except Exception as error:  # what it meets in a network that it does not know has no common class
            raise UserError(
                f"encoder {encoder!r} cannot be quantised ({type(error).__name__}: {one_line(error)})"
            ) from error
        return made.read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """In the block the root logger, which onnxruntime's quantisation uses, has errors alone: it asks for what is done
    here."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(max(before, logging.ERROR))
    try:
        yield
    finally:
        root.setLevel(before)


def _batches(inputs: Sequence[torch.Tensor]) -> Iterator[dict[str, Any]]:
    for first in range(0, len(inputs), BATCH):
        yield {INPUT: torch.stack(list(inputs[first : first + BATCH])).numpy()}
