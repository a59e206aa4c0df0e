"""Whatever table a source is, and whatever its file, columns and photos are called: done, or one line on what is
wrong with it, and a code that says whose mistake it was."""

import datetime as dt
import decimal
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

CASES, MANY = 24, 200
WORDS = (
    *("a", "é", "a b", "a#b", "a%20b", "a,b", 'a"b', "a'b", "a\\b", "💡", "a\nb", "a\tb", "-a", "{a}", "*", "[a]", "?"),
    *("a" * 200, "..", "\u202eb", "null", "NaN", "1e3", "00123", "", " ", "=1+1", "a;b", "a|b", "$a", "a:b"),
)
FILES = (
    *("a b", "a#b", "a%2Fb", "{a}", "a*", "[a]", "-t", "a:b", "a'b", 'a"b', "a\\b", "💡", "a\nb", ".t", "_t", "a,b"),
    *["tüv"] * 16,
)
SHARES = {"uri": 0.96, "product_id": 0.96, "image_id": 0.2, "category": 0.6}
"""How often a table has the column."""
JUNK = (b"", b"\0" * 64, b"PAR1", b"PK\3\4", b"{}", b'[{"uri": "x"}]', b"<html>", bytes(range(256)))
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252")


def cell(chance: random.Random, photos: list[Path]) -> Any:
    photo = chance.choice(photos)
    plain = (str(photo), photo.as_uri(), photo.name, chance.choice(WORDS), f"http://nowhere.invalid/{photo.name}")
    return chance.choice(plain)


def column(chance: random.Random, photos: list[Path], rows: int) -> pa.Array:
    """A column as people's files have it: of text in most cases, else of any type."""
    texts = [None if chance.random() < 0.1 else cell(chance, photos) for _ in range(rows)]
    numbers = [None if chance.random() < 0.1 else chance.randint(-9, 9) for _ in range(rows)]
    moments = [dt.datetime(2026, 1, 1 + at) for at in range(rows)]
    makers: tuple[Callable[[], pa.Array], ...] = (
        *[lambda: pa.array(texts, pa.string())] * 40,
        lambda: pa.array(texts, pa.large_string()),
        lambda: pa.array(texts).dictionary_encode(),
        lambda: pa.array([text and text.encode("utf-8", "surrogateescape") for text in texts], pa.binary()),
        lambda: pa.array([text and os.urandom(4) for text in texts], pa.binary()),
        lambda: pa.array(numbers, pa.int64()),
        lambda: pa.array([number and number / 7 for number in numbers], pa.float64()),
        lambda: pa.array([number and decimal.Decimal(number) for number in numbers], pa.decimal128(9, 2)),
        lambda: pa.array([bool(number) for number in numbers]),
        lambda: pa.array(moments, pa.timestamp("us")),
        lambda: pa.array(moments, pa.timestamp("ns")),
        lambda: pa.array([dt.date(2026, 1, 1)] * rows),
        lambda: pa.array([dt.time(1, 2)] * rows),
        lambda: pa.array([dt.timedelta(1)] * rows),
        lambda: pa.array([[text] for text in texts], pa.list_(pa.string())),
        lambda: pa.array([{"bytes": b"x", "path": text} for text in texts]),
        lambda: pa.array([[("k", text)] for text in texts], pa.map_(pa.string(), pa.string())),
        lambda: pa.nulls(rows),
    )
    return chance.choice(makers)()


def source(chance: random.Random, folder: Path, photos: list[Path]) -> Path:
    """A table in ``folder``, of a form, columns and a name that chance chose."""
    rows = chance.choice((0, 1, 3, 3, 3, 5))
    names = [name for name, share in SHARES.items() if chance.random() < share]
    others = (*WORDS, "URI", "Product_Id", "uri", "uri ", "product_id.x", "split")
    names += [chance.choice(others) for _ in range(chance.choice((0, 0, 0, 1, 2)))]
    columns = [column(chance, photos, rows) for _ in names]
    form = chance.choice(("parquet", "parquet", "csv", "csv", "csv", "junk"))
    suffixes = [f".{form}"] * 8 + [".csv", ".parquet", ".CSV", "", ".txt"]
    path = folder / f"{chance.choice(FILES)}{chance.choice(suffixes)}"
    if form == "parquet":
        parquet.write_table(pa.Table.from_arrays(columns, names), path)
    elif form == "csv":
        sep, quote = chance.choice(",,,,,,;\t|"), chance.choice(("", "", '"', '"', "'"))
        lines = [names, *([f"{quote}{value.as_py()}{quote}" for value in row] for row in zip(*columns, strict=True))]
        text = chance.choice(("\n", "\n", "\n", "\r\n", "\r")).join(sep.join(line) for line in lines)
        path.write_bytes(text.encode(chance.choice(ENCODINGS), "replace"))
    else:
        path.write_bytes(chance.choice(JUNK))
    return path


Ingest = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ingest(spark: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ingest:
    """``vitrine ingest`` in this process: its code, stdout and stderr, which have to be in order."""
    from vitrine.cli.main import main

    (tmp_path / "vitrine.toml").touch()
    monkeypatch.chdir(tmp_path)

    def run(source: Path, dataset: str, layout: str) -> tuple[int, str, str]:
        capfd.readouterr()
        stdout = os.dup(1)  # which the command line claims for good
        try:
            with pytest.raises(SystemExit) as ended:
                main(["ingest", str(source), "--dataset", dataset, "--layout", layout, "--json"])
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
        said, code = capfd.readouterr(), int(ended.value.code or 0)
        about = f"{source}: {code}\n{said.err}"
        assert code in (0, 2, 3), about
        assert not any(sign in said.err for sign in ("Traceback", "\x1b", "stack trace", "\tat ")), about
        ours = [line for line in said.err.splitlines() if line.startswith("vitrine: ")]
        assert len(ours) == (1 if code else 0), about
        assert bool(code) or json.loads(said.out)["images"] >= 0, about
        return code, said.out, said.err

    return run


@pytest.mark.parametrize(
    "cases", [pytest.param(CASES, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.long)]
)
def test_any_table_is_read_or_refused_in_a_line(
    ingest: Ingest, tmp_path: Path, draw: Callable[..., Path], cases: int
) -> None:
    photos = sorted(draw(1, 2).rglob("*.jpg"))
    chance, codes = random.Random(20261128), Counter[int]()
    for at in range(cases):
        (folder := tmp_path / f"case{at}").mkdir()
        codes[ingest(source(chance, folder, photos), f"d{at}", "table")[0]] += 1
    print(f"\n{cases} tables by exit code: {dict(codes)}")
    assert codes[0] and codes[2], codes


@pytest.mark.parametrize("kind", ["struct", "list", "map", "int64", "timestamp"])
def test_a_uri_that_is_no_text_is_refused_by_its_type(
    ingest: Ingest, tmp_path: Path, draw: Callable[..., Path], kind: str
) -> None:
    photo = str(next(draw(1, 1).rglob("*.jpg")))
    columns = {
        "struct": pa.array([{"path": photo, "bytes": b"x"}]),
        "list": pa.array([[photo]]),
        "map": pa.array([[("path", photo)]], pa.map_(pa.string(), pa.string())),
        "int64": pa.array([7]),
        "timestamp": pa.array([dt.datetime(2026, 1, 1)], pa.timestamp("us")),
    }
    parquet.write_table(pa.table({"uri": columns[kind], "product_id": ["a"]}), tmp_path / "t.parquet")
    code, _, said = ingest(tmp_path / "t.parquet", "d", "table")
    assert code == 2 and f"column uri is of type {kind}" in said and "it must be text" in said


def test_folders_and_photos_of_any_name(ingest: Ingest, tmp_path: Path, draw: Callable[..., Path]) -> None:
    photo = next(draw(1, 1, "drawn").rglob("*.jpg")).read_bytes()
    names = [name for name in dict.fromkeys((*WORDS, *FILES)) if name not in ("", "..") and len(name) < 100]
    for at, name in enumerate(names):
        folder = tmp_path / "photos" / f"{name}{at}"
        folder.mkdir(parents=True)
        (folder / f"{name}.jpg").write_bytes(photo)
    code, out, said = ingest(tmp_path / "photos", "d", "folder")
    assert code == 0, said
    figures = json.loads(out)
    hidden = sum(name.startswith(".") for name in names)
    assert figures["images"] + figures["quarantined"] == len(names) - hidden, (figures, said)
