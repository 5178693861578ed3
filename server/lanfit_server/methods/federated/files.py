"""The files of a run in rounds: the weights of each round while the run is unfinished, and the models of rounds."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from lanfit.transfer.blocks import ArrayFile
from lanfit_server.methods.federated.global_weights import RoundWeights, files_of
from lanfit_server.store.ledger import RoundRecord
from lanfit_server.store.result_store import OpenRun


class RoundFiles:
    """Names, writes and removes the files."""

    def __init__(self, run: OpenRun) -> None:
        self._run = run
        self._written: set[int] = set()
        """The rounds with weights in the folder."""

    def weights(self, number: int) -> Path:
        """Return the path of the weights of a round."""
        return self._run.folder / "rounds" / f"{number}.block"

    def model(self, number: int) -> Path:
        """Return the path of the model of a round."""
        return self._run.model_file(f"round-{number:04d}")

    def look(self, rounds: int) -> None:
        """Find the weights that an earlier server stored of some of these rounds."""
        self._written = {number for number in range(1, rounds + 1) if self.weights(number).exists()}

    def write(self, number: int, given: RoundWeights) -> ArrayFile:
        """Write the weights of a round durably."""
        file = given.write(self.weights(number))
        self._written.add(number)
        return file

    def tidy(self, made: RoundRecord, kept: Collection[int]) -> None:
        """Remove the results of a stored round, and the weights of all rounds except the kept ones."""
        for client in made.clients:
            if client.task:
                with suppress(OSError):
                    self._run.block(client.task).unlink(missing_ok=True)
        for number in sorted(self._written.difference(kept)):
            with suppress(OSError):  # on Windows, while it is being read
                for path in files_of(self.weights(number)):
                    path.unlink(missing_ok=True)
                self._written.discard(number)

    def keep_models(self, rounds: int, kept: Collection[int]) -> None:
        """Remove the models of all of these rounds except the kept ones."""
        for number in set(range(1, rounds + 1)).difference(kept):
            with suppress(OSError):
                self.model(number).unlink(missing_ok=True)
