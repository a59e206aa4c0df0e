"""Spark SQL over the lake, for ``vitrine sql``: the tables by their names, and what ``views`` defines beside them."""

import hashlib
from collections.abc import Set
from datetime import UTC
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession
from pyspark.sql.types import ArrayType, DataType, MapType, StructType, TimestampType

from spark_jobs.delta_tables import grow_table
from spark_jobs.session import build_session
from spark_jobs.sql import vector_functions
from spark_jobs.sql.views import EVERYTHING, TABLE_FUNCTIONS, VECTOR_FUNCTIONS, VIEWS, named_in
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import CATALOG, LABELS, TABLES

_LOOKS = (["describe"], ["desc"], ["show"], ["explain"])
# How Spark, Delta and Hadoop say that a file could not be written.
_UNWRITABLE = (
    *("Read-only file system", "Permission denied", "Mkdirs failed", "failed to create", "Cannot create file"),
    *("CANNOT_CREATE_LOG_PATH", "Unable to clear output"),
)


def lake_settings(settings: Settings, more: dict[str, str] | None = None) -> Settings:
    """``settings`` for a session that asks: its catalog is its own, and a table made without a path would lie in the
    lake, which is not to be written."""
    conf = {
        **settings.spark.conf,
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": settings.lake_root,
        "spark.sql.execution.arrow.maxRecordsPerBatch": "4096",  # vectors are smaller than photos
        **(more or {}),
    }
    own = {"conf": conf, "keep_jvm_seconds": 0}  # another's JVM could write what this process is kept from writing
    return settings.model_copy(update={"spark": settings.spark.model_copy(update=own)})


class Asker:
    """A session of its own over one lake; what a statement names is opened when it is first named."""

    def __init__(self, settings: Settings, *, held: bool = False) -> None:
        """``held``: the file system refuses writes, so any statement may be tried. Else only what is a query in
        brackets, or begins as one that describes, is taken: Delta would also delete, update and insert."""
        self.spark = build_session(lake_settings(settings), "sql").newSession()
        self._settings, self._held = settings, held
        self._opened: set[str] = set()

    def ask(self, statement: str, limit: int) -> tuple[list[str], list[list[Any]]]:
        """Columns and at most ``limit`` rows of one statement.

        Raises:
            UserError: Spark cannot parse, resolve or compute it, or it would write; one line says which.
        """
        text = statement.strip().rstrip(";")
        first = text.lower().split(maxsplit=1)[:1]
        names = EVERYTHING if first == ["show"] else named_in(text)
        if fresh := names - self._opened:
            open_lake(self.spark, self._settings, names)
            self._opened |= fresh
        try:
            frame = self.spark.sql(text if self._held or first in _LOOKS else f"SELECT * FROM (\n{text}\n)")
            if not frame.columns:
                return [], []
            kinds = [field.dataType for field in frame.schema]
            rows = frame.limit(limit).collect()
            return frame.columns, [[_in_utc(*cell) for cell in zip(row, kinds, strict=True)] for row in rows]
        except (PySparkException, Py4JError) as error:
            raise _mistake(error) from None


def _in_utc(value: Any, kind: DataType) -> Any:
    """``value``, of Spark's type ``kind``, with its moments in UTC: pyspark gives naive ones of this process's zone."""
    if value is None:
        return None
    if isinstance(kind, TimestampType):
        return value.astimezone(UTC)
    if isinstance(kind, ArrayType):
        return [_in_utc(item, kind.elementType) for item in value]
    if isinstance(kind, MapType):
        return {_in_utc(key, kind.keyType): _in_utc(item, kind.valueType) for key, item in value.items()}
    if isinstance(kind, StructType):
        return Row(*kind.names)(*(_in_utc(*cell) for cell in zip(value, [f.dataType for f in kind], strict=True)))
    return value


def ask(settings: Settings, query: str, limit: int, *, held: bool = False) -> tuple[list[str], list[list[Any]]]:
    """Columns and at most ``limit`` rows of ``query``; ``held`` and what it raises as ``Asker`` has them."""
    return Asker(settings, held=held).ask(query, limit)


def open_session(settings: Settings) -> SparkSession:
    """A session of its own in which everything is known, for a notebook."""
    spark = build_session(lake_settings(settings), "notebook").newSession()
    open_lake(spark, settings, EVERYTHING)
    return spark


def open_lake(spark: SparkSession, settings: Settings, names: Set[str], database: str | None = None) -> None:
    """Make ``names`` known in ``spark``: tables as external ones, which can be asked as of a time, and views and
    functions. They lie in ``database``; left out: in one for this lake alone, which becomes the session's."""
    if database is None:
        database = f"vitrine_{hashlib.sha256(settings.lake_root.encode()).hexdigest()[:8]}"
        spark.sql(f"CREATE DATABASE IF NOT EXISTS {database} LOCATION {_literal(settings.lake_root)}")
    spark.sql(f"USE {database}")
    for name, table in TABLES.items():
        if name in names:
            if table in (CATALOG, LABELS):  # views name columns that those of an earlier version have not
                grow_table(spark, settings, table)
            path = _literal(table.uri(settings))
            spark.sql(f"CREATE TABLE IF NOT EXISTS {name} USING delta LOCATION {path}")
    for name, view in VIEWS.items():
        if name in names:
            spark.sql(f"CREATE VIEW IF NOT EXISTS {name} COMMENT {_literal(view.about)} AS {view.sql}")
    if names & (VECTOR_FUNCTIONS.keys() | TABLE_FUNCTIONS.keys()):
        vector_functions.register(spark)
    for name, function in TABLE_FUNCTIONS.items():
        if name in names:
            spark.sql(f"CREATE FUNCTION IF NOT EXISTS {function.sql}")


def _mistake(error: Exception) -> UserError:
    cause = getattr(error, "java_exception", None)  # of what Spark has no class of errors for in Python
    while cause is not None and cause.getCause() is not None:
        cause = cause.getCause()
    message = str(cause.toString() if cause is not None else error)
    line = " ".join(message.split("JVM stacktrace")[0].split())
    if any(sign in f"{message} {error}" for sign in _UNWRITABLE):
        return UserError(f"refused: the lake is read-only here ({line[:150]})")
    return UserError(f"bad query: {line[:400]} (tables: {', '.join(TABLES)}; views: {', '.join(VIEWS)})")


def _literal(text: str) -> str:
    """``text`` as a string literal of Spark SQL, where a backslash escapes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
