"""The files of a run in rounds: the weights of each round while the run is unfinished, and the models of rounds."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from lanfit.files import ArrayFile
from lanfit_server.collect import OpenRun
from lanfit_server.global_weights import RoundWeights, files_of
from lanfit_server.ledger import RoundRecord


class RoundFiles:
    """Names, writes and removes them."""

    def __init__(self, run: OpenRun) -> None:
        self._run = run
        self._written: set[int] = set()
        """The rounds whose weights lie here."""

    def weights(self, number: int) -> Path:
        """Where the weights lie that a round has given."""
        return self._run.folder / "rounds" / f"{number}.block"

    def model(self, number: int) -> Path:
        """Where the model of a round is collected."""
        return self._run.model_file(f"round-{number:04d}")

    def look(self, rounds: int) -> None:
        """An earlier server has left the weights of some of so many rounds."""
        self._written = {number for number in range(1, rounds + 1) if self.weights(number).exists()}

    def write(self, number: int, given: RoundWeights) -> ArrayFile:
        """Write the weights of a round; on disk on return."""
        file = given.write(self.weights(number))
        self._written.add(number)
        return file

    def tidy(self, made: RoundRecord, kept: Collection[int]) -> None:
        """Remove the results of a round that is made, and the weights of all rounds but those that are kept."""
        for client in made.clients:
            if client.task:
                with suppress(OSError):
                    self._run.block(client.task).unlink(missing_ok=True)
        for number in sorted(self._written.difference(kept)):
            with suppress(OSError):  # Windows: somebody reads it
                for path in files_of(self.weights(number)):
                    path.unlink(missing_ok=True)
                self._written.discard(number)

    def keep_models(self, rounds: int, kept: Collection[int]) -> None:
        """Remove the models of all of so many rounds but those that are kept."""
        for number in set(range(1, rounds + 1)).difference(kept):
            with suppress(OSError):
                self.model(number).unlink(missing_ok=True)
