"""A program's end of its service process: starts it, sends it orders, hears what happens, ends it."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any

from lanfit import errors
from lanfit.child import Child
from lanfit.loop import LoopThread
from lanfit_server.api.wording import in_python
from lanfit_server.evaluate import Problem
from lanfit_server.service_messages import Close, Reply, Request

#: A service that was told to end takes this long at most: a run that it interrupts is written down first, and so is the
#: report of one that is over, which takes twenty seconds where it is at its longest.
ENDING_SECONDS = 60.0


@dataclass
class _Started:
    loop: LoopThread
    child: Child[Any]
    lock: threading.Lock
    is_closed: bool = False


class Connection:
    """One service process. It is ended by `close`, with the object, or at the latest at the end of the program.

    Its loop has a thread of its own, so that a notebook's running loop is left alone.
    """

    def __init__(self) -> None:
        loop = LoopThread()
        loop.__enter__()
        try:
            child: Child[Any] = loop.call(Child.start("lanfit_server.service", Reply, "service process"))
        except BaseException:
            loop.__exit__(None, None, None)
            raise
        self._started = _Started(loop, child, threading.Lock())
        self._finalizer = weakref.finalize(self, _end, self._started)

    @property
    def is_closed(self) -> bool:
        return self._started.is_closed

    @property
    def pid(self) -> int:
        return self._started.child.pid

    def send(self, request: Request) -> None:
        self._started.loop.call(self._started.child.send(request))

    def receive(self) -> Reply:
        """The next thing that it tells.

        Raises:
            LanfitError: what went wrong there, in its own class.
            TrainingError: the process died.
            KeyboardInterrupt: Ctrl-C.
        """
        reply: Reply = self._started.loop.call(self._started.child.receive())
        if isinstance(reply, Problem):
            raise getattr(errors, reply.kind)(in_python(reply.message), in_python(reply.hint), reply.code)
        return reply

    def close(self) -> None:
        """End the service at once, with its clients and its run; harmless when that is done."""
        self._finalizer()


def _end(started: _Started) -> None:
    with started.lock:
        if started.is_closed:
            return
        started.is_closed = True

    async def end() -> None:
        await started.child.send(Close())
        await started.child.stop(ENDING_SECONDS)

    try:
        started.loop.call(end())
    except KeyboardInterrupt:  # again: no more patience
        started.child.kill()
        started.loop.call(started.child.stop())
        raise
    finally:
        started.loop.__exit__(None, None, None)
