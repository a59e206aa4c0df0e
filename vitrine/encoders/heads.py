"""A head: the dense layers that tuning puts on an encoder, as matrices that NumPy applies.

On disk a folder: ``head.safetensors`` with ``layers.N.weight`` (in, out), ``layers.N.bias`` (out,),
``classifier.weight`` and ``classifier.bias``, all float32, and ``head.json``, which says how they follow each other.
Inputs are embeddings of unit length; their scaling is folded into the first layer. Hidden layers end in a ReLU, or, in
a linear head, as they are. A codec on a head is one layer more, which takes what comes before it at unit length.
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
_SHORTENED = "vitrine-head-4"
"""With layers of codecs: says how many, and how the others end."""


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
    codecs: int = 0
    """The last so many of ``layers`` are codecs: each takes vectors of unit length, and ends as it is."""

    @property
    def inputs(self) -> int:
        return int(self.layers[0][0].shape[0])

    @property
    def dim(self) -> int:
        """The tuned embedding's dimension: the last hidden layer's width."""
        return int(self.layers[-1][0].shape[1])

    def hidden(self, vectors: Floats) -> Floats:
        """The last hidden layer's output, float32 (N, dim), of float32 (N, inputs)."""
        for number, (weight, bias) in enumerate(self.layers, 1):
            shortens = number > len(self.layers) - self.codecs
            vectors = (_of_unit_length(vectors) if shortens else vectors) @ weight
            vectors += bias
            if self.activation == "relu" and not shortens:
                np.maximum(vectors, 0, out=vectors)
        return vectors

    def embed(self, vectors: Floats) -> Floats:
        """The tuned embeddings, float32 (N, dim) of unit length, of float32 (N, inputs).

        A row without direction (all zeros, or not finite) comes out as NaN.
        """
        return _of_unit_length(self.hidden(vectors))

    def logits(self, vectors: Floats) -> Floats:
        """The classifier's output before its softmax, float32 (N, classes), of float32 (N, inputs)."""
        weight, bias = self.classifier
        output = self.embed(vectors) if self.cosine else self.hidden(vectors)
        return np.asarray(output @ weight + bias, np.float32)

    def scaled(self, factor: float) -> "Head":
        """The same with logits that are ``factor`` times these."""
        weight, bias = (np.asarray(value * factor, np.float32) for value in self.classifier)
        return replace(self, classifier=(weight, bias))

    def shortened(self, weight: Floats, bias: Floats) -> "Head":
        """A head whose embeddings are these times ``weight``, (dim, K), plus ``bias``, (K,), at unit length; without
        classes."""
        layers, classifier = (*self.layers, (weight, bias)), _no_classes(weight.shape[1])
        return Head(layers, classifier, (), self.activation, codecs=self.codecs + 1)

    def fingerprint(self) -> str:
        """SHA-256 of what decides the tuned embedding: the hidden layers, without the classifier; hex."""
        codecs = f"/{self.codecs}" if self.codecs else ""
        digest = hashlib.sha256(f"{_FORMATS[self.activation]}{codecs}".encode())
        for weight, bias in self.layers:
            digest.update(f"{weight.shape}".encode())
            digest.update(np.ascontiguousarray(weight, "<f4").tobytes() + np.ascontiguousarray(bias, "<f4").tobytes())
        return digest.hexdigest()


def projection(weight: Floats, bias: Floats) -> Head:
    """A head that is one linear layer, ``weight`` (inputs, K) and ``bias`` (K,), without classes."""
    return Head(((weight, bias),), _no_classes(weight.shape[1]), (), activation="linear")


def _no_classes(dim: int) -> tuple[Floats, Floats]:
    return np.zeros((dim, 0), np.float32), np.zeros(0, np.float32)


def _of_unit_length(vectors: Floats) -> Floats:
    """(N, D), in place; a row without direction becomes NaN."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        vectors *= np.where(np.isfinite(norms), 1 / norms, np.nan).astype(np.float32)[:, None]
    return vectors


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
        "format": _SHORTENED if head.codecs else _COSINE if head.cosine else _FORMATS[head.activation],
        "inputs": head.inputs,
        "layers": [{"units": int(bias.shape[0]), "activation": head.activation} for _, bias in head.layers],
        "output": "unit length",
        "classes": list(head.classes),
    }
    if head.codecs:
        description["codecs"] = head.codecs
        for layer in description["layers"][-head.codecs :]:
            layer |= {"input": "unit length", "activation": "linear"}
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
        head = Head(layers, classifier, tuple(description["classes"]), **_how(description))
        chain = [*layers, head.classifier]
        widths = [description["inputs"], *(layer["units"] for layer in description["layers"])]  # of each one's input
        fits = all(weight.shape == (width, len(bias)) for (weight, bias), width in zip(chain, widths, strict=True))
        if not fits or len(head.classifier[1]) != len(head.classes):
            raise ValueError("its matrices do not follow each other")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"cannot read the head in {str(folder)!r} ({one_line(error)}): tune it again") from None
    return head


def _how(description: dict[str, Any]) -> dict[str, Any]:
    """How the layers of a head follow each other; raises what ``load`` catches."""
    if description["format"] == _COSINE:
        return {"activation": "relu", "cosine": True}
    if description["format"] != _SHORTENED:
        return {"activation": {name: kind for kind, name in _FORMATS.items()}[description["format"]]}
    activation, codecs = description["layers"][0]["activation"], int(description["codecs"])
    if activation not in _FORMATS or not 0 < codecs < len(description["layers"]):
        raise ValueError("its layers are none of a head that a codec makes shorter")
    return {"activation": activation, "codecs": codecs}
