"""The addresses of this machine that other machines can reach: the best one first. No packets are sent.

Ranking is a pure function of the system's list. Interfaces are classified by name, because no system reports portably
what one is for.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """The kinds of networks, the most likely way to a client first."""

    LAN = 0
    VPN = 1
    VIRTUAL = 2
    """Containers and virtual machines on this machine."""


@dataclass(frozen=True)
class Interface:
    """An interface with its addresses, as listed by the system."""

    name: str
    addresses: tuple[str, ...]
    """Link-local IPv6 addresses with their zone."""
    is_up: bool = True
    """With a carrier: a connected cable, a joined Wi-Fi."""
    has_default_route: bool = False
    is_point_to_point: bool = False


@dataclass(frozen=True)
class Candidate:
    """An address that a client may reach."""

    address: str
    interface: str
    kind: Kind

    @property
    def description(self) -> str:
        """Return the address with the information that users need to recognize it."""
        note = {Kind.LAN: "", Kind.VPN: ", a VPN", Kind.VIRTUAL: ", virtual"}[self.kind]
        return f"{self.address} ({self.interface}{note})"


#: On Linux, macOS and BSD: prefixes of names. On Windows, where users may rename interfaces: parts of names.
_VPN = re.compile(
    r"^(tun|tap|wg|utun|ppp|pptp|l2tp|ipsec|vti|xfrm|tailscale|zt|nordlynx|nordtun|proton|pvpn|mullvad|cscotun|gpd|fct"
    r"|wt|netbird|nebula|ham|warp|cloudflarewarp|openvpn|ovpn|vpn)[-_0-9a-z]*$"
    r"|vpn|wireguard|wintun|tap-windows|tailscale|zerotier|anyconnect|forti|pangp|globalprotect|juniper|pulse secure"
    r"|nordlynx|hamachi|netbird|warp",
    re.IGNORECASE,
)
_VIRTUAL = re.compile(
    r"^(docker|br-|virbr|vboxnet|vmnet|veth|vnet|vif|lxc|lxdbr|incus|podman|cni|cali|flannel|weave|kube|nerdctl|dummy"
    r"|bridge1\d\d$|vmenet|awdl|llw|anpi|ap\d|ifb|sit|ip6tnl|gre|teredo|isatap|6to4)"
    r"|vethernet|hyper-v|virtualbox|vmware|\bwsl\b|docker|bluetooth|loopback"
    r"|\* \d+$",  # "Local Area Connection* 2", in every language: Wi-Fi Direct
    re.IGNORECASE,
)


def kind_of(interface: Interface) -> Kind:
    """Return the kind of network of an interface, by its name. An interface with the default route is not internal: a
    bridge of Hyper-V or KVM may have the machine's own LAN address."""
    if _VIRTUAL.search(interface.name) and not interface.has_default_route:
        return Kind.VIRTUAL
    if interface.is_point_to_point or _VPN.search(interface.name):
        return Kind.VPN
    return Kind.LAN


def ranked(interfaces: Iterable[Interface]) -> list[Candidate]:
    """Return the addresses at which a client may join, the most likely one first; empty if there is only loopback.

    In this order: LAN; VPN, which other members of it can reach; link-local, the only addresses on a switch without
    DHCP; virtual. Among equals: with a carrier, with the default route, IPv4 because users type it. Interfaces without
    a carrier are left out if a better one has it.
    """
    found = []
    for interface in interfaces:
        kind = kind_of(interface)
        for address in _worth_telling(interface.addresses):
            group = _GROUPS.index((kind, True) if _ip(address).is_link_local else (kind, False))
            order = (group, not interface.is_up, not interface.has_default_route, ":" in address)
            found.append((order, interface.is_up, Candidate(address, interface.name, kind)))
    found.sort(key=lambda each: each[0])  # stable: otherwise as the system lists them
    connected = any(is_up and candidate.kind is not Kind.VIRTUAL for _, is_up, candidate in found)
    return [candidate for _, is_up, candidate in found if is_up or not connected]


#: Kind, and whether the address is link-local: the best first.
_GROUPS = [
    (Kind.LAN, False),
    (Kind.VPN, False),
    (Kind.LAN, True),
    (Kind.VIRTUAL, False),
    (Kind.VPN, True),
    (Kind.VIRTUAL, True),
]


def _worth_telling(addresses: Iterable[str]) -> list[str]:
    """Return the addresses of one interface: no loopback, one of IPv6, and a link-local one only if there is no other.

    IPv6 assigns several to an interface, of which privacy addresses change; a site-local one is stable.
    """
    usable = [text for text in addresses if not (_ip(text).is_loopback or _ip(text).is_unspecified)]
    found = [text for text in usable if not _ip(text).is_link_local] or usable
    six = sorted((text for text in found if ":" in text), key=lambda text: _ip(text) not in _OF_THIS_SITE)
    return [text for text in found if ":" not in text] + six[:1]


_OF_THIS_SITE = ipaddress.ip_network("fc00::/7")


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address)


# --- the answers of the system --------------------------------------------------------------------------------------


def interfaces_here() -> list[Interface]:
    """Return the interfaces of this machine that have addresses; empty if the system does not report them."""
    import psutil  # only for this

    try:
        listed, states = psutil.net_if_addrs(), psutil.net_if_stats()
    except OSError:
        return []
    outward = {address for target in _OUTSIDE if (address := _source_for(target))}
    found = []
    for name, entries in listed.items():
        texts = [entry.address for entry in entries if entry.family in (socket.AF_INET, socket.AF_INET6)]
        addresses = tuple(_with_zone(text, name) for text in texts)
        if not addresses:
            continue
        state = states.get(name)
        found.append(
            Interface(
                name,
                addresses,
                is_up=state is None or state.isup,
                has_default_route=bool(outward & {text.partition("%")[0] for text in texts}),
                is_point_to_point=state is not None and "pointopoint" in state.flags,
            )
        )
    return found


#: Addresses for documentation: the route to them is the default route. Connecting a UDP socket only looks it up.
_OUTSIDE = ("192.0.2.1", "2001:db8::1")


def _source_for(target: str) -> str | None:
    """Return the source address of packets to a target."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _with_zone(address: str, name: str) -> str:
    """Return a link-local IPv6 address with its zone, which Windows leaves out."""
    if "%" in address or ":" not in address or not _ip(address).is_link_local:
        return address
    return f"{address}%{name}"
