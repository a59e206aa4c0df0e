"""Cross-tuning: an encoder tuned on one data set, measured on another; and whether likeness of the two foretells it.

The study (arXiv 2504.07567) says that likeness decides, and gives no number for it. Here it is the Fréchet distance
between the two clouds of embeddings by the encoder that was tuned, taken as Gaussians (Heusel et al., GANs trained by a
two time-scale update rule, 2017, equation 6): |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); of unit-length vectors it
lies between 0 and 4. Pairs that share a data set are no independent ones, so how sure their correlation is says what it
would be were the data sets' names shuffled (Mantel, The detection of disease clustering, Cancer Research 27, 1967).
"""

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vitrine import files, lake
from vitrine.encoded_set import EncodedSet
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS
from vitrine.vectors import matrix

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class CrossTuning:
    """Of one encoder and strategy; ``[i][j]`` is tuned on data set i, measured on j."""

    encoder: str
    strategy: str
    metric: str
    datasets: list[str]
    pretrained: list[float]
    """The metric of the encoder as it was, on each data set."""
    deltas: list[list[float]]
    """What tuning changed: the diagonal is tuned on itself."""
    distances: list[list[float]]
    """Fréchet distance of the pretrained embeddings."""
    rank_correlation: float | None
    """Spearman's, of nearness (the negative distance) and gain over the pairs off the diagonal; None below three."""
    p_value: float | None
    """Two-sided, by shuffling the data sets: of three, no less than 1/3."""

    def figures(self) -> dict[str, Any]:
        return asdict(self)


def distances(settings: Settings, pretrained_sets: list[EncodedSet]) -> Matrix:
    """The Fréchet distance between each two of ``pretrained_sets``, by the encoder as it is: (S, S)."""
    clouds = [moments(settings, encoded) for encoded in pretrained_sets]
    apart = np.zeros((len(clouds), len(clouds)))
    for i, j in itertools.combinations(range(len(clouds)), 2):
        apart[i, j] = apart[j, i] = frechet_distance(clouds[i], clouds[j])
    return apart


def compare(
    encoder: str,
    datasets: list[str],
    strategy: str,
    metric: str,
    pretrained: list[float],
    tuned: list[list[float]],
    apart: Matrix,
) -> CrossTuning:
    """What tuning changed, beside how far the data sets lie ``apart`` from each other (``distances``).

    ``pretrained[j]`` is the metric of the encoder as it was on data set j, ``tuned[i][j]`` of what was tuned on i.
    """
    deltas = np.array(tuned) - np.array(pretrained)
    others = ~np.eye(len(datasets), dtype=bool)
    known = others.sum() >= 3 and len(np.unique(apart[others])) > 1 and len(np.unique(deltas[others])) > 1
    correlation, p_value = _mantel(-apart, deltas, others) if known else (None, None)
    return CrossTuning(
        encoder=encoder,
        strategy=strategy,
        metric=metric,
        datasets=datasets,
        pretrained=pretrained,
        deltas=deltas.tolist(),
        distances=apart.tolist(),
        rank_correlation=correlation,
        p_value=p_value,
    )


def _mantel(nearness: Matrix, deltas: Matrix, others: NDArray[np.bool_]) -> tuple[float, float]:
    """Spearman's correlation of the two over ``others``, and its p-value: all orders of the data sets, or 9,999."""
    ranks = np.zeros_like(nearness)
    ranks[others] = stats.rankdata(nearness[others])
    gains = stats.rankdata(deltas[others])

    def correlation(order: NDArray[np.int64]) -> float:
        shuffled = ranks[np.ix_(order, order)][others]
        return float(np.corrcoef(shuffled, gains)[0, 1])

    names = (np.arange(len(nearness)),)
    tested = stats.permutation_test(names, correlation, permutation_type="pairings", vectorized=False, rng=0)
    return float(tested.statistic), float(tested.pvalue)


def moments(settings: Settings, encoded: EncodedSet) -> tuple[Matrix, Matrix]:
    """Mean (D,) and covariance (D, D) of a data set's embeddings, batch by batch."""
    count, total, squares = 0, np.zeros(1), np.zeros((1, 1))
    for batch in lake.stream(settings, f"SELECT embedding FROM {EMBEDDINGS.name} WHERE {encoded.where}"):
        x = matrix(batch["embedding"]).astype(np.float64)
        count, total, squares = count + len(x), total + x.sum(0), squares + x.T @ x
    mean = total / count
    return mean, squares / count - np.outer(mean, mean)


def frechet_distance(one: tuple[Matrix, Matrix], other: tuple[Matrix, Matrix]) -> float:
    """Between two Gaussians, each (mean, covariance)."""
    (m1, c1), (m2, c2) = one, other
    # tr((C1 C2)^(1/2)) by the symmetric C1^(1/2) C2 C1^(1/2), which has the same eigenvalues: no complex dust.
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ c2 @ root), 0)).sum()
    return float(max(((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * shared, 0.0))


def draw(study: CrossTuning, path: Path) -> None:
    """The deltas as a heat map beside gain against distance: one page that opens without a network."""
    from plotly import graph_objects
    from plotly.subplots import make_subplots

    title = f"{study.encoder}, {study.strategy}-tuned: change of {study.metric}"
    figure = make_subplots(
        1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.2, subplot_titles=(title, _correlation(study))
    )
    most = max(0.01, float(np.abs(study.deltas).max()))
    text = [[f"{value:+.3f}" for value in row] for row in study.deltas]
    figure.add_trace(
        graph_objects.Heatmap(
            z=study.deltas,
            x=[f"{name}<br>({value:.3f})" for name, value in zip(study.datasets, study.pretrained, strict=True)],
            y=study.datasets,
            text=text,
            texttemplate="%{text}",
            colorscale="RdBu",
            zmid=0,
            zmin=-most,
            zmax=most,
            colorbar={"title": study.metric, "x": 0.45},
        ),
        1,
        1,
    )
    pairs = list(itertools.permutations(range(len(study.datasets)), 2))
    figure.add_trace(
        graph_objects.Scatter(
            x=[study.distances[i][j] for i, j in pairs],
            y=[study.deltas[i][j] for i, j in pairs],
            text=[f"{study.datasets[i]} → {study.datasets[j]}" for i, j in pairs],
            mode="markers+text",
            cliponaxis=False,
            textposition="middle right",
        ),
        1,
        2,
    )
    figure.update_xaxes(title="measured on (pretrained)", row=1, col=1)
    figure.update_yaxes(title="tuned on", autorange="reversed", row=1, col=1)
    figure.update_xaxes(title="Fréchet distance of the embeddings", row=1, col=2)
    figure.update_yaxes(title=f"change of {study.metric}", row=1, col=2)
    figure.update_layout(template="plotly_white", showlegend=False, margin={"r": 140})  # names reach over the axis
    files.write_text(path, figure.to_html(include_plotlyjs=True, full_html=True))


def _correlation(study: CrossTuning) -> str:
    if study.rank_correlation is None:
        return "too few data sets for a rank correlation"
    return f"nearness and gain: Spearman {study.rank_correlation:+.2f} (p = {study.p_value:.2f})"
