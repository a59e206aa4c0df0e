"""``vitrine sql-server``: Spark Connect over the lake."""

from typing import Annotated

import typer

from spark_jobs.sql import sql_server as server
from vitrine.cli import read_only
from vitrine.cli.verbs.sql import have_tables
from vitrine.settings import load_settings


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
    have_tables(settings)
    server.make_token(settings)
    read_only.hold(settings)
    server.serve(settings, host, port, thrift_port)
