"""What the operator reads where the server listens: the line for the clients, and what to know about its address."""

from lanfit_server.start.endpoint_setup import joining_lines
from lanfit_server.start.interfaces import Candidate, Kind

LAN = Candidate("10.99.0.1", "eth0", Kind.LAN)
VPN = Candidate("10.8.0.2", "tun0", Kind.VPN)
SIX = Candidate("fe80::1%eth0", "eth0", Kind.LAN)
EVERYWHERE = ["0.0.0.0", "::"]


def output(host: str, *here: Candidate, addresses: list[str] = EVERYWHERE) -> list[str]:
    """The line to run, and what is said after it."""
    text = joining_lines(host, 8470, addresses, here, "lanfit client", "3c59")
    first, _, line, _, *rest, last = text.split("\n")
    assert "port 8470. On each client run:" in first
    assert last == "--fingerprint may be omitted when joining for the first time: the passphrase is enough."
    return [line.strip(), *rest]


def test_the_best_address_is_in_the_line_and_the_others_are_named() -> None:
    line, others = output("0.0.0.0", LAN, VPN)
    assert line == "lanfit client 10.99.0.1:8470 --fingerprint 3c59"
    assert others == "Another address of this machine: 10.8.0.2 (tun0, a VPN)."
    assert output("*", LAN, VPN, SIX)[1] == (
        "Other addresses of this machine: 10.8.0.2 (tun0, a VPN), fe80::1%eth0 (eth0)."
    )


def test_an_address_that_was_chosen_is_the_one_in_the_line() -> None:
    assert output("10.99.0.1", addresses=["10.99.0.1"]) == ["lanfit client 10.99.0.1:8470 --fingerprint 3c59"]
    assert output("[fd00::1]", addresses=["fd00::1"]) == ["lanfit client [fd00::1]:8470 --fingerprint 3c59"]


def test_on_loopback_there_is_only_the_line() -> None:
    text = joining_lines("127.0.0.1", 8470, ["127.0.0.1"], [], "lanfit client", "3c59")
    assert text.split("\n")[1:] == ["", "    lanfit client 127.0.0.1:8470 --fingerprint 3c59", ""]


def test_a_machine_without_a_network_says_that_nobody_else_can_join() -> None:
    line, remark = output("0.0.0.0")
    assert line == "lanfit client 127.0.0.1:8470 --fingerprint 3c59"
    assert remark == "This machine is not on a network: only clients on this machine can join."


def test_a_name_that_stands_for_loopback_says_that_nobody_else_can_join() -> None:
    _, remark = output("lab-server", addresses=["127.0.1.1"])
    assert remark == "lab-server is not reachable from other machines: only clients on this machine can join."


def test_a_zone_is_that_of_this_machine() -> None:
    line, remark = output("::", SIX)
    assert line == "lanfit client [fe80::1%eth0]:8470 --fingerprint 3c59"
    assert remark == "Each client must replace eth0 with the name of its own interface."
