"""A classifier for tagging, learned in closed form from a training set, and when it is sure enough.

The training part gives the kind and the strength, those with which one half of it tells the other half best, and the
distance (``training.unlike``). The validation part gives the rest: the temperature (``training.linear_tuning``) and how
far is too far (one number each), and the thresholds (``training.thresholds``). No photo decides twice: it is cut into
parts of whole products, and what is said of a part, by which thresholds are judged, has the temperature and the
distance of the other parts (cross-fitting). Photos of the training part say nothing of these: those of one product were
often taken in one go, and are more alike than photos to come are.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training import thresholds, unlike
from training.linear_tuning import Candidate, Cells, Moments, as_head, likeliest_scale, solutions
from training.thresholds import Told
from training.training_set import TRAIN, VALIDATION, TrainingSet, first_ids, first_rows
from training.tuning_process import LinearTuningRequest
from vitrine import lake
from vitrine.encoders import classifiers
from vitrine.encoders.classifiers import About, Classifier
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG
from vitrine.vectors import Floats

KINDS = ("discriminants", "ridge")
_MOST = 20_000
"""Photos of each part that the choice is made with."""
_PARTS = 5
"""Of the validation part."""


@dataclass(frozen=True)
class _Rows:
    """The first rows of one part."""

    x: Floats
    y: NDArray[np.int32]
    products: NDArray[np.int64]
    """A number for each product, alike in both parts."""


def learn(settings: Settings, rows: TrainingSet) -> Classifier:
    """The classifier of ``rows``, saved.

    Raises:
        UserError: no photos are aside to choose by, or every class has one photo.
    """
    if not rows.validation:
        raise UserError(f"training set {rows.fingerprint} has no validation part: nothing says how sure a tag is")
    train, validation = _read(settings, rows)
    count = len(rows.classes)
    half = _half(train, validation, count, rows.seed)
    request = LinearTuningRequest(rows.folder, rows.sizes, rows.classes, {}, rows.seed, 1.0, rows.validation_from)
    try:
        best = _best(settings, rows, train, half)
        choice = unlike.choose(train.x, train.y, half, count, best.strength)
        moments = Cells(request).all_of(TRAIN)
        made, spanning = solutions(moments, [best.kind, unlike.KINDS[choice.rule]], [best.strength])
    except ArithmeticError as error:
        raise UserError(str(error)) from None
    about = About(
        *(rows.dataset, rows.label, str(rows.encoder), str(rows.encoder_version)),
        *(best.kind, best.strength, rows.fingerprint),
        threshold=None,
        farthest=np.inf,
        validation={"auroc_of_left_out": choice.auroc},
        rule=choice.rule,
    )
    space = unlike.space(choice.rule, spanning, moments)
    classifier = Classifier(about, as_head(made, moments, rows.classes), space)
    classifier = _sure(settings, classifier, validation, rows.seed)
    classifiers.save(settings, classifier)
    return classifier


def _read(settings: Settings, rows: TrainingSet) -> tuple[_Rows, _Rows]:
    """The first rows of the training part and of the validation part."""
    ids = [first_ids(rows.folder, part, _MOST) for part in (TRAIN, VALIDATION)]
    wanted = pa.chunked_array(ids)
    query = f"SELECT image_id, product_id FROM {CATALOG.name} WHERE {lake.matches(dataset=rows.dataset)}"
    batches = (
        batch.filter(pc.is_in(batch.column("image_id"), value_set=wanted)) for batch in lake.stream(settings, query)
    )
    product = {row["image_id"]: row["product_id"] for batch in batches for row in batch.to_pylist()}
    # A photo that left the catalog since stands for itself.
    named = np.array([product.get(name, name) for name in wanted.to_pylist()], str)
    codes = np.unique(named, return_inverse=True)[1]
    train, validation = (first_rows(rows.folder, part, _MOST) for part in (TRAIN, VALIDATION))
    return _Rows(*train, codes[: len(train[1])]), _Rows(*validation, codes[len(train[1]) :])


def _half(train: _Rows, validation: _Rows, classes: int, seed: int) -> NDArray[np.bool_]:
    """Half of the training part, (N,): whole products in classes whose products are apart in validation too."""
    apart = ~np.isin(validation.products, train.products)
    counts = (np.bincount(validation.y[kept], minlength=classes) for kept in (apart, ~apart))
    by_product = np.greater(*counts)[train.y]
    photos = len(train.products) + len(validation.products) + np.arange(len(train.y))
    return _parts(np.where(by_product, train.products, photos), 2, seed) == 0


def _parts(drawn: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """One of ``count`` parts for each of ``drawn``, (N,); equal ones are in one."""
    unique, codes = np.unique(drawn, return_inverse=True)
    return np.asarray((np.random.default_rng(seed).permutation(len(unique)) % count)[codes])


def _best(settings: Settings, rows: TrainingSet, train: _Rows, half: NDArray[np.bool_]) -> Candidate:
    """The kind and strength with which the other half of the training part tells ``half`` best."""
    # One-hot classes of more classes than dimensions would need a matrix of classes by classes.
    kinds = [kind for kind in KINDS if kind != "ridge" or len(rows.classes) <= train.x.shape[1]]
    moments = Moments.of_rows(train.x[~half], train.y[~half], len(rows.classes))
    asked, truth = train.x[half], train.y[half]

    def accuracy(candidate: Candidate) -> float:
        return float((as_head(candidate, moments, rows.classes).logits(asked).argmax(1) == truth).mean())

    return max(solutions(moments, kinds, settings.tune.linear.strengths), key=accuracy)


def _calibrated(settings: Settings, classifier: Classifier, x: Floats, y: NDArray[np.int32]) -> Classifier:
    """With the temperature, and the farthest distance, of the photos ``x``, (N, D), of the classes ``y``."""
    head = classifier.head
    factor = likeliest_scale(head.logits(x), y)
    weight, bias = (np.asarray(value * factor, np.float32) for value in head.classifier)
    farthest = float(np.quantile(classifier.distances(x), 1 - settings.tags.unlike))
    about = replace(classifier.about, farthest=farthest)
    return replace(classifier, about=about, head=replace(head, classifier=(weight, bias)))


def _sure(settings: Settings, classifier: Classifier, validation: _Rows, seed: int) -> Classifier:
    """With temperature, farthest distance and thresholds, and what validation says of it."""
    parts = _parts(validation.products, _PARTS, seed)
    x, y, names = validation.x, validation.y, classifier.head.classes
    probability, inside = np.zeros(len(y)), np.zeros(len(y), bool)
    for number in np.unique(parts):
        mine = parts == number
        others = ~mine if not mine.all() else mine
        made = _calibrated(settings, classifier, x[others], y[others])
        probability[mine] = made.tag(x[mine]).probability
        inside[mine] = made.distances(x[mine]) <= made.about.farthest
    classifier = _calibrated(settings, classifier, x, y)
    best = classifier.tag(x).best  # the same by every temperature
    by_product = settings.tags.independent == "products"
    told = Told(probability, best, best == y, validation.products if by_product else np.arange(len(y)))
    together, each = thresholds.choose(told.where(inside), settings.tags)
    own = {names[number]: threshold for number, threshold in each.items()}
    least = classifiers.with_threshold(classifier, together, thresholds=own).least()
    tagged = inside & (probability >= least[best])
    figures = {
        "photos": len(y),
        "products": len(np.unique(validation.products)),
        "accuracy": float(told.right.mean()),
        "too_far": float((~inside).mean()),
        "coverage": float(tagged.mean()),
        "precision": float(told.right[tagged].mean()) if tagged.any() else None,
    }
    validated = {**classifier.about.validation, **figures}
    return classifiers.with_threshold(classifier, together, thresholds=own, validation=validated)
