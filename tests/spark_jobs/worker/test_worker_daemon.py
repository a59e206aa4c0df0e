"""The process that workers are forked from."""

import os
import subprocess
import sys

from spark_jobs.worker.worker_daemon import PRELOAD, preload_value
from vitrine.encoders.backbones import Backbone

# Spark runs the module by its name; where its own loop would begin, ask as the encoder asks in a worker.
PROGRAM = """
import runpy
import pyspark.daemon

def manager():
    from spark_jobs.worker.worker_daemon import preloaded
    from vitrine.encoders.backbones import Backbone
    for at in (1, 2):
        weights = f"random:{at}"
        network = preloaded(Backbone("small", "torchvision", "squeezenet1_0", "x", weights=weights, input_size=64))
        print(network and network.dim)

pyspark.daemon.manager = manager
runpy.run_module("spark_jobs.worker.worker_daemon", run_name="__main__", alter_sys=True)
"""


def test_workers_find_what_the_daemon_loaded():
    small = Backbone("small", "torchvision", "squeezenet1_0", "x", weights="random:1", input_size=64)
    env = os.environ | {PRELOAD: preload_value([(small, 512)])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True)
    assert done.stdout == "512\nNone\n", done.stderr[-3000:]
