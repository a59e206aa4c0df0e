"""What the command line shows: JSON or a table on stdout, everything else on stderr."""

import csv
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

_stdout: TextIO = sys.stdout
_DECIMALS = ((10_000.0, 0), (1_000.0, 1), (100.0, 2), (0.01, 4))
"""The most decimals of a column whose largest number is at least so much."""


def claim_stdout() -> None:
    """Keep stdout for results: whatever else writes to it, a library or a child process, goes to stderr."""
    global _stdout
    sys.stdout.flush()
    _stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)


def release_stdout() -> None:
    """Undo ``claim_stdout``, for a program that takes this process's place."""
    _stdout.flush()
    os.dup2(_stdout.fileno(), 1)


def emit(text: str) -> None:
    """A result, to the real stdout."""
    print(text, file=_stdout, flush=True)


def emit_json(figures: dict[str, Any]) -> None:
    """One JSON object, and nothing else."""
    emit(json.dumps(figures, default=str, ensure_ascii=False))


def emit_figures(title: str, figures: dict[str, Any]) -> None:
    """A job's figures for people: one line a figure, nested ones indented."""
    lines = [title]
    for key, value in figures.items():
        if isinstance(value, dict):
            lines.append(f"  {key}:")
            lines += [f"    {name:<15} {_shown(inner)}" for name, inner in value.items()]
        elif not isinstance(value, list) or all(not isinstance(item, dict) for item in value):
            lines.append(f"  {key:<18} {_shown(value)}")
    emit("\n".join(lines))


def show(title: str, figures: dict[str, Any], as_json: bool) -> None:
    """A job's figures: JSON for programs, else lines for people."""
    if as_json:
        emit_json(figures)
    else:
        emit_figures(title, figures)


def show_each(title: str, results: list[dict[str, Any]], as_json: bool) -> None:
    """One result is shown as it is; several as a list under ``results``."""
    if as_json:
        emit_json(results[0] if len(results) == 1 else {"results": results})
        return
    for result in results:
        emit_figures(f"{title} {result.get('dataset', '')} {result.get('encoder', '')}".rstrip(), result)


def with_intervals(result: dict[str, Any]) -> dict[str, Any]:
    """What ``evaluate --json`` prints, for people: each figure beside its interval, one group of figures a heading."""
    groups = {"metrics": result, **result["slices"]}
    groups |= {f"{said['classifier']} by {said['label']}, seed {said['seed']}": said for said in result["classifiers"]}
    shown = {name: value for name, value in result.items() if name not in ("slices", "classifiers", "intervals")}
    if not shown["classifiers_left_out"]:
        del shown["classifiers_left_out"]
    return shown | {
        name: {metric: _beside(value, *group["intervals"][metric]) for metric, value in group["metrics"].items()}
        for name, group in groups.items()
    }


def _beside(value: float, low: float | None, high: float | None) -> str:
    return _shown(value) if low is None else f"{_shown(value)}  ({_shown(low)} to {_shown(high)})"


def emit_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], form: str = "table") -> None:
    """Rows as a table for people, CSV, or JSON lists of objects."""
    if form == "json":
        emit_json({"rows": [dict(zip(columns, row, strict=True)) for row in rows]})
    elif form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        emit(text.getvalue().rstrip("\n"))
    else:
        emit(drawn(columns, rows, None if _stdout.isatty() else 200))


def drawn(columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int | None = 200) -> str:
    """Rows as a table for people, ``width`` characters wide at most; None: as the terminal is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    cells = []
    for at, name in enumerate(columns):
        values = [row[at] for row in rows]
        kinds = {type(value) for value in values} - {type(None)}
        table.add_column(Text(name), justify="right" if kinds and kinds <= {int, float} else "left")
        places = _places([value for value in values if isinstance(value, float)])
        cells.append([_shown(value, places) for value in values])
    for row in zip(*cells, strict=True):
        table.add_row(*map(Text, row))  # Text: a name with [brackets] is no markup
    console = Console(file=_stdout, width=width)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def _places(column: Sequence[float]) -> int:
    """Decimals for all of a column: no more than its values have, nor than they are worth at their size."""
    finite = [value for value in column if math.isfinite(value)]
    largest = max(map(abs, finite), default=0.0)
    most = next((places for least, places in _DECIMALS if largest >= least), 7)
    rounded = [round(value, most) for value in finite]
    return next(places for places in range(most + 1) if all(round(value, places) == value for value in rounded))


def _shown(value: Any, places: int | None = None) -> str:
    if isinstance(value, float):
        if places is not None:
            return f"{value:z,.{places}f}"
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"
    if value is None:
        return "-"
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."
