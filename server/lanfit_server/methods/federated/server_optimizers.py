"""Server optimizers: they take the aggregated weights of a round, or step towards them.

The change that the clients' aggregate proposes acts as a negative gradient (Reddi et al. 2021, algorithm 1). Only
trainable weights are stepped; all others (statistics of a batch normalization, counters) are the aggregate's.

Everything is computed in float64. What an optimizer keeps from round to round is float32, as Keras' own optimizers keep
it, for weights in float64 float64: it is written to disk each round, and twice the bytes would buy no accuracy. It is
rounded when it is kept, so a run that is resumed from it continues with the same bits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lanfit.errors import lanfit_error
from lanfit.models.mean import chunks, is_float
from lanfit.wire.arrays import AnyArray

Strategy = Literal["fedavg", "fedavgm", "fedadam", "fedyogi", "fedprox"]
Weights = Mapping[str, AnyArray]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """The parameters of a server optimizer; None: it has no such parameter."""

    learning_rate: float | None = None
    momentum: float | None = None
    beta_1: float | None = None
    beta_2: float | None = None
    tau: float | None = None


#: Each strategy's own. FedAvg and FedProx (Li et al. 2020), whose difference is on the clients, take the aggregate.
#: FedAvgM: Hsu et al. 2019 add the whole velocity, a rate of 1; momentum, betas and tau as in the experiments of
#: Reddi et al. 2021. They tune the rate of FedAdam and FedYogi for each task; it is about what a weight moves in a
#: round, and 0.01 is what Flower gives FedYogi.
DEFAULTS: Mapping[Strategy, Parameters] = {
    "fedavg": Parameters(learning_rate=1.0),
    "fedprox": Parameters(learning_rate=1.0),
    "fedavgm": Parameters(learning_rate=1.0, momentum=0.9),
    "fedadam": Parameters(learning_rate=0.01, beta_1=0.9, beta_2=0.99, tau=1e-3),
    "fedyogi": Parameters(learning_rate=0.01, beta_1=0.9, beta_2=0.99, tau=1e-3),
}


class ServerOptimizer(Protocol):
    """The interface of server optimizers."""

    def step(self, start: Weights, aggregated: Weights) -> dict[str, AnyArray]:
        """Return the new weights, from the starting weights of the round and the aggregate of its updates.

        In the order and the dtypes of `start`. Arrays that are not stepped are `aggregated`'s own, not copies.
        """
        ...

    def state(self) -> dict[str, AnyArray]:
        """Return the state for the next round, empty before the first. Later steps do not change these arrays."""
        ...

    def restore(self, state: Weights) -> None:
        """Restore this `state`, exactly. The arrays are copied."""
        ...


def server_optimizer(
    strategy: Strategy,
    learning_rate: float | None = None,
    momentum: float | None = None,
    beta_1: float | None = None,
    beta_2: float | None = None,
    tau: float | None = None,
    *,
    trainable: frozenset[str],
) -> ServerOptimizer:
    """Return a strategy's optimizer over the arrays named in `trainable`; None means the strategy's own default.

    Raises:
        InputError: a parameter is out of its range, or one that this strategy does not have.
    """
    given = Parameters(learning_rate, momentum, beta_1, beta_2, tau)
    own = _complete(strategy, given)
    if strategy == "fedavgm":
        return FedAvgM(trainable, own["learning_rate"], own["momentum"])
    if strategy in ("fedadam", "fedyogi"):
        kind = FedAdam if strategy == "fedadam" else FedYogi
        return kind(trainable, own["learning_rate"], own["beta_1"], own["beta_2"], own["tau"])
    return FedAvg(trainable, own["learning_rate"])


def _complete(strategy: Strategy, given: Parameters) -> dict[str, float]:
    defaults = asdict(DEFAULTS[strategy])
    complete: dict[str, float] = {}
    for name, value in asdict(given).items():
        flag = "--server-" + name.replace("_", "-")
        if value is None:
            if defaults[name] is not None:
                complete[name] = defaults[name]
            continue
        if defaults[name] is None:
            known = ", ".join(other for other, each in DEFAULTS.items() if asdict(each)[name] is not None)
            raise lanfit_error("server-optimizer.not-taken", strategy=strategy, flag=flag, known=known)
        share = name not in ("learning_rate", "tau")
        if not (0 <= value < 1 if share else 0 < value < math.inf):
            wanted = "0 or more and less than 1" if share else "above 0"
            raise lanfit_error(
                "server-optimizer.parameter", flag=flag, value=value, wanted=wanted, default=defaults[name]
            )
        complete[name] = value
    return complete


class _Stepping(ABC):
    """The common iteration over the weights; `_kinds` names the state for each weight."""

    _kinds: tuple[str, ...] = ()

    def __init__(self, trainable: frozenset[str], learning_rate: float) -> None:
        self._trainable = trainable
        self._learning_rate = learning_rate
        self._state: dict[str, AnyArray] = {}

    def step(self, start: Weights, aggregated: Weights) -> dict[str, AnyArray]:
        new: dict[str, AnyArray] = {}
        state: dict[str, AnyArray] = {}
        for name, before in start.items():
            if name not in self._trainable or not is_float(before):
                new[name] = aggregated[name]
                continue
            new[name] = np.empty(before.shape, before.dtype)
            keys = [f"{kind}:{name}" for kind in self._kinds]
            old = [self._state[key] if key in self._state else self._begin(key, before) for key in keys]
            # New arrays each time: a returned state is not changed, nor is the state after a failed step.
            state.update((key, np.empty_like(array)) for key, array in zip(keys, old, strict=True))
            kept = [state[key] for key in keys]
            for origin, target, result, *states in chunks(before, aggregated[name], new[name], *old, *kept):
                weights = origin.astype(np.float64)
                numbers = [array.astype(np.float64) for array in states[: len(old)]]
                weights += self._change(target.astype(np.float64) - weights, numbers)
                np.copyto(result, weights, casting="same_kind")
                for array, values in zip(states[len(old) :], numbers, strict=True):
                    np.copyto(array, values, casting="same_kind")
        self._state = state
        return new

    def state(self) -> dict[str, AnyArray]:
        return dict(self._state)

    def restore(self, state: Weights) -> None:
        self._state = {key: np.array(array) for key, array in state.items()}

    def _begin(self, key: str, weights: AnyArray) -> AnyArray:
        """Return the initial state under a key."""
        return np.zeros(weights.shape, np.promote_types(weights.dtype, np.float32))

    @abstractmethod
    def _change(self, delta: Numbers, kept: list[Numbers]) -> Numbers:
        """Return the step for the difference `delta` between aggregate and weights; `kept` is changed in place."""


class FedAvg(_Stepping):
    """Federated averaging (McMahan et al. 2017): w ← w + η Δ, which with η = 1 is the aggregate itself."""

    def step(self, start: Weights, aggregated: Weights) -> dict[str, AnyArray]:
        if self._learning_rate == 1:
            return {name: aggregated[name] for name in start}
        return super().step(start, aggregated)

    def _change(self, delta: Numbers, kept: list[Numbers]) -> Numbers:
        return self._learning_rate * delta


class FedAvgM(_Stepping):
    """Averaging with momentum (Hsu et al. 2019): v ← β v + Δ, w ← w + η v. The same as Flower's."""

    _kinds = ("velocity",)

    def __init__(self, trainable: frozenset[str], learning_rate: float, momentum: float) -> None:
        super().__init__(trainable, learning_rate)
        self._momentum = momentum

    def _change(self, delta: Numbers, kept: list[Numbers]) -> Numbers:
        (velocity,) = kept
        velocity *= self._momentum
        velocity += delta
        return self._learning_rate * velocity


class _Adaptive(_Stepping):
    """Algorithm 2 of Reddi et al. 2021: m ← β₁ m + (1 - β₁) Δ, v from the subclass, w ← w + η m / (√v + τ).

    v begins at τ², the least that the paper allows, and m at 0; no bias is corrected. Flower 1.42 begins v at 0, and
    its FedAdam multiplies η by √(1 - β₂^(t + 1)) / (1 - β₁^(t + 1)) in round t = 1, 2, …: begun and multiplied so,
    these are Flower's.
    """

    _kinds = ("m", "v")

    def __init__(
        self, trainable: frozenset[str], learning_rate: float, beta_1: float, beta_2: float, tau: float
    ) -> None:
        super().__init__(trainable, learning_rate)
        self._beta_1, self._beta_2, self._tau = beta_1, beta_2, tau

    def _begin(self, key: str, weights: AnyArray) -> AnyArray:
        begun = super()._begin(key, weights)
        return np.full_like(begun, self._tau**2) if key.startswith("v:") else begun

    def _change(self, delta: Numbers, kept: list[Numbers]) -> Numbers:
        m, v = kept
        m *= self._beta_1
        m += (1 - self._beta_1) * delta
        self._square(v, np.square(delta))
        change = np.sqrt(v)
        change += self._tau
        np.divide(m, change, out=change)
        change *= self._learning_rate
        return change

    @abstractmethod
    def _square(self, v: Numbers, squares: Numbers) -> None:
        """Update v with the squared deltas, in place."""


class FedAdam(_Adaptive):
    """v ← β₂ v + (1 - β₂) Δ² (Reddi et al. 2021, algorithm 2)."""

    def _square(self, v: Numbers, squares: Numbers) -> None:
        v *= self._beta_2
        v += (1 - self._beta_2) * squares


class FedYogi(_Adaptive):
    """v ← v - (1 - β₂) Δ² sign(v - Δ²) (Reddi et al. 2021, algorithm 2)."""

    def _square(self, v: Numbers, squares: Numbers) -> None:
        v -= (1 - self._beta_2) * squares * np.sign(v - squares)
