"""One data set by one encoder version: what most jobs, gates and stores work on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from vitrine import lake
from vitrine.names import split_joined
from vitrine.tables import EMBEDDINGS


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
    def parts(self) -> list[Self]:
        """Each encoder of those that are joined; of one that is not, itself."""
        pairs = zip(split_joined(self.encoder), split_joined(self.encoder_version), strict=True)
        return [type(self)(self.dataset, *pair) for pair in pairs]

    @property
    def where(self) -> str:
        """The condition for its rows of ``embeddings``, ``product_embeddings`` and ``predictions``."""
        return self.within()

    def within(self, table: str = "") -> str:
        """The same for rows of ``table``, an alias in a statement."""
        return lake.matches(table, dataset=self.dataset, encoder_version=self.encoder_version)

    def __str__(self) -> str:
        return f"{self.encoder} ({self.encoder_version}) for {self.dataset}"


def joined_rows(encoded: EncodedSet, columns: str, asked: str) -> str:
    """A query, in DataFusion's SQL, of the photos that every part of ``encoded`` has a vector of, of those that
    ``asked``, a query of the first part's rows, has: ``columns`` of it, and ``embedding``, the parts' vectors one after
    the other."""
    _, *others = encoded.parts
    names = [f"e{number}" for number in range(len(encoded.parts))]
    vectors = ", ".join(f"{name}.embedding" for name in names)
    joins = "".join(
        f" JOIN (SELECT image_id, content_sha256, embedding FROM {EMBEDDINGS.name} WHERE {other.where}) {name} "
        f"ON {name}.image_id = e0.image_id AND {name}.content_sha256 = e0.content_sha256"
        for other, name in zip(others, names[1:], strict=True)
    )
    vector = f"array_concat({vectors})" if others else vectors
    return f"SELECT {columns}, {vector} AS embedding FROM ({asked}) e0{joins}"
