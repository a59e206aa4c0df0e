"""A sentence, not a trace: what any library raises comes to one line."""

import pytest

from vitrine.errors import UserError, VitrineError, one_line, reason

IN_A_WORKER = """
  An exception was thrown from the Python worker. Please see the stack trace below.
Traceback (most recent call last):
  File "/x/pyspark/worker.py", line 3271, in main
    process()
  File "/x/spark_jobs/ingest_catalog.py", line 40, in read
    raise error
{line}
"""
IN_JAVA = """An error occurred while calling o159.load.
: org.apache.spark.SparkException: Job aborted
\tat org.apache.spark.Thing.run(Thing.java:1)
Caused by: java.io.IOException: the disk said \x1b[31mno\x1b[0m
\tat org.apache.spark.Other.run(Other.java:2)
\t... 12 more
"""


def test_a_line_has_no_colours_no_breaks_and_ends_between_words() -> None:
    assert one_line("\x1b[1;31mView\x1b[0m 'a\tb'\r\n  does\x00 not\u202e exist\x1b]8;;http://x\x07") == (
        "View 'a b' does not exist"
    )
    assert one_line("tasse à thé " * 9, 30) == "tasse à thé tasse à thé tasse ..."
    assert one_line("x" * 50, 30) == f"{'x' * 30} ..."
    assert one_line("") == ""


def of_a_worker(line: str) -> str:
    return IN_A_WORKER.format(line=line)


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        (of_a_worker("vitrine.errors.UserError: no column 'uri'"), UserError, "no column 'uri'"),
        (of_a_worker("vitrine.errors.VitrineError: no GPU"), VitrineError, "no GPU"),
        (of_a_worker("OSError: [Errno 36] too long"), VitrineError, "OSError: [Errno 36] too long"),
        (of_a_worker("pyarrow.lib.ArrowInvalid: bad"), VitrineError, "ArrowInvalid: bad"),
        (IN_JAVA, VitrineError, "IOException: the disk said no"),
        ("\n\n", VitrineError, "RuntimeError: no message"),
        ("first\n  File x\nTraceback", VitrineError, "RuntimeError: first"),
    ],
)
def test_a_trace_comes_to_its_last_cause(text: str, kind: type[Exception], line: str) -> None:
    cause = reason(RuntimeError(text))
    assert type(cause) is kind and str(cause) == line


def test_one_of_two_errors_is_the_last_that_was_raised() -> None:
    between = "\nDuring handling of the above exception, another exception occurred:\n"
    both = of_a_worker("KeyError: 'a'") + between + of_a_worker("ValueError: b")
    assert str(reason(RuntimeError(both))) == "ValueError: b"
