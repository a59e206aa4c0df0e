"""Where things are, for tests in any folder."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared"
"""Photos and weights that are no part of the project: tests that need them skip where they are absent."""
