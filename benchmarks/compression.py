"""What shorter vectors cost in quality: for several encoders of one data set, what ``vitrine compress`` says of each.

In the folder of a vitrine.toml, with encoders that are embedded:

    python benchmarks/compression.py half grocery grocery_half      # another data set: half of its products are new
    python benchmarks/compression.py table grocery --encoders efficientnet_lite0 efficientnet_lite0__linear__grocery

``half`` ingests the same photos with other splits: of every second product (by the hash of its id), three of five
photos are ``train``, and the others, like all photos of the other products, are ``query`` or ``gallery`` by turns. So a
head that is tuned on it has never seen half of the products that are asked for. ``table`` prints, for each encoder,
mMP@5 in full, and of each codec how much of it is left, with the 95 % interval of the change; * marks what is not shown
to lose less than ``--max-drop``. Of queries for new products it prints a row of their own.

    python benchmarks/compression.py table grocery_half --encoders lite0__top__half,lite0__top__half1,lite0__top__half2

Encoders with commas between them were tuned alike by several seeds: theirs is one row, of the means over them, with the
least and the most behind.
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
    *("centred and rotated, 1 bit; 100 again by int8", "PCA 128 half-whitened, float32"),
    *(f"PCA [0-9]*{kind} allotted, PQ {parts}" for parts in (64, 32, 20) for kind in ("[0-9]", " half-whitened")),
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
    ingest_rows(settings, sql, name)


def ingest_rows(settings: Settings, sql: str, name: str) -> None:
    """Ingest what ``sql`` says of the catalog, columns of a table of photos, as data set ``name``."""
    table = settings.home / f"{name}.parquet"
    pq.write_table(lake.query(settings, sql), table)
    vitrine(settings.home, "ingest", str(table), "--dataset", name, "--layout", "table")


def cell(fulls: list[float], rows: list[dict[str, Any]]) -> str:
    """The bytes of a vector, and how much of the figure in full is left."""
    bytes_each = "/".join(dict.fromkeys(str(row["bytes"]) for row in rows))
    left = [100 * (full + row["change"]) / full for full, row in zip(fulls, rows, strict=True)]
    if len(rows) > 1:
        return f"{bytes_each}: {spread(left, '.1f')} %"
    interval = f"({rows[0]['low']:+.3f} to {rows[0]['high']:+.3f})"
    return f"{bytes_each}: {left[0]:.1f} % {interval}{'' if rows[0]['good_enough'] else ' *'}"


def on_new(rows: list[dict[str, Any]]) -> str:
    """The change of the figure on new products."""
    found = [row["on_new_products"] for row in rows]
    if not all(found):
        return "-"
    if len(rows) > 1:
        return spread([each["change"] for each in found], "+.4f")
    return f"{found[0]['change']:+.4f} ({found[0]['low']:+.3f} to {found[0]['high']:+.3f})"


def spread(values: list[float], form: str) -> str:
    least, most = (format(each, form) for each in (min(values), max(values)))
    return f"{sum(values) / len(values):{form}} ({least} to {most})"


def table(home: Path, dataset: str, encoders: list[str], names: list[str], max_drop: float) -> None:
    print(f"| encoder | bytes in full | {METRIC} | {' | '.join(names)} |\n|{'---|' * (len(names) + 3)}", flush=True)
    on = ("--dataset", dataset, "--max-drop", str(max_drop))
    for alike in encoders:
        said = [vitrine(home, "compress", "--encoder", encoder, *on) for encoder in alike.split(",")]
        fulls, cells, of_new = [each["metrics"][METRIC] for each in said], [], []
        for name in names:
            found = [next((row for row in each["codecs"] if fnmatchcase(row["codec"], name)), None) for each in said]
            rows = [row for row in found if row]
            cells.append(cell(fulls, rows) if len(rows) == len(said) else "-")
            of_new.append(on_new(rows) if len(rows) == len(said) else "-")
        full = spread(fulls, ".3f") if len(said) > 1 else f"{fulls[0]:.3f}"
        sizes = "/".join(dict.fromkeys(f"{each['bytes']:,}" for each in said))
        print(f"| {alike} | {sizes} | {full} | {' | '.join(cells)} |", flush=True)
        if said[0]["new_queries"]:
            print(f"| of it {said[0]['new_queries']} on new products | | | {' | '.join(of_new)} |", flush=True)


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
