"""The Spark session that every job uses: one a process, built and ended here."""

import os
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from spark_jobs import jvm
from spark_jobs.jars import ensure_jars, ensure_s3_jars
from vitrine import lake
from vitrine.settings import Settings
from vitrine.spark_conf import reads_s3, spark_conf


def build_session(settings: Settings, name: str, *sources: str, large: bool | None = None) -> SparkSession:
    """The session of this process, made when there is none, to read ``sources``; spark-submit's master and properties
    hold. For ``large`` tables its plans are compiled; left out: where the lake's are.

    Raises:
        VitrineError: Spark's jars are not what it needs, or its JVM did not start.
    """
    ensure_jars()
    if reads_s3(settings, *sources):
        ensure_s3_jars()
    lake.create_tables(settings)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    builder = SparkSession.builder.appName(f"vitrine {name}")
    master = _master(settings)
    compiled = lake.is_large(settings) if large is None else large
    conf = spark_conf(settings, *sources, master=master, large=compiled)
    # As a property it comes too late for a session built here: workers would run the first python3 of PATH.
    if "spark.pyspark.python" in settings.spark.conf or master.startswith("local"):
        os.environ["PYSPARK_PYTHON"] = conf["spark.pyspark.python"]
    else:
        os.environ.setdefault("PYSPARK_PYTHON", conf["spark.pyspark.python"])
    builder = builder.master(master)
    for key, value in conf.items():
        builder = builder.config(key, value)
    jvm.start({**conf, "spark.master": master})
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def _master(settings: Settings) -> str:
    if settings.spark.master:
        return settings.spark.master
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # spark-submit started this process, and was told the master
        SparkContext._ensure_initialized()
        return SparkConf().get("spark.master") or "local"
    return "local[*,4]"  # a worker that dies costs its task, not the night


def end_session() -> None:
    """End this process's session and its JVM, which keeps class path and options: the next session gets a new one."""
    if session := SparkSession.getActiveSession():
        session.stop()
    gateway: Any = SparkContext._gateway
    if gateway is not None:
        gateway.shutdown()
        if getattr(gateway, "proc", None):
            gateway.proc.stdin.close()
            gateway.proc.wait(120)
    SparkContext._gateway = None
    SparkContext._jvm = None
