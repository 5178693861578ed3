"""A server that knows the passphrase and wants more than it may have of a client: a real agent, login and TLS."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scripted_server import COMPILED, NETWORK, scripted_server

from lanfit.core.terminal import Terminal
from lanfit.data.labels import Target
from lanfit.errors import InputError
from lanfit.models.trained_model import TrainedModel
from lanfit.net.link import Link
from lanfit.training import commands
from lanfit.training.client_data import ClientFiles
from lanfit.training.row_cache import RowCache
from lanfit.training.trainer import Trainer
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import block_of
from lanfit.wire.messages import (
    AnyMessage,
    Cancel,
    ClientData,
    EvaluateTask,
    Failed,
    Fetch,
    FitTask,
    Fold,
    Lease,
    Message,
    Model,
    PartsTaken,
    RunEnded,
    Runtime,
    Status,
    Survey,
    Unsuitable,
    Welcome,
)
from lanfit_client import agent as agent_module
from lanfit_client import pacing as pacing_module
from lanfit_client.consent import Consent, Consents
from lanfit_client.prompts import Prompts

#: One step on one row: the difference between the weights is the row.
ONE_ROW = ClientData(1, 0.0, 0.0, 0, 7, None)
WEIGHTS = {"kernel": np.zeros((2, 1), np.float32), "bias": np.zeros(1, np.float32)}
LINEAR = Model(NETWORK, COMPILED, (None, 2), (None, 1), Target.VALUES, "none", "none")
SPEC = block_of(WEIGHTS)


def lease(own: ClientData = ONE_ROW, task: str = "shard-1") -> Lease:
    fit = FitTask(LINEAR, 1, own.batch_size, 7, 0, Runtime(), None, own, local_steps=1, keep_last=True)
    return Lease("run-1", task, 1, "lab", fit, SPEC, SPEC)


def survey(own: ClientData = ONE_ROW) -> Survey:
    return Survey(LINEAR, own, SPEC)


def score(own: ClientData = ONE_ROW) -> EvaluateTask:
    return EvaluateTask("run-1", "shard-1", LINEAR, own, SPEC, (SPEC,))


def give(folder: Path, rows: int) -> Path:
    """Own data of so many rows."""
    random = np.random.RandomState(3)
    for name, columns in (("X", 2), ("Y", 1)):
        (folder / name).mkdir(parents=True)
        np.savez(folder / name / "rows.npz", random.normal(50, 9, (rows, columns)))
    return folder


class Typed(io.StringIO):
    """Somebody at a terminal, who says this to each question."""

    def __init__(self, line: Callable[[], str]) -> None:
        super().__init__()
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:
        return self._line()


class User:
    """Who is asked, in a thread that stands for the main one."""

    def __init__(self, folder: Path, line: Callable[[], str]) -> None:
        self.talk = io.StringIO()
        self.prompts = Prompts(terminal := Terminal(Typed(line), self.talk))
        self.consent = Consent(
            folder / "dataset", consents(folder), given=False, terminal=terminal, prompts=self.prompts
        )

    @property
    def asked(self) -> int:
        return self.talk.getvalue().count("May the server use this data")


@contextlib.asynccontextmanager
async def served(user: User) -> AsyncIterator[None]:
    over: concurrent.futures.Future[None] = concurrent.futures.Future()
    serving = asyncio.get_running_loop().run_in_executor(None, user.prompts.serve, over)
    try:
        yield
    finally:
        over.set_result(None)
        await serving


def consents(folder: Path) -> Path:
    return folder / "client" / "state" / "data_consents"


async def welcomed(scripted: Any) -> Link:
    link: Link = await scripted.links.get()
    await link.send(Welcome("0", "lab", False))
    return link


async def answer(link: Link, seen: list[AnyMessage], *kinds: type[Message]) -> Any:
    """The next message of these kinds; all are noted."""
    while True:
        message = await link.receive()
        seen.append(message)
        if isinstance(message, kinds):
            return message
        assert not isinstance(message, Fetch), "the client goes on, and receives what it needs"


@pytest.mark.parametrize("message", [lease(), survey(), score()], ids=["lease", "survey", "score"])
def test_a_client_without_data_refuses_every_use_of_its_own_files_before_anything_is_fetched(
    message: Message, tmp_path: Path
) -> None:
    give(tmp_path / "dataset", 90)
    output: list[str] = []

    async def run_script() -> None:
        seen: list[AnyMessage] = []
        async with scripted_server(tmp_path, output, warm=False) as (scripted, agent, running):
            link = await welcomed(scripted)
            await link.send(message)
            refused = await answer(link, seen, Failed, Unsuitable)
            assert refused.error == "the user of this client has not allowed the server to use its data"
            # What the operator has to have typed there.
            assert f"lanfit client {link_address(output)} --data DIR" in (refused.hint or " ".join(output))
            assert not any(isinstance(each, Fetch) for each in seen)
            assert agent.worker.trainer.ready is None
            assert agent.worker.trainer._child is None, "no trainer was started, and nothing read"
            assert agent.worker.failures or agent.worker.is_unsuitable, "the client ends with exit code 4"
            await link.send(RunEnded("run-1", "failed", "it is over"))
            await running

    asyncio.run(run_script())
    assert not consents(tmp_path).exists()
    assert str(tmp_path / "dataset") in " ".join(output) or isinstance(message, Lease | EvaluateTask)


def link_address(output: list[str]) -> str:
    """Where the client says that it joined."""
    return next(line.split()[1] for line in output if line.startswith("Joined "))


def test_with_data_the_server_gets_on_without_a_question(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with scripted_server(tmp_path, [], warm=False, data=give(tmp_path / "own", 90)) as (scripted, _, _):
            link = await welcomed(scripted)
            await link.send(survey())
            await answer(link, [], Fetch)

    asyncio.run(run_script())


def test_a_yes_at_the_question_holds_for_that_certificate_and_for_no_other(tmp_path: Path) -> None:
    give(tmp_path / "dataset", 90)
    output: list[str] = []
    user = User(tmp_path, lambda: "y\n")

    async def run_script() -> None:
        async with (
            served(user),
            scripted_server(tmp_path, output, warm=False, consent=user.consent) as (scripted, _, _),
        ):
            link = await welcomed(scripted)
            await link.send(survey())
            await answer(link, [], Fetch)
        # Started again, and nobody is at the terminal: the server is known, from its certificate.
        async with scripted_server(tmp_path, output, warm=False) as (scripted, _, _):
            link = await welcomed(scripted)
            await link.send(lease())
            await answer(link, [], Fetch)
        # Another one at the same place, with the same passphrase.
        async with scripted_server(tmp_path, output, warm=False, server="impostor", remembers=False) as (
            scripted,
            _,
            _,
        ):
            link = await welcomed(scripted)
            for message in (survey(), lease(), score()):
                await link.send(message)
                await answer(link, seen := [], Failed, Unsuitable)
                assert not any(isinstance(each, Fetch) for each in seen)

    asyncio.run(run_script())
    assert user.asked == 1
    shown = user.talk.getvalue()
    assert str(tmp_path / "dataset") in shown
    assert "2 files" in shown
    assert "fingerprint" in shown
    [(fingerprint, kept)] = json.loads(consents(tmp_path).read_text()).items()
    assert len(fingerprint) == 64
    assert kept["address"].startswith("127.0.0.1:")
    if os.name == "posix":
        assert consents(tmp_path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("typed", ["\n", "n\n"])
def test_a_no_and_no_answer_refuse_and_no_server_can_ask_again_and_again(typed: str, tmp_path: Path) -> None:
    give(tmp_path / "dataset", 90)
    user = User(tmp_path, lambda: typed)

    async def run_script() -> None:
        async with served(user), scripted_server(tmp_path, [], warm=False, consent=user.consent) as (scripted, _, _):
            link, seen = await welcomed(scripted), list[AnyMessage]()
            for message in (survey(), lease(), survey(), score()):
                await link.send(message)
                await answer(link, seen, Failed, Unsuitable)
            assert not any(isinstance(each, Fetch) for each in seen)

    asyncio.run(run_script())
    assert user.asked == 1
    assert not consents(tmp_path).exists()


def test_a_question_stays_open_over_a_lost_link_and_is_asked_once(tmp_path: Path) -> None:
    give(tmp_path / "dataset", 90)
    pressed: concurrent.futures.Future[str] = concurrent.futures.Future()
    user = User(tmp_path, pressed.result)

    async def run_script() -> None:
        async with served(user), scripted_server(tmp_path, [], warm=False, consent=user.consent) as (scripted, _, _):
            link = await welcomed(scripted)
            await link.send(survey())
            while not user.asked:
                await asyncio.sleep(0.01)
            await link.close("pulled out")
            link = await welcomed(scripted)
            await link.send(survey())
            pressed.set_result("yes\n")
            await answer(link, [], Fetch)

    asyncio.run(run_script())
    assert user.asked == 1


def test_what_was_cancelled_while_it_was_asked_is_not_begun(tmp_path: Path) -> None:
    give(tmp_path / "dataset", 90)
    output: list[str] = []
    pressed: concurrent.futures.Future[str] = concurrent.futures.Future()
    user = User(tmp_path, pressed.result)

    async def run_script() -> None:
        seen: list[AnyMessage] = []
        async with (
            served(user),
            scripted_server(tmp_path, output, warm=False, consent=user.consent) as (scripted, _, _),
        ):
            link = await welcomed(scripted)
            await link.send(lease())
            while not user.asked:
                await asyncio.sleep(0.01)
            await link.send(Cancel("run-1", "shard-1", "it took too long"))
            await link.send(Status("that was read"))
            while not any("that was read" in line for line in output):
                await asyncio.sleep(0.01)
            pressed.set_result("yes\n")
            await link.send(lease(task="shard-2"))
            await answer(link, seen, Fetch)

    asyncio.run(run_script())
    assert not any("shard-1 of run" in line for line in output)
    assert user.asked == 1


def test_a_file_of_consents_that_can_not_be_read_is_no_yes(tmp_path: Path) -> None:
    path = tmp_path / "data_consents"
    known = Consents(path)
    known.add(b"\1" * 32, "lab:8470")
    assert known.has(b"\1" * 32)
    assert not known.has(b"\2" * 32)
    path.write_text(path.read_text()[:-9])
    assert not known.has(b"\1" * 32)


# --- names that are paths ---------------------------------------------------------------------------------------

PATHS = ("../../../../victim", "/tmp/victim", "C:victim", "victim\0", "..", "NUL.h5", "a/victim")


@pytest.mark.parametrize("field", ["run", "task", "owner", "name", "taken", "cancel", "ended"])
def test_a_name_that_is_a_path_ends_the_link_and_no_file_is_made_of_it(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(pacing_module, "FIRST_WAIT", 0.0)
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)

    def message(name: str) -> Message:
        match field:
            case "name":
                return Welcome("0", name, False)
            case "taken":
                return PartsTaken(name, 1, 1, 1)
            case "cancel":
                return Cancel("run-1", name, "it is not yours")
            case "ended":
                return RunEnded(name, "failed", "it is over")
            case _:
                return msgspec.structs.replace(lease(), **{field: name})

    async def run_script() -> None:
        async with scripted_server(folder, [], warm=False, data=give(folder / "own", 90)) as (scripted, agent, _):
            for name in PATHS:
                link = await (scripted.links.get() if field == "name" else welcomed(scripted))
                await link.send(message(name))
                await link.closed.wait()
            assert agent.worker.trainer._child is None

    asyncio.run(run_script())
    assert [path.name for path in tmp_path.rglob("*victim*")] == []
    assert {path.name for path in tmp_path.iterdir()} == {"outer"}
    assert {path.name for path in (tmp_path / "outer").iterdir()} == {"inner"}


# --- models that are too large ---------------------------------------------------------------------------------


def test_a_model_that_is_larger_than_the_weights_that_come_with_it_is_refused_before_they_are_fetched(
    tmp_path: Path,
) -> None:
    layer = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "huge", "units": 2 * 10**8}}
    network = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}
    model = msgspec.structs.replace(LINEAR, architecture=json.dumps(network))
    partitioned = msgspec.structs.replace(lease().fit, model=model, own=None)

    async def run_script() -> None:
        seen: list[AnyMessage] = []
        async with scripted_server(tmp_path, [], warm=False, data=give(tmp_path / "own", 90)) as (scripted, agent, _):
            link = await welcomed(scripted)
            for message in (
                msgspec.structs.replace(lease(), fit=partitioned),
                msgspec.structs.replace(survey(), model=model),
                msgspec.structs.replace(score(), model=model),
            ):
                await link.send(message)
                wrong = await answer(link, seen, Failed, Unsuitable)
                assert "layer 'huge' has at least 200,000,000 weights" in wrong.error
            assert not any(isinstance(each, Fetch) for each in seen)
            assert agent.worker.trainer._child is None

    asyncio.run(run_script())


# --- rows that are too few --------------------------------------------------------------------------------------


@pytest.fixture
def trainer() -> Trainer:
    """A trainer without its backend: what it refuses it refuses before it needs one."""
    found = object.__new__(Trainer)
    found._own, found._rows = ClientFiles(), RowCache(lambda array: array.copy())
    return found


def refused(what: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as caught:
        what()
    return caught.value


def constants(folder: Path) -> ArrayFile:
    return ArrayFile.write(folder / "shard.block", TrainedModel({}).constants())


def fit_message(
    folder: Path, own: ClientData, least: int = 50, *, batch: int = 8, fold: Fold | None = None
) -> commands.Fit:
    file = constants(folder)
    task = FitTask(LINEAR, 1, batch, 7, 0, Runtime(), fold, own, local_steps=1)
    return commands.Fit(1, task, file, file, str(folder), "", "", "", least_rows=least)


def survey_message(folder: Path, own: ClientData, least: int = 50) -> commands.Survey:
    return commands.Survey(1, LINEAR, own, constants(folder), str(folder), str(folder / "told"), least_rows=least)


BATCHES = ClientData(8, 0.0, 0.0, 0, 7, None)


def test_fewer_training_rows_than_the_minimum_are_refused_in_a_survey_and_in_a_task(
    trainer: Trainer, tmp_path: Path
) -> None:
    give(tmp_path, 49)
    for what in (
        lambda: trainer._survey(survey_message(tmp_path, BATCHES)),
        lambda: trainer._rows_of(fit_message(tmp_path, BATCHES)),
    ):
        wrong = refused(what)
        assert wrong.code == "own-data.few-rows"
        assert "there are 49 rows to train on" in wrong.message
        assert "--min-rows 49" in wrong.hint
    assert len(trainer._rows_of(fit_message(tmp_path, BATCHES, 49)).rows.train) == 48


@pytest.mark.parametrize(
    ("own", "code"),
    [
        (ClientData(8, 0.75, 0.0, 0, 7, None), "own-data.few-rows"),
        (ClientData(8, 0.0, 0.0, 0, 7, None, 40, 1, 1), "own-data.few-rows"),
        (ClientData(8, 0.0, 0.01, 0, 7, None), "own-data.few-to-score"),
        (ClientData(8, 0.01, 0.0, 0, 7, None), "own-data.few-to-score"),
        (ClientData(1, 0.1, 0.1, 0, 7, None), "own-data.small-batch"),
    ],
    ids=["nearly all for the test", "one part of many", "one to validate", "one to test", "steps of one row"],
)
def test_a_server_can_not_draw_few_rows_out_of_many(
    own: ClientData, code: str, trainer: Trainer, tmp_path: Path
) -> None:
    give(tmp_path, 100 if own.parts_of == 0 else 400)
    assert refused(lambda: trainer._survey(survey_message(tmp_path, own))).code == code


def test_a_task_is_held_to_the_same_whatever_was_surveyed(trainer: Trainer, tmp_path: Path) -> None:
    give(tmp_path, 100)
    assert refused(lambda: trainer._rows_of(fit_message(tmp_path, BATCHES, batch=1))).code == "own-data.small-batch"
    assert refused(lambda: trainer._rows_of(fit_message(tmp_path, BATCHES, batch=101))).code == "split.batch-of-shard"
    leave_one_out = fit_message(tmp_path, BATCHES, fold=Fold(1, 50, 7, 0.0))
    assert refused(lambda: trainer._rows_of(leave_one_out)).code == "own-data.few-to-score"
    half = fit_message(tmp_path, BATCHES, least=60, fold=Fold(1, 2, 7, 0.0))
    assert refused(lambda: trainer._rows_of(half)).code == "own-data.few-rows"
    few = ClientData(8, 0.02, 0.0, 0, 7, None)
    file = constants(tmp_path)
    task = commands.Evaluate(1, LINEAR, few, file, (), str(tmp_path), "test", least_rows=50)
    assert refused(lambda: trainer._evaluate(task)).code == "own-data.few-to-score"


def test_no_step_is_of_a_single_row_at_the_end_of_an_epoch(trainer: Trainer, tmp_path: Path) -> None:
    give(tmp_path, 97)
    ready = trainer._rows_of(fit_message(tmp_path, BATCHES))
    assert (len(ready.rows.train), len(ready.rows.train.y), ready.left_out) == (96, 96, 1)
    ready = trainer._rows_of(fit_message(tmp_path, BATCHES, batch=9))
    assert (len(ready.rows.train), ready.left_out) == (97, 0)
    # Who says that one row is enough gets one.
    ready = trainer._rows_of(fit_message(tmp_path, BATCHES, 1))
    assert (len(ready.rows.train), ready.left_out) == (97, 0)
