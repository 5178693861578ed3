"""Which address of this machine others in the LAN can reach, as a guess; no packet is sent to find out."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

#: Where routes are asked for: the world, then the private networks, then IPv6. Connecting a UDP socket only looks up
#: the route; nothing is sent.
_TARGETS = ("192.0.2.1", "192.168.0.1", "192.168.1.1", "10.0.0.1", "172.16.0.1", "169.254.1.1", "2001:db8::1")


def lan_addresses() -> list[str]:
    """The addresses of this machine that others may reach, the best guess first; empty without a network.

    The best is the one that packets to the outside would come from; then private networks, then the rest.
    """
    found: list[str] = []
    for target in _TARGETS:
        address = _source_for(target)
        if address is not None and address not in found and not ipaddress.ip_address(address).is_loopback:
            found.append(address)
    # A stable sort: IPv4 first, because people type it; otherwise as found.
    return sorted(found, key=lambda address: ":" in address)


def lan_address() -> str:
    """The best guess, or 127.0.0.1 when there is no network."""
    return next(iter(lan_addresses()), "127.0.0.1")


def is_loopback(host: str) -> bool:
    """Can only this machine reach a server that listens on this address or name?"""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _source_for(target: str) -> str | None:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            address = ipaddress.ip_address(str(probe.getsockname()[0]).partition("%")[0])
    except OSError:
        return None
    return None if address.is_unspecified else str(address)
