"""Takes addresses and ports for a server, or says why that can't be. Accepts no connection.

Light enough to be imported for the first question.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from lanfit.errors import LanfitError
from lanfit.mistakes import mistake

#: Ports below this one need the rights of an administrator on most systems.
FIRST_UNPRIVILEGED: Final = 1024


def addresses_of(host: str) -> list[tuple[int, str]]:
    """Family and address of everything that a name stands for ("" and "0.0.0.0": all interfaces). Waits for an answer.

    Raises:
        InputError: nobody knows the name.
    """
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise mistake("listen.unknown-name", host=host, reason=error) from error
    families = (socket.AF_INET, socket.AF_INET6)
    return list(dict.fromkeys((int(info[0]), str(info[4][0])) for info in found if info[0] in families))


def bind(addresses: list[tuple[int, str]], port: int) -> list[socket.socket]:
    """Take a port of each address; 0 is any free one, but the same for all of them.

    Raises:
        InputError: an address is not of this machine, or the port can't be had.
    """
    if not 0 <= port <= 65535:
        raise mistake("listen.no-port", port=port)
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            wanted = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_bound(family, address, wanted))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bound(family: int, address: str, port: int) -> socket.socket:
    try:
        return socket.create_server((address, port), family=family, backlog=128)
    except OSError as error:
        raise _unusable(error, address, port) from error


def _unusable(error: OSError, address: str, port: int) -> LanfitError:
    # create_server words the address into the text; the number is what tells the causes apart.
    if error.errno in (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", -1)):
        return mistake("listen.port-in-use", port=port, address=address)
    if error.errno in (errno.EACCES, errno.EPERM, getattr(errno, "WSAEACCES", -1)):
        if port >= FIRST_UNPRIVILEGED:
            return mistake("listen.port-reserved", port=port)
        return mistake("listen.port-forbidden", port=port)
    if error.errno in (errno.EADDRNOTAVAIL, getattr(errno, "WSAEADDRNOTAVAIL", -1)):
        return mistake("listen.other-machine", address=address)
    return mistake("listen.failed", port=port, address=address, reason=error)
