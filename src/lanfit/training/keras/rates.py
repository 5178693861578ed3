"""Learning rate schedules over rounds: each round has a new optimizer, but the schedule continues.

The optimizer's own step counter is reset in each round together with its moments, because Adam corrects its moments by
it. Only the schedule counts from the first step of the run. The first step of the round is a variable of the optimizer,
so one compiled loop serves all rounds, and checkpoints contain it.
"""

from __future__ import annotations

from typing import Any


def go_on(optimizer: Any) -> Any:
    """Let the schedule of a built optimizer count from a first step. Return its variable; None without a schedule.

    `get_config` of the optimizer does not work afterwards.
    """
    import keras

    schedule = _schedule(optimizer)
    if schedule is None:
        return None
    inner = _inner(optimizer)
    kind = keras.backend.standardize_dtype(inner.iterations.dtype)
    first = inner.add_variable(shape=(), initializer="zeros", dtype=kind, name="first_step")

    class Continued(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __call__(self, step: Any) -> Any:
            return schedule(step + keras.ops.convert_to_tensor(first))

    inner.learning_rate = Continued()
    return first


def _inner(optimizer: Any) -> Any:
    """Return the optimizer with the learning rate, which mixed precision wraps into another."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _schedule(optimizer: Any) -> Any:
    import keras

    config = _inner(optimizer).get_config().get("learning_rate")
    return keras.optimizers.schedules.deserialize(config) if isinstance(config, dict) else None
