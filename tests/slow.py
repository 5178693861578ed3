"""A slow way to a server: passes bytes on, so many a second, so that a test can do something in the middle."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_PIECE = 32 * 1024


class SlowWay:
    """Listens on a port of its own and passes on to another one, `rate` bytes a second each way."""

    def __init__(self, port: int, rate: int) -> None:
        self._target = port
        self._pause = _PIECE / rate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._target))
                self._open += [ours, theirs]
                for source, target in ((ours, theirs), (theirs, ours)):
                    thread = threading.Thread(target=self._pass_on, args=(source, target))
                    thread.start()
                    self._threads.append(thread)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                target.sendall(data)
                time.sleep(self._pause)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> SlowWay:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        for end in self._open:
            end.close()
