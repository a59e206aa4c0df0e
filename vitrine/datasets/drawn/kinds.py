"""The kinds of generated products, and how one product is drawn."""

from collections.abc import Callable
from functools import lru_cache

from PIL import Image

from vitrine.datasets.drawn import clothing, household
from vitrine.datasets.drawn.paint import Canvas, Product

DRAWERS: dict[str, Callable[[Canvas, Product], None]] = {
    "mug": household.mug, "sneaker": clothing.sneaker, "backpack": clothing.backpack, "bottle": household.bottle,
    "t-shirt": clothing.tshirt, "chair": household.chair, "lamp": household.lamp, "teapot": household.teapot,
    "book": household.book, "watch": clothing.watch, "headphones": household.headphones, "hat": clothing.hat,
    "umbrella": clothing.umbrella, "guitar": household.guitar, "toy-car": household.toy_car, "camera": household.camera,
}  # fmt: skip
"""What paints each kind of product; their order decides which kind a product's number gets."""


@lru_cache(maxsize=8)
def draw_product(item: Product, side: int) -> Image.Image:
    """``item`` alone on a transparent square of ``side`` pixels, painted at twice that and averaged down.

    The image is kept for the next photo of the same product: callers must not change it.
    """
    canvas = Canvas(2 * side, item)
    DRAWERS[item.kind](canvas, item)
    return canvas.image.reduce(2)
