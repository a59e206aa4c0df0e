"""The catalog's photos as small JPEGs, made when they are first asked for and kept on disk, up to a size."""

import hashlib
import threading
from pathlib import Path

from evaluation.browse.catalog import CatalogPhoto
from vitrine import files, images, photo_files, photo_store, thumbnails
from vitrine.settings import Settings

SIDES = {"small": 256, "large": 640}
"""Pixels, the longest side."""
MOST_BYTES = 256 * 1024 * 1024
_CHECKED_EVERY = 500  # new files


class PhotoCache:
    """Small JPEGs under ``HOME/cache/thumbnails``, by the photo's content; safe to call from threads."""

    def __init__(self, settings: Settings, most_bytes: int = MOST_BYTES) -> None:
        self._settings, self._most = settings, most_bytes
        self._folder = settings.home / "cache" / "thumbnails"
        self._written = 0
        self._lock = threading.Lock()
        self.prune()

    def jpeg(self, photo: CatalogPhoto, size: str) -> bytes:
        """The photo as a JPEG of one of ``SIDES``.

        Raises:
            ImageError: it cannot be read.
        """
        path = self._path(photo, size)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            pass
        data = photo_files.read(photo_store.readable(self._settings, photo.uri, photo.content_sha256))
        small = thumbnails.draw(data, SIDES[size], self._settings.max_pixels)
        if hashlib.sha256(data).hexdigest() == photo.content_sha256:  # else the file is another one since its ingest
            self._keep(path, small)
        return small

    def _path(self, photo: CatalogPhoto, size: str) -> Path:
        name = hashlib.sha256(f"{photo.content_sha256}/{SIDES[size]}/{images.DECODE_POLICY}".encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.jpg"

    def _keep(self, path: Path, small: bytes) -> None:
        with self._lock, files.whole(path) as fresh:
            fresh.write_bytes(small)
            self._written += 1
        if self._written % _CHECKED_EVERY == 0:
            self.prune()

    def prune(self) -> None:
        """Remove the oldest files until the rest has at most ``most_bytes``."""
        kept = []
        for path in self._folder.glob("*/*.jpg"):
            try:
                kept.append((path.stat().st_mtime_ns, path.stat().st_size, path))
            except FileNotFoundError:  # another process prunes too
                continue
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= self._most:
                break
            path.unlink(missing_ok=True)
            total -= size
