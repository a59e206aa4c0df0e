"""A network's weights: from its source's hub, a local file, an installed package, or random ones; and their licence.

A source's own library fetches the weights of its hub; this module loads the others, and says what a missing hub means.
"""

import errno
import importlib.util
import re
import socket
import typing
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitrine.encoders import checkpoints
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.checkpoints import MATRIX, NETWORK, Conversion, State
from vitrine.errors import UserError, one_line

if typing.TYPE_CHECKING:
    import torch

_OF_DISKS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_RANDOM, _PACKAGE = "random:", "package:"
_PROXY_SECONDS = 5.0


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
    """Where the hub's name does not resolve, cached weights load and missing ones fail at once, not after retries.

    Where a proxy is asked for the hub, it may be the one that resolves names: the proxy itself has to be there.
    """
    from huggingface_hub import constants

    hub = urllib.parse.urlsplit(constants.ENDPOINT)
    host, proxies = hub.hostname or "", urllib.request.getproxies()
    proxy = proxies.get(hub.scheme) or proxies.get("all")
    try:
        if proxy and not urllib.request.proxy_bypass(host):
            there = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
            socket.create_connection((there.hostname, there.port or 80), _PROXY_SECONDS).close()
            if there.scheme.startswith("socks") and not importlib.util.find_spec("socksio"):
                constants.HF_HUB_OFFLINE = True  # the hub's library cannot speak to it, not even to load what is cached
        else:
            socket.getaddrinfo(host, 443)
    except (OSError, ValueError):  # ValueError: a port that is no number
        constants.HF_HUB_OFFLINE = True


def not_built(backbone: Backbone, error: Exception) -> UserError:
    """The error for what a source's own library raised: a hub that did not give the weights, or anything else."""
    why = f"{type(error).__name__}: {one_line(error)}"
    if not _came_from_the_hub(error):
        return UserError(f"encoder {backbone.name!r}: {backbone.spelled} could not be built ({why})")
    return UserError(
        f"encoder {backbone.name!r}: the weights of {backbone.spelled} could not be fetched from their hub "
        f"({why}). Choose one of: a network connection; a local file, as in "
        f'[encoders.{backbone.name}] backbone = "{backbone.spelled}" weights = "FILE.safetensors"; '
        'or weights = "random" to try things out'
    )


def _came_from_the_hub(error: BaseException | None) -> bool:
    """Did a network or its absence raise ``error``, or what it was raised of? A disk raises OSErrors too."""
    while error:
        if isinstance(error, OSError):  # those of the hub's own client are, too
            return error.errno not in _OF_DISKS
        error = error.__cause__ or error.__context__
    return False


def load_published(
    backbone: Backbone, network: "torch.nn.Module", classifier: tuple[str, ...], convert: Conversion | None = None
) -> None:
    """Load the local weights, where ``backbone`` names some, else those that the authors publish at ``backbone.hub``.

    Raises:
        UserError: as ``load_local``, or the published weights cannot be fetched.
    """
    import torch

    if backbone.weights is not None:
        load_local(backbone, network, classifier, convert)
        return
    if backbone.hub is None:
        raise UserError(
            f"encoder {backbone.name!r}: no published weights of {backbone.spelled} are known: name a file with weights"
        )
    try:
        state = torch.hub.load_state_dict_from_url(backbone.hub, map_location="cpu", weights_only=True, progress=False)
    except Exception as error:
        raise not_built(backbone, error) from error
    _load_state(backbone, network, state, classifier, backbone.hub, convert)


def load_local(
    backbone: Backbone,
    network: "torch.nn.Module",
    classifier: tuple[str, ...],
    convert: Conversion | None = None,
) -> None:
    """Load a file's or a package's weights into ``network``; random ones it has already. As ``checkpoints.load``.

    Raises:
        UserError: the file cannot be read, or its tensors do not fit.
    """
    path = weights_file(backbone)
    if path is None:
        return
    try:
        state = checkpoints.read(path)
    except Exception as error:  # what a damaged file, a damaged zip and a refused pickle raise has no common class
        raise UserError(
            f"encoder {backbone.name!r}: cannot read weights {str(path)!r} ({one_line(error)}): "
            "it must be a safetensors file, or a PyTorch state dict without other objects in it"
        ) from None
    source = str(backbone.weights)
    if backbone.projection:
        state = {key.removeprefix(NETWORK): value for key, value in state.items() if key.startswith(NETWORK)}
    if source.startswith(_PACKAGE):
        # These packages keep the tensors in timm's order under other names.
        source, expected = f"{source}, {path}", network.state_dict()
        if len(state) != len(expected):
            raise _do_not_fit(backbone, source, f"{len(state)}, not {len(expected)}")
        state = dict(zip(expected, state.values(), strict=True))
    _load_state(backbone, network, state, classifier, source, convert)


def projected(backbone: Backbone, network: "torch.nn.Module") -> "torch.nn.Module":
    """``network`` with the matrix that its file of weights has.

    Raises:
        UserError: there is none, or it does not give what ``backbone`` has to.
    """
    # Not at the top: it needs torch, which who only names encoders does not load.
    from vitrine.encoders.projected import Projected, projection_of

    path, dim = weights_file(backbone), backbone.projection or 0
    matrix = projection_of(checkpoints.read(path), dim) if path else None
    if matrix is None:
        raise _do_not_fit(backbone, str(path), f"{MATRIX}weight and {MATRIX}bias of {dim} dimensions are missing")
    return Projected(network, matrix)


def int8(backbone: Backbone) -> "tuple[torch.nn.Module, int]":
    """The network in eight bits that the file of weights is, and the dimensions of its vectors.

    Raises:
        UserError: the file has none, or one whose vectors would be others on this processor.
    """
    # Not at the top: as ``projected``.
    from vitrine.encoders.int8_network import read

    path = weights_file(backbone)
    assert path
    try:
        return read(path)
    except UserError:
        raise
    except Exception as error:  # what a damaged file raises has no common class
        raise UserError(
            f"encoder {backbone.name!r}: {str(path)!r} is no network in eight bits ({one_line(error)}): quantize again"
        ) from None


def _load_state(
    backbone: Backbone,
    network: "torch.nn.Module",
    state: State,
    classifier: tuple[str, ...],
    source: str,
    convert: Conversion | None,
) -> None:
    try:
        checkpoints.load(network, state, classifier, convert)
    except checkpoints.Misfit as misfit:
        raise _do_not_fit(backbone, source, str(misfit)) from None


def _do_not_fit(backbone: Backbone, source: str, faults: str) -> UserError:
    return UserError(f"encoder {backbone.name!r}: weights {source!r} do not fit {backbone.spelled}: tensors {faults}")


def revision(backbone: Backbone, network: "torch.nn.Module") -> str | None:
    """The commit of the repository that ``network`` has its weights from; None where they are of no such repository."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    if backbone.weights is not None or backbone.revision:
        return backbone.revision
    repository = _open_clip_files(backbone)[0]
    if backbone.source == "timm":
        repository = typing.cast("dict[str, str]", network.pretrained_cfg).get("hf_hub_id", "")
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos if repository else ()
    except CacheNotFound:
        return None
    revisions = (revision for each in repositories if each.repo_id == repository for revision in each.revisions)
    return next((revision.commit_hash for revision in revisions if "main" in revision.refs), None)


def of_revision(backbone: Backbone) -> Path | None:
    """open_clip's file of weights of the commit that ``backbone`` asks for, with its configuration beside it.

    None where it asks for none, or where its weights are of no such repository.
    """
    from huggingface_hub import hf_hub_download
    from open_clip.pretrained import download_pretrained_from_hf

    repository, filename = _open_clip_files(backbone)
    if not (backbone.revision and repository):
        return None
    if backbone.hub:
        hf_hub_download(repository, "open_clip_config.json", revision=backbone.revision)
    return Path(download_pretrained_from_hf(repository, filename, backbone.revision))


def _open_clip_files(backbone: Backbone) -> tuple[str, str | None]:
    """The repository of the weights of an entry of open_clip, and their file where it is not the usual one."""
    from open_clip import get_pretrained_cfg

    if backbone.source != "open_clip":
        return "", None
    if backbone.hub:
        return backbone.hub.removeprefix("hf-hub:"), None
    repository, _, filename = get_pretrained_cfg(backbone.model, backbone.tag).get("hf_hub", "").rpartition("/")
    return repository, filename or None


def licence(network: "torch.nn.Module") -> str | None:
    """What the source's own configuration says of the weights' licence, where it says something."""
    config: dict[str, str] = getattr(network, "pretrained_cfg", None) or {}
    return config.get("license")
