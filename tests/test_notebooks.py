"""The notebooks of examples/ run from their first cell to their last."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.project import PROJECT

EXAMPLES = PROJECT / "examples"


@pytest.mark.slow
def test_every_program_opens_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from example_shop import make

    make(tmp_path / "home")
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("VITRINE_SPARK__CONF", '{"spark.driver.memory": "1g"}')
    notebook = nbformat.read(EXAMPLES / "open_the_tables.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = [
        cell.outputs[-1]["data"]["text/plain"] for cell in notebook.cells if cell.cell_type == "code" and cell.outputs
    ]
    by_pandas, by_spark = shown[3], shown[-1]
    first = by_spark.splitlines()[1].split()[2]
    assert first in by_pandas.splitlines()[2], "one answer, whoever is asked"
    assert "shop_large__top__shop" in shown[2] and len(shown) == 7
