"""What a client executes for a server: the files that its own user allows, and nothing that a server only names."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lanfit.core.workspace import Workspace
from lanfit.models.custom_files import Allowed
from lanfit.wire.arrays import BlockSpec
from lanfit.wire.messages import (
    ClientData,
    CustomFile,
    EvaluateTask,
    Failed,
    FitTask,
    Lease,
    Message,
    Model,
    Runtime,
    Survey,
    Unsuitable,
)
from lanfit_client.store.state import ClientState
from lanfit_client.work import CachePolicy, Worker
from lanfit_client.work_items import EvaluationItem, Surveying, Training, WorkItem

EMPTY = BlockSpec("0" * 64, ())


class NoLink:
    """A link over which nothing may be fetched."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name}: something was asked of the server")


def model(*files: CustomFile) -> Model:
    return Model("{}", "{}", (None, 1), (None, 1), "values", "none", "none", files, ("Patches", "dice\x1b[2J"))


def work_items(worker: Worker, wanted: Model) -> dict[str, WorkItem]:
    own = ClientData(1, 0.1, 0.1, 0, 0, None)
    task = FitTask(wanted, 1, 1, 0, 0, Runtime(), None, None)
    lease = Lease("run", "shard-1", 1, "lab", task, EMPTY, EMPTY)
    return {
        "lease": Training(worker.context, lease, bytes(16), "lab", 0.0),
        "survey": Surveying(worker.context, Survey(wanted, own, EMPTY)),
        "score": EvaluationItem(worker.context, EvaluateTask("run", "score-1", wanted, own, EMPTY, ())),
    }


@pytest.mark.parametrize("kind", ["lease", "survey", "score"])
@pytest.mark.parametrize("own", [None, "x = 1\n"], ids=["no file", "another file"])
def test_a_server_that_names_files_which_are_not_allowed_here_gets_nothing_executed(
    tmp_path: Path, kind: str, own: str | None
) -> None:
    sent: list[Message] = []
    output: list[str] = []
    allowed = Allowed()
    if own is not None:
        (tmp_path / "my_layers.py").write_text(own)
        allowed.add(tmp_path / "my_layers.py")
    wanted = model(CustomFile("my_layers.py", "a" * 64))

    async def go() -> None:
        place = Workspace(tmp_path)
        state = ClientState.take(place)
        worker = Worker(
            state, place, place.dataset, Runtime(), frozenset(), sent.append, output.append, CachePolicy(), allowed
        )
        await worker.take(work_items(worker, wanted)[kind], NoLink())  # type: ignore[arg-type]
        assert worker.executor.working is not None
        await worker.executor.working
        assert worker.trainer._child is None, "a trainer was started"
        state.lock.release()

    asyncio.run(go())

    [reported] = [message for message in sent if isinstance(message, Failed | Unsuitable)]
    assert "my_layers.py" in reported.error
    assert "aaaaaaaaaaaa" in reported.error
    if isinstance(reported, Failed) and kind == "lease":
        assert reported.code == ("custom.not-allowed" if own is None else "custom.other-file")
    assert any("--custom-objects my_layers.py" in line for line in output) or kind == "lease"


def test_an_order_names_the_files_that_are_allowed_here_and_have_the_hash_that_is_wanted(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    allowed = Allowed([file])
    place = Workspace(tmp_path)
    state = ClientState.take(place)
    worker = Worker(
        state, place, place.dataset, Runtime(), frozenset(), lambda m: None, lambda s: None, CachePolicy(), allowed
    )
    wanted = CustomFile("theirs.py", allowed.specs[0].sha256)

    assert [found.path for found in worker.context.custom(model(wanted))] == [str(file)]
    assert worker.context.custom(model()) == ()
    state.lock.release()
