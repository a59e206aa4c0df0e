"""A network's weights: from its source's hub, a local file, an installed package, or random ones; and their licence.

A source's own library fetches the weights of its hub; this module loads the others, and says what a missing hub means.
"""

import importlib.util
import re
import socket
import typing
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitrine.encoders.backbones import Backbone
from vitrine.errors import UserError

if typing.TYPE_CHECKING:
    import torch

State = dict[str, "torch.Tensor"]
"""A network's tensors by name, as PyTorch's ``state_dict`` gives them."""
_RANDOM, _PACKAGE = "random:", "package:"


def weights_file(backbone: Backbone) -> Path | None:
    """The local file of the weights; None for the hub's and for random ones.

    Raises:
        UserError: no installed package of that name has weights.
    """
    if backbone.weights is None or backbone.weights.startswith(_RANDOM):
        return None
    if backbone.weights.startswith(_PACKAGE):
        name = backbone.weights.removeprefix(_PACKAGE)
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        candidates = sorted(Path(spec.origin).parent.rglob("*.pth")) if spec and spec.origin and spec.parent else []
        if not candidates:
            raise UserError(f"encoder {backbone.name!r}: no installed package {name!r} with weights (.pth) in it")
        return candidates[0]
    return Path(backbone.weights)


@contextmanager
def seeded(backbone: Backbone) -> Iterator[None]:
    """In the block, torch draws the numbers of ``random:SEED``, where ``backbone`` has such weights; nobody else's.

    Raises:
        UserError: SEED is not a number of up to nine digits.
    """
    if not (backbone.weights or "").startswith(_RANDOM):
        yield
        return
    import torch

    seed = (backbone.weights or "").removeprefix(_RANDOM)
    if not re.fullmatch(r"[0-9]{1,9}", seed):
        raise UserError(f"encoder {backbone.name!r}: bad weights {backbone.weights!r}: it must be random:SEED")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        yield


def do_not_wait_for_hub() -> None:
    """Where the hub's name does not resolve, cached weights load and missing ones fail at once, not after retries."""
    from huggingface_hub import constants

    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True


def not_fetched(backbone: Backbone, error: Exception) -> UserError:
    """The error for weights that a hub did not give, with what can be done about it."""
    why = " ".join(str(error).split())[:160]
    return UserError(
        f"encoder {backbone.name!r}: the weights of {backbone.spelled} could not be fetched from their hub "
        f"({type(error).__name__}: {why}). Choose one of: a network connection; a local file, as in "
        f'[encoders.{backbone.name}] backbone = "{backbone.spelled}" weights = "FILE.safetensors"; '
        'or weights = "random" to try things out'
    )


def load_published(backbone: Backbone, network: "torch.nn.Module", classifier: tuple[str, ...]) -> None:
    """Load the local weights, where ``backbone`` names some, else those that the authors publish at ``backbone.hub``.

    Raises:
        UserError: as ``load_local``, or the published weights cannot be fetched.
    """
    import torch

    if backbone.weights is not None:
        load_local(backbone, network, classifier)
        return
    if backbone.hub is None:
        raise UserError(
            f"encoder {backbone.name!r}: no published weights of {backbone.spelled} are known: name a file with weights"
        )
    try:
        state = torch.hub.load_state_dict_from_url(backbone.hub, map_location="cpu", weights_only=True, progress=False)
    except Exception as error:
        raise not_fetched(backbone, error) from error
    _load_state(backbone, network, state, classifier)


def load_local(backbone: Backbone, network: "torch.nn.Module", classifier: tuple[str, ...], prefix: str = "") -> None:
    """Load a file's or a package's weights into ``network``; random ones it has already.

    Every tensor has to fit, but for those of the parts named in ``classifier``, which are taken off. ``prefix`` is what
    the names of the network's tensors begin with in a file that holds more than the network.

    Raises:
        UserError: the file cannot be read, or its tensors do not fit.
    """
    if weights_file(backbone) is None:
        return
    state, expected = _read_state(backbone), network.state_dict()
    if (backbone.weights or "").startswith(_PACKAGE):
        # These packages keep the tensors in timm's order under other names.
        if len(state) != len(expected):
            raise UserError(
                f"encoder {backbone.name!r}: weights {backbone.weights!r} do not fit {backbone.spelled}: "
                f"{len(state)} tensors, not {len(expected)}"
            )
        state = dict(zip(expected, state.values(), strict=True))
    if prefix and any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    _load_state(backbone, network, state, classifier)


def _read_state(backbone: Backbone) -> State:
    """The tensors of a local file or a package; a pickle in it runs no code (``weights_only=True``).

    Raises:
        UserError: the file is neither safetensors nor PyTorch's, or damaged.
    """
    import torch
    from safetensors.torch import load_file

    path = weights_file(backbone)
    assert path is not None
    try:
        with path.open("rb") as file:  # safetensors: 8 bytes of length, and the header is JSON
            if file.read(9)[8:] == b"{":
                return load_file(path)
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
        for nested in ("state_dict", "model"):
            state = state.get(nested, state)
        return {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}
    except Exception as error:  # what a damaged file, a damaged zip and a refused pickle raise has no common class
        raise UserError(
            f"encoder {backbone.name!r}: cannot read weights {str(path)!r} ({' '.join(str(error).split())[:120]}): "
            "it must be a safetensors file, or a PyTorch state dict without other objects in it"
        ) from None


def _load_state(backbone: Backbone, network: "torch.nn.Module", state: State, classifier: tuple[str, ...]) -> None:
    expected = network.state_dict()
    of_classifier = tuple(f"{name}." for name in classifier)
    state = {key: value for key, value in state.items() if not (of_classifier and key.startswith(of_classifier))}
    # Files from before batch norm counted its batches are complete all the same: the count decides no vector.
    optional = (*of_classifier, *(key for key in expected if key.endswith("num_batches_tracked")))
    missing = [key for key in expected if key not in state and not key.startswith(optional)]
    unknown = [key for key in state if key not in expected]
    other_shape = [key for key in state if key in expected and state[key].shape != expected[key].shape]
    if missing or unknown or other_shape:
        faults = (("missing", missing), ("unknown", unknown), ("of another shape", other_shape))
        listed = "; ".join(f"{len(keys)} {fault} ({', '.join(keys[:3])})" for fault, keys in faults if keys)
        source = backbone.weights or backbone.hub
        raise UserError(
            f"encoder {backbone.name!r}: weights {source!r} do not fit {backbone.spelled}: tensors {listed}"
        )
    network.load_state_dict(state, strict=False)


def licence(network: "torch.nn.Module") -> str | None:
    """What the source's own configuration says of the weights' licence, where it says something."""
    config: dict[str, str] = getattr(network, "pretrained_cfg", None) or {}
    return config.get("license")
