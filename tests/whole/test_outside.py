"""What scripts rely on: every verb's exit code and the keys of its JSON, held by ``outside.json``.

A change of that file is a change for everybody who calls Vitrine. Help texts are held by tests/vitrine/cli/help.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OUTSIDE = Path(__file__).with_name("outside.json")
CONFIG = """
home = "home"
[nightly]
encoders = ["small", "other"]
datasets = [{name = "shop", layout = "generated", source = "12x6:3"}]
[encoders.small]
backbone = "torchvision/squeezenet1_0"
weights = "random:1"
input_size = 64
[encoders.other]
backbone = "torchvision/mobilenet_v3_large"
weights = "random:2"
input_size = 64
[tune.top]
trials = 2
"""
WALK = """
ingest 12x6:3 --dataset shop --layout generated --test-share 0.3
ingest 12x6:5 --dataset shop2 --layout generated --test-share 0.3
embed --encoder small --dataset shop --dry-run
embed --encoder small --encoder other
embed --encoder small --dataset shop
evaluate --encoder small --encoder other --dataset shop
evaluate --encoder small --dataset shop --full-map --relevant category
features
index --encoder small --dataset shop
gate catalog --dataset shop
gate embeddings --dataset shop --encoder small
gate sync --dataset shop --encoder small
gate metrics --dataset shop --encoder small
promote small --dataset shop
promote other --dataset shop --force --reason try
rollback --dataset shop
lookup nothing --dataset shop
encoders
encoders --available
status
tune top --dataset shop --encoder small --quick
tune top --dataset shop --encoder small --quick --dry-run
embed --encoder small__top__shop
evaluate --encoder small__top__shop --dataset shop
classify --dataset shop --encoder small
evaluate --encoder small --dataset shop
tune cross --dataset shop --dataset shop2 --encoder small --quick
tune full --dataset shop --encoder small --quick --dry-run
pending --dataset shop
backfill other --dataset shop --dry-run
backfill other --dataset shop --rows 5
night --since 2020-01-01
report
retire other
retire other --undo
check
maintain
embed --encoder nope
gate catalog --dataset nope
status
"""


def keys(value: Any) -> Any:
    """The keys of an object, of the objects in it, and of the first of each list's; whatever the versions are."""
    if isinstance(value, dict):
        return {re.sub(r"\b[0-9a-f]{16}\b", "VERSION", key): keys(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [keys(value[0])] if value and isinstance(value[0], dict | list) else []
    return None


@pytest.mark.long
def test_every_verbs_json_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "vitrine.toml").write_text(CONFIG)
    wanted = json.loads(OUTSIDE.read_text())
    for number, line in enumerate(WALK.split("\n")[1:-1], 1):
        command = [sys.executable, "-m", "vitrine", *line.split(), "--json"]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        printed = keys(json.loads(ran.stdout)) if ran.stdout else None
        assert [ran.returncode, printed] == wanted[f"{number} {line}"], f"{line}\n{ran.stderr[-2000:]}"
