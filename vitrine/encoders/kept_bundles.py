"""The bundles of a home, by version under ``HOME/models/bundles``: each made when a photo first asks for its vectors.

A process that answers photos needs no torch: the export runs in a process of its own.
"""

import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from vitrine import facts, locks, surroundings
from vitrine.encoders import bundle
from vitrine.encoders.query_encoder import QueryEncoder
from vitrine.errors import UserError, VitrineError, one_line
from vitrine.settings import Settings

_EXPORT_SECONDS = 1800
_RETRY_SECONDS = 60.0
"""After a failure: how long its reason is given, before it is tried again."""


def folder(settings: Settings, encoder_version: str) -> Path:
    """Where the bundle of a version is, or would be."""
    return settings.home / "models" / "bundles" / encoder_version


def drop_others(settings: Settings, encoder_versions: set[str]) -> list[str]:
    """Remove the bundles of all versions but ``encoder_versions``, and say of which."""
    root = folder(settings, "x").parent
    others = sorted({path.name for path in root.glob("[0-9a-f]*")} - encoder_versions)
    for other in others:
        with locks.held(settings, f"bundle__{other}"):
            shutil.rmtree(root / other, ignore_errors=True)
    return others


class KeptBundles:
    """Loaded encoders by version, for a process that lives on. Safe to call from threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, "bundle")
        self._lock = threading.Lock()
        self._loaded: dict[str, Future[QueryEncoder]] = {}
        self._again_at: dict[str, float] = {}
        """Of failures: from when on the monotonic clock one is tried again."""

    def encoder(self, encoder_version: str) -> "Future[QueryEncoder]":
        """The encoder of a version: there already, or under way.

        Its ``result`` raises VitrineError where it cannot be made.
        """
        with self._lock:
            known = self._loaded.get(encoder_version)
            failed = known is not None and known.done() and known.exception() is not None
            if known is None or (failed and time.monotonic() > self._again_at[encoder_version]):
                known = self._loaded[encoder_version] = self._pool.submit(self._load_or_note, encoder_version)
            return known

    def forget_others(self, encoder_versions: set[str]) -> None:
        """Let go of the encoders of all other versions; their bundles stay where they are."""
        with self._lock:
            for other in self._loaded.keys() - encoder_versions:
                del self._loaded[other]

    def _load_or_note(self, encoder_version: str) -> QueryEncoder:
        try:
            return self._load(encoder_version)
        except BaseException:
            self._again_at[encoder_version] = time.monotonic() + _RETRY_SECONDS
            raise

    def _load(self, encoder_version: str) -> QueryEncoder:
        place = folder(self._settings, encoder_version)
        encoder = str(facts.encoder_row(self._settings, encoder_version)["encoder"])
        with locks.held(
            self._settings, f"bundle__{encoder_version}"
        ):  # another process of the server has the same need
            if place.exists():
                try:
                    bundle.verify(place, encoder, encoder_version)
                except UserError:  # damaged, or an earlier version's
                    shutil.rmtree(place)
            if not place.exists():
                _export(encoder_version, place)
        return QueryEncoder(place, max_pixels=self._settings.max_pixels)


def _export(encoder_version: str, place: Path) -> None:
    command = [sys.executable, "-m", "vitrine", "export", encoder_version, "--to", str(place), "--json"]
    environment = surroundings.for_child()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_EXPORT_SECONDS)
    except subprocess.TimeoutExpired:
        raise VitrineError(
            f"the export of encoder version {encoder_version} took more than {_EXPORT_SECONDS} s"
        ) from None
    if done.returncode:
        *_, last = done.stderr.strip().splitlines() or ["it said nothing"]
        raise VitrineError(one_line(f"the encoder that serves cannot be exported: {last.removeprefix('vitrine: ')}"))
