"""What a page shows, as its address says it: an address can be sent on, and the browser's back button works."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

from evaluation.browse.catalog import CatalogPhoto
from vitrine.names import ALL_SPLITS

CATEGORY = "category"
EVERYWHERE = ALL_SPLITS
"""As ``within``: the whole data set, whatever the evaluation searches."""


@dataclass(frozen=True)
class Address:
    """The parameters of the address ``/?...``; empty ones are left out of it."""

    dataset: str = ""
    image: str = ""
    """The query, a photo of the catalog."""
    upload: str = ""
    """The query, the token of an uploaded photo; ``image`` goes first."""
    category: str = ""
    """Whose photos are offered."""
    where: str = ""
    """The same, of attributes: ``colour=red&brand=Acme``, spelled as an address spells parameters."""
    alone: str = ""
    """``1``: neighbours are of them too."""
    within: str = ""
    """The split that is searched, or ``EVERYWHERE``; empty: what the evaluation searches."""

    @classmethod
    def read(cls, parameters: Mapping[str, str]) -> Self:
        return cls(**_given(parameters, cls))

    @property
    def labels(self) -> dict[str, str]:
        """What is offered, by label: ``category`` and attributes; empty for all."""
        return dict(parse_qsl(self.where)) | ({CATEGORY: self.category} if self.category else {})

    def choosing(self, label: str, value: str) -> dict[str, str]:
        """The change that another value of a label is; an empty one is any."""
        if label == CATEGORY:
            return {CATEGORY: value}
        chosen = dict(parse_qsl(self.where)) | {label: value}
        return {"where": urlencode({name: each for name, each in sorted(chosen.items()) if each})}

    def link(self, **changes: str) -> str:
        """The address of the same with ``changes``."""
        return _link("/", asdict(replace(self, **changes)))


@dataclass(frozen=True)
class TagAddress:
    """The parameters of the address ``/tags?...``, likewise."""

    dataset: str = ""
    label: str = ""
    kind: str = ""
    """One of ``evaluation.browse.tags.KINDS``."""
    page: str = ""
    """A number; empty: the first."""

    @classmethod
    def read(cls, parameters: Mapping[str, str]) -> Self:
        return cls(**_given(parameters, cls))

    def link(self) -> str:
        return _link("/tags", asdict(self))


def _given(parameters: Mapping[str, str], of: type[Any]) -> dict[str, str]:
    return {each.name: parameters.get(each.name, "") for each in fields(of)}


def _link(path: str, parameters: Mapping[str, str]) -> str:
    given = {name: value for name, value in parameters.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def thumbnail_link(dataset: str, photo: CatalogPhoto, size: str = "small") -> str:
    """The address of a photo; the id is a parameter, so that no path is made of it."""
    parameters = {"id": photo.image_id, "size": size, "v": photo.content_sha256[:12]}
    return f"/thumb/{dataset}?{urlencode(parameters)}"
