"""``vitrine sql``: Spark SQL over the lake, for who asks and does not change."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from deltalake.exceptions import DeltaError

from spark_jobs.sql import queries, views
from vitrine import lake
from vitrine.cli import output, read_only
from vitrine.cli.sql_shell import Shell
from vitrine.errors import UserError, one_line
from vitrine.settings import Settings, load_settings


class Form(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"


Query = Annotated[str | None, typer.Argument(help="Spark SQL; tables and views are there by their names.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Do not have the file system refuse writes: take queries, and no other statement."),
]


def sql(
    query: Query = None,
    shell: Annotated[bool, typer.Option("--shell", help="Statement after statement, by hand or from a pipe.")] = False,
    form: Annotated[Form, typer.Option("--format", help="How rows are printed.")] = Form.table,
    limit: Annotated[int, typer.Option(min=1, help="The most rows printed.")] = 1000,
    trust: Trust = False,
) -> None:
    """Ask the tables, read-only: those of docs/tables.md, and the views and functions of docs/analysts.md."""
    settings = load_settings()
    if (query is None) == (not shell):
        raise UserError('give a query or --shell, and not both: vitrine sql "SELECT * FROM serving"')
    have_tables(settings)
    held = not trust and _hold(settings, needed=shell)
    from pyspark.logger import PySparkLogger

    # Spark logs a bad query with all its stack, and then raises it: what is raised says it.
    PySparkLogger.getLogger("SQLQueryContextLogger").disabled = True
    if shell:
        _shell(settings, form, limit, held)
    else:
        assert query is not None
        columns, rows = queries.ask(settings, query, limit, held=held)
        output.emit_rows(columns, rows, form.value)


def have_tables(settings: Settings) -> None:
    """What is not there yet is made now, while the lake can be written."""
    try:
        lake.create_tables(settings)
    except (OSError, DeltaError) as error:
        raise UserError(f"{str(settings.lake)!r} lacks tables and cannot be written ({one_line(error)})") from None


def _hold(settings: Settings, *, needed: bool) -> bool:
    """Is the lake held read-only? Where it cannot be, one query is taken as with ``--trust``, and a note says so."""
    try:
        read_only.hold(settings)
    except UserError as error:
        if needed:
            raise UserError(f"{error}, or pass --trust, which takes queries and no other statement") from None
        print(f"note: taken as with --trust: {error}", file=sys.stderr)
        return False
    return True


def _shell(settings: Settings, form: Form, limit: int, held: bool) -> None:
    print(f"opening {settings.lake}", file=sys.stderr, flush=True)
    asker = queries.Asker(settings, held=held)
    Shell(lambda statement: asker.ask(statement, limit), views.known(), form.value).run()
