"""What tuning gains on one data set: retrieval before and after, over several seeds, with what it took.

Everything by the command line as a user would type it: the catalog ingested, each encoder embedded and evaluated, then
for each seed tuned (linear: a closed form; top: the protocol's search and long training; full: all weights), embedded
and evaluated. The accuracy is of a head's classifier on the test split. With ``--home``, a seed that was finished there
is not computed again, and one that was killed goes on: seconds of its tuning are those of its last process.

    python benchmarks/tuning_gain.py PHOTOS --layout grocery_store --encoders efficientnet_lite0 --seeds 0 1 2
    python benchmarks/tuning_gain.py PHOTOS --layout grocery_store --encoders lite0_128 --strategies linear top full \\
        --settings benchmarks/tuning_gain.toml --home HOME
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vitrine import files, lake
from vitrine.encoders import processor
from vitrine.names import JOIN
from vitrine.settings import load_settings

METRICS = ("mMP@5", "mR@1", "MAP@100", "R@10")
NAMES = {
    "linear": "linear head",
    "top": "top-tuned",
    "full": "fully tuned",
    "from_head": "from a head",
    "partial": "last part tuned",
    "low_rank": "changes of low rank tuned",
}
CLASSIFIERS = {"linear": "linear_head", "top": "perceptron"}


def vitrine(home: Path, *arguments: str) -> dict[str, Any]:
    """What the command says."""
    command = [sys.executable, "-m", "vitrine", *arguments, "--json"]
    done = subprocess.run(command, cwd=home, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"vitrine {' '.join(arguments)} ended with {done.returncode}")
    return dict(json.loads(done.stdout))


def measured(home: Path, encoder: str) -> dict[str, Any]:
    on = ("--encoder", encoder, "--dataset", "shop")
    embedded = vitrine(home, "embed", *on)
    return {**vitrine(home, "evaluate", *on)["metrics"], "embed": embedded["seconds"]}


def accuracy(home: Path, made: dict[str, Any], seed: int, classifier: str) -> float:
    """The share of the test split that the tuned head told right."""
    sql = (
        "SELECT avg(CASE WHEN predicted[1] = truth THEN 1.0 ELSE 0.0 END) AS accuracy FROM predictions "
        f"WHERE {lake.matches(dataset='shop', seed=seed, classifier=classifier)} "
        f"AND encoder_version IN ('{made['base_version']}', '{made['encoder_version']}')"
    )
    return float(lake.rows(load_settings(home), sql)[0]["accuracy"])


def shown(values: list[float], digits: int = 3) -> str:
    """Mean, and the standard deviation over seeds."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def row(name: str, runs: list[dict[str, Any]]) -> str:
    cells = [shown([each[metric] for each in runs]) for metric in METRICS]
    cells.append(shown([each["accuracy"] for each in runs]) if "accuracy" in runs[0] else "")
    for step in ("search", "training", "embed"):
        cells.append(shown([each[step] for each in runs], 0) if step in runs[0] else "")
    return f"| {name} | {' | '.join(cells)} |"


def tuned(home: Path, encoder: str, strategy: str, seed: int) -> dict[str, Any]:
    """Figures of one seed, computed or as they were kept when it was finished."""
    name = f"{encoder.replace(JOIN, '_')}__{strategy}{seed}"
    kept = home / "tuning_gain" / f"{name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    on = ("--encoder", encoder, "--dataset", "shop", "--name", name, "--seed", str(seed))
    verb = ("full", "--from-head") if strategy == "from_head" else (strategy,)
    made = vitrine(home, "tune", *verb, *on)
    figures = {step: made[f"{step}_seconds"] for step in ("search", "training") if f"{step}_seconds" in made}
    if strategy == "linear":
        figures["search"] = made["sums_seconds"] + made["choice_seconds"]
    if strategy in CLASSIFIERS:
        figures["accuracy"] = accuracy(home, made, seed, CLASSIFIERS[strategy])
    figures |= measured(home, name)
    files.write_json(kept, figures)
    print(f"{name}: {figures}", file=sys.stderr, flush=True)
    return figures


def prepare(home: Path, settings: Path | None) -> None:
    """Make the folder ``home`` with a vitrine.toml, a copy of ``settings`` where it has none."""
    home.mkdir(parents=True, exist_ok=True)
    if settings and not (home / "vitrine.toml").exists():
        shutil.copyfile(settings, home / "vitrine.toml")
    (home / "vitrine.toml").touch()


def ingest(home: Path, photos: str, layout: str) -> None:
    """Bring the data set ``shop`` to what ``photos``, a folder or what the layout calls a source, holds."""
    source = str(Path(photos).resolve()) if Path(photos).exists() else photos
    vitrine(home, "ingest", source, "--dataset", "shop", "--layout", layout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--layout", default="folder")
    parser.add_argument("--encoders", nargs="+", default=["efficientnet_lite0"])
    parser.add_argument("--strategies", nargs="+", default=["top"], choices=[*NAMES])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--settings", type=Path, help="a vitrine.toml for a home that has none")
    parser.add_argument("--home", type=Path, help="a folder with a vitrine.toml; left out: one that is gone afterwards")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vitrine-benchmark-") as made:
        home = given.home or Path(made)
        prepare(home, given.settings)
        ingest(home, given.photos, given.layout)
        where = f"{processor.model()} ({processor.instruction_set()})"
        print(f"seeds {' '.join(map(str, given.seeds))}; mean ± standard deviation over them; {where}\n")
        print(f"| encoder | {' | '.join(METRICS)} | accuracy | search, s | training, s | embedding, s |")
        print("|---" * (len(METRICS) + 5) + "|", flush=True)
        for encoder in given.encoders:
            if JOIN not in encoder:  # joined ones are no encoder before they are tuned
                print(row(encoder, [measured(home, encoder)]), flush=True)
            for strategy in given.strategies:
                runs = [tuned(home, encoder, strategy, seed) for seed in given.seeds]
                print(row(f"{encoder}, {NAMES[strategy]}", runs), flush=True)


if __name__ == "__main__":
    main()
