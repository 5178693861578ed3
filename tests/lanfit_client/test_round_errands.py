"""What a client makes of a leased round: an order without a copy, and one history over all rounds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_agent import task

from lanfit.files import ArrayFile
from lanfit.training.orders import EpochDone, Ready, Step, Trained
from lanfit.training.trainer import checkpoint_key
from lanfit.wire.messages import Epoch, LogLines, Message, Offer
from lanfit.workspace import Workspace
from lanfit_client.checkpoints import Checkpoints
from lanfit_client.errands import Means, Training
from lanfit_client.outbox import Outbox

READY = Ready("tensorflow", "cpu", 1, 0.0)


def errand(folder: Path, sent: list[Message], said: list[str], number: int) -> Training:
    lease, _ = task()
    fit = msgspec.structs.replace(lease.fit, round=number)
    lease = msgspec.structs.replace(lease, task=f"round-{number}", fit=fit)
    checkpoints = Checkpoints(folder / "checkpoints")
    means = Means(
        Workspace(folder), folder, Outbox(folder / "outbox"), folder / "cache", checkpoints, sent.append, said.append
    )
    return Training(means, lease, bytes(16), "lab", 0.0)


def test_rounds_leave_one_history_and_no_copy_of_the_model(tmp_path: Path) -> None:
    sent: list[Message] = []
    said: list[str] = []
    for number in (1, 2):
        training = errand(tmp_path, sent, said, number)
        files = [ArrayFile("", block) for block in training.blocks]
        order = training.order(number, files, 0.0)
        assert order.copy == ""
        assert order.fit.round == number
        for epoch in (0, 1):
            training.hear(Step(number, "training", epoch + 1, 2, 3, 3, 0.5, 1.0), READY)
            training.hear(EpochDone(number, epoch, {"loss": number + epoch / 10}), READY)
    [history] = tmp_path.rglob("history.csv")
    assert history.read_text() == "epoch,loss,round\n0,1.0,1\n1,1.1,1\n2,2.0,2\n3,2.1,2\n"
    assert [each.epoch for each in sent if isinstance(each, Epoch)] == [0, 1, 0, 1], "the server knows the round"
    assert "Round 2, epoch 1/2  loss 2" in said
    assert "Round 2, epoch 1/2  loss 2" in [line for each in sent if isinstance(each, LogLines) for line in each.lines]


def test_a_result_is_offered_before_anything_is_said_of_it(tmp_path: Path) -> None:
    sent: list[Message] = []
    training = errand(tmp_path, sent, [], 1)
    order = training.order(1, [ArrayFile("", block) for block in training.blocks], 0.0)
    block = ArrayFile.write(Path(order.result), {"w": np.zeros(3, np.float32)})
    assert training.hear(Trained(1, block, ("loss",), 0, {}, {}), READY)
    assert [type(each) for each in sent] == [Offer, LogLines]


def test_without_rounds_the_client_keeps_a_copy_and_each_history_is_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        training = errand(tmp_path, [], [], 0)
        order = training.order(1, [ArrayFile("", block) for block in training.blocks], 0.0)
        assert order.copy.endswith("lab.h5")
        training.hear(EpochDone(1, 0, {"loss": 0.5}), READY)
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
    training = errand(tmp_path, [], [], 1)
    order = training.order(1, [ArrayFile("", block) for block in training.blocks], 0.0)
    other = msgspec.structs.replace(order, fit=msgspec.structs.replace(order.fit, **change))
    assert checkpoint_key(order, order.shard.block, ("a",)) != checkpoint_key(other, order.shard.block, ("a",))
