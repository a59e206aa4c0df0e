"""The Spark session that every job uses, Delta's jars, and progress on stderr."""

import importlib.metadata
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import DataFrame, SparkSession

from vitrine import lake
from vitrine.errors import VitrineError
from vitrine.settings import Settings
from vitrine.spark_conf import reads_s3, s3_jars, spark_conf, spark_jars
from vitrine.tables import Table

_MARKS = "delta.enableDeletionVectors"
_LARGE = 512 << 20
"""Bytes from which deletion vectors pay: 1 % of 300,000 rows x 512 merged in 26 s against 66 s; small tables lose."""
_IVY_SETTINGS = """<ivysettings>
  <settings defaultResolver="central"/>
  <resolvers><ibiblio name="central" m2compatible="true"/></resolvers>
</ivysettings>
"""
_AWS, _AWS_VERSION = "software.amazon.awssdk", "2.29.52"  # the version that Hadoop 3.4.2 is made with
_AWS_PARTS = ("s3", "s3-transfer-manager", "sts")


_ATTEMPTS = 6


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
    if settings.spark.master:
        master = settings.spark.master
    elif "PYSPARK_GATEWAY_PORT" in os.environ:  # under spark-submit, which said it
        SparkContext._ensure_initialized()
        master = SparkConf().get("spark.master") or "local"
    else:
        master = "local[*,4]"  # a worker that dies costs its task, not the night
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
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
    try:
        spark = builder.getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        java = os.environ.get("JAVA_HOME")
        where = f"that of JAVA_HOME, {java}" if java else "the first on PATH"
        raise VitrineError(  # the JVM may also have refused what [spark.conf] asks for
            f"Spark's JVM ended as it started; the lines above say why. Spark wants Java 17 to 22, and took {where}"
        ) from None
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def read_table(spark: SparkSession, settings: Settings, table: Table) -> DataFrame:
    """``table`` as it is now."""
    return spark.read.format("delta").load(table.uri(settings))


def merge_table(
    spark: SparkSession,
    settings: Settings,
    table: Table,
    source: DataFrame,
    within: str,
    keep: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
) -> None:
    """Bring the rows of ``table`` to those of ``source`` by key, in one commit.

    ``source`` has the table's columns and a boolean ``gone``: true deletes the row with that key. ``within`` is a
    condition on ``t`` that holds for every row that may be touched: it prunes partitions and keeps writers of other
    data sets from conflicting. The columns in ``keep`` hold their old value where a row is updated, those in ``known``
    where the source has null; a row with null there is never inserted.
    """
    from delta.tables import DeltaTable

    _mark_rather_than_copy(spark, settings, table)
    columns = table.schema.names
    same = " AND ".join(f"t.{column} = s.{column}" for column in table.key)
    whole = " AND ".join(["NOT s.gone", *(f"s.{column} IS NOT NULL" for column in known)])
    updated = {column: f"s.{column}" for column in columns if column not in keep}
    updated |= {column: f"coalesce(s.{column}, t.{column})" for column in known}

    def merge() -> None:
        both = (
            DeltaTable.forPath(spark, table.uri(settings))
            .alias("t")
            .merge(source.select(*columns, "gone").alias("s"), f"{within} AND {same}")
            .whenNotMatchedInsert(whole, values={column: f"s.{column}" for column in columns})
            .whenMatchedDelete("s.gone")
            .whenMatchedUpdate(set=updated)
        )
        with lake.committing(settings, table):
            both.execute()

    retried(f"merge into {table.name}", merge)


def append_table(settings: Settings, table: Table, source: DataFrame) -> None:
    """Add the rows of ``source``, which is as ``merge_table`` has it, in one commit.

    For keys of which the table has none yet, under a lock that keeps other writers of them away: a merge would hold all
    of the source on disk once more, and write with one task a partition.
    """
    rows = source.filter("NOT gone").select(*table.schema.names)

    def append() -> None:
        with lake.committing(settings, table):
            rows.write.format("delta").mode("append").save(table.uri(settings))

    retried(f"append to {table.name}", append)


def retried(what: str, commit: Callable[[], Any]) -> None:
    """Do ``commit`` again where another one came between its reading and its writing, as a compaction does.

    Raises:
        VitrineError: it lost that race time and again.
    """
    from delta import exceptions

    conflicts = tuple(getattr(exceptions, name) for name in exceptions.__all__)
    for attempt in range(_ATTEMPTS):
        try:
            commit()
            return
        except conflicts as error:
            if attempt == _ATTEMPTS - 1:
                raise VitrineError(
                    f"{what}: other writers came between {_ATTEMPTS} times ({type(error).__name__}): run it again"
                ) from None
            print(f"{what}: another writer was quicker ({type(error).__name__}): once more", file=sys.stderr)
            time.sleep(random.uniform(0.5, 2) * (attempt + 1))  # noqa: S311


def _mark_rather_than_copy(spark: SparkSession, settings: Settings, table: Table) -> None:
    """Give a large table deletion vectors: a change marks old rows then, where it would copy the files that hold them.

    On a small table they cost more than they spare: each change adds a file that every later read opens.
    """
    size, properties = lake.size(settings, table)
    if size < _LARGE or _MARKS in properties:
        return
    path = table.uri(settings).replace("`", "``")
    with lake.committing(settings, table):
        spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('{_MARKS}' = 'true')")


def spark_schema(schema: pa.Schema) -> Any:
    """An Arrow schema as Spark's."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)


def _check_spark(jars: Path) -> None:
    """SPARK_HOME is often there for others: their Spark gets no jar of ours."""
    version = pyspark.__version__.rsplit(".", 1)[0]
    cores = [core.name for core in jars.glob("spark-core_*.jar")]  # none where a vendor names its jars otherwise
    if not jars.is_dir() or (cores and not any(f"-{version}." in name for name in cores)):
        found = cores[0].removesuffix(".jar") if cores else "no Spark"
        raise VitrineError(
            f"SPARK_HOME is {jars.parent}, where {found} lies: it has to be Spark {version}; left out: pyspark's own"
        )


def ensure_jars() -> None:
    """Delta's jars beside Spark's own, fetched from Maven once: later starts ask nobody.

    Raises:
        VitrineError: they are not there and cannot be fetched; or SPARK_HOME names another Spark than pyspark's.
    """
    import delta

    jars = spark_jars()
    _check_spark(jars)
    if next(jars.glob(f"delta-spark_*-{importlib.metadata.version('delta-spark')}.jar"), None):
        return
    print("fetching Delta's jars (once)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="vitrine-ivy-") as folder:
        _resolve(Path(folder), "Delta's jars", delta.configure_spark_with_delta_pip)
        ours = jars / "vitrine-added.txt"
        for name in ours.read_text().split() if ours.exists() else []:  # an older Delta's
            (jars / name).unlink(missing_ok=True)
        fresh = _fresh(Path(folder), jars)
        ours.write_text("\n".join(fresh))
        # delta-spark itself goes last: that it is there says that all are.
        for name in sorted(fresh, key=lambda name: "delta-spark_" in name):
            partial = jars / f".{name}.part"
            shutil.copyfile(fresh[name], partial)
            partial.replace(jars / name)


def ensure_s3_jars() -> None:
    """What Spark reads and writes S3 with, fetched from Maven once, where its own jars have none (a vendor's do).

    Hadoop's module asks for all of AWS's programs in one jar of 500 MB; S3, its transfers, and STS (for roles) do.

    Raises:
        VitrineError: they are not there and cannot be fetched.
    """
    home, own = s3_jars(), spark_jars()
    if home.is_dir() or next(own.glob("hadoop-aws-*.jar"), None):
        return
    hadoop = next(own.glob("hadoop-client-api-*.jar")).stem.rsplit("-", 1)[1]
    wanted = (f"org.apache.hadoop:hadoop-aws:{hadoop}", *(f"{_AWS}:{name}:{_AWS_VERSION}" for name in _AWS_PARTS))
    print("fetching the jars for S3 (once)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="vitrine-ivy-") as folder:
        _resolve(
            Path(folder),
            "the jars for S3",
            lambda builder: builder.config("spark.jars.packages", ",".join(wanted)).config(
                "spark.jars.excludes", f"{_AWS}:bundle"
            ),
        )
        partial = Path(tempfile.mkdtemp(prefix=".jars-s3-", dir=home.parent))
        for name, jar in _fresh(Path(folder), own).items():
            shutil.copyfile(jar, partial / name)
        partial.chmod(0o755)
        try:
            partial.rename(home)
        except OSError:  # another process was quicker
            shutil.rmtree(partial)


def _resolve(folder: Path, what: str, configure: Callable[[Any], Any]) -> None:
    ivy = folder / "ivysettings.xml"
    ivy.write_text(_IVY_SETTINGS)
    builder = (
        SparkSession.builder.master("local[1]")
        .config("spark.jars.ivy", str(folder))
        .config("spark.jars.ivySettings", os.environ.get("VITRINE_IVY_SETTINGS", str(ivy)))
        .config("spark.ui.enabled", "false")
    )
    try:
        configure(builder).getOrCreate()
    except Exception as error:
        raise VitrineError(
            f"{what} are not there and could not be fetched from Maven Central; connect once, or name an "
            f"ivysettings.xml of a mirror in VITRINE_IVY_SETTINGS ({type(error).__name__})"
        ) from error
    finally:
        end_session()


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


def _fresh(folder: Path, own: Path) -> dict[str, Path]:
    """By name, the jars that Ivy put under ``folder`` (``group_artifact-1.2.3.jar``) and ``own`` has in no version."""
    have = {path.name.rsplit("-", 1)[0] for path in own.glob("*.jar")}
    found = {jar.name.split("_", 1)[1]: jar for jar in (folder / "jars").glob("*.jar")}
    return {name: jar for name, jar in found.items() if name.rsplit("-", 1)[0] not in have}


@contextmanager
def progress(spark: SparkSession, what: str, total: int | None = None) -> Iterator[None]:
    """Draw how far Spark's stages are, on stderr, while the block runs; plain lines where stderr is no terminal.

    ``total`` is the number of items that the block works on; tasks hold equal shares of them.
    """
    done = threading.Event()
    thread = threading.Thread(target=_draw, args=(spark, what, total, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _draw(spark: SparkSession, what: str, total: int | None, done: threading.Event) -> None:
    from tqdm import tqdm

    tracker = spark.sparkContext.statusTracker()
    seen: dict[int, tuple[int, int]] = {}
    with tqdm(
        total=total or 1,
        desc=what,
        unit=" photos",
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        bar_format=None if total else "{desc}: {percentage:3.0f}% {elapsed}",
    ) as bar:
        said = start = time.monotonic()
        while not done.wait(0.5):
            for stage in tracker.getActiveStageIds():
                info = tracker.getStageInfo(stage)
                if info:
                    seen[stage] = (info.numCompletedTasks, info.numTasks)
            widest = max((tasks for _, tasks in seen.values()), default=0)
            finished = max((n for n, tasks in seen.values() if tasks == widest), default=0)
            bar.n = round((total or 1) * finished / widest) if widest else 0
            bar.refresh()
            if bar.disable and time.monotonic() - said > 10:  # a log, not a terminal: a line now and then
                said = time.monotonic()
                far = f"{bar.n} of {total}, " if total else ""
                print(f"{what}: {far}{said - start:.0f} s", file=sys.stderr, flush=True)
        bar.n = total or 1
        bar.refresh()


if __name__ == "__main__":  # the set-up's call; --s3 for what lies on S3
    ensure_jars()
    if "--s3" in sys.argv[1:]:
        ensure_s3_jars()
