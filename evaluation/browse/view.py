"""One page as it is built: what its address asks for, of which site, and of which state of the tables."""

from dataclasses import dataclass

from evaluation.browse.address import Address
from evaluation.browse.catalog import CatalogPhoto
from evaluation.browse.site import Query, Site, Snapshot


@dataclass(frozen=True)
class View:
    """What all parts of a page are given."""

    site: Site
    snapshot: Snapshot
    address: Address
    """With the data set that is shown, where the browser's asks for none."""

    @property
    def photo(self) -> CatalogPhoto | None:
        """The query, where it is a photo of the catalog."""
        return self.snapshot.catalog.find(self.address.image) if self.address.image else None

    @property
    def query(self) -> Query | None:
        """What is searched by; None where nothing is picked, or it is gone."""
        if self.address.image:
            return Query(image_id=self.address.image) if self.photo else None
        upload = self.site.uploads.find(self.address.upload)
        return Query(upload=upload) if upload else None

    @property
    def split(self) -> str:
        """The split that is searched; empty for all."""
        asked = self.address.within or self.snapshot.outcomes.index_split
        return asked if asked in self.snapshot.catalog.split_names else ""

    @property
    def labels(self) -> dict[str, str]:
        """The labels that neighbours have; empty for any."""
        return self.address.labels if self.address.alone else {}
