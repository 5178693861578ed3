"""Bad input from the outside: exit 2 within seconds, the cause named, no traceback, nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import Place, flags, free_port, refused

pytestmark = pytest.mark.story


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "work")


def not_a_model(place: Place) -> None:
    (place.root / "model" / "digits.h5").write_text("these are not the weights you are looking for")


def wrong_shape(place: Place) -> None:
    path = place.root / "dataset" / "X" / "digits.csv"
    path.write_text("\n".join(line.rpartition(",")[0] for line in path.read_text().splitlines()) + "\n")


def nan_in_an_npz(place: Place) -> None:
    path = place.root / "dataset" / "X" / "digits.csv"
    x = np.loadtxt(path, delimiter=",", skiprows=1)
    x[16, 2] = np.nan
    np.savez(path.with_suffix(".npz"), x=x)
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "causes"),
    [
        (not_a_model, ["digits.h5"]),
        (wrong_shape, ["63", "8×8×1"]),
        (nan_in_an_npz, ["dataset/X/digits.npz", "row 17", "column 3", "nan"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wrong_files_are_named(place: Place, spoil: Callable[[Place], None], causes: list[str]) -> None:
    spoil(place)
    said = refused(place, *flags(free_port(), 2))
    for cause in causes:
        assert cause in said


@pytest.mark.parametrize(
    ("changes", "causes"),
    [
        ({"batch_size": 2000}, ["2000", "646", "--batch-size"]),
        ({"optimizer": "adm"}, ["adm", "adam"]),
        ({"loss": "mean_square_error"}, ["mean_square_error", "mean_squared_error"]),
        ({"loss": "mean_squared_error", "metrics": "acuracy"}, ["acuracy", "accuracy"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_wrong_flags_are_named(place: Place, changes: dict[str, object], causes: list[str]) -> None:
    said = refused(place, *flags(**{"port": free_port(), "clients": 2, **changes}))
    for cause in causes:
        assert cause in said


def keras_model(path: Path, code: str) -> None:
    """Save a model with plain Keras, in a process of its own."""
    import subprocess
    import sys

    subprocess.run(
        [sys.executable, "-c", f"import sys, keras\n{code}\nmodel.save(sys.argv[1])", path],
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("code", "causes"),
    [
        (
            "model = keras.Sequential([keras.Input((64,)), keras.layers.Lambda(lambda x: x * 2, name='doubling'), "
            "keras.layers.Dense(10)]); model.compile('adam', 'mse')",
            ["Lambda", "doubling"],
        ),
        (
            "@keras.saving.register_keras_serializable('mine')\nclass Odd(keras.layers.Layer):\n"
            "    def call(self, x): return x\n"
            "model = keras.Sequential([keras.Input((64,)), Odd(name='odd_one'), keras.layers.Dense(10)])\n"
            "model.compile('adam', 'mse')",
            ["Odd", "odd_one"],
        ),
    ],
    ids=["Lambda", "custom layer"],
)
@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_models_that_cannot_travel_are_refused_by_name(place: Place, code: str, causes: list[str], ending: str) -> None:
    keras_model(place.root / "model" / f"strange{ending}", code)
    said = refused(place, *flags(free_port(), 2, model=f"strange{ending}"))
    for cause in causes:
        assert cause in said


def test_one_batch_goes_through_the_model_before_anyone_is_asked_to_work(place: Place) -> None:
    """Shapes fit, labels fit: only trying shows that this loss gets no probabilities."""
    code = "model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])\n"
    code += "model.compile('adam', 'sparse_categorical_crossentropy')"
    keras_model(place.root / "model" / "linear.h5", code)
    said = refused(place, *flags(free_port(), 2, model="linear.h5"))
    assert "takes probabilities" in said
    assert 'activation="softmax"' in said
