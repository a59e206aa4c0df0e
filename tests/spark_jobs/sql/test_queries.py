"""Spark SQL over the tables."""

import pytest

from spark_jobs.sql.queries import ask
from vitrine.errors import UserError
from vitrine.runs import record
from vitrine.settings import Settings


def test_ask_knows_the_tables_and_names_a_mistake(settings: Settings, spark: object) -> None:
    for verb in ("ingest", "embed"):
        with record(settings, verb, "shop") as run:
            run.figures["images"] = 3
    columns, rows = ask(settings, "SELECT verb, get_json_object(figures, '$.images') AS n FROM runs ORDER BY verb", 10)
    assert (columns, rows) == (["verb", "n"], [["embed", "3"], ["ingest", "3"]])
    assert len(ask(settings, "SELECT * FROM runs", 1)[1]) == 1
    for wrong in ("SELECT * FROM no_such_table", "SELEC 1", "SELECT nope FROM runs", "SELECT 1/0"):
        with pytest.raises(UserError, match="bad query") as error:
            ask(settings, wrong, 10)
        assert "\n" not in str(error.value)
