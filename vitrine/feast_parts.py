"""Feast's parts that Vitrine uses: the only module that imports Feast by name, so that it is imported in one way.

Half of ``import feast`` is PyTorch, which only its transformations on tensors use, and a third is typeguard, which
rewrites the source of nineteen of its classes at each start to check their arguments; mypy and the tests check ours.
Both are left out here: 1 s instead of 4 s to the first lookup.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import typeguard

TORCH_WRAPPER = "feast.torch_wrapper"


def _torch_on_demand() -> ModuleType:
    """In place of ``feast.torch_wrapper``, which imports PyTorch as soon as it is imported itself."""

    def get_torch() -> Any:
        import torch

        return torch

    wrapper = ModuleType(TORCH_WRAPPER)
    wrapper.get_torch = get_torch  # type: ignore[attr-defined]
    return wrapper


@contextmanager
def _without_what_slows() -> Iterator[None]:
    checked = typeguard.typechecked
    typeguard.typechecked = lambda target=None, **_: target or (lambda same: same)  # type: ignore[assignment]
    sys.modules.setdefault(TORCH_WRAPPER, _torch_on_demand())
    try:
        yield
    finally:
        typeguard.typechecked = checked


with _without_what_slows():
    import feast.infra.offline_stores.contrib.spark_offline_store.spark  # noqa: F401  (see the filter below)
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, RepoConfig, ValueType
    from feast.errors import FeastError, FeatureServiceNotFoundException, FeatureViewNotFoundException
    from feast.feature_server import get_app
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
    from feast.infra.passthrough_provider import PassthroughProvider
    from feast.protos.feast.core.FeatureView_pb2 import FeatureView as FeatureViewProto
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import FloatList, Value
    from feast.table_format import DeltaFormat
    from feast.types import Array, Float32, Int32, Int64, String
    from feast.utils import make_tzaware

# Feast's Spark store calls itself experimental each time that one is made, and shows that once it is imported.
warnings.filterwarnings("ignore", message="The spark data source API", category=RuntimeWarning)
warnings.filterwarnings("ignore", category=UserWarning, module="feast")

__all__ = [
    "Array",
    "DeltaFormat",
    "Entity",
    "EntityKey",
    "FeastError",
    "FeatureService",
    "FeatureServiceNotFoundException",
    "FeatureStore",
    "FeatureView",
    "FeatureViewNotFoundException",
    "FeatureViewProto",
    "Field",
    "Float32",
    "FloatList",
    "Int32",
    "Int64",
    "PassthroughProvider",
    "RepoConfig",
    "SparkSource",
    "String",
    "Value",
    "ValueType",
    "get_app",
    "make_tzaware",
]
