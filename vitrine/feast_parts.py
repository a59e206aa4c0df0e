"""Feast's parts that Vitrine uses: the only module that imports Feast by name, so that it is imported in one way.

Half of ``import feast`` is PyTorch, which only its transformations on tensors use, and a third is typeguard, which
rewrites the source of nineteen of its classes at each start to check their arguments; mypy and the tests check ours.
Both are left out here.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import typeguard

from vitrine.lean_imports import left_out


@contextmanager
def _classes_as_written() -> Iterator[None]:
    checked = typeguard.typechecked
    typeguard.typechecked = lambda target=None, **_: target or (lambda same: same)  # type: ignore[assignment]
    try:
        yield
    finally:
        typeguard.typechecked = checked


with _classes_as_written(), left_out(absent=["torch"]):
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, RepoConfig, ValueType
    from feast.errors import FeastError, FeatureServiceNotFoundException, FeatureViewNotFoundException
    from feast.feature_server import get_app
    from feast.infra.offline_stores.contrib.spark_offline_store import spark_source
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
    from feast.infra.passthrough_provider import PassthroughProvider
    from feast.infra.registry.base_registry import BaseRegistry
    from feast.protos.feast.core.FeatureView_pb2 import FeatureView as FeatureViewProto
    from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import FloatList, Value
    from feast.table_format import DeltaFormat
    from feast.types import Array, Bool, Float32, Int32, Int64, String
    from feast.utils import make_tzaware

# Feast's Spark source calls itself experimental each time that one is made; a filter is undone by the modules of Feast
# that are imported later.
spark_source.warnings = SimpleNamespace(warn=lambda *_, **__: None)
warnings.filterwarnings("ignore", category=UserWarning, module="feast")

__all__ = [
    "Array",
    "BaseRegistry",
    "Bool",
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
    "RegistryProto",
    "RepoConfig",
    "SparkSource",
    "String",
    "Value",
    "ValueType",
    "get_app",
    "make_tzaware",
]
