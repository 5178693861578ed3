"""The parts of the rows of each client: from the job file, and from the answers of clients. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from lanfit.data.files import natural_key
from lanfit.settings.job import Job
from lanfit.settings.parts import PartRange, notes_on, read_list, shares, write_list
from lanfit.wire.messages import ClientData


@dataclass
class PartsByClient:
    """The parts of each client that has chosen some."""

    of: int
    assigned: dict[str, PartRange] = field(default_factory=dict)
    """Choices from the job file, or for local clients, which have no terminal: these clients are not asked."""
    by: dict[str, PartRange] = field(default_factory=dict)
    asks: bool = True
    """Others are asked; otherwise they take the places of named clients that do not join."""

    @classmethod
    def wanted(cls, job: Job) -> PartsByClient | None:
        """Return the parts of a job; None if it does not use parts."""
        if job.deal != "parts" or job.parts_of is None:
            return None
        assigned = read_list(job.parts or (), job.parts_of)
        local = [f"local-{number + 1}" for number in range(job.local)]
        assigned = {**dict(zip(local, shares(job.parts_of, job.clients), strict=False)), **assigned}
        # Clients with their own data have different rows.
        return cls(job.parts_of, assigned, asks=job.data == "client" or len(assigned) < job.clients)

    def replace(self, named: str, client: str) -> PartRange:
        """Let another client take the place of a named one; return its parts."""
        self.assigned = {client if name == named else name: parts for name, parts in self.assigned.items()}
        return self.assigned[client]

    def in_order(self, clients: Iterable[str]) -> list[str]:
        """Return those of these clients that have chosen some: first the ones that are not asked, in that order; then
        by name."""
        places = {name: place for place, name in enumerate(self.assigned)}
        ready = [name for name in clients if name in self.by]
        return sorted(ready, key=lambda name: (places.get(name, len(places)), natural_key(name)))

    def of_all(self, owners: Sequence[str]) -> tuple[PartRange, ...]:
        """Return the parts of these clients, in their order."""
        return tuple(self.by[name] for name in owners)

    def notes(self, owners: Sequence[str]) -> list[str]:
        """Return sentences about unusual choices."""
        return notes_on(self.of, {name: self.by[name] for name in owners})


def replace_parts(job: Job, owners: Sequence[str], taken: Sequence[PartRange]) -> Job:
    """Return the job with the choices of these clients, so that repeating it needs no prompt."""
    if not taken:
        return job
    return msgspec.structs.replace(job, parts=write_list(dict(zip(owners, taken, strict=True))))


def client_data_of(own: ClientData, of: int, parts: PartRange) -> ClientData:
    """Return how a client with these parts selects its own rows."""
    return msgspec.structs.replace(own, parts_of=of, first_part=parts.first, last_part=parts.last)
