"""Text of tables and of strangers, made fit to be seen; escaping it is left to whoever puts it into a page."""

MOST_TEXT = 200  # characters of one id, file name or reason


def shown(value: object, most: int = MOST_TEXT) -> str:
    """``value`` as text in which every character can be seen: others as ``\\n`` or ``\\u202e``; cut at ``most``."""
    text = str(value)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
