"""FedProx's proximal term (Li et al. 2020, section 3.1): mu/2 · ||w - w_start||² over the trainable variables.

The term is added to the loss just before differentiation, after the metrics were updated. The step itself remains
Keras' own: only the method in which differentiation happens is replaced while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: mu, and the starting weights of a task.
Values = tuple[Any, list[Any]]


class Proximal:
    """The term for one model. Its weights and mu are variables, so a new task needs no compilation."""

    def __init__(self, model: Any) -> None:
        import keras

        weights = model.trainable_variables
        # Not created from the weight itself: on PyTorch they would share memory, and the term would always be 0.
        self._start = [
            keras.Variable("zeros", weight.shape, weight.dtype, trainable=False, name="start") for weight in weights
        ]
        self._mu = keras.Variable(0.0, trainable=False, dtype="float32", name="mu")

    def begin(self, model: Any, mu: float) -> None:
        """Set the term to the current weights of the model."""
        import keras

        self._mu.assign(mu)
        for start, weight in zip(self._start, model.trainable_variables, strict=True):
            start.assign(keras.ops.copy(weight))  # on JAX they would share memory, which steps donate

    def values(self) -> Values:
        return self._mu.value, [start.value for start in self._start]

    @contextmanager
    def in_scaled_loss(self, model: Any) -> Iterator[None]:
        """Add the term where the steps of TensorFlow and PyTorch scale the loss for 16-bit floats, which comes last."""
        optimizer = model.optimizer
        scale = optimizer.scale_loss

        def with_term(loss: Any) -> Any:
            return scale(loss + _term(self.values(), [v.value for v in model.trainable_variables], loss.dtype))

        with replaced(optimizer, "scale_loss", with_term):
            yield

    def in_stateless_loss(self, model: Any) -> Callable[[Any, Any, Values], Any]:
        """Return JAX' step with the term. It takes `values`, because compiled functions are stateless."""
        import keras

        def step(state: Any, data: Any, values: Values) -> Any:
            loss_of = model.compute_loss_and_updates

            def with_term(weights: Any, *args: Any, optimizer_variables: Any, **options: Any) -> Any:
                loss, more = loss_of(weights, *args, optimizer_variables=optimizer_variables, **options)
                mapping = list(zip(model.optimizer.variables, optimizer_variables, strict=True))
                with keras.StatelessScope(state_mapping=mapping):
                    return loss + model.optimizer.scale_loss(_term(values, weights, loss.dtype)), more

            with replaced(model, "compute_loss_and_updates", with_term):
                return model.train_step(state, data)

        return step


def _term(values: Values, weights: Sequence[Any], dtype: Any) -> Any:
    from keras import ops

    mu, start = values
    squares = [ops.cast(ops.sum(ops.square(w - w_start)), dtype) for w, w_start in zip(weights, start, strict=True)]
    return ops.cast(0.5 * mu, dtype) * sum(squares)


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a method of an object in this context, without Keras' tracking of attributes."""
    own = vars(owner).get(name)
    object.__setattr__(owner, name, function)
    try:
        yield
    finally:
        if own is None:
            object.__delattr__(owner, name)  # the method of its class is visible again
        else:
            object.__setattr__(owner, name, own)
