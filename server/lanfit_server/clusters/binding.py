"""Bind the addresses and ports of a server, or explain why that is impossible. Accepts no connections.

Light enough to be imported for the first question.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lanfit.errors import LanfitError, lanfit_error
from lanfit.net.addresses import ALL_ADDRESSES, check_zone

#: Ports below this one need administrator rights on most systems.
FIRST_UNPRIVILEGED: Final = 1024
#: A port that is free for one family may be in use for the other: then another port is tried.
TRIALS: Final = 20
#: The errors of a system without an address family.
_NO_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)


@dataclass(frozen=True)
class Place:
    """An address to listen on."""

    family: int
    address: tuple[Any, ...]
    """As used by sockets, with port 0."""
    if_possible: bool = False
    """Whether the server can do without it on a system without this family."""


#: One socket per family, because sockets that serve both behave differently between systems.
_EVERYWHERE = [
    Place(socket.AF_INET, ("0.0.0.0", 0), if_possible=True),
    Place(socket.AF_INET6, ("::", 0, 0, 0), if_possible=True),
]


def places_of(host: str) -> list[Place]:
    """Return all addresses of a name ("0.0.0.0", "::" and "*": all addresses of both families). Blocks
    while resolving.

    Raises:
        InputError: the name is unknown or invalid.
    """
    host = host.strip()
    if host in ALL_ADDRESSES:
        return _EVERYWHERE
    bare = host[1:-1] if re.fullmatch(r"\[[^\[\]]*\]", host) else host
    if _is_ipv6(bare):
        check_zone(bare)
    try:
        found = socket.getaddrinfo(bare, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        if with_port := re.fullmatch(r"(.+[^:]):([0-9]+)", host):
            raise lanfit_error("listen.with-port", host=host, address=with_port[1], port=with_port[2]) from error
        raise lanfit_error("listen.unknown-name", host=host, reason=error) from error
    families = (socket.AF_INET, socket.AF_INET6)
    return list(dict.fromkeys(Place(int(info[0]), info[4]) for info in found if info[0] in families))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def bind(places: Sequence[Place], port: int) -> list[socket.socket]:
    """Bind a port of each address; 0 means any free one, but the same for all addresses.

    Raises:
        InputError: an address does not belong to this machine, or the port can't be used.
    """
    if not 0 <= port <= 65535:
        raise lanfit_error("listen.no-port", port=port)
    for trial in range(TRIALS):
        try:
            return _bound(places, port)
        except LanfitError as error:
            if port or error.code != "listen.port-in-use" or trial == TRIALS - 1:
                raise
    raise AssertionError("unreachable")


def _bound(places: Sequence[Place], port: int) -> list[socket.socket]:
    """Bind the port of each address; 0 means one that is free for the first."""
    sockets: list[socket.socket] = []
    missing: LanfitError | None = None
    try:
        for place in places:
            wanted = sockets[0].getsockname()[1] if sockets else port
            host, _, *rest = place.address
            try:
                sockets.append(
                    socket.create_server((host, wanted, *rest), family=socket.AddressFamily(place.family), backlog=128)
                )
            except OSError as error:
                missing = _unusable(error, str(host), wanted)
                if not (place.if_possible and error.errno in _NO_FAMILY):
                    raise missing from error
        if not sockets and missing is not None:
            raise missing
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def address_of(sock: socket.socket) -> str:
    """Return the address that a socket listens on, with the zone of a link-local one."""
    host, _, *rest = sock.getsockname()
    scope = rest[1] if len(rest) == 2 else 0
    return f"{host}%{socket.if_indextoname(scope)}" if scope else str(host)


def _unusable(error: OSError, address: str, port: int) -> LanfitError:
    # create_server includes the address in the text; the error number distinguishes the causes.
    if error.errno in (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", -1)):
        return lanfit_error("listen.port-in-use", port=port, address=address)
    if error.errno in (errno.EACCES, errno.EPERM, getattr(errno, "WSAEACCES", -1)):
        if port >= FIRST_UNPRIVILEGED:
            return lanfit_error("listen.port-reserved", port=port)
        return lanfit_error("listen.port-forbidden", port=port)
    if error.errno in (errno.EADDRNOTAVAIL, getattr(errno, "WSAEADDRNOTAVAIL", -1)):
        return lanfit_error("listen.other-machine", address=address)
    return lanfit_error("listen.failed", port=port, address=address, reason=error)
