"""``vitrine``'s verbs in this process, whose Spark session is there: a start of Java and of the imports less each."""

import io
import json
from typing import Any
from unittest import mock

from vitrine.cli import output


def vitrine(*arguments: str) -> str:
    """What the verb prints as its result; raises what it raises."""
    from vitrine.cli.main import app

    shown = io.StringIO()
    with mock.patch.object(output, "_stdout", shown):
        app(list(arguments), standalone_mode=False)
    return shown.getvalue()


def told(*arguments: str) -> dict[str, Any]:
    """What the verb says with ``--json``."""
    result: dict[str, Any] = json.loads(vitrine(*arguments, "--json"))
    return result
