"""``staging/DATASET/encoder_version=VERSION/``: vectors by content that wait for their commit, beside the tables.

Spark's executors write there; what is listed and removed here needs no Spark. The folder is local or on S3.
"""

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from vitrine import s3
from vitrine.settings import Settings


def folder(settings: Settings, dataset: str, encoder_version: str | None = None) -> str:
    """The staging of a data set, or of one version's part of it."""
    part = "" if encoder_version is None else f"/encoder_version={encoder_version}"
    return f"{settings.staging}/{dataset}{part}"


def has_vectors(settings: Settings, dataset: str, encoder_version: str) -> bool:
    """Has a task ended that computed vectors of the version?"""
    return any(info.extension == "parquet" for info in _list(folder(settings, dataset, encoder_version)))


def clear(settings: Settings, dataset: str, encoder_version: str) -> None:
    """Forget the checkpoints of one version, and the data set's folder with the last of them."""
    _remove(folder(settings, dataset, encoder_version))
    if not any(info.base_name.startswith("encoder_version=") for info in _list(folder(settings, dataset))):
        _remove(folder(settings, dataset))


def left(settings: Settings, dataset: str, encoder_version: str) -> bool:
    """Are there checkpoints of the version?"""
    system, path = _open(folder(settings, dataset, encoder_version))
    return bool(system.get_file_info(path).type != FileType.NotFound)


def remove_stale(settings: Settings, until: float) -> int:
    """Remove the data sets' checkpoints that nobody touched since ``until``, seconds since 1970; how many."""
    stale = [info for info in _list(settings.staging) if _touched(settings, info) < until]
    for info in stale:
        _remove(folder(settings, info.base_name))
    return len(stale)


def _touched(settings: Settings, dataset: FileInfo) -> float:
    """When the newest file of a data set's folder was written; without one, when the folder was: S3 cannot say that
    of a folder, which then counts as new."""
    below = _list(folder(settings, dataset.base_name), recursive=True)
    files = [info for info in below if info.type == FileType.File] or [dataset]
    return max(float("inf") if info.mtime is None else info.mtime.timestamp() for info in files)


def _open(uri: str) -> tuple[FileSystem, str]:
    system, path = FileSystem.from_uri(s3.plain(uri))
    return system, path


def _list(uri: str, *, recursive: bool = False) -> list[FileInfo]:
    """What lies in a folder; nothing where there is none."""
    system, path = _open(uri)
    return list(system.get_file_info(FileSelector(path, allow_not_found=True, recursive=recursive)))


def _remove(uri: str) -> None:
    system, path = _open(uri)
    if system.get_file_info(path).type == FileType.NotFound:
        return
    # The innermost first: Arrow asks S3 for all at once, and stores that keep real folders refuse full ones.
    folders = [info.path for info in _list(uri, recursive=True) if info.type == FileType.Directory]
    for each in (*sorted(folders, reverse=True), path):
        system.delete_dir(each)
