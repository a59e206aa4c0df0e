"""What all pages of one server are made from: the tables in memory, thumbnails, uploads."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from evaluation.browse.address import TagAddress
from evaluation.browse.catalog import ANY, Candidate, Candidates, Catalog, read_candidates, read_catalog
from evaluation.browse.outcomes import Outcomes, read_outcomes
from evaluation.browse.photo_cache import PhotoCache
from evaluation.browse.search import Near, Vectors, nearest, read_vectors
from evaluation.browse.table_cache import TableCache, TableVersions
from evaluation.browse.tags import KINDS, PhotoTag, TagPage, read_photo_tags, read_tag_page, read_tagged_labels
from evaluation.browse.uploads import Upload, Uploads
from vitrine import facts, lake
from vitrine.errors import VitrineError
from vitrine.images import ImageError
from vitrine.settings import Settings
from vitrine.tables import CATALOG, EMBEDDINGS, ENCODERS, LABELS, METRICS, PROMOTIONS, QUERY_RESULTS, TAGS

NEIGHBOURS = 8


@dataclass(frozen=True)
class Snapshot:
    """One data set, as the tables are now."""

    catalog: Catalog
    candidates: Candidates
    outcomes: Outcomes


@dataclass(frozen=True)
class NothingToShow:
    """Why there is nothing to be shown, and what to do about it."""

    title: str
    text: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class TagSnapshot:
    """A page of one label's tags, as the tables are now."""

    address: TagAddress
    """With what is shown, where the browser's leaves it open."""
    catalog: Catalog
    labels: list[str]
    page: TagPage


@dataclass(frozen=True)
class Query:
    """What is searched by: a photo of the catalog, or one that was uploaded."""

    image_id: str = ""
    upload: Upload | None = None


class Site:
    """All that a server's pages show. Safe to call from threads; what takes long is computed once for all that ask."""

    def __init__(self, settings: Settings, datasets: tuple[str, ...] = (), encoders: tuple[str, ...] = ()) -> None:
        """``datasets`` and ``encoders`` (names, or versions) are all that is shown; none given: whatever there is."""
        self.settings, self._only = settings, datasets
        lake.create_tables(settings)
        compared = partial(read_candidates, asked=encoders)
        self.names: TableCache[list[str]] = TableCache(settings, (CATALOG, PROMOTIONS), _read_names)
        self.catalogs: TableCache[Catalog] = TableCache(settings, (CATALOG,), read_catalog)
        followed = (EMBEDDINGS, ENCODERS, PROMOTIONS)
        self.candidates: TableCache[Candidates] = TableCache(settings, followed, compared)
        self.outcomes: TableCache[Outcomes] = TableCache(settings, (METRICS, QUERY_RESULTS), read_outcomes)
        self.vectors: TableCache[Vectors] = TableCache(settings, (EMBEDDINGS,), read_vectors)
        self.tagged_labels: TableCache[list[str]] = TableCache(settings, (TAGS,), read_tagged_labels)
        self.tag_pages: TableCache[TagPage] = TableCache(settings, (TAGS, CATALOG, LABELS), read_tag_page)
        self.thumbnails = PhotoCache(settings)
        self.uploads = Uploads(settings)

    def datasets(self) -> list[str]:
        return [name for name in self.names() if not self._only or name in self._only]

    def snapshot(self, dataset: str) -> Snapshot | NothingToShow:
        """What there is of ``dataset``; of the first one where it is empty."""
        names = self.datasets()
        if not names:
            walk = ("vitrine ingest PHOTOS --dataset shop", "vitrine demo")
            return NothingToShow(
                "No catalog yet", "Bring photos in, or let Vitrine draw some and run a whole night.", walk
            )
        if dataset and dataset not in names:
            return NothingToShow(f"No data set {dataset!r}", f"There are: {', '.join(names)}.")
        catalog = self.catalogs(dataset or names[0])
        candidates = self.candidates(catalog.dataset)
        if not candidates.shown:
            embed = f"vitrine embed --encoder efficientnet_lite0 --dataset {catalog.dataset}"
            text = f"None of the encoders asked for has a vector of {catalog.dataset}'s {len(catalog):,} photos."
            return NothingToShow("No embeddings yet", text, (embed,))
        return Snapshot(catalog, candidates, self.outcomes(catalog.dataset))

    def tags(self, address: TagAddress) -> TagSnapshot | NothingToShow:
        """The tags that ``address`` asks for: where it leaves something open, the first data set that has any, its
        first label, what a person should look at."""
        names = self.datasets()
        if address.dataset and address.dataset not in names:
            return NothingToShow(f"No data set {address.dataset!r}", f"There are: {', '.join(names)}.")
        labels = {name: self.tagged_labels(name) for name in ([address.dataset] if address.dataset else names)}
        dataset = next((name for name, some in labels.items() if some), "")
        if not dataset:
            command = f"vitrine tag --dataset {address.dataset or 'shop'} --label category"
            return NothingToShow("No tags yet", "Photos that lack a label get one by a classifier.", (command,))
        label = address.label if address.label in labels[dataset] else labels[dataset][0]
        kind = address.kind if address.kind in KINDS else "review"
        page = address.page if address.page.isdecimal() and len(address.page) < 9 else ""
        shown = TagAddress(dataset, label, kind, page)
        found = self.tag_pages(dataset, label, kind, page or "0")
        return TagSnapshot(shown, self.catalogs(dataset), labels[dataset], found)

    def photo_tags(self, dataset: str, image_id: str) -> dict[str, PhotoTag]:
        """A photo's tags, by label."""
        return read_photo_tags(self.settings, dataset, image_id)

    def search(
        self,
        snapshot: Snapshot,
        query: Query,
        by: Candidate,
        labels: Mapping[str, str] = ANY,
        split: str = "",
    ) -> Near | str:
        """The neighbours by one encoder among the photos with these labels and of a split, or why there are none."""
        catalog = snapshot.catalog
        try:
            vectors = self.vectors(catalog.dataset, by.encoder_version)
            vector = self.uploads.vector(query.upload, by) if query.upload else vectors.of(query.image_id)
        except (VitrineError, ImageError) as error:
            return str(error)
        if vector is None:
            return (
                f"It has no vector of this photo yet: vitrine embed --encoder {by.encoder} --dataset {catalog.dataset}"
            )
        return nearest(catalog, vectors, vector, catalog.within(labels, split), NEIGHBOURS, query.image_id)


def _read_names(settings: Settings, _: TableVersions) -> list[str]:
    """The data sets that there are, those that something serves first."""
    return sorted(facts.datasets(settings), key=lambda name: facts.serving(settings, name) is None)
