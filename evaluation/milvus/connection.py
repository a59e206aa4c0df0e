"""A connection to Milvus as the settings say: Lite, or a server by URI, token, TLS and database."""

import logging
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from vitrine import locks, surroundings
from vitrine.errors import UserError, VitrineError, one_line
from vitrine.settings import Settings

CONNECT_SECONDS = 20
TLS_FILES = ("ca_certificate", "client_certificate", "client_key")


class MilvusConnection:
    """Open between ``with`` and the end of its block; a failure of Milvus in between ends as a VitrineError."""

    def __init__(self, settings: Settings, wait_seconds: float = 600.0) -> None:
        """``wait_seconds``: how long to wait for another process to let go of Milvus Lite, or of a server's rows."""
        self._settings = settings
        self._wait_seconds = wait_seconds
        uri = settings.milvus.uri or str(settings.home / "milvus.db")
        self.lite = "://" not in uri
        self._uri = str(settings.root / uri) if self.lite else uri
        self.place = re.sub(r"//[^/]*@", "//", self._uri)
        """The URI, without a user and password in it."""
        self._stack = ExitStack()
        self._client: MilvusClient = None

    def __enter__(self) -> Self:
        # pymilvus logs each refusal with its traceback and then raises it: the exception says it all.
        for noisy in ("pymilvus", "milvus_lite"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        milvus = self._settings.milvus
        try:
            surroundings.ask_no_proxy_here()
            if self.lite:
                self._lock_lite(Path(self._uri))
            self._client = MilvusClient(
                self._uri,
                token=milvus.token.get_secret_value() if milvus.token else "",
                db_name=milvus.database,
                timeout=CONNECT_SECONDS,
                dedicated=True,  # a shared one would outlive this, and is found by address and token alone
                **_tls(self._settings, self._uri),
            )
            self._stack.callback(self._client.close)
            self._client.list_collections()  # a server says first here that it does not know the token or database
        except (MilvusException, ValueError) as error:  # ValueError: a port that is no number
            self._stack.close()
            kind = UserError if isinstance(error, ValueError) else VitrineError
            raise kind(f"cannot open Milvus at {self.place}: {_message(error)}") from error
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if isinstance(error, MilvusException):
            raise VitrineError(f"Milvus at {self.place}: {_message(error)}") from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One process of this home at a time writes to a server: two that apply the same changes by turns could leave
        the older row. Lite has let no other process in at all."""
        if self.lite:
            yield
            return
        with self._held(self._settings.home / "milvus.lock", self._wait_seconds):
            yield

    def clear_half_made(self, name: str) -> None:
        """Lite makes a collection's folder and then its schema: a run killed in between left a folder that is no
        collection, and yet keeps one of that name from being made."""
        if not self.lite:
            return
        database = self._settings.milvus.database
        root = Path(self._uri) if database == "default" else Path(self._uri) / "databases" / database
        folder = root / "collections" / name
        if folder.is_dir() and not (folder / "schema.json").exists():
            shutil.rmtree(folder)

    def _lock_lite(self, path: Path) -> None:
        """Lite refuses a second process at once, and lives until its process ends: wait before, end it after."""
        from milvus_lite.server_manager import server_manager_instance

        until = time.monotonic() + self._wait_seconds
        self._stack.enter_context(self._held(Path(f"{path}.lock"), self._wait_seconds))
        if path.is_dir():  # held by a program that is not ours?
            with self._held(path / "LOCK", max(0.0, until - time.monotonic())):
                pass
        self._stack.callback(server_manager_instance.release_server, str(path))

    @contextmanager
    def _held(self, path: Path, seconds: float) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(
                    locks.held_file(path, f"waiting for another process to let go of {self.place}", seconds)
                )
            except locks.InUse:
                other = ", or set milvus.uri to a server" if self.lite else ""
                raise VitrineError(
                    f"Milvus{' Lite' if self.lite else ''} at {self.place} was in use by another process for "
                    f"{self._wait_seconds:g} s: wait for that to end{other}"
                ) from None
            yield


def _tls(settings: Settings, uri: str) -> dict[str, Any]:
    """pymilvus's arguments: it takes a client's certificate only with its key and the authority, and says nothing
    where one of the three is missing.

    Raises:
        UserError: a file is not there, or needs another setting beside it.
    """
    given = {name: settings.root / path for name in TLS_FILES if (path := getattr(settings.milvus, name))}
    for name, path in given.items():
        if not path.is_file():
            raise UserError(f"milvus.{name} names {str(path)!r}, which is not a file")
    if given and not uri.startswith("https://"):
        raise UserError(f"milvus.{next(iter(given))} is for TLS: milvus.uri must start with https://")
    if given.keys() & {"client_certificate", "client_key"} and len(given) < len(TLS_FILES):
        missing = ", ".join(f"milvus.{name}" for name in TLS_FILES if name not in given)
        raise UserError(f"a client's certificate needs its key and the authority: set {missing} too")
    arguments = {"server_name": settings.milvus.server_name} if settings.milvus.server_name else {}
    if len(given) == len(TLS_FILES):
        names = ("ca_pem_path", "client_pem_path", "client_key_path")
        return arguments | dict(zip(names, map(str, given.values()), strict=True))
    return arguments | ({"server_pem_path": str(given["ca_certificate"])} if given else {})


def _message(error: Exception) -> str:
    """One line; where a server could not be reached or refused the caller, gRPC knows why."""
    cause = error.__cause__
    if isinstance(cause, grpc.RpcError):
        return one_line(f"{cause.code().name}: {cause.details() or ''}")
    return one_line(error)
