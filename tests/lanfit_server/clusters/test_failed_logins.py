"""What the operator hears of clients that can't log in here: another protocol, or another fingerprint expected."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from test_copied_state import PASSPHRASE, Lab

from lanfit.errors import RefusedError
from lanfit.net.tls import client_context
from lanfit.wire.auth import CLIENT_HELLO, MAGIC, REFUSE, Distrust, Distrusted, Refusal, client_refusal
from lanfit.wire.frames import HEADER, Kind, encode_frame
from lanfit_client.connect import ServerIdentity, connect
from lanfit_client.store.known_servers import FingerprintChanged, KnownServers
from lanfit_server.clusters.lan import MOST_FAILED_LOGINS, LanCluster

NEWER = encode_frame(Kind.CLIENT_HELLO, CLIENT_HELLO.pack(MAGIC, 2, 3, bytes(32), b"c" * 16))


@asynccontextmanager
async def lab(folder: Path) -> AsyncIterator[Lab]:
    async with Lab(folder).open() as there:
        yield there


async def reply_to(there: Lab, frame: bytes) -> bytes:
    """What the server answers to a client that says this."""
    context: ssl.SSLContext = client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", there.port, ssl=context, server_hostname="")
    writer.write(frame)
    answer = await reader.read()
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return answer


def test_the_operator_hears_once_of_a_client_with_another_protocol_and_both_learn_the_versions(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with lab(tmp_path) as there:
            for _ in range(3):
                answer = await reply_to(there, NEWER)
                assert REFUSE.unpack(answer[HEADER.size :]) == (Refusal.VERSION, 1)
            [line] = there.scenario.messages
            assert line == (
                "A client at 127.0.0.1 was rejected: it uses versions 2 to 3 of the protocol, this server version 1. "
                "Install the same version of lanfit on both machines."
            )

    asyncio.run(run_script())


def test_the_operator_hears_once_of_a_client_that_expects_another_fingerprint(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with lab(tmp_path) as there:
            for _ in range(3):
                assert await reply_to(there, client_refusal(Distrust.FINGERPRINT)) == b""
            [line] = there.scenario.messages
            assert "A client at 127.0.0.1 rejected this server" in line
            assert "--fingerprint" in line

    asyncio.run(run_script())


def test_no_more_addresses_are_named_than_an_operator_can_read(tmp_path: Path) -> None:
    output: list[str] = []
    cluster = LanCluster(Lab(tmp_path).scenario.store)
    cluster.log = output.append
    for number in range(10 * MOST_FAILED_LOGINS):
        cluster._failed_login(f"10.0.{number // 250}.{number % 250}", Distrusted(Distrust.FINGERPRINT))
    assert len(output) == MOST_FAILED_LOGINS


def test_a_client_that_refuses_a_server_tells_it_so(tmp_path: Path) -> None:
    def known(address: str, fingerprint: bytes) -> None:
        raise RefusedError("it is known with another fingerprint")

    async def run_script() -> None:
        async with lab(tmp_path) as there:
            with pytest.raises(RefusedError):
                await connect("127.0.0.1", there.port, b"c" * 16, PASSPHRASE, known=known)
            await there.until(lambda: len(there.scenario.messages) == 1)
            assert "rejected this server" in there.scenario.messages[0]

    asyncio.run(run_script())


@pytest.mark.parametrize("given", [True, False])
def test_only_a_fingerprint_that_the_user_gives_replaces_the_known_one(tmp_path: Path, given: bool) -> None:
    known = KnownServers(tmp_path / "pc" / "client" / "state" / "known_servers")

    async def run_script() -> None:
        async with lab(tmp_path) as there:
            where, shown = f"127.0.0.1:{there.port}", there.identity.fingerprint
            known.remember(where, ServerIdentity(b"o" * 16, b"o" * 32))
            async with there.machine("pc", fingerprint=shown.hex()[:20] if given else None) as (agent, _):
                if given:
                    await there.until(lambda: there.joins("pc") == 1)
                    link = agent._link
                    assert link is not None
                    await link.close("it joins again")
                    await there.until(lambda: there.joins("pc") == 2)
                    assert len([line for line in there.output["pc"] if "is replaced by" in line]) == 1
                    known.check(where, shown)
                else:
                    await there.until(lambda: len(there.scenario.messages) == 1)
                    assert "rejected this server" in there.scenario.messages[0]
                    with pytest.raises(FingerprintChanged):
                        known.check(where, shown)

    asyncio.run(run_script())


def test_what_strangers_do_is_not_repeated_in_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning that no log file takes comes to the terminal, as often as it is given."""

    async def run_script() -> None:
        async with lab(tmp_path) as there:
            await reply_to(there, client_refusal(Distrust.FINGERPRINT))
            await reply_to(there, NEWER)

    asyncio.run(run_script())
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
