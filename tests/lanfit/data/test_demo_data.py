"""The sample data in dataset/ is what dataset/prepare.py makes, and what lanfit reads."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from data_requests import data_request
from sklearn.datasets import load_digits

from lanfit.data.labels import Target
from lanfit.data.prepare import prepare

DATASET = Path(__file__).parents[3] / "dataset"


@pytest.mark.parametrize("name", ["X/digits.csv", "Y/digits.csv"])
def test_the_committed_files_are_what_the_script_writes(tmp_path, name):
    spec = importlib.util.spec_from_file_location("dataset_prepare", DATASET / "prepare.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.write_digits(tmp_path)
    assert (tmp_path / name).read_bytes() == (DATASET / name).read_bytes()


def test_the_digits_become_two_shards_of_719_and_718_rows():
    prepared = prepare(
        data_request(
            x_dir=DATASET / "X",
            y_dir=DATASET / "Y",
            input_shape=(None, 8, 8, 1),
            output_shape=(None, 10),
            target=Target.CLASSES,
            shards=2,
            batch_size=32,
            test_split=0.2,
            validation_split=0.1,
            normalizer="minmax",
            seed=0,
        )
    )
    assert [len(s.train.x) + len(s.validation.x) for s in prepared.shards] == [719, 718]
    assert (prepared.rows, prepared.train, prepared.validation, prepared.test) == (1797, 1293, 144, 360)
    assert prepared.notes == ("rows of 64 values are read as 8×8×1, the model's input",)
    assert prepared.warnings == ()
    digits = load_digits()
    known = {
        (image.astype(np.float32).tobytes(), label) for image, label in zip(digits.data, digits.target, strict=True)
    }
    for shard in prepared.shards:
        for image, label in zip(shard.train.x, shard.train.y, strict=True):
            assert (image.tobytes(), label) in known
