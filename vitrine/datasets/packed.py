"""Files that may be packed by gzip, told by their first bytes and not by their names."""

import gzip
from typing import Any

_GZIP = b"\x1f\x8b"


def unpacked(file: Any) -> Any:
    """The content of ``file``, an open one in bytes, from its beginning."""
    file.seek(0)
    is_packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if is_packed else file
