"""An asyncio loop in a thread of its own, so that questions can be asked in the main thread while clients join."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Use in a `with`: at its end everything that still runs in the loop is cancelled."""

    def __enter__(self) -> LoopThread:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        return self

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start work in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, work: Callable[[], object]) -> None:
        """Call this in the loop; from any thread."""
        self._loop.call_soon_threadsafe(work)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of work in the loop; a Ctrl-C meanwhile is raised here."""
        return self.result(self.submit(work))

    def result(self, future: concurrent.futures.Future[T]) -> T:
        """Wait for submitted work."""
        while True:
            try:
                # In short waits: on Windows a long one can't be interrupted by Ctrl-C.
                return future.result(timeout=0.2)
            except concurrent.futures.TimeoutError:
                if future.done():
                    raise
            except KeyboardInterrupt:
                future.cancel()
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_default_executor()
