"""The jars that Spark needs beside its own: Delta's, and those for S3.

``python -m spark_jobs.jars`` is the set-up's call; with ``--s3`` it fetches those for S3 too.
"""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from pathlib import Path

import delta
import pyspark
from pyspark import SparkConf
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from vitrine import surroundings
from vitrine.errors import VitrineError
from vitrine.spark_conf import s3_jars, spark_jars

_IVY_SETTINGS = """<ivysettings>
  <settings defaultResolver="central"/>
  <resolvers><ibiblio name="central" m2compatible="true"/></resolvers>
</ivysettings>
"""
_AWS, _AWS_VERSION = "software.amazon.awssdk", "2.29.52"  # the version that Hadoop 3.4.2 is made with
_AWS_PARTS = ("s3", "s3-transfer-manager", "sts")


def ensure_jars() -> None:
    """Delta's jars beside Spark's own, fetched from Maven once: later starts ask nobody.

    Raises:
        VitrineError: they are not there and cannot be fetched; or SPARK_HOME names another Spark than pyspark's.
    """
    jars = spark_jars()
    _check_spark(jars)
    if next(jars.glob(f"delta-spark_*-{importlib.metadata.version('delta-spark')}.jar"), None):
        return
    print("fetching Delta's jars (once)", file=sys.stderr)
    # Its builder knows the name of the jar that fits this Spark.
    wanted = delta.configure_spark_with_delta_pip(SparkSession.builder)._options["spark.jars.packages"]
    with tempfile.TemporaryDirectory(prefix="vitrine-ivy-") as folder:
        _fetch(Path(folder), "Delta's jars", wanted)
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


def _check_spark(jars: Path) -> None:
    """SPARK_HOME is often there for others: their Spark gets no jar of ours."""
    version = pyspark.__version__.rsplit(".", 1)[0]
    cores = [core.name for core in jars.glob("spark-core_*.jar")]  # none where a vendor names its jars otherwise
    if not jars.is_dir() or (cores and not any(f"-{version}." in name for name in cores)):
        other = cores[0].removesuffix(".jar") if cores else "no Spark"
        raise VitrineError(
            f"SPARK_HOME is {jars.parent}, where {other} lies: it has to be Spark {version}; left out: pyspark's own"
        )


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
        _fetch(Path(folder), "the jars for S3", ",".join(wanted), without=f"{_AWS}:bundle")
        partial = Path(tempfile.mkdtemp(prefix=".jars-s3-", dir=home.parent))
        for name, jar in _fresh(Path(folder), own).items():
            shutil.copyfile(jar, partial / name)
        partial.chmod(0o755)
        try:
            partial.rename(home)
        except OSError:  # another process was quicker
            shutil.rmtree(partial)


def _fetch(folder: Path, what: str, wanted: str, without: str = "") -> None:
    """Have Spark's launcher put the Maven packages ``wanted``, and what they ask for, into ``folder``; its JVM ends."""
    ivy = folder / "ivysettings.xml"
    ivy.write_text(_IVY_SETTINGS)
    conf = {
        "spark.master": "local[1]",
        "spark.jars.packages": wanted,
        "spark.jars.excludes": without,
        "spark.jars.ivy": str(folder),
        "spark.jars.ivySettings": os.environ.get("VITRINE_IVY_SETTINGS", str(ivy)),
    }
    try:
        gateway = launch_gateway(SparkConf(loadDefaults=False).setAll(list(conf.items())))
    except PySparkRuntimeError as error:
        raise VitrineError(
            f"{what} are not there and could not be fetched from Maven Central; connect once, or name an "
            f"ivysettings.xml of a mirror in VITRINE_IVY_SETTINGS ({type(error).__name__})"
        ) from error
    gateway.shutdown()
    if gateway.proc:
        gateway.proc.stdin.close()
        gateway.proc.wait(120)


def _fresh(folder: Path, own: Path) -> dict[str, Path]:
    """By name, the jars that Ivy put under ``folder`` (``group_artifact-1.2.3.jar``) and ``own`` has in no version."""
    have = {path.name.rsplit("-", 1)[0] for path in own.glob("*.jar")}
    fetched = {jar.name.split("_", 1)[1]: jar for jar in (folder / "jars").glob("*.jar")}
    return {name: jar for name, jar in fetched.items() if name.rsplit("-", 1)[0] not in have}


if __name__ == "__main__":
    surroundings.leave_other_sparks()
    ensure_jars()
    if "--s3" in sys.argv[1:]:
        ensure_s3_jars()
