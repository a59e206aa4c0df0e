"""The errors that a person or a scheduler can act on, each with its exit code."""

from collections.abc import Iterable


class VitrineError(Exception):
    """Something failed; the message is one line that a person can act on. Exit code 1."""

    exit_code = 1


class UserError(VitrineError):
    """The caller asked for something that cannot be: the message names value, rule and choices. Exit code 2."""

    exit_code = 2


class GateRefused(VitrineError):
    """A gate refused, and what serves goes on serving. Exit code 3."""

    exit_code = 3


def unknown(what: str, value: object, choices: Iterable[str]) -> UserError:
    """The error for a value that is none of ``choices``."""
    known = ", ".join(sorted(choices)) or "(none yet)"
    return UserError(f"unknown {what} {str(value)!r}: choose one of {known}")
