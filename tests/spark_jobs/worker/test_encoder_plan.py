"""How the work is cut into tasks."""

import pytest

from spark_jobs.worker.encoder_plan import count_tasks


@pytest.mark.parametrize(
    ("photos", "slots", "asked", "tasks"),
    [
        (1, 2, None, 2),  # every slot gets one
        (640, 2, None, 10),  # not less than 64 photos a task
        (20_000, 2, None, 32),  # 16 tasks a slot
        (1_000_000, 2, None, 489),  # not more than 2,048 photos a task
        (640, 2, 20, 32),
    ],
)
def test_tasks(photos: int, slots: int, asked: int | None, tasks: int):
    assert count_tasks(photos, slots, asked) == tasks
