"""A session's JVM: on this machine without another Spark's settings, and heard where it ends as it starts."""

import os
import re
import signal
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway

from spark_jobs.kept_jvm import NOISE
from vitrine import surroundings
from vitrine.errors import VitrineError
from vitrine.spark_conf import spark_jars

JAVAS = "Spark wants Java 17 to 22"
_NO_REASON = (
    *("Error: A fatal exception has occurred", "Error: Could not create the Java Virtual Machine"),
    *("Error occurred during initialization of VM", "\tat "),
)
_REASON = re.compile(r"[Ee]rror|Exception|[Uu]nrecognized|Conflicting|[Ii]nvalid")
_OTHER_JAVA = re.compile(r"UnsupportedClassVersion|getSubject|bin/java: |JAVA_HOME is not set|java: command not")
"""What a JVM says that is too old or too new, or the shell where there is none."""


def start(conf: dict[str, str]) -> None:
    """Start this process's JVM with the Spark properties ``conf``, where it has none; what it prints goes to stderr.

    Raises:
        VitrineError: it ended as it started; the message says what it said.
    """
    if SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ:  # or spark-submit has started it
        return
    leave_surroundings(conf)
    heard = _Heard()
    try:
        gateway = launch_gateway(
            SparkConf(loadDefaults=False).setAll(list(conf.items())), {"stdout": heard.end, "stderr": heard.end}
        )
    except PySparkRuntimeError as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise
        raise ended(heard.lines()) from None
    heard.pass_on()
    name_user(gateway)
    SparkContext._gateway, SparkContext._jvm = gateway, gateway.jvm


def name_user(gateway: Any) -> None:
    """Tell Hadoop who this is, where the machine does not know the account."""
    if name := surroundings.name_of_nobody():
        users = gateway.jvm.org.apache.hadoop.security.UserGroupInformation
        users.setLoginUser(users.createRemoteUser(name))


def leave_surroundings(conf: dict[str, str]) -> None:
    """Give this process, and its children, the environment that a JVM with the properties ``conf`` is started in."""
    if conf["spark.master"].startswith("local"):
        surroundings.leave_other_sparks()
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["SPARK_HOME"] = str(spark_jars().parent)  # else Spark's scripts look for it, by words between blanks


def ended(lines: Iterable[str]) -> VitrineError:
    """The error for a JVM that ended when it had said ``lines``."""
    said = [line.strip() for line in lines if line.strip() and not line.startswith((*NOISE, *_NO_REASON))]
    of_java = next(filter(_OTHER_JAVA.search, said), "")
    reason = of_java or next(filter(_REASON.search, said), said[-1] if said else "it gave no reason")
    java = os.environ.get("JAVA_HOME")
    took = f". {JAVAS}, and took {f'that of JAVA_HOME, {java}' if java else 'the first on PATH'}"
    return VitrineError(f"Spark's JVM ended as it started: {reason[:300]}{took if of_java else ''}")


class _Heard:
    """A file for a child to write to, whose lines are kept until they are asked for or passed on."""

    def __init__(self) -> None:
        read, self.end = os.pipe()
        self._lines: deque[bytes] = deque(maxlen=200)
        self._passed_on, self._lock = False, threading.Lock()
        self._thread = threading.Thread(target=self._read, args=(read,), daemon=True)
        self._thread.start()

    def _read(self, read: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the thread that waits for them
        with os.fdopen(read, "rb") as lines:
            for line in lines:
                with self._lock:
                    self._show(line) if self._passed_on else self._lines.append(line)

    def _show(self, line: bytes) -> None:
        if not line.startswith(tuple(word.encode() for word in NOISE)):
            os.write(2, line)

    def lines(self) -> list[str]:
        """All that was written, once nobody can write any more."""
        os.close(self.end)
        self._thread.join(5)
        return [line.decode(errors="replace") for line in self._lines]

    def pass_on(self) -> None:
        """From here on lines go to stderr, those that were kept first."""
        os.close(self.end)
        with self._lock:
            self._passed_on = True
            for line in self._lines:
                self._show(line)
