"""`Cluster.fit` as Keras users write it, on one simulated cluster for all tests of this module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lanfit
from lanfit.errors import InputError

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


def test_a_schedule_of_the_learning_rate_goes_on_over_rounds(cluster: lanfit.Cluster) -> None:
    import keras

    falling = keras.optimizers.schedules.ExponentialDecay(0.5, 3, 0.5)
    made = model(keras.optimizers.SGD(falling))
    history = cluster.fit(made, X, Y, 16, epochs=3, verbose=0)  # three steps in each round
    np.testing.assert_allclose(history.history["learning_rate"], [0.25, 0.125, 0.0625], rtol=1e-6)


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
