"""What leaves a client that has its own data: heard by a server that is played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from breakpoints import Breakpoint
from scripted_server import COMPILED, NETWORK, scripted_server, task, until

from lanfit.core.workspace import Workspace
from lanfit.data.labels import Target
from lanfit.data.normalize import Moments, fit_normalizer
from lanfit.data.shard import Normalizers
from lanfit.data.text_labels import LABELS, words_to_array
from lanfit.models.trained_model import TrainedModel
from lanfit.net.link import Link
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of, block_size, buffers, views
from lanfit.wire.messages import (
    Ack,
    AnyMessage,
    Cancel,
    ClientData,
    Epoch,
    EvaluateTask,
    EvaluationResult,
    Failed,
    Fetch,
    FitTask,
    Lease,
    Message,
    Model,
    Offer,
    RunEnded,
    Runtime,
    Survey,
    Surveyed,
    Unsuitable,
    Welcome,
)
from lanfit_client.work_items import LONGEST_TEXT, Context

RANDOM = np.random.RandomState(5)
X = RANDOM.normal(3, 7, (90, 4))
WORDS = np.array(["ant", "cat", "dog"])[RANDOM.randint(0, 3, 90)]
OWN = ClientData(8, 0.2, 0.1, 0, 3, None)

CONSTANTS = tuple(TrainedModel({}).constants())


def give(folder: Path) -> None:
    for name, rows in (("X", X), ("Y", WORDS)):
        (folder / "dataset" / name).mkdir(parents=True)
        np.savez(folder / "dataset" / name / "rows.npz", rows)


def small_model() -> tuple[Model, dict[str, AnyArray]]:
    weights = {"dense/kernel": RANDOM.rand(4, 4).astype(np.float32), "dense/bias": np.zeros(4, np.float32)}
    return Model(NETWORK, COMPILED, (None, 4), (None, 4), Target.CLASSES, "zscore", "none"), weights


class Ear:
    """Speaks for a server, and keeps every byte that the client says."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.seen: list[AnyMessage] = []
        self.blocks: list[bytes] = []
        self.offered: dict[str, Mapping[str, AnyArray]] = {}

    def offer(self, arrays: Mapping[str, AnyArray]) -> BlockSpec:
        spec = block_of(arrays)
        self.offered[spec.id] = arrays
        return spec

    async def receive(self, *kinds: type[Message]) -> AnyMessage:
        """The next message of one of these kinds; meanwhile blocks are handed out."""
        while True:
            message = await self.link.receive()
            self.seen.append(message)
            if isinstance(message, kinds):
                return message
            assert not isinstance(message, Failed | Unsuitable), message
            if isinstance(message, Fetch):
                await self.link.send_block(message, buffers(self.offered[message.block]))

    async def take(self, spec: BlockSpec) -> dict[str, AnyArray]:
        block = bytearray(block_size(spec.arrays))
        await self.link.fetch(spec.id, memoryview(block))
        self.blocks.append(bytes(block))
        return views(memoryview(block), spec.arrays)

    @property
    def everything(self) -> bytes:
        return b"".join([*map(msgspec.msgpack.encode, self.seen), *self.blocks])


def traces(rows: AnyArray) -> list[bytes]:
    """The bytes of every row, in all forms that a number could travel in."""
    return [row.astype(dtype).tobytes() for row in rows for dtype in ("<f4", "<f8", ">f4", ">f8")]


def test_nothing_that_leaves_a_client_holds_a_row_or_a_path(tmp_path: Path) -> None:
    give(tmp_path)
    model, weights = small_model()
    output: list[str] = []

    async def run_script() -> tuple[Ear, AnyArray]:
        async with scripted_server(tmp_path, output, data=tmp_path / "dataset") as (scripted, agent, running):
            ear = Ear(await scripted.links.get())
            await ear.link.send(Welcome("0", "lab", False))
            await ear.link.send(Survey(model, OWN, ear.offer(weights)))
            surveyed = await ear.receive(Surveyed)
            assert isinstance(surveyed, Surveyed)
            assert (surveyed.train, surveyed.validation, surveyed.test) == (64, 8, 18)
            reported = await ear.take(surveyed.block)
            assert bytes(reported[LABELS]) == b'["ant","cat","dog"]'
            normalizer = fit_normalizer("zscore", Moments.from_arrays(surveyed.values, reported))
            shard = ear.offer(
                {
                    **Normalizers.single(normalizer).constants(),
                    LABELS: words_to_array(("ant", "bee", "cat", "dog")),
                }
            )
            fit = FitTask(model, 3, 8, 7, 0, Runtime(), None, OWN)
            await ear.link.send(Lease("run-1", "shard-1", 1, "lab", fit, ear.offer(weights), shard))
            offer = await ear.receive(Offer)
            assert isinstance(offer, Offer)
            result = await ear.take(offer.result.block)
            assert [*result] == [*weights, *CONSTANTS, "history"]
            await ear.link.send(Ack(offer.result.block.id))
            members = (
                ear.offer(result),
                ear.offer({name: result[name] for name in [*weights, *CONSTANTS]}),
            )
            await ear.link.send(EvaluateTask("run-1", "shard-1", model, OWN, shard, members[:1]))
            one = await ear.receive(EvaluationResult)
            await ear.link.send(EvaluateTask("run-1", "ensemble", model, OWN, shard, members))
            two = await ear.receive(EvaluationResult)
            assert isinstance(one, EvaluationResult)
            assert isinstance(two, EvaluationResult)
            assert (one.task, two.task, one.rows, two.rows) == ("shard-1", "ensemble", 18, 18)
            # Two of the same, averaged: the same, and what Keras says of the rows that anyone can draw.
            assert two.metrics == pytest.approx(one.metrics, rel=1e-5)
            # A round: it begins with a score of the weights on the client's validation rows, and ends with another.
            in_round = msgspec.structs.replace(fit, epochs=1, round=1, proximal=0.1, keep_last=True, score_start=True)
            await ear.link.send(Lease("run-1", "round-1-shard-1", 1, "lab", in_round, ear.offer(weights), shard))
            offer = await ear.receive(Offer)
            assert isinstance(offer, Offer)
            await ear.take(offer.result.block)
            await ear.link.send(Ack(offer.result.block.id))
            start = ear.offer({**weights, **{name: result[name] for name in CONSTANTS}})
            await ear.link.send(EvaluateTask("run-1", "round-0", model, OWN, shard, (start,), "validation"))
            three = await ear.receive(EvaluationResult)
            assert isinstance(three, EvaluationResult)
            assert three.rows == 8
            assert three.metrics["loss"] == pytest.approx(offer.result.scores["loss"], rel=1e-5)
            assert 0 < one.metrics["accuracy"] <= 1
            await ear.link.send(RunEnded("run-1", "done", "it is over"))
            await running
            assert agent.worker.failures == 0
            return ear, normalizer.apply(X)

    ear, normalized = asyncio.run(run_script())
    received = ear.everything
    assert len(received) > 2000
    for trace in (*traces(X), *traces(normalized)):
        assert trace not in received
    numbers = np.searchsorted(["ant", "bee", "cat", "dog"], WORDS)
    for dtype in (np.int32, np.int64, np.uint8):
        assert numbers[:12].astype(dtype).tobytes() not in received
    assert str(tmp_path).encode() not in received
    assert b"rows.npz" not in received
    assert not (tmp_path / "client" / "state" / "1" / "cache").exists()


def test_of_files_that_can_not_be_used_only_place_and_reason_are_reported_and_the_client_lives_on(
    tmp_path: Path,
) -> None:
    give(tmp_path)
    (tmp_path / "dataset" / "X" / "rows.npz").unlink()
    table = X.astype(str)
    table[41, 2] = "Ms Secret"
    np.savetxt(tmp_path / "dataset" / "X" / "rows.csv", table, fmt="%s", delimiter=",")
    model, weights = small_model()
    output: list[str] = []

    async def run_script() -> None:
        async with scripted_server(tmp_path, output, data=tmp_path / "dataset") as (scripted, agent, running):
            ear = Ear(await scripted.links.get())
            await ear.link.send(Welcome("0", "lab", False))
            order = Survey(model, OWN, ear.offer(weights))
            await ear.link.send(order)
            wrong = await ear.receive(Unsuitable)
            assert isinstance(wrong, Unsuitable)
            assert wrong.error.replace("\\", "/") == 'X/rows.csv, line 42, column 3: "…" is not a number'
            assert wrong.hint
            assert agent.worker.is_unsuitable
            assert b"Secret" not in ear.everything
            assert str(tmp_path).encode() not in ear.everything
            # Its own user reads all of it, mends the file, and the next survey is fine.
            assert any("Ms Secret" in line and str(tmp_path) in line for line in output)
            (tmp_path / "dataset" / "X" / "rows.csv").unlink()
            np.savez(tmp_path / "dataset" / "X" / "rows.npz", X)
            await ear.link.send(order)
            assert isinstance(await ear.receive(Surveyed), Surveyed)
            # A second survey of the same, as after a lost link, tells the same.
            await ear.link.send(order)
            again = await ear.receive(Surveyed)
            assert again == next(message for message in ear.seen if isinstance(message, Surveyed))
            await ear.link.send(RunEnded("", "failed", "no run was started"))
            await running
            assert agent.worker.failures == 0
            assert not agent.worker.is_unsuitable, "they were corrected"

    asyncio.run(run_script())


def test_a_task_that_is_leased_again_over_a_new_link_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output: list[str] = []
    hold = Breakpoint(tmp_path / "hold")
    for name, value in hold.environment.items():
        monkeypatch.setenv(name, value)

    async def run_script() -> None:
        lease, blocks = task()
        lease = msgspec.structs.replace(lease, fit=msgspec.structs.replace(lease.fit, epochs=3))
        seen: list[AnyMessage] = []
        async with scripted_server(tmp_path, output) as (scripted, _, running):
            link = await scripted.links.get()
            await link.send(Welcome("0", "lab", False))
            await link.send(lease)
            for _ in range(2):
                fetch = await until(link, Fetch, seen)
                assert isinstance(fetch, Fetch)
                await link.send_block(fetch, buffers(blocks[fetch.block]))
            await until(link, Epoch, seen)
            await link.close("pulled out")
            link = await scripted.links.get()
            await link.send(Welcome("0", "lab", False))
            await link.send(msgspec.structs.replace(lease, attempt=2))
            await link.send(Cancel("run-1", "shard-9", "the lease before this was read"))
            while not any("the lease before this was read" in line for line in output):
                await asyncio.sleep(0.01)
            hold.let_go()
            offer = await until(link, Offer, seen)
            assert isinstance(offer, Offer)
            assert offer.result.attempt == 2
            await link.send(Ack(offer.result.block.id))
            await link.send(RunEnded("run-1", "done", "it is over"))
            await running

    asyncio.run(run_script())
    assert len([line for line in output if line.startswith("Task shard-1")]) == 1
    epochs = [line.split()[1] for line in output if line.startswith("Epoch ")]
    assert epochs == [f"{number}/3" for number in range(1, 4)]


def test_what_a_server_learns_of_an_error_has_no_folder_and_no_cell(tmp_path: Path) -> None:
    none = print
    means = Context(Workspace(tmp_path), tmp_path / "dataset", None, tmp_path, None, none, none)  # type: ignore[arg-type]
    folder = tmp_path / "dataset"
    for error, reported in {
        f'{folder}/X/a.csv, line 2, column "age": "Ann "Nee" Other" is not a number': 'column "age": "…" is not a',
        f'{folder}/Y/a.csv, row 3: "5" is a number, but "cat" (row 7) is not': 'Y/a.csv, row 3: "…" (row 7) is not',
        f"{folder}/Y/a.npz, row 3: [0. 0.5 0.7] is not one-hot": 'Y/a.npz, row 3: "…" is not',
        f"the folder {folder}/X does not exist": "the folder X does not exist",
        f"the folder {folder} does not exist": "the folder dataset does not exist",
        f"the disk is full: {tmp_path}/client/state/1/cache/x needs 5 bytes": "full: client/state/1/cache/x needs",
        "x" * 5000: "x" * LONGEST_TEXT,
    }.items():
        found = means.presentable(error)
        assert reported in found
        assert str(tmp_path) not in found
        assert len(found) <= LONGEST_TEXT
