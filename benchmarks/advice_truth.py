"""How good advice is, by a truth table: what each encoder answers on samples of a data set, and on all of it.

``write`` asks the vectors that a home has of a data set (it computes none): every encoder that is embedded in full, as
it is and with a linear head, and joined ones that are named; on the samples of each seed, and on the whole. One Parquet
file an encoder, of figures by query and no vectors; killed, the same command goes on with those that are missing.
``replay`` runs the product's own race on these figures, and beside it what one would do without it. It needs the table
alone, and says which joined encoders the race would have asked that are not there.

    cd HOME_WITH_VITRINE_TOML
    python benchmarks/advice_truth.py write grocery --out truth/grocery --seeds 0 1 2 --joined lite0_96+squeezenet_96
    python benchmarks/advice_truth.py replay truth/grocery --margin 0.01

Regret is what the chosen option lacks, on the whole data set, to the best of all, joined ones among them; undecided,
the leader is taken. The ways beside the race join nothing, but for "everything". The cost is that of embedding by the
rates which the home's runs have, and of asking, as a share of trying everything.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from evaluation.advice import priors, sample, transferability
from evaluation.advice.answer import LINEAR, PRETRAINED, option_name
from evaluation.advice.measure import Answers, Questions
from evaluation.advice.sample import FEWEST, Catalog, Sample
from training.ladder import decide
from vitrine import files, lake
from vitrine.cli import advice, advice_answer, embed_costs
from vitrine.encoded_set import EncodedSet
from vitrine.encoders import backbones
from vitrine.names import JOIN, split_joined
from vitrine.settings import Settings, load_settings
from vitrine.tables import EMBEDDINGS

SAMPLES, SHARES = "samples.parquet", ("quarter", "half", "whole")
POINT = 0.01


# ---- the table ----


def subsample(whole: Sample, seed: int, products: int | None, photos: int) -> tuple[Sample, np.ndarray]:
    """The first products in an order of the seed's, as ``sample.draw`` takes them in the order of hashes; and the
    places of its photos in ``whole``."""
    counts = np.bincount(whole.products)
    order = np.random.default_rng(seed).permutation(len(counts))
    seen, asked = np.cumsum(counts[order]), np.cumsum(counts[order] > 1)
    beyond = (seen > photos) & (asked > FEWEST)
    if products:
        beyond |= asked > products
    count = int(beyond.argmax()) if beyond.any() else len(order)
    rank = np.argsort(order)[whole.products]
    places = np.flatnonzero(rank < count)
    ids = [whole.ids[place] for place in places]
    limit = f"{seed}/{products}/{photos}"
    return Sample(limit, ids, rank[places], whole.labels[places], count == len(order)), places


def embedded(settings: Settings, dataset: str, photos: int) -> list[EncodedSet]:
    """The networks that have a vector of each photo."""
    sql = f"SELECT encoder, encoder_version, count(*) AS n FROM {EMBEDDINGS.name} WHERE {lake.matches(dataset=dataset)}"
    rows = lake.rows(settings, f"{sql} GROUP BY encoder, encoder_version ORDER BY encoder")
    known = {*backbones.REGISTRY, *settings.encoders}
    full = [row for row in rows if row["n"] >= 0.99 * photos and row["encoder"] in known]
    return [EncodedSet(dataset, row["encoder"], row["encoder_version"]) for row in full]


def joined(found: list[EncodedSet], name: str) -> EncodedSet:
    versions = {each.encoder: each.encoder_version for each in found}
    return EncodedSet(found[0].dataset, name, JOIN.join(versions[part] for part in split_joined(name)))


def write(dataset: str, out: Path, seeds: list[int], encoders: list[str], pairs: list[str]) -> None:
    settings = load_settings()
    catalog = sample.catalog(settings, dataset, sample.SEARCH)
    whole = sample.draw(settings, catalog, *advice.SIZES[-1])
    drawn = {(seed, look): subsample(whole, seed, *size) for seed in seeds for look, size in enumerate(advice.SIZES)}
    write_samples(out, catalog, drawn)
    costs = embed_costs.Costs(settings, dataset)
    found = embedded(settings, dataset, catalog.photos)
    for encoded in [*found, *(joined(found, name) for name in pairs)]:
        name, path = encoded.encoder, out / f"{encoded.encoder}.parquet"
        if path.exists() or (encoders and name not in encoders and name not in pairs):
            continue
        rows = sample.vectors(settings, encoded, whole)
        own = settings.encoders.get(name)
        about = {
            "encoder": name,
            "settings": own.model_dump(mode="json", exclude_none=True) if own else None,
            "dim": rows.shape[1],
            "seconds_a_photo": embedding_seconds(settings, costs, encoded),
        }
        write_encoder(path, about, catalog, rows, drawn)


def embedding_seconds(settings: Settings, costs: embed_costs.Costs, encoded: EncodedSet) -> float:
    """Of a photo; nothing of encoders joined, whose parts' vectors are there."""
    if len(encoded.parts) > 1:
        return 0.0
    if rate := costs.rate(encoder_version=encoded.encoder_version):
        return rate.seconds
    return costs.sample_seconds(backbones.resolve(settings, encoded.encoder), 1000, started=True) / 1000


def write_samples(out: Path, catalog: Catalog, drawn: dict[tuple[int, int], tuple[Sample, np.ndarray]]) -> None:
    columns: dict[str, list[Any]] = {"seed": [], "look": [], "image_id": [], "product": [], "label": []}
    for (seed, look), (each, _) in drawn.items():
        columns["seed"] += [seed] * len(each.ids)
        columns["look"] += [look] * len(each.ids)
        columns["image_id"] += each.ids
        columns["product"] += each.products.tolist()
        columns["label"] += each.labels.tolist()
    table = pa.table(columns).replace_schema_metadata({"catalog": json.dumps(asdict(catalog))})
    with files.whole(out / SAMPLES) as fresh:
        pq.write_table(table, fresh, compression="zstd")


def write_encoder(
    path: Path, about: dict[str, Any], catalog: Catalog, rows: Any, drawn: dict[tuple[int, int], tuple[Sample, Any]]
) -> None:
    """What one encoder answers on each sample, (seed, look), whose photos are at so many places of ``rows``."""
    tables, asked, foretold = [], {}, {}
    for (seed, look), (each, places) in drawn.items():
        started, questions, mine = time.monotonic(), Questions(catalog, each), rows[places]
        joined = JOIN in about["encoder"]
        answers = advice_answer.asked(questions, mine, joined)
        asked[f"{seed}/{look}"] = time.monotonic() - started
        foretold[f"{seed}/{look}"] = None if joined else transferability.scores(mine, each.labels)
        for strategy, found in answers.items():
            figures = {name: found.by_share[at].astype(np.float32) for at, name in enumerate(SHARES)}
            same = {"strategy": [strategy], "seed": [seed], "look": [look]}
            tables.append(pa.table({name: value * len(places) for name, value in same.items()} | figures))
        print(f"{about['encoder']}, seed {seed}, {len(places):,} photos: {asked[f'{seed}/{look}']:.1f} s", flush=True)
    about |= {"asking": asked, "foretold": foretold}
    table = pa.concat_tables(tables).replace_schema_metadata({"about": json.dumps(about)})
    with files.whole(path) as fresh:
        pq.write_table(table, fresh, compression="zstd")


# ---- read again ----


@dataclass(frozen=True)
class Truth:
    """The table of one data set."""

    folder: Path
    catalog: Catalog
    samples: dict[tuple[int, int], Sample]
    encoders: dict[str, dict[str, Any]]
    """What ``write`` noted of each."""
    answers: dict[tuple[str, str, int, int], Answers]
    """By encoder, strategy, seed and look."""

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for seed, _ in self.samples})

    @property
    def single(self) -> list[str]:
        """The encoders that are not joined."""
        return [name for name in self.encoders if JOIN not in name]

    @cached_property
    def options(self) -> dict[str, tuple[str, str]]:
        """Encoder and strategy of each, by its name."""
        pairs = dict.fromkeys((encoder, strategy) for encoder, strategy, _, _ in self.answers)
        return {option_name(*pair): pair for pair in pairs}

    @cached_property
    def figures(self) -> dict[str, float]:
        """Of each option on the whole data set: the mean of the seeds, whose halves for tuning differ."""
        last = len(advice.SIZES) - 1
        return {
            name: float(np.mean([np.nanmean(self.answers[(*pair, seed, last)].values) for seed in self.seeds]))
            for name, pair in self.options.items()
        }

    def measured(self, encoder: str, seed: int, look: int) -> "advice_answer.Measured":
        answers = {
            strategy: self.answers[encoder, strategy, seed, look]
            for strategy in (PRETRAINED, LINEAR)
            if (encoder, strategy, seed, look) in self.answers
        }
        about, questions = self.encoders[encoder], Questions(self.catalog, self.samples[seed, look])
        foretold = about["foretold"][f"{seed}/{look}"]
        encoded = EncodedSet(self.catalog.dataset, encoder, encoder)
        return advice_answer.Measured(encoded, answers, questions, about["dim"], foretold)

    def seconds(self, encoder: str, seed: int, look: int, known: int = 0) -> float:
        """Of embedding what is new of a sample beside ``known`` photos, and of asking it."""
        return self.embedding(encoder, seed, look, known) + self.asking(encoder, seed, look)

    def embedding(self, encoder: str, seed: int, look: int, known: int) -> float:
        new = max(0, len(self.samples[seed, look].ids) - known)
        return float(new * self.encoders[encoder]["seconds_a_photo"])

    def asking(self, encoder: str, seed: int, look: int) -> float:
        return float(self.encoders[encoder]["asking"][f"{seed}/{look}"])

    def best_strategy(self, encoder: str, seed: int, look: int) -> tuple[str, float]:
        """The option of the encoder with the highest figure on a sample, and that figure."""
        answers = self.measured(encoder, seed, look).answers
        means = {option_name(encoder, strategy): np.nanmean(each.values) for strategy, each in answers.items()}
        name = max(means, key=means.__getitem__)
        return name, float(means[name])


def read(folder: Path) -> Truth:
    table = pq.read_table(folder / SAMPLES)
    catalog = Catalog(**json.loads(table.schema.metadata[b"catalog"]))
    seeds, looks, products, labels = (table[name].to_numpy() for name in ("seed", "look", "product", "label"))
    ids, samples = table["image_id"].to_pylist(), {}
    for seed, look in sorted(set(zip(seeds.tolist(), looks.tolist(), strict=True))):
        places = np.flatnonzero((seeds == seed) & (looks == look))
        whole = len(places) == catalog.photos or look == len(advice.SIZES) - 1
        mine = [ids[place] for place in places]
        samples[seed, look] = Sample(f"{seed}/{look}", mine, products[places], labels[places], whole)
    encoders, answers = {}, {}
    for path in sorted(folder.glob("*.parquet")):
        if path.name == SAMPLES:
            continue
        found = pq.read_table(path)
        about = json.loads(found.schema.metadata[b"about"])
        encoders[about["encoder"]] = about
        keys = zip(*(found[name].to_pylist() for name in ("strategy", "seed", "look")), strict=True)
        by_share = np.stack([found[name].to_numpy().astype(np.float64) for name in SHARES])
        firsts: dict[tuple[str, int, int], int] = {}
        for row, key in enumerate(keys):
            firsts.setdefault(key, row)
        for (strategy, seed, look), first in firsts.items():
            part = by_share[:, first : first + len(samples[seed, look].ids)]
            answers[about["encoder"], strategy, seed, look] = Answers(part)
    return Truth(folder, catalog, samples, encoders, answers)


# ---- the replay ----


@dataclass(frozen=True)
class Outcome:
    """What one way of choosing came to, on one seed."""

    option: str
    seconds: float
    undecided: bool = False
    held: bool | None = None
    """Does the expected figure's 90 % interval hold the true one? None: there is none."""
    best_left: bool = False
    """Undecided: is the best of all among those that it is undecided between?"""


class Rates(embed_costs.Costs):
    """What using an encoder takes, by the table."""

    def __init__(self, truth: Truth, settings: Settings) -> None:
        super().__init__(settings, truth.catalog.dataset)
        self.truth = truth

    def rate_of(self, encoded: EncodedSet) -> embed_costs.Rate:
        seconds = sum(self.truth.encoders[part.encoder]["seconds_a_photo"] for part in encoded.parts)
        return embed_costs.Rate(self.truth.catalog.photos, seconds, 0.0)


class Replayed(advice.Work):
    """The product's own race; what it would embed and ask is read from the table."""

    def __init__(self, settings: Settings, truth: Truth, seed: int, margin: float) -> None:
        self.truth, self.seed, self.spent = truth, seed, 0.0
        self.known: dict[str, int] = {}
        asked = advice.Asked(encoders=truth.single, margin=margin, non_commercial=True)
        super().__init__(settings, truth.catalog, asked, decide.Budget.parse(None, "USD", False))
        self.costs = Rates(truth, settings)

    def draw(self, products: int | None, photos: int) -> Sample:
        return self.truth.samples[self.seed, advice.SIZES.index((products, photos))]

    def pairs(self, figures: dict[str, float]) -> list[str]:
        wanted = super().pairs(figures)
        if missing := [name for name in wanted if name not in self.truth.encoders]:
            print(f"seed {self.seed}: not in the table: {' '.join(missing)}", file=sys.stderr)
        return [name for name in wanted if name in self.truth.encoders]

    def _embedding(self, name: str, drawn: Sample) -> float:
        return self.truth.embedding(name, self.seed, self._look(drawn), self.known.get(name, 0))

    def _asking(self, name: str, drawn: Sample) -> float:
        return self.truth.asking(name, self.seed, self._look(drawn))

    def ask(self, name: str, drawn: Sample) -> None:
        self.spent += self.takes(name, drawn)
        self.known |= dict.fromkeys(split_joined(name), len(drawn.ids))
        self.measured[name] = self.truth.measured(name, self.seed, self._look(drawn))

    def _look(self, drawn: Sample) -> int:
        return int(drawn.limit.split("/")[1])

    def outcome(self) -> Outcome:
        standing = self.run()
        assert standing
        option = standing.chosen or standing.leader
        encoder, strategy = self.truth.options[option]
        done = self.measured[encoder]
        _, low, high = advice_answer.expected(self.catalog, done, strategy, self.common[done.asked.limit])
        held = low <= self.truth.figures[option] <= high
        best = max(self.truth.figures, key=self.truth.figures.__getitem__)
        return Outcome(option, self.spent, standing.chosen is None, held, best in standing.remaining)


def by_score(score: Callable[[Truth, str, int], float]) -> Callable[[Truth, int], Outcome]:
    """All encoders on the first sample; the one with the highest score, with its better strategy there."""

    def choose(truth: Truth, seed: int) -> Outcome:
        best = max(truth.single, key=lambda name: score(truth, name, seed))
        seconds = sum(truth.seconds(name, seed, 0) for name in truth.single)
        return Outcome(truth.best_strategy(best, seed, 0)[0], seconds)

    return choose


def neighbours(truth: Truth, name: str, seed: int) -> float:
    return float(np.nanmean(truth.answers[name, PRETRAINED, seed, 0].values))


def foretold(which: int) -> Callable[[Truth, str, int], float]:
    return lambda truth, name, seed: (truth.encoders[name]["foretold"][f"{seed}/0"] or (-np.inf, -np.inf))[which]


def single(truth: Truth, name: str, seed: int) -> Outcome:
    return Outcome(truth.best_strategy(name, seed, 0)[0], truth.seconds(name, seed, 0))


def static(truth: Truth, seed: int) -> Outcome:
    named = [backbones.resolve(settings_of(truth), name) for name in truth.single]
    known = priors.candidates(named, [1.0] * len(named))
    return single(truth, max(known, key=lambda each: each.prior).name, seed)


def random(truth: Truth, seed: int) -> Outcome:
    return single(truth, str(np.random.default_rng(1000 + seed).choice(truth.single)), seed)


def halving(truth: Truth, seed: int) -> Outcome:
    """Successive halving (Jamieson and Talwalkar, AISTATS 2016): the better half goes on to the next sample."""
    left, seconds, known = truth.single, 0.0, 0
    for look in range(len(advice.SIZES)):
        seconds += sum(truth.seconds(name, seed, look, known) for name in left)
        known = len(truth.samples[seed, look].ids)
        left.sort(key=lambda name: -truth.best_strategy(name, seed, look)[1])
        left = left[: max(1, (len(left) + 1) // 2)]
        if len(left) == 1 or truth.samples[seed, look].whole:
            break
    return Outcome(truth.best_strategy(left[0], seed, look)[0], seconds)


def everything(truth: Truth, seed: int) -> Outcome:
    last = len(advice.SIZES) - 1
    seconds = sum(truth.seconds(name, seed, last) for name in truth.encoders)
    return Outcome(max(truth.figures, key=truth.figures.__getitem__), seconds)


BASELINES = {
    "static order": static,
    "random": random,
    "nearest neighbours on the sample alone": by_score(neighbours),
    "LogME on the sample": by_score(foretold(0)),
    "H-score on the sample": by_score(foretold(1)),
    "successive halving": halving,
    "everything": everything,
}


def settings_of(truth: Truth, home: Path = Path("/nonexistent")) -> Settings:
    """Such that the table's encoders can be named; no network is built, so no weights have to be there."""
    own = {
        name: about["settings"] | {"weights": "random:0"} for name, about in truth.encoders.items() if about["settings"]
    }
    return Settings.model_validate({"home": home, "encoders": own})


def replay(folders: list[Path], margin: float) -> None:
    truths = [read(folder) for folder in folders]
    outcomes: dict[str, list[tuple[Truth, int, Outcome]]] = {}
    with tempfile.TemporaryDirectory() as home:
        for truth in truths:
            for seed in truth.seeds:
                found = Replayed(settings_of(truth, Path(home)), truth, seed, margin).outcome()
                outcomes.setdefault("advice", []).append((truth, seed, found))
                for name, choose in BASELINES.items():
                    outcomes.setdefault(name, []).append((truth, seed, choose(truth, seed)))
    print("| way | regret, mean | worst | beyond advice's | within a point | cost of everything |")
    print("| --- | --- | --- | --- | --- | --- |")
    ours = regrets(outcomes["advice"])
    for name, done in outcomes.items():
        lost = regrets(done)
        cost = np.mean([found.seconds / everything(truth, seed).seconds for truth, seed, found in done])
        beyond = "-" if name == "advice" else paired(lost - ours)
        print(
            f"| {name} | {lost.mean():.4f} | {lost.max():.4f} | {beyond} | {(lost <= POINT).mean():.0%} | {cost:.3f} |"
        )
    advised = [found for _, _, found in outcomes["advice"]]
    undecided = [found for found in advised if found.undecided]
    print(f"interval of 90 % held in {np.mean([found.held for found in advised]):.0%} of {len(advised)} runs")
    print(f"undecided in {len(undecided)}, with the best among them in {sum(found.best_left for found in undecided)}")
    for truth, seed, found in outcomes["advice"]:
        true = truth.figures[found.option]
        print(f"{truth.catalog.dataset}, seed {seed}: {found.option} {true:.4f} of {max(truth.figures.values()):.4f}")


def regrets(done: list[tuple[Truth, int, Outcome]]) -> np.ndarray:
    return np.array([max(truth.figures.values()) - truth.figures[found.option] for truth, _, found in done])


def paired(differences: np.ndarray) -> str:
    """Their mean and its 95 % interval over the runs, by Student's t."""
    if len(differences) < 2:
        return f"{differences.mean():+.4f}"
    reach = stats.t.isf(0.025, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{differences.mean():+.4f} ({differences.mean() - reach:+.4f} to {differences.mean() + reach:+.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("write")
    writing.add_argument("dataset")
    writing.add_argument("--out", type=Path, required=True)
    writing.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    writing.add_argument("--encoder", action="append", default=[])
    writing.add_argument("--joined", nargs="+", default=[], metavar="A+B")
    replaying = verbs.add_parser("replay")
    replaying.add_argument("folders", type=Path, nargs="+")
    replaying.add_argument("--margin", type=float, default=0.01)
    asked = parser.parse_args()
    if asked.verb == "write":
        write(asked.dataset, asked.out, asked.seeds, asked.encoder, asked.joined)
    else:
        replay(asked.folders, asked.margin)


if __name__ == "__main__":
    main()
