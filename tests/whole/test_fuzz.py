"""Whatever the arguments and the settings: one line at most on what is wrong, an exit code that is documented."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from vitrine.errors import UserError
from vitrine.settings import Settings, load_settings

CASES = 250
VALUES = (
    *(
        "",
        " ",
        "shop",
        "../x",
        "/etc/passwd",
        "a" * 3000,
        "\n",
        "\x1b[31m",
        "💡",
        "'; DROP TABLE catalog; --",
        "0",
        "-1",
    ),
    *("nan", "1e999", "--", "-", "--json", "--dataset", "=", "%s%n", "$(id)", "`id`", "[red]x[/red]", "null", "\udcff"),
)
OPTIONS = (
    *("--dataset", "--encoder", "--json", "--layout", "--test-share", "--queries", "--index", "--relevant", "--format"),
    *("--limit", "--force", "--reason", "--if-new", "--fresh", "--repair", "--name", "--keep-days", "--help", "--nope"),
)
# Those that start nothing on an empty home; what they do with a full one, other tests tell.
VERBS = (
    *("ingest", "embed", "evaluate", "features", "lookup", "index", "check", "gate", "promote", "rollback", "encoders"),
    *("status", "tune", "classify", "nope", ""),
)


def guess(chance: random.Random) -> list[str]:
    verb = [chance.choice(VERBS)]
    if verb == ["tune"]:
        verb.append(chance.choice(("full", "top", "cross", "")))
    rest = [chance.choice(chance.choice((OPTIONS, VALUES))) for _ in range(chance.randint(0, 6))]
    return verb + rest


def test_any_arguments_end_with_a_documented_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    from vitrine.cli.main import main

    monkeypatch.chdir(tmp_path)
    chance = random.Random(20261122)
    codes = set()
    for _ in range(CASES):
        arguments = guess(chance)
        stdout = os.dup(1)  # which the command line claims for good
        try:
            with pytest.raises(SystemExit) as ended:
                main(arguments)
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
        said = capfd.readouterr()
        codes.add(ended.value.code or 0)
        assert (ended.value.code or 0) in (0, 1, 2, 3), arguments
        assert "Traceback" not in said.err + said.out, (arguments, said.err)
        ours = [line for line in said.err.splitlines() if line.startswith("vitrine: ")]
        assert len(ours) <= 1, (arguments, said.err)
    assert codes >= {0, 2}


def fields(model: type[BaseModel], at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key that vitrine.toml takes, sections too."""
    found = []
    for name, field in model.model_fields.items():
        found.append((*at, name))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += fields(field.annotation, (*at, name))
    return found


def value(chance: random.Random, depth: int = 0) -> str:
    plain: tuple[Callable[[], Any], ...] = (
        lambda: json.dumps(chance.choice([v for v in VALUES if v.isprintable()])),
        lambda: chance.choice(("-1", "0", "1", "1.5", "1e400", "nan", "-inf", "9" * 30, "true", "1979-05-27", "0x10")),
        lambda: f"[{', '.join(value(chance, depth + 1) for _ in range(chance.randint(0, 3)))}]",
        lambda: f"{{{', '.join(f'k{at} = {value(chance, depth + 1)}' for at in range(chance.randint(0, 2)))}}}",
        lambda: chance.choice(("", "?", '"', "[[", "=", "\x00")),
    )
    return str(chance.choice(plain[:2] if depth > 2 else plain)())


def test_any_settings_are_taken_or_refused_in_a_line(tmp_path: Path):
    chance = random.Random(20261122)
    known, refused = fields(Settings), 0
    for _ in range(500):
        lines = [f"{'.'.join(chance.choice(known))} = {value(chance)}" for _ in range(chance.randint(1, 3))]
        (tmp_path / "vitrine.toml").write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
        try:
            load_settings(tmp_path)
        except UserError as error:
            refused += 1
            assert str(error).startswith("bad settings") and len(str(error).splitlines()) == 1, lines
    assert 300 < refused < 500


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00" * 100, b"[" * 100_000, b"a = " + b"[" * 5_000])
def test_a_file_of_junk_is_refused_in_a_line(tmp_path: Path, content: bytes):
    (tmp_path / "vitrine.toml").write_bytes(content)
    with pytest.raises(UserError, match="bad settings"):
        load_settings(tmp_path)
