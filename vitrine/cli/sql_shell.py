"""``vitrine sql --shell``: statements by hand or from a pipe, each ended by a semicolon."""

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitrine.cli import output
from vitrine.errors import UserError, VitrineError

HELP = """A statement ends with ; and may take several lines.
  .tables       the tables, views and functions, and what each is
  .help         this
  .quit         leave; Ctrl-D too. Ctrl-C ends a query that takes too long, and forgets what was typed
DESCRIBE name, DESCRIBE HISTORY name, EXPLAIN and SHOW work as everywhere in Spark SQL."""

Rows = tuple[list[str], list[list[Any]]]
_HISTORY = Path("~/.vitrine_sql_history")
# A semicolon in a string, a quoted name or a comment, closed or not yet, ends nothing.
_TOKEN = re.compile(
    r"'(?:[^'\\]|\\.)*(?:'|\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\Z)|`[^`]*(?:`|\Z)|--[^\n]*|/\*.*?(?:\*/|\Z)|;", re.DOTALL
)


def statements(text: str) -> tuple[list[str], str]:
    """The whole statements at the head of ``text``, without their semicolons, and what is left of it."""
    found, start = [], 0
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            found.append(text[start : token.start()].strip())
            start = token.end()
    rest = text[start:]
    return [each for each in found if _says_something(each)], rest if _says_something(rest) else ""


def _says_something(text: str) -> bool:
    """Is there anything in it but blanks and comments?"""
    return bool(_TOKEN.sub(lambda token: "" if token[0].startswith(("--", "/*")) else token[0], text).strip())


class Shell:
    """Reads statements from stdin until its end and shows what ``ask`` finds.

    ``known`` are (name, kind, what it is) of what can be asked, for ``.tables`` and the Tab key.
    """

    def __init__(self, ask: Callable[[str], Rows], known: Iterable[tuple[str, str, str]], form: str) -> None:
        self._ask, self._known, self._form = ask, list(known), form
        self._typed = sys.stdin.isatty()
        self._failed = self._asked = 0

    def run(self) -> None:
        """Until the end of stdin.

        Raises:
            UserError: stdin is no terminal, and some of its statements failed.
        """
        if self._typed:
            _edit_lines([name for name, _, _ in self._known])
            print("Spark SQL, read-only; .help says how, Ctrl-D leaves", file=sys.stderr)
        for statement in self._statements():
            self._answer(statement)
        if self._failed and not self._typed:
            raise UserError(f"{self._failed} of {self._asked} statements failed")

    def _statements(self) -> Iterator[str]:
        waiting = ""
        while True:
            try:
                line = input(("vitrine> ", "    ...> ")[bool(waiting)] if self._typed else "")
            except KeyboardInterrupt:
                print(file=sys.stderr)
                waiting = ""
                continue
            except EOFError:
                if self._typed:
                    print(file=sys.stderr)
                yield from [waiting.strip()] if waiting and not self._typed else []
                return
            if line.strip().startswith(".") and not waiting:
                if line.strip() == ".quit":
                    return
                self._command(line.strip())
                continue
            whole, waiting = statements(f"{waiting}{line}\n")
            yield from whole

    def _command(self, line: str) -> None:
        if line == ".tables":
            output.emit_rows(("name", "kind", "what"), self._known, self._form)
        else:
            output.emit(HELP if line == ".help" else f"no command {line!r}: .tables, .help, .quit")

    def _answer(self, statement: str) -> None:
        self._asked += 1
        started = time.monotonic()
        try:
            columns, rows = self._ask(statement)
        except VitrineError as error:
            self._failed += 1
            print(f"vitrine: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
        else:
            if columns:
                output.emit_rows(columns, rows, self._form)
            if self._typed:
                print(f"{len(rows)} rows, {time.monotonic() - started:.1f} s", file=sys.stderr)


def _edit_lines(names: list[str]) -> None:
    """Arrow keys, a history that outlives the shell, and names by the Tab key, where readline is there."""
    with suppress(ImportError):
        import atexit
        import readline

        history = _HISTORY.expanduser()
        with suppress(OSError):  # none yet, or not ours to read
            readline.read_history_file(history)
        readline.set_history_length(1000)
        atexit.register(_write_history, history)
        readline.set_completer(lambda text, at: dict(enumerate(n for n in names if n.startswith(text))).get(at))
        readline.parse_and_bind("tab: complete")


def _write_history(path: Path) -> None:
    import readline

    with suppress(OSError):
        readline.write_history_file(path)
