"""``vitrine sql`` and ``vitrine sql-server``: Spark SQL over the lake, for who asks and does not change."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from deltalake.exceptions import DeltaError

from vitrine import lake
from vitrine.cli import output, read_only
from vitrine.errors import UserError
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
    _have_tables(settings)
    held = not trust and _hold(settings, needed=shell)
    from pyspark.logger import PySparkLogger

    # Spark logs a bad query with all its stack, and then raises it: what is raised says it.
    PySparkLogger.getLogger("SQLQueryContextLogger").disabled = True
    if shell:
        _shell(settings, form, limit, held)
    else:
        from spark_jobs.sql.queries import ask

        assert query is not None
        columns, rows = ask(settings, query, limit, held=held)
        output.emit_rows(columns, rows, form.value)


def _have_tables(settings: Settings) -> None:
    """What is not there yet is made now, while the lake can be written."""
    try:
        lake.create_tables(settings)
    except (OSError, DeltaError) as error:
        said = str(error).splitlines()[0][:150]
        raise UserError(f"{str(settings.lake)!r} lacks tables and cannot be written ({said})") from None


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
    from spark_jobs.sql.queries import Asker
    from spark_jobs.sql.views import known
    from vitrine.cli.sql_shell import Shell

    print(f"opening {settings.lake}", file=sys.stderr, flush=True)
    asker = Asker(settings, held=held)
    Shell(lambda statement: asker.ask(statement, limit), known(), form.value).run()


def sql_server(
    host: Annotated[
        str, typer.Option(help="The address to listen at; another machine's clients need TLS before it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 15002,
    thrift_port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, help="Also for BI tools, by JDBC or ODBC (Hive's Thrift), on this machine."),
    ] = None,
) -> None:
    """Spark Connect over the lake, read-only, for pyspark and what else speaks it: until Ctrl-C."""
    settings = load_settings()
    from spark_jobs.sql.sql_server import make_token, serve

    _have_tables(settings)
    make_token(settings)
    read_only.hold(settings)
    serve(settings, host, port, thrift_port)
