"""Networks of machines for tests: namespaces joined by cables and switches (Linux, with the rights of root).

    def test_...(network: Network) -> None:        # the fixture of conftest.py; skips where this is not allowed
        switch = network.switch()
        server, pc = network.machine(), network.machine()
        server.plug(switch, "10.99.0.1/24", "fd00::1/64")
        pc.plug(switch, "10.99.0.11/24")
        with server.program("server", *flags, folder=place.root) as program: ...

Every namespace has names of its own for its interfaces, so any may be called eth0, docker0 or tun0. Nothing leaves the
namespaces, and all of them are removed at the end, whatever happened.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from running import Program

#: Within a namespace: addresses are usable at once, instead of after a second of looking for another machine with them.
AT_ONCE = "for each in all default; do echo 0 > /proc/sys/net/ipv6/conf/$each/accept_dad; done"
ROUTER = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"


def ip(*arguments: object) -> str:
    """Run `ip`; returns what it printed.

    Raises:
        AssertionError: it failed.
    """
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(map(str, arguments))}: {done.stderr.strip()}"
    return done.stdout


class Machine:
    """A namespace: a machine, or the switch or router between machines."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._ports = 0
        ip("netns", "add", namespace)
        self.ip("link", "set", "lo", "up")
        self.run("sh", "-c", AT_ONCE)

    # --- what it is connected to --------------------------------------------------------------------------------

    def ip(self, *arguments: object) -> str:
        """Run `ip` for its interfaces and routes."""
        return ip("-n", self.namespace, *arguments)

    def plug(self, switch: Machine, *addresses: str, name: str = "eth0") -> None:
        """Connect a new interface to a switch, with addresses such as 10.99.0.1/24 or fd00::1/64."""
        port = switch._new_port()
        self._cable(name, switch, port)
        switch.ip("link", "set", port, "master", "switch", "up")
        self._bring_up(name, addresses)

    def connect(self, other: Machine, *addresses: str, name: str = "eth0", port: str, to: tuple[str, ...] = ()) -> None:
        """Connect a new interface to one of another machine, called `port` there, with the addresses `to`."""
        self._cable(name, other, port)
        self._bring_up(name, addresses)
        other._bring_up(port, to)

    def interface(self, name: str, *addresses: str, kind: Literal["bridge", "tun", "tap"]) -> None:
        """Add an interface that leads nowhere and has no carrier, such as docker0 or tun0.

        One with a carrier, whatever its name, is made by plugging it into a switch of its own.
        """
        if kind == "bridge":
            self.ip("link", "add", name, "type", "bridge")
        else:
            self.ip("tuntap", "add", "dev", name, "mode", kind)
        self._bring_up(name, addresses)

    def default_route(self, gateway: str) -> None:
        """Send what is for no network of its own to this address."""
        self.ip(*_family(gateway), "route", "replace", "default", "via", gateway)

    def route(self, *arguments: object) -> None:
        """Add a route: `route("10/8", "dev", "tun0")`. The types `prohibit`, `unreachable` and `blackhole` refuse as
        firewalls do: by an ICMP message of this kind to machines that this one forwards for, or in silence.
        """
        self.ip(*_family(" ".join(map(str, arguments))), "route", "add", *arguments)

    def forward(self) -> None:
        """Be a router: pass on what is for others."""
        self.run("sh", "-c", ROUTER)

    def slow(self, interface: str, rate: str, *, burst: str = "16kbit", latency: str = "500ms") -> None:
        """Send at no more than a rate such as 1mbit."""
        self.run(
            "tc", "qdisc", "replace", "dev", interface, "root", "tbf", "rate", rate, "burst", burst, "latency", latency
        )

    def lose_large_packets(self, switch: Machine, port: str, size: int, interface: str = "eth0") -> None:
        """Let a port of the switch drop what this machine sends in packets larger than that, without a word."""
        self.ip("link", "set", interface, "gso_max_segs", 1)  # else large ones pass whole, to be cut later
        switch.ip("link", "set", port, "mtu", size)

    def down(self, interface: str = "eth0") -> None:
        """Pull the plug of an interface; its IPv6 addresses and its routes go with it."""
        self.ip("link", "set", interface, "down")

    def up(self, interface: str = "eth0") -> None:
        self.ip("link", "set", interface, "up")

    def _cable(self, name: str, other: Machine, port: str) -> None:
        self.ip("link", "add", "name", name, "type", "veth", "peer", "name", port, "netns", other.namespace)

    def _bring_up(self, name: str, addresses: tuple[str, ...]) -> None:
        self.ip("link", "set", name, "up")
        for address in addresses:
            self.ip(*_family(address), "address", "add", address, "dev", name, *["nodad"] * (":" in address))

    def _new_port(self) -> str:
        self._ports += 1
        return f"port{self._ports}"

    # --- what runs on it ----------------------------------------------------------------------------------------

    def program(self, *arguments: object, folder: Path, **options: Any) -> Program:
        """A `lanfit` process on this machine; see `running.Program`."""
        return Program(*arguments, folder=folder, namespace=self.namespace, **options)

    def run(self, *command: object, env: Mapping[str, str] | None = None) -> str:
        """Run a command to its end; returns what it printed."""
        argv = ["ip", "netns", "exec", self.namespace, *map(str, command)]
        done = subprocess.run(argv, capture_output=True, text=True, env=env)
        assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr.strip()}"
        return done.stdout

    def python(self, code: str, *arguments: object) -> str:
        """Run Python code with the modules of this environment; returns what it printed."""
        return self.run(sys.executable, "-P", "-c", code, *arguments)


class Network:
    """The machines of one test."""

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex[:8]
        self._namespaces: list[str] = []

    def machine(self) -> Machine:
        """A machine without any cable."""
        self._namespaces.append(f"lanfit-{self._id}-{len(self._namespaces)}")
        return Machine(self._namespaces[-1])

    def switch(self) -> Machine:
        """A switch, to plug machines into. Its interface `switch` is the bridge, and may have addresses, too."""
        switch = self.machine()
        switch.ip("link", "add", "switch", "type", "bridge")
        switch.ip("link", "set", "switch", "up")
        return switch

    def remove(self) -> None:
        """Remove all namespaces, with the interfaces in them."""
        failed = []
        for namespace in self._namespaces:
            done = subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, text=True)
            if namespace in _existing():
                failed.append(done.stderr.strip())
        assert not failed, f"namespaces are left: {failed}"


def _family(text: str) -> list[str]:
    return ["-6"] if ":" in text else []


def _existing() -> set[str]:
    return {line.split()[0] for line in ip("netns", "list").splitlines() if line.strip()}


@functools.cache
def why_not() -> str:
    """Why there can be no namespaces here; empty where there can be."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are a thing of Linux"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "the commands ip and tc (iproute2) are not installed"
    network = Network()
    try:
        switch, machine = network.switch(), network.machine()
        machine.plug(switch, "10.99.0.1/24", "fd00::1/64")
        machine.interface("tun0", kind="tun")
    except AssertionError as error:
        return f"network namespaces are not allowed here: {error}"
    finally:
        with contextlib.suppress(AssertionError):
            network.remove()
    return ""


@contextlib.contextmanager
def networks() -> Iterator[Network]:
    """A network for one test; skips it where there can be none."""
    if reason := why_not():
        pytest.skip(reason)
    network = Network()
    try:
        yield network
    finally:
        network.remove()
