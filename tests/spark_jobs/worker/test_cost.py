"""What a pass is billed for."""

import pytest
from pyspark.sql import SparkSession

from spark_jobs.worker.cost import Cost, Meter
from vitrine.setting_sections import Prices
from vitrine.settings import Settings


@pytest.mark.parametrize(
    ("devices", "gpus"), [({"host: cpu"}, 0), ({"host: cuda:0"}, 1), ({"a: cuda:1", "b: cuda:1"}, 2)]
)
def test_gpus_that_spark_does_not_schedule_cost_money_too(
    spark: SparkSession, settings: Settings, devices: set[str], gpus: int
):
    meter = Meter(settings.model_copy(update={"prices": Prices(core_hour=3600, gpu_hour=36000)}), spark)
    [bill] = meter.bills(Cost(devices=devices, forward_seconds={"small": 1.0}), ["small"])
    assert bill.gpu_seconds == pytest.approx(gpus * bill.seconds, abs=0.01)
    assert bill.core_seconds == pytest.approx(2 * bill.seconds, abs=0.01)
    assert bill.money == pytest.approx(bill.core_seconds + 10 * bill.gpu_seconds, abs=0.1)
