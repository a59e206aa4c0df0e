"""docs/analysts.md: its questions are asked again, its lists are what is defined, its views agree with plain Python."""

import re
import sys
from typing import Any

import numpy as np
import pytest

from spark_jobs.sql.queries import Asker, ask
from spark_jobs.sql.views import TABLE_FUNCTIONS, VECTOR_FUNCTIONS, VIEWS, named_in
from tests.support.project import PROJECT
from vitrine import lake
from vitrine.cli.output import drawn
from vitrine.errors import UserError
from vitrine.settings import Settings
from vitrine.tables import METRICS, TABLES

PAGE = (PROJECT / "docs" / "analysts.md").read_text()
QUESTIONS = re.findall(
    r"^### ([^\n]+)\n\n(?:[^\n`#]+\n\n)?```sql\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, spark: object) -> tuple[Settings, Asker]:
    """The example's lake, and who asks it."""
    sys.path.insert(0, str(PROJECT / "examples"))
    try:
        from example_shop import make
    finally:
        sys.path.pop(0)
    settings = make(tmp_path_factory.mktemp("shop") / "home")
    return settings, Asker(settings)


def rows(shop: tuple[Settings, Asker], query: str) -> list[list[Any]]:
    return shop[1].ask(query, 1000)[1]


def test_the_page_lists_what_there_is() -> None:
    listed = dict(re.findall(r"^\| `(\w+)(?:\(.*?\))?` \| (.+) \|$", PAGE, re.MULTILINE))
    assert listed.keys() == VIEWS.keys() | VECTOR_FUNCTIONS.keys() | TABLE_FUNCTIONS.keys()
    assert all(listed[name] == view.about for name, view in VIEWS.items())


def test_there_are_ten_questions_each_with_its_output() -> None:
    assert len(QUESTIONS) == len(re.findall(r"^### ", PAGE, re.MULTILINE)) == 10


@pytest.mark.parametrize(("question", "sql", "shown"), QUESTIONS, ids=[question for question, _, _ in QUESTIONS])
def test_the_pages_answers_are_the_tables(shop: tuple[Settings, Asker], question: str, sql: str, shown: str) -> None:
    assert drawn(*shop[1].ask(sql, 1000)) == shown.rstrip("\n"), question


def test_neighbours_are_those_that_numpy_finds(shop: tuple[Settings, Asker]) -> None:
    settings, _ = shop
    stored = lake.rows(settings, "SELECT image_id, embedding FROM embeddings WHERE encoder = 'shop_large'")
    ids, vectors = [row["image_id"] for row in stored], np.array([row["embedding"] for row in stored])
    similar = vectors @ vectors[7]
    nearest = [at for at in np.argsort(-similar) if at != 7][:5]
    asked = f"FROM neighbours('{ids[7]}', 5) WHERE encoder = 'shop_large' ORDER BY rank"
    found = rows(shop, f"SELECT rank, image_id, similarity {asked}")
    assert [row[:2] for row in found] == [[rank, ids[at]] for rank, at in enumerate(nearest, 1)]
    assert [row[2] for row in found] == pytest.approx(similar[nearest], abs=1e-6)
    assert len(rows(shop, f"SELECT * FROM neighbours('{ids[7]}', 2)")) == 2 * 3, "by each of its encoders"
    some = "(SELECT image_id FROM catalog ORDER BY image_id LIMIT 3) c"
    found = rows(shop, f"SELECT c.image_id, n.image_id FROM {some}, LATERAL neighbours(c.image_id, 2) n")
    assert len(found) == 3 * 2 * 3 and all(one != other for one, other in found)
    # Spark takes the one photo for as many as the table has, and would move all vectors to where it is.
    plan = rows(shop, f"EXPLAIN SELECT * FROM neighbours('{ids[7]}', 5)")[0][0]
    assert "BroadcastHashJoin" in plan and "SortMergeJoin" not in plan


def test_current_embeddings_are_what_serves(shop: tuple[Settings, Asker]) -> None:
    assert rows(shop, "SELECT encoder, count(*) FROM current_embeddings GROUP BY encoder") == [
        ["shop_large__top__shop", 144]
    ]


def test_a_table_as_it_was(shop: tuple[Settings, Asker]) -> None:
    count = "SELECT count(*) FROM catalog"
    now, before = [[144]], [[120]]
    assert rows(shop, count) == now
    assert rows(shop, f"{count} VERSION AS OF 1") == before
    assert rows(shop, f"{count} TIMESTAMP AS OF next_day(date_sub(current_date(), 8), 'TU')") == before
    assert rows(shop, f"{count} TIMESTAMP AS OF date_sub(current_date(), 14)") == before
    with pytest.raises(UserError, match="before the earliest version"):
        rows(shop, f"{count} TIMESTAMP AS OF '2001-01-01'")


def test_nothing_but_a_query_is_taken_where_nothing_holds_the_lake(shop: tuple[Settings, Asker]) -> None:
    settings, _ = shop
    for statement in ("DELETE FROM catalog", "DROP TABLE catalog", "VACUUM catalog", "CREATE TABLE t AS SELECT 1"):
        with pytest.raises(UserError, match="bad query"):
            rows(shop, statement)
    assert lake.version(settings, TABLES["catalog"]) == 2


def test_one_query_opens_what_it_names_and_no_more() -> None:
    assert named_in("SELECT 1 FROM Catalog") == {"catalog"}
    assert named_in("SELECT * FROM current_embeddings") == {"current_embeddings", "embeddings", "serving", "promotions"}
    assert named_in("SELECT * FROM neighbours('a', 1)") == {"neighbours", "embeddings", "dot"}


def test_two_lakes_in_one_process_do_not_mix(shop: tuple[Settings, Asker], settings: Settings) -> None:
    lake.create_tables(settings)
    assert ask(settings, "SELECT count(*) FROM catalog", 10)[1] == [[0]]
    assert rows(shop, "SELECT count(*) FROM catalog") == [[144]]


def test_codecs_figures_change_no_answer_but_their_own(shop: tuple[Settings, Asker]) -> None:
    settings, asker = shop
    comparison = "SELECT * EXCEPT (photos_per_second) FROM encoder_comparison ORDER BY dataset, relevant, encoder"
    queries = [*(sql for _, sql, _ in QUESTIONS if "metrics" in named_in(sql)), comparison]
    before = [asker.ask(query, 1000) for query in queries]
    assert len(queries) > 2
    own = lake.rows(settings, "SELECT * FROM metrics WHERE slice = 'all' AND classifier = '' AND metric = 'mMP@5'")
    of_codec = {"classifier": "codec", "slice": "codec=PCA 64, int8", "computed_at": lake.now()}
    figures: list[dict[str, Any]] = [
        {"metric": "mMP@5", "value": 0.125, "low": 0.1, "high": 0.2},
        {"metric": "bytes", "value": 64.0, "low": None, "high": None},
    ]
    lake.append(settings, METRICS, [row | of_codec | figure for row in own for figure in figures])
    try:
        assert [asker.ask(query, 1000) for query in queries] == before
        page = (PROJECT / "docs" / "compression.md").read_text()
        (asked,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
        columns, answer = asker.ask(asked.replace("efficientnet_lite0", "shop_large"), 1000)
        assert columns == ["codec", "bytes", "mmp_5", "low", "high"]
        assert answer == [["PCA 64, int8", 64.0, 0.125, 0.1, 0.2]]
    finally:
        lake.write(settings, METRICS, METRICS.schema.empty_table(), replacing={"classifier": "codec"})
