"""Keras callbacks in `Cluster.fit`: which are refused before anything begins, and which warnings are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.errors import InputError
from lanfit_server.api.callbacks import check_callbacks, listed, make_metrics, read_at_epochs, warn

pytestmark = pytest.mark.keras


def model(*metrics: Any, loss: str = "sparse_categorical_crossentropy") -> Any:
    import keras

    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "softmax")])
    made.compile("adam", loss, metrics=list(metrics) or ["accuracy"])
    return made


def refused(callback: Any, method: str = "fit", of: Any = None) -> InputError:
    with pytest.raises(InputError) as wrong:
        check_callbacks([callback], of or model(), method)
    return wrong.value


def test_early_stopping_that_restores_weights_is_refused_with_method_fit() -> None:
    import keras

    stopping = keras.callbacks.EarlyStopping(patience=7, restore_best_weights=True)
    wrong = refused(stopping)
    assert wrong.code == "fit.weights-at-epochs"
    assert "EarlyStopping uses the weights of each epoch" in wrong.message
    assert 'patience=7 and keep="best"' in wrong.hint
    check_callbacks([stopping], model(), "federated")
    check_callbacks([keras.callbacks.EarlyStopping(patience=7)], model(), "fit")


def test_callbacks_that_save_weights_are_refused_with_method_fit(tmp_path: Path) -> None:
    import keras

    saving = {
        "ModelCheckpoint": keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        "BackupAndRestore": keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        "TensorBoard": keras.callbacks.TensorBoard(str(tmp_path), histogram_freq=1),
    }
    for name, callback in saving.items():
        wrong = refused(callback)
        assert wrong.code == "fit.weights-at-epochs"
        assert f"the callback {name} " in wrong.message
        assert 'method="federated"' in wrong.hint
        check_callbacks([callback], model(), "federated")


def test_callbacks_of_keras_that_read_no_weights_are_taken(tmp_path: Path) -> None:
    import keras

    kinds = keras.callbacks
    taken = [
        kinds.CSVLogger(tmp_path / "log.csv"),
        kinds.History(),
        kinds.LearningRateScheduler(lambda epoch: 0.1),
        kinds.ReduceLROnPlateau(),
        kinds.RemoteMonitor(),
        kinds.TensorBoard(str(tmp_path)),
        kinds.TerminateOnNaN(),
        kinds.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
    ]
    check_callbacks(taken, model(), "fit")
    check_callbacks(taken, model(), "kfold")


def test_own_callbacks_that_read_weights_at_epochs_are_refused_with_method_fit() -> None:
    import keras

    trained = model()

    def score(rows: Any) -> Any:
        return trained.evaluate(rows, verbose=0)

    class Deep(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.keep()

        def keep(self) -> None:
            self.kept = self.model.get_weights()

    class AtTheEnd(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.last = logs

        def on_train_end(self, logs: Any = None) -> None:
            self.kept = self.model.get_weights()

    assert read_at_epochs(Deep()) == "get_weights"
    assert read_at_epochs(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: score(np.ones((1, 2))))) == (
        "evaluate"
    )
    assert read_at_epochs(AtTheEnd()) is None
    assert "in on_train_end" in refused(Deep()).hint


@pytest.mark.parametrize("metric", ["accuracy", "sparse_categorical_accuracy"])
def test_a_monitor_of_a_compiled_metric_is_known_before_the_first_epoch(metric: str) -> None:
    import keras

    kinds = keras.callbacks
    for kind in (kinds.EarlyStopping, kinds.ReduceLROnPlateau):
        fresh, callback = model(metric), kind(monitor=f"val_{metric}")
        before = callback.min_delta
        check_callbacks([callback], fresh, "federated")
        assert callback.min_delta == before, "nothing of the callback was changed"
        callback.set_model(fresh)
        callback._set_monitor_op()
        assert callback.monitor_op is keras.ops.greater
    one_hot = model("accuracy", keras.metrics.AUC(name="prc"), loss="categorical_crossentropy")
    check_callbacks([kinds.EarlyStopping(monitor="val_prc", mode="auto")], one_hot, "fit")


def test_a_monitor_that_keras_can_not_monitor_is_refused_and_the_advice_works() -> None:
    import keras

    callback = keras.callbacks.EarlyStopping(monitor="val_f1")
    wrong = refused(callback, "federated")
    assert wrong.code == "fit.monitor"
    assert "EarlyStopping has monitor='val_f1'" in wrong.message
    assert 'mode="max"' in wrong.hint
    check_callbacks([keras.callbacks.EarlyStopping(monitor="val_f1", mode="max")], model(), "federated")


def test_making_metrics_leaves_nothing_counted() -> None:
    import keras

    made = model("accuracy", keras.metrics.MeanSquaredError(), loss="categorical_crossentropy")
    make_metrics(made)
    assert [metric.name for metric in made.metrics[1].metrics] == ["accuracy", "mean_squared_error"]
    assert all(not np.any(variable.numpy()) for variable in made.metrics_variables)


def test_swapping_averages_is_refused_and_leaving_it_out_is_advised() -> None:
    import keras

    wrong = refused(keras.callbacks.SwapEMAWeights(), "federated")
    assert wrong.code == "fit.swap-ema"
    assert "Leave it out" in wrong.hint


def test_hooks_that_are_not_called_are_named_in_a_warning() -> None:
    import keras

    class Batches(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...

    class Tests(keras.callbacks.Callback):  # type: ignore[misc]
        def on_test_begin(self, logs: Any = None) -> None: ...

    with pytest.warns(UserWarning, match="batch hooks of callbacks are not called on a cluster: Batches"):
        warn([Batches()])
    with pytest.warns(UserWarning, match="on_test_begin and on_test_end of callbacks are not called.*: Tests"):
        warn([Tests()])
    with pytest.warns(UserWarning, match="learning rate LearningRateScheduler can't change.*schedule"):
        warn([keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)])


def test_callbacks_are_taken_one_by_one_in_a_list_or_in_a_callback_list() -> None:
    import keras

    one = keras.callbacks.History()
    assert listed(None) == []
    assert listed(one) == listed([one]) == listed((one,)) == [one]
    assert one in listed(keras.callbacks.CallbackList([one]))
