"""What one evaluation is of: vectors, the catalog as it was, and which photos ask which for what."""

from dataclasses import dataclass
from typing import Any

from vitrine import lake
from vitrine.encoded_set import EncodedSet
from vitrine.names import ALL_SPLITS

ALL = ALL_SPLITS
"""As queries and as index: leave-one-out over every photo."""


@dataclass(frozen=True)
class Task:
    """The photos of ``query_split`` search those of ``index_split``; photos of one ``relevant`` belong together."""

    encoded: EncodedSet
    catalog_version: str
    query_split: str
    index_split: str
    relevant: str
    """``product_id``, ``category`` or an attribute."""

    @property
    def key(self) -> dict[str, Any]:
        """The columns that its rows of ``query_results`` and ``metrics`` have in common."""
        return {
            "encoder_version": self.encoded.encoder_version,
            "dataset": self.encoded.dataset,
            "catalog_version": self.catalog_version,
            "query_split": self.query_split,
            "index_split": self.index_split,
            "relevant": self.relevant,
        }

    @property
    def results(self) -> str:
        """The condition for its rows of ``query_results``."""
        return lake.matches(**self.key)

    @property
    def searched(self) -> list[tuple[str, str]]:
        """The labels of what is searched, for Milvus."""
        return [] if self.index_split == ALL else [("split", self.index_split)]

    def within(self, split: str) -> str:
        """The condition for the rows of ``embeddings`` that are of ``split``."""
        return self.encoded.where if split == ALL else f"{self.encoded.where} AND {lake.matches(split=split)}"
