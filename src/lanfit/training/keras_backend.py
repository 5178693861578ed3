"""The backend that trains with Keras 3, on TensorFlow, JAX or PyTorch. It stays warm: a model is compiled only once.

Everything that training changes in a model is put back for each task: weights, optimizer, random state, metrics. How
many steps are run in one call is the business of the modules behind steps.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lanfit.models import custom
from lanfit.models.architecture import build, check_architecture
from lanfit.models.compiling import CompileSpec, compile_model, read_spec
from lanfit.models.weights import bakes_weights, get_weights, set_weights
from lanfit.training.backend import Data, Rows
from lanfit.training.proximal import Proximal
from lanfit.training.rates import go_on
from lanfit.training.steps import Loop, steps_of
from lanfit.wire.arrays import AnyArray

#: The column of the history that has the learning rate of a schedule, as Keras' callbacks name it.
RATE = "learning_rate"


class KerasBackend:
    """A `lanfit.training.backend.Backend`; call `lanfit.models.runtime.prepare_keras` first in the process."""

    def __init__(self) -> None:
        self._loaded: tuple[object, ...] = ("", "", ())
        self._architecture = ""
        self._spec = CompileSpec()
        self._start_weights: Mapping[str, AnyArray] = {}
        self._model: Any = None
        self._loops: dict[object, tuple[Loop, Loop]] = {}
        self._train: Loop
        self._validate: Loop
        self._batch_size: int
        self._rows: tuple[Any, ...]
        self._validation_rows: tuple[Any, ...]
        self._proximal: Proximal | None = None
        self._first_step: Any = None
        """The variable that says where the schedule of the learning rate begins; None without a schedule."""
        self._unbuilt: tuple[type[Any], dict[str, Any]]
        self._fresh: list[AnyArray] | None = None
        """The variables of the optimizer before the first step; None if the weights decide them."""

    def load(self, architecture: str, compile_json: str, weights: Mapping[str, AnyArray]) -> None:
        """Take the model of the next task; keeps the compiled one if only the weights are new.

        Raises:
            InputError: architecture or compile options are refused.
        """
        files = custom.loaded_files()
        if (architecture, compile_json, files) != self._loaded:
            spec = read_spec(compile_json)
            check_architecture(architecture)
            if (architecture, spec, files) != (self._architecture, self._spec, self._loaded[2]):
                self._forget_model()
            self._architecture, self._spec, self._loaded = architecture, spec, (architecture, compile_json, files)
        elif self._model is not None and bakes_weights(self._model):
            self._forget_model()
        self._start_weights = weights

    def _forget_model(self) -> None:
        self._model, self._loops, self._proximal, self._fresh = None, {}, None, None

    def start(
        self, seed: int, batch_size: int, data: Data, validation: Data, proximal: float = 0.0, first_step: int = 0
    ) -> None:
        """Go back to the loaded weights, a fresh optimizer and the random state of this seed, and take the rows.

        Raises:
            InputError: the model can't be built, or the weights do not fit it.
        """
        import keras

        steps = steps_of(keras.backend.backend())
        if self._model is None:
            keras.utils.set_random_seed(seed)
            model = build(self._architecture)
            set_weights(model, self._start_weights)
            compile_model(model, self._spec)
            model.optimizer.build(model.trainable_variables)
            self._model = model
            self._fresh = None
            self._unbuilt = type(model.optimizer), model.optimizer.get_config()
            same = begins_the_same(model.optimizer)
            self._first_step = go_on(model.optimizer)
            if same:
                self._fresh = [_compact(keras.ops.convert_to_numpy(variable)) for variable in model.optimizer.variables]
        else:
            steps.set_seed(seed)
            self._put_back()
        if self._first_step is not None:
            self._first_step.assign(first_step)

        self._batch_size = batch_size
        self._rows = tuple(steps.resident(array) for array in data)
        self._validation_rows = tuple(steps.resident(array) for array in validation)
        term = self._put_term(proximal)
        form = _form(self._rows), _form(self._validation_rows), len(validation[0]) > 0, term is not None
        if form not in self._loops:
            self._make_variables()
            self._loops[form] = steps.loops(self._model, self._rows, self._validation_rows, term)
        self._train, self._validate = self._loops[form]
        self._model.reset_metrics()

    def place(self, array: AnyArray) -> Any:
        """Put rows for `start` where they are trained on, in memory that is not a file's, to be given again and again.

        The array must not change afterwards.
        """
        import keras

        placed = steps_of(keras.backend.backend()).resident(array)
        return placed.copy() if isinstance(placed, np.ndarray) and not placed.flags.owndata else placed

    def train(self, rows: Rows) -> float:
        return self._run(self._train, self._rows, rows)

    def finish_epoch(self) -> dict[str, float]:
        # As at the end of `fit`: an optimizer that averages weights puts the averages into the model.
        self._model.optimizer.finalize_variable_values(self._model.trainable_variables)
        metrics = self._take_metrics()
        return metrics if self._first_step is None else {**metrics, RATE: self.learning_rate}

    def validate(self, rows: Rows) -> float:
        return self._run(self._validate, self._validation_rows, rows)

    def finish_validation(self) -> dict[str, float]:
        return self._take_metrics()

    def weights(self) -> dict[str, AnyArray]:
        return get_weights(self._model, self._start_weights)

    def state(self) -> dict[str, AnyArray]:
        import keras

        arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in self._variables().items()}
        # What shares the memory of a variable would change with it.
        own = {name: array if array.flags.owndata else array.copy() for name, array in arrays.items()}
        return own | steps_of(keras.backend.backend()).random_state()

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        import keras

        variables = self._variables()
        for name, variable in variables.items():
            form = (str(variable.dtype), tuple(variable.shape))
            if name not in state or (state[name].dtype.name, state[name].shape) != form:
                raise ValueError(f"it has no {name} of {form}")
        for name, variable in variables.items():
            variable.assign(state[name])
        steps_of(keras.backend.backend()).set_random_state(state)

    def _variables(self) -> dict[str, Any]:
        """All that training changes, but the metrics, which begin anew with each epoch."""
        groups = {"model": self._model.variables, "optimizer": self._model.optimizer.variables}
        return {f"{key}/{n}": variable for key, group in groups.items() for n, variable in enumerate(group)}

    def release(self) -> None:
        self._rows = self._validation_rows = ()

    def forget_start(self) -> None:
        """Let go of the weights that the last task began with: the next one brings its own."""
        self._start_weights = {}

    @property
    def learning_rate(self) -> float:
        return float(self._model.optimizer.learning_rate)

    def _make_variables(self) -> None:
        """Losses and metrics make their variables when they are first used, which a compiled function must not do."""
        model, (x, y, *_) = self._model, self._rows
        predictions = model(x[:1], training=False)
        model.compute_loss(x=x[:1], y=y[:1], y_pred=predictions, training=False)
        model.compute_metrics(x[:1], y[:1], predictions)

    def _put_term(self, mu: float) -> Proximal | None:
        """FedProx's term around the weights that the model has now; None without."""
        if not mu:
            return None
        if self._proximal is None:
            self._proximal = Proximal(self._model)
        self._proximal.begin(self._model, mu)
        return self._proximal

    def _run(self, loop: Loop, data: tuple[Any, ...], rows: Rows) -> float:
        loop(data, rows, self._batch_size)
        return float(self._model.get_metrics_result()["loss"])

    def _take_metrics(self) -> dict[str, float]:
        metrics = {name: float(value) for name, value in self._model.get_metrics_result().items()}
        self._model.reset_metrics()
        return {"loss": metrics.pop("loss"), **metrics}

    def _put_back(self) -> None:
        """Put a trained model back into the state of one just built with this seed.

        What is to be copied is what a freshly made model and optimizer hold, so nothing about their insides is assumed.
        """
        model = self._model
        set_weights(model, self._start_weights)
        if self._fresh is not None:
            _copy(self._fresh, model.optimizer.variables)
        else:
            kind, config = self._unbuilt
            fresh_optimizer = kind.from_config(copy.deepcopy(config))
            fresh_optimizer.build(model.trainable_variables)
            go_on(fresh_optimizer)
            _copy(fresh_optimizer.variables, model.optimizer.variables)
        weights = {id(variable) for variable in model.weights}
        others = [variable for variable in model.variables if id(variable) not in weights]
        if others:  # the states of random layers
            fresh = build(self._architecture)
            weights = {id(variable) for variable in fresh.weights}
            _copy([variable for variable in fresh.variables if id(variable) not in weights], others)


def _form(data: tuple[Any, ...]) -> tuple[object, ...]:
    """What a loop is compiled for."""
    return tuple((array.dtype, *array.shape[1:]) for array in data)


def begins_the_same(optimizer: Any) -> bool:
    """Whether the variables of such an optimizer begin the same whatever the weights: not so ScheduleFreeAdamW's."""
    import keras

    made = []
    for number in (1.0, 2.0):
        probe = _another(optimizer)
        probe.build([keras.Variable(np.full((2, 2), number, np.float32), name="probe")])
        made.append([keras.ops.convert_to_numpy(variable) for variable in probe.variables])
    return all(np.array_equal(one, other) for one, other in zip(*made, strict=True))


def _another(optimizer: Any) -> Any:
    return type(optimizer).from_config(optimizer.get_config())


def _compact(array: AnyArray) -> AnyArray:
    """A copy of an array; of one that holds one number throughout, as most of an optimizer's do, one number."""
    if array.size and (array == array.flat[0]).all():
        return np.broadcast_to(array.flat[0], array.shape)
    return array.copy()


def _copy(sources: Iterable[Any], targets: Iterable[Any]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.assign(source)
