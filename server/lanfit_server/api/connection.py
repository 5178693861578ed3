"""A program's side of its service process: starts and ends it, sends requests, receives events."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any

from lanfit import errors
from lanfit.core.child import Child
from lanfit.core.loop import LoopThread
from lanfit_server.api.service_messages import Close, Reply, Request
from lanfit_server.api.wording import in_python
from lanfit_server.models.handle import Problem

#: The longest time for a service to end: an interrupted run is recorded first, and so is the report of a finished one,
#: which takes up to twenty seconds.
ENDING_SECONDS = 60.0


@dataclass
class _Started:
    loop: LoopThread
    child: Child[Any]
    lock: threading.Lock
    is_closed: bool = False


class Connection:
    """One service process. It ends with `close`, with the object, or at the latest with the program.

    Its loop has a thread of its own, so that a notebook's running loop is left alone.
    """

    def __init__(self) -> None:
        loop = LoopThread()
        loop.__enter__()
        try:
            child: Child[Any] = loop.call(Child.start("lanfit_server.api.service", Reply, "service process"))
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
        """Return its next event.

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
        """End the service at once, with its clients and its run. Can be called repeatedly."""
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
    except KeyboardInterrupt:  # a second time: kill it
        started.child.kill()
        started.loop.call(started.child.stop())
        raise
    finally:
        started.loop.__exit__(None, None, None)
