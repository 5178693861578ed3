"""Which address of a machine is told to clients: rows are interfaces as systems list them."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from namespaces import Machine, Network

from lanfit_server.start.interfaces import Interface, Kind, interfaces_here, kind_of, ranked

LOOPBACK = Interface("lo", ("127.0.0.1", "::1"))
DOCKER = Interface("docker0", ("172.17.0.1",), is_up=False)


def reported(*interfaces: Interface) -> list[str]:
    return [candidate.address for candidate in ranked([LOOPBACK, *interfaces])]


def lan(*addresses: str, name: str = "eth0", gateway: bool = False) -> Interface:
    return Interface(name, addresses, has_default_route=gateway)


@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        pytest.param([lan("10.99.0.1")], ["10.99.0.1"], id="a lab switch without a gateway"),
        pytest.param([lan("192.168.50.7")], ["192.168.50.7"], id="another network without a gateway"),
        pytest.param([DOCKER, lan("10.99.0.1", gateway=True)], ["10.99.0.1"], id="Docker without containers"),
        pytest.param([DOCKER, lan("10.99.0.1")], ["10.99.0.1"], id="the same without a gateway"),
        pytest.param(
            [Interface("tun0", ("10.8.0.2",), has_default_route=True), lan("10.99.0.1")],
            ["10.99.0.1", "10.8.0.2"],
            id="a VPN that takes everything",
        ),
        pytest.param(
            [Interface("tun0", ("10.8.0.2",)), lan("192.168.1.20", gateway=True)],
            ["192.168.1.20", "10.8.0.2"],
            id="a VPN to one network",
        ),
        pytest.param(
            [lan("10.99.0.1", name="eth1"), lan("10.99.5.9", gateway=True)],
            ["10.99.5.9", "10.99.0.1"],
            id="a campus and a lab",
        ),
        pytest.param(
            [Interface("br-5d1f0c3a9b7e", ("192.168.0.1",)), lan("10.99.0.1")],
            ["10.99.0.1", "192.168.0.1"],
            id="a Docker bridge that looks like a LAN, and no gateway",
        ),
        pytest.param([lan("fd00::1", "fe80::1%eth0")], ["fd00::1"], id="IPv6 only"),
        pytest.param([lan("fd00::1", gateway=True)], ["fd00::1"], id="IPv6 only, with a gateway"),
        pytest.param([lan("fd00::1", "10.99.0.1")], ["10.99.0.1", "fd00::1"], id="both families"),
        pytest.param([lan("fe80::5:1%eth0")], ["fe80::5:1%eth0"], id="only a link-local address"),
        pytest.param([lan("169.254.3.4")], ["169.254.3.4"], id="a switch where nobody hands out addresses"),
        pytest.param(
            [DOCKER, Interface("br-0123456789ab", ("172.18.0.1",)), lan("169.254.3.4")],
            ["169.254.3.4", "172.18.0.1"],
            id="the same with containers",
        ),
        pytest.param(
            [lan("192.168.1.4", name="wlan0", gateway=True), Interface("eth0", ("10.0.0.7",), is_up=False)],
            ["192.168.1.4"],
            id="no cable in one of two",
        ),
        pytest.param([Interface("eth0", ("10.0.0.7",), is_up=False)], ["10.0.0.7"], id="no cable yet"),
        pytest.param(
            [lan("2001:db8::5", "2001:db8::9999", "fd00::5", "10.0.0.7")],
            ["10.0.0.7", "fd00::5"],
            id="many IPv6 addresses of one interface",
        ),
        pytest.param([], [], id="no network"),
    ],
)
def test_the_address_that_clients_reach_comes_first(interfaces: list[Interface], expected: list[str]) -> None:
    assert reported(*interfaces) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, Kind.LAN) for name in ("eth0", "enp3s0", "wlan0", "wlp2s0", "en0", "eno1", "bond0", "br0", "vmbr0")),
        *(
            (name, Kind.LAN)
            for name in ("Ethernet", "Wi-Fi", "WLAN", "Ethernet 2", "LAN-Verbindung", "以太网", "team0")
        ),
        *(
            (name, Kind.VPN)
            for name in ("tun0", "tap0", "wg0", "wg-office", "utun4", "ppp0", "tailscale0", "ztabcdef12")
        ),
        *((name, Kind.VPN) for name in ("ZeroTier One [8056c2e21c000001]", "Tailscale", "OpenVPN TAP-Windows6")),
        *((name, Kind.VPN) for name in ("NordLynx", "Cisco AnyConnect Secure Mobility Client Connection", "My VPN")),
        *((name, Kind.VIRTUAL) for name in ("docker0", "br-5d1f0c3a9b7e", "virbr0", "vboxnet0", "vmnet8", "veth12ab")),
        *((name, Kind.VIRTUAL) for name in ("vEthernet (WSL)", "vEthernet (Default Switch)", "bridge100", "lxdbr0")),
        *((name, Kind.VIRTUAL) for name in ("VirtualBox Host-Only Network", "VMware Network Adapter VMnet8")),
        *((name, Kind.VIRTUAL) for name in ("LAN-Verbindung* 2", "Local Area Connection* 11", "cni0", "awdl0")),
    ],
)
def test_names_tell_a_lan_from_a_vpn_and_from_what_is_virtual(name: str, kind: Kind) -> None:
    assert kind_of(Interface(name, ("10.0.0.1",))) is kind


def test_a_bridge_in_the_way_to_the_world_holds_the_address_in_the_lan() -> None:
    assert kind_of(Interface("vEthernet (LAN)", ("10.0.0.1",), has_default_route=True)) is Kind.LAN
    assert kind_of(Interface("tun0", ("10.8.0.2",), has_default_route=True)) is Kind.VPN


def test_a_tunnel_with_a_name_of_its_own_is_a_vpn() -> None:
    assert kind_of(Interface("office", ("10.8.0.2",), is_point_to_point=True)) is Kind.VPN


def test_people_read_which_interface_has_an_address_and_what_is_special_about_it() -> None:
    vpn, docker = Interface("tun0", ("10.8.0.2",)), Interface("docker0", ("172.17.0.1",))
    assert [each.description for each in ranked([docker, vpn, lan("10.0.0.7")])] == [
        "10.0.0.7 (eth0)",
        "10.8.0.2 (tun0, a VPN)",
        "172.17.0.1 (docker0, virtual)",
    ]


ADDRESSES = st.ip_addresses().map(str)
INTERFACES = st.builds(
    Interface,
    st.sampled_from(["lo", "eth0", "tun0", "docker0", "wlan0"]),
    st.lists(ADDRESSES, max_size=3).map(tuple),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(INTERFACES, max_size=5))
def test_something_is_reported_wherever_there_is_more_than_loopback(interfaces: list[Interface]) -> None:
    here = {address for interface in interfaces for address in interface.addresses}
    useful = {each for each in here if not ipaddress.ip_address(each).is_loopback}
    useful -= {"0.0.0.0", "::"}
    found = {candidate.address for candidate in ranked(interfaces)}
    assert found <= useful
    assert bool(found) == bool(useful)


# --- as this system lists them --------------------------------------------------------------------------------------

TELL = """
from lanfit_server.start.interfaces import interfaces_here, ranked
for each in ranked(interfaces_here()):
    print(each.description)
"""


def shown_at(machine: Machine) -> list[str]:
    return machine.python(TELL).splitlines()


def test_every_address_that_is_reported_is_of_this_machine() -> None:
    import socket

    for candidate in ranked(interfaces_here()):
        with socket.socket(socket.AF_INET6 if ":" in candidate.address else socket.AF_INET) as probe:
            probe.bind(socket.getaddrinfo(candidate.address, 0, type=socket.SOCK_STREAM)[0][4])


def test_a_machine_at_a_switch_without_a_gateway_tells_its_address_there(network: Network) -> None:
    machine = network.machine()
    machine.plug(network.switch(), "10.99.0.1/24")
    machine.interface("docker0", "172.17.0.1/16", kind="bridge")
    assert shown_at(machine)[0] == "10.99.0.1 (eth0)"  # the kernel takes a while to see that docker0 has no carrier


def test_a_vpn_that_takes_everything_comes_after_the_lan(network: Network) -> None:
    machine = network.machine()
    machine.plug(network.switch(), "10.99.0.1/24")
    machine.default_route("10.99.0.254")
    machine.plug(network.switch(), "10.8.0.2/24", name="tun0")
    machine.route("0.0.0.0/1", "dev", "tun0")
    machine.route("128.0.0.0/1", "dev", "tun0")
    assert shown_at(machine) == ["10.99.0.1 (eth0)", "10.8.0.2 (tun0, a VPN)"]


def test_the_network_with_the_gateway_comes_before_the_one_without(network: Network) -> None:
    machine = network.machine()
    machine.plug(network.switch(), "10.99.0.1/24", name="eth0")
    machine.plug(network.switch(), "10.99.5.9/24", name="eth1")
    machine.default_route("10.99.5.1")
    assert shown_at(machine) == ["10.99.5.9 (eth1)", "10.99.0.1 (eth0)"]


def test_a_machine_that_has_only_a_link_local_address_tells_it_with_its_zone(network: Network) -> None:
    machine = network.machine()
    machine.plug(network.switch())
    [only] = shown_at(machine)
    assert only.startswith("fe80::")
    assert only.endswith("%eth0 (eth0)")


def test_a_machine_without_a_network_tells_nothing(network: Network) -> None:
    assert shown_at(network.machine()) == []
