"""Which precision is taken; what it does to vectors is in test_encoder.py."""

import pytest

from spark_jobs.worker import precision
from spark_jobs.worker.precision import resolve_precision


def test_auto_takes_bf16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch):
    assert resolve_precision("fp32", "cpu") == "fp32" and resolve_precision("bf16", "cpu") == "bf16"
    assert resolve_precision("auto", "cpu") in ("fp32", "bf16")
    monkeypatch.setattr(precision.processor, "has_bf16", lambda: False)
    assert resolve_precision("auto", "cpu") == "fp32"
