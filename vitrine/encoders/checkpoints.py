"""A file of weights, and what has to be done to its tensors until they fit a network."""

import argparse
import sys
import typing
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if typing.TYPE_CHECKING:
    import torch

State = dict[str, "torch.Tensor"]
"""A network's tensors by name, as PyTorch's ``state_dict`` gives them."""
Conversion = Callable[[State], State]
"""What a source's own library makes of tensors that have other names, or positions for photos of another size."""
_NESTED = ("state_dict", "model", "model_ema", "teacher")
"""Under which name training scripts keep the tensors, the first that is there."""
NETWORK, MATRIX = "network.", "projection."
"""What tensors' names begin with in the file of a network with a matrix on what it pools (``encoders.projected``)."""
_WRAPPERS = {"module", "_orig_mod", "backbone", "encoder", "visual", "model", "teacher"}
"""Modules that training scripts put around a network: data parallel, compiled, a part of something larger."""


class Misfit(Exception):
    """The tensors are those of another network; the message says which ones."""


def read(path: Path) -> State:
    """The tensors of a safetensors file or a PyTorch checkpoint; a pickle in it runs no code (``weights_only=True``).

    Raises:
        Exception: what the libraries raise of a damaged file, a damaged zip or a refused pickle has no common class.
    """
    import torch
    from safetensors.torch import load_file

    with path.open("rb") as file:  # safetensors: 8 bytes of length, then a header in JSON
        if file.read(9)[8:] == b"{":
            return load_file(path)
        file.seek(0)
        with torch.serialization.safe_globals([argparse.Namespace]):  # a script's own arguments, which hold no code
            state = torch.load(file, map_location="cpu", weights_only=True)
    while nested := next((name for name in _NESTED if isinstance(state.get(name), dict)), None):
        state = state[nested]
    return {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}


def load(
    network: "torch.nn.Module", state: State, classifier: tuple[str, ...] = (), convert: Conversion | None = None
) -> None:
    """Load ``state`` into ``network``, in the network's own precision.

    Every tensor has to fit, but for those of the parts named in ``classifier``, which are taken off. What wraps the
    network in ``state`` is taken off too, and what lies beside it left out. ``convert`` is asked where the tensors do
    not fit as they are.

    Raises:
        Misfit: they do not fit.
    """
    expected = network.state_dict()
    of_classifier = tuple(f"{name}." for name in classifier)
    state = _without(_unwrapped(state, expected), of_classifier)
    faults = _faults(state, expected, of_classifier)
    if faults and convert:
        try:
            state = _without(convert(state), of_classifier)
        except Exception as error:  # converters expect tensors, and raise anything where those are not there
            faults += f"; {type(error).__name__} in converting them: {' '.join(str(error).split())[:80]}"
        else:
            faults = _faults(state, expected, of_classifier)
    if faults:
        prefix = _prefix(state, expected)
        raise Misfit(faults + (f"; without the prefix {prefix!r} more of them would fit" if prefix else ""))
    network.load_state_dict(state, strict=False)


def of_timm(network: "torch.nn.Module", prefix: str = "") -> Conversion | None:
    """timm's own conversion for ``network``: other authors' names, and positions interpolated to its input's size.

    ``prefix`` is what the network's tensors begin with, where it is a part of another.
    """
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None

    def convert_part(state: State) -> State:
        part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        beside = {key: value for key, value in state.items() if not key.startswith(prefix)}
        return beside | {prefix + key: value for key, value in convert(part, network).items()}

    return convert_part


def _without(state: State, prefixes: tuple[str, ...]) -> State:
    return {key: value for key, value in state.items() if not key.startswith(prefixes)}


def _faults(state: State, expected: State, of_classifier: tuple[str, ...]) -> str:
    """What keeps ``state`` from being ``expected``, in words; empty where it is."""
    # Files from before batch norm counted its batches are complete all the same: the count decides no vector.
    optional = (*of_classifier, *(key for key in expected if key.endswith("num_batches_tracked")))
    missing = [key for key in expected if key not in state and not key.startswith(optional)]
    unknown = [key for key in state if key not in expected]
    other_shape = [key for key in state if key in expected and state[key].shape != expected[key].shape]
    faults = (("missing", missing), ("unknown", unknown), ("of another shape", other_shape))
    return "; ".join(f"{len(keys)} {fault} ({', '.join(keys[:3])})" for fault, keys in faults if keys)


def _unwrapped(state: State, expected: State) -> State:
    """``state`` without the prefix that hides the network in it, where it is one of known wrappers."""
    prefix = _prefix(state, expected)
    if not prefix or not set(prefix.removesuffix(".").split(".")) <= _WRAPPERS:
        return state
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _prefix(state: State, expected: State) -> str:
    """The prefix without which most of ``state`` has the names of ``expected``; empty where that is none."""
    fitting: Counter[str] = Counter({"": 0})
    for key in state:
        parts = key.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in expected:
                fitting["".join(f"{part}." for part in parts[:cut])] += 1
    return max(fitting, key=lambda prefix: (fitting[prefix], -len(prefix)))
