"""What tuning on one data set does on others: six data sets, whose likeness is measured before.

Three are parts of a data set that the home has, by what their photos' ids hold; three are drawn, two of one look. Each
strategy tunes the encoder on each of the six, and meets all of them, by ``vitrine tune cross``. What was made in the
home is found again.

    cd HOME_WITH_VITRINE_TOML
    python benchmarks/cross.py grocery --encoder lite0_96 --parts Fruit Packages Vegetables --strategies linear top
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from compression import ingest_rows
from tuning_gain import vitrine

from vitrine import lake
from vitrine.settings import Settings, load_settings

DRAWN = {"drawn": "60x16:1", "drawn_others": "60x16:2", "sketches": "60x16:3:sketch"}


def part(settings: Settings, dataset: str, within: str) -> str:
    """Ingest the photos whose ids have ``/WITHIN/`` as a data set of their own, with their splits; its name."""
    name, own = within.lower(), f"{len(dataset) + 2}"  # ids without the data set's name
    where = f"{lake.matches(dataset=dataset)} AND strpos(image_id, {lake.quote(f'/{within}/')}) > 0"
    sql = (
        f"SELECT substr(image_id, {own}) AS image_id, uri, substr(product_id, {own}) AS product_id, category, split "
        f"FROM catalog WHERE {where}"
    )
    ingest_rows(settings, sql, name)
    return name


def drawn(home: Path) -> list[str]:
    for name, source in DRAWN.items():
        how = ("--layout", "generated", "--test-share", "0.4")
        vitrine(home, "ingest", source, "--dataset", name, *how)
    return [*DRAWN]


def show(said: dict[str, Any]) -> None:
    names = said["datasets"]
    heads = [f"{name} ({value:.3f})" for name, value in zip(names, said["pretrained"], strict=True)]
    print(f"\n{said['strategy']}, {said['encoder']}, change of {said['metric']}\n")
    print(f"| tuned on | {' | '.join(heads)} |\n|{'---|' * (len(names) + 1)}")
    for name, row in zip(names, said["deltas"], strict=True):
        print(f"| {name} | {' | '.join(f'{value:+.3f}' for value in row)} |")
    deltas, others = np.array(said["deltas"]), ~np.eye(len(names), dtype=bool)
    helped = deltas[others] > 0
    print(
        f"\nnearness and gain: Spearman {said['rank_correlation']:+.2f}, p = {said['p_value']:.3f} by shuffled data "
        f"sets; of {others.sum()} pairs {helped.sum()} gain; at home {np.diag(deltas).mean():+.3f}, elsewhere "
        f"{deltas[others].mean():+.3f} ({deltas[others].min():+.3f} to {deltas[others].max():+.3f})"
    )


def show_distances(said: dict[str, Any]) -> None:
    names = said["datasets"]
    print(f"\nFréchet distance\n\n| | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for name, row in zip(names, said["distances"], strict=True):
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="that the home has")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--parts", nargs="+", default=["Fruit", "Packages", "Vegetables"])
    parser.add_argument("--strategies", nargs="+", default=["linear", "top"])
    given = parser.parse_args()
    home = Path.cwd()
    names = [*(part(load_settings(home), given.dataset, each) for each in given.parts), *drawn(home)]
    on = [option for name in names for option in ("--dataset", name)]
    for at, strategy in enumerate(given.strategies):
        said = vitrine(home, "tune", "cross", "--strategy", strategy, "--encoder", given.encoder, *on)
        if not at:
            show_distances(said)
        show({"strategy": strategy} | said)


if __name__ == "__main__":
    main()
