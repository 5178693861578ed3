"""What happens to every result once it is committed: its model file is written, and it is scored."""

from __future__ import annotations

from lanfit.files import ArrayFile
from lanfit_server.collect import OpenRun
from lanfit_server.evaluate import Done, ModelProcess, Score, Scored, WriteModel
from lanfit_server.ledger import StoredResult


async def score(run: OpenRun, stored: StoredResult, owner: str, models: ModelProcess) -> dict[str, float]:
    """Write `<owner>.h5` and return the metrics: on the server's test rows, else what the client measured."""
    weights = ArrayFile(str(run.block(stored.task)), stored.result.block)
    await models.ask(WriteModel(str(run.model_path(owner)), weights), Done)
    scored = await models.ask(Score(weights), Scored)
    return scored.metrics or run.validation_metrics(stored)
