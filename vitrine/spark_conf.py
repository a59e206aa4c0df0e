"""What every Spark session of Vitrine needs, as plain Spark properties: for a session built here or by spark-submit."""

import importlib.util
import os
import sys
from pathlib import Path

from vitrine import s3
from vitrine.settings import Settings

_QUIET = Path(__file__).with_name("log4j2.properties")
# Java writes a class for each method that reflection calls some times: that pays from thousands of calls on.
_JVM = "-XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC -Dsun.reflect.inflationThreshold=10000"
# On one machine the photos are the work and the plans are small: compiling them costs more than running them, until
# the tables are large (``lake.is_large``).
# Of C1 alone the JVM expects 48 MB of code; Spark makes more, and without room it would compile nothing any more.
_COMPILE_LESS = "-XX:TieredStopAtLevel=1"
_GENERATE_NOTHING = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
# How many parts a shuffle has is Spark's own choice there: 200 at most, of which it joins small ones.
_CLUSTER = {"spark.driver.memory": "4g"}
JAVA_OPTIONS = "spark.driver.extraJavaOptions"


def spark_jars() -> Path:
    """The folder of Spark's own jars."""
    spec = importlib.util.find_spec("pyspark")  # found, not imported: the scheduler reads this module
    home = os.environ.get("SPARK_HOME") or (Path(spec.origin).parent if spec and spec.origin else "")
    return Path(home) / "jars"


def class_archive() -> Path:
    """Where the set-up keeps the archive of classes (``spark_jobs.class_archive``): beside Spark's jars."""
    return spark_jars() / "vitrine.jsa"


def s3_jars() -> Path:
    """Where ``python -m spark_jobs.jars --s3`` puts the jars that read S3: not among Spark's own, so that a JVM
    that does without them goes on using the archive of classes."""
    return spark_jars().with_name("jars-s3")


def reads_s3(settings: Settings, *sources: str) -> bool:
    """Does Spark itself read or write S3: the lake, a nightly table, or any of ``sources``?"""
    tables = (item.source for item in settings.nightly.datasets if item.layout == "table")
    return any(s3.is_s3(uri) for uri in (settings.lake_root, *tables, *sources))


def s3_conf(settings: Settings, *sources: str) -> dict[str, str]:
    """Spark's properties for S3, where ``reads_s3``; else none."""
    return s3.spark_properties(sorted(s3_jars().glob("*.jar"))) if reads_s3(settings, *sources) else {}


def _one_machine(large: bool) -> dict[str, str]:
    archive = class_archive()
    options = [f"-Dlog4j2.configurationFile={_QUIET.as_uri()}", _JVM]
    options += [] if large else [_COMPILE_LESS]
    # In quotes, as a path may have blanks. Java asks the system for the home, which does not know every account.
    options += [f'-XX:SharedArchiveFile="{archive}"'] if archive.is_file() else []
    options += [f'-Duser.home="{home}"'] if (home := os.environ.get("HOME")) else []
    sized = {"spark.driver.memory": "2g", "spark.sql.shuffle.partitions": "32" if large else "4"}
    return {JAVA_OPTIONS: " ".join(options)} | sized | ({} if large else _GENERATE_NOTHING)


def spark_conf(settings: Settings, *sources: str, master: str | None = None, large: bool = False) -> dict[str, str]:
    """Spark properties, for a job that reads ``sources`` on ``master`` (left out: what the settings say, else this
    machine), and on one machine for tables that are ``large`` or not; ``[spark.conf]`` of vitrine.toml goes last and
    wins."""
    return {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",  # Feast's online rows shift and get lost in any other
        # Delta's and Spark's defaults are for huge tables; these are right up to some millions of rows.
        "spark.databricks.delta.snapshotPartitions": "1",
        # How long time travel reaches back is `vitrine maintain --keep-days`, not Delta's 7 days.
        "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": "false",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",  # VACUUM makes that many tasks a table: 10,000
        # No two numbers of a vector are equal: looking for such takes longer than all else of writing it.
        "spark.hadoop.parquet.enable.dictionary#embedding.list.element": "false",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "256",
        "spark.pyspark.python": sys.executable,
        "spark.pyspark.driver.python": sys.executable,
        "spark.python.daemon.module": "spark_jobs.worker.worker_daemon",
        # OpenMP threads that spin make two busy workers several times slower.
        "spark.executorEnv.OMP_WAIT_POLICY": "PASSIVE",
        "spark.executorEnv.PYTHONSAFEPATH": "1",  # a module of the folder that it starts in is none of ours
        "spark.executorEnv.TZ": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        JAVA_OPTIONS: f"-Dlog4j2.configurationFile={_QUIET.as_uri()}",
        "spark.sql.warehouse.dir": str(settings.home / "warehouse"),
        **(_one_machine(large) if (master or settings.spark.master or "local").startswith("local") else _CLUSTER),
        **s3_conf(settings, *sources),
        **settings.spark.conf,
    }
