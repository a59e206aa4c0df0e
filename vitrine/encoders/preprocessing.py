"""A network's preprocessing as data: what ``query_encoder`` does with a photo in place of the network's transform.

A list of steps: ``{"resize": how, "to": pixels, "interpolation": Pillow's name}``, where ``how`` is ``shortest`` (one
number, the other side rounded down), ``exact`` (height and width), or ``ratio`` (height and width, and ``longest``, the
share of the longer side in the scale, both sides rounded); and ``{"crop": [height, width], "fill": [r, g, b]}`` around
the centre. Then mean and standard deviation of the channels, of pixels in 0..1.
"""

from typing import Any

from vitrine.encoders.networks import Built
from vitrine.errors import UserError

_NOTHING = ("MaybeConvertMode", "ToTensor", "MaybeToTensor")
"""Of an RGB picture, the same picture; as numbers in 0..1, what ``query_encoder`` makes of it in any case."""


def described(built: Built, encoder: str) -> dict[str, Any]:
    """What ``query_encoder`` needs to make the input of ``built``, as JSON.

    Raises:
        UserError: its transform has a step that has no such words.
    """
    transform: Any = built.transform
    found: dict[str, Any] = {"min_side": built.min_side, "managed": built.managed, "steps": []}
    if type(transform).__name__ == "ImageClassification":
        resize = _resized(transform.resize_size, transform.interpolation)
        crop = _crop(transform.crop_size * 2, 0)
        return found | {"steps": [resize, crop], "mean": list(transform.mean), "std": list(transform.std)}
    for step in getattr(transform, "transforms", [transform]):
        kind = type(step).__name__
        if kind == "Resize" and step.max_size is None:
            sides = [step.size] if isinstance(step.size, int) else list(step.size)
            found["steps"].append(_resized(sides, step.interpolation))
        elif kind == "ResizeKeepRatio" and step.random_scale_prob == step.random_aspect_prob == 0:
            resize = _resized(step.size, step.interpolation)
            found["steps"].append(resize | {"resize": "ratio", "longest": float(step.longest)})
        elif kind in ("CenterCrop", "CenterCropOrPad") and getattr(step, "padding_mode", "constant") == "constant":
            found["steps"].append(_crop(step.size, getattr(step, "fill", 0)))
        elif kind == "Normalize":
            found |= {name: [float(value) for value in getattr(step, name)] for name in ("mean", "std")}
        elif kind not in _NOTHING:
            raise UserError(f"encoder {encoder!r} cannot be exported: its preprocessing has the step {step}")
    if "mean" not in found:
        raise UserError(f"encoder {encoder!r} cannot be exported: its preprocessing does not normalise: {transform}")
    return found


def _resized(sides: Any, interpolation: Any) -> dict[str, Any]:
    to = [int(side) for side in sides]
    return {"resize": "shortest" if len(to) == 1 else "exact", "to": to, "interpolation": interpolation.value}


def _crop(sides: Any, fill: Any) -> dict[str, Any]:
    height, width = sides
    return {"crop": [int(height), int(width)], "fill": [fill] * 3 if isinstance(fill, int) else list(fill)}
