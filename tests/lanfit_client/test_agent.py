"""The agent and a trainer with a fake backend, against a server that is played by the test: real TLS, real login."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes.backend import NAME
from scripted_server import scripted_server, task, until

from lanfit.data.shown_rows import unpack
from lanfit.models.runtime import keras_version
from lanfit.models.trained_model import TrainedModel
from lanfit.net.tls import Identity
from lanfit.training.trainer_process import combined
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.wire.arrays import block_of, block_size, buffers
from lanfit.wire.messages import (
    Ack,
    AnyMessage,
    Commit,
    Epoch,
    Failed,
    Fetch,
    Join,
    Later,
    Lease,
    LogLines,
    Offer,
    Progress,
    Reject,
    Result,
    RunEnded,
    Runtime,
    Status,
    Welcome,
)
from lanfit_client.agent import REPORT_SECONDS
from lanfit_client.store.outbox import Entry


def test_a_result_is_kept_until_it_is_acknowledged_and_offered_again_over_a_new_link(tmp_path: Path) -> None:
    output: list[str] = []

    async def run_script() -> None:
        lease, blocks = task()
        seen: list[AnyMessage] = []
        async with scripted_server(tmp_path, output) as (scripted, agent, running):
            link = await scripted.links.get()
            assert isinstance(await link.receive(), Join)
            await link.send(Welcome("0", "lab", False))
            await link.send(lease)
            for _ in range(2):
                fetch = await until(link, Fetch, seen)
                assert isinstance(fetch, Fetch)
                await link.send_block(fetch, buffers(blocks[fetch.block]))
            offer = await until(link, Offer, seen)
            assert isinstance(offer, Offer)
            # The same task again, from a server that had lost sight of it: it is not trained twice.
            await link.send(lease)
            await link.send(Status("the lease before this was read"))
            while not any("the lease before this was read" in line for line in output):
                await asyncio.sleep(0)
            assert [message.epoch for message in seen if isinstance(message, Epoch)] == [0, 1]
            assert any(isinstance(message, LogLines) for message in seen)
            await link.close("the server dies before it fetches")

            link = await scripted.links.get()
            assert isinstance(await link.receive(), Join)
            await link.send(Welcome("0", "lab", True))
            seen.clear()
            again = await until(link, Offer, seen)
            assert again == offer
            size = block_size(offer.result.block.arrays)
            received = BlockFile.create(tmp_path / "received", size)
            fetching = asyncio.create_task(link.fetch(offer.result.block.id, received.view[:size]))
            commit = await until(link, Commit, seen)
            await fetching
            assert commit == Commit(offer.result.block.id)
            arrays = received.arrays(offer.result.block.arrays)
            assert block_of(arrays) == offer.result.block
            assert [*arrays] == [
                *(spec.name for spec in lease.weights.arrays),
                *TrainedModel({}).constants(),
                "history",
            ]
            assert arrays["history"].shape == (2, len(offer.result.metrics))
            assert len(agent.worker.outbox) == 1
            await link.send(Ack(offer.result.block.id))
            await link.send(RunEnded("run-1", "done", "it is over"))
            await running
            assert len(agent.worker.outbox) == 0
            assert agent.worker.failures == 0

    asyncio.run(run_script())
    assert (tmp_path / "model" / "trained" / "run-1" / "lab.h5").is_file()
    assert any("The server has stored the result" in line for line in output)
    assert len([line for line in output if "receiving" in line]) == 1, "it took the same task twice"
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "client" / "state" / "1" / "cache").exists()


def test_rows_that_the_server_shows_are_predicted_after_epochs_and_the_result_is_the_same(tmp_path: Path) -> None:
    rows = {"x": np.random.default_rng(1).random((5, 8, 8, 1), np.float32)}

    async def run_script(folder: Path, *, shown: bool) -> tuple[list[Epoch], str]:
        lease, blocks = task()
        seen: list[AnyMessage] = []
        if shown:
            spec = block_of(rows)
            lease, blocks = msgspec.structs.replace(lease, shown=spec), {**blocks, spec.id: rows}
        async with scripted_server(folder, []) as (scripted, _, running):
            link = await scripted.links.get()
            assert isinstance(await link.receive(), Join)
            await link.send(Welcome("0", "lab", False))
            await link.send(lease)
            for _ in blocks:
                fetch = await until(link, Fetch, seen)
                assert isinstance(fetch, Fetch)
                await link.send_block(fetch, buffers(blocks[fetch.block]))
            offer = await until(link, Offer, seen)
            assert isinstance(offer, Offer)
            await link.send(Ack(offer.result.block.id))
            await link.send(RunEnded("run-1", "done", "it is over"))
            await running
            reported = [message for message in seen if isinstance(message, Epoch)]
            # What is told after an epoch adds up to what is told with the result.
            assert reported[-1].seconds.keys() <= offer.result.seconds.keys()
            assert all(
                reported[-1].seconds[name] <= offer.result.seconds[name] for name in ("receive", "train", "validate")
            )
            assert reported[0].seconds["train"] < reported[-1].seconds["train"]
            return reported, offer.result.block.id

    with_them, result = asyncio.run(run_script(tmp_path / "with", shown=True))
    plain, same = asyncio.run(run_script(tmp_path / "plain", shown=False))
    assert result == same
    assert [each.predictions for each in plain] == [b"", b""]
    first, last = (unpack(each.predictions, 50) for each in with_them)
    assert len(first) == len(last) == 50
    assert first != last
    assert np.array(first).reshape(5, 10).sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_progress_is_reported_at_least_once_a_second_while_there_is_a_task(tmp_path: Path) -> None:
    """Also while nothing new is known: here the shard never comes."""
    assert 0 < REPORT_SECONDS <= 1

    async def run_script() -> None:
        lease, _ = task()
        async with scripted_server(tmp_path, []) as (scripted, _, _):
            link = await scripted.links.get()
            await link.receive()
            await link.send(Welcome("0", "lab", False))
            await link.send(lease)
            reports: list[Progress] = []
            while len(reports) < 3:
                if isinstance(message := await link.receive(), Progress):
                    reports.append(message)
            assert {report.state for report in reports} == {"receiving"}

    asyncio.run(run_script())


def test_a_task_gets_the_backend_and_the_patience_that_it_wants_or_fails_with_a_hint(tmp_path: Path) -> None:
    """The trainer is replaced for it, and again for the next task."""
    output: list[str] = []
    lease, blocks = task()

    def wanting(number: int, backend: str = "", device: str = "") -> Lease:
        fit = msgspec.structs.replace(lease.fit, epochs=60, patience=1, runtime=Runtime(backend, device))
        return msgspec.structs.replace(lease, task=f"shard-{number}", fit=fit)

    async def run_script() -> None:
        seen: list[AnyMessage] = []
        async with scripted_server(tmp_path, output, backends=["other"]) as (scripted, _, running):
            link = await scripted.links.get()
            joined = await link.receive()
            assert isinstance(joined, Join)
            assert (joined.backend, joined.threads) == (NAME, 1)
            await link.send(Welcome("0", "lab", False))
            await link.send(wanting(1, "other", "cpu"))
            for _ in range(2):
                fetch = await until(link, Fetch, seen)
                assert isinstance(fetch, Fetch)
                await link.send_block(fetch, buffers(blocks[fetch.block]))
            offer = await until(link, Offer, seen)
            assert isinstance(offer, Offer)
            assert (offer.result.backend, offer.result.device, offer.result.threads) == ("other", "cpu", 1)
            epochs = [message.epoch for message in seen if isinstance(message, Epoch)]
            assert offer.result.best_epoch + 2 == len(epochs) < 60

            await link.send(wanting(2, "theano"))
            failed = await until(link, Failed, seen)
            assert isinstance(failed, Failed)
            assert "runtime.backend is theano, not one of tensorflow, jax, torch, fake, other" in failed.error
            assert "same version of lanfit" in failed.hint

            await link.send(wanting(3, "", "gpu"))
            failed = await until(link, Failed, seen)
            assert isinstance(failed, Failed)
            assert "fake finds only the cpu of this machine" in failed.error
            assert "--device cpu" in failed.hint

            await link.send(wanting(4))
            offer = await until(link, Offer, seen)
            assert isinstance(offer, Offer)
            assert (offer.result.backend, offer.result.device, offer.result.threads) == (NAME, "cpu", 1)
            await link.send(RunEnded("run-1", "done", "it is over"))
            await running

    asyncio.run(run_script())
    assert "The backend is ready: other on cpu, 1 thread." in output


def test_a_result_that_there_is_no_space_for_is_offered_again_by_itself_and_that_is_reported_once(
    tmp_path: Path,
) -> None:
    output: list[str] = []

    async def run_script() -> None:
        seen: list[AnyMessage] = []
        async with scripted_server(tmp_path, output) as (scripted, agent, running):
            outbox, server = agent.worker.outbox, Identity.load_or_create(tmp_path / "server")
            file = ArrayFile.write(outbox.new_block("shard-1"), {"w": np.ones(3)})
            result = Result("run-0", "shard-1", 1, file.block, ("loss",), 0, {}, {}, "tensorflow", "cpu", 1)
            outbox.add(outbox.new_block("shard-1"), Entry(server.server_id, result, server.fingerprint))
            link = await scripted.links.get()
            await link.receive()
            await link.send(Welcome("0", "lab", False))
            for _ in range(3):
                assert await until(link, Offer, seen) == Offer(result)
                await link.send(Later(file.block.id, 0.0, "the server's disk is full"))
            await until(link, Offer, seen)
            assert len(outbox) == 1
            await link.send(Ack(file.block.id))
            await link.send(RunEnded("run-0", "done", "it is over"))
            await running
            assert len(outbox) == 0

    asyncio.run(run_script())
    assert (
        len([line for line in output if "The server can't accept a result yet: the server's disk is full" in line]) == 1
    )


def test_a_result_that_can_never_be_taken_is_dropped_and_not_offered_again(tmp_path: Path) -> None:
    output: list[str] = []

    async def run_script() -> None:
        seen: list[AnyMessage] = []
        async with scripted_server(tmp_path, output) as (scripted, agent, running):
            outbox, server = agent.worker.outbox, Identity.load_or_create(tmp_path / "server")
            file = ArrayFile.write(outbox.new_block("shard-1"), {"w": np.ones(3)})
            result = Result("run-0", "shard-1", 1, file.block, ("a",), 0, {}, {}, "tensorflow", "cpu", 1)
            outbox.add(outbox.new_block("shard-1"), Entry(server.server_id, result, server.fingerprint))
            link = await scripted.links.get()
            await link.receive()
            await link.send(Welcome("0", "lab", False))
            assert await until(link, Offer, seen) == Offer(result)
            await link.send(Reject(file.block.id, "it can't be"))
            await link.send(RunEnded("run-0", "failed", "it is over"))
            await running
            assert len(outbox) == 0
            assert not list(outbox.block(file.block.id).parent.iterdir()), "nothing of it is left for a later start"

    asyncio.run(run_script())
    assert any("The server refused a result: it can't be." in line for line in output)


def test_what_is_fixed_on_the_command_line_wins_over_the_task() -> None:
    own = Runtime("tensorflow", "auto", 4)
    wanted = Runtime("jax", "gpu", 2)
    assert combined(own, wanted, frozenset()) == wanted
    assert combined(own, Runtime(), frozenset()) == own
    assert combined(own, Runtime(threads=2), frozenset({"backend"})) == Runtime("tensorflow", "auto", 2)
    assert combined(own, wanted, frozenset({"backend", "threads"})) == Runtime("tensorflow", "gpu", 4)
    assert combined(own, wanted, frozenset({"device", "host"})) == Runtime("jax", "auto", 2)


def test_a_model_of_another_keras_is_built_before_rows_are_fetched(tmp_path: Path) -> None:
    """Two versions that differ: a model that can't be built here is told with both, and nothing of it is fetched."""
    output: list[str] = []

    async def run_script() -> None:
        lease, _ = task()
        seen: list[AnyMessage] = []
        model = lease.fit.model
        newer = model.architecture.replace('"net"', '"unknown"')
        assert newer != model.architecture
        foreign = msgspec.structs.replace(model, architecture=newer)
        refused = msgspec.structs.replace(lease, fit=msgspec.structs.replace(lease.fit, model=foreign), task="shard-0")
        async with scripted_server(tmp_path, output) as (scripted, _, running):
            link = await scripted.links.get()
            joined = await link.receive()
            assert isinstance(joined, Join)
            assert joined.keras == keras_version()
            await link.send(Welcome("0", "lab", False, "3.999.0"))
            await link.send(refused)
            failed = await until(link, Failed, seen)
            assert isinstance(failed, Failed)
            assert (failed.task, failed.code) == ("shard-0", "model.other-keras")
            assert "this client (Keras 1) can't build" in failed.error
            assert "the model of the server (Keras 3.999.0)" in failed.error
            assert "it knows no such layer" in failed.error
            assert failed.hint.endswith("python -m pip install keras==3.999.0.")
            assert not any(isinstance(message, Fetch) for message in seen)
            await link.send(lease)
            assert isinstance(await until(link, Fetch, seen), Fetch)
            running.cancel()

    asyncio.run(run_script())
