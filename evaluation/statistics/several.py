"""Several hypotheses at once, with one chance of a mistake for all."""

from collections.abc import Mapping


def holm(chances: Mapping[str, float], alpha: float) -> list[str]:
    """Those whose hypothesis is rejected, the least p-value first; a chance of ``alpha`` of any false rejection.

    Holm's step-down procedure (Holm, A simple sequentially rejective multiple test procedure, 1979): with the p-values
    ``chances`` in ascending order, p(1) .. p(m), the i-th is rejected where p(i) <= alpha / (m - i + 1) and all before
    it are. It holds however the hypotheses depend on each other. Of equal p-values the first in ``chances`` is first.
    """
    rejected: list[str] = []
    ordered = sorted(chances, key=chances.__getitem__)
    for at, name in enumerate(ordered):
        if chances[name] > alpha / (len(ordered) - at):
            break
        rejected.append(name)
    return rejected
