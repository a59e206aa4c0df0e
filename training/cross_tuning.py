"""Cross-tuning: an encoder tuned on one data set, measured on another; and whether likeness of the two foretells it.

The study (arXiv 2504.07567) says that likeness decides, and gives no number for it. Here it is the Fréchet distance
between the two clouds of embeddings by the encoder that was tuned, taken as Gaussians (Heusel et al., GANs trained by a
two time-scale update rule, 2017, equation 6): |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); of unit-length vectors it
lies between 0 and 4.
"""

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vitrine import files, lake
from vitrine.settings import Settings
from vitrine.tables import EMBEDDINGS

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Cross:
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

    def figures(self) -> dict[str, Any]:
        return asdict(self)


def cross(
    settings: Settings,
    encoder: str,
    version: str,
    strategy: str,
    metric: str,
    datasets: list[str],
    pretrained: list[float],
    tuned: list[list[float]],
) -> Cross:
    """Put figures that were measured together; ``tuned[i][j]`` is the metric of what was tuned on i, on j."""
    deltas = np.array(tuned) - np.array(pretrained)
    clouds = [moments(settings, version, dataset) for dataset in datasets]
    distances = np.zeros((len(datasets), len(datasets)))
    for i, j in itertools.combinations(range(len(datasets)), 2):
        distances[i, j] = distances[j, i] = frechet_distance(clouds[i], clouds[j])
    apart = ~np.eye(len(datasets), dtype=bool)
    known = apart.sum() >= 3 and len(np.unique(distances[apart])) > 1 and len(np.unique(deltas[apart])) > 1
    found = stats.spearmanr(-distances[apart], deltas[apart]) if known else None
    return Cross(
        encoder=encoder,
        strategy=strategy,
        metric=metric,
        datasets=datasets,
        pretrained=pretrained,
        deltas=deltas.tolist(),
        distances=distances.tolist(),
        rank_correlation=float(found.statistic) if found else None,
        p_value=float(found.pvalue) if found else None,
    )


def moments(settings: Settings, version: str, dataset: str) -> tuple[Matrix, Matrix]:
    """Mean (D,) and covariance (D, D) of a data set's embeddings, batch by batch."""
    where = f"encoder_version = {lake.quote(version)} AND dataset = {lake.quote(dataset)}"
    count, total, squares = 0, np.zeros(1), np.zeros((1, 1))
    for batch in lake.stream(settings, f"SELECT embedding FROM {EMBEDDINGS.name} WHERE {where}"):
        x = batch["embedding"].flatten().to_numpy().reshape(len(batch), -1).astype(np.float64)
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


def draw(found: Cross, path: Path) -> None:
    """The deltas as a heat map beside gain against distance: one page that opens without a network."""
    from plotly import graph_objects
    from plotly.subplots import make_subplots

    figure = make_subplots(
        1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.2, subplot_titles=(_title(found), _correlation(found))
    )
    most = max(0.01, float(np.abs(found.deltas).max()))
    text = [[f"{value:+.3f}" for value in row] for row in found.deltas]
    figure.add_trace(
        graph_objects.Heatmap(
            z=found.deltas,
            x=[f"{name}<br>({value:.3f})" for name, value in zip(found.datasets, found.pretrained, strict=True)],
            y=found.datasets,
            text=text,
            texttemplate="%{text}",
            colorscale="RdBu",
            zmid=0,
            zmin=-most,
            zmax=most,
            colorbar={"title": found.metric, "x": 0.45},
        ),
        1,
        1,
    )
    pairs = list(itertools.permutations(range(len(found.datasets)), 2))
    figure.add_trace(
        graph_objects.Scatter(
            x=[found.distances[i][j] for i, j in pairs],
            y=[found.deltas[i][j] for i, j in pairs],
            text=[f"{found.datasets[i]} → {found.datasets[j]}" for i, j in pairs],
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
    figure.update_yaxes(title=f"change of {found.metric}", row=1, col=2)
    figure.update_layout(template="plotly_white", showlegend=False, margin={"r": 140})  # names reach over the axis
    files.write_text(path, figure.to_html(include_plotlyjs=True, full_html=True))


def _title(found: Cross) -> str:
    return f"{found.encoder}, {found.strategy}-tuned: change of {found.metric}"


def _correlation(found: Cross) -> str:
    if found.rank_correlation is None:
        return "too few data sets for a rank correlation"
    return f"nearness and gain: Spearman {found.rank_correlation:+.2f} (p = {found.p_value:.2f})"
