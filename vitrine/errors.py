"""The errors that a person or a scheduler can act on, each with its exit code."""

import re
from collections.abc import Iterable

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")  # ECMA-48: CSI and OSC sequences
_LAST_OF_TRACE = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", re.MULTILINE)
_CAUSE = re.compile(r"^(?:Caused by: |: )(\S.*)", re.MULTILINE)
_PACKAGE = re.compile(r"^(?:[a-z_][\w$]*\.)+(?=[A-Z])")


class VitrineError(Exception):
    """Something failed; the message is one line that a person can act on. Exit code 1."""

    exit_code = 1


class UserError(VitrineError):
    """The caller asked for something that cannot be: the message names value, rule and choices. Exit code 2."""

    exit_code = 2


class GateRefused(VitrineError):
    """A gate refused, and what serves goes on serving. Exit code 3."""

    exit_code = 3


class Undecided(VitrineError):
    """What was measured does not decide: nothing was changed. Exit code 4."""

    exit_code = 4


def one_line(text: object, longest: int = 400) -> str:
    """``text`` without line breaks, colours and what else does not print; cut between two words where it is longer."""
    plain = "".join(char if char.isprintable() else " " for char in _COLOURS.sub("", str(text)))
    line = " ".join(plain.split())
    if len(line) <= longest:
        return line
    words = line[:longest].rsplit(" ", 1)[0] if " " in line[longest // 2 : longest] else line[:longest]
    return f"{words} ..."


def reason(error: BaseException) -> VitrineError:
    """What ``error``, of whatever library, comes to for a person: its last cause, in one line.

    Spark gives Python's and Java's traces as its message; one of our own errors in a worker is that error again.
    """
    text = _COLOURS.sub("", str(error)).strip()
    causes = _LAST_OF_TRACE.findall(text) or _CAUSE.findall(text)
    kind, _, said = causes[-1].partition(": ") if causes else (type(error).__name__, "", text)
    kind = _PACKAGE.sub("", kind)
    for ours in (UserError, VitrineError):
        if causes and kind == ours.__name__:
            return ours(one_line(said))
    first = next((line for line in said.splitlines() if line.strip()), "no message")
    return VitrineError(f"{one_line(kind)}: {one_line(first)}")


def unknown(what: str, value: object, choices: Iterable[str]) -> UserError:
    """The error for a value that is none of ``choices``."""
    known = ", ".join(sorted(choices)) or "(none yet)"
    return UserError(f"unknown {what} {str(value)!r}: choose one of {known}")
