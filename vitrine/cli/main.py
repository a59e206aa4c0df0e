"""The front door: the table of verbs. A verb's module is loaded when that verb is asked for, and no other."""

from vitrine import surroundings

surroundings.begin()  # before anything else is imported

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from vitrine.cli import output
from vitrine.cli.later import loaded_later
from vitrine.errors import UserError, VitrineError, one_line, reason

_FULL_DISK = ("No space left on device", "database or disk is full", "Disk quota exceeded")
"""As the libraries say it: the system, SQLite."""

# Each verb, and the first sentence of its help; its module is ``vitrine.cli.verbs.NAME``.
VERBS = {
    "classify": "Ask classifiers on frozen embeddings about the test split: rows of predictions.",
    "tag": (
        "Tag photos that lack a label from their stored vectors, where a classifier is sure; exit 3 if its gate "
        "refuses."
    ),
    "lookup": "Look images or products up online, through the data set's serving service.",
    "serve": (
        "Serve online features over HTTP until Ctrl-C: Feast's feature server, read-only, similar products, photo "
        "search."
    ),
    "browse": "A page on this machine: pick or upload a photo and see its neighbours by each encoder, side by side.",
    "check": "Do catalog, embeddings, Feast, Milvus and promotions agree, by id, version and content?",
    "sql": "Ask the tables, read-only: those of docs/tables.md, and the views and functions of docs/analysts.md.",
    "sql-server": "Spark Connect over the lake, read-only, for pyspark and what else speaks it: until Ctrl-C.",
    "ingest": (
        "Bring a catalog in: new and changed photos are read, unreadable ones quarantined, those that left removed."
    ),
    "embed": "Embed what is missing, and nothing else; several encoders share one pass over the photos.",
    "evaluate": (
        "Retrieval metrics from Milvus's neighbours, and what classifiers said, scored; what is missing, and "
        "nothing else."
    ),
    "features": (
        "Feast: apply the definitions, bring the online store to the lake's version, point the serving services."
    ),
    "index": (
        "Milvus: bring the collections to the lake's version, and the alias to what serves; exit 3 where its "
        "index finds\ntoo little of what exact search finds."
    ),
    "gate": "Great Expectations: exit 3 where a gate refuses, saying which expectation failed, with the figures.",
    "promote": "Let an encoder version serve a data set, if its gates passed; what already serves goes on.",
    "rollback": (
        "Let the version that served before serve again, without embedding anything; one cut short is finished."
    ),
    "encoders": "The encoder versions in the lake; with --available, every encoder that can be named.",
    "status": "What there is, what serves, and how the last runs went.",
    "report": "Write the report: one self-contained HTML page.",
    "maintain": (
        "Compact the tables, remove files that no version of the last days needs, and drop Milvus's old collections."
    ),
    "demo": "All of it, on a small catalog that it draws itself: the nightly DAG by Airflow, then what came of it.",
    "tune": (
        "Tune an encoder to a data set: a matrix (linear) or a perceptron (top) on its frozen embeddings, its last "
        "part (partial), changes of low rank (low-rank), or all its weights (full), or let it learn another encoder's "
        "vectors (distil)."
    ),
    "compress": (
        "Try how short an encoder's vectors may become: principal components, int8, 4 bits, 1 bit, product "
        "quantisation,\neach held against the vectors in full on the same queries."
    ),
    "quantize": "Round a network to integers of eight bits, where that pays on this machine's processor.",
    "export": "Export an encoder as a folder that turns a customer's photo into a vector of exactly this version.",
    "advise": "Find the encoder for a catalog, as it is or with a linear head, from a sample and within a budget.",
    "pending": (
        "Which of the nightly encoders have work to do on a data set, and why; those that are retired are left out."
    ),
    "night": "What was done since then, in a few lines; writes the report anew where something was.",
    "retire": "Take an encoder out of the nights, Feast and Milvus; what serves, or is another's base, is refused.",
    "backfill": "Embed a part of what an encoder misses: the products most wanted first, then the newest.",
}


class _Verbs(TyperGroup):
    """The verbs of the table: what is listed and suggested knows their names, and the one that is run is loaded."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name else listed, rest


app = typer.Typer(
    name="vitrine",
    cls=_Verbs,
    help="Turn a shop's product photos into served, searchable, measured embeddings.\n\n"
    "A first walk:  vitrine ingest PHOTOS --dataset shop,  vitrine embed --encoder efficientnet_lite0 --dataset shop,  "
    "vitrine evaluate --encoder efficientnet_lite0 --dataset shop,  vitrine report.  Or all at once: vitrine demo.\n\n"
    "Exit codes: 0 done, 1 failed, 2 the caller's mistake, 3 a gate refused, 4 undecided.",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _list(verb: str, about: str) -> None:
    @app.command(verb, help=about)
    def listed() -> None:
        raise NotImplementedError(verb)  # ``_Verbs`` runs the verb's own command in its place


for _verb, _about in VERBS.items():
    _list(_verb, _about)


def load_verb(verb: str) -> Any:
    """The command of ``verb``: its module's function of that name, or its ``app`` where the verb has parts."""
    name = verb.replace("-", "_")
    with loaded_later():
        module = importlib.import_module(f"vitrine.cli.verbs.{name}")
    if not (parts := getattr(module, "app", None)):
        parts = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        parts.command(epilog=getattr(module, "EPILOG", None))(getattr(module, name))
    command = typer.main.get_command(parts)
    command.name = verb
    return command


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit by its code; a mistake of the caller's is one line on stderr."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and "--help" not in given:
        output.claim_stdout()
    _exit(lambda: app(args=given or ["--help"], prog_name="vitrine"))


def _exit(command: Callable[[], Any]) -> None:
    try:
        command()  # the caller's mistakes in the arguments end inside, with 2
    except VitrineError as error:
        _end(error)
    except SystemExit as ended:
        if ended.code == 130:  # what Typer makes of Ctrl-C
            print("vitrine: stopped; the same command goes on where it was", file=sys.stderr)
        raise
    except Exception as error:
        if os.environ.get("VITRINE_DEBUG"):
            raise
        cause = reason(error)
        if any(sign in str(error) for sign in _FULL_DISK):
            cause = VitrineError("a disk is full: make room, and the same command goes on")
        elif not isinstance(cause, UserError):
            cause = VitrineError(f"{cause} (VITRINE_DEBUG=1 shows where)")
        _end(cause)


def _end(error: VitrineError) -> None:
    print(f"vitrine: {one_line(error, 2000)}", file=sys.stderr)
    sys.exit(error.exit_code)
