"""The Keras 3 backend, on TensorFlow, JAX or PyTorch. A model is compiled once for all its tasks.

Everything that training changes in a model is reset for each task: weights, optimizer, random state, metrics. The
loops that run many steps in one call are in the modules behind steps.py.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lanfit.backends import Device
from lanfit.data.shard import Arrays, Samples
from lanfit.errors import LanfitError, lanfit_error
from lanfit.models import custom
from lanfit.models.architecture import build, check_architecture, first_line
from lanfit.models.compiling import CompileSpec, compile_model, read_spec
from lanfit.models.custom_files import AllowedFile
from lanfit.models.evaluation import check_batch
from lanfit.models.export import write_model
from lanfit.models.runtime import prepare_keras
from lanfit.models.structure import batch_of, flat_outputs, pack_inputs
from lanfit.models.trained_model import TrainedModel
from lanfit.models.weights import bakes_weights, get_weights, set_weights
from lanfit.training.backend import Rows
from lanfit.training.keras.evaluation import Evaluator, as_predictions
from lanfit.training.keras.proximal import Proximal
from lanfit.training.keras.rates import go_on
from lanfit.training.keras.steps import Flat, Loop, steps_of
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model

#: The key of a scheduled learning rate in the history, as in Keras' callbacks.
RATE = "learning_rate"


class KerasBackend:
    """Implements `lanfit.training.backend.Backend` on one of Keras' own backends."""

    def __init__(self, name: str = "tensorflow") -> None:
        self._name = name
        self._evaluator: Evaluator | None = None
        self._loaded: tuple[object, ...] = ("", "", ())
        self._architecture = ""
        self._spec = CompileSpec()
        self._start_weights: Mapping[str, AnyArray] = {}
        self._model: Any = None
        self._loops: dict[object, tuple[Loop, Loop]] = {}
        self._train: Loop
        self._validate: Loop
        self._batch_size: int
        self._rows: Flat
        self._validation_rows: Flat
        self._proximal: Proximal | None = None
        self._first_step: Any = None
        """The variable with the first step of the learning rate schedule; None without a schedule."""
        self._unbuilt: tuple[type[Any], dict[str, Any]]
        self._fresh: list[AnyArray] | None = None
        """The initial variables of the optimizer; None if they depend on the weights."""

    # --- preparation, checks, evaluation, files -----------------------------------------------------------------

    def prepare(self, threads: int, device: str) -> Device:
        return prepare_keras(self._name, threads, device)

    @property
    def versions(self) -> tuple[str, ...]:
        return tuple(str(sys.modules[module].__version__) for module in ("keras", self._name))

    def use_custom(self, files: Sequence[AllowedFile]) -> None:
        custom.use(files)

    def check_model(self, model: Model, server_keras: str) -> None:
        try:
            compile_model(build(model.architecture), read_spec(model.compile))
        except LanfitError as error:
            here = self.versions[0]
            raise lanfit_error("model.other-keras", here=here, there=server_keras, reason=error.message) from error

    def check_batch(self, model: Model, weights: Mapping[str, AnyArray], batch: Samples) -> None:
        check_batch(model.architecture, model.compile, weights, batch)

    def evaluate(self, model: Model, members: Sequence[TrainedModel], rows: Samples) -> dict[str, float]:
        """See `Evaluator.score`. The compiled functions are kept for the next call with the same model."""
        if self._evaluator is None or self._evaluator.model != model:
            self._evaluator = Evaluator(model)
        return self._evaluator.evaluate(members, rows)

    def predict(self, model: Model, inputs: Arrays) -> Mapping[str, AnyArray]:
        import keras

        # Called as a function, without `predict`'s pipeline. A layer may change its own state or draw random numbers
        # even outside of training: both are put back.
        steps, state = steps_of(keras.backend.backend()), self._model.non_trainable_variables
        random, before = steps.random_state(), [np.array(keras.ops.convert_to_numpy(each)) for each in state]
        tensors = [keras.ops.convert_to_tensor(array) for array in inputs.values()]
        try:
            outputs = flat_outputs(self._model(pack_inputs(self._model, tensors), training=False))
            found = [np.array(keras.ops.convert_to_numpy(each), np.float32) for each in outputs]
        finally:
            for variable, value in zip(state, before, strict=True):
                if not np.array_equal(keras.ops.convert_to_numpy(variable), value):
                    variable.assign(value)
            steps.set_random_state(random)
        return as_predictions(model, dict(zip((each.name for each in model.gives), found, strict=True)))

    def write_model(self, path: Path, model: Model, weights: Mapping[str, AnyArray]) -> None:
        try:
            write_model(path, model.architecture, model.compile, weights)
        except (TypeError, ValueError) as error:  # of Keras
            raise ValueError(first_line(error)) from error

    # --- training ---------------------------------------------------------------------------------------------------

    def load(self, architecture: str, compile_json: str, weights: Mapping[str, AnyArray]) -> None:
        """Load the model of the next task; keep the compiled one if only the weights differ.

        Raises:
            InputError: architecture or compile options are not accepted.
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
        self,
        seed: int,
        batch_size: int,
        train: Samples,
        validation: Samples,
        proximal: float = 0.0,
        first_step: int = 0,
    ) -> None:
        """Reset to the loaded weights, a fresh optimizer and the random state of this seed, and set the rows.

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
        self._rows = tuple(steps.resident(array) for array in train.arrays)
        self._validation_rows = tuple(steps.resident(array) for array in validation.arrays)
        term = self._put_term(proximal)
        form = _form(self._rows), _form(self._validation_rows), len(validation) > 0, term is not None
        if form not in self._loops:
            self._make_variables()
            arrange = batch_of(self._model)
            self._loops[form] = steps.loops(self._model, self._rows, self._validation_rows, arrange, term)
        self._train, self._validate = self._loops[form]
        self._model.reset_metrics()

    def place(self, array: AnyArray) -> Any:
        """Copy rows to the device that trains, for any number of calls of `start`. The result does not map a file.

        The array must not change afterwards.
        """
        import keras

        placed = steps_of(keras.backend.backend()).resident(array)
        return placed.copy() if isinstance(placed, np.ndarray) and not placed.flags.owndata else placed

    def train(self, rows: Rows) -> float:
        return self._run(self._train, self._rows, rows)

    def finish_epoch(self) -> dict[str, float]:
        # As at the end of `fit`: an optimizer that averages weights writes the averages to the model.
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
        # A view of a variable would change with it.
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
        """Return all variables that training changes, except metrics, which are reset after each epoch."""
        groups = {"model": self._model.variables, "optimizer": self._model.optimizer.variables}
        return {f"{key}/{n}": variable for key, group in groups.items() for n, variable in enumerate(group)}

    def release(self) -> None:
        self._rows = self._validation_rows = ()

    def forget_start(self) -> None:
        """Release the starting weights of the last task."""
        self._start_weights = {}

    @property
    def learning_rate(self) -> float:
        return float(self._model.optimizer.learning_rate)

    def set_learning_rate(self, rate: float) -> None:
        self._model.optimizer.learning_rate = rate

    def _make_variables(self) -> None:
        """Create the variables of losses and metrics, which must exist before a function is compiled."""
        model = self._model
        x, y, *_ = batch_of(model)(tuple(array[:1] for array in self._rows))
        predictions = model(x, training=False)
        model.compute_loss(x=x, y=y, y_pred=predictions, training=False)
        model.compute_metrics(x, y, predictions)

    def _put_term(self, mu: float) -> Proximal | None:
        """Return FedProx's term around the current weights of the model; None if mu is 0."""
        if not mu:
            return None
        if self._proximal is None:
            self._proximal = Proximal(self._model)
        self._proximal.begin(self._model, mu)
        return self._proximal

    def _run(self, loop: Loop, data: Flat, rows: Rows) -> float:
        loop(data, rows, self._batch_size)
        return float(self._model.get_metrics_result()["loss"])

    def _take_metrics(self) -> dict[str, float]:
        metrics = {name: float(value) for name, value in self._model.get_metrics_result().items()}
        self._model.reset_metrics()
        return {"loss": metrics.pop("loss"), **metrics}

    def _put_back(self) -> None:
        """Reset a trained model to the state of one that was just built with this seed.

        The values are copied from a new model and optimizer, so nothing is assumed about their internals.
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


def _form(data: Flat) -> tuple[object, ...]:
    """Return the shapes and dtypes that a loop is compiled for."""
    return tuple((array.dtype, *array.shape[1:]) for array in data)


def begins_the_same(optimizer: Any) -> bool:
    """Return whether the initial variables of an optimizer do not depend on the weights, as ScheduleFreeAdamW's do."""
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
    """Return a copy of an array; of a constant array, as most of an optimizer's initially are, a scalar."""
    if array.size and (array == array.flat[0]).all():
        return np.broadcast_to(array.flat[0], array.shape)
    return array.copy()


def _copy(sources: Iterable[Any], targets: Iterable[Any]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.assign(source)
