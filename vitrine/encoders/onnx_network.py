"""A network as ONNX, which onnxruntime computes without torch."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

from vitrine.encoders.networks import Built
from vitrine.errors import UserError, one_line

INPUT, OUTPUT = "photos", "vectors"
_LARGEST_FILE = 1_500_000_000
"""Bytes of weights; ONNX's own format ends at 2 GiB, and more go to a file beside it."""


def write(built: Built, path: Path, encoder: str) -> None:
    """Write the network as ``path``: float32 (B, 3, H, W) -> (B, dim), of any B. One in eight bits is ONNX already.

    Raises:
        UserError: torch cannot export it; says what failed.
    """
    import torch

    if ready := getattr(built.network, "onnx_file", None):  # an ``Int8Network``
        path.write_bytes(ready)
        return
    size = sum(value.nbytes for value in built.network.state_dict().values())
    example = torch.zeros(2, 3, *built.input_shape)
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            torch.onnx.export(
                built.network,
                (example,),
                path,
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=size > _LARGEST_FILE,
                verbose=False,
            )
        except Exception as error:  # what an exporter meets in a network that it does not know has no common class
            raise UserError(
                f"encoder {encoder!r} cannot be exported: its network does not become ONNX "
                f"({type(error).__name__}: {one_line(_cause(error))})"
            ) from error


def _cause(error: BaseException) -> BaseException:
    """What the exporter's error was raised of: its own text is of its steps."""
    while error.__cause__:
        error = error.__cause__
    return error
