"""An asyncio loop in its own thread, so that questions can be asked in the main thread while clients join."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], on_cancel: Callable[[], object] = lambda: None) -> T:
    """Return the result of blocking work, which is done in a thread.

    A cancelled caller still waits for the thread, so that it never works on removed files.

    Args:
        on_cancel: called when this is cancelled, to stop the work early.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.wait([running])
        raise


def _wait(future: concurrent.futures.Future[T]) -> None:
    """Wait until it is done; a Ctrl-C in the meantime is raised here, as itself.

    A future's own wait raises RuntimeError instead if the Ctrl-C comes just when it has released its lock.
    """
    done = threading.Lock()
    done.acquire()
    future.add_done_callback(lambda _: done.release())
    # In short waits: on Windows a long one can't be interrupted by Ctrl-C.
    while not done.acquire(timeout=0.2):
        pass


class LoopThread:
    """Use it in a `with` block: at its end all remaining tasks of the loop are cancelled."""

    def __enter__(self) -> LoopThread:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        # Ctrl-C is for the main thread. Processes that are started here, and in threads that are, inherit the mask: one
        # that has not left the group of this process yet would die of it.
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._loop.run_forever()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, work: Callable[[], object]) -> None:
        """Call this in the loop, from any thread."""
        self._loop.call_soon_threadsafe(work)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine in the loop; a Ctrl-C in the meantime is raised here."""
        return self.result(self.submit(work))

    def result(self, future: concurrent.futures.Future[T]) -> T:
        """Wait for a submitted coroutine."""
        try:
            _wait(future)
        except KeyboardInterrupt:
            future.cancel()
            raise
        return future.result()

    def see_through(self, work: Coroutine[Any, Any, T], interrupt: Callable[[], object]) -> T:
        """Return the result of a coroutine. Ctrl-C calls `interrupt` in the loop; a second one is raised here."""
        future = self.submit(work)
        try:
            _wait(future)
        except KeyboardInterrupt:
            self.soon(interrupt)
        return self.result(future)

    @contextlib.contextmanager
    def within(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an asynchronous context in the loop; leave it at the end of the block."""
        entered = self.call(manager.__aenter__())
        try:
            yield entered
        finally:
            self.call(manager.__aexit__(None, None, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await cancel_others()
        await self._loop.shutdown_default_executor()


async def cancel_others() -> None:
    """Cancel all other tasks of this loop, and wait for them; but for those with which asyncio connects pipes.

    They end by themselves, and asyncio waits forever for the end of a process whose pipes are not connected.
    """
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    others = [task for task in tasks if getattr(task.get_coro(), "__name__", "") != "_connect_pipes"]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
