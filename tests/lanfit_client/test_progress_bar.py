from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from screens import screen, seen

from lanfit.backends import default_backend
from lanfit.core.gauge import Pace, Transfer, clock, short
from lanfit.core.terminal import Terminal
from lanfit.core.workspace import Workspace
from lanfit.settings.timeouts import Timeouts
from lanfit.wire.messages import Progress, Runtime
from lanfit_client.agent import Agent, Server
from lanfit_client.app import Client
from lanfit_client.progress_bar import bar_lines
from lanfit_client.store.state import ClientState

NOW = 100.0


def training(**known: Any) -> Progress:
    figures: dict[str, Any] = {
        "epoch": 3,
        "epochs": 5,
        "step": 15,
        "steps": 50,
        "loss": 0.25,
        "samples_per_second": 9.0,
    }
    return Progress("run-1", "shard-1", **{**figures, **known})


def shown(progress: Progress | None, left: float | None = None, width: int = 80, **moved: Transfer) -> list[str]:
    return [line for line, _ in bar_lines(progress, moved.get("coming"), moved.get("going"), left, width, NOW)]


def test_a_task_is_one_line_with_epoch_loss_and_time_left() -> None:
    assert shown(training(), 101) == [f"shard-1  {'█' * 13}{'░' * 17}   46%  epoch 3/5  loss 0.2500  1:41 left"]
    assert shown(training(epoch=1, step=0, loss=0.0)) == [f"shard-1  {'░' * 30}    0%  epoch 1/5"]
    assert shown(training(state="preparing")) == ["shard-1  preparing …"]
    assert shown(None) == []


def test_what_is_received_and_sent_has_bytes_and_time_left() -> None:
    coming = Transfer(33_000_000, 12_000_000, NOW - 10, first=0)
    going = Transfer(1_000_000, 500_000, NOW - 4, first=0)
    sent, received = shown(training(state="receiving"), coming=coming, going=going)
    assert re.fullmatch(r"shard-1  receiving  [█░]+   36%  12\.0 of 33\.0 MB, 0:18 left", received)
    assert re.fullmatch(r"sending  [█░]+   50%  500\.0 kB of 1\.0 MB, 0:04 left", sent)


WIDE = st.text(st.characters(codec="utf-8") | st.sampled_from("日本語\x1b\n"), max_size=100)


@given(WIDE, st.integers(0, 2**62), st.integers(0, 2**62), st.floats(), st.integers(20, 200), st.booleans())
def test_no_line_is_wider_than_the_terminal(
    task: str, epoch: int, epochs: int, loss: float, width: int, is_training: bool
) -> None:
    progress = training(epoch=epoch, epochs=epochs, loss=loss, state="training" if is_training else "preparing")
    progress = msgspec.structs.replace(progress, task=task)
    moved = Transfer(2**60, 1, 0.0)
    for line in (*shown(progress, 1e9, width), *shown(progress, 1e9, width, coming=moved, going=moved)):
        assert cell_len(line) <= width
        assert "\x1b" not in line


def test_time_left_is_not_guessed_before_there_is_something_to_go_by() -> None:
    pace = Pace()
    assert pace.left(0.2, 10) is None, "what was done before does not tell how fast it is now"
    assert pace.left(0.2, 12) is None
    assert pace.left(0.4, 20) == pytest.approx(30)
    for second in range(21, 100):
        left = pace.left(0.4 + (second - 20) / 1000, float(second))
    assert left == pytest.approx((0.6 - 0.079) * 1000), "how slow it was in its first minute does not count any more"
    assert pace.of("another", 0.5, 21) is None
    assert clock(30) == "0:30"
    assert clock(3723) == "1:02:03"


def test_where_no_bar_is_drawn_a_long_transfer_is_spoken_of_in_steps_and_a_short_one_is_not() -> None:
    fast = Transfer(100, 0, 0.0)
    for done in range(0, 101, 5):
        fast.done = done
        assert fast.step(0.5) == ""
    slow, output = Transfer(1_000_000, 0, 0.0), []
    for second in range(101):
        slow.done = 10_000 * second
        output.append(slow.step(float(second)))
    lines = [line for line in output if line]
    assert len(lines) == 9
    assert lines[0] == "10%, 100.0 kB of 1.0 MB, 1:30 left"


def test_losses_keep_the_digits_that_count() -> None:
    assert [short(value) for value in (1.23456, 0.1, 0.0123456, 1.5e-7, 0.0, 123456.0)] == [
        "1.2346", "0.1000", "0.0123", "1.5e-07", "0.0000", "1.23e+05",
    ]  # fmt: skip


def agent_of(folder: Path, output: list[str], timeouts: Timeouts, **reported: Any) -> Agent:
    state = ClientState.take(Workspace(folder))
    runtime = Runtime(default_backend(), "cpu", 1)
    return Agent(
        Server("127.0.0.1", 1), state, Workspace(folder), "lab", runtime, output.append, timeouts=timeouts, **reported
    )


def test_a_silence_of_the_server_and_its_end_are_reported_once(tmp_path: Path) -> None:
    output: list[str] = []

    async def script() -> None:
        agent = agent_of(tmp_path, output, Timeouts(heartbeat=0.001, suspect=0.01, lost=60))
        silences = [0.0, 0.02, 16.0, 21.0, 0.0, 0.0, 0.0]
        link: Any = SimpleNamespace(closed=asyncio.Event())

        class Silent:
            closed = link.closed

            @property
            def silence(self) -> float:
                if len(silences) == 1:
                    self.closed.set()
                return silences.pop(0)

        async with asyncio.timeout(60):
            await agent._watch(Silent())  # type: ignore[arg-type]
        agent._state.lock.release()

    asyncio.run(script())
    assert output == [
        "Nothing was received from the server for 0 s. Work continues; after 60 s the client reconnects.",
        "The server is back after 21 s of silence.",
    ]


def test_a_terminal_shows_the_bar_instead_of_a_line_an_epoch_and_others_the_lines(tmp_path: Path) -> None:
    output: list[str] = []
    agent = agent_of(tmp_path, output, Timeouts())
    agent.worker.progress = lambda: training()  # type: ignore[method-assign]
    with screen() as shown_on:
        terminal = Terminal(shown_on.keyboard, shown_on.stream)
        pace = Pace()
        with terminal.area(lambda width, height: Client._bar(agent, pace, width, height)):
            terminal.detail("Epoch 1/5  loss 0.5")
            terminal.log("Joined.")
            shown_on.wait_for("epoch 3/5")
            shown_on.wait_for("Joined")
        terminal.log("It is over.")
        shown_on.wait_for("over")
        assert "Epoch 1/5" not in shown_on.written
        assert seen(shown_on.written) == ["Joined.", "It is over."]
    agent._state.lock.release()
