"""Ingest over bad files: each is read right, or in quarantine with a reason that is right; none stops a night."""

import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from spark_jobs.ingest_catalog import ingest
from tests.support import bad_files
from tests.support.bad_files import Bad
from vitrine import lake
from vitrine.settings import Settings

PEAK_MIB = 150
"""Of a process that checks all of them: interpreter, NumPy and Pillow, and the largest picture that is decoded."""


def outcomes(settings: Settings, root: Path, made: list[Bad]) -> dict[str, Counter[str]]:
    """What became of each kind, after one night; every file is either in the catalog or in quarantine."""
    limited = settings.model_copy(update={"max_pixels": bad_files.MAX_PIXELS})
    ingest(limited, str(root), "d")
    said = dict.fromkeys((row["image_id"] for row in lake.rows(settings, "SELECT image_id FROM catalog")), "read")
    refused = lake.rows(settings, "SELECT image_id, code, reason FROM quarantine")
    assert all(row["reason"] for row in refused)
    said |= {row["image_id"]: row["code"] for row in refused}
    spelled = {image_id.rsplit("#", 1)[0]: code for image_id, code in said.items() if code == "bad_name"}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    wrong = []
    for bad in made:
        try:
            code = said.get(f"d/{bad.name.decode()}", "lost")
        except UnicodeDecodeError:
            shown = os.fsdecode(bad.name).encode("utf-8", "backslashreplace").decode()
            code = spelled.get(f"d/{shown}", "lost")
        found[bad.kind][code] += 1
        if code not in bad.right:
            wrong.append((bad.kind, bad.name, code))
    assert wrong == []
    assert len(said) >= len(made)
    return found


@pytest.mark.usefixtures("spark")
def test_a_sample_of_each_kind(settings: Settings, tmp_path: Path):
    made = bad_files.write(tmp_path / "photos", lambda kind, number: number % 12 == 0)
    found = outcomes(settings, tmp_path / "photos", made)
    assert found.keys() >= bad_files.MADE.keys()


@pytest.mark.long
@pytest.mark.usefixtures("spark")
def test_a_thousand_of_them_in_bounded_memory(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = bad_files.write(tmp_path / "photos")
    assert len(made) >= 1_000
    found = outcomes(settings, tmp_path / "photos", made)
    peak = _peak_mib(tmp_path / "photos")
    with capsys.disabled():
        print(f"\n{len(made)} files, peak {peak:.0f} MiB")
        for kind, counts in found.items():
            said = ", ".join(f"{code} {n}" for code, n in counts.most_common())
            print(f"| {kind} | {sum(counts.values())} | {said} |")
    assert peak < PEAK_MIB


def _peak_mib(root: Path) -> float:
    code = """
import os, re, sys
from pathlib import Path
from vitrine import photo_files
from vitrine.images import ImageError
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        try:
            photo_files.check(f"{folder}/{name}", int(sys.argv[2]))
        except ImageError:
            pass
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""  # getrusage's figure would count what the process that started it held
    command = [sys.executable, "-c", code, str(root), str(bad_files.MAX_PIXELS)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user the files above are closed already")
def test_closed_files_and_folders_are_named(settings: Settings, tmp_path: Path):
    """Root opens every door: the listing and the check run without that right."""
    bad_files.write(tmp_path / "photos", lambda kind, number: False)
    code = """
import json, sys
from pathlib import Path
from spark_jobs.checked_photos import check_row
from vitrine.datasets import folder
from vitrine.settings import Settings
for unit in folder.units(Settings(root=Path(sys.argv[1])), sys.argv[1]):
    for photo in folder.photos(unit):
        row = vars(photo) | dict(zip(("code", "reason"), photo.refusal or (None, None)))
        checked = check_row(row, 10**7)
        print(json.dumps([checked["image_id"], checked["code"], checked["reason"]]))
"""
    closed = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", sys.executable, "-c", code]
    done = subprocess.run([*closed, str(tmp_path / "photos")], capture_output=True, text=True)
    if "setpriv" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert '["places/closed.jpg", "unreadable", "permission denied"]' in done.stdout, done.stderr
    assert '["places/shut", "unreadable", "the folder cannot be listed: permission denied"]' in done.stdout
