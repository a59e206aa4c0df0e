"""The SQL server: Spark Connect, and Hive's Thrift protocol where asked for, over the lake, with the tables, views and
functions that ``vitrine sql`` has."""

import os
import secrets
import signal
import sys
from pathlib import Path

from spark_jobs.session import build_session, end_session
from spark_jobs.sql import thrift_server
from spark_jobs.sql.queries import lake_settings, open_lake
from spark_jobs.sql.views import EVERYTHING
from vitrine import addresses
from vitrine.errors import UserError
from vitrine.settings import Settings

TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"  # noqa: S105 (Spark's own name; clients read it too)


def token_file(settings: Settings) -> Path:
    """Where the token is that clients have to show, for whoever may read the home."""
    return settings.home / "sql_server.token"


def make_token(settings: Settings) -> None:
    """Have a token: the environment's, else the home's, made when there is none. To be called before the home is held
    read-only.

    Raises:
        UserError: there is none and the home cannot be written.
    """
    path = token_file(settings)
    if os.environ.get(TOKEN) or path.is_file():
        return
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except OSError as error:
        raise UserError(f"the server needs a token in {TOKEN}: {path} cannot be made ({error.strerror})") from None


def serve(settings: Settings, host: str, port: int, thrift_port: int | None = None) -> None:
    """Serve until SIGINT or SIGTERM, in a process that cannot write the lake: clients may run Python in it.

    Raises:
        UserError: an address cannot be had.
    """
    addresses.check_free(host, port, "--host or --port")
    if thrift_port:
        addresses.check_free(thrift_server.HOST, thrift_port, "--thrift-port")
    # By the environment, which the JVM inherits: anyone sees a command line.
    if not os.environ.get(TOKEN):
        os.environ[TOKEN] = token_file(settings).read_text().strip()
    conf = {
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": host,
        "spark.connect.grpc.binding.port": str(port),
    }
    ends = {signal.SIGINT, signal.SIGTERM}
    spark = build_session(lake_settings(settings, conf), "sql-server")
    try:
        # Clients start in Spark's default database, and each sees what lies there.
        open_lake(spark, settings, EVERYTHING, database="default")
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        urls = [f"sc://localhost:{port}"]
        if thrift_port:
            thrift_server.start(spark, thrift_port)
            urls.append(f"jdbc:hive2://localhost:{thrift_port}")
        print(f"serving {settings.lake} at {' and '.join(urls)} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        signal.sigwait(ends)
    finally:
        end_session()
