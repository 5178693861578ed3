"""Waiting in the main thread for what the loop does: a result, an error, a Ctrl-C at any moment."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import psutil
import pytest

from lanfit.core import loop as loops
from lanfit.core.loop import LoopThread, cancel_others, in_thread


async def after(release: asyncio.Event, outcome: object) -> object:
    await release.wait()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def test_results_and_errors_are_those_of_the_coroutine() -> None:
    with LoopThread() as loop:
        release = asyncio.Event()
        loop.soon(release.set)
        assert loop.call(after(release, 3)) == 3
        with pytest.raises(TimeoutError, match="its own"):
            loop.call(after(release, TimeoutError("its own")))


@pytest.mark.parametrize("moment", range(1, 9))
def test_it_ends_while_a_process_is_being_started(moment: int) -> None:
    """asyncio waits forever for the end of a process if the task that connects its pipes is cancelled."""
    words = (sys.executable, "-c", "import time; time.sleep(3600)")
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)

    async def start() -> None:
        starting = asyncio.create_task(asyncio.create_subprocess_exec(*words, **pipes))
        for _ in range(moment):
            await asyncio.sleep(0)
        for process in psutil.Process().children():
            if "time.sleep(3600)" in " ".join(process.cmdline()):
                process.kill()  # so that none is left, whatever becomes of the start
        starting.add_done_callback(lambda done: done.cancelled() or done.exception())
        await cancel_others()

    with LoopThread() as loop:
        loop.submit(start()).result(60)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signal masks")
def test_a_ctrl_c_reaches_neither_the_loop_nor_processes_that_it_starts() -> None:
    """A process is in the group of its parent for a moment, and died of a Ctrl-C in it."""
    tell = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"

    async def look() -> tuple[bool, bool, bytes]:
        mask = lambda: signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])  # noqa: E731
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", tell, stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        return mask(), await in_thread(mask), output.strip()

    with LoopThread() as loop:
        assert loop.call(look()) == (True, True, b"True")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_ctrl_c_just_when_the_lock_of_a_future_is_released_is_raised_as_itself() -> None:
    """A future's own wait answers "cannot release un-acquired lock" then, which reads like a crash of the server."""
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    condition: Any = future.__dict__["_condition"]
    release = condition._release_save

    def interrupted() -> None:
        release()
        raise KeyboardInterrupt

    condition._release_save = interrupted
    with LoopThread() as loop:
        done = threading.Timer(0.05, future.set_result, [1])
        done.start()
        assert loop.result(future) == 1
        done.join()


@pytest.mark.parametrize("second", [False, True])
def test_ctrl_c_while_it_waits(monkeypatch: pytest.MonkeyPatch, second: bool) -> None:
    """The first asks the work to end; the second ends the waiting."""
    waits, wait = threading.Event(), loops._wait

    def noted_wait(future: concurrent.futures.Future[str]) -> None:
        waits.set()
        wait(future)

    monkeypatch.setattr(loops, "_wait", noted_wait)
    with LoopThread() as loop:
        release = asyncio.Event()

        async def work() -> str:
            await in_thread(waits.wait)
            os.kill(os.getpid(), signal.SIGINT)
            await release.wait()
            return "ended"

        def interrupt() -> None:
            if second:
                os.kill(os.getpid(), signal.SIGINT)
            else:
                release.set()

        if second:
            with pytest.raises(KeyboardInterrupt):
                loop.see_through(work(), interrupt)
        else:
            assert loop.see_through(work(), interrupt) == "ended"
