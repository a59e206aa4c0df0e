"""A network whose matrices and convolutions are computed in integers of eight bits, by onnxruntime, on processors.

Its file is a safetensors file with one tensor, ``onnx``: the bytes of the network as ONNX, with scales and rounding in
it (QuantizeLinear, DequantizeLinear). By onnxruntime's own documentation, processors without VNNI may overflow where
they multiply such integers: there its vectors are others.
"""

from pathlib import Path
from typing import Any

import torch

_TENSOR = "onnx"


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
        Exception: what safetensors, and onnx, raise of a file that is something else has no common class.
    """
    import onnx
    from safetensors.torch import load_file

    network = Int8Network(load_file(path)[_TENSOR])
    (output,) = onnx.load_model_from_string(network.onnx_file).graph.output
    return network, output.type.tensor_type.shape.dim[1].dim_value


def write(model: bytes, path: Path) -> None:
    """Write the ONNX file ``model`` as the weights' file ``path``."""
    from safetensors.torch import save_file

    save_file({_TENSOR: torch.frombuffer(bytearray(model), dtype=torch.uint8)}, path)
