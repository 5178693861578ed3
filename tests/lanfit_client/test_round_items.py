"""What a client makes of a leased round: an order without a copy, and one history over all rounds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from scripted_server import task

from lanfit.core.workspace import Workspace
from lanfit.training.commands import EpochDone, Ready, Step, Trained
from lanfit.training.trainer import checkpoint_key
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import block_of
from lanfit.wire.messages import Epoch, Lease, LogLines, Message, Offer
from lanfit_client.store.checkpoints import Checkpoints
from lanfit_client.store.outbox import Outbox
from lanfit_client.work_items import Context, Training

READY = Ready("tensorflow", "cpu", 1, 0.0)


def item(folder: Path, sent: list[Message], output: list[str], number: int) -> Training:
    lease, _ = task()
    fit = msgspec.structs.replace(lease.fit, round=number)
    lease = msgspec.structs.replace(lease, task=f"round-{number}", fit=fit)
    checkpoints = Checkpoints(folder / "checkpoints")
    means = Context(
        Workspace(folder), folder, Outbox(folder / "outbox"), folder / "cache", checkpoints, sent.append, output.append
    )
    return Training(means, lease, bytes(16), "lab", 0.0)


def test_rounds_leave_one_history_and_no_copy_of_the_model(tmp_path: Path) -> None:
    sent: list[Message] = []
    output: list[str] = []
    for number in (1, 2):
        training = item(tmp_path, sent, output, number)
        files = [ArrayFile("", block) for block in training.blocks]
        command = training.make_command(number, files, 0.0)
        assert command.copy == ""
        assert command.fit.round == number
        for epoch in (0, 1):
            training.on_answer(Step(number, "training", epoch + 1, 2, 3, 3, 0.5, 1.0), READY)
            training.on_answer(EpochDone(number, epoch, {"loss": number + epoch / 10}), READY)
    [history] = tmp_path.rglob("history.csv")
    assert history.read_text() == "epoch,loss,round\n0,1.0,1\n1,1.1,1\n2,2.0,2\n3,2.1,2\n"
    assert [each.epoch for each in sent if isinstance(each, Epoch)] == [0, 1, 0, 1], "the server knows the round"
    assert "Round 2, epoch 1/2  loss 2" in output
    assert "Round 2, epoch 1/2  loss 2" in [line for each in sent if isinstance(each, LogLines) for line in each.lines]


def test_a_result_is_offered_before_anything_is_reported_of_it(tmp_path: Path) -> None:
    sent: list[Message] = []
    training = item(tmp_path, sent, [], 1)
    command = training.make_command(1, [ArrayFile("", block) for block in training.blocks], 0.0)
    block = ArrayFile.write(Path(command.result), {"w": np.zeros(3, np.float32)})
    training.on_answer(Trained(1, block, ("loss",), 0, {}, {}), READY)
    assert [type(each) for each in sent] == [Offer, LogLines]


def test_without_rounds_the_client_keeps_a_copy_and_each_history_is_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        training = item(tmp_path, [], [], 0)
        command = training.make_command(1, [ArrayFile("", block) for block in training.blocks], 0.0)
        assert command.copy.endswith("lab.h5")
        training.on_answer(EpochDone(1, 0, {"loss": 0.5}), READY)
    [history] = tmp_path.rglob("history.csv")
    assert history.read_text() == "epoch,loss\n0,0.5\n"


@pytest.mark.parametrize(
    "change",
    [
        {"round": 2},
        {"local_steps": 3},
        {"proximal": 0.5},
        {"first_step": 5},
        {"keep_last": True},
        {"score_start": True},
    ],
)
def test_what_a_round_asks_for_is_in_the_key_of_its_checkpoint(tmp_path: Path, change: dict[str, object]) -> None:
    training = item(tmp_path, [], [], 1)
    command = training.make_command(1, [ArrayFile("", block) for block in training.blocks], 0.0)
    other = msgspec.structs.replace(command, fit=msgspec.structs.replace(command.fit, **change))
    assert checkpoint_key(command, command.shard.block, ("a",)) != checkpoint_key(other, command.shard.block, ("a",))


def test_indices_of_rows_are_received_and_given_to_the_trainer_and_are_in_the_key_of_its_checkpoint(
    tmp_path: Path,
) -> None:
    training = item(tmp_path, [], [], 1)
    plain = training.make_command(1, [ArrayFile("", block) for block in training.blocks], 0.0)
    assert plain.rows is None
    keys = {checkpoint_key(plain, plain.shard.block, ("a",))}
    for indices in ([0, 2], [1, 2]):
        rows = block_of({"train": np.array(indices), "validation": np.array([], np.int64)})
        training.lease = msgspec.structs.replace(training.lease, rows=rows)
        assert training.blocks[2:] == (rows,)
        command = training.make_command(1, [ArrayFile("", block) for block in training.blocks], 0.0)
        assert command.rows == ArrayFile("", rows)
        keys.add(checkpoint_key(command, command.shard.block, ("a",)))
    assert len(keys) == 3


def test_a_lease_without_indices_is_sent_as_before_there_were_any() -> None:
    lease, _ = task()
    assert b"rows" not in msgspec.msgpack.encode(lease)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(lease), type=Lease) == lease
