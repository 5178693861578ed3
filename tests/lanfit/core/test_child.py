"""A child process and its parent, with a real child: this module, started as a program."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import msgspec
import psutil
import pytest

from lanfit.core.child import Child, Parent
from lanfit.errors import TrainingError

#: The parrot makes a temporary file, and says where.
KEEP = "keep"


class Say(msgspec.Struct, tag="say"):
    text: str


class Die(msgspec.Struct, tag="die"):
    code: int


class Said(msgspec.Struct, tag="said"):
    text: str
    loss: float


async def start(monkeypatch: pytest.MonkeyPatch) -> Child[Said]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    return await Child.start("test_child", Said, "parrot")


def test_what_a_library_prints_does_not_disturb_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk() -> None:
        child = await start(monkeypatch)
        await child.send(Say("hello"))
        answer = await child.receive()
        assert answer.text == "HELLO"
        assert answer.loss != answer.loss, "NaN must arrive as NaN"
        await child.stop()
        assert "printed: hello" in child.last_lines

    asyncio.run(talk())


def test_the_death_of_a_child_is_reported_with_its_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk() -> None:
        child = await start(monkeypatch)
        await child.send(Say("my last words"))
        await child.receive()
        await child.send(Die(7))
        with pytest.raises(TrainingError, match="the parrot ended with exit code 7") as died:
            await child.receive()
        assert "my last words" in died.value.hint

    asyncio.run(talk())


def test_a_killed_child_is_reported_by_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk() -> None:
        child = await start(monkeypatch)
        child.kill()
        with pytest.raises(TrainingError, match="was killed by signal 9"):
            await child.receive()

    asyncio.run(talk())


def test_a_child_ends_when_its_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk() -> psutil.Process:
        child = await start(monkeypatch)
        await child.send(Say("are you there"))
        await child.receive()
        process = psutil.Process(child.pid)
        assert child._process.stdin is not None
        child._process.stdin.close()
        await child._process.wait()
        return process

    assert not asyncio.run(talk()).is_running()


def test_a_child_that_speaks_to_a_parent_who_is_gone_ends_and_takes_its_temporary_files_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trainer that reports may find out by that, before the thread that listens does."""

    async def talk() -> None:
        child = await start(monkeypatch)
        await child.send(Say("are you there"))
        await child.receive()
        await child.send(Say(KEEP))
        kept = Path((await child.receive()).text)
        assert kept.is_file()
        received = child._process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
        pipe = received.get_extra_info("pipe")
        received.close()
        while not pipe.closed:  # else the child may answer before that, and waits for the next question
            await asyncio.sleep(0)
        await child.send(Say("and now"))
        assert await child._process.wait() == 0
        assert not kept.parent.exists()
        await child.stop()

    asyncio.run(talk())


def main() -> None:
    """The parrot."""
    parent: Parent[Say | Die] = Parent(Say | Die)
    while True:
        match parent.receive():
            case Say(text) if text == KEEP:
                with tempfile.NamedTemporaryFile(delete=False) as file:
                    parent.send(Said(file.name, 0.0))
            case Say(text):
                sys.stdout.write(f"printed: {text}\n")
                sys.stdout.flush()
                parent.send(Said(text.upper(), float("nan")))
            case Die(code):
                sys.exit(code)


if __name__ == "__main__":
    main()
