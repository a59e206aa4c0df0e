"""Spark SQL over all tables, for ``vitrine sql``."""

from typing import Any

from spark_jobs.session import build_session, read_table
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import TABLES


def ask(settings: Settings, query: str, limit: int) -> tuple[list[str], list[list[Any]]]:
    """Columns and at most ``limit`` rows of ``query``; the tables are temporary views by their names.

    Raises:
        UserError: Spark cannot parse, resolve or compute the query.
    """
    from pyspark.errors import PySparkException

    spark = build_session(settings, "sql")
    for table in TABLES.values():
        read_table(spark, settings, table).createOrReplaceTempView(table.name)
    try:
        # In brackets nothing but a query parses: through these views Delta would also delete, update and insert.
        looks = query.lower().split(maxsplit=1)[:1] in (["describe"], ["desc"], ["show"], ["explain"])
        frame = spark.sql(query if looks else f"SELECT * FROM (\n{query.strip().rstrip(';')}\n)")
        return frame.columns, [list(row) for row in frame.limit(limit).collect()]
    except PySparkException as error:
        said = " ".join((str(error).split("JVM stacktrace")[0]).split())[:400]
        raise UserError(f"bad query: {said} (tables: {', '.join(TABLES)})") from None
