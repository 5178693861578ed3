"""Learning rate schedules over rounds: an optimizer that is new in each round, and a schedule that is not.

The optimizer's own counter begins at 0 in each round, as its moments do: Adam corrects its moments by it. Only the
schedule counts from the first step of the run. Where a round begins is a variable of the optimizer, so a compiled loop
serves every round, and checkpoints hold it.
"""

from __future__ import annotations

from typing import Any


def go_on(optimizer: Any) -> Any:
    """Let the schedule of a built optimizer count from a first step; returns the variable that holds it, None without.

    The configuration of the optimizer can't be read any more.
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
    """The one that has the learning rate: mixed precision puts another around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _schedule(optimizer: Any) -> Any:
    import keras

    config = _inner(optimizer).get_config().get("learning_rate")
    return keras.optimizers.schedules.deserialize(config) if isinstance(config, dict) else None
