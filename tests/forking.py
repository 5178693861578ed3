"""Forks trainers and model processes from one that has imported the backend, which each would spend seconds on.

Processes that read files are forked from one that has imported what they read with.

A process that is to become one (`sitecustomize.py` in `shims` looks) hands its arguments, variables and standard
streams to a template: a process with the same variables that imports what the product would, in the same way, and
nothing else. The template forks, and the fork runs the module. Whoever asked stays as the process that its parent
knows: it ends as the fork ends, by the same signal or with the same code, and the kernel kills the fork when it ends
first.

What can't be the same starts in full: other variables that libraries read while they are imported, other limits,
another user, another network. So does all in tests with the marker `cold`, and all where a system has no `pidfd`, or
has a GPU. What is done to a process otherwise than by ending it, a limit or SIGSTOP, does not reach the fork: `cold`.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gc
import hashlib
import importlib
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

#: Has what `offered` returns: who may be forked. Not set: nobody.
VARIABLE = "LANFIT_TEST_FORKING"
TRAINER = "lanfit.training.trainer"
#: With what each spends its time when it starts.
MODULES = {
    TRAINER: "backend",
    "lanfit_server.models.model_process": "backend",
    "lanfit_server.data.reading": "readers",
    "lanfit.data.reader_process": "readers",
}
#: What processes that read files import sooner or later; some of it only for some files.
READERS = ("numpy", "msgspec", "pandas", "python_calamine", "openpyxl", "PIL.Image")
#: PyTorch is not among them: what it imports starts threads.
BACKENDS = ("tensorflow", "jax")
SHIMS = Path(__file__).resolve().parent / "shims"
#: Set by Keras itself where a backend that is not TensorFlow shares its GPU, of which there is none here.
_SET_BY_KERAS = "TF_FORCE_GPU_ALLOW_GROWTH"
#: What the product sets for the two; which templates there are depends on these alone.
_SET = ("KERAS_BACKEND", "OMP_NUM_THREADS", "PYTHONUNBUFFERED", "TF_CPP_MIN_LOG_LEVEL")
#: What else libraries read while they are imported.
_READ = ("CUDA", "HOME", "JAX", "KERAS", "LD_", "MKL", "OMP", "OPENBLAS", "PYTHON", "TF_", "XLA")
#: What is in a folder that holding.py makes.
_OF_SHIMS = {"sitecustomize.py", "__pycache__", "go"}
_PR_SET_PDEATHSIG = 1


def offered(folder: Path) -> dict[str, str]:
    """Variables with which the processes of this one fork; none where they can't. Templates end when this one does."""
    if not sys.platform.startswith("linux") or not hasattr(os, "pidfd_open") or Path("/dev/nvidia0").exists():
        return {}
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, [str(SHIMS), os.environ.get("PYTHONPATH")]))}
    here = {"folder": str(folder), "pid": os.getpid(), "like": _like({**os.environ, **variables}), "net": _network()}
    return {**variables, VARIABLE: json.dumps(here)}


def _like(environment: dict[str, str]) -> str:
    """A digest of what processes must have in common for one to be forked from the other's template."""
    return hashlib.sha256(json.dumps(likeness(environment)).encode()).hexdigest()


def likeness(environment: Mapping[str, str]) -> dict[str, Any]:
    """What processes must have in common for one to be forked from the other's template, by name."""
    import resource

    environment = {**environment, "PYTHONPATH": _without_shims(environment.get("PYTHONPATH", ""))}
    kinds = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
    read = {name: environment[name] for name in sorted(environment) if name.startswith(_READ)}
    read = {name: value for name, value in read.items() if name not in (*_SET, _SET_BY_KERAS)}
    limits = {kind: resource.getrlimit(getattr(resource, kind)) for kind in kinds}
    return {**read, **limits, "uid": os.getuid(), "executable": sys.executable}


@contextlib.contextmanager
def nothing_changed() -> Iterator[None]:
    """What is done in it must leave this process such that others still fork like it: else all later tests are slow.

    Raises:
        AssertionError: something is changed.
    """
    if VARIABLE not in os.environ:
        yield
        return
    before = likeness(os.environ)
    yield
    after = likeness(os.environ)
    changed = {name: (before.get(name), after.get(name)) for name in before.keys() | after.keys()}
    changed = {name: values for name, values in changed.items() if values[0] != values[1]}
    assert not changed, f"changed, and not put back: {changed}"
    assert Path(json.loads(os.environ[VARIABLE])["folder"]).is_dir(), "the folder of the templates is gone"


def _without_shims(path: str) -> str:
    """A search path without the folders that have nothing but code to run first, as those of breakpoints.py."""
    folders = [Path(folder) for folder in path.split(os.pathsep)]
    while folders and {re.sub(r"^go-\d+$", "go", each.name) for each in folders[0].glob("*")} <= _OF_SHIMS:
        del folders[0]
    return os.pathsep.join(map(str, folders))


def _network() -> str:
    return os.readlink("/proc/self/ns/net")


# --- who is to be forked --------------------------------------------------------------------------------------------


def hand_over(first: str) -> None:
    """Be a trainer or a model process by way of a fork, and end as it does; return where that can't be.

    Args:
        first: the `sitecustomize.py` that calls this, which the fork runs as well.
    """
    module = module_of(sys.orig_argv)
    if VARIABLE not in os.environ or module not in MODULES:
        return
    kind = MODULES[module]
    try:
        here = json.loads(os.environ[VARIABLE])
        if here["like"] != _like(dict(os.environ)):
            return
        if kind == "backend" and os.environ.get("KERAS_BACKEND") not in BACKENDS:
            return
        elsewhere = here["net"] != _network()
        if elsewhere and kind == "backend" and module != TRAINER:  # others use none
            return
        template = _template(kind, Path(here["folder"]), here["pid"], start=not elsewhere)
        # Not before it takes requests: streams on their way keep those of a process open that is killed meanwhile.
        if template.recv(1) != b"?":
            return
        held, holding = os.pipe()
        environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
        umask = os.umask(0)
        os.umask(umask)
        request = {"argv": sys.orig_argv, "environment": environment, "umask": umask, "first": first}
        request["folder"] = os.getcwd()
        socket.send_fds(template, [json.dumps(request).encode() + b"\n"], [0, 1, 2, held])
        os.close(held)
        if template.recv(1) != b"+":  # forked
            os.close(holding)
            return
    except (OSError, KeyError, ValueError):
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    status = json.loads(template.recv(64) or f"{signal.SIGKILL}")
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    with contextlib.suppress(OSError):  # nobody decides what SIGKILL does
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))


def module_of(argv: Sequence[str]) -> str:
    """The module that a Python with these arguments runs; empty if it is no module."""
    return argv[argv.index("-m") + 1] if "-m" in argv[:-1] else ""


def _template(kind: str, folder: Path, owner: int, *, start: bool) -> socket.socket:
    """Connect to the template for this process, which is started if there is none and it may be.

    Raises:
        OSError: there is none.
    """
    values = [os.environ.get(name) for name in (_SET if kind == "backend" else _SET[1:])]
    path = str(folder / f"{kind}-{hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]}")
    link = socket.socket(socket.AF_UNIX)
    try:
        link.connect(path)
        return link
    except (FileNotFoundError, ConnectionRefusedError):  # none yet, or who started it was killed meanwhile
        if not start:
            raise
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            link.connect(path)
            return link
        Path(path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen(64)
            if not (between := os.fork()):  # the template is no child of anybody that a test looks at
                try:
                    _start_template(kind, listening.fileno(), owner, folder)
                finally:
                    os._exit(0)
            os.waitpid(between, 0)
    link.connect(path)
    return link


def _start_template(kind: str, listening: int, owner: int, folder: Path) -> None:
    wanted = (*_READ, *_SET, "LANG", "LC_", "PATH")
    subprocess.Popen(
        [sys.executable, "-P", __file__, kind, str(listening), str(owner)],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key.startswith(wanted)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=[listening],
    )


# --- the template ---------------------------------------------------------------------------------------------------


class Template:
    """Forks for whoever asks, and tells each how its fork ended."""

    def __init__(self, listening: socket.socket, owner: int) -> None:
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._links: dict[int, socket.socket] = {}
        self._woken, waking = socket.socketpair()
        waking.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        self._waking = waking
        for source, act in (
            (listening, self._accept),
            (os.pidfd_open(owner), lambda: os._exit(0)),
            (self._woken, self._reap),
        ):
            self._selector.register(source, selectors.EVENT_READ, act)

    def run(self) -> NoReturn:
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _accept(self) -> None:
        link, _ = self._listening.accept()
        wanted = array.array("i")
        data = b""
        try:
            link.send(b"?")
            while not data.endswith(b"\n"):
                more, sent, _, _ = socket.recv_fds(link, 1 << 20, 4)
                wanted.extend(sent)
                if not more:
                    return
                data += more
            request = json.loads(data)
            pid = os.fork()
            if not pid:
                self._become(request, link, list(wanted))
            self._links[pid] = link
            link.send(b"+")
        except OSError:  # who asked is dead, and with it the fork
            pass
        finally:
            for number in wanted:
                os.close(number)

    def _reap(self) -> None:
        self._woken.recv(4096)
        while self._links:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self._links.pop(pid) as link, contextlib.suppress(OSError):
                link.send(json.dumps(status).encode())

    def _become(self, request: dict[str, Any], link: socket.socket, wanted: list[int]) -> NoReturn:
        """In the fork: be who asked."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for each in (self._listening, self._woken, self._waking, link, *self._links.values()):
                each.close()
            *streams, held = wanted
            _die_with(held)
            os.setsid()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            _put_on(request)
            import runpy

            runpy.run_path(request["first"])
            runpy.run_module(module_of(sys.orig_argv), run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:  # noqa: BLE001 - what Python itself does with it
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)


def _die_with(held: int) -> None:
    """Let the kernel kill this process when the other end of a pipe is closed, or its own parent ends."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    fcntl.fcntl(held, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(held, fcntl.F_SETFL, fcntl.fcntl(held, fcntl.F_GETFL) | os.O_ASYNC)
    if _is_closed(held):  # already
        os.kill(os.getpid(), signal.SIGKILL)


def _is_closed(held: int) -> bool:
    import select

    return bool(select.select([held], [], [], 0)[0])


def _put_on(request: dict[str, Any]) -> None:
    """Take over what else makes a process: folder, variables, streams; and no random numbers of the template's."""
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.orig_argv[:] = request["argv"]
    sys.argv[:] = ["", *request["argv"][request["argv"].index("-m") + 2 :]]
    tempfile.tempdir = None
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(line_buffering=True)
    import numpy as np

    np.random.seed()


@contextlib.contextmanager
def _as_the_product_does(backend: str) -> Iterator[None]:
    """What `prepare_keras` imports its backend in."""
    from lanfit.models.runtime import UNUSED, _uncollected, _without

    with _without(*(name for name in UNUSED if name != backend)), _uncollected():
        yield


def main(kind: str, listening: int, owner: int) -> None:
    if kind == "readers":
        for name in READERS:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    else:
        backend = os.environ["KERAS_BACKEND"]
        with _as_the_product_does(backend):
            importlib.import_module(backend)
            importlib.import_module("keras")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lanfit"]:
        del sys.modules[name]  # some of it reads variables that each process has of its own
    gc.freeze()
    Template(socket.socket(fileno=listening), owner).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
