"""One JVM for several verbs of a home, one after the other on one machine: a keeper owns it, and a verb borrows it.

Code that has run once in a JVM runs several times faster, and a night's verbs run the same code. The keeper is a
process of its own (``python -m spark_jobs.kept_jvm``); who borrows holds a connection to it. A verb that gives the JVM
back has ended its session; one whose connection breaks was killed, and its JVM is killed with it, whatever it was
doing. Who asks while the JVM is out, or in another environment while it is wanted, starts one of its own as ever.
"""

import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrine import locks, surroundings

_TICK_S, _START_S = 0.5, 120.0
NOISE = ("WARNING: Using incubator modules", "Setting ", "To adjust logging level", "Picked up ")
"""How lines begin that say nothing: the JVM's, and Spark's on how loud it is."""
_OF_THE_CALL = ("_", "COLUMNS", "LINES", "OLDPWD", "PWD", "SHLVL")
"""Of the environment: what differs from call to call and decides nothing in a JVM; Airflow's variables are such too."""


# ---- the verb's side ----


@dataclass
class Borrowed:
    """A JVM on loan: where it listens, and the connection that has to last as long as it is used."""

    port: int
    secret: str
    _connection: socket.socket

    def give_back(self) -> None:
        """Its session has ended; the next verb may have it."""
        with suppress(OSError):
            self._connection.sendall(b"done\n")
        self._connection.close()


def borrow(home: Path, seconds: int, owner: int | None, command: list[str]) -> Borrowed | None:
    """The JVM that ``command`` (spark-submit with its options) starts, of the keeper of ``home``; None where that one
    is out, or there can be none.

    ``seconds``: how long the keeper waits for the next borrower; ``owner``: a process that it does not outlive.
    """
    address = _address(home)
    if address is None:
        return None
    connection = _connect(address)
    if connection is None:
        _start_keeper(address, seconds, owner)
        deadline = time.monotonic() + 10
        while connection is None and time.monotonic() < deadline:
            time.sleep(0.02)
            connection = _connect(address)
    if connection is None:
        return None
    own = {k: v for k, v in os.environ.items() if k not in _OF_THE_CALL and not k.lstrip("_").startswith("AIRFLOW")}
    asked = {"command": command, "environment": own, "folder": str(Path.cwd())}
    try:
        # Its messages come to this process's standard error.
        message = json.dumps(asked).encode() + b"\n"
        socket.send_fds(connection, [message], [2])
        connection.settimeout(_START_S)
        answer = json.loads(_line(connection) or "{}")
        connection.settimeout(None)
    except (OSError, ValueError):
        answer = {}
    if "port" in answer:
        return Borrowed(answer["port"], answer["secret"], connection)
    connection.close()
    return None


def dismiss(home: Path) -> None:
    """End the keeper of ``home`` and its JVM, where there is one and nobody has borrowed it."""
    address = _address(home)
    if address and (connection := _connect(address)):
        with connection, suppress(OSError):
            connection.sendall(b"end\n")
            _line(connection)


def _address(home: Path) -> str | None:
    """The keeper's socket, in a folder of this user alone; a home's own path may be too long for one."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"vitrine-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or not folder.is_dir() or folder.is_symlink():
        return None
    return str(folder / hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16])


def _connect(address: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        return None
    return connection


def _start_keeper(address: str, seconds: int, owner: int | None) -> None:
    command = [sys.executable, "-m", "spark_jobs.kept_jvm", address, str(seconds), str(owner or 0)]
    root = str(Path(__file__).resolve().parents[1])
    null = subprocess.DEVNULL
    env = surroundings.for_child()
    subprocess.Popen(command, cwd=root, env=env, stdin=null, stdout=null, stderr=null, start_new_session=True)


def _line(connection: socket.socket) -> str:
    received = b""
    while not received.endswith(b"\n") and (part := connection.recv(4096)):
        received += part
    return received.decode()


# ---- the keeper ----


class Keeper:
    """Owns at most one JVM, and lends it to one verb at a time."""

    def __init__(self, address: str, seconds: int, owner: int) -> None:
        self._address, self._seconds, self._owner = address, seconds, owner
        self._jvm: subprocess.Popen[bytes] | None = None
        self._asked: dict[str, Any] = {}
        self._answer: dict[str, Any] = {}
        self._messages = -1
        """The standard error of who has the JVM now; -1: nobody."""

    def run(self) -> None:
        """Serve until nobody came for so long, the owner is gone, or a borrower was killed."""
        Path(self._address).unlink(missing_ok=True)  # of one that was killed: the lock is ours
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(self._address)
            listening.listen()
            listening.settimeout(_TICK_S)
            try:
                self._serve(listening)
            finally:
                Path(self._address).unlink(missing_ok=True)
                self._end_jvm()

    def _serve(self, listening: socket.socket) -> None:
        unused_since = time.monotonic()
        while time.monotonic() - unused_since < self._seconds and self._owned():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                if not self._lend(listening, connection):
                    return
            unused_since = time.monotonic()

    def _owned(self) -> bool:
        return not self._owner or Path(f"/proc/{self._owner}").exists()

    def _lend(self, listening: socket.socket, connection: socket.socket) -> bool:
        """One loan from its beginning to its end; false where the keeper has to end with it."""
        connection.settimeout(10)
        try:
            message, descriptors = _receive(connection)
        except (OSError, ValueError):
            return True
        if message.strip() == "end":
            return False
        try:
            self._messages = descriptors[0] if descriptors else -1
            asked = json.loads(message)
            if self._jvm is None or self._jvm.poll() is not None or asked != self._asked:
                self._end_jvm()
                self._start_jvm(asked)
            connection.sendall(json.dumps(self._answer).encode() + b"\n")
            return bool(self._answer) and self._wait(listening, connection)
        except OSError:
            return False  # who asked is gone, and may have used the JVM
        finally:
            self._messages = -1
            for descriptor in descriptors:
                os.close(descriptor)

    def _wait(self, listening: socket.socket, connection: socket.socket) -> bool:
        """Until the JVM is given back; whoever asks meanwhile is told at once that it is out."""
        connection.settimeout(_TICK_S)
        listening.settimeout(0.0)
        try:
            while True:
                with suppress(BlockingIOError):
                    other, _ = listening.accept()
                    with other, suppress(OSError):
                        other.sendall(b"{}\n")
                try:
                    return connection.recv(16) == b"done\n"
                except TimeoutError:
                    continue
        finally:
            listening.settimeout(_TICK_S)

    def _start_jvm(self, asked: dict[str, Any]) -> None:
        """As ``pyspark.java_gateway.launch_gateway`` does it: Spark writes its port and secret to a file."""
        self._asked, self._answer = asked, {}
        with tempfile.TemporaryDirectory(prefix="vitrine-jvm-") as folder:
            file = Path(folder) / "gateway"
            more = {"_PYSPARK_DRIVER_CONN_INFO_PATH": str(file), "SPARK_CONNECT_MODE": "0"}
            jvm = subprocess.Popen(
                asked["command"],
                env=asked["environment"] | more,
                cwd=asked["folder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self._jvm = jvm
            threading.Thread(target=self._hand_on_messages, args=(jvm,), daemon=True).start()
            deadline = time.monotonic() + _START_S
            while not file.is_file() and jvm.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            if file.is_file():
                written = file.read_bytes()
                port, length = struct.unpack(">ii", written[:8])
                self._answer = {"port": port, "secret": written[8 : 8 + length].decode()}

    def _hand_on_messages(self, jvm: "subprocess.Popen[bytes]") -> None:
        assert jvm.stderr is not None
        noise = tuple(word.encode() for word in NOISE)
        for line in jvm.stderr:
            if not line.startswith(noise):
                with suppress(OSError):
                    os.write(self._messages, line)

    def _end_jvm(self) -> None:
        if self._jvm is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._jvm.pid, signal.SIGKILL)
        self._jvm.wait()
        self._jvm = None


def _receive(connection: socket.socket) -> tuple[str, list[int]]:
    message, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 4)
    while not message.endswith(b"\n"):
        part = connection.recv(1 << 16)
        if not part:
            raise ValueError("the message ends early")
        message += part
    return message.decode(), list(descriptors)


if __name__ == "__main__":
    # Two that were started at once would each take the other's address away: one waits for the other's end, in vain.
    with suppress(locks.InUse), locks.held_file(Path(f"{sys.argv[1]}.lock"), seconds=5):
        Keeper(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).run()
