"""A client that knows the passphrase and claims others' work: made-up results, failures, epochs, logs, scores.

It speaks the real protocol with a real cluster over loopback TLS; honest clients beside it end their run.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from scripted_cluster import START, WEIGHTS, Client, Server, id_of, run_script, serving, weights

from lanfit.wire.messages import Ack, Cancel, EvaluationResult, Reject
from lanfit_server.clusters.events import Claimed, Evaluated, ResultCommitted, TaskFailed
from lanfit_server.methods.federated.aggregation import krum_choice
from lanfit_server.start.collecting import Collector
from lanfit_server.store.ledger import OwnedTask

NAN = weights(float("nan"))


async def all_of(join: Any, server: Server, *names: str) -> list[Client]:
    """Clients that have joined, and a run that has begun with them; each owner has its lease."""
    clients = [await join(name) for name in names]
    server.begin()
    for client in clients:
        if client.name in server.owners:
            client.leases.append(await client.lease())
    return clients


def test_made_up_results_of_all_tasks_are_refused_and_the_honest_ones_count(tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path) as (server, join):
            *honest, zz = await all_of(join, server, "lab-1", "lab-2", "lab-3", "zz")
            for number in (1, 2, 3):
                answer = await zz.offer(f"shard-{number}", weights(666.0))
                assert isinstance(answer, Reject)
                assert answer.reason == f"attempt 1 of shard-{number} of run run-1 was never assigned to it"
            for lab in honest:
                assert isinstance(await lab.do(lab.leases[0]), Ack)
            await server.training
            assert [server.value_of(f"shard-{number}") for number in (1, 2, 3)] == [1.0, 2.0, 3.0]
            assert [stored.client for stored in server.ledger.results()] == ["lab-1", "lab-2", "lab-3"]
            assert not [message for lab in honest for message in lab.received if isinstance(message, Cancel)]
            assert len(server.output("never assigned to it")) == 1, "the operator is told once"
            assert {(each["client"], each["task"], each["what"]) for each in server.events("refused")} == {
                ("zz", f"shard-{number}", "a result") for number in (1, 2, 3)
            }

    run_script(script())


def test_a_client_with_a_task_of_its_own_does_not_deliver_the_tasks_of_others(tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path) as (server, join):
            one, two, liar = await all_of(join, server, "lab-1", "lab-2", "lab-3")
            assert isinstance(await liar.offer("shard-1", weights(666.0)), Reject)
            assert isinstance(await liar.offer("shard-3", weights(666.0), attempt=2), Reject), "an attempt never given"
            for lab in (one, two, liar):
                assert isinstance(await lab.do(lab.leases[0]), Ack)
            await server.training
            assert server.value_of("shard-1") == 1.0

    run_script(script())


def test_with_krum_one_of_five_can_corrupt_one_update_and_not_all(tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path, 5, rounds=True) as (server, join):
            names = [f"lab-{number}" for number in range(1, 6)]
            clients = await all_of(join, server, *names)
            liar = clients[-1]
            for number in range(1, 6):
                answer = await liar.offer(f"round-1-shard-{number}", weights(666.0))
                assert isinstance(answer, Ack if number == 5 else Reject)
            for lab in clients[:-1]:
                assert isinstance(await lab.do(lab.leases[0]), Ack)
            await server.training
            stored = server.ledger.results()
            assert [each.client for each in stored] == names
            updates = [{spec.name: server.run.load(each)[spec.name] for spec in WEIGHTS} for each in stored]
            [chosen] = krum_choice(START, updates, byzantine=1)
            assert chosen < 4, "Krum leaves the liar's update out"

    run_script(script())


def test_rows_that_belong_to_their_owner_are_delivered_by_their_owner_alone(tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path, 2, bound=True) as (server, join):
            one, two, zz = await all_of(join, server, "lab-1", "lab-2", "zz")
            for liar in (two, zz):
                assert isinstance(await liar.offer("shard-1", weights(666.0)), Reject)
            assert isinstance(await two.do(two.leases[0]), Ack)
            assert isinstance(await one.do(one.leases[0]), Ack)
            await server.training
            assert server.value_of("shard-1") == 1.0

    run_script(script())


@pytest.mark.parametrize("name", ["lab-2", "zz"])
def test_nan_for_anothers_task_leaves_nobody_out_of_a_round(tmp_path: Path, name: str) -> None:
    async def script() -> None:
        async with serving(tmp_path, 2, rounds=True) as (server, join):
            clients = await all_of(join, server, "lab-1", "lab-2", "zz")
            liar = next(each for each in clients if each.name == name)
            assert isinstance(await liar.offer("round-1-shard-1", NAN), Reject)
            await liar.fail("round-1-shard-1", code="training.loss-not-finite")
            await liar.settled()
            for lab in clients[:2]:
                assert isinstance(await lab.do(lab.leases[0]), Ack)
            await server.training
            assert server.events("left out") == []
            assert server.value_of("round-1-shard-1") == 1.0

    run_script(script())


def test_nan_of_a_client_that_had_the_task_before_leaves_its_holder_in_the_round(tmp_path: Path) -> None:
    """It took the task over for a while, so that its result would count: its failure does not."""

    async def script() -> None:
        async with serving(tmp_path, 1, rounds=True) as (server, join):
            zz = await join("zz")
            server.begin()
            lease = await zz.lease()
            await zz.link.close("gone")
            one = await join("lab-1")
            assert (await one.lease()).attempt == 2
            again = await join("zz")
            assert isinstance(await again.offer(lease.task, NAN, lease.attempt), Reject)
            await again.fail(lease.task, code="training.loss-not-finite")
            await again.fail(lease.task)
            await again.settled()
            assert isinstance(await one.offer(lease.task, weights(1.0), 2), Ack)
            await server.training
            assert server.events("left out") == []
            assert server.stats.table[lease.task].failures == []

    run_script(script())


def test_failures_that_are_not_its_own_give_up_no_task_and_flood_nobody(tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path, 1) as (server, join):
            one = await join("lab-1")
            zz = await join("zz")
            server.begin()
            lease = await one.lease()
            for _ in range(50):
                assert isinstance(await zz.offer("shard-1", weights(666.0)), Reject)
                await zz.fail("shard-1")
            # Its link is down for a second: nobody gives its task up meanwhile, whoever says that it failed.
            await one.link.close("gone")
            again = await zz.lease()
            assert again.attempt == 2, "the task goes to who is free"
            one = await join("lab-1")
            assert isinstance(await one.do(lease), Ack), "it held the task, and has finished it"
            await server.training
            assert server.value_of("shard-1") == 1.0
            assert (server.events("failed"), server.output("could not train")) == ([], [])
            assert len(server.output("never assigned to it")) == 1
            assert len(server.events("refused")) == 2

    run_script(script())


def test_epochs_and_logs_of_others_tasks_are_written_nowhere(tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path, 1) as (server, join):
            one, zz = await all_of(join, server, "lab-1", "zz")
            for _ in range(100):
                await zz.epoch("shard-1")
                await zz.log("lab-1 lies")
            await zz.settled()
            await one.epoch("shard-1", 0.25)
            await one.log("an honest line")
            assert isinstance(await one.do(one.leases[0]), Ack)
            await server.training
            clients = server.run.folder / "clients"
            assert "666" not in (clients / "lab-1" / "history.csv").read_text()
            assert "an honest line" in (clients / "lab-1" / "client.log").read_text()
            assert not (clients / "zz").exists()
            assert {each["what"] for each in server.events("refused")} == {"an epoch", "lines for its log"}

    run_script(script())


def test_an_evaluation_counts_only_from_a_client_with_a_request(tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path, 2) as (server, join):
            one, zz = await join("lab-1"), await join("zz")
            await server.ask_evaluation("lab-1", "average")
            await zz.link.send(EvaluationResult("run-1", "average", 10**6, {"loss": 0.0}))
            await zz.fail("average")
            await zz.settled()
            for _ in range(2):  # only the first answer is one
                await one.link.send(EvaluationResult("run-1", "average", 10, {"loss": 0.5}))
            await server.ask_evaluation("lab-1", "ensemble")
            await one.fail("ensemble")
            await one.settled()
            events = [server.cluster.events.get_nowait() for _ in range(server.cluster.events.qsize())]
            assert [event for event in events if isinstance(event, Evaluated)] == [
                Evaluated("lab-1", "run-1", "average", 10, {"loss": 0.5})
            ]
            assert [(event.client, event.task) for event in events if isinstance(event, TaskFailed)] == [
                ("lab-1", "ensemble")
            ]
            assert [(event.client, event.what) for event in events if isinstance(event, Claimed)] == [
                ("zz", "a failure")
            ]

    run_script(script())


# --- an earlier run, and what must keep working ---------------------------------------------------------------------


def begun_earlier(folder: Path) -> None:
    """A run that an earlier server began, perhaps under another passphrase: lab-1 and lab-2 have their tasks."""
    server = Server(folder, 2)
    server.ledger.assign_owners(server.owners)
    server.ledger.add_tasks([OwnedTask("shard-1", "lab-1"), OwnedTask("shard-2", "lab-2")])
    for number, name in enumerate(server.owners, start=1):
        server.ledger.remember(name, id_of(name))
        server.ledger.lease(f"shard-{number}", 1, name)
    server.store.close()


def test_a_stranger_delivers_nothing_to_an_earlier_run_and_its_own_clients_do(tmp_path: Path) -> None:
    """Also while results are only collected; a client is its id, whatever it is called today."""
    begun_earlier(tmp_path)

    async def script() -> None:
        async with serving(tmp_path, 2) as (server, join):
            server.store.close()
            server.cluster.roster._members.clear()  # this server did not take the run up: names are given anew
            collecting = asyncio.create_task(Collector(server.cluster, server.store, server.display, 0).run())
            await asyncio.sleep(0)
            # The name of one that was there, and another id.
            stranger = await join("lab-2", b"another machine!")
            assert stranger.name == "lab-2"
            assert isinstance(await stranger.offer("shard-2", weights(666.0)), Reject)
            await stranger.fail("shard-2")
            renamed = await join("renamed", id_of("lab-2"))
            assert isinstance(await renamed.offer("shard-1", weights(666.0)), Reject), "its own task alone"
            assert isinstance(await renamed.offer("shard-2", weights(2.0)), Ack)
            one = await join("lab-1")
            assert isinstance(await one.offer("shard-1", weights(1.0)), Ack)
            await collecting
            run = server.store.opened("run-1")
            assert [(each.task, each.client) for each in run.ledger.results()] == [
                ("shard-1", "lab-1"), ("shard-2", "lab-2"),
            ]  # fmt: skip
            assert server.output("could not deliver") == []

    run_script(script())


def test_a_result_from_before_a_restart_is_taken_from_who_had_the_task_and_from_nobody_else(tmp_path: Path) -> None:
    begun_earlier(tmp_path)

    async def script() -> None:
        async with serving(tmp_path, 2) as (server, join):
            zz = await join("zz")
            server.begin()
            assert isinstance(await zz.offer("shard-1", weights(666.0)), Reject)
            for number, name in enumerate(("lab-1", "lab-2"), start=1):
                lab = await join(name)
                assert isinstance(await lab.offer(f"shard-{number}", weights(float(number))), Ack), "from its outbox"
            await server.training
            assert [server.value_of(f"shard-{number}") for number in (1, 2)] == [1.0, 2.0]

    run_script(script())


def test_a_result_counts_also_while_the_ledger_has_no_space_for_the_lease(tmp_path: Path) -> None:
    """The disk is full as the task is given out: the lease is noted, and counts all the same."""

    async def script() -> None:
        async with serving(tmp_path, 1) as (server, join):
            one = await join("lab-1")
            ledger, write = server.ledger, server.ledger._write_notes
            ledger._write_notes = lambda: None  # type: ignore[method-assign]
            server.begin()
            lease = await one.lease()
            assert ledger.leases() == []
            assert ledger.holder(id_of("lab-1"), "shard-1", lease.attempt) == "lab-1"
            ledger._write_notes = write  # type: ignore[method-assign]
            assert isinstance(await one.do(lease), Ack)
            await server.training

    run_script(script())


def test_an_acknowledged_task_is_acknowledged_again_and_only_its_holders_are_news(tmp_path: Path) -> None:
    async def script() -> None:
        async with serving(tmp_path, 1) as (server, join):
            one, zz = await all_of(join, server, "lab-1", "zz")
            assert isinstance(await one.do(one.leases[0]), Ack)
            await server.training
            events = server.cluster.events
            for client in (one, zz):
                assert isinstance(await client.offer("shard-1", weights(7.0)), Ack)
            left = [type(events.get_nowait()) for _ in range(events.qsize())]
            assert ResultCommitted not in left
            assert [kind.__name__ for kind in left].count("DuplicateResult") == 1
            assert server.value_of("shard-1") == 1.0

    run_script(script())


def test_the_rule_asks_for_the_id_the_task_and_the_attempt(tmp_path: Path) -> None:
    server = Server(tmp_path, 2)
    server.store.close()
    begun_earlier(tmp_path)
    again = Server(tmp_path, 2)
    ledger = again.ledger
    assert ledger.holder(id_of("lab-1"), "shard-1", 1) == "lab-1"
    assert ledger.holder(id_of("lab-1"), "shard-1") == "lab-1"
    assert ledger.holder(id_of("lab-1"), "shard-1", 2) is None
    assert ledger.holder(id_of("lab-1"), "shard-2") is None
    assert ledger.holder(id_of("zz"), "shard-1") is None
    assert (ledger.has_worked(id_of("lab-2")), ledger.has_worked(id_of("zz"))) == (True, False)
    ledger.end_leases("lost", client="lab-1")
    ledger.lease("shard-1", 2, "lab-2")
    assert ledger.holder(id_of("lab-1"), "shard-1", 1) == "lab-1", "it held it"
    assert ledger.holder(id_of("lab-2"), "shard-1", 2) == "lab-2"
    # A name that another client has by now is not that other client's work of before.
    ledger.remember("lab-1", b"another machine!")
    assert ledger.holder(id_of("lab-1"), "shard-1", 1) is None
    again.store.close()
