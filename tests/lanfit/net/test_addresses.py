from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.errors import InputError
from lanfit.net.addresses import Address, is_loopback, parse_address, with_port


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.5", False),
        ("lab", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_an_ipv6_address_stands_in_brackets_before_its_port() -> None:
    assert with_port("fe80::1%eth0", 8470) == "[fe80::1%eth0]:8470"
    assert with_port("10.0.0.5", 8470) == "10.0.0.5:8470"
    assert with_port("lab", 8470) == "lab:8470"


@pytest.mark.parametrize(
    ("typed", "host", "port"),
    [
        ("10.99.1.1", "10.99.1.1", None),
        ("10.99.1.1:8470", "10.99.1.1", 8470),
        (" 10.99.1.1 : 8470 ", "10.99.1.1", 8470),
        ("10.99.1.1 8470", "10.99.1.1", 8470),
        ("10.99.1.1：8470", "10.99.1.1", 8470),
        ("http://10.99.0.1:8470", "10.99.0.1", 8470),
        ("https://lab-server.local:80/", "lab-server.local", 80),
        ("lab", "lab", None),
        ("laptop_5:1", "laptop_5", 1),
        ("fd00::1", "fd00::1", None),
        ("[fd00::1]", "fd00::1", None),
        ("[fd00::1]:8470", "fd00::1", 8470),
        ("[fd00::1] 8470", "fd00::1", 8470),
        ("[fd00::1:8470]", "fd00::1:8470", None),
        ("2001:db8:1:2:3:4:5:8470", "2001:db8:1:2:3:4:5:8470", None),
        ("2001:db8::5054:ff:fe12:3456", "2001:db8::5054:ff:fe12:3456", None),
        ("fd00::1000", "fd00::1000", None),
        ("fe80::1%lo", "fe80::1%lo", None),
        ("[fe80::1%1]:8470", "fe80::1%1", 8470),
        ("::1", "::1", None),
    ],
)
def test_an_address_is_read_as_people_type_it(
    typed: str, host: str, port: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanfit.net.addresses._zones", lambda: ["lo", "eth0"])
    assert parse_address(typed) == Address(host, port)


@pytest.mark.parametrize(
    ("typed", "code", "advice"),
    [
        ("", "address.none", "192.168.1.20:8470"),
        (":8470", "address.none", ""),
        ("http://lab/x", "address.none", ""),
        ("10,99,0,1", "address.none", ""),
        ("10.99.0.1/24", "address.none", ""),
        ("user@lab", "address.none", ""),
        ("10.99.0.1:abc", "address.no-port", "from 1 to 65535"),
        ("10.99.0.1:99999", "address.no-port", ""),
        ("10.99.0.1:0", "address.no-port", ""),
        ("10.99.0.1:", "address.no-port", ""),
        ("10.99.0.300", "address.not-ipv4", ""),
        ("10.99.0", "address.not-ipv4", ""),
        ("010.099.000.001", "address.not-ipv4", ""),
        ("fd00::1:18470", "address.not-ipv6", "[fd00::1]:8470"),
        ("fd00:::1", "address.not-ipv6", ""),
        ("lab:8470:1", "address.not-ipv6", ""),
        ("fd00::1:8470", "address.ambiguous", "[fd00::1]:8470 if 8470 is the port, otherwise [fd00::1:8470]"),
        ("0.0.0.0", "address.all", "the address that the server shows"),
        ("[::]:8470", "address.all", ""),
        ("*", "address.all", ""),
        ("224.0.0.1", "address.all", ""),
        ("fe80::1", "address.no-zone", "fe80::1%eth0; this machine has: tun0, eth0"),
        ("fe80::1%enp3s0", "address.other-zone", "This machine has: tun0, eth0"),
    ],
)
def test_what_no_server_can_be_joined_at_is_refused_at_once(
    typed: str, code: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanfit.net.addresses._zones", lambda: ["tun0", "eth0"])
    with pytest.raises(InputError) as wrong:
        parse_address(typed)
    assert wrong.value.code == code
    assert advice in wrong.value.hint


def test_what_is_advised_for_an_ambiguous_address_is_taken() -> None:
    assert parse_address("[fd00::1]:8470") == Address("fd00::1", 8470)
    assert parse_address("[fd00::1:8470]") == Address("fd00::1:8470")


@given(st.ip_addresses(), st.none() | st.integers(1, 65535))
def test_an_address_that_was_read_is_read_the_same_when_it_is_written(
    address: IPv4Address | IPv6Address, port: int | None
) -> None:
    typed = with_port(str(address), port) if port else f"[{address}]" if address.version == 6 else str(address)
    try:
        read = parse_address(typed)
    except InputError:
        return
    assert read == Address(str(address), port)
    assert parse_address(with_port(read.host, read.port or 1)) == Address(str(address), port or 1)


@given(st.text(max_size=30))
def test_whatever_is_typed_is_an_address_or_an_error_in_words(typed: str) -> None:
    try:
        read = parse_address(typed)
    except InputError:
        return
    assert read.host
    assert not set(read.host) & set(" \t\n/@\\'\"")
