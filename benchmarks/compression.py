"""What shorter vectors cost in quality: for several encoders of one data set, what ``vitrine compress`` says of each.

In the folder of a vitrine.toml, with encoders that are embedded:

    python benchmarks/compression.py half grocery grocery_half      # another data set: half of its products are new
    python benchmarks/compression.py table grocery --encoders efficientnet_lite0 efficientnet_lite0__linear__grocery

``half`` ingests the same photos with other splits: of every second product (by the hash of its id), three of five
photos are ``train``, and the others, like all photos of the other products, are ``query`` or ``gallery`` by turns. So a
head that is tuned on it has never seen half of the products that are asked for. ``table`` prints, for each encoder,
mMP@5 in full, and of each codec how much of it is left, with the 95 % interval of the change; * marks what is not shown
to lose less than ``--max-drop``. Of queries for new products it prints a row of their own.
"""

import argparse
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tuning_gain import vitrine

from vitrine import lake
from vitrine.settings import Settings, load_settings

METRIC = "mMP@5"
CODECS = [
    *("int8", "centred and rotated, 4 bits", "1 bit", "centred and rotated, 1 bit"),
    *("centred and rotated, 1 bit; 100 again by int8", "PCA * allotted, PQ 64", "PCA * allotted, PQ 40"),
    *("PCA * allotted, PQ 32", "PCA * allotted, PQ 20"),
]
"""Names, or patterns of which the first that fits is taken."""


def half(settings: Settings, dataset: str, name: str) -> None:
    """Ingest the photos of ``dataset`` as ``name``, with splits by product."""
    own = f"{len(dataset) + 2}"  # ids without the data set's name
    placed = (
        "SELECT *, row_number() OVER (PARTITION BY product_id ORDER BY md5(image_id)) AS place "
        f"FROM catalog WHERE {lake.matches(dataset=dataset)}"
    )
    sql = (
        f"SELECT substr(image_id, {own}) AS image_id, uri, substr(product_id, {own}) AS product_id, category, "
        "CASE WHEN md5(product_id) < '8' AND place % 5 < 3 THEN 'train' "
        f"WHEN place % 2 = 0 THEN 'query' ELSE 'gallery' END AS split FROM ({placed})"
    )
    table = settings.home / f"{name}.parquet"
    pq.write_table(lake.query(settings, sql), table)
    vitrine(settings.home, "ingest", str(table), "--dataset", name, "--layout", "table")


def cell(full: float, change: dict[str, Any], shown: bool) -> str:
    left = 100 * (full + change["change"]) / full
    return f"{left:.1f} % ({change['low']:+.3f} to {change['high']:+.3f}){'' if shown else ' *'}"


def table(home: Path, dataset: str, encoders: list[str], names: list[str], max_drop: float) -> None:
    print(f"| encoder | bytes in full | {METRIC} | {' | '.join(names)} |\n|{'---|' * (len(names) + 3)}", flush=True)
    for encoder in encoders:
        asked = ("--encoder", encoder, "--dataset", dataset, "--max-drop", str(max_drop))
        said = vitrine(home, "compress", *asked)
        full, cells, on_new = said["metrics"][METRIC], [], []
        for name in names:
            row = next((row for row in said["codecs"] if fnmatchcase(row["codec"], name)), None)
            if row is None:
                cells.append("-")
                on_new.append("-")
                continue
            cells.append(f"{row['bytes']}: {cell(full, row, row['good_enough'])}")
            new = row["on_new_products"]
            on_new.append(f"{new['change']:+.4f} ({new['low']:+.3f} to {new['high']:+.3f})" if new else "-")
        print(f"| {encoder} | {said['bytes']:,} | {full:.3f} | {' | '.join(cells)} |", flush=True)
        if said["new_queries"]:
            print(f"| of it {said['new_queries']} on new products | | | {' | '.join(on_new)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    splits = verbs.add_parser("half")
    splits.add_argument("dataset")
    splits.add_argument("name")
    shown = verbs.add_parser("table")
    shown.add_argument("dataset")
    shown.add_argument("--encoders", nargs="+", required=True)
    shown.add_argument("--codecs", nargs="+", default=CODECS)
    shown.add_argument("--max-drop", type=float, default=0.01)
    given = parser.parse_args()
    if given.verb == "half":
        half(load_settings(Path.cwd()), given.dataset, given.name)
    else:
        table(Path.cwd(), given.dataset, given.encoders, given.codecs, given.max_drop)


if __name__ == "__main__":
    main()
