"""``staging/DATASET/encoder_version=VERSION/``: vectors by content that wait for their commit, beside the tables.

Executors write there, so it is written and cleared as they do it: by Hadoop's file systems, local or S3 alike.
"""

from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession

from vitrine import s3
from vitrine.settings import Settings


def folder(settings: Settings, dataset: str, encoder_version: str | None = None) -> str:
    """The staging of a data set, or of one version's part of it."""
    part = "" if encoder_version is None else f"/encoder_version={encoder_version}"
    return f"{settings.staging}/{dataset}{part}"


def has_vectors(spark: SparkSession, uri: str) -> bool:
    """Has a task ended that wrote to ``uri``?"""
    return any(name.endswith(".parquet") for name in _names(spark, uri))


def clear(spark: SparkSession, settings: Settings, dataset: str, encoder_version: str) -> None:
    """Forget the checkpoints of one version, and the data set's folder with the last of them."""
    _remove(spark, folder(settings, dataset, encoder_version))
    if not any(name.startswith("encoder_version=") for name in _names(spark, folder(settings, dataset))):
        _remove(spark, folder(settings, dataset))


def left(settings: Settings, dataset: str, encoder_version: str) -> bool:
    """Are there checkpoints of the version? Asked without Spark."""
    from pyarrow.fs import FileSystem, FileType

    system, path = FileSystem.from_uri(s3.plain(folder(settings, dataset, encoder_version)))
    return bool(system.get_file_info(path).type != FileType.NotFound)


def remove_stale(spark: SparkSession, settings: Settings, until: float) -> int:
    """Remove the data sets' checkpoints that nobody touched since ``until``, seconds since 1970; how many."""
    names = _names(spark, settings.staging)
    stale = [name for name in names if _touched(spark, f"{settings.staging}/{name}") < until]
    for name in stale:
        _remove(spark, f"{settings.staging}/{name}")
    return len(stale)


def _open(spark: SparkSession, uri: str) -> tuple[Any, Any]:
    jvm: Any = spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(uri)
    return path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf()), path


def _names(spark: SparkSession, uri: str) -> list[str]:
    system, path = _open(spark, uri)
    return [found.getPath().getName() for found in system.listStatus(path)] if system.exists(path) else []


def _touched(spark: SparkSession, uri: str) -> float:
    """When the newest of the files below ``uri`` was written; without one, when the folder was."""
    system, path = _open(spark, uri)
    times = list(_file_times(system.listFiles(path, True)))
    return (max(times) if times else system.getFileStatus(path).getModificationTime()) / 1000


def _file_times(files: Any) -> Iterator[int]:
    while files.hasNext():
        yield files.next().getModificationTime()


def _remove(spark: SparkSession, uri: str) -> None:
    system, path = _open(spark, uri)
    system.delete(path, True)
