"""Runs `lanfit` as a user does: in processes of its own, at a pipe or at a terminal, and waits for what they say."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil
from forking import SHIMS
from leftovers import has_ended

ROOT = Path(__file__).resolve().parent.parent
PASSPHRASE = "velvet otter rinse cargo"
#: A busy machine is slow, a broken program never ends: only the second may fail a test.
PATIENCE = 120.0
_MARK = "LANFIT_TEST_PROGRAM"


class Program:
    """One `lanfit` process with everything it says. Leaving the `with` ends it; nothing of it may be left then.

    `namespace` is the network that it runs in: see namespaces.py.
    """

    def __init__(
        self,
        *arguments: object,
        folder: Path,
        command: str | None = None,
        answers: str | None = None,
        passphrase: str | None = PASSPHRASE,
        environment: Mapping[str, str] | None = None,
        terminal: bool = False,
        namespace: str | None = None,
    ) -> None:
        self._mark = uuid.uuid4().hex
        env = {**os.environ, _MARK: self._mark, **(environment or {})}
        if passphrase is not None:
            env["LANFIT_PASSPHRASE"] = passphrase
        argv = _argv(command) if command else [sys.executable, "-P", "-m", "lanfit.cli", *map(str, arguments)]
        if namespace is not None:  # `ip` becomes the program: the same process, with the signals that it is sent
            argv = ["ip", "netns", "exec", namespace, *argv]
        self._output = ""
        self._changed = threading.Condition()
        self._terminal: int | None = None
        if terminal:
            import pty

            self._terminal, slave = pty.openpty()
            # The terminal must be the process's own, so that Ctrl-C and hidden input work as they do for a user.
            self.process = subprocess.Popen(
                argv,
                cwd=folder,
                env=env,
                stdin=slave,
                stdout=subprocess.PIPE,
                stderr=slave,
                start_new_session=True,
                preexec_fn=_own_terminal,
            )
            os.close(slave)
            readers = [threading.Thread(target=self._read_terminal)]
        else:
            self.process = subprocess.Popen(
                argv,
                cwd=folder,
                env=env,
                stdin=subprocess.PIPE if answers is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            readers = [threading.Thread(target=self._read_errors)]
        self.stdout = b""
        readers.append(threading.Thread(target=self._read_output))
        for reader in readers:
            reader.start()
        self._readers = readers
        if answers is not None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it may have refused something, and ended, before it asked
                self.process.stdin.write(answers.encode())
                self.process.stdin.close()

    # --- what it says -------------------------------------------------------------------------------------------

    def _on_output(self, text: str) -> None:
        with self._changed:
            self._output += text
            self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._on_output(line.decode(errors="replace"))
        self._on_output("")

    def _read_terminal(self) -> None:
        assert self._terminal is not None
        while True:
            try:
                data = os.read(self._terminal, 4096)
            except OSError:  # the process has closed its end
                return
            if not data:
                return
            self._on_output(data.decode(errors="replace"))

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.stdout += line
                self._changed.notify_all()

    @property
    def output(self) -> str:
        """What it has printed on stderr, or at its terminal, so far."""
        with self._changed:
            return self._output

    def expect(self, pattern: str, *, seconds: float = PATIENCE) -> re.Match[str]:
        """Wait until it has said something that matches."""
        return self._wait_for(pattern, lambda: self._output, seconds)

    def expect_output(self, pattern: str, *, seconds: float = PATIENCE) -> re.Match[str]:
        """Wait until it has printed something on stdout that matches."""
        return self._wait_for(pattern, lambda: self.stdout.decode(), seconds)

    def _wait_for(self, pattern: str, output: Callable[[], str], seconds: float) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        with self._changed:
            while (found := re.search(pattern, output())) is None:
                left = deadline - time.monotonic()
                ended = self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
                if left <= 0 or ended:
                    what = f"ended with {self.process.returncode}" if ended else f"{seconds:.0f} s went by"
                    raise AssertionError(f"{what} before it said {pattern!r}. It said:\n{self._output}")
                self._changed.wait(min(left, 0.5))
        return found

    # --- what is done to it -------------------------------------------------------------------------------------

    def type(self, text: str) -> None:
        """Type a line at its terminal."""
        assert self._terminal is not None
        os.write(self._terminal, text.encode() + b"\n")

    def interrupt(self) -> None:
        """What Ctrl-C does: at a terminal the key itself, which the system turns into a signal for all in front."""
        if self._terminal is not None:
            os.write(self._terminal, b"\x03")
        else:
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()

    def finish(self, expected: int | None = 0, *, seconds: float = PATIENCE) -> int:
        """Wait for its end; returns the exit code, which must be the expected one (None: any)."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {seconds:.0f} s. It said:\n{self.output}") from None
        for reader in self._readers:
            reader.join(PATIENCE)
        assert expected in (None, code), f"it ended with {code}, not {expected}. It said:\n{self.output}"
        return code

    def descendants(self) -> list[psutil.Process]:
        """All processes that it started, directly or not, and that are alive."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != self.process.pid and process.environ().get(_MARK) == self._mark:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            left = self.descendants()
            _, alive = psutil.wait_procs(left, timeout=20)
            alive = [process for process in alive if not has_ended(process)]
            for process in alive:
                process.kill()
            assert not alive, f"processes were left behind: {alive}"
        finally:
            for reader in self._readers:
                reader.join(PATIENCE)
            if self._terminal is not None:
                os.close(self._terminal)
            for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                if pipe is not None and not pipe.closed:
                    pipe.close()


def _own_terminal() -> None:
    """In a new process: standard input is the terminal that controls it."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _argv(command: str) -> list[str]:
    """A command as a document has it, with the Python and the lanfit of this environment."""
    words = command.split()
    first = {"python": [sys.executable], "lanfit": [sys.executable, "-P", "-m", "lanfit.cli"]}
    return first.get(words[0], words[:1]) + words[1:]


class Place:
    """A workspace of a test, with the digits in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("model/digits.h5", "dataset/X/digits.csv", "dataset/Y/digits.csv"):
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)

    def server(self, *arguments: object, **options: Any) -> Program:
        return Program("server", *arguments, folder=self.root, **options)

    @property
    def runs(self) -> list[str]:
        return sorted(path.parent.name for path in (self.root / "logs").glob("*/summary.json"))

    def summary(self, run: str | None = None) -> dict[str, Any]:
        """`summary.json` of a run; of the newest when none is named."""
        return dict(json.loads((self.root / "logs" / (run or self.runs[-1]) / "summary.json").read_text()))

    def files(self) -> dict[str, bytes]:
        """Every file, with its content, to see whether anything was changed; not those of the state folders, nor what
        Python compiles."""
        passing = {"state", "__pycache__"}
        found = (path for path in sorted(self.root.rglob("*")) if path.is_file() and not passing & set(path.parts))
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in found}


def client(folder: Path, port: int, name: str, *arguments: object, **options: Any) -> Program:
    """A client on its own machine, which `folder` stands for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "dataset").mkdir(exist_ok=True)
    return Program(
        "client", f"127.0.0.1:{port}", "--name", name, "--threads", 1, "--once", *arguments, folder=folder, **options
    )


#: With these variables a client has the fake backend.
FAKE = {"LANFIT_TEST_FAKE": "1"}


def fake_backend() -> str:
    """What a client with `FAKE` trains on in stories that are not about training; JAX where it can't have it."""
    return "fake" if str(SHIMS) in os.environ.get("PYTHONPATH", "") else "jax"


def fake_client(folder: Path, port: int, name: str, *arguments: object, **options: Any) -> Program:
    """A client whose trainers have the fake backend."""
    environment = {**options.pop("environment", {}), **FAKE}
    return client(folder, port, name, "--backend", fake_backend(), *arguments, environment=environment, **options)


def fake_lab(folder: Path, port: int, name: str, *arguments: object, **options: Any) -> Program:
    """As `lab`, with a client whose trainers have the fake backend."""
    return fake_client(folder, port, name, "--data", folder / "dataset", *arguments, **options)


def lab(folder: Path, port: int, name: str, *arguments: object, **options: Any) -> Program:
    """A client whose user lets the server train on the data that lies in its folder."""
    return client(folder, port, name, "--data", folder / "dataset", *arguments, **options)


def port_of(server: Program) -> int:
    """The port on which a server listens."""
    return int(server.expect(r"client 127\.0\.0\.1:(\d+) ")[1])


def free_port() -> int:
    """A port that nobody listens on just now."""
    import socket

    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def port_to_keep() -> int:
    """A port for one server after the other: the system gives it to nobody while none of them is there."""
    import socket

    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port


def flags(port: int, clients: int, **others: object) -> list[object]:
    """Flags that answer every question."""
    values: dict[str, object] = {"host": "127.0.0.1", "port": port, "clients": clients, "epochs": 2, **others}
    return [part for key, value in values.items() for part in (f"--{key.replace('_', '-')}", value)] + ["--yes"]


def lines_of(path: Path) -> Sequence[str]:
    return path.read_text(encoding="utf-8").splitlines()


def each_model(place: Place, run: str) -> Iterator[Path]:
    return iter(sorted((place.root / "model" / "collected" / run).glob("*.h5")))


def assert_same_weights(ours: Path, theirs: Path) -> None:
    """Both files hold the same arrays, to the bit."""
    import h5py

    def arrays(path: Path) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: found.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None
            )
        return found

    left, right = arrays(ours), arrays(theirs)
    assert left.keys() == right.keys()
    assert left
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


def plain_keras(code: str, *arguments: object) -> str:
    """Run code in a Python that has Keras but knows nothing of lanfit's modules.

    Seconds of collecting garbage, of packages that Keras only looks for and of taking TensorFlow down are left out.
    """
    hidden = ["lanfit", "lanfit_server", "lanfit_client", "jax", "matplotlib", "pandas"]
    before = f"import gc, sys; gc.disable(); sys.modules.update(dict.fromkeys({hidden}));"
    before += "import keras; del sys.modules['pandas'];"  # scikit-learn asks what is there whether it has made the data
    after = "\nimport os; sys.stdout.flush(); os._exit(0)"
    command = [sys.executable, "-P", "-c", before + code + after, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(place: Place, *arguments: object, **options: object) -> str:
    """What a server says that ends with exit 2; nothing but its state folder may have changed."""
    before = place.files()
    with place.server(*arguments, **options) as server:
        server.finish(2)
    assert "Traceback" not in server.output
    assert "  → " in server.output, "there is no hint"
    assert server.stdout == b""
    assert place.files() == before
    return server.output


def offline(home: Path) -> dict[str, str]:
    """An environment in which Keras keeps its files in `home` and nothing can be downloaded."""
    (home / "datasets").mkdir(parents=True, exist_ok=True)
    nobody = f"http://127.0.0.1:{free_port()}"
    proxies = {f"{scheme}_proxy": nobody for scheme in ("http", "https", "HTTP", "HTTPS")}
    return {**proxies, "KERAS_HOME": str(home), "no_proxy": "", "NO_PROXY": ""}
