"""A client that knows the passphrase and is many, or somebody else: ids, names, and what the gate remembers of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from memory_links import memory_links
from peer import AttackedCluster, id_of, run_script
from scripted_cluster import RUN, serving, weights

from lanfit.net.link import Link
from lanfit.wire.auth import Refused
from lanfit.wire.messages import Ack, IdTaken, Join, Reject, Status, Welcome
from lanfit_server.clusters import gate as gate_module
from lanfit_server.clusters.gate import GateShell
from lanfit_server.clusters.lan import LanCluster


def output(name: str, process: bytes = b"", *earlier: bytes) -> Join:
    return Join(name, "0", "numpy", "cpu", 1, 0, process=process, earlier=earlier)


@asynccontextmanager
async def linked(cluster: LanCluster, client_id: bytes) -> AsyncIterator[Link]:
    """A link of somebody who knows the passphrase, and has not said yet who it is."""
    ours, theirs = memory_links()
    serving = asyncio.create_task(cluster._serve(theirs, client_id, "10.0.0.9"))
    try:
        yield ours
    finally:
        await ours.close("gone")
        await serving


async def ending(cluster: LanCluster, join: Join) -> str:
    """Join with the id of lab-1; returns how that ends."""
    async with linked(cluster, id_of("lab-1")) as link:
        await link.send(join)
        answer = await link.receive()
        return "is told to choose another" if isinstance(answer, IdTaken) else f"got {type(answer).__name__}"


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "join",
    [
        output("lab-1"),
        output("lab-1", b"evil"),
        output("zz", b"evil", *(b"%d" % n for n in range(8))),
        output("lab-1", b"v"),
    ],
    ids=["without a process", "another process", "made-up earlier processes", "the beginning of a process"],
)
def test_20_joins_with_the_id_of_a_client_that_answers_take_neither_its_place_nor_its_task(
    tmp_path: Path, join: Join
) -> None:
    async def script() -> None:
        async with serving(tmp_path, 2, login=False) as (server, joined):
            victim, other = await joined("lab-1", process=b"v" * 16), await joined("lab-2")
            server.begin()
            lease = await victim.lease()
            # It answers pings while the others try.
            working = asyncio.create_task(victim.next(Ack))
            ends = await asyncio.gather(*(ending(server.cluster, join) for _ in range(20)))
            assert set(ends) == {"is told to choose another"}
            assert not working.done()
            working.cancel()
            assert isinstance(await victim.do(lease), Ack)
            assert isinstance(await other.do(await other.lease()), Ack)
            await server.training
            assert {stored.client for stored in server.ledger.results()} == {"lab-1", "lab-2"}
            assert len(server.output("was copied")) == 1, "the operator is told once"

    run_script(script())


def test_of_20_joins_at_once_with_one_id_that_name_no_process_one_lives(tmp_path: Path) -> None:
    async def script() -> None:
        attacked = AttackedCluster(tmp_path)
        pairs = [memory_links() for _ in range(20)]
        tasks = [
            asyncio.create_task(attacked.cluster._serve(theirs, id_of("lab-1"), "10.0.0.9")) for _, theirs in pairs
        ]
        await asyncio.gather(*(ours.send(output("lab-1")) for ours, _ in pairs))
        while sum(ours.closed.is_set() for ours, _ in pairs) < 19:
            await asyncio.sleep(0)
        [alive] = [ours for ours, _ in pairs if not ours.closed.is_set()]
        assert isinstance(welcome := await alive.receive(), Welcome)
        assert welcome.name == "lab-1"
        assert [member.name for member in attacked.cluster.roster.members()] == ["lab-1"]
        assert list(attacked.cluster._sessions) == ["lab-1"]
        await alive.close("enough")
        await asyncio.gather(*tasks)
        attacked.close()

    run_script(script())


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = ["../../evil", "..", "/etc/passwd", "\x1b]0;owned\x07\x1b[2J", "lab-\u0430", "\u0430", "x" * 5000, "con",
         "CON.txt", "final", "average", "", "   ", "LAB-1", "Lab-1", "lab-1", ".hidden", "-rf", "a\0b", "\u202ecod",
         "lab-1-fold-2", "nul", "\U0001f600"]  # fmt: skip


def test_whatever_clients_call_themselves_each_has_a_label_of_its_own_that_is_nobody_elses_file(tmp_path: Path) -> None:
    async def script() -> None:
        attacked = AttackedCluster(tmp_path)
        async with attacked.client("lab-1") as first:
            given = []
            for number, name in enumerate(NAMES):
                async with linked(attacked.cluster, b"%16d" % number) as link:
                    await link.send(output(name))
                    welcome = await link.receive()
                    assert isinstance(welcome, Welcome)
                    given.append(welcome.name)
                    assert isinstance(await link.receive(), Status)
            names = ["lab-1", *given]
            assert len({name.lower() for name in names}) == len(names), "also where files do not tell capitals apart"
            for name in given:
                assert re.fullmatch(r"(?![.-])[A-Za-z0-9._-]{1,64}(?<!\.)", name)
                assert not re.fullmatch(r"(con|nul|final|average|ensemble)(\..*)?", name, re.IGNORECASE)
                assert not re.search(r"-fold-\d+$", name)
            assert await first.answers(60.0)
        attacked.close()

    run_script(script())


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_joins_with_ever_new_ids_keep_the_file_of_the_gate_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "MOST_CLIENTS", 10)
    path = tmp_path / "gate.json"
    gate = GateShell(path)
    sizes = []
    for number in range(108):
        client_id = number.to_bytes(16)
        assert gate.begin("10.0.0.9", client_id) == 0.0
        gate.joined("10.0.0.9", client_id)
        if number % 4 == 0:  # one that is here all the time, and joins now and then
            assert gate.begin("10.0.0.1", b"h" * 16) == 0.0
            gate.joined("10.0.0.1", b"h" * 16)
        sizes.append(path.stat().st_size)
    assert max(sizes) < 1000
    known = GateShell(path)._gate.state().clients
    assert len(known) == 10
    assert (b"h" * 16).hex() in known
    # Who was forgotten is let in as any newcomer is, also after the restart.
    assert not isinstance(GateShell(path).begin("10.0.0.2", bytes(16)), Refused)


# --- results that are no numbers, for others' tasks -------------------------------------------------------------------


def test_nan_for_anothers_task_is_rejected_and_its_holder_trains_on(tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path, 2, login=False) as (server, joined):
            holder, evil = await joined("lab-1"), await joined("lab-2")
            server.begin()
            lease, own = await holder.lease(), await evil.lease()
            for _ in range(3):
                answer = await evil.offer("shard-1", weights(float("nan")))
                assert isinstance(answer, Reject)
                assert answer.reason == f"attempt 1 of shard-1 of run {RUN} was never assigned to it"
            assert isinstance(await holder.do(lease), Ack)
            assert isinstance(await evil.do(own), Ack)
            await server.training
            assert [server.value_of(f"shard-{number}") for number in (1, 2)] == [1.0, 2.0]
            assert server.events("failed") == []

    run_script(script())
