"""Predictions that people follow, with real trainers and a real model process: they are those of the models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.fake_cluster import run_script
from fakes.places import Place
from PIL import Image
from test_row_pictures import opened
from test_shown_rows import Looking, results

from lanfit.data.shard import Samples
from lanfit_server.models.handle import ModelProcess
from lanfit_server.replay.samples import rows_of_run
from lanfit_server.run.events import ConfusionCounted, ModelEvaluated, RowsPredicted, RowsShown
from lanfit_server.session import Session
from lanfit_server.start.simulation import Simulation
from lanfit_server.store.array_source import ArraySource

pytestmark = pytest.mark.keras
RANDOM = np.random.RandomState(7)


class KerasPlace(Place):
    """A workspace with a model of pictures that has layers with a state of their own."""

    def __init__(self, folder: Path) -> None:
        import keras
        from keras import layers

        super().__init__(folder)
        keras.utils.set_random_seed(2)
        net = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dropout(0.4), layers.Flatten()]
        model = keras.Sequential([keras.Input((8, 8, 1)), *net, layers.Dense(3, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        model.save(folder / "model" / "net.keras")
        y = RANDOM.randint(0, 3, 150)
        self.pixels = (RANDOM.randint(0, 60, (150, 8, 8, 1)) + 60 * y.reshape(-1, 1, 1, 1)).astype(np.uint8)
        self.rows = ArraySource.write(folder / "rows.block", Samples.of(self.pixels, y))

    @asynccontextmanager
    async def simulation(self) -> AsyncIterator[Session]:
        self.models: Any = await ModelProcess.start(self.output.log)
        self.host = Simulation(self.workspace, clients=2, pool=1, threads=1, backend="tensorflow", log=self.output.log)
        async with self._session() as session:
            await self.host.open()
            yield session


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KerasPlace:
    async def draw(*what: object) -> None:
        pass

    monkeypatch.setattr("lanfit_server.methods.independent_workshop.draw_chart", draw)
    return KerasPlace(tmp_path)


def test_predictions_are_those_of_the_models_and_change_no_bit(place: KerasPlace) -> None:
    looking = Looking()
    place.watchers = [looking]
    job = {"backend": "tensorflow", "epochs": 4, "normalizer": "zscore", "keep": "last", "threads": 1}

    async def script() -> tuple[Path, Path]:
        async with place.simulation() as session:
            folders = []
            for follows in (True, False):
                looking.follows_predictions = follows
                handle = await session.submit(place.request(**job))
                assert (await handle.ended()).status == "done"
                folders.append(place.workspace.run_folder(handle.run))
            return folders[0], folders[1]

    followed, plain = run_script(script())
    assert results(place, followed) == results(place, plain)
    # Of the last epoch, there are the predictions of the client that trained it, and the server's with its result.
    clients = {each.model: each for each in looking.of(RowsPredicted) if each.at == 4 and not each.final}
    server = {each.model: each for each in looking.of(RowsPredicted) if each.final}
    assert clients.keys() == server.keys() == {"sim-001", "sim-002"}
    for name, each in server.items():
        assert each.at == 4
        assert clients[name].outputs == pytest.approx(each.outputs, abs=1e-5)
    firsts = [each for each in looking.of(RowsPredicted) if each.at == 1]
    assert len(firsts) == 2
    assert firsts[0].outputs != pytest.approx(clients[firsts[0].model].outputs, abs=1e-3)
    # The matrix counts what the metrics measure.
    metrics = {each.client: each.figures for each in looking.of(ModelEvaluated)}
    counted = looking.of(ConfusionCounted)
    assert len(counted) == 2
    for each in counted:
        matrix = np.array(each.matrix, np.float64)
        precision = np.divide(np.diag(matrix), matrix.sum(0), out=np.zeros(3), where=matrix.sum(0) > 0)
        assert metrics[each.model]["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum(), abs=1e-9)
        assert metrics[each.model]["precision"] == pytest.approx(precision.mean(), abs=1e-9)
    # A picture is that of its row.
    [shown] = looking.of(RowsShown)
    row = shown.rows[5]
    pixels = np.array(opened(row.picture))
    assert isinstance(opened(row.picture), Image.Image)
    assert (pixels.reshape(8, 8, 1) == place.pixels).all(axis=(1, 2, 3)).any()
    assert pixels.min() // 60 == int(row.truth)
    assert rows_of_run(followed, [row.id])[0]["picture"] == row.picture
