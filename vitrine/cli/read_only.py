"""A process that cannot write the lake, because the file system refuses: for whoever asks and does not change."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from vitrine import surroundings
from vitrine.cli import output
from vitrine.errors import UserError
from vitrine.settings import Settings

_HELD = "VITRINE_HELD"  # set in the process that was started inside; it is not believed, only not started again
_PROGRAMS = ("unshare", "mount", "setpriv")
# Inside, nobody may undo it: without CAP_SYS_ADMIN nothing is mounted, without CAP_SYS_PTRACE there is no way through
# another process's root, and in a user namespace made inside a mount from outside stays as it is (user_namespaces(7)).
_LOST = "-sys_admin,-sys_ptrace"
_SCRIPT = (
    'mount --rbind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$PWD" && shift && '
    f'exec setpriv --bounding-set={_LOST} --inh-caps={_LOST} -- "$@"'
)


def writable(lake: Path) -> Path | None:
    """A folder of ``lake`` that this process may write; None where it may write none."""
    folders = (Path(folder) for folder, _, _ in os.walk(lake.resolve()))
    return next((folder for folder in folders if os.access(folder, os.W_OK)), None)


def hold(settings: Settings) -> None:
    """Return in a process that cannot write the lake: this one where that is so already (an account without the right
    to, a read-only mount), else this command started again, in a mount namespace where the home is read-only.

    Raises:
        UserError: neither is so here; the message says why, and what to do.
    """
    if settings.lake_uri:  # the rights of its credentials hold it, or nothing does
        return
    folder = writable(settings.lake)
    if folder is None:
        return
    if os.environ.get(_HELD):
        raise _refusal(settings.home, f"{str(folder)!r} is a mount of its own, and writable")
    inside = hold_command(settings.home)
    output.release_stdout()
    command = [sys.executable, "-m", "vitrine", *sys.argv[1:]]
    os.execvpe(inside[0], [*inside, *command], surroundings.for_child() | {_HELD: "1"})  # noqa: S606 (a list, no shell)


def hold_command(home: Path) -> list[str]:
    """The command before a command that runs it with ``home`` read-only: as root, else in a user namespace."""
    if missing := [name for name in _PROGRAMS if not shutil.which(name)]:
        raise _refusal(home, f"there is no {missing[0]} here")
    said = ""
    for user in ([], ["--map-root-user"]):
        inside = ["unshare", "--mount", *user, "sh", "-c", _SCRIPT, "vitrine", str(home)]
        tried = subprocess.run([*inside, "true"], capture_output=True, text=True, env=surroundings.for_child())
        if tried.returncode == 0:
            return inside
        said = (tried.stderr.strip().splitlines() or [f"unshare ended with {tried.returncode}"])[0]
    raise _refusal(home, said)


def _refusal(home: Path, why: str) -> UserError:
    return UserError(
        f"{str(home)!r} cannot be held read-only here ({why}): ask as an account that may not write it, or mount it "
        "read-only"
    )
