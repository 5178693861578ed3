"""Every error between machines, triggered from the outside: servers that can't listen, clients that can't join."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from error_cases import Dialogue, ErrorCase, ErrorCases, Start, assert_reported, check, exit_code
from running import PASSPHRASE, Place, Program, client, free_port
from warm import WarmModels

from lanfit.core.loop import LoopThread
from lanfit.net.link import Link
from lanfit.net.tls import ALPN, Identity, grouped
from lanfit.wire.auth import Refusal, Refused, stretch
from lanfit_server.clusters.listen import listen

pytestmark = pytest.mark.story
ERROR_CASES = ErrorCases()
fails_with = ERROR_CASES.fails_with


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "work")


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        yield int(busy.getsockname()[1])


# --- the server -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ERROR_CASES, ids=str)
def test_what_keeps_a_server_from_listening_is_named(place: Place, case: ErrorCase, warm: WarmModels) -> None:
    check(place, case, warm)


def test_a_port_in_use_is_named(place: Place, port_in_use: int, warm: WarmModels) -> None:
    def corrupt(place: Place) -> Start:
        return Start({"port": port_in_use})

    check(place, ErrorCase(corrupt, "listen.port-in-use", [str(port_in_use), "127.0.0.1", "--port"], ()), warm)


@fails_with("listen.unknown-name", "no..name")
def a_name_that_nobody_has(place: Place) -> Start:
    return Start({"host": "no..name"})


@fails_with("listen.other-machine", "203.0.113.7")
def the_address_of_another_machine(place: Place) -> Start:
    return Start({"host": "203.0.113.7"})


@fails_with("listen.with-port", "127.0.0.1 as the address", "8470 as the port")
def an_address_with_a_port(place: Place) -> Start:
    return Start({"host": "127.0.0.1:8470"})


@fails_with("identity.unusable", "server_id")
def a_file_where_the_state_goes(place: Place) -> None:
    (place.root / "server").mkdir()
    (place.root / "server" / "state").write_text("a file where a folder must be")


@fails_with("identity.damaged", "identity.pem")
def an_identity_cut_short(place: Place) -> None:
    path = Identity.load_or_create(place.root / "server" / "state").path
    path.write_text(path.read_text().partition("-----BEGIN CERTIFICATE")[0])


@fails_with("identity.damaged-ids", "server_id")
def ids_cut_short(place: Place) -> None:
    path = place.root / "server" / "state" / "server_id"
    path.parent.mkdir(parents=True)
    path.write_text("server id: 00")


@fails_with("identity.other-key", "identity.pem")
def the_key_of_another_identity(place: Place) -> None:
    path = Identity.load_or_create(place.root / "server" / "state").path
    other = Identity.load_or_create(place.root / "server" / "state" / "other").path
    begin = "-----BEGIN CERTIFICATE"
    path.write_text(path.read_text().partition(begin)[0] + begin + other.read_text().partition(begin)[2])


# --- a client that ends -----------------------------------------------------------------------------------------


class Server:
    """A server's end in this process, with the real TLS and login; its gate says what it is told to say."""

    def __init__(self, folder: Path) -> None:
        self.identity = Identity.load_or_create(folder / "state of the server")
        self.refusal: Refused | None = None
        self.port = 0

    def admit(self, address: str, client_id: bytes) -> bytes | Refused:
        return self.refusal or stretch(PASSPHRASE, self.identity.salt)

    def begin(self, address: str, client_id: bytes) -> Refused | float | None:
        return 0.0

    def failed(self, address: str, client_id: bytes) -> None:
        pass

    def abandoned(self, address: str, client_id: bytes) -> None:
        pass

    def joined(self, address: str, client_id: bytes) -> None:
        pass

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Every client that comes in is sent away at once."""

        async def end(link: Link, client_id: bytes, address: str) -> None:
            await link.close()

        with LoopThread() as loop:
            listener = loop.call(listen("127.0.0.1", 0, self.identity, self, end))
            yield listener.port
            loop.call(listener.close())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    with server.listening() as server.port:
        yield server


def ends_with(code: str, worker: Program, *causes: str) -> None:
    worker.finish(exit_code(code))
    assert_reported(code, worker.output)
    for cause in causes:
        assert cause in worker.output
    assert "Traceback" not in worker.output


@pytest.mark.parametrize(
    ("address", "code", "cause"),
    [
        ("lab@school", "address.none", "'lab@school'"),
        ("10.99.0.1:abc", "address.no-port", "'abc'"),
        ("10.99.0.300", "address.not-ipv4", "'10.99.0.300'"),
        ("fd00:::1", "address.not-ipv6", "'fd00:::1'"),
        ("fd00::1:8470", "address.ambiguous", "[fd00::1]:8470"),
        ("0.0.0.0", "address.all", "0.0.0.0"),
        ("fe80::1", "address.no-zone", "fe80::1%"),
        ("fe80::1%nowhere0", "address.other-zone", "fe80::1%nowhere0"),
    ],
)
def test_an_address_at_which_nobody_can_join_ends_a_client_at_once(
    tmp_path: Path, address: str, code: str, cause: str
) -> None:
    with Program("client", address, folder=tmp_path) as worker:
        ends_with(code, worker, cause)
    assert not list(tmp_path.iterdir())


def test_at_the_question_an_address_is_explained_and_one_with_a_port_answers_the_next_question(
    tmp_path: Path, server: Server
) -> None:
    with Program("client", "--once", folder=tmp_path, terminal=True, passphrase=None) as worker:
        dialogue = Dialogue(worker)
        dialogue.answer("Server IP: ", "")
        dialogue.explains("question.empty", "Server IP: ")
        dialogue.answer("Server IP: ", "10.99.0.300")
        dialogue.explains("address.not-ipv4", "Server IP: ")
        dialogue.answer("Server IP: ", f" http://127.0.0.1:{server.port}/")
        asked = dialogue.answer("Passphrase: ", PASSPHRASE)
        worker.expect("This client waits for the server")
        worker.interrupt()
        worker.finish(130)
    assert "Port" not in asked


def test_the_whole_line_of_a_server_is_an_answer_to_the_question_for_its_address(
    tmp_path: Path, server: Server
) -> None:
    line = f"python client 127.0.0.1:{server.port} --fingerprint {'ab' * 10}"
    with Program("client", folder=tmp_path, answers=f"{line}\n") as worker:
        ends_with("join.other-fingerprint", worker, grouped("ab" * 10))


def test_a_fingerprint_that_is_none_is_named(tmp_path: Path) -> None:
    with client(tmp_path, free_port(), "one", "--fingerprint", "abc") as worker:
        ends_with("fingerprint.malformed", worker, "'abc'", "it has 3 digits")


def test_a_server_with_another_fingerprint_than_the_given_one_is_refused(tmp_path: Path, server: Server) -> None:
    expected = "ab" * 32
    with client(tmp_path, server.port, "one", "--fingerprint", expected) as worker:
        ends_with("join.other-fingerprint", worker, grouped(expected), grouped(server.identity.fingerprint.hex()))


def known_servers(folder: Path, content: str) -> Path:
    path = folder / "client" / "state" / "known_servers"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return path


def test_a_server_whose_fingerprint_changed_is_refused(tmp_path: Path, server: Server) -> None:
    entry = {"server_id": "00" * 16, "fingerprint": "ab" * 32}
    path = known_servers(tmp_path, json.dumps({f"127.0.0.1:{server.port}": entry}))
    with client(tmp_path, server.port, "one") as worker:
        ends_with("join.changed-fingerprint", worker, grouped("ab" * 10), str(path))


def test_known_servers_that_cannot_be_read_are_named(tmp_path: Path, server: Server) -> None:
    path = known_servers(tmp_path, "{")
    with client(tmp_path, server.port, "one") as worker:
        ends_with("known-servers.unreadable", worker, str(path))


def test_a_wrong_passphrase_is_refused_and_not_repeated(tmp_path: Path, server: Server) -> None:
    with client(tmp_path, server.port, "one", passphrase="quartz umbrella") as worker:
        ends_with("join.passphrase", worker, f"127.0.0.1:{server.port}")
    assert "quartz" not in worker.output


def test_a_typed_passphrase_may_be_wrong_three_times(tmp_path: Path, server: Server) -> None:
    with client(tmp_path, server.port, "one", passphrase=None, terminal=True) as worker:
        dialogue = Dialogue(worker)
        for _ in range(2):
            dialogue.answer("Passphrase: ", "quartz umbrella")
            dialogue.explains("join.passphrase", "Passphrase: ")
        dialogue.answer("Passphrase: ", "quartz umbrella")
        ends_with("join.passphrase", worker)


def test_a_server_of_another_version_is_refused(tmp_path: Path, server: Server) -> None:
    server.refusal = Refused(Refusal.VERSION, 0)
    with client(tmp_path, server.port, "one") as worker:
        ends_with("join.version", worker, f"127.0.0.1:{server.port}")


# --- a client that goes on trying -------------------------------------------------------------------------------


def goes_on_after(code: str, worker: Program, *causes: str) -> None:
    """The client says what keeps it from its server, in the words of the table, and does not end by itself."""
    worker.expect("Retrying every")
    assert_reported(code, worker.output)
    for cause in causes:
        assert cause in worker.output
    worker.interrupt()
    worker.finish(130)
    assert "Traceback" not in worker.output


def test_a_machine_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with Program("client", "no..name:8470", folder=tmp_path) as worker:
        goes_on_after("connect.unknown-name", worker, "'no..name'")


def test_a_port_without_server_is_named(tmp_path: Path) -> None:
    port = free_port()
    with client(tmp_path, port, "one") as worker:
        goes_on_after("connect.nobody-listens", worker, f"127.0.0.1:{port}")


@contextmanager
def other_server(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that closes every connection after the first bytes; with a context it speaks TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def end(server: asyncio.Server) -> None:
        server.close()
        await server.wait_closed()

    with LoopThread() as loop:
        server = loop.call(asyncio.start_server(answer, "127.0.0.1", 0, ssl=context))
        yield int(server.sockets[0].getsockname()[1])
        loop.call(end(server))


def tls(folder: Path, protocols: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Identity.load_or_create(folder).path)
    context.set_alpn_protocols(protocols)
    return context


def test_another_server_at_the_port_is_named(tmp_path: Path) -> None:
    with other_server() as port, client(tmp_path, port, "one") as worker:
        goes_on_after("connect.no-lanfit", worker, f"127.0.0.1:{port}")


def test_another_tls_server_at_the_port_is_named(tmp_path: Path) -> None:
    with other_server(tls(tmp_path / "tls", ["h2"])) as port, client(tmp_path, port, "one") as worker:
        goes_on_after("connect.other-tls", worker, f"127.0.0.1:{port}")


def test_a_login_that_is_cut_short_is_named(tmp_path: Path) -> None:
    with other_server(tls(tmp_path / "tls", [ALPN])) as port, client(tmp_path, port, "one") as worker:
        goes_on_after("join.cut-short", worker, f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("refusal", "code", "cause"),
    [
        (Refused(Refusal.BANNED, 77), "join.banned", "in 77 s"),
        (Refused(Refusal.FULL, 5), "join.full", "about 5 s"),
        (Refused(Refusal.NOT_READY, 2), "join.not-ready", "no passphrase yet"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_client_that_is_refused_for_now_learns_why(
    tmp_path: Path, server: Server, refusal: Refused, code: str, cause: str
) -> None:
    server.refusal = refusal
    with client(tmp_path, server.port, "one") as worker:
        goes_on_after(code, worker, cause)


def test_a_link_that_ends_is_named(tmp_path: Path, server: Server) -> None:
    with client(tmp_path, server.port, "one") as worker:
        worker.expect("This client waits for the server")
        assert_reported("link.closed", worker.output.replace("The server at", "the server at"))
        worker.interrupt()
        worker.finish(130)
    assert "Traceback" not in worker.output
