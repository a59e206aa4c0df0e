"""A network whose matrices and convolutions are computed in integers of eight bits, by onnxruntime, on processors.

Its file is a safetensors file with one tensor, ``onnx``: the bytes of the network as ONNX, with scales and rounding in
it (QuantizeLinear, DequantizeLinear). Processors without VNNI overflow where weights take all of the eight bits, and
would give other vectors: such a network is refused there.
"""

from pathlib import Path
from typing import Any

import torch

from vitrine.encoders import processor
from vitrine.errors import UserError

_TENSOR = "onnx"
_SEVEN_BITS = 64


class Int8Network(torch.nn.Module):
    """float32 (B, 3, H, W), of any B -> float32 (B, dim), on the processor wherever the input lies."""

    engine = "onnxruntime"

    def __init__(self, model: torch.Tensor) -> None:
        """``model``: the bytes of the ONNX file, uint8 (N,)."""
        super().__init__()
        self.onnx: torch.Tensor
        self.register_buffer(_TENSOR, model)
        self._session: Any = None

    @property
    def onnx_file(self) -> bytes:
        """The network as ONNX, whole."""
        return self.onnx.cpu().numpy().tobytes()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._session is None:  # at the first photo: its threads do not outlive a fork
            self._session = _session(self.onnx_file)
        (photos,) = self._session.get_inputs()
        (vectors,) = self._session.run(None, {photos.name: x.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(vectors)


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read(path: Path) -> tuple[Int8Network, int]:
    """The network that the file ``path`` has, and the dimensions of its vectors.

    Raises:
        UserError: its vectors would be others on this processor.
        Exception: what safetensors, and onnx, raise of a file that is something else has no common class.
    """
    import onnx
    from safetensors.torch import load_file

    network = Int8Network(load_file(path)[_TENSOR])
    graph = onnx.load_model_from_string(network.onnx_file).graph
    if not processor.adds_products_exactly() and _takes_all_bits(graph):
        raise UserError(
            f"the network {path} was quantised on a processor with VNNI, and this one has none: its vectors would be "
            "others here. Run `vitrine quantize` on the kind of machine that embeds, which gives it another version"
        )
    (output,) = graph.output
    return network, output.type.tensor_type.shape.dim[1].dim_value


def _takes_all_bits(graph: Any) -> bool:
    """Does any weight take more than seven bits?"""
    from onnx import TensorProto, numpy_helper

    weights = (each for each in graph.initializer if each.data_type == TensorProto.INT8)
    return any(abs(numpy_helper.to_array(each).astype(int)).max(initial=0) > _SEVEN_BITS for each in weights)


def write(model: bytes, path: Path) -> None:
    """Write the ONNX file ``model`` as the weights' file ``path``."""
    from safetensors.torch import save_file

    save_file({_TENSOR: torch.frombuffer(bytearray(model), dtype=torch.uint8)}, path)
