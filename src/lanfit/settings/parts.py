"""Numbered parts of the rows: the parts of a client, as typed by users and in a job file. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from lanfit.errors import lanfit_error

_RANGE = re.compile(r"\s*(\d{1,9})(?:(?:\s*[-–]\s*|\s+)(\d{1,9}))?\s*")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: The maximum number of parts; a name and a range of every client must fit into a job file.
MOST_PARTS: Final = 100_000


class PartRange(msgspec.Struct, frozen=True):
    """Consecutive parts from `first` to `last`; both from 1."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    @property
    def description(self) -> str:
        """The parts in words: `part 4`, `parts 3 to 5`."""
        return f"part {self.first}" if self.first == self.last else f"parts {self.first} to {self.last}"

    @property
    def indices(self) -> range:
        """Return the numbers of the parts, from 0."""
        return range(self.first - 1, self.last)


def read_range(text: str, of: int | None = None) -> PartRange:
    """Parse `4`, `3-5` or `3 5`.

    Args:
        of: the number of parts, if known.

    Raises:
        InputError: it is none of these, or there is no such part.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        raise lanfit_error("parts.no-range", value=text.strip())
    parts = PartRange(int(found[1]), int(found[2] or found[1]))
    if parts.first > parts.last:
        raise lanfit_error("parts.no-range", value=text.strip())
    for part in (parts.first, parts.last):
        if part < 1 or (of is not None and part > of):
            raise lanfit_error("parts.none-such", part=part, of="1" if of is None else f"1 to {of}")
    return parts


def part_range(text: str) -> str:
    """Parse a field like `read_range`; return it in a normalized form."""
    return str(read_range(text))


def part_list(text: str) -> tuple[str, ...]:
    """Parse a field: names of clients with their parts, `lab-1:3-5`, separated by commas."""
    entries = tuple(entry.strip() for entry in text.split(",") if entry.strip())
    for entry in entries or ("",):
        name, _, parts = entry.partition(":")
        if not _NAME.fullmatch(name) or not _RANGE.fullmatch(parts):
            raise lanfit_error("parts.no-list", value=entry)
    return tuple(f"{name}:{read_range(parts)}" for name, _, parts in (entry.partition(":") for entry in entries))


def read_list(entries: Iterable[str], of: int) -> dict[str, PartRange]:
    """Return the parts of each client in a job file, in its order.

    Raises:
        InputError: there is no such part, or a client is named twice.
    """
    found: dict[str, PartRange] = {}
    for entry in entries:
        name, _, parts = entry.partition(":")
        if name in found:
            raise lanfit_error("parts.named-twice", client=name)
        found[name] = read_range(parts, of)
    return found


def write_list(taken: Mapping[str, PartRange]) -> tuple[str, ...]:
    """Return the entries of a job file, as read by `read_list`."""
    return tuple(f"{name}:{parts}" for name, parts in taken.items())


def shares(of: int, clients: int) -> list[PartRange]:
    """Return parts for clients that can't be asked: consecutive, as equal as possible, at least one each."""
    firsts = [number * of // clients for number in range(clients + 1)]
    return [PartRange(first + 1, max(first + 1, last)) for first, last in pairwise(firsts)]


def notes_on(of: int, taken: Mapping[str, PartRange]) -> list[str]:
    """Return sentences about unusual choices: parts that several clients chose, and parts that none did."""
    whose: list[tuple[str, ...]] = [
        tuple(name for name, parts in taken.items() if index in parts.indices) for index in range(of)
    ]
    notes, first = [], 0
    for index in range(1, of + 1):
        if index < of and whose[index] == whose[first]:
            continue
        parts, names = PartRange(first + 1, index), whose[first]
        if not names:
            notes.append(f"no client trains on {parts.description}: those rows are not used")
        elif len(names) > 1:
            notes.append(f"{parts.description}: chosen by {_listed(names)}, which all train on those rows")
        first = index
    return notes


def _listed(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
