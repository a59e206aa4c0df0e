"""How pages spell values: hostile text made visible, moments, figures, durations."""

import json
from datetime import UTC, datetime
from typing import Any

MOST_TEXT = 200  # characters of one id, file name or reason


def shown(value: object, most: int = MOST_TEXT) -> str:
    """``value`` as text in which every character can be seen: others as ``\\n`` or ``\\u202e``; cut at ``most``."""
    text = str(value)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def figure(value: object) -> str:
    """A figure of a gate or a run, in few characters."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def money(value: float) -> str:
    """An amount with as many places as tell it apart from nothing."""
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.2g}"


def size(value: float) -> str:
    """A number of bytes."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:,.0f} {unit}" if value >= 10 or unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def score(value: float | None) -> str:
    """A metric, to three places."""
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def change(value: float) -> str:
    """A difference of two metrics, with its sign."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def ends(low: float | None, high: float | None, signed: bool = False) -> str:
    """An interval; empty where none is known."""
    if low is None or high is None:
        return ""
    return f"{change(low)} to {change(high)}" if signed else f"{score(low)} \N{EN DASH} {score(high)}"


FILTERS: dict[str, Any] = {each.__name__: each for each in (shown, moment, figure, seconds, money, size, score, change)}
