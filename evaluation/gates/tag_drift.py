"""Drift of tags: how often each class is said of new photos, against how often photos were labelled so.

New photos are those that lack the label and have no current tag of the classifier. Its likeliest class counts, sure or
not: it abstains on some classes more often than on others, so sure tags alone would show drift where there is none.
Photos that are unlike anything learned say nothing of learned classes; their share is told beside. A product is one
draw, whatever the number of its photos (``[tags] independent``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.gates.gate import Check
from vitrine import facts, lake, shares
from vitrine.encoders.classifiers import UNLIKE, Classifier
from vitrine.lake import matches
from vitrine.setting_sections import TagSettings
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, TAGS
from vitrine.vectors import matrix

QUESTION = "each class is said of new photos about as often as photos are labelled so"
FEWEST = 30
"""Products (or photos) of new photos; fewer say nothing of shares."""
MOST = 10_000
"""New photos that are asked about: the first by SHA-256 of their products' ids."""
_SHOWN = 3


@dataclass(frozen=True)
class ClassShares:
    """How often each class is said of a draw's photos; every draw counts once."""

    sums: Mapping[str, float]
    """Of the draws' shares, by class."""
    draws: int
    single: bool
    """Is each draw one photo?"""

    def share(self, name: str) -> float:
        return self.sums.get(name, 0.0) / max(self.draws, 1)

    def bounds(self, name: str, error: float) -> tuple[float, float]:
        """Of the share of ``name``; each holds but for a probability of ``error``."""
        total = self.sums.get(name, 0.0)
        return self._lower(total, error), 1 - self._lower(self.draws - total, error)

    def _lower(self, total: float, error: float) -> float:
        if self.single:
            return shares.clopper_pearson(round(total), self.draws, error)
        return shares.hoeffding_bentkus(total, self.draws, error)


def shares_check(labels: ClassShares, new: ClassShares, unlike: float, asked: TagSettings) -> Check:
    """Is the share of some class among ``new`` surely more than ``[tags] max_shift`` from that among ``labels``?

    It is where the bounds of both (``vitrine.shares``) are farther apart; they hold together with ``confidence``: each
    has the error divided by four times the number of classes (Bonferroni). Such a shift warns, or refuses, as ``[tags]
    drift`` says.

    Args:
        unlike: the share of new photos that are unlike anything learned.
    """
    check, of = "class_shares", asked.independent
    if new.draws < FEWEST:
        return Check.skipped(check, f"new photos of {new.draws} {of} say nothing of shares, {FEWEST} would")
    names = sorted({*labels.sums, *new.sums})
    shift = {name: new.share(name) - labels.share(name) for name in names}
    farthest = sorted(names, key=lambda name: -abs(shift[name]))
    error = (1 - asked.confidence) / (4 * len(names))
    beyond = [name for name in farthest if abs(shift[name]) > asked.max_shift]
    shifted = [name for name in beyond if _apart(labels.bounds(name, error), new.bounds(name, error)) > asked.max_shift]
    shown = shifted[:_SHOWN] or farthest[:1]
    told = "; ".join(f"{name!r} {new.share(name):.1%} for {labels.share(name):.1%}" for name in shown)
    head = f"{len(shifted)} of {len(names)} classes are" if shifted else f"none of {len(names)} classes is"
    detail = (
        f"{head} surely more than {asked.max_shift:.1%} from the share among labels; "
        f"{'they are' if shifted else 'the farthest is'} {told}; new photos of {new.draws:,} {of}"
    )
    figures: dict[str, float | str] = {"value": shift[shown[0]], "class": shown[0], "shifted": len(shifted)}
    figures |= {"classes": len(names), "max_shift": asked.max_shift, of: new.draws}
    figures |= {"unlike": unlike, "unlike_of_learned": asked.unlike}
    if shifted and asked.drift == "warn":
        figures["warning"] = "shares shifted"
    return Check(check, not shifted or asked.drift == "warn", detail, figures)


def _apart(first: tuple[float, float], second: tuple[float, float]) -> float:
    """How far two intervals, low and high, are apart; negative where they meet."""
    return max(first[0], second[0]) - min(first[1], second[1])


# ---- from the lake ----


def drift_check(settings: Settings, classifier: Classifier) -> Check | None:
    """``shares_check`` of what ``classifier`` says of new photos, with its label; None where there are no new ones."""
    answers = _ask_new(settings, classifier)
    if answers is None:
        return None
    check = shares_check(labelled_shares(settings, classifier), *answers, settings.tags)
    return replace(check, figures=check.figures | {"label": classifier.about.label})


def labelled_shares(settings: Settings, classifier: Classifier) -> ClassShares:
    """Of the labels that the catalog's photos have."""
    about = classifier.about
    draw = "product_id" if settings.tags.independent == "products" else "image_id"
    label, here = facts.label_in_sql(about.label), matches(dataset=about.dataset)
    photos = f"SELECT {draw} AS draw, {label} AS label FROM {CATALOG.name} WHERE {here} AND {label} IS NOT NULL"
    counted = f"SELECT draw, label, count(*) AS n FROM ({photos}) GROUP BY draw, label"
    of = f"SELECT draw, sum(n) AS photos FROM ({counted}) GROUP BY draw"
    shared = f"SELECT c.label, c.n / CAST(o.photos AS DOUBLE) AS share FROM ({counted}) c JOIN ({of}) o USING (draw)"
    sums = lake.rows(settings, f"SELECT label, sum(share) AS total FROM ({shared}) GROUP BY label")
    (counts,) = lake.rows(settings, f"SELECT count(*) AS n, count(DISTINCT draw) AS draws FROM ({photos})")
    return ClassShares({row["label"]: row["total"] for row in sums}, counts["draws"], counts["n"] == counts["draws"])


def _ask_new(settings: Settings, classifier: Classifier) -> tuple[ClassShares, float] | None:
    """What ``classifier`` says of new photos that are like what it learned, and the share of those that are not."""
    products, said, far = [], [], []
    names = np.array(classifier.head.classes, object)
    for batch in lake.stream(settings, _new_photos(classifier)):
        if not len(batch):
            continue
        tags = classifier.tag(matrix(batch["embedding"]))
        by_product = settings.tags.independent == "products"
        products += batch["product_id" if by_product else "image_id"].to_pylist()
        said.append(names[tags.best])
        far += [reason == UNLIKE for reason in tags.reasons]
    if not said:
        return None
    near = ~np.array(far)
    return _shares(np.array(products, object)[near], np.concatenate(said)[near]), float(np.mean(far))


def _shares(draws: NDArray[np.object_], said: NDArray[np.object_]) -> ClassShares:
    draw = np.unique(draws.astype(str), return_inverse=True)[1]
    names, best = np.unique(said.astype(str), return_inverse=True)
    photos = np.bincount(draw)
    sums = np.bincount(best, weights=1 / photos[draw], minlength=len(names)) if len(draws) else np.zeros(0)
    return ClassShares(dict(zip(names.tolist(), sums.tolist(), strict=True)), len(photos), len(photos) == len(draws))


def _new_photos(classifier: Classifier) -> str:
    """A query of the first ``MOST`` new photos: ``image_id``, ``product_id``, ``embedding``."""
    about, same = classifier.about, "a.image_id = b.image_id AND a.content_sha256 = b.content_sha256"
    here = matches(dataset=about.dataset)
    lacking = (
        f"SELECT image_id, product_id, content_sha256 FROM {CATALOG.name} WHERE {here} "
        f"AND {facts.lacks_label(about.label, about.dataset)}"
    )
    current = matches(dataset=about.dataset, label=about.label, classifier_version=classifier.version)
    tagged = f"SELECT image_id, content_sha256 FROM {TAGS.name} WHERE {current}"
    mine = matches(dataset=about.dataset, encoder_version=about.encoder_version)
    vectors = f"SELECT image_id, content_sha256, embedding FROM {EMBEDDINGS.name} WHERE {mine}"
    new = f"SELECT a.* FROM ({lacking}) a LEFT ANTI JOIN ({tagged}) b ON {same}"
    return (
        f"SELECT a.image_id, a.product_id, b.embedding FROM ({new}) a JOIN ({vectors}) b ON {same} "
        f"ORDER BY sha256(a.product_id), a.image_id LIMIT {MOST}"
    )
