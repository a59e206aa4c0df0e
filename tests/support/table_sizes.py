"""Small tables are read and written without Spark where large ones are not: a test says as which it takes its own."""

import pytest

IN_BOTH_SIZES = pytest.mark.parametrize(
    "taken_as_large", [pytest.param(False, id="small tables"), pytest.param(True, id="large tables")], indirect=True
)
"""For tests that use the fixture ``taken_as_large``."""
