"""What a client says when it is asked for parts: flags first, then the user, once, and in the main thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import threading
from collections.abc import Callable, Mapping

import pytest

from lanfit.core.loop import LoopThread
from lanfit.core.terminal import Terminal
from lanfit.core.workspace import Workspace
from lanfit.errors import InputError
from lanfit.settings.fields import Value
from lanfit.wire.messages import TakeParts
from lanfit_client.parts import PartsPrompts
from lanfit_client.prompts import Prompts
from lanfit_client.store.state import ClientState


class Typed(io.StringIO):
    """Somebody at a terminal; what is typed comes from `lines`, called with the number of the line."""

    def __init__(self, line: Callable[[], str]) -> None:
        super().__init__()
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:
        return self._line()


class Asking(PartsPrompts):
    """With the main thread that serves it."""

    def __init__(self, terminal: Terminal, given: Mapping[str, Value], settings: Mapping[str, Value]) -> None:
        prompts = Prompts(terminal)
        super().__init__(terminal, given, settings, "pc-17", prompts)
        self.serve = prompts.serve


def prompts(answers: io.StringIO, **given: Value) -> tuple[Asking, io.StringIO]:
    talk = io.StringIO()
    return Asking(Terminal(answers, talk), given, {}), talk


def test_what_flags_say_is_not_asked() -> None:
    prompting, talk = prompts(io.StringIO(), name="lab-1", parts="3-5")
    assert prompting.ask(12) == TakeParts("lab-1", 3, 5)
    assert talk.getvalue() == ""


def test_the_rest_is_asked_and_an_empty_answer_keeps_the_name() -> None:
    prompting, talk = prompts(io.StringIO("\n3 5\n"))
    assert prompting.ask(12) == TakeParts("pc-17", 3, 5)
    assert "12 parts" in talk.getvalue()
    prompting, _ = prompts(io.StringIO("7\n"), name="lab-1")
    assert prompting.ask(12) == TakeParts("lab-1", 7, 7)


def test_a_line_of_the_settings_is_a_default() -> None:
    talk = io.StringIO()
    prompting = Asking(Terminal(io.StringIO("\n\n"), talk), {}, {"parts": "2-3"})
    assert prompting.ask(12) == TakeParts("pc-17", 2, 3)
    assert "[2-3]" in talk.getvalue()


@pytest.mark.parametrize("given", [{"name": "a", "parts": "13"}, {"name": "a"}])
def test_a_part_that_does_not_exist_is_refused(given: dict[str, Value]) -> None:
    prompting, _ = prompts(io.StringIO("13\n"), **given)
    with pytest.raises(InputError) as caught:
        prompting.ask(12)
    assert caught.value.code == "parts.none-such"


def test_at_a_terminal_it_is_asked_again() -> None:
    lines = iter(["x\n", "0\n", "\n", "4\n"])
    prompting, talk = prompts(Typed(lambda: next(lines)), name="a")
    assert prompting.ask(4) == TakeParts("a", 4, 4)
    assert talk.getvalue().count("Parts to train on") == 4
    assert "there is no part 0: parts are numbered from 1 to 4" in talk.getvalue()


def test_where_the_input_ends_question_and_flag_are_named() -> None:
    prompting, _ = prompts(io.StringIO("lab-1\n"))
    with pytest.raises(InputError) as caught:
        prompting.ask(4)
    assert "Parts to train on" in caught.value.message
    assert "--parts" in caught.value.message + caught.value.hint


def test_the_user_is_asked_in_the_main_thread_and_once_however_often_the_link_ends() -> None:
    threads = []
    link_ended = threading.Event()

    def line() -> str:
        threads.append(threading.current_thread())
        link_ended.wait()
        return "2-3\n"

    prompting, _ = prompts(Typed(line), name="a")

    async def agent() -> list[TakeParts]:
        lost = asyncio.create_task(prompting.answer(4))
        await asyncio.sleep(0)
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        link_ended.set()
        return [await prompting.answer(4), await prompting.answer(4)]

    with LoopThread() as loop:
        assert prompting.serve(loop.submit(agent())) == [TakeParts("a", 2, 3)] * 2
    assert threads == [threading.main_thread()]


def test_the_next_run_asks_again() -> None:
    lines = iter(["1\n", "2\n"])
    prompting, _ = prompts(Typed(lambda: next(lines)), name="a")

    async def agent() -> list[TakeParts]:
        first = await prompting.answer(4)
        prompting.forget()
        return [first, await prompting.answer(4)]

    with LoopThread() as loop:
        assert prompting.serve(loop.submit(agent())) == [TakeParts("a", 1, 1), TakeParts("a", 2, 2)]


def test_a_wrong_answer_ends_the_agent() -> None:
    prompting, _ = prompts(io.StringIO("5\n"), name="a")
    with LoopThread() as loop:
        work = loop.submit(prompting.answer(4))
        with pytest.raises(InputError):
            prompting.serve(work)
        assert work.cancelled()


def test_a_run_that_ends_while_it_is_asked_needs_no_answer() -> None:
    over = concurrent.futures.Future[str]()

    def line() -> str:
        over.set_result("the run is over")
        return "\n"

    prompting, talk = prompts(Typed(line), name="a")

    async def agent() -> None:
        await prompting.answer(4)

    with LoopThread() as loop:
        waiting = loop.submit(agent())
        assert prompting.serve(over) == "the run is over"
        waiting.cancel()
    assert "press Enter" in talk.getvalue()


def test_a_client_remembers_what_it_is_called(tmp_path) -> None:  # type: ignore[no-untyped-def]
    state = ClientState.take(Workspace(tmp_path))
    assert state.name is None
    state.remember_name("lab-1")
    state.lock.release()
    again = ClientState.take(Workspace(tmp_path))
    assert again.name == "lab-1"
    again.lock.release()
