"""`Cluster.fit` as Keras users write it, on one simulated cluster for all tests of this module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lanfit
from lanfit.errors import InputError
from lanfit_server.api.service_messages import RoundDone
from lanfit_server.api.watching import Watcher

pytestmark = pytest.mark.keras

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(96, 2)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lanfit.Cluster]:
    with lanfit.Cluster(simulated=2, pool=1, threads=1, workspace=tmp_path_factory.mktemp("cluster")) as made:
        yield made


def model(optimizer: Any = "adam", loss: Any = "sparse_categorical_crossentropy") -> Any:
    import keras

    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")], name="tiny")
    made.compile(optimizer, loss, metrics=["accuracy"])
    return made


def fast() -> Any:
    import keras

    return keras.optimizers.SGD(0.5)


def test_epochs_alone_are_passes_and_a_refused_callback_leaves_the_cluster_open(cluster: lanfit.Cluster) -> None:
    import keras

    made, stopping = model(fast()), keras.callbacks.EarlyStopping(restore_best_weights=True)
    with pytest.raises(InputError, match="EarlyStopping"):
        cluster.fit(made, X, Y, method="fit", epochs=2, callbacks=[stopping], verbose=0)
    # Metrics of a fresh model are known to callbacks.
    monitors = [keras.callbacks.EarlyStopping(monitor="val_accuracy", patience=9)]
    history = cluster.fit(made, X, Y, 16, 3, validation_data=(X, Y), callbacks=monitors, verbose=0)
    assert [len(history.summary.rounds), len(history.epoch)] == [3, 3]
    assert all(len(client.history["loss"]) == 3 for client in history.clients), "one epoch in each round"
    assert history.params["epochs"] == 3


def test_rounds_and_epochs_are_rounds_of_so_many_epochs(cluster: lanfit.Cluster) -> None:
    history = cluster.fit(model(), X, Y, 16, epochs=2, rounds=3, verbose=0)
    assert len(history.epoch) == 3
    assert all(len(client.history["loss"]) == 6 for client in history.clients)


def test_a_schedule_of_the_learning_rate_continues_over_rounds(cluster: lanfit.Cluster) -> None:
    import keras

    falling = keras.optimizers.schedules.ExponentialDecay(0.5, 3, 0.5)
    made = model(keras.optimizers.SGD(falling))
    history = cluster.fit(made, X, Y, 16, epochs=3, verbose=0)  # three steps in each round
    np.testing.assert_allclose(history.history["learning_rate"], [0.25, 0.125, 0.0625], rtol=1e-6)


def test_arguments_that_keras_drops_and_soft_labels_are_trained_and_evaluated_as_they_are(
    cluster: lanfit.Cluster,
) -> None:
    import keras

    y = (40 * X[:, :1]).astype(np.float32)
    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="numbers")
    made.compile(keras.optimizers.SGD(0.01), keras.losses.Huber(delta=20.0))
    history = cluster.fit(made, X, y, 16, 2, validation_data=(X, y), verbose=0)
    final = keras.models.load_model(Path(cluster.workspace.root) / history.summary.final.model)
    expected = pytest.approx(made.evaluate(X, y, verbose=0), rel=1e-5)
    assert history.summary.final.metrics["loss"] == history.history["val_loss"][-1] == expected
    assert final.evaluate(X, y, verbose=0) == expected

    soft = (1 / (1 + np.exp(-X[:, 0]))).astype(np.float32)
    made = keras.Sequential([keras.Input((2,), name="point"), keras.layers.Dense(1, "sigmoid")], name="soft")
    made.compile(fast(), "binary_crossentropy", metrics=["mae"])
    history = cluster.fit(made, {"point": X}, [soft], 16, 4, validation_data=([X], soft), verbose=0)
    assert history.summary.final.metrics["loss"] == pytest.approx(made.evaluate(X, soft, verbose=0)[0], rel=1e-5)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_early_stopping_that_restores_weights_makes_the_best_round_the_outcome(cluster: lanfit.Cluster) -> None:
    import keras

    made = model(fast())  # it learns Y, and is validated on the opposite: the first round is the best
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    history = cluster.fit(made, X, Y, 16, 9, validation_data=(X, 1 - Y), callbacks=[stopping], verbose=0)
    assert len(history.epoch) == 3
    assert history.summary.final.round == stopping.best_epoch + 1 == 1
    assert made.evaluate(X, 1 - Y, verbose=0)[0] == pytest.approx(history.summary.final.metrics["loss"], rel=1e-6)

    other = keras.callbacks.EarlyStopping(monitor="val_accuracy", patience=2, restore_best_weights=True)
    with pytest.warns(UserWarning, match=r"changed the model at the end of the run: .*final\.keras has other weights"):
        history = cluster.fit(model(fast()), X, Y, 16, 9, validation_data=(X, 1 - Y), callbacks=[other], verbose=0)
    assert history.summary.final.round == 3


def test_with_method_fit_the_model_is_the_outcome_whatever_callbacks_do_at_the_end(cluster: lanfit.Cluster) -> None:
    import keras

    class AtTheEnd(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_end(self, logs: Any = None) -> None:
            self.accuracy = self.model.evaluate(X, Y, verbose=0)[1]

    made, callback = model(fast()), AtTheEnd()
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=0)
    with pytest.warns(UserWarning, match="use patience="):
        history = cluster.fit(
            made, X, Y, 16, 12, method="fit", validation_data=(X, 1 - Y), callbacks=[callback, stopping], verbose=0
        )
    final = keras.models.load_model(Path(cluster.workspace.root) / history.summary.final.model)
    loss, accuracy = made.evaluate(X, Y, verbose=0)
    assert accuracy == callback.accuracy > 0.8
    assert loss == pytest.approx(final.evaluate(X, Y, verbose=0)[0], rel=1e-6)


def test_what_was_trained_before_an_interrupt_is_kept_and_the_cluster_opens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Watcher.round

    def interrupted(watcher: Watcher, reported: RoundDone) -> bool:
        if reported.round == 2:
            raise KeyboardInterrupt
        return whole(watcher, reported)

    made = model(fast())
    # A cluster of its own: processes that are new at the end of a test must be gone.
    with lanfit.Cluster(simulated=2, pool=1, threads=1, workspace=tmp_path) as cluster:
        monkeypatch.setattr(Watcher, "round", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.fit(made, X, Y, 16, 500, verbose=0)
        monkeypatch.undo()
        (run,) = [path.name for path in cluster.workspace.logs.iterdir()]
        ended = lanfit.attach(run, tmp_path, verbose=0)
        assert ended.summary.final is not None
        assert (ended.summary.final.round or 0) >= 2
        for kept, of_the_run in zip(made.get_weights(), ended.model.get_weights(), strict=True):
            np.testing.assert_array_equal(kept, of_the_run)
        assert cluster.fit(made, X, Y, 16, 1, verbose=0).summary.status == "done"
    with pytest.raises(InputError) as closed:
        cluster.fit(made, X, Y)
    assert closed.value.code == "cluster.closed"
