"""Many steps of a Keras model on JAX, in one call. The step is Keras' own, compiled as `model.fit` compiles it.

JAX functions are stateless: all variables pass through each step and are written to the model at the end of a call.
Keras' guide "Writing a training loop from scratch in JAX" describes the order of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lanfit.models.structure import Arrange, Flat
from lanfit.training.backend import Rows
from lanfit.training.keras.host_rows import batches, resident, set_seed
from lanfit.training.keras.proximal import Proximal
from lanfit.wire.arrays import AnyArray

__all__ = ["loops", "random_state", "resident", "set_random_state", "set_seed"]


def loops(
    model: Any, data: Flat, validation: Flat, arrange: Arrange, proximal: Proximal | None
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the loops that train and evaluate a compiled model. Each batch size is compiled on first use."""
    import jax

    weights, others = model.trainable_variables, model.non_trainable_variables
    optimizer, metrics = model.optimizer.variables, model.metrics_variables
    train, test = model.train_step if proximal is None else proximal.in_stateless_loss(model), model.test_step
    if model.jit_compile:
        # Training donates the memory of the old state to the new one. Evaluation changes almost nothing of it.
        train, test = jax.jit(train, donate_argnums=0), jax.jit(test)
    trained = (weights, others, optimizer, metrics)
    return _loop(train, trained, arrange, proximal), _loop(test, (weights, others, metrics), arrange)


def _loop(
    step: Callable[..., Any], variables: Sequence[Sequence[Any]], arrange: Arrange, proximal: Proximal | None = None
) -> Callable[..., None]:
    def loop(data: Flat, rows: Rows, batch_size: int) -> None:
        state = _values(variables)
        more = () if proximal is None else (proximal.values(),)
        for batch in batches(data, rows, batch_size):
            _, state = step(state, arrange(batch), *more)
        for group, values in zip(variables, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)

    return loop


def _values(variables: Sequence[Sequence[Any]]) -> tuple[list[Any], ...]:
    """Return the values of the variables, no two of which share memory.

    An optimizer that averages weights leaves one array in two variables, and an array can't be donated twice. (Keras'
    own `fit` fails in that case on the second call.)
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
    """Return nothing: the states of Keras' random layers are variables of the model."""
    return {}


def set_random_state(state: Mapping[str, AnyArray]) -> None:
    """Do nothing: there is no other state."""
