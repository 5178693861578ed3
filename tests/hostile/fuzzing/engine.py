"""Fuzzing: inputs that are almost valid, made from a seed, and runs of many of them over what `targets` names.

Input `number` of a parser depends on nothing but the seed, the parser's name and the number, so that any one can be
made again alone. Valid inputs, which are then spoilt, are made by the code under test: none are kept as files.

A run gives the inputs to a process of its own, in batches: what ends that process (a crash of native code, a limit of
CPU time for one input) ends a batch, not the run, and the batch is gone on with behind that input. For parsers that
the product itself runs in a process with limits, such an end is counted and then held against what the product makes
of the input; for all others it is a finding.
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

#: What one input may take of a processor, in seconds, and what a process may take of memory, in bytes.
CPU_SECONDS = 20.0
MEMORY = 6 << 30
#: A process that has not gone on to its next input for so long waits for something that never comes.
PATIENCE = 300.0
BATCH = 5000
#: How many inputs of the same kind of finding are kept.
MOST_KEPT = 5


class Target(Protocol):
    """A parser, with what it may raise."""

    fine: tuple[type[BaseException], ...]
    """What is right to raise for an input that is wrong."""

    def input(self, chance: random.Random) -> bytes:
        """Make an input."""

    def give(self, data: bytes) -> None:
        """Let the parser read it."""


@dataclass(frozen=True)
class Finding:
    """An input that was answered by something else than an error of lanfit's."""

    target: str
    seed: int
    number: int
    what: str
    """The kind: the error and where it was raised, in one line."""
    detail: str


@dataclass
class Tally:
    """What came of the inputs to one parser."""

    inputs: int = 0
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)
    """How often the process of a parser that the product runs in one was ended, by how."""
    findings: list[Finding] = field(default_factory=list)


# --- one input ----------------------------------------------------------------------------------------------------


def chance_of(seed: int, target: str, number: int) -> random.Random:
    """What makes one input."""
    return random.Random(f"{seed} {target} {number}")


def outcome(target: Target, data: bytes) -> tuple[str, str]:
    """Give an input; return the kind of what was raised and its traceback, both empty if that was fine."""
    try:
        target.give(data)
    except target.fine:
        return "", ""
    except Exception as error:  # noqa: BLE001  (whatever else it is, it is a finding)
        frames = [each for each in traceback.extract_tb(error.__traceback__) if "lanfit" in each.filename]
        ours = [each for each in frames if "/hostile/" not in each.filename.replace(os.sep, "/")]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "elsewhere"
        return f"{type(error).__name__} in {place}", traceback.format_exc()
    return "", ""


def try_inputs(name: str, target: Target, seed: int, numbers: range) -> Iterator[tuple[int, Finding | None]]:
    """Give inputs one after the other, in this process; yield the number of each, and a finding if it is one."""
    for number in numbers:
        data = target.input(chance_of(seed, name, number))
        what, detail = outcome(target, data)
        yield number, Finding(name, seed, number, what, detail) if what else None


# --- many, in processes ---------------------------------------------------------------------------------------------


def _work(make: Callable[[str, Path], Target], name: str, seed: int, numbers: range, at: Any, pipe: Any) -> None:
    """In the process of a batch: `at` is the number of the input that is being read."""
    logging.disable()
    _limit_memory()
    with tempfile.TemporaryDirectory(dir=fast_folder()) as folder:
        target = make(name, Path(folder))
        at.value = numbers.start
        _limit_cpu()
        for number, finding in try_inputs(name, target, seed, numbers):
            if finding is not None:
                pipe.send(finding)
            at.value = number + 1
            _limit_cpu()
    pipe.send(None)


def fast_folder() -> str | None:
    """Where small files cost no disk; None for where the system has its temporary ones."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _limit_cpu() -> None:
    """From now on the process has so much CPU time, then the system ends it, wherever it is."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)


class Run:
    """Gives many inputs to parsers, in processes.

    Args:
        make: makes a parser's target, by its name, with a folder of its own.
        keep: where the inputs of findings are kept; None for nowhere.
        say: is told of findings, and from time to time how far it is.
    """

    def __init__(
        self,
        make: Callable[[str, Path], Target],
        seed: int,
        keep: Path | None = None,
        log: Callable[[str], None] = print,
    ) -> None:
        self._make, self._seed, self._keep, self._log = make, seed, keep, log
        self.tallies: dict[str, Tally] = {}
        self._context = multiprocessing.get_context("spawn")

    def batch(self, name: str, numbers: range) -> None:
        """Give these inputs to a parser."""
        tally = self.tallies.setdefault(name, Tally())
        began = time.monotonic()
        while numbers:
            done, how = self._process(name, numbers, tally)
            if how:
                self._ended(name, numbers[done], how, tally)
                done += 1
            tally.inputs += done
            numbers = numbers[done:]
        tally.seconds += time.monotonic() - began

    def _process(self, name: str, numbers: range, tally: Tally) -> tuple[int, str]:
        """Let a process read them; return how many it did, and how it was ended, empty if it was not."""
        at = self._context.Value("q", numbers.start - 1, lock=False)
        ours, theirs = self._context.Pipe(duplex=False)
        worker = self._context.Process(
            target=_work, args=(self._make, name, self._seed, numbers, at, theirs), daemon=False
        )
        worker.start()
        theirs.close()
        seen, since, done = at.value, time.monotonic(), False
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                if ours.poll(1.0):
                    finding = ours.recv()
                    if finding is None:
                        done = True
                        break
                    self._found(finding, tally)
                if at.value != seen:
                    seen, since = at.value, time.monotonic()
                elif time.monotonic() - since > PATIENCE:
                    worker.kill()
        worker.join()
        if done:
            return len(numbers), ""
        if at.value < numbers.start:
            raise RuntimeError(f"the process that was to fuzz {name} ended before it began, code {worker.exitcode}")
        return at.value - numbers.start, _how(worker.exitcode)

    def _ended(self, name: str, number: int, how: str, tally: Tally) -> None:
        """The process was ended while it read an input: hold that against what the product does."""
        with tempfile.TemporaryDirectory(dir=fast_folder()) as folder:
            target = self._make(name, Path(folder))
            as_product = getattr(target, "as_product", None)
            if as_product is None:
                self._found(Finding(name, self._seed, number, f"the process {how}", ""), tally)
                return
            tally.ended[how] += 1
            self._log(f"{name} {number}: its process {how}; now as lanfit reads it")
            wrong = as_product(target.input(chance_of(self._seed, name, number)))
            if wrong:
                self._found(Finding(name, self._seed, number, f"the process {how}, and then {wrong}", ""), tally)

    def _found(self, finding: Finding, tally: Tally) -> None:
        alike = sum(other.what == finding.what for other in tally.findings)
        tally.findings.append(finding)
        if alike >= MOST_KEPT:
            return
        self._log(f"FOUND {finding.target}, seed {finding.seed}, number {finding.number}: {finding.what}")
        if not alike and finding.detail:
            self._log(finding.detail)
        if self._keep is not None:
            self._keep.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=fast_folder()) as folder:
                target = self._make(finding.target, Path(folder))
                data = target.input(chance_of(finding.seed, finding.target, finding.number))
            (self._keep / f"{finding.target}-{finding.seed}-{finding.number}").write_bytes(data)


def _how(code: int | None) -> str:
    if code == -getattr(signal, "SIGPROF", 0):
        return f"took {CPU_SECONDS:.0f} s of CPU time"
    return f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


# --- mutators: bytes ------------------------------------------------------------------------------------------------

_BYTES = (0, 1, 9, 10, 13, 32, 34, 39, 44, 45, 48, 57, 59, 0x7F, 0x80, 0xC0, 0xC1, 0xFE, 0xFF)
_NUMBERS = (0, 1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1)


def corrupt(chance: random.Random, data: bytes, other: bytes = b"", tokens: Sequence[bytes] = ()) -> bytes:
    """Change some bytes: flip, cut, insert, double, move, overwrite, and splice with another input.

    Args:
        tokens: what means something in this format.
    """
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, 12))):
        at = chance.randrange(len(changed) + 1)
        length = chance.choice((1, 1, 2, 4, 8, chance.randrange(1, 64), chance.randrange(1, 2 + len(changed))))
        match chance.randrange(10):
            case 0 | 1 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 2 if at < len(changed):
                changed[at] = chance.choice(_BYTES)
            case 3:
                del changed[at : at + length]
            case 4:
                del changed[at:]
            case 5:
                changed[at:at] = chance.randbytes(min(length, 300))
            case 6:
                changed[at:at] = changed[at : at + length] * chance.choice((1, 1, 2, 20))
            case 7:
                size = chance.choice((1, 2, 4, 8))
                number = chance.choice(_NUMBERS) & (1 << 8 * size) - 1
                changed[at : at + size] = number.to_bytes(size, chance.choice(("big", "little")))
            case 8 if tokens:
                changed[at : at + chance.choice((0, 0, length))] = chance.choice(tokens)
            case 9 if other:
                changed[at:] = other[chance.randrange(len(other)) :]
    return bytes(changed[: 1 << 20])


def corrupt_zip(chance: random.Random, data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """Change one member of a zip file and pack it again, checksums and all; sometimes drop, double or rename one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = chance.randrange(len(members))
    name, content = members[place]
    match chance.randrange(12):
        case 0:
            del members[place]
        case 1:
            members.append((name, content))
        case 2:
            members[place] = (chance.choice(("../" + name, "/" + name, name.upper(), "", name + "/", "\x01")), content)
        case _:
            members[place] = (name, change(name, content))
    return zip_of(members, chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def zip_of(members: Iterable[tuple[str, bytes]], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file without a date, so that it is the same at any time."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, warnings.catch_warnings(action="ignore"):  # of names that come twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name or "-"), content, kind)
    return packed.getvalue()


# --- mutators: structure --------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 10**6, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, float("inf"),
    float("nan"), "", "a", "../x", "/etc", "con", "\x1b[2J", "é", "\u202e", "0" * 64, "a" * 300,
    [], {}, [[]], [None], {"": None}, {"class_name": "Dense"}, {"class_name": None, "config": []},
)  # fmt: skip


def rearrange(chance: random.Random, value: Any, other: Any = None) -> Any:
    """Change the structure of a JSON-like value in one to four places: values, keys, types, depth, order."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        try:
            value = _rearranged(chance, value, other)
        except RecursionError:  # deep enough
            break
    return value


def _rearranged(chance: random.Random, value: Any, other: Any) -> Any:
    places = list(_places(value, ()))
    path = chance.choice(places)
    return _replaced(value, path, lambda old: _other_value(chance, old, other))


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _places(each, (*path, key))
    elif isinstance(value, list | tuple):
        for key, each in enumerate(value):
            yield from _places(each, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(value)
    first, *rest = path
    if isinstance(value, dict):
        return {key: _replaced(each, tuple(rest), change) if key == first else each for key, each in value.items()}
    return [_replaced(each, tuple(rest), change) if key == first else each for key, each in enumerate(value)]


def _other_value(chance: random.Random, old: Any, other: Any) -> Any:
    match chance.randrange(14):
        case 0 if isinstance(old, dict) and old:
            gone = chance.choice(list(old))
            return {key: each for key, each in old.items() if key != gone}
        case 1 if isinstance(old, dict):
            return {**old, chance.choice((*old, "type", "x", "")): chance.choice(_VALUES)}
        case 2 if isinstance(old, dict) and old:
            moved = chance.choice(list(old))
            return {(f"{key}_" if key == moved else key): each for key, each in old.items()}
        case 3 if isinstance(old, list | tuple) and old:
            return [*old, *[chance.choice(old)] * chance.choice((1, 1, 20))]
        case 4 if isinstance(old, list | tuple) and old:
            return chance.sample(list(old), chance.randrange(len(old)))
        case 5:
            return [old]
        case 6:
            return {"class_name": "Dense", "config": old}
        case 7:
            for _ in range(chance.choice((2, 30, 150))):
                old = [old]
            return old
        case 8 if isinstance(old, str):
            return chance.choice((old * 2, old[1:], old + "\0", old.upper(), old + "\n", old[::-1]))
        case 9 if isinstance(old, int | float) and not isinstance(old, bool):
            return chance.choice((-old, old + 1 if abs(old) < 2**62 else 0, float(old), str(old), old * 0.5))
        case 10 if other is not None:
            path = chance.choice(list(_places(other, ())))
            for key in path:
                other = other[key]
            return other
        case _:
            return chance.choice(_VALUES)
