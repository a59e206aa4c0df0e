"""``staging/DATASET/encoder_version=VERSION/``: vectors by content that wait for their commit, beside the tables."""

from vitrine import s3
from vitrine.settings import Settings


def folder(settings: Settings, dataset: str, encoder_version: str | None = None) -> str:
    """The staging of a data set, or of one version's part of it."""
    part = "" if encoder_version is None else f"/encoder_version={encoder_version}"
    return f"{settings.staging}/{dataset}{part}"


def left(settings: Settings, dataset: str, encoder_version: str) -> bool:
    """Are there checkpoints of the version? Asked without Spark."""
    from pyarrow.fs import FileSystem, FileType

    system, path = FileSystem.from_uri(s3.plain(folder(settings, dataset, encoder_version)))
    return bool(system.get_file_info(path).type != FileType.NotFound)
