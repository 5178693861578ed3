"""Keras callbacks on a cluster: those that would behave differently than in Keras are rejected, or cause a warning.

All of it happens before anything begins. Callbacks run in the program; batches and validation run on the clients, and
only rounds bring weights to the program before the run has ended.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any

from lanfit.errors import lanfit_error
from lanfit_server.methods.registry import METHODS

_BATCH_HOOKS = tuple(
    f"on_{what}batch_{when}" for what in ("", "train_", "test_", "predict_") for when in ("begin", "end")
)
_TEST_HOOKS = ("on_test_begin", "on_test_end")
_EPOCH_HOOKS = ("on_epoch_begin", "on_epoch_end")
#: Callbacks that set the learning rate of the local model; clients train with their own optimizers.
_OF_RATES = ("LearningRateScheduler", "ReduceLROnPlateau")
#: Methods that use a model's weights: a callback that calls them at the end of an epoch needs those of the epoch.
_OF_WEIGHTS = frozenset(
    {
        "get_weights",
        "set_weights",
        "weights",
        "trainable_weights",
        "trainable_variables",
        "non_trainable_variables",
        "non_trainable_weights",
        "save",
        "save_weights",
        "load_weights",
        "export",
        "predict",
        "predict_on_batch",
        "predict_step",
        "evaluate",
        "test_on_batch",
        "test_step",
    }
)
#: Keras' own callbacks that read weights only if configured to.
_SWITCHES: dict[str, Callable[[Any], bool]] = {
    "EarlyStopping": lambda callback: bool(callback.restore_best_weights),
    "TensorBoard": lambda callback: bool(callback.histogram_freq or callback.embeddings_freq),
}
_NO_WEIGHTS = 'use method="federated", where the model has the weights of every round'
_INSTEAD: dict[str, Callable[[Any], str]] = {
    "EarlyStopping": lambda callback: f'Leave it out and pass patience={callback.patience} and keep="best"',
    "ModelCheckpoint": lambda callback: 'Leave it out, pass keep="best" to fit, and save the model after fit',
    "BackupAndRestore": lambda callback: "Leave it out: clients write checkpoints themselves",
    "TensorBoard": lambda callback: "Pass histogram_freq=0 and embeddings_freq=0 to it",
}


def listed(callbacks: Any) -> list[Any]:
    """Return the `callbacks` argument of `fit` as a list."""
    import keras

    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    if isinstance(callbacks, list | tuple):
        return list(callbacks)
    return [] if callbacks is None else [callbacks]


def check_callbacks(callbacks: Sequence[Any], model: Any, method: str) -> None:
    """Reject callbacks that would end the run, or save or restore weights that are not those of the epoch.

    Args:
        model: built and compiled; its metrics are made known to Keras, as the first batch of its own `fit` does.

    Raises:
        InputError: one can't be used; it is named, with what to do.
    """
    import keras

    if any(hasattr(each, "monitor") for each in callbacks):
        make_metrics(model)
    for each in callbacks:
        name = type(each).__name__
        if isinstance(each, keras.callbacks.SwapEMAWeights):
            raise lanfit_error("fit.swap-ema")
        if not METHODS[method].in_rounds and (what := read_at_epochs(each)) is not None:
            instead = _INSTEAD.get(name, lambda callback: "Do it in on_train_end, or after fit")(each)
            raise lanfit_error(
                "fit.weights-at-epochs", callback=name, what=what, method=method, instead=f"{instead}; or {_NO_WEIGHTS}"
            )
        _check_monitor(each, model)


def keeps_best(callbacks: Sequence[Any]) -> bool:
    """Return whether EarlyStopping restores the weights of the round with the lowest val_loss at the end."""
    import keras

    return any(
        each.restore_best_weights
        and (each.monitor, each.baseline, each.min_delta, each.start_from_epoch) == ("val_loss", None, 0, 0)
        and each.mode in ("auto", "min")
        for each in callbacks
        if isinstance(each, keras.callbacks.EarlyStopping)
    )


def make_metrics(model: Any) -> None:
    """Let Keras create the compiled metrics of a model, before which it does not know the direction of improvement."""
    from keras import ops

    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1 or model.metrics_names == []:
        return
    shape = tuple(size or 1 for size in outputs[0].shape)
    loss = model.loss if isinstance(model.loss, str) else getattr(model.loss, "name", None) or ""
    of_classes = "sparse" in str(loss)
    y = ops.zeros(shape[:-1], "int32") if of_classes else ops.zeros(shape, "float32")
    try:
        model.compute_metrics(None, y, ops.zeros(shape, "float32"))
    except Exception:  # noqa: BLE001 - a metric that does not accept such rows; reported below if it is monitored
        return
    model.reset_metrics()


def _check_monitor(callback: Any, model: Any) -> None:
    """Reject what Keras itself would reject at the end of the first epoch."""
    if getattr(callback, "_set_monitor_op", None) is None or callback.monitor_op is not None:
        return
    probe = copy.copy(callback)  # it changes its own state
    probe.set_model(model)
    try:
        probe._set_monitor_op()
    except ValueError:
        raise lanfit_error("fit.monitor", callback=type(callback).__name__, monitor=callback.monitor) from None


# --- effects of callbacks ------------------------------------------------------------------------------------------


def read_at_epochs(callback: Any) -> str | None:
    """Return what a callback does with weights at the ends of epochs, e.g. "save"; None: nothing detected.

    It looks at the code of the hooks, and of what they call of the same class or module.
    """
    import keras

    name = type(callback).__name__
    if type(callback).__module__.startswith("keras.") and name in _SWITCHES and not _SWITCHES[name](callback):
        return None
    hooks = [getattr(callback, hook, None) for hook in _EPOCH_HOOKS]
    base = [getattr(keras.callbacks.Callback, hook) for hook in _EPOCH_HOOKS]
    waiting = [hook for hook, default in zip(hooks, base, strict=True) if _function(hook) is not default]
    seen: set[CodeType] = set()
    while waiting:
        function = _function(waiting.pop())
        code = getattr(function, "__code__", None)
        if code is None or code in seen:
            continue
        seen.add(code)
        names = set(_names(code))
        if found := sorted(names & _OF_WEIGHTS):
            return found[0]
        waiting += _called(callback, function, names)
    return None


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _called(callback: Any, function: Any, names: set[str]) -> list[Any]:
    """Yield functions that a function may call: methods of the callback, and functions of its module."""
    own = [getattr(type(callback), name, None) for name in names]
    around = [function.__globals__.get(name) for name in names]
    around += [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    module = function.__module__
    return [*own, *(each for each in around if getattr(each, "__module__", None) == module)]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def warn(callbacks: Sequence[Any]) -> None:
    """Warn once about what callbacks do without effect on a cluster."""
    hooked = _with_hooks(callbacks, _BATCH_HOOKS)
    if hooked:
        _log(f"batch hooks of callbacks are not called on a cluster: {', '.join(hooked)}")
    tested = _with_hooks(callbacks, _TEST_HOOKS)
    if tested:
        _log(f"on_test_begin and on_test_end of callbacks are not called on a cluster: {', '.join(tested)}")
    rates = [name for each in callbacks if (name := type(each).__name__) in _OF_RATES]
    if rates:
        _log(
            f"clients train with their own optimizers, whose learning rate {', '.join(rates)} can't change: compile "
            "with a schedule of keras.optimizers.schedules"
        )


def _with_hooks(callbacks: Sequence[Any], hooks: Sequence[str]) -> list[str]:
    import keras

    return [type(each).__name__ for each in callbacks if _has_hooks(each, keras.callbacks.Callback, hooks)]


def _has_hooks(callback: Any, base: type[Any], hooks: Sequence[str]) -> bool:
    # The batch hooks of Keras' own callbacks that count epochs do nothing.
    if "epoch" in (getattr(callback, "save_freq", None), getattr(callback, "update_freq", None)):
        return False
    return any(_function(getattr(callback, name, None)) is not getattr(base, name, None) for name in hooks)


def _function(method: Any) -> Any:
    return getattr(method, "__func__", method)


def _log(text: str) -> None:
    warnings.warn(text, stacklevel=6)
