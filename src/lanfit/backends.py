"""The backends by name: where each is found, what it requires, and which environment it needs before it is imported.

Nothing here imports a backend, so a process that only lists them stays light. `BACKENDS` is the only list of them:
jobs, settings, questions, checks of names from a peer and error messages use it. To add a backend, add an entry whose
`make` returns a `lanfit.training.backend.Backend`.

No variable, flag, setting or message adds an entry, and names from a peer are looked up here: a backend that only tests
have (`register`) exists in no process of a user (docs/decisions/0017).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from lanfit import core  # noqa: F401 - it has the errors of backends
from lanfit.errors import LanfitError, lanfit_error

#: The exit codes of a process that met an unsupported instruction: SIGILL, and on Windows
#: STATUS_ILLEGAL_INSTRUCTION.
ILLEGAL_INSTRUCTION: Final = frozenset({-4, 0xC000001D, 0xC000001D - (1 << 32)})


@dataclass(frozen=True)
class Device:
    """The device of a backend: "cpu" or "gpu", and the name of the GPU, if the backend reports it."""

    kind: str = "cpu"
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.name})" if self.name else self.kind


def no_variables(threads: int | None) -> Mapping[str, str]:
    """Return no environment variables, for a backend that reads none."""
    return {}


@dataclass(frozen=True)
class BackendEntry:
    """One backend.

    Args:
        make: `module:callable`, which a trainer imports and calls with the name; it returns a Backend.
        needs: the packages that must be installed; an extra with the backend's name installs them.
        variables: returns the environment to set before it is imported, for a number of threads.
    """

    name: str
    make: str
    needs: tuple[str, ...] = ()
    variables: Callable[[int | None], Mapping[str, str]] = no_variables

    @property
    def is_installed(self) -> bool:
        return all(importlib.util.find_spec(package) is not None for package in self.needs)


def _keras_on(name: str) -> BackendEntry:
    def variables(threads: int | None) -> Mapping[str, str]:
        of_threads = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        return {"KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "2", **of_threads}

    return BackendEntry(name, "lanfit.training.keras.backend:KerasBackend", ("keras", name), variables)


#: Best first.
_entries: list[BackendEntry] = [_keras_on("tensorflow"), _keras_on("jax"), _keras_on("torch")]


def names() -> tuple[str, ...]:
    """Return the names of all backends, best first."""
    return tuple(entry.name for entry in _entries)


def listed() -> str:
    """Return all names as a list in a sentence."""
    *others, last = names()
    return f"{', '.join(others)} or {last}"


def entry_of(name: str) -> BackendEntry:
    """Return the entry of a backend. The name may come from a peer.

    Raises:
        InputError: there is none of this name.
    """
    for entry in _entries:
        if entry.name == name:
            return entry
    raise lanfit_error("backend.unknown", name=name, known=", ".join(names()))


@contextmanager
def register(entry: BackendEntry) -> Iterator[None]:
    """Add a backend in this process, and in the trainers that it starts. For tests and experiments."""
    if entry.name in names():
        raise ValueError(f"there is a backend {entry.name}")
    _entries.append(entry)
    try:
        yield
    finally:
        _entries.remove(entry)


def installed_backends() -> list[str]:
    """Return the backends that can be imported here, best first."""
    return [entry.name for entry in _entries if entry.is_installed]


def default_backend() -> str:
    """Return the first backend that is installed, or the first of all if none is."""
    return (installed_backends() or names())[0]


def check_backend(name: str) -> BackendEntry:
    """Return the entry of a backend that can be imported here. The name may come from a peer.

    Raises:
        InputError: there is none of this name, or it is not installed.
    """
    entry = entry_of(name)
    if not entry.is_installed:
        installed = installed_backends()
        others = f", or use what is installed: --backend {' or '.join(installed)}" if installed else ""
        raise lanfit_error("backend.not-installed", name=name, others=others)
    return entry


def make_backend(name: str, make: str) -> Any:
    """Import and create a backend, in the process that trains with it. `make` comes from an entry, never from a
    peer."""
    module, _, attribute = make.partition(":")
    return getattr(importlib.import_module(module), attribute)(name)


def unusable(name: str, exit_code: int | None, last_lines: Sequence[str]) -> LanfitError | None:
    """Return why a backend can't be used on this machine, if the end of a process that imported it shows that; else
    None.

    Args:
        exit_code: as in `subprocess`.
        last_lines: the last output of the process.
    """
    if exit_code in ILLEGAL_INSTRUCTION:
        others = " or ".join(f"--backend {other}" for other in installed_backends() if other != name)
        installs = " or ".join(f".[{entry.name}]" for entry in _entries if entry.needs and entry.name != name)
        way_out = f"Try {others}" if others else f"Install another backend (pip install -e {installs})"
        return lanfit_error("backend.illegal-instruction", name=name, way_out=way_out)
    if line := next((line for line in reversed(last_lines) if "DLL load failed" in line), None):
        return lanfit_error("backend.no-dll", name=name, reason=line.strip())
    return None
