"""The backend that trains with Keras 3 on TensorFlow. It stays warm: a model that comes again is not compiled again.

Everything that training changes in a model is put back for each task: weights, optimizer, random state, metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lanfit.models.architecture import build, check_architecture
from lanfit.models.compiling import CompileSpec, compile_model, read_spec
from lanfit.models.weights import bakes_weights, get_weights, set_weights
from lanfit.training.backend import Rows
from lanfit.training.tensorflow_steps import compiled_loop, resident
from lanfit.wire.arrays import AnyArray

_Loop = Callable[[Any, Any, Any, Any], None]


class KerasBackend:
    """A `lanfit.training.backend.Backend`; call `lanfit.models.runtime.prepare_keras` first in the process."""

    def __init__(self) -> None:
        self._architecture = ""
        self._spec = CompileSpec()
        self._start_weights: Mapping[str, AnyArray] = {}
        self._model: Any = None
        self._loops: dict[object, tuple[_Loop, _Loop]] = {}
        self._train: _Loop
        self._validate: _Loop
        self._batch_size: Any
        self._rows: tuple[Any, Any]
        self._validation_rows: tuple[Any, Any]

    def load(self, architecture: str, compile_json: str, weights: Mapping[str, AnyArray]) -> None:
        """Take the model of the next task; keeps the compiled one if only the weights are new.

        Raises:
            InputError: architecture or compile options are refused.
        """
        spec = read_spec(compile_json)
        check_architecture(architecture)
        if (architecture, spec) != (self._architecture, self._spec) or (self._model and bakes_weights(self._model)):
            self._model, self._loops = None, {}
        self._architecture, self._spec, self._start_weights = architecture, spec, weights

    def start(
        self, seed: int, batch_size: int, x: AnyArray, y: AnyArray, x_validation: AnyArray, y_validation: AnyArray
    ) -> None:
        """Go back to the loaded weights, a fresh optimizer and the random state of this seed, and take the rows.

        Raises:
            InputError: the model can't be built, or the weights do not fit it.
        """
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(seed)
        if self._model is None:
            model = build(self._architecture)
            set_weights(model, self._start_weights)
            compile_model(model, self._spec)
            model.optimizer.build(model.trainable_variables)
            self._model = model
        else:
            self._put_back()

        self._batch_size = tf.constant(batch_size, tf.int32)
        self._rows = resident(x), resident(y)
        self._validation_rows = resident(x_validation), resident(y_validation)
        form = tuple((array.dtype, *array.shape[1:]) for array in self._rows)
        if form not in self._loops:
            self._loops[form] = self._compile()
        self._train, self._validate = self._loops[form]
        self._model.reset_metrics()

    def train(self, rows: Rows) -> float:
        return self._run(self._train, self._rows, rows)

    def finish_epoch(self) -> dict[str, float]:
        # As at the end of `fit`: an optimizer that averages weights puts the averages into the model.
        self._model.optimizer.finalize_variable_values(self._model.trainable_variables)
        return self._take_metrics()

    def validate(self, rows: Rows) -> float:
        return self._run(self._validate, self._validation_rows, rows)

    def finish_validation(self) -> dict[str, float]:
        return self._take_metrics()

    def weights(self) -> dict[str, AnyArray]:
        return get_weights(self._model, self._start_weights)

    def release(self) -> None:
        self._rows = self._validation_rows = (None, None)

    @property
    def learning_rate(self) -> float:
        return float(self._model.optimizer.learning_rate)

    def _compile(self) -> tuple[_Loop, _Loop]:
        model, (x, y) = self._model, self._rows
        # Losses and metrics make their variables when they are first used, which a compiled function must not do.
        predictions = model(x[:1], training=False)
        model.compute_loss(x=x[:1], y=y[:1], y_pred=predictions, training=False)
        model.compute_metrics(x[:1], y[:1], predictions)
        return (
            compiled_loop(model.train_step, x, y, model.jit_compile),
            compiled_loop(model.test_step, x, y, model.jit_compile),
        )

    def _run(self, loop: _Loop, data: tuple[Any, Any], rows: Rows) -> float:
        import tensorflow as tf

        loop(*data, tf.constant(rows, tf.int64), self._batch_size)
        return float(self._model.get_metrics_result()["loss"])

    def _take_metrics(self) -> dict[str, float]:
        metrics = {name: float(value) for name, value in self._model.get_metrics_result().items()}
        self._model.reset_metrics()
        return {"loss": metrics.pop("loss"), **metrics}

    def _put_back(self) -> None:
        """Put a trained model back into the state of one just built with this seed.

        What is to be copied comes from a freshly made model and optimizer, so nothing about their insides is assumed.
        """
        model = self._model
        set_weights(model, self._start_weights)
        fresh_optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        fresh_optimizer.build(model.trainable_variables)
        _copy(fresh_optimizer.variables, model.optimizer.variables)
        weights = {id(variable) for variable in model.weights}
        others = [variable for variable in model.variables if id(variable) not in weights]
        if others:  # the states of random layers
            fresh = build(self._architecture)
            weights = {id(variable) for variable in fresh.weights}
            _copy([variable for variable in fresh.variables if id(variable) not in weights], others)


def _copy(sources: Iterable[Any], targets: Iterable[Any]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.assign(source)
