"""Where servers listen."""

import socket

from vitrine.errors import UserError


def check_free(host: str, port: int, options: str) -> None:
    """Raises UserError where ``host``:``port`` cannot be listened at; ``options`` choose another.

    A server of another library would say so in its own words, or end with an exit code that means something else here.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except (OSError, ValueError) as error:  # ValueError: no name of a host
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise UserError(f"cannot listen on {host}:{port} ({why}): choose another with {options}") from None
