"""Lower bounds of a share of right answers, that hold with a confidence whatever the truth is.

Each of n independent draws has a number in [0, 1]: 1 or 0 where it is one photo, the share that is right where it is
several. Of single photos the bound is that of Clopper and Pearson (Biometrika 26, 1934). Else it is that of Hoeffding
and Bentkus, as Learn then Test has it (Angelopoulos et al., 2021, arXiv 2110.01052; Bates et al., 2021, arXiv
2101.02703): with s the sum and p the true mean, P(S >= s) is at most exp(-n KL(s / n || p)) (Hoeffding 1963, theorem 1)
and at most e P(Binomial(n, p) >= floor(s)) (Bentkus 2004).
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats


def shares_of(right: NDArray[np.bool_], draws: NDArray[np.integer]) -> tuple[float, int, bool]:
    """The sum of the draws' shares of right photos, the number of draws, and whether each is one photo.

    ``right``, and ``draws``, the number of its draw: of each photo, (N,).
    """
    codes, of = np.unique(draws, return_inverse=True, return_counts=True)[1:]
    hits = np.bincount(codes, weights=right, minlength=len(of))
    return float((hits / of).sum()), len(of), bool((of == 1).all())


def lower_bound(right: NDArray[np.bool_], draws: NDArray[np.integer], error: float) -> float:
    """The lower bound of the mean share of right photos of a draw, which holds but for a probability of ``error``."""
    total, of, single = shares_of(right, draws)
    return clopper_pearson(round(total), of, error) if single else hoeffding_bentkus(total, of, error)


def shows(right: NDArray[np.bool_], draws: NDArray[np.integer], share: float, error: float) -> bool:
    """Is ``lower_bound`` at least ``share``? Asked without looking for the bound."""
    total, of, single = shares_of(right, draws)
    if not of or total / of < share:
        return False
    if single:
        return bool(stats.binom.sf(round(total) - 1, of, share) <= error)
    hoeffding = math.exp(-of * _divergence(total / of, share))
    return hoeffding <= error or math.e * stats.binom.sf(math.floor(total + 1e-9) - 1, of, share) <= error


def clopper_pearson(right: int, of: int, error: float) -> float:
    """The bound of ``right`` single photos of ``of``."""
    return float(stats.beta.ppf(error, right, of - right + 1)) if right else 0.0


def hoeffding_bentkus(total: float, of: int, error: float) -> float:
    """The bound of ``of`` shares that sum to ``total``."""
    if total <= 0 or not of:
        return 0.0
    bentkus = clopper_pearson(math.floor(total + 1e-9), of, error / math.e)
    return max(bentkus, _hoeffding(min(total / of, 1.0), of, error))


def _hoeffding(mean: float, of: int, error: float) -> float:
    """The least p with ``of`` KL(``mean`` || p) <= ln(1 / ``error``)."""
    most, least = math.log(1 / error) / of, 1e-300
    if _divergence(mean, least) <= most:
        return 0.0
    return float(optimize.brentq(lambda share: _divergence(mean, share) - most, least, mean))


def _divergence(mean: float, share: float) -> float:
    """KL(``mean`` || ``share``) of two Bernoulli distributions."""
    return float(special.rel_entr(mean, share) + special.rel_entr(1 - mean, 1 - share))


@cache
def fewest(precision: float, error: float, mistakes: int = 0) -> int:
    """The fewest single photos, all but ``mistakes`` of them right, that show ``precision`` but for ``error``."""
    at_least = math.ceil(math.log(error) / math.log(precision))  # precision ** n <= error
    return next(n for n in range(at_least, 10**9) if clopper_pearson(n - mistakes, n, error) >= precision)
