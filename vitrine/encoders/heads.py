"""A head: the dense layers that tuning puts on an encoder, as matrices that NumPy applies.

On disk a folder: ``head.safetensors`` with ``layers.N.weight`` (in, out), ``layers.N.bias`` (out,),
``classifier.weight`` and ``classifier.bias``, all float32, and ``head.json``, which says how they follow each other.
Inputs are embeddings of unit length; their scaling is folded into the first layer. Hidden layers end in a ReLU, or, in
a linear head, as they are.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vitrine.errors import UserError, one_line
from vitrine.vectors import Floats

_FORMATS = {"relu": "vitrine-head-1", "linear": "vitrine-head-2"}
"""By how hidden layers end: who knows the first alone must not take the second for it."""
_COSINE = "vitrine-head-3"
"""As the first, with a classifier that takes the tuned embedding, of unit length."""


@dataclass(frozen=True)
class Head:
    """Hidden layers and a classifier: a pair of weight (in, out) and bias (out,) each, float32."""

    layers: tuple[tuple[Floats, Floats], ...]
    classifier: tuple[Floats, Floats]
    classes: tuple[str, ...]
    activation: str = "relu"
    """How hidden layers end: ``relu`` or ``linear``."""
    cosine: bool = False
    """Does the classifier take the tuned embedding, of unit length? Else the last hidden layer's output."""

    @property
    def inputs(self) -> int:
        return int(self.layers[0][0].shape[0])

    @property
    def dim(self) -> int:
        """The tuned embedding's dimension: the last hidden layer's width."""
        return int(self.layers[-1][0].shape[1])

    def hidden(self, vectors: Floats) -> Floats:
        """The last hidden layer's output, float32 (N, dim), of float32 (N, inputs)."""
        for weight, bias in self.layers:
            vectors = vectors @ weight
            vectors += bias
            if self.activation == "relu":
                np.maximum(vectors, 0, out=vectors)
        return vectors

    def embed(self, vectors: Floats) -> Floats:
        """The tuned embeddings, float32 (N, dim) of unit length, of float32 (N, inputs).

        A row without direction (all zeros, or not finite) comes out as NaN.
        """
        embeddings = self.hidden(vectors)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings))
            embeddings *= np.where(np.isfinite(norms), 1 / norms, np.nan).astype(np.float32)[:, None]
        return embeddings

    def logits(self, vectors: Floats) -> Floats:
        """The classifier's output before its softmax, float32 (N, classes), of float32 (N, inputs)."""
        weight, bias = self.classifier
        output = self.embed(vectors) if self.cosine else self.hidden(vectors)
        return np.asarray(output @ weight + bias, np.float32)

    def scaled(self, factor: float) -> "Head":
        """The same with logits that are ``factor`` times these."""
        weight, bias = (np.asarray(value * factor, np.float32) for value in self.classifier)
        return replace(self, classifier=(weight, bias))

    def fingerprint(self) -> str:
        """SHA-256 of what decides the tuned embedding: the hidden layers, without the classifier; hex."""
        digest = hashlib.sha256(_FORMATS[self.activation].encode())
        for weight, bias in self.layers:
            digest.update(f"{weight.shape}".encode())
            digest.update(np.ascontiguousarray(weight, "<f4").tobytes() + np.ascontiguousarray(bias, "<f4").tobytes())
        return digest.hexdigest()


def version(base_version: str, head: Head) -> str:
    """The encoder version of ``head`` on what ``base_version`` gives; 16 hex digits."""
    return hashlib.sha256(f"{base_version}\n{head.fingerprint()}".encode()).hexdigest()[:16]


def save(head: Head, folder: Path) -> None:
    """Write ``head`` into ``folder``, which exists."""
    tensors: dict[str, Floats] = {}
    for number, (weight, bias) in enumerate(head.layers):
        tensors |= {f"layers.{number}.weight": weight, f"layers.{number}.bias": bias}
    tensors |= {"classifier.weight": head.classifier[0], "classifier.bias": head.classifier[1]}
    save_file(
        {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, folder / "head.safetensors"
    )
    description: dict[str, Any] = {
        "format": _COSINE if head.cosine else _FORMATS[head.activation],
        "inputs": head.inputs,
        "layers": [{"units": int(bias.shape[0]), "activation": head.activation} for _, bias in head.layers],
        "output": "unit length",
        "classes": list(head.classes),
    }
    (folder / "head.json").write_text(json.dumps(description, indent=1))


def load(folder: Path) -> Head:
    """The head in ``folder``.

    Raises:
        UserError: it is not there, damaged, or its matrices do not follow each other.
    """
    try:
        description = json.loads((folder / "head.json").read_text())
        tensors = load_file(folder / "head.safetensors")
        layers = tuple(
            (tensors[f"layers.{number}.weight"], tensors[f"layers.{number}.bias"])
            for number in range(len(description["layers"]))
        )
        classifier = (tensors["classifier.weight"], tensors["classifier.bias"])
        cosine = description["format"] == _COSINE
        activation = "relu" if cosine else {name: kind for kind, name in _FORMATS.items()}[description["format"]]
        head = Head(layers, classifier, tuple(description["classes"]), activation, cosine)
        chain = [*layers, head.classifier]
        widths = [description["inputs"], *(layer["units"] for layer in description["layers"])]  # of each one's input
        fits = all(weight.shape == (width, len(bias)) for (weight, bias), width in zip(chain, widths, strict=True))
        if not fits or len(head.classifier[1]) != len(head.classes):
            raise ValueError("its matrices do not follow each other")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"cannot read the head in {str(folder)!r} ({one_line(error)}): tune it again") from None
    return head
