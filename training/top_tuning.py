"""The process of a top-tuning: ``python -m training.top_tuning FOLDER [--estimate]``.

TensorFlow and torch never share a process, so this one is TensorFlow's. Its work is ``training.top_protocol``.
"""

import os
import sys
from multiprocessing import forkserver, get_context

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def load_tensorflow_beside() -> None:
    """Start the process that a search's workers are forked from: it loads TensorFlow, once, while the caller goes on.

    It computes nothing: a fork of a process that has started TensorFlow's threads hangs.
    """
    get_context("forkserver").set_forkserver_preload(["training.perceptron"])
    forkserver.ensure_running()


if __name__ == "__main__":  # workers import this file too, under another name
    arguments = sys.argv[1:]
    if "--estimate" not in arguments:
        load_tensorflow_beside()
    # Not at the top: TensorFlow takes seconds to load, and both processes load it at the same time.
    from training import top_protocol
    from training.tuning_process import run

    run(top_protocol.tune, top_protocol.estimate, arguments)
