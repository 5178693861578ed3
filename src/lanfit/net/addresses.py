"""Addresses as text: reading what users type, detecting invalid addresses, and writing an address with a port."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import unicodedata
from dataclasses import dataclass
from typing import Final

from lanfit.errors import lanfit_error

#: Names for all addresses of a machine that listens.
ALL_ADDRESSES: Final = ("", "*", "0.0.0.0", "::", "[::]")
#: Names in DNS, mDNS and Windows; in any script.
_NAME = re.compile(r"\w([\w.-]*[\w.])?")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """The address of the server that a client joins."""

    host: str
    """An IP address or a name; an IPv6 address without brackets, with its zone if it has one."""
    port: int | None = None

    def __str__(self) -> str:
        return self.host if self.port is None else with_port(self.host, self.port)


def parse_address(text: str) -> Address:
    """Parse the address of a server as users type it: `HOST`, `HOST:PORT`, `[IPV6]:PORT`, `HOST PORT`, or a URL with
    one of them.

    Raises:
        InputError: it is not the address of a server.
    """
    bare = _SCHEME.sub("", unicodedata.normalize("NFKC", text).strip()).rstrip("/")
    host, port = _split(bare)
    if not host:
        raise lanfit_error("address.none", text=text)
    host = _checked_host(host, bare)
    if port is None:
        return Address(host)
    if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise lanfit_error("address.no-port", text=text, port=port)
    return Address(host, int(port))


def _split(text: str) -> tuple[str, str | None]:
    """Return host and port, both unchecked."""
    if found := re.fullmatch(r"\[([^\]]*)\](?:\s*[:\s]\s*(.*))?", text):
        return found[1].strip(), found[2]
    text = re.sub(r"\s*:\s*", ":", text)
    between = ":" if text.count(":") == 1 else None
    host, *port = text.split(between, 1) or [""]
    return host, port[0] if port else None


def _checked_host(host: str, text: str) -> str:
    """Return the host if it is valid.

    Raises:
        InputError: it is not.
    """
    if ":" in host:
        return _checked_ipv6(host, text)
    if re.fullmatch(r"[0-9.]+", host):
        try:
            address = ipaddress.IPv4Address(host)
        except ValueError:
            raise lanfit_error("address.not-ipv4", host=host) from None
        if address.is_unspecified or address.is_multicast or host == "255.255.255.255":
            raise lanfit_error("address.all", host=host)
        return host
    if host == "*":
        raise lanfit_error("address.all", host=host)
    if not _NAME.fullmatch(host):
        raise lanfit_error("address.none", text=text)
    return host


def _checked_ipv6(host: str, text: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise lanfit_error("address.not-ipv6", host=host) from None
    if address.is_unspecified or address.is_multicast:
        raise lanfit_error("address.all", host=host)
    if not text.startswith("[") and (may_be := _with_port_behind(host)):
        raise lanfit_error("address.ambiguous", text=host, host=may_be[0], port=may_be[1])
    check_zone(host)
    return host


def _with_port_behind(text: str) -> tuple[str, str] | None:
    """Return the address and port that an IPv6 address without brackets may mean, such as `fd00::1:8470`.

    It is an ordinary address if its last four groups are derived from a hardware address.
    """
    host, _, port = text.rpartition(":")
    if not re.fullmatch("[1-9][0-9]{3}", port) or len(text.rpartition("::")[2].split(":")) >= 4:
        return None
    with contextlib.suppress(ValueError):
        ipaddress.IPv6Address(host)
        return host, port
    return None


def check_zone(host: str) -> None:
    """Check that an IPv6 address has a zone if it needs one, and that this machine has it.

    Raises:
        InputError: the zone is missing, or of another machine.
    """
    address = ipaddress.IPv6Address(host)
    zone = address.scope_id
    if zone is None and not address.is_link_local:
        return
    zones = _zones()
    shown = ", ".join(zones) or "none"
    if zone is None:
        example = next((zone for zone in zones if zone.startswith(("e", "w"))), *zones[:1] or ["eth0"])
        raise lanfit_error("address.no-zone", host=host, zone=example, zones=shown)
    if zone not in zones and not zone.isdecimal():
        raise lanfit_error("address.other-zone", host=host, zones=shown)


def _zones() -> list[str]:
    """Return the interfaces of this machine except loopback, as they are named in addresses: on Windows by their
    numbers."""
    try:
        found = socket.if_nameindex()
    except OSError:
        return []
    names = [(number, name) for number, name in found if not re.match(r"lo\d*$|loopback", name)]
    return [str(number) if os.name == "nt" else name for number, name in names]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on this address or name."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def with_port(host: str, port: int) -> str:
    """Return an address as users type it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
