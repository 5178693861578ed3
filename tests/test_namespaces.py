"""The networks that tests make: what is connected reaches each other, what refuses does so as it should."""

import subprocess

import pytest
from namespaces import Network

CONNECT = """
import errno, socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 5)
except OSError as error:
    print(errno.errorcode.get(error.errno, error))
"""


def test_machines_at_one_switch_reach_each_other_by_both_families(network: Network) -> None:
    switch, one, other = network.switch(), network.machine(), network.machine()
    one.plug(switch, "10.99.0.1/24", "fd00::1/64")
    other.plug(switch, "10.99.0.2/24", "fd00::2/64")

    # Nobody listens on the port; who says so is the other machine.
    assert other.python(CONNECT, "10.99.0.1").strip() == "ECONNREFUSED"
    assert other.python(CONNECT, "fd00::1").strip() == "ECONNREFUSED"


@pytest.mark.parametrize(("kind", "received"), [("prohibit", "EHOSTUNREACH"), ("unreachable", "EHOSTUNREACH")])
def test_a_router_refuses_as_a_firewall_does(network: Network, kind: str, received: str) -> None:
    router, pc = network.machine(), network.machine()
    pc.connect(router, "10.99.0.2/24", port="eth1", to=("10.99.0.254/24",))
    pc.default_route("10.99.0.254")
    router.forward()
    router.route(kind, "10.99.7.0/24")

    assert pc.python(CONNECT, "10.99.7.1").strip() == received


def test_a_machine_has_the_interfaces_that_it_was_given(network: Network) -> None:
    pc = network.machine()
    pc.interface("docker0", "172.17.0.1/16", kind="bridge")
    pc.interface("tun0", "10.8.0.2/24", kind="tun")
    pc.plug(network.switch(), "10.9.0.2/32", name="wg0")
    pc.slow("wg0", "1mbit")

    assert {"docker0", "tun0", "wg0"} <= {
        line.split()[0].partition("@")[0] for line in pc.ip("-br", "address").splitlines()
    }
    pc.down("wg0")
    assert "state DOWN" in pc.ip("link", "show", "wg0")


def test_nothing_is_left_of_a_network_when_its_test_fails(network: Network) -> None:
    del network  # only to be skipped where there are no namespaces
    from namespaces import networks

    def failing() -> None:
        with networks() as one:
            made.append(one.machine().namespace)
            raise ZeroDivisionError

    made: list[str] = []
    with pytest.raises(ZeroDivisionError):
        failing()
    assert made[0] not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
