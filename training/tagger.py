"""A classifier for tagging, learned from a training set, and when it is sure enough.

The training part gives the kind of ``[tags] kinds`` and the strength, those with which one half of it tells the other
half best, and the distance (``training.unlike``). Closed forms learn from all of it, others (``training.tag_kinds``)
from its first photos. The validation part gives the rest: the temperature (``training.linear_tuning``), how far is too
far (one number each), and the thresholds (``training.thresholds``). No photo decides twice: the part is cut into parts
of whole products, and what is said of one, by which thresholds are judged, has the temperature and the distance of the
others (cross-fitting). Photos of the training part say nothing of these: those of one product were often taken in one
go, and are more alike than photos to come are.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training import thresholds, unlike
from training.linear_tuning import Candidate, Cells, Moments, as_head, likeliest_scale, solutions
from training.tag_kinds import FITS, LabelledRows, accuracy, parts
from training.thresholds import Told
from training.training_set import TRAIN, VALIDATION, TrainingSet, first_ids, first_rows
from training.tuning_process import LinearTuningRequest
from vitrine import lake
from vitrine.encoders import classifiers
from vitrine.encoders.classifiers import About, Classifier
from vitrine.encoders.heads import Head
from vitrine.encoders.nearest import Neighbours
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG
from vitrine.vectors import Floats

CLOSED_FORMS = ("discriminants", "ridge")
_MOST = 20_000
"""Photos of each part that the choice is made with."""
_PARTS = 5
"""Of the validation part."""


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
        kind, tried = _best_kind(settings, rows, train, half, best)
    except ArithmeticError as error:
        raise UserError(str(error)) from None
    head: Head | Neighbours
    if kind == best.kind:
        head, knob = as_head(made, moments, rows.classes), best.strength
    else:
        head, knob = FITS[kind](settings, rows, train)
    about = About(
        *(rows.dataset, rows.label, str(rows.encoder), str(rows.encoder_version)),
        *(kind, knob, rows.fingerprint),
        threshold=None,
        farthest=np.inf,
        validation={"auroc_of_left_out": choice.auroc, **({"kinds": tried} if len(tried) > 1 else {})},
        rule=choice.rule,
    )
    space = unlike.space(choice.rule, spanning, moments)
    classifier = Classifier(about, head, space)
    classifier = _sure(settings, classifier, validation, rows.seed)
    classifiers.save(settings, classifier)
    return classifier


def _read(settings: Settings, rows: TrainingSet) -> tuple[LabelledRows, LabelledRows]:
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
    return LabelledRows(*train, codes[: len(train[1])]), LabelledRows(*validation, codes[len(train[1]) :])


def _half(train: LabelledRows, validation: LabelledRows, classes: int, seed: int) -> NDArray[np.bool_]:
    """Half of the training part, (N,): whole products in classes whose products are apart in validation too."""
    apart = ~np.isin(validation.products, train.products)
    counts = (np.bincount(validation.y[kept], minlength=classes) for kept in (apart, ~apart))
    by_product = np.greater(*counts)[train.y]
    photos = len(train.products) + len(validation.products) + np.arange(len(train.y))
    return parts(np.where(by_product, train.products, photos), 2, seed) == 0


def _best(settings: Settings, rows: TrainingSet, train: LabelledRows, half: NDArray[np.bool_]) -> Candidate:
    """The closed form and its strength with which the other half of the training part tells ``half`` best."""
    # One-hot classes of more classes than dimensions would need a matrix of classes by classes.
    kinds = [kind for kind in CLOSED_FORMS if kind in settings.tags.kinds]
    kinds = [kind for kind in kinds if kind != "ridge" or len(rows.classes) <= train.x.shape[1]]
    moments = Moments.of_rows(train.x[~half], train.y[~half], len(rows.classes))

    def score(candidate: Candidate) -> float:
        return accuracy(as_head(candidate, moments, rows.classes), train.where(half))

    # What tells the unlike is a closed form's, whatever tells the classes apart.
    return max(solutions(moments, kinds or CLOSED_FORMS[:1], settings.tune.linear.strengths), key=score)


def _best_kind(
    settings: Settings, rows: TrainingSet, train: LabelledRows, half: NDArray[np.bool_], best: Candidate
) -> tuple[str, dict[str, float]]:
    """Which of ``[tags] kinds`` tells ``half`` best, learned from the other half, and the accuracy of each."""
    asked, others = train.where(half), [str(kind) for kind in settings.tags.kinds if kind in FITS]
    if not others or len(settings.tags.kinds) == 1:
        return (others or [best.kind])[0], {}
    tried = {kind: accuracy(FITS[kind](settings, rows, train.where(~half))[0], asked) for kind in others}
    if best.kind in settings.tags.kinds:
        moments = Moments.of_rows(train.x[~half], train.y[~half], len(rows.classes))
        (closed,) = solutions(moments, [best.kind], [best.strength])
        tried = {best.kind: accuracy(as_head(closed, moments, rows.classes), asked), **tried}
    return max(tried, key=lambda kind: tried[kind]), tried


def _calibrated(settings: Settings, classifier: Classifier, x: Floats, y: NDArray[np.int32]) -> Classifier:
    """With the temperature, and the farthest distance, of the photos ``x``, (N, D), of the classes ``y``."""
    head = classifier.head
    factor = likeliest_scale(head.logits(x), y)
    farthest = float(np.quantile(classifier.distances(x), 1 - settings.tags.unlike))
    about = replace(classifier.about, farthest=farthest)
    return replace(classifier, about=about, head=head.scaled(factor))


def _sure(settings: Settings, classifier: Classifier, validation: LabelledRows, seed: int) -> Classifier:
    """With temperature, farthest distance and thresholds, and what validation says of it."""
    part = parts(validation.products, _PARTS, seed)
    x, y, names = validation.x, validation.y, classifier.head.classes
    probability, inside = np.zeros(len(y)), np.zeros(len(y), bool)
    for number in np.unique(part):
        mine = part == number
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
