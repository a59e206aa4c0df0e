"""The process that Spark's Python workers are forked from (``spark.python.daemon.module``).

Where ``VITRINE_PRELOAD`` names backbones, their libraries and weights are loaded here, once a machine: every worker
finds them in memory that it shares with the others. Nothing is computed here, on processor or GPU: threads and CUDA
would not survive the fork.
"""

import gc
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from vitrine.encoders.backbones import Backbone, Facts
from vitrine.encoders.networks import Built, build

PRELOAD = "VITRINE_PRELOAD"
_built: dict[Backbone, Built] = {}


def preload_value(backbones: Sequence[tuple[Backbone, int]]) -> str:
    """What ``VITRINE_PRELOAD`` has to say: backbones with the dimension of their vectors."""
    return json.dumps([[asdict(backbone), dim] for backbone, dim in backbones])


def preloaded(backbone: Backbone) -> Built | None:
    """The network as the daemon loaded it, in a worker; None where it did not."""
    return _built.get(backbone)


def _preload() -> None:
    import torch

    torch.set_num_threads(1)
    for fields, dim in json.loads(os.environ[PRELOAD]):
        backbone = Backbone(**fields | {"facts": Facts(**fields["facts"]) if fields["facts"] else None})
        _built[backbone] = build(backbone, dim)
    gc.collect()
    gc.freeze()  # else the first collection in each worker copies every page


def leave_out_archives() -> None:
    """Let pyspark be imported from where it is installed, if it is, and not from the archives that Spark puts first.

    Before each task, a worker has all finders of modules look again (``importlib.invalidate_caches``): those of Spark's
    archives, a jar among them, read 27,000 entries then, in a third of a second.
    """
    folders = [path for path in sys.path if not path.endswith((".zip", ".jar"))]
    archived, sys.path[:] = list(sys.path), folders
    if importlib.util.find_spec("pyspark") is None or importlib.util.find_spec("py4j") is None:
        sys.path[:] = archived
        return
    for path in [path for path in sys.path_importer_cache if ".zip" in path or ".jar" in path]:
        del sys.path_importer_cache[path]


if __name__ == "__main__":
    leave_out_archives()
    from pyspark.daemon import manager

    sys.modules[__spec__.name] = sys.modules["__main__"]  # what workers import is what was run
    if os.environ.get(PRELOAD):
        out = os.dup(1)  # where Spark waits for the daemon's port, and for nothing else
        os.dup2(2, 1)
        try:
            _preload()
        except Exception as error:  # the task that needs it says it again, and better
            print(f"preloading failed: {error}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            os.dup2(out, 1)
            os.close(out)
    manager()
