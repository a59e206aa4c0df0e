"""Holm's procedure."""

from evaluation.statistics.several import holm


def test_holms_procedure_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}, 0.05) == ["a"]  # 0.03 is above 0.05 / 2
    assert holm({"a": 0.01, "b": 0.04, "c": 0.02}, 0.05) == ["a", "c", "b"]
    assert holm({"a": 0.02}, 0.05) == ["a"] and holm({}, 0.05) == []
