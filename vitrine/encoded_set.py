"""One data set by one encoder version: what most jobs, gates and stores work on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from vitrine import lake


@dataclass(frozen=True)
class EncodedSet:
    """The vectors of ``dataset`` by ``encoder_version``, which goes by the name ``encoder``."""

    dataset: str
    encoder: str
    encoder_version: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The one that a row of ``embeddings``, ``metrics``, ``promotions`` or ``runs`` is about."""
        return cls(str(row["dataset"]), str(row["encoder"]), str(row["encoder_version"]))

    @property
    def where(self) -> str:
        """The condition for its rows of ``embeddings``, ``product_embeddings`` and ``predictions``."""
        return self.within()

    def within(self, table: str = "") -> str:
        """The same for rows of ``table``, an alias in a statement."""
        return lake.matches(table, dataset=self.dataset, encoder_version=self.encoder_version)

    def __str__(self) -> str:
        return f"{self.encoder} ({self.encoder_version}) for {self.dataset}"
