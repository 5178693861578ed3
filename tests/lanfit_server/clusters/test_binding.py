"""What a server listens on, for each address that an operator may choose."""

import errno
import socket
from contextlib import ExitStack
from typing import Any

import pytest
from namespaces import Network

from lanfit.errors import InputError
from lanfit_server.clusters.binding import address_of, bind, places_of


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def listening(host: str, port: int = 0) -> list[str]:
    """The addresses that a server on this host listens on."""
    with ExitStack() as closing:
        sockets = [closing.enter_context(sock) for sock in bind(places_of(host), port)]
        assert len({sock.getsockname()[1] for sock in sockets}) == 1, "not the same port everywhere"
        return [address_of(sock) for sock in sockets]


def code_of(host: str) -> tuple[str, str]:
    """Code and hint of what is wrong with it."""
    with pytest.raises(InputError) as caught:
        listening(host)
    return caught.value.code, caught.value.hint


@needs_ipv6
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "*", "", " 0.0.0.0 "])
def test_all_addresses_are_those_of_both_families(host: str) -> None:
    assert listening(host) == ["0.0.0.0", "::"]


@needs_ipv6
@pytest.mark.parametrize(("family", "left"), [(socket.AF_INET6, "0.0.0.0"), (socket.AF_INET, "::")])
@pytest.mark.parametrize("lacks", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_system_without_one_family_listens_on_the_other(
    monkeypatch: pytest.MonkeyPatch, family: int, left: str, lacks: int
) -> None:
    real = socket.create_server

    def without(address: Any, *, family: int, **options: Any) -> socket.socket:
        if family == missing:
            raise OSError(lacks, "not here")
        return real(address, family=family, **options)

    missing = family
    monkeypatch.setattr(socket, "create_server", without)
    assert listening("0.0.0.0") == [left]


@needs_ipv6
def test_a_port_that_is_in_use_for_one_family_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as busy:
        with pytest.raises(InputError) as caught:
            listening("0.0.0.0", busy.getsockname()[1])
        assert caught.value.code == "listen.port-in-use"


@needs_ipv6
def test_any_free_port_is_one_that_both_families_have(monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = socket.create_server, []

    def in_use_at_first(address: Any, *, family: int, **options: Any) -> socket.socket:
        if family == socket.AF_INET6 and not refused:
            refused.append(address)
            raise OSError(errno.EADDRINUSE, "in use")
        return real(address, family=family, **options)

    monkeypatch.setattr(socket, "create_server", in_use_at_first)
    assert listening("::") == ["0.0.0.0", "::"]
    assert refused


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_may_stand_in_brackets(host: str) -> None:
    assert listening(host) == ["::1"]


def test_an_address_with_a_port_gets_a_hint_about_the_port() -> None:
    code, hint = code_of("127.0.0.1:8470")
    assert code == "listen.with-port"
    assert "127.0.0.1 as the address, and 8470 as the port" in hint
    assert code_of("[::1]:8470")[0] == "listen.with-port"


def test_a_link_local_address_needs_an_interface_of_this_machine() -> None:
    assert code_of("fe80::1")[0] == "address.no-zone"
    assert code_of("fe80::1%nowhere0")[0] == "address.other-zone"


LISTEN = """
import sys
from lanfit_server.clusters.binding import address_of, bind, places_of
for sock in bind(places_of(sys.argv[1]), 0):
    print(address_of(sock))
    sock.close()
"""


def test_a_link_local_address_is_listened_on_with_its_zone(network: Network) -> None:
    machine = network.machine()
    machine.plug(network.switch(), "fe80::5:1/64")
    assert machine.python(LISTEN, "fe80::5:1%eth0").split() == ["fe80::5:1%eth0"]
