"""The set-up's call: an archive of the classes that Vitrine's jobs load, so that later JVMs start sooner.

Class-data sharing (JDK 13 and newer; JEP 350): a JVM that is given the archive maps classes that are parsed and
verified already. One of another Java, or of other jars, is passed over by the JVM: then all is as without it.
"""

import os
import sys
import tempfile
from pathlib import Path

from spark_jobs.ingest_catalog import ingest
from spark_jobs.session import build_session, end_session
from vitrine.setting_sections import SparkSettings
from vitrine.settings import Settings
from vitrine.spark_conf import JAVA_OPTIONS, class_archive, spark_conf


def make_archive() -> None:
    """Ingest a small catalog, and keep the classes that it took."""
    path = class_archive()
    path.unlink(missing_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    with tempfile.TemporaryDirectory(prefix="vitrine-classes-") as folder:
        settings = Settings(root=Path(folder), home=Path(folder) / "home")
        options = f"{spark_conf(settings)[JAVA_OPTIONS]} -XX:ArchiveClassesAtExit={partial} -Xlog:disable"
        settings = settings.model_copy(update={"spark": SparkSettings(conf={JAVA_OPTIONS: options})})
        build_session(settings, "class archive")
        ingest(settings, "2x2", "classes", "generated")
        end_session()
    partial.replace(path)


if __name__ == "__main__":
    make_archive()
    print(class_archive(), file=sys.stderr)
