"""Named places at which a process can be killed, so that tests can show that nothing is lost there.

With the environment variable `LANFIT_CRASH=label`, a process kills itself as by `kill -9` when it passes that place;
with `label:n`, when it passes it for the n-th time. Without the variable nothing happens.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

VARIABLE = "LANFIT_CRASH"

#: label → what has been done when it is passed, and what has not.
SERVER_POINTS: Mapping[str, str] = {
    "server.run-stored": "the run's folder has everything that a resumed run needs; its ledger is empty",
    "server.run-begun": "the ledger has the run; no task is leased",
    "server.tasks-assigned": "the ledger has the owner of each task; none is leased",
    "server.task-leased": "a client was sent a task",
    "server.result-fetched": "a result is here; it is not on disk",
    "server.result-stored": "a result is on disk; the ledger does not know",
    "server.result-committed": "the ledger has a result; it is not acknowledged",
    "server.result-acknowledged": "a result is acknowledged; its model is not written",
    "server.model-evaluated": "a client's model is written and evaluated; no event was emitted",
    "server.models-written": "all models are written; the summary is not",
    "server.summary-written": "the summary is written; the ledger calls the run unfinished",
    "server.run-announced": "the clients know that the run is over; the ledger calls it unfinished",
}
#: The same for rounds.
ROUND_POINTS: Mapping[str, str] = {
    "server.round-closed": "the ledger has the participants of a round; its weights are only in memory",
    "server.round-written": "a round's weights are on disk; they are not evaluated, and the ledger does not know",
    "server.round-stored": "the ledger has a round's weights; its results are still there",
}
CLIENT_POINTS: Mapping[str, str] = {
    "client.block-received": "a block of the task is in the cache; it is not trained on",
    "client.trained": "the task is trained; its result is not in the outbox",
    "client.half-in-outbox": "a result's arrays are in the outbox; what they are of is not",
    "client.in-outbox": "a result is in the outbox; it was not offered to a server",
    "client.delivered": "a result was sent and is to be put on disk; it is not acknowledged",
    "client.acknowledged": "a result is acknowledged; it is still in the outbox",
}

_wanted, _, _count = os.environ.get(VARIABLE, "").partition(":")
_left = int(_count) if _count else 1


def failpoint(label: str) -> None:
    """Kill this process if requested; `label` is in one of the tables above."""
    global _left
    if label == _wanted:
        _left -= 1
        if _left == 0:
            _die()


def _die() -> None:
    if os.name == "nt":
        os._exit(9)
    os.kill(os.getpid(), signal.SIGKILL)
