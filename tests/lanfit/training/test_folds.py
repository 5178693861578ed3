"""Folds: scikit-learn's, every row in exactly one place, and nothing of the held-out rows in the constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from lanfit.data.labels import Target
from lanfit.data.normalize import Normalizer
from lanfit.data.shard import Shard
from lanfit.errors import InputError
from lanfit.models.trained_model import TrainedModel
from lanfit.training.folds import TaskRows, check_folds, plan_fold, rows_of_fold, rows_of_shard
from lanfit.wire.messages import Fold, Model


def model(target: Target, normalizer: str, target_normalizer: str = "none", outputs: int = 3) -> Model:
    return Model("", "", (None, 4), (None, outputs), target, normalizer, target_normalizer)


def shard(rows: int, target: Target) -> dict[str, np.ndarray]:
    random = np.random.default_rng(rows)
    x = random.normal(5, [1, 10, 100, 0], (rows, 4)).astype(np.float32)
    y = random.integers(0, 3, rows) if target is Target.CLASSES else random.normal(1000, 50, (rows, 1))
    return {"x_train": x, "y_train": y}


@settings(deadline=None)
@given(rows=st.integers(20, 200), k=st.integers(2, 6), seed=st.integers(0, 99), classes=st.booleans())
def test_the_folds_are_scikit_learns_for_the_same_seed(rows: int, k: int, seed: int, classes: bool) -> None:
    labels = np.arange(rows) % 3 if classes else None
    if classes:
        theirs = list(StratifiedKFold(k, shuffle=True, random_state=seed).split(np.zeros(rows), labels))
    else:
        theirs = list(KFold(k, shuffle=True, random_state=seed).split(np.zeros(rows)))
    for number, (train, held_out) in enumerate(theirs, 1):
        plan = plan_fold(Fold(number, k, seed, 0.2), rows, labels)
        np.testing.assert_array_equal(plan.held_out, held_out)
        np.testing.assert_array_equal(np.sort(np.concatenate([plan.train, plan.validation])), train)
        assert len(plan.validation) == int(np.ceil(0.2 * len(train)))


def test_the_validation_rows_of_a_fold_differ_from_fold_to_fold_and_not_from_call_to_call() -> None:
    plans = [plan_fold(Fold(number, 3, 1, 0.3), 60, None) for number in (1, 2, 3)]
    assert len({plan.validation.tobytes() for plan in plans}) == 3
    np.testing.assert_array_equal(plans[0].validation, plan_fold(Fold(1, 3, 1, 0.3), 60, None).validation)


def made_of_fold(of: Model, rows: dict[str, Any], fold: Fold) -> TaskRows:
    return rows_of_fold(of, Shard.of_block(of, {**TrainedModel({}).constants(), **rows}), fold)


@pytest.mark.parametrize(("name", "scaler"), [("zscore", StandardScaler()), ("minmax", MinMaxScaler())])
def test_a_normalizer_is_fitted_on_the_folds_own_training_rows(name: str, scaler: StandardScaler) -> None:
    rows, fold = shard(60, Target.CLASSES), Fold(2, 4, 7, 0.25)
    made = made_of_fold(model(Target.CLASSES, name), rows, fold)
    plan = plan_fold(fold, 60, rows["y_train"])
    x = rows["x_train"].astype(np.float64)
    scaler.fit(x[plan.train])
    np.testing.assert_allclose(made.train.x, scaler.transform(x[plan.train]), atol=1e-5)
    np.testing.assert_allclose(made.validation.x, scaler.transform(x[plan.validation]), atol=1e-4)
    assert made.held_out is not None
    np.testing.assert_array_equal(made.held_out.x, rows["x_train"][plan.held_out])
    np.testing.assert_array_equal(made.train.y, rows["y_train"][plan.train])


def test_a_fold_fits_the_normalizer_of_its_targets_too() -> None:
    rows, fold = shard(50, Target.VALUES), Fold(1, 5, 0, 0.1)
    made = made_of_fold(model(Target.VALUES, "none", "zscore", outputs=1), rows, fold)
    plan = plan_fold(fold, 50, None)
    y = rows["y_train"][plan.train]
    np.testing.assert_allclose(made.train.y, (y - y.mean(axis=0)) / y.std(axis=0), atol=1e-5)
    assert made.normalizers.y.name == "zscore"
    assert made.held_out is not None
    np.testing.assert_array_equal(made.held_out.y, rows["y_train"][plan.held_out])


def test_a_whole_shard_takes_the_constants_that_came_with_it() -> None:
    rows = shard(30, Target.CLASSES)
    constants = Normalizer("zscore", np.arange(4.0), np.full(4, 0.5)).constants()
    none = Normalizer("none", np.zeros(()), np.ones(())).constants("target_")
    empty = {"x_validation": np.empty((0, 4), np.float32), "y_validation": np.empty(0, np.int64)}
    of = model(Target.CLASSES, "zscore")
    made = rows_of_shard(of, Shard.of_block(of, {**rows, **empty, **constants, **none}))
    np.testing.assert_allclose(made.train.x, (rows["x_train"] - np.arange(4.0)) * 0.5, rtol=1e-6)
    assert len(made.validation.x) == 0
    assert made.held_out is None


def test_too_few_rows_of_a_class_are_named_by_their_word() -> None:
    classes = np.array([0] * 20 + [1] * 3)
    with pytest.raises(InputError, match=r"5 folds need 5 rows of every class, but there are fewer of yes \(3 rows\)"):
        check_folds(Fold(1, 5, 0, 0.1), 23, classes, 2, ("no", "yes"))


def test_a_batch_must_fit_into_a_folds_training_rows() -> None:
    check_folds(Fold(1, 4, 0, 0.5), 16, None, 6, None)
    with pytest.raises(InputError, match="a batch of 7 rows is larger than the 6 training rows of a fold"):
        check_folds(Fold(1, 4, 0, 0.5), 16, None, 7, None)
