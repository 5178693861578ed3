import ipaddress
import socket

import pytest

from lanfit.net.addresses import is_loopback, lan_address, lan_addresses


def test_the_addresses_are_of_this_machine_and_no_loopback() -> None:
    for address in lan_addresses():
        assert not ipaddress.ip_address(address).is_loopback
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
    assert len(set(lan_addresses())) == len(lan_addresses())


def test_without_a_network_the_address_is_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    assert lan_addresses() == []
    assert lan_address() == "127.0.0.1"


def test_the_way_to_the_world_comes_first_and_ipv6_last(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"192.0.2.1": "10.1.2.3", "192.168.1.1": "192.168.1.7", "2001:db8::1": "2001:db8::7"}
    monkeypatch.setattr("lanfit.net.addresses._source_for", sources.get)
    assert lan_addresses() == ["10.1.2.3", "192.168.1.7", "2001:db8::7"]
    assert lan_address() == "10.1.2.3"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.5", False), ("lab", False)],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
