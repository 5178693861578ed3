"""Evaluations of models by clients on their own rows: requests, answers, deadlines. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lanfit_server.clusters.events import REMIND_SECONDS, Evaluated
from lanfit_server.run.events import EvaluationAwaited, EvaluationFailed, EvaluationMissed, EvaluationSkipped
from lanfit_server.run.instructions import Ask, AskClients, Asked, Emit, Instruction


@dataclass
class Evaluation:
    """One model that is being evaluated."""

    asked: AskClients
    shards: dict[str, int]
    """The shards whose clients are asked, in order."""
    began: float
    """On the monotonic clock; likewise the other times."""
    missing: list[str] = field(default_factory=list)
    answers: dict[str, Evaluated] = field(default_factory=dict)
    reminded: float = 0.0

    @property
    def ends(self) -> float:
        return self.began + self.asked.limit

    def in_order(self) -> dict[str, Evaluated]:
        """Return the answers in the order of the shards, so that sums do not depend on the order of arrival."""
        return {client: self.answers[client] for client in self.shards if client in self.answers}


class Evaluations:
    """The evaluations of one run, one at a time.

    Args:
        owners: the client that each shard belongs to.
        left: gives the seconds until a client has been waited for long enough; infinite while it is here.
        waits: whether absent clients are waited for.
    """

    def __init__(self, owners: Sequence[str], left: Callable[[str, float], float], *, waits: bool) -> None:
        self._owners = owners
        self._left = left
        self._waits = waits
        self._waiting: list[AskClients] = []
        self._current: Evaluation | None = None
        self._mute: set[str] = set()
        """Clients that did not answer in time; they are not asked again until they send something."""

    @property
    def open(self) -> bool:
        """Whether an answer is pending."""
        return self._current is not None or bool(self._waiting)

    def awaits(self, client: str) -> bool:
        """Return whether an answer of this client is pending."""
        return self._current is not None and client in self._current.missing

    def add(self, asked: AskClients, now: float) -> list[Instruction]:
        """Start the next evaluation, unless one is in progress."""
        self._waiting.append(asked)
        return self._begin(now)

    def _begin(self, now: float) -> list[Instruction]:
        if self._current is not None or not self._waiting:
            return []
        asked = self._waiting.pop(0)
        current = Evaluation(asked, {self._owners[shard]: shard for shard in asked.shards}, now, reminded=now)
        self._current = current
        current.missing, instructions = self._hoped_for(current, current.shards, now)
        for client in [client for client in current.missing if client in self._mute]:
            current.missing.remove(client)
            instructions.append(Emit(EvaluationSkipped(client, asked.model)))
        return instructions + [self._ask(current, client) for client in current.missing]

    @staticmethod
    def _ask(current: Evaluation, client: str) -> Instruction:
        return Ask(client, current.asked.model, current.shards[client], current.asked.rows)

    def _hoped_for(
        self, current: Evaluation, clients: Iterable[str], now: float
    ) -> tuple[list[str], list[Instruction]]:
        """Return those of these clients that may still answer, and events about the others."""
        in_time = now < current.began + current.asked.grace
        clients = list(clients)
        over = [client for client in clients if self._left(client, now) <= 0 and not in_time]
        missed = [EvaluationMissed(client, current.asked.model, waited=self._waits) for client in over]
        return [client for client in clients if client not in over], [Emit(each) for each in missed]

    # --- events -------------------------------------------------------------------------------------------

    def answer(self, answer: Evaluated) -> None:
        """Record that a client has evaluated a model."""
        self._mute.discard(answer.client)
        current = self._current
        if current is not None and answer.task == current.asked.model and answer.client in current.missing:
            current.answers[answer.client] = answer
            current.missing.remove(answer.client)

    def fail(self, client: str, model: str, reason: str) -> list[Instruction]:
        """Note that a client can't evaluate a model."""
        current = self._current
        if current is None or model != current.asked.model or client not in current.missing:
            return []
        current.missing.remove(client)
        return [Emit(EvaluationFailed(client, model, reason))]

    def join(self, client: str) -> list[Instruction]:
        """Handle the return of a client, which may have lost the request."""
        self._mute.discard(client)
        return [self._ask(self._current, client)] if self._current is not None and self.awaits(client) else []

    def leave(self, client: str, reason: str, *, broken: bool) -> list[Instruction]:
        """Handle the end of a client's link.

        A client that broke the protocol would do so again, so it is not waited for.
        """
        if broken and self._current is not None:
            return self.fail(client, self._current.asked.model, reason)
        return []

    def look(self, now: float) -> list[Instruction]:
        """Check deadlines: give up waiting for clients that take too long, and report the others from time to time."""
        current = self._current
        if current is None:
            return []
        current.missing, instructions = self._hoped_for(current, current.missing, now)
        if now >= current.ends:
            self._mute.update(current.missing)
            instructions += [
                Emit(EvaluationMissed(client, current.asked.model, current.asked.limit)) for client in current.missing
            ]
            current.missing = []
        if current.missing and now - current.reminded >= REMIND_SECONDS:
            current.reminded = now
            awaited = EvaluationAwaited(tuple(current.missing), current.asked.model, current.asked.rows)
            instructions.append(Emit(awaited))
        return instructions

    def finished(self, now: float) -> tuple[str, dict[str, Evaluated], list[Instruction]] | None:
        """Return the model of a finished evaluation, its answers, and instructions; None if none is finished."""
        current = self._current
        if current is None or current.missing:
            return None
        self._current = None
        return current.asked.model, current.in_order(), [Asked(current.asked.model), *self._begin(now)]

    def give_up(self) -> None:
        """Stop waiting for clients."""
        if self._current is not None:
            self._current.missing = []

    def wake(self, now: float) -> float:
        """Return the seconds until `look` may have an effect."""
        current = self._current
        if current is None:
            return math.inf
        grace = current.began + current.asked.grace - now
        gone = min((self._left(client, now) for client in current.missing), default=math.inf)
        return max(0.0, min(current.ends - now, max(gone, grace), current.reminded + REMIND_SECONDS - now))
