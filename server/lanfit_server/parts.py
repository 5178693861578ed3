"""Who takes which parts of the rows: what the job file says, and what clients answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from lanfit.data.files import natural_key
from lanfit.job import Job
from lanfit.parts import PartRange, notes_on, read_list, shares, write_list
from lanfit.wire.messages import OwnRows


@dataclass
class Takers:
    """The parts of each client that has taken some."""

    of: int
    assigned: dict[str, PartRange] = field(default_factory=dict)
    """By the job file, or because a local client has no terminal: who is named here is not asked."""
    by: dict[str, PartRange] = field(default_factory=dict)
    asks: bool = True
    """Others are asked; else they take the places of those who are named and do not come."""

    @classmethod
    def wanted(cls, job: Job) -> Takers | None:
        """What a job wants to know; None when it does not deal in parts."""
        if job.deal != "parts" or job.parts_of is None:
            return None
        assigned = read_list(job.parts or (), job.parts_of)
        local = [f"local-{number + 1}" for number in range(job.local)]
        assigned = {**dict(zip(local, shares(job.parts_of, job.clients), strict=False)), **assigned}
        # The rows of one client's own files are not those of another's.
        return cls(job.parts_of, assigned, asks=job.data == "client" or len(assigned) < job.clients)

    def replace(self, named: str, client: str) -> PartRange:
        """Another client takes the place of one that was named; returns what it gets."""
        self.assigned = {client if name == named else name: parts for name, parts in self.assigned.items()}
        return self.assigned[client]

    def in_order(self, clients: Iterable[str]) -> list[str]:
        """Those of these clients that have taken some: first who is not asked, in that order; then by their names."""
        places = {name: place for place, name in enumerate(self.assigned)}
        ready = [name for name in clients if name in self.by]
        return sorted(ready, key=lambda name: (places.get(name, len(places)), natural_key(name)))

    def of_all(self, owners: Sequence[str]) -> tuple[PartRange, ...]:
        """The parts of these clients, in their order."""
        return tuple(self.by[name] for name in owners)

    def notes(self, owners: Sequence[str]) -> list[str]:
        """What is unusual about who takes what, in sentences."""
        return notes_on(self.of, {name: self.by[name] for name in owners})


def replace_parts(job: Job, owners: Sequence[str], taken: Sequence[PartRange]) -> Job:
    """The job with what these clients have taken, so that repeating it asks nobody."""
    if not taken:
        return job
    return msgspec.structs.replace(job, parts=write_list(dict(zip(owners, taken, strict=True))))


def own_rows_of(own: OwnRows, of: int, parts: PartRange) -> OwnRows:
    """How a client that takes these parts draws its own rows."""
    return msgspec.structs.replace(own, parts_of=of, first_part=parts.first, last_part=parts.last)
