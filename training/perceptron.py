"""Training a multi-layer perceptron on embeddings: Keras's layers and optimisers, an epoch as one TensorFlow graph.

``model.fit`` comes back to Python for every batch and copies it; here the rows lie in one tensor, an epoch's order is
one argument, and a loop inside the graph gathers its batches. A training set that is larger than ``CHUNK_MIB`` goes
through in chunks of that size: memory stays bounded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training import fused_optimizers
from vitrine import files
from vitrine.encoders import processor
from vitrine.vectors import Floats

CHUNK_MIB = 1024
_BLOCK = 8192  # rows scored at once


@dataclass(frozen=True)
class Recipe:
    """What a search varies, and the batch size."""

    layers: int
    units: int
    optimizer: str
    learning_rate: float
    momentum: float
    beta_1: float
    batch_size: int
    loss: str = "cross_entropy"
    temperature: float = 30.0
    label_smoothing: float = 0.0

    def make_optimizer(self) -> Any:
        """Keras's optimiser; SGD's momentum is Nesterov's, its rate ten times what the others would take."""
        if self.optimizer == "sgd":
            return fused_optimizers.SGD(10 * self.learning_rate, momentum=self.momentum, nesterov=self.momentum > 0)
        if self.optimizer == "rmsprop":
            return fused_optimizers.RMSprop(self.learning_rate, momentum=self.momentum)
        return fused_optimizers.Adam(self.learning_rate, beta_1=self.beta_1)


class CosineClassifier(keras.layers.Dense):
    """The cosine of its input to each class's weight, times the temperature: logits, without a bias."""

    def __init__(self, classes: int, temperature: float, dtype: str) -> None:
        super().__init__(classes, use_bias=False, dtype=dtype)
        self.temperature = temperature

    def call(self, inputs: Any) -> Any:
        directions = keras.ops.normalize(inputs, axis=-1)
        return self.temperature * keras.ops.matmul(directions, keras.ops.normalize(self.kernel, axis=0))


def make_model(recipe: Recipe, inputs: int, classes: int, precision: str = "fp32") -> keras.Model:
    """Dense layers that end in a ReLU, and a classifier that gives logits; bf16 has its weights in float32 too."""
    kind = "mixed_bfloat16" if precision == "bf16" else "float32"
    hidden = [keras.layers.Dense(recipe.units, activation="relu", dtype=kind) for _ in range(recipe.layers)]
    if recipe.loss == "cosine":
        classifier = CosineClassifier(classes, recipe.temperature, kind)
    else:
        classifier = keras.layers.Dense(classes, dtype=kind)
    return keras.Sequential([keras.Input((inputs,)), *hidden, classifier])


def cross_entropies(labels: tf.Tensor, logits: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Of each row, in nats: int32 (N,) and float32 (N, classes) to float32 (N,); ``smoothing`` of each label is spread
    over all classes."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if not smoothing:
        return losses
    spread = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_mean(logits, axis=1)
    return (1 - smoothing) * losses + smoothing * spread


def resolve_precision(asked: str) -> str:
    """``auto`` is bf16 where the processor multiplies it in hardware, else fp32."""
    return asked if asked != "auto" else "bf16" if processor.has_bf16() else "fp32"


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean cross-entropies in nats, accuracy in [0, 1]."""

    loss: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Scaling:
    """Each input dimension's mean and the inverse of its standard deviation, on the training part."""

    mean: Floats
    inverse: Floats

    def __call__(self, rows: Floats) -> Floats:
        return np.asarray((rows - self.mean) * self.inverse, np.float32)


@dataclass(frozen=True)
class LabelledVectors:
    """One part of a training set: ``x`` float32 (N, D) and ``y`` int32 (N,), both mapped from files."""

    x: Floats
    y: NDArray[np.int32]

    @classmethod
    def open(cls, folder: Path, part: str) -> Self:
        return cls(*(np.load(folder / f"{part}_{name}.npy", mmap_mode="r") for name in ("x", "y")))

    def scaling(self) -> Scaling:
        """Of these rows; a dimension that never changes keeps its size."""
        total, squares = (np.zeros(self.x.shape[1]) for _ in range(2))
        for first in range(0, len(self.x), _BLOCK):
            block = self.x[first : first + _BLOCK].astype(np.float64)
            total, squares = total + block.sum(0), squares + (block**2).sum(0)
        mean = total / len(self.x)
        spread = np.sqrt(np.maximum(squares / len(self.x) - mean**2, 0))
        return Scaling(mean.astype(np.float32), (1 / np.where(spread > 1e-7, spread, 1)).astype(np.float32))


class Trainer:
    """One network in training. The same seed and epochs give the same weights on one machine and thread count."""

    def __init__(
        self,
        train: LabelledVectors,
        validation: LabelledVectors,
        classes: int,
        recipe: Recipe,
        scaling: Scaling | None,
        seed: int,
        precision: str = "fp32",
    ) -> None:
        keras.utils.set_random_seed(seed)
        self.recipe, self.seed, self.scaling = recipe, seed, scaling
        self.train, self.validation = train, validation
        self.model = make_model(recipe, train.x.shape[1], classes, precision)
        self.optimizer = recipe.make_optimizer()
        self.optimizer.build(self.model.trainable_variables)
        rows, labels, order = (
            tf.TensorSpec([None, train.x.shape[1]]),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, None], tf.int32),
        )
        self._steps = tf.function(self._run_steps, input_signature=[rows, labels, order])
        self._score = tf.function(self._score_rows, input_signature=[rows, labels])
        self._chunk_rows = max(recipe.batch_size, CHUNK_MIB * 2**20 // (4 * train.x.shape[1]))
        self._kept: dict[tuple[int, int], tuple[tf.Tensor, tf.Tensor]] = {}

    def epoch(self, number: int) -> Epoch:
        """Every row once, in the order that seed and number give; then the validation part."""
        random = np.random.default_rng([self.seed, number])
        total, batch = 0.0, self.recipe.batch_size
        firsts = range(0, len(self.train.y), self._chunk_rows)
        for first in random.permutation(firsts):
            x, y = self._tensors(self.train, int(first))
            order = random.permutation(len(y)).astype(np.int32)
            whole = len(order) // batch * batch
            for part in (order[:whole].reshape(-1, batch), order[None, whole:]):
                if part.size:
                    total += float(self._steps(x, y, part))
        return Epoch(total / len(self.train.y), *self.validate())

    def validate(self) -> tuple[float, float]:
        """Mean cross-entropy and accuracy on the validation part."""
        loss = right = 0.0
        for first in range(0, len(self.validation.y), self._chunk_rows):
            x, y = self._tensors(self.validation, first)
            for start in range(0, len(y), _BLOCK):
                block_loss, block_right = self._score(x[start : start + _BLOCK], y[start : start + _BLOCK])
                loss, right = loss + float(block_loss), right + float(block_right)
        return loss / len(self.validation.y), right / len(self.validation.y)

    def state(self) -> list[NDArray[Any]]:
        """All that training goes on from, but the epoch's number."""
        return [np.asarray(variable) for variable in (*self.model.variables, *self.optimizer.variables)]

    def restore(self, state: list[NDArray[Any]]) -> None:
        for variable, value in zip((*self.model.variables, *self.optimizer.variables), state, strict=True):
            variable.assign(value)

    def _tensors(self, part: LabelledVectors, first: int) -> tuple[tf.Tensor, tf.Tensor]:
        """One chunk, scaled; kept where it is the only one."""
        key = (id(part), first)
        if key not in self._kept:
            x = np.asarray(part.x[first : first + self._chunk_rows])
            y = np.asarray(part.y[first : first + self._chunk_rows])
            chunk = tf.constant(self.scaling(x) if self.scaling else x), tf.constant(y)
            if len(y) < len(part.y):
                return chunk
            self._kept[key] = chunk
        return self._kept[key]

    def _run_steps(self, x: tf.Tensor, y: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for step in tf.range(tf.shape(order)[0]):
            rows = order[step]
            labels = tf.gather(y, rows)
            with tf.GradientTape() as tape:
                logits = tf.cast(self.model(tf.gather(x, rows), training=True), tf.float32)
                losses = cross_entropies(labels, logits, self.recipe.label_smoothing)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, self.model.trainable_variables)
            self.optimizer.apply(gradients, self.model.trainable_variables)
            total += tf.reduce_sum(losses)
        return total

    def _score_rows(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = tf.cast(self.model(x, training=False), tf.float32)
        right = tf.equal(tf.argmax(logits, 1, tf.int32), y)
        return (
            tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)),
            tf.reduce_sum(tf.cast(right, tf.float32)),
        )


def save_state(path: Path, state: list[NDArray[Any]], **facts: Any) -> None:
    """Write atomically what ``load_state`` gives back; plain arrays, no pickle."""
    arrays: dict[str, Any] = {f"state_{at}": value for at, value in enumerate(state)}
    with files.whole(path) as fresh, fresh.open("wb") as file:
        np.savez(file, **arrays, **facts)


def use_threads(count: int) -> None:
    """Let this process compute with ``count`` threads, and the same way every time; before anything is computed."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
