"""An encoder as a folder that a search service needs nothing else beside: what ``vitrine export`` makes.

``bundle.json`` says what is in it: the version, the networks (ONNX) and the preprocessing of each, the head (float32
matrices in an .npz without pickles), the probe photos with their vectors, licences, and the SHA-256 of each file.
``query_encoder.py`` reads it; ``query_images.py`` beside that is ``vitrine.images`` as it is, so that photos are
decoded and refused alike. A folder is made beside its place and renamed into it, and never changed after.
"""

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrine import files, images, locks
from vitrine.encoders import backbones, by_name, heads, networks, onnx_network, preprocessing, query_encoder
from vitrine.encoders.backbones import Backbone
from vitrine.encoders.heads import Head
from vitrine.encoders.identity import identify
from vitrine.encoders.networks import Built
from vitrine.encoders.query_encoder import DESCRIPTION, QueryEncoder
from vitrine.errors import UserError, one_line
from vitrine.names import JOIN, split_joined
from vitrine.settings import Settings
from vitrine.vectors import Floats

FORMAT = "vitrine-bundle-1"
LEAST_COSINE = 0.9999
"""Between a probe's vector by the bundle, and by the encoder itself in float32."""
_HEAD, _PROBES, _VECTORS = "head.npz", "probes", "probes/vectors.npy"
_LIBRARIES = ("onnxruntime", "pillow", "numpy")
"""All that ``query_encoder.py`` imports."""
_IN_THE_HOUSE, _IN_THE_BUNDLE = "from vitrine import images\n", "import query_images as images\n"


@dataclass(frozen=True)
class Bundle:
    """What is in a folder."""

    encoder: str
    encoder_version: str
    dim: int
    licence: str
    """Of its weights."""
    folder: Path
    networks: int
    bytes: int
    """Of all files."""
    least_cosine: float
    """Of the probes' vectors, encoded here, to those that it holds."""
    made: bool
    """False: it was there already."""


@dataclass(frozen=True)
class _Encoder:
    """An encoder as this process computes it, by torch and NumPy."""

    name: str
    version: str
    networks: list[tuple[Backbone, Built]]
    head: Head | None
    licence: str

    @property
    def dim(self) -> int:
        return self.head.dim if self.head else self.networks[0][1].dim

    def encode(self, data: bytes, max_pixels: int) -> Floats:
        """(dim,), of unit length, in float32: what the bundle has to give."""
        import torch

        parts = []
        for _, built in self.networks:
            photo = images.decode(data, max_pixels, built.min_side, built.managed)
            with torch.inference_mode():
                output = built.network(built.input(photo)[None]).double().numpy()[0]
            parts.append(np.asarray(output / np.linalg.norm(output), np.float32))
        joined = np.concatenate(parts)
        return self.head.embed(joined[None])[0] if self.head else joined


def export(
    settings: Settings, encoder: str, folder: Path, version: str, draw_probes: Callable[[], Mapping[str, bytes]]
) -> Bundle:
    """Make ``folder`` the bundle of ``encoder``, a name that means ``version``; one that is there is verified instead.

    ``draw_probes`` gives the probe photos, a file's bytes by its name.

    Raises:
        UserError: the name means another version by now; a network or its preprocessing cannot be exported, or gives
            other vectors then; or ``folder`` is there, and is something else or damaged.
    """
    with locks.held(settings, f"export__{version}"):
        if _is_taken(folder):
            return verify(folder, encoder, version)
        whole = _load(settings, encoder, version)
        with _made_beside(folder, version) as fresh:
            _write(settings, whole, fresh, draw_probes())
            least = _check(QueryEncoder(fresh), f"encoder {encoder!r} cannot be exported: in onnxruntime")
        return _described(folder, least, made=True)


def verify(folder: Path, encoder: str, version: str) -> Bundle:
    """What is in ``folder``, once every file and every probe's vector was compared.

    Raises:
        UserError: it is no bundle of ``version``, or it is damaged.
    """
    wanted = f"the bundle of encoder {encoder!r} ({version})"
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        known = description["format"] == FORMAT and description["encoder_version"] == version
        digests: dict[str, str] = dict(description["files"])
    except (OSError, ValueError, KeyError, TypeError):
        known, digests = False, {}
    if not known:
        raise UserError(f"{str(folder)!r} is there and is not {wanted}: choose another folder")
    damaged = sorted(name for name, digest in digests.items() if _sha256(folder / name) != digest)
    if damaged:
        raise UserError(f"{str(folder)!r} is {wanted}, and its {damaged[0]} is damaged: remove the folder")
    return _described(folder, _check(QueryEncoder(folder), f"{str(folder)!r} is {wanted}, and here"), made=False)


def _load(settings: Settings, encoder: str, version: str) -> _Encoder:
    if JOIN in encoder:
        raise UserError(
            f"encoder {encoder!r}: joined encoders have no vectors of their own: export a head that was tuned on them"
        )
    now = by_name.version(settings, encoder)
    if now != version:
        raise UserError(f"encoder {encoder!r} is version {now} by now, and not {version}: bring its weights back")
    tuned = by_name.find_head(settings, encoder)
    parts = []
    for name in split_joined(tuned.base) if tuned else [encoder]:
        if by_name.find_head(settings, name):
            raise UserError(f"encoder {encoder!r} cannot be exported: its base {name!r} is a head itself")
        backbone = backbones.resolve(settings, name)
        parts.append((backbone, networks.build(identify(settings, backbone).pinned(backbone))))
    head = heads.load(tuned.path(settings)) if tuned else None
    licences = [_licence(*part) for part in parts]
    return _Encoder(encoder, version, parts, head, tuned.licence if tuned else licences[0])


def _write(settings: Settings, whole: _Encoder, folder: Path, probes: Mapping[str, bytes]) -> None:
    parts = []
    for number, (backbone, built) in enumerate(whole.networks):
        file = f"network_{number}.onnx"
        how = preprocessing.described(built, whole.name)
        onnx_network.write(built, folder / file, whole.name)
        about = {"encoder": backbone.name, "backbone": backbone.spelled, "licence": _licence(backbone, built)}
        parts.append({"network": file, "input": how, **about})
    (folder / _PROBES).mkdir()
    for name, data in probes.items():
        (folder / _PROBES / name).write_bytes(data)
    vectors = np.stack([whole.encode(data, settings.max_pixels) for data in probes.values()])
    np.save(folder / _VECTORS, vectors, allow_pickle=False)
    _write_code(folder)
    description = {
        "format": FORMAT,
        "encoder": whole.name,
        "encoder_version": whole.version,
        "dim": whole.dim,
        "licence": whole.licence,
        "code_licence": "Apache-2.0",
        "max_pixels": settings.max_pixels,
        "networks": parts,
        "head": _write_head(whole.head, folder) if whole.head else None,
        "probes": {
            "photos": [f"{_PROBES}/{name}" for name in probes],
            "vectors": _VECTORS,
            "least_cosine": LEAST_COSINE,
        },
        "files": {name: _sha256(folder / name) for name in _names(folder)},
    }
    files.write_json(folder / DESCRIPTION, description, indent=1)


def _write_head(head: Head, folder: Path) -> dict[str, Any]:
    tensors: dict[str, Floats] = {}
    for number, (weight, bias) in enumerate(head.layers):
        tensors |= {f"weight_{number}": weight, f"bias_{number}": bias}
    np.savez(folder / _HEAD, allow_pickle=False, **tensors)
    return {"file": _HEAD, "layers": len(head.layers), "activation": head.activation, "codecs": head.codecs}


def _write_code(folder: Path) -> None:
    code = Path(query_encoder.__file__).read_text(encoding="utf-8")
    assert code.count(_IN_THE_HOUSE) == 1
    (folder / "query_encoder.py").write_text(code.replace(_IN_THE_HOUSE, _IN_THE_BUNDLE), encoding="utf-8")
    shutil.copyfile(images.__file__, folder / "query_images.py")
    pinned = "".join(f"{name}=={importlib.metadata.version(name)}\n" for name in _LIBRARIES)
    (folder / "requirements.txt").write_text(pinned)


@contextmanager
def _made_beside(folder: Path, version: str) -> Iterator[Path]:
    """An empty folder that becomes ``folder`` when the block ends well."""
    fresh = folder.with_name(f".{folder.name}.{version}.part")
    shutil.rmtree(fresh, ignore_errors=True)  # of an export that was killed
    fresh.mkdir(parents=True)
    try:
        yield fresh
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _is_taken(folder: Path) -> bool:
    if not folder.exists():
        return False
    return not folder.is_dir() or any(folder.iterdir())


def _check(encoder: QueryEncoder, what: str) -> float:
    try:
        least = encoder.check()
    except (images.ImageError, RuntimeError, ValueError) as error:
        raise UserError(f"{what} the probe photos cannot be encoded ({one_line(error)})") from error
    if not least >= LEAST_COSINE:  # NaN is not either
        raise UserError(
            f"{what} a probe photo's vector has the cosine {least:.6f} to the encoder's own, and needs {LEAST_COSINE}"
        )
    return least


def _described(folder: Path, least: float, made: bool) -> Bundle:
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    about = {name: description[name] for name in ("encoder", "encoder_version", "dim", "licence")}
    size = sum((folder / name).stat().st_size for name in [*description["files"], DESCRIPTION])
    return Bundle(
        **about, folder=folder, networks=len(description["networks"]), bytes=size, least_cosine=least, made=made
    )


def _licence(backbone: Backbone, built: Built) -> str:
    if backbone.licence == backbones.UNKNOWN_LICENCE:
        return built.licence or backbone.licence
    return backbone.licence


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    """In hex; of a file that is not there, none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
