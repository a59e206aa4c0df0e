"""Real servers of Feast's online stores, each on a free port and with nothing of another's in it, until the block ends.

For the tests, and for ``benchmarks/online_lookup.py``.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis

PASSWORD = 'a,b=c "7"'  # what a connection string may trip over
NOBODY = 65534


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


def redis_program() -> str | None:
    return shutil.which("redis-server")


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs; Debian keeps them out of the PATH."""
    found = shutil.which("postgres")
    named = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return named[-1] if named else None


@contextmanager
def redis_server() -> Iterator[int]:
    """Redis, asking for ``PASSWORD``; its port."""
    program, port = redis_program(), free_port()
    assert program
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        options = {"port": port, "bind": "127.0.0.1", "save": "", "dir": folder, "requirepass": PASSWORD}
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with _running([program, *arguments], lambda: redis.Redis(port=port, password=PASSWORD).ping()):
            yield port


@contextmanager
def postgres_server() -> Iterator[int]:
    """PostgreSQL with the user and database ``vitrine`` and ``PASSWORD``; its port. It refuses to run as root."""
    programs, port = postgres_programs(), free_port()
    assert programs
    root = os.geteuid() == 0
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if root else []
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        secret = Path(folder, "password")
        secret.write_text(PASSWORD)
        for path in (folder, secret) if root else ():
            os.chown(path, NOBODY, NOBODY)
        made = ["-U", "vitrine", "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--no-sync"]
        data = f"{folder}/data"
        subprocess.run([*user, f"{programs}/initdb", "-D", data, *made], check=True, capture_output=True)
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options |= {"synchronous_commit": "off", "full_page_writes": "off"}
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        where = f"host=127.0.0.1 port={port} user=vitrine"

        def ready() -> None:
            with psycopg.connect(where, dbname="postgres", password=PASSWORD, autocommit=True) as connection:
                connection.execute("CREATE DATABASE vitrine")

        with _running([*user, f"{programs}/postgres", "-D", data, "-p", str(port), *arguments], ready):
            yield port


@contextmanager
def _running(command: list[str], ready: Callable[[], object]) -> Iterator[None]:
    """The program, once ``ready`` raises nothing."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/"
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                ready()
                break
            except (redis.RedisError, psycopg.Error, OSError) as error:
                assert process.poll() is None and time.monotonic() < until, f"{command[0]} did not start: {error}"
                time.sleep(0.05)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
