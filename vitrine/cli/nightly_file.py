"""``[nightly]`` of vitrine.toml, changed in its place: comments, order and all other settings stay as they are."""

import os
import shutil
import tomllib
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from vitrine import files
from vitrine.errors import UserError
from vitrine.settings import CONFIG_NAME, Settings, find_config

_BYTE_ORDER_MARK = "\ufeff"
_VARIABLE = "VITRINE_NIGHTLY"


def check(settings: Settings, dataset: str) -> Path:
    """The file that says what nights do with ``dataset``.

    Raises:
        UserError: there is none, something goes before it, or its nights do not know the data set.
    """
    path = find_config()
    if path is None:
        raise UserError(f"there is no {CONFIG_NAME} to write to, here or in a folder above: make one with [nightly]")
    if before := [name for name in os.environ if name.upper().startswith(_VARIABLE)]:
        raise UserError(f"{before[0]} goes before {path}: what is written there would change nothing; unset it")
    nightly = [each.name for each in settings.nightly.datasets]
    if dataset not in nightly:
        known = ", ".join(nightly) or "(none yet)"
        raise UserError(
            f"nights do not work on {dataset!r}: name it, with its source, under [[nightly.datasets]] of {path}, which "
            f"has {known}"
        )
    return path


def put_first(path: Path, encoder: str) -> bool:
    """Have nights promote ``encoder``: it comes first in ``nightly.encoders`` of the file at ``path``, what is there
    follows. False where it is first already: then nothing is written.

    The file is replaced in one rename, or not at all.

    Raises:
        UserError: the file cannot be read, changed or written.
    """
    path = path.resolve()  # where it is a link, what it leads to is replaced
    try:
        text = path.read_bytes().decode("utf-8-sig")
        before = tomllib.loads(text)
        document = tomlkit.parse(text)
    except (OSError, ValueError, TOMLKitError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    names = before.get("nightly", {}).get("encoders", [])
    if names[:1] == [encoder]:
        return False
    wanted = [encoder, *(name for name in names if name != encoder)]
    _set(document, encoder)
    changed = tomlkit.dumps(document)
    # The library's word is not taken for it: the file is everybody's settings.
    if tomllib.loads(changed) != before | {"nightly": before.get("nightly", {}) | {"encoders": wanted}}:
        raise UserError(f"{path} is written in a way that cannot be changed safely: set nightly.encoders = {wanted!r}")
    mark = _BYTE_ORDER_MARK if path.read_bytes().startswith(_BYTE_ORDER_MARK.encode()) else ""
    try:
        with files.whole(path) as fresh:
            fresh.write_bytes((mark + changed).encode())
            shutil.copymode(path, fresh)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    return True


def _set(document: Any, encoder: str) -> None:
    """Name the encoder first in the list, which keeps its comments; where there is none, make it."""
    if "nightly" not in document:
        document["nightly"] = tomlkit.table()
    nightly = document["nightly"]
    if "encoders" not in nightly:
        nightly["encoders"] = [encoder]
        return
    names = nightly["encoders"]
    if encoder in names:
        names.remove(encoder)
    names.insert(0, encoder)
