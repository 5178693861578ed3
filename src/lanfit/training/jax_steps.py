"""Many steps of a Keras model on JAX, in one call. The step is Keras' own, compiled as `model.fit` compiles it.

JAX functions keep no state: all variables go through each step and are put back into the model at the end of a call.
Keras' guide "Writing a training loop from scratch in JAX" has the order of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lanfit.training.backend import Data, Rows
from lanfit.training.host_rows import batches, resident, set_seed
from lanfit.training.proximal import Proximal
from lanfit.wire.arrays import AnyArray

__all__ = ["loops", "random_state", "resident", "set_random_state", "set_seed"]


def loops(
    model: Any, data: Data, validation: Data, proximal: Proximal | None
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the loops that train and that score a compiled model; a new size of batch is compiled when it comes."""
    import jax

    weights, others = model.trainable_variables, model.non_trainable_variables
    optimizer, metrics = model.optimizer.variables, model.metrics_variables
    train, test = model.train_step if proximal is None else proximal.in_stateless_loss(model), model.test_step
    if model.jit_compile:
        # Training gives the memory of the old state to the new one. Scoring changes next to nothing of it.
        train, test = jax.jit(train, donate_argnums=0), jax.jit(test)
    return _loop(train, (weights, others, optimizer, metrics), proximal), _loop(test, (weights, others, metrics))


def _loop(
    step: Callable[..., Any], variables: Sequence[Sequence[Any]], proximal: Proximal | None = None
) -> Callable[..., None]:
    def loop(data: Data, rows: Rows, batch_size: int) -> None:
        state = _values(variables)
        more = () if proximal is None else (proximal.values(),)
        for batch in batches(data, rows, batch_size):
            _, state = step(state, batch, *more)
        for group, values in zip(variables, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)

    return loop


def _values(variables: Sequence[Sequence[Any]]) -> tuple[list[Any], ...]:
    """The values of the variables, each in memory of its own.

    An optimizer that averages weights leaves one array in two variables, and no array can be given away twice. (Keras'
    own `fit` fails there when it is called again.)
    """
    import jax

    seen: set[int] = set()

    def own(value: Any) -> Any:
        if id(value) in seen:
            return jax.numpy.copy(value)
        seen.add(id(value))
        return value

    return tuple([own(variable.value) for variable in group] for group in variables)


def random_state() -> dict[str, AnyArray]:
    """Nothing: Keras' random layers draw from states that are variables of the model."""
    return {}


def set_random_state(state: Mapping[str, AnyArray]) -> None:
    """Nothing to go back to."""
