"""One model process for many tests: what it costs is to start it, and an error before a run begins needs no new one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lanfit.cli import main
from lanfit.core.loop import LoopThread
from lanfit_server.models.handle import ModelProcess


class WarmModels:
    """A model process that lives in a loop of its own, for servers that are run in this process one after another."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._models = loop.call(ModelProcess.start(lambda line: None))

    def lend(self) -> Any:
        """What a server takes for a model process that it has started, and may stop."""
        return _Lent(self._loop, self._models)

    def stop(self) -> None:
        self._loop.call(self._models.stop())


class _Lent:
    def __init__(self, loop: LoopThread, models: ModelProcess) -> None:
        self._loop = loop
        self._models = models

    async def ask(self, request: Any, answer: Any) -> Any:
        return await asyncio.wrap_future(self._loop.submit(self._models.ask(request, answer)))

    async def stop(self) -> None:
        pass


@contextlib.contextmanager
def warm_models() -> Iterator[WarmModels]:
    with LoopThread() as loop:
        models = WarmModels(loop)
        try:
            yield models
        finally:
            models.stop()


def run_here(models: WarmModels, folder: Path, arguments: Sequence[object], **options: Any) -> Result:
    """Run `lanfit` in this process, as from a command line in this folder.

    Args:
        options: `answers`, lines for standard input; `passphrase`, in the environment.
    """
    environment: Mapping[str, str | None] = {"LANFIT_PASSPHRASE": options.get("passphrase")}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def lend(log: Callable[[str], None]) -> Any:
        return models.lend()

    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelProcess, "start", lend)
        patch.setattr("logging.lastResort", None)
        try:
            return CliRunner().invoke(main, list(map(str, arguments)), input=options.get("answers"), env=environment)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
