"""The closed rounds of a run, as far as decisions need them.

Theory of operation. The ledger has the whole record of every closed round, with the facts of each of its clients; the
summary is made from there at the end. Decisions need the losses of all rounds, but the record of a round only until it
is stored and the next one is closed, in which clients have evaluated its weights. After that the round is *settled*:
nothing changes its loss, and its record is dropped. So the memory of a run does not grow with clients times rounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lanfit_server.methods.federated.facts import evaluated, validation_of
from lanfit_server.store.ledger import RoundRecord


class RoundHistory:
    """The closed rounds, numbered from 1 without gaps.

    Args:
        samples: the rows of each client, by which its metrics are weighted.
    """

    def __init__(self, samples: Mapping[str, int]) -> None:
        self._samples = samples
        self._settled: list[float] = []
        """The losses of settled rounds."""
        self._records: list[RoundRecord] = []
        """The records of those after them."""
        self.trained: set[int] = set()
        """The shards of which an update counted in some round."""
        self.has_absent = False
        """Whether some round was closed without a client that was too late."""

    def __len__(self) -> int:
        return len(self._settled) + len(self._records)

    @property
    def last(self) -> RoundRecord | None:
        """Return the record of the last round; None before the first."""
        return self._records[-1] if self._records else None

    def add(self, records: Sequence[RoundRecord]) -> None:
        """Add the records of the rounds that follow."""
        for record in records:
            self._records.append(record)
            self.trained |= {client.shard for client in record.clients if not client.left_out}
            self.has_absent |= any(client.absent for client in record.clients)
            self._settle()

    def replace(self, record: RoundRecord) -> None:
        """Replace the record of a round that is not settled."""
        self._records[record.number - 1 - len(self._settled)] = record
        self._settle()

    def losses(self) -> list[float]:
        """Return the loss of each round; NaN for one that was not evaluated."""
        return [*self._settled, *(self._loss(index) for index in range(len(self._records)))]

    def evaluated(
        self, metrics: Mapping[str, float], validation: Mapping[str, Mapping[str, float]]
    ) -> dict[str, float]:
        """Return the metrics of a round's evaluation, see `facts.evaluated`."""
        return evaluated(metrics, validation, self._samples)

    def _loss(self, index: int) -> float:
        figures = self.evaluated(self._records[index].metrics, validation_of(self._records, index))
        return figures.get("loss", math.nan)

    def _settle(self) -> None:
        while len(self._records) > 1 and self._records[0].stored:
            self._settled.append(self._loss(0))
            del self._records[0]
