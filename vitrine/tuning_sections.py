"""``[tune]`` of vitrine.toml: what each strategy of tuning is told."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vitrine.setting_sections import Section


class Protocol(Section):
    """What a strategy of tuning is told, and what of it tells two requests apart."""

    later: ClassVar[tuple[str, ...]] = ()
    """Names that earlier versions did not have: they count only where they are no default."""

    def digested(self) -> dict[str, Any]:
        """What tells two requests apart, as JSON has it."""
        defaults = type(self)()
        unset = {name for name in self.later if getattr(self, name) == getattr(defaults, name)}
        return self.model_dump(mode="json", exclude=unset)


class LinearSettings(Protocol):
    """``[tune.linear]``: a matrix on frozen embeddings, in closed form (``training.linear_tuning`` has the sources)."""

    kinds: tuple[Literal["discriminants", "ridge", "whitening"], ...] = ("discriminants", "ridge", "whitening")
    strengths: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
    """Shrinkages of the covariance that are tried, each in (0, 1]."""
    products: Literal["auto", "known", "new"] = "auto"
    """What it is chosen for: photos of products that it learned from, or of new ones; ``auto``: in the shares that the
    data set's split ``test`` (or ``query``) has, and equally without one."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.kinds:
            raise ValueError("kinds = []: name at least one of discriminants, ridge, whitening")
        if not self.strengths or not all(0 < strength <= 1 for strength in self.strengths):
            raise ValueError(f"strengths = {list(self.strengths)}: give one or more, above 0 and at most 1")
        return self


class TopSettings(Protocol):
    """``[tune.top]``: a multi-layer perceptron on frozen embeddings, found by a Bayesian search.

    The study (arXiv 2504.07567, section on top-tuning) gives 2 to 3 layers, 30 epochs and 2 executions a trial, up to
    1,000 epochs with early stopping, and what is searched over; it gives no ranges, batch size or number of trials:
    those are ours.
    """

    later = ("loss", "temperature", "label_smoothing")

    trials: int = Field(20, ge=1)
    epochs: int = Field(30, ge=1)
    """Of each execution of a trial."""
    executions: int = Field(2, ge=1)
    """Trainings of each trial, from other initial weights; they run side by side."""
    final_epochs: int = Field(1000, ge=1)
    """At most, of the best trial's settings."""
    patience: int = Field(50, ge=1)
    """Epochs without a better validation accuracy (or an equal one at less loss) that end the final training."""
    batch_size: int = Field(128, ge=1)
    layers: tuple[int, int] = (2, 3)
    units: tuple[int, int] = (128, 1024)
    """Width of the layers, in steps of 128; of the last one, it is the embedding's dimension."""
    optimizers: tuple[Literal["sgd", "adam", "rmsprop"], ...] = ("sgd", "adam", "rmsprop")
    learning_rate: tuple[float, float] = (1e-4, 1e-1)
    """Of Adam and RMSprop; SGD's is ten times that."""
    momentum: tuple[float, float] = (0.0, 0.99)
    """Of SGD and RMSprop."""
    beta_1: tuple[float, float] = (0.8, 0.99)
    """Of Adam."""
    standardize: bool = True
    """Each input dimension to zero mean and unit variance on the training part: unit-length inputs are small."""
    loss: Literal["cross_entropy", "cosine"] = "cross_entropy"
    """``cosine``: the classifier is a cosine to each class times ``temperature`` (NormFace, arXiv 1704.06369), since
    retrieval is by cosine; the study has plain cross-entropy."""
    temperature: float = Field(30.0, gt=0)
    """Of ``cosine``."""
    label_smoothing: float | None = Field(None, ge=0, lt=1)
    """Share of a label that is spread over all classes (Szegedy et al. 2016, arXiv 1512.00567, 7). Left out: 0.1 with
    ``cosine``, none with the study's loss."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the search's matrix products; ``auto``: bf16 where the processor multiplies it in hardware. Weights, updates
    and the final training are in fp32."""
    stop_hopeless: bool = True
    """End a trial whose best validation accuracy so far is below the median of what the ended ones had averaged by
    that epoch (the median stopping rule of Golovin et al., Google Vizier, KDD 2017)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("layers", "units", "learning_rate", "momentum", "beta_1"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = {[low, high]}: the first must not be above the second")
        if not self.optimizers:
            raise ValueError("optimizers = []: name at least one of sgd, adam, rmsprop")
        if self.layers[0] < 1 or self.units[0] < 1 or self.learning_rate[0] <= 0:
            raise ValueError("layers, units and learning_rate must be above 0")
        return self

    @property
    def smoothing(self) -> float:
        """``label_smoothing``, or what it is left out for."""
        return self.label_smoothing if self.label_smoothing is not None else 0.1 if self.loss == "cosine" else 0.0

    def probe(self) -> Self:
        """The same with a short search: what the ladder probes with."""
        return self.model_copy(update={"trials": max(3, self.trials // 5), "executions": 1})

    def quick(self) -> Self:
        """The same, small enough for a first look."""
        return self.model_copy(
            update={"trials": 3, "epochs": 5, "executions": 1, "final_epochs": 30, "patience": 10, "units": (64, 128)}
        )


class NetworkSettings(Protocol):
    """What every strategy is told that tunes a network's weights on photos; the defaults are full tuning's."""

    strategy: ClassVar[str]

    epochs: int = Field(600, ge=1)
    batch_size: int = Field(512, ge=2)
    """Of all processes together."""
    micro_batch: int | None = Field(None, ge=1)
    """Photos that a process holds at once; left out: its whole share. Gradients are gathered over the rest."""
    optimizer: str = "lamb"
    learning_rate: float = Field(5e-3, gt=0)
    """At batch 2,048; scaled by the square root of the batch size, as timm does for LAMB."""
    least_learning_rate: float = Field(1e-6, ge=0)
    weight_decay: float = Field(0.02, ge=0)
    warmup_epochs: int = Field(5, ge=0)
    warmup_learning_rate: float = Field(1e-4, ge=0)
    rand_augment: str = "rand-m7-mstd0.5-inc1"
    """timm's name of an augmentation; "" for none."""
    crop: tuple[float, float] = (0.08, 1.0)
    """Of a photo's area."""
    repeats: int = Field(3, ge=1)
    """Of each photo in a row (repeated augmentation)."""
    drop_path: float = Field(0.05, ge=0, lt=1)
    """Stochastic depth, where the network has it."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of averaged weights; A2 has none."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Each layer learns this much slower than the next; A2 has none."""
    keep_statistics: bool = False
    """Batch normalisation keeps the mean and variance that it came with, instead of those of each batch."""
    freeze: int = Field(0, ge=0)
    """The network's first parts that stay as they are."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the matrix products; weights stay in fp32. ``auto``: bf16 where the GPU or processor multiplies it in hardware
    (A2 has fp16)."""
    workers: int = Field(0, ge=0)
    """Processes that read and decode beside each training process."""

    @property
    def scaled_learning_rate(self) -> float:
        return float(self.learning_rate * (self.batch_size / 2048) ** 0.5)


Loss = Literal["binary", "cross_entropy", "cosine", "proxy_anchor", "supcon"]
# Homes know their tunings by this order: a class's own fields come where they were before some moved to its base.
_WITH_LABELS = (
    *("epochs", "batch_size", "micro_batch", "optimizer", "learning_rate", "least_learning_rate", "weight_decay"),
    *("warmup_epochs", "warmup_learning_rate", "mixup", "cutmix", "loss", "temperature", "label_threshold"),
    *("label_smoothing", *list(NetworkSettings.model_fields)[9:]),
)


class FullSettings(NetworkSettings):
    """``[tune.full]``: timm's A2 procedure (arXiv 2110.00476, table 2); batch size and epochs are the study's."""

    later: ClassVar[tuple[str, ...]] = ("loss", "temperature", "label_smoothing", "keep_statistics")
    strategy: ClassVar[str] = "full"

    mixup: float = Field(0.1, ge=0)
    cutmix: float = Field(1.0, ge=0)
    loss: Loss = "binary"
    """A binary cross-entropy for each class, as A2 has it, or one over all classes; or what learns the cosines that
    retrieval asks: ``cosine``, a cross-entropy of ``temperature`` times the cosine to each class (NormFace, arXiv
    1704.06369), ``proxy_anchor`` (arXiv 2003.13911), and ``supcon``, supervised contrastive (arXiv 2004.11362), which
    compares a batch's photos with each other: of each, ``repeats`` views are in it."""
    temperature: float = Field(30.0, gt=0)
    """What the cosines are multiplied by, of ``cosine`` and ``supcon``."""
    label_threshold: float = Field(0.2, gt=0, lt=1)
    """Mixed labels above it count as present in the binary cross-entropy."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Of ``cross_entropy``, ``cosine``, and the classifier beside ``supcon``: the share of a label that is spread over
    all classes."""

    @model_validator(mode="after")
    def _whole_labels(self) -> Self:
        if self.learns_vectors and (self.mixup or self.cutmix):
            raise ValueError(f'loss = "{self.loss}" has no mixed labels: set mixup and cutmix to 0')
        if self.loss == "supcon" and self.repeats < 2:
            raise ValueError(f'loss = "supcon" compares views of a photo: set repeats to 2 or more, not {self.repeats}')
        return self

    @property
    def learns_cosines(self) -> bool:
        """Is the classifier one of cosines?"""
        return self.loss == "cosine" or self.learns_vectors

    @property
    def learns_vectors(self) -> bool:
        """Does the loss take the vectors themselves?"""
        return self.loss in ("proxy_anchor", "supcon")

    def digested(self) -> dict[str, Any]:
        """As ``Protocol`` has it, in the order that homes know their tunings by."""
        fields = super().digested()
        return {name: fields[name] for name in (*_WITH_LABELS, *fields) if name in fields}

    def quick(self) -> Self:
        """The same, small enough for a first look on a processor."""
        return self.model_copy(
            update={
                **{"epochs": 5, "batch_size": 16, "warmup_epochs": 1, "learning_rate": 0.05, "precision": "fp32"},
                **{"mixup": 0.0, "cutmix": 0.0, "repeats": 1},
            }
        )


class FromHeadSettings(FullSettings):
    """``[tune.from_head]``: all weights again, from a classifier that was fitted first (``training.head_first``)."""

    later = ()
    strategy: ClassVar[str] = "from_head"

    epochs: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=2)
    optimizer: str = "adamw"
    learning_rate: float = Field(8e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_epochs: int = Field(1, ge=0)
    warmup_learning_rate: float = Field(1e-6, ge=0)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    loss: Loss = "cosine"
    temperature: float = Field(16.0, gt=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    crop: tuple[float, float] = (0.35, 1.0)
    repeats: int = Field(1, ge=1)
    layer_decay: float | None = Field(0.75, gt=0, le=1)
    keep_statistics: bool = True

    def quick(self) -> Self:
        """The same, small enough for a first look on a processor."""
        return self.model_copy(update={"epochs": 3, "batch_size": 16, "warmup_epochs": 0, "precision": "fp32"})


class PartialSettings(FromHeadSettings):
    """``[tune.partial]``: the network's last part alone, on what the first part makes of each photo, which is kept
    (``training.cached_trunk``)."""

    strategy: ClassVar[str] = "partial"

    share: float = Field(0.25, gt=0, lt=1)
    """Of a photo's multiply-adds: what the part that learns may cost."""
    draws: int = Field(5, ge=1)
    """Augmentations of each photo that are kept; epochs take turns."""
    epochs: int = Field(40, ge=1)

    def quick(self) -> Self:
        """The same, small enough for a first look on a processor."""
        return super().quick().model_copy(update={"draws": 2})


class LowRankSettings(FromHeadSettings):
    """``[tune.low_rank]``: a change of low rank for each matrix of the network (``training.low_rank_tuning``)."""

    strategy: ClassVar[str] = "low_rank"

    rank: int = Field(8, ge=1)
    scale: float = Field(16.0, gt=0)
    """The changes are multiplied by ``scale / rank``, so that another rank needs no other learning rate."""
    weight_decay: float = Field(0.0, ge=0)
    layer_decay: float | None = Field(None, gt=0, le=1)


class DistilSettings(NetworkSettings):
    """``[tune.distil]``: a network that learns another encoder's vectors (``training.distil`` has the sources)."""

    strategy: ClassVar[str] = "distil"

    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=2)
    optimizer: str = "adamw"
    learning_rate: float = Field(8e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_epochs: int = Field(1, ge=0)
    warmup_learning_rate: float = Field(1e-6, ge=0)
    rand_augment: str = ""
    """timm's name of an augmentation; "": crops and mirror images alone, since the teacher saw the photo as it is."""
    crop: tuple[float, float] = (0.6, 1.0)
    repeats: int = Field(1, ge=1)
    drop_path: float = Field(0.0, ge=0, lt=1)
    relations: float = Field(10.0, ge=0)
    """How much the cosines between a batch's photos count, beside each photo's own cosine to its teacher's vector."""

    def quick(self) -> Self:
        """The same, small enough for a first look on a processor."""
        return self.model_copy(update={"epochs": 3, "batch_size": 16, "warmup_epochs": 0, "precision": "fp32"})


class AutoSettings(Section):
    """``[tune.auto]``: how the ladder decides which strategy is worth its cost (``training.ladder``)."""

    rungs: tuple[Literal["linear", "top", "partial", "low_rank", "from_head", "full"], ...] = (
        "linear",
        "top",
        "from_head",
        "full",
    )
    """What is tried, the cheapest first; ``linear`` or ``top`` is among them."""
    gain: float = Field(0.01, ge=0, lt=1)
    """The least gain of mMP@5 that is worth a rung."""
    budget: str = "1h"
    """What the whole may take: a time, or an amount in the currency of ``[prices]``."""
    nights: int = Field(90, ge=0)
    """What a network costs beyond its encoder as it is counts for so many nights."""
    changed_share: float = Field(0.01, ge=0, le=1)
    """Of the photos, those that are new or changed in a night."""
    point_price: float | None = Field(None, ge=0)
    """What 0.01 of mMP@5 is worth, in the currency of ``[prices]``; left out: whatever the budget allows."""

    @model_validator(mode="after")
    def _with_a_head(self) -> Self:
        if not {"linear", "top"} & {*self.rungs}:
            raise ValueError(
                f"rungs = {list(self.rungs)}: name linear or top among them, whose vectors judge the others"
            )
        return self


class TuneSettings(Section):
    seed: int = Field(0, ge=0)
    validation_share: float = Field(0.1, gt=0, lt=1)
    """Of each class's training photos, where the data set has no validation split."""
    linear: LinearSettings = LinearSettings()
    top: TopSettings = TopSettings()
    full: FullSettings = FullSettings()
    from_head: FromHeadSettings = FromHeadSettings()
    partial: PartialSettings = PartialSettings()
    low_rank: LowRankSettings = LowRankSettings()
    distil: DistilSettings = DistilSettings()
    auto: AutoSettings = AutoSettings()
