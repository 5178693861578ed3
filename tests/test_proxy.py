"""The fault proxy does what its tests rely on: to plain sockets, which show every byte."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from proxy import Proxy

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as listening, Proxy(listening.getsockname()[1]) as cable:
        cable.listening = listening  # type: ignore[attr-defined]
        yield cable


@pytest.fixture
def join(proxy: Proxy) -> Iterator[Callable[[], Ends]]:
    """Makes connections through the proxy: the client's end and the server's."""
    with contextlib.ExitStack() as open_ends:

        def make() -> Ends:
            client = open_ends.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 30))
            server, _ = proxy.listening.accept()  # type: ignore[attr-defined]
            open_ends.enter_context(server)
            server.settimeout(30)
            return client, server

        yield make


def read(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = end.recv(size - len(data))
        assert more, "it ended early"
        data += more
    return data


def test_bytes_pass_unchanged_both_ways_and_are_counted(proxy: Proxy, join: Callable[[], Ends]) -> None:
    client, server = join()
    data = bytes(range(256)) * 400
    client.sendall(data)
    assert read(server, len(data)) == data
    server.sendall(data[:1000])
    assert read(client, 1000) == data[:1000]
    client.close()
    assert server.recv(1) == b"", "the end is passed on, too"
    server.sendall(b"x")
    server.close()
    assert (proxy.up.carried, proxy.accepted) == (len(data), 1)


def test_slices_change_no_byte(proxy: Proxy, join: Callable[[], Ends]) -> None:
    proxy.slice(1)
    client, server = join()
    client.sendall(b"one byte at a time")
    assert read(server, 18) == b"one byte at a time"


def test_a_slow_cable_takes_its_time(proxy: Proxy, join: Callable[[], Ends]) -> None:
    proxy.slow_down(delay=0.2, rate=100_000)
    client, server = join()
    began = time.monotonic()
    client.sendall(bytes(20_000))
    read(server, 1)
    assert time.monotonic() - began >= 0.2
    client.sendall(b"x")
    read(server, 20_000)
    assert time.monotonic() - began >= 0.2 + 0.2


@pytest.mark.parametrize("way", ["up", "down"])
def test_one_bit_is_turned_over_once(proxy: Proxy, join: Callable[[], Ends], way: str) -> None:
    client, server = join()
    source, target = (client, server) if way == "up" else (server, client)
    source.sendall(b"aaaa")
    assert read(target, 4) == b"aaaa"
    proxy.flip(way, after=2)  # type: ignore[arg-type]
    source.sendall(b"aaaaaaaa")
    assert read(target, 8) == b"aa`aaaaa"


@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_ends_both_ends(proxy: Proxy, join: Callable[[], Ends], reset: bool) -> None:
    ends = join()
    ends[0].sendall(b"x")
    read(ends[1], 1)
    proxy.cut(reset=reset)
    for end in ends:
        if reset:
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        else:
            assert end.recv(1) == b""
    assert proxy.links == 0
    client, server = join()  # the next one stands
    client.sendall(b"x")
    assert read(server, 1) == b"x"


def test_a_link_is_cut_after_so_many_bytes(proxy: Proxy, join: Callable[[], Ends]) -> None:
    proxy.slice(10)
    proxy.cut_after("up", 25)
    client, server = join()
    client.sendall(bytes(100))
    with pytest.raises(ConnectionResetError):
        read(server, 100)
    assert proxy.up.carried == 20


def test_a_deaf_cable_says_nothing_and_stays_open(proxy: Proxy, join: Callable[[], Ends]) -> None:
    client, server = join()
    client.sendall(b"x")
    read(server, 1)
    proxy.go_deaf()
    for source, target in ((client, server), (server, client)):
        source.sendall(b"nobody hears this")
        target.settimeout(0.2)
        with pytest.raises(TimeoutError):
            target.recv(1)
    assert proxy.links == 1


def test_a_half_closed_link_still_goes_the_other_way(proxy: Proxy, join: Callable[[], Ends]) -> None:
    client, server = join()
    client.sendall(b"x")
    read(server, 1)
    proxy.close_way("up")
    assert server.recv(1) == b""
    server.sendall(b"still here")
    assert read(client, 10) == b"still here"


def test_who_is_refused_is_let_in_again(proxy: Proxy, join: Callable[[], Ends]) -> None:
    proxy.refuse()
    with contextlib.suppress(ConnectionResetError), socket.create_connection(("127.0.0.1", proxy.port), 30) as refused:
        assert refused.recv(1) == b""
    proxy.refuse(False)
    client, server = join()
    client.sendall(b"x")
    assert read(server, 1) == b"x"
