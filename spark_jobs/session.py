"""The Spark session that every job uses: one a process, built and ended here."""

import atexit
import os
import re
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from spark_jobs import jvm, kept_jvm
from spark_jobs.jars import ensure_jars, ensure_s3_jars
from vitrine import lake
from vitrine.encoders import processor
from vitrine.settings import Settings
from vitrine.spark_conf import JAVA_OPTIONS, reads_s3, spark_conf, spark_jars

_borrowed: kept_jvm.Borrowed | None = None

_TASK_CORES = "spark.task.cpus"


def build_session(
    settings: Settings, name: str, *sources: str, large: bool | None = None, computing: bool = False
) -> SparkSession:
    """The session of this process, made when there is none, to read ``sources``; spark-submit's master and properties
    hold. For ``large`` tables its plans are compiled; left out: where the lake's are. For ``computing`` vectors with
    this machine's GPUs, no more tasks run at once than the GPUs have places, and share the cores between them.

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
    if master.startswith("local"):
        conf = (_gpu_places(settings, master) if computing else {}) | conf
        active = SparkSession.getActiveSession()
        if active and active.sparkContext.getConf().get(_TASK_CORES) != conf.get(_TASK_CORES):
            active.stop()  # a running one cannot change it; its JVM takes the next
    # As a property it comes too late for a session built here: workers would run the first python3 of PATH.
    if "spark.pyspark.python" in settings.spark.conf or master.startswith("local"):
        os.environ["PYSPARK_PYTHON"] = conf["spark.pyspark.python"]
    else:
        os.environ.setdefault("PYSPARK_PYTHON", conf["spark.pyspark.python"])
    builder = builder.master(master)
    for key, value in conf.items():
        builder = builder.config(key, value)
    properties = {**conf, "spark.master": master}
    if settings.spark.keep_jvm_seconds and master.startswith("local"):
        _borrow_jvm(settings, properties)
    jvm.start(properties)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def _borrow_jvm(settings: Settings, conf: dict[str, str]) -> None:
    """Let Spark's next context run in the home's kept JVM, if that can be had."""
    global _borrowed
    if SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ:  # or spark-submit has started it
        return
    jvm.leave_surroundings(conf)
    options = f"{conf.get(JAVA_OPTIONS, '')} -XX:+ExitOnOutOfMemoryError"  # none that ran out of memory is lent again
    command = [str(spark_jars().with_name("bin") / "spark-submit")]
    for key, value in (conf | {JAVA_OPTIONS: options}).items():
        command += ["--conf", f"{key}={value}"]
    kept = settings.spark
    _borrowed = kept_jvm.borrow(settings.home, kept.keep_jvm_seconds, kept.keep_jvm_for, [*command, "pyspark-shell"])
    if _borrowed is None:
        return
    os.environ |= {"PYSPARK_GATEWAY_PORT": str(_borrowed.port), "PYSPARK_GATEWAY_SECRET": _borrowed.secret}
    try:
        SparkContext._ensure_initialized()
        jvm.name_user(SparkContext._gateway)
    finally:
        del os.environ["PYSPARK_GATEWAY_PORT"], os.environ["PYSPARK_GATEWAY_SECRET"]
    atexit.register(end_session)


def _gpu_places(settings: Settings, master: str) -> dict[str, str]:
    """The properties by which each place on a GPU of this machine has one task, and each task its share of cores."""
    places = processor.gpus() * settings.embed.gpu_tasks if settings.embed.device != "cpu" else 0
    if not places:
        return {}
    threads = re.match(r"local\[(\d+)", master)
    cores = int(threads[1]) if threads else (os.cpu_count() or 1) if "*" in master else 1
    return {_TASK_CORES: str(max(1, cores // places)), "spark.default.parallelism": str(min(places, cores))}


def _master(settings: Settings) -> str:
    if settings.spark.master:
        return settings.spark.master
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # spark-submit started this process, and was told the master
        SparkContext._ensure_initialized()
        return SparkConf().get("spark.master") or "local"
    return "local[*,4]"  # a worker that dies costs its task, not the night


def end_session() -> None:
    """End this process's session and its JVM, which keeps class path and options: the next session gets a new one. A
    borrowed JVM is given back."""
    global _borrowed
    if session := SparkSession.getActiveSession():
        session.stop()
    gateway: Any = SparkContext._gateway
    if gateway is not None and _borrowed:
        gateway.jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
        gateway.close()
        _borrowed.give_back()
        _borrowed = None
    elif gateway is not None:
        gateway.shutdown()
        if getattr(gateway, "proc", None):
            gateway.proc.stdin.close()
            gateway.proc.wait(120)
    SparkContext._gateway = None
    SparkContext._jvm = None
