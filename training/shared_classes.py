"""Do the split that is learned from and the one that is reported share a class? Else no classifier has a figure."""

from training.training_set import TrainingSet
from vitrine import facts
from vitrine.settings import Settings


def unshared(settings: Settings, rows: TrainingSet) -> str | None:
    """What to say, with the choices, where no photo of the reported split is of a class that ``rows`` have; None where
    some is, or there is no such split."""
    split = facts.reported_split(settings, rows.encoded)
    if split is None or facts.has_one_of(settings, rows.encoded, split, rows.label, rows.classes):
        return None
    others = [
        label
        for label in (*facts.LABELS_OF_ALL, *facts.attributes(settings, rows.dataset))
        if label != rows.label and facts.shares_class(settings, rows.encoded, split, label)
    ]
    choice = f"choose --label {' or '.join(others)}, or bring" if others else "bring"
    return (
        f"{rows.dataset}: no photo of split {split!r} is of a {rows.label} that was learned: splits share no class, "
        f"so no classifier has an accuracy, and retrieval is what measures this label; {choice} the photos in with "
        "splits that share classes (a folder with --test-share; Cars196 by its layout cars196_devkit)"
    )
