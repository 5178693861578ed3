"""The loss tells the form of the target; labels are checked row by row; Keras gets what its losses take."""

import numpy as np
import pytest

from lanfit.data.labels import Target, arrange, check_labels, class_ids, make_target, target_of
from lanfit.data.split import NO_CLASS
from lanfit.errors import InputError

NO_X = np.empty((0,), np.float32)


@pytest.mark.parametrize(
    ("loss", "output", "target"),
    [
        ("sparse_categorical_crossentropy", (None, 10), Target.CLASSES),
        ("SparseCategoricalCrossentropy", (None, 10), Target.CLASSES),
        ("categorical_crossentropy", (None, 10), Target.ONE_HOT),
        ("CategoricalFocalCrossentropy", (None, 10), Target.ONE_HOT),
        ("binary_crossentropy", (None, 1), Target.BINARY),
        ("BinaryFocalCrossentropy", (None, 1), Target.BINARY),
        ("bce", (None, 1), Target.BINARY),
        ("binary_crossentropy", (None, 5), Target.VALUES),
        ("binary_crossentropy", (None, None, 1), Target.VALUES),
        ("mean_squared_error", (None, 1), Target.VALUES),
        ("mse", (None, 10), Target.VALUES),
        ("MeanSquaredError", (None, 10), Target.VALUES),
    ],
)
def test_the_loss_tells_the_target(loss, output, target):
    assert target_of(loss, "XY", output) is target
    assert target_of(loss, "XX", output) is Target.INPUT


def test_only_cross_entropy_targets_are_classification():
    assert [t for t in Target if t.is_classification] == [Target.CLASSES, Target.ONE_HOT, Target.BINARY]
    assert Target("one_hot") is Target.ONE_HOT


@pytest.mark.parametrize("y", [np.array([2, 0, 1]), np.array([[2], [0], [1]]), np.array([2.0, 0.0, 1.0], np.float32)])
def test_labels_in_any_spelling_become_what_the_loss_takes(y):
    classes = make_target(Target.CLASSES, y, NO_X, (None, 3))
    assert (classes.dtype, classes.tolist()) == (np.int32, [2, 0, 1])
    one_hot = make_target(Target.ONE_HOT, y, NO_X, (None, 3))
    assert (one_hot.dtype, one_hot.tolist()) == (np.float32, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    for target in (Target.CLASSES, Target.ONE_HOT):
        check_labels(target, y, (None, 3), "y.csv")
        assert class_ids(target, y).tolist() == [2, 0, 1]


def test_rows_that_are_one_hot_already_are_taken_as_they_are():
    y = np.eye(3, dtype=np.uint8)[[2, 0, 1]]
    check_labels(Target.ONE_HOT, y, (None, 3), "y.npz")
    assert make_target(Target.ONE_HOT, y, NO_X, (None, 3)).tolist() == y.tolist()
    assert make_target(Target.ONE_HOT, y, NO_X, (None, 3)).dtype == np.float32
    assert class_ids(Target.ONE_HOT, y).tolist() == [2, 0, 1]


@pytest.mark.parametrize("y", [np.array([0, 1, 1]), np.array([[0], [1], [1]]), np.array([False, True, True])])
def test_yes_or_no_labels_become_a_column_of_float32(y):
    check_labels(Target.BINARY, y, (None, 1), "y.csv")
    made = make_target(Target.BINARY, y, NO_X, (None, 1))
    assert (made.dtype, made.tolist()) == (np.float32, [[0], [1], [1]])
    assert class_ids(Target.BINARY, y).tolist() == [0, 1, 1]


def test_values_take_the_shape_of_the_models_output():
    assert make_target(Target.VALUES, np.arange(3), NO_X, (None, 1)).tolist() == [[0], [1], [2]]
    images = make_target(Target.VALUES, np.arange(24.0).reshape(2, 12), NO_X, (None, 3, 4, 1))
    assert (images.shape, images.dtype) == ((2, 3, 4, 1), np.float32)
    assert class_ids(Target.VALUES, np.arange(3)) is None


def test_the_target_of_order_xx_is_the_normalized_input_in_the_models_output_shape():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    made = make_target(Target.INPUT, np.empty((2, 0)), x, (None, 12))
    np.testing.assert_array_equal(made, x.reshape(2, 12))
    check_labels(Target.INPUT, np.empty((2, 0)), (None, 12), "nothing")
    with pytest.raises(InputError, match=r"3×4×1.*13"):
        make_target(Target.INPUT, np.empty((2, 0)), x, (None, 13))


def test_labels_of_many_places_a_row_keep_their_places():
    y = np.array([[0, 1, 2, 2], [2, 1, 0, 0]])
    check_labels(Target.CLASSES, y, (None, None, 3), "y.npz")
    assert make_target(Target.CLASSES, y[:, :, None], NO_X, (None, 4, 3)).tolist() == y.tolist()
    assert make_target(Target.ONE_HOT, y, NO_X, (None, 4, 3)).argmax(axis=-1).tolist() == y.tolist()
    assert class_ids(Target.CLASSES, y) is None


def test_slices_give_the_same_as_all_rows():
    y = np.array([3, 1, 4, 1, 0, 2])
    for target in (Target.CLASSES, Target.ONE_HOT):
        whole = make_target(target, y, NO_X, (None, 5))
        np.testing.assert_array_equal(make_target(target, y[2:4], NO_X, (None, 5)), whole[2:4])


@pytest.mark.parametrize(
    ("target", "y", "output", "message"),
    [
        (
            Target.CLASSES,
            [1, 12],
            (None, 10),
            r"Y/part-2.csv, row 2: the label is 12, but the model has 10 outputs \(0-9\)",
        ),
        (Target.ONE_HOT, [3], (None, 3), r"Y/part-2.csv, row 1: the label is 3, but the model has 3 outputs \(0-2\)"),
        (Target.CLASSES, [0, 1, -1], (None, 10), r"Y/part-2.csv, row 3: the label -1 is negative"),
        (Target.CLASSES, [0, 1.5], (None, 10), r"Y/part-2.csv, row 2: the label 1.5 is not an integer"),
        (Target.CLASSES, [0, np.nan], (None, 10), r"Y/part-2.csv, row 2: nan is not a finite float32 number"),
        (Target.VALUES, [[0], [np.inf]], (None, 1), r"Y/part-2.csv, row 2: inf is not a finite float32 number"),
        (Target.BINARY, [0, 1, 2], (None, 1), r"Y/part-2.csv, row 3: the label is 2, but this loss takes only 0 and 1"),
        (Target.BINARY, [1, -1], (None, 1), r"Y/part-2.csv, row 2: the label is -1, but this loss takes only 0 and 1"),
        (Target.ONE_HOT, [[1, 0], [1, 1]], (None, 2), r"Y/part-2.csv, row 2: \[1, 1\] is not one-hot"),
        (Target.ONE_HOT, [[0.5, 0.5], [2, -1]], (None, 2), r"row 2: .* is not one-hot"),
        (
            Target.CLASSES,
            [[1, 0], [0, 1]],
            (None, 2),
            r"Y/part-2.csv has rows of 2, but the model and the loss need one label",
        ),
        (
            Target.ONE_HOT,
            [[1, 0, 0]],
            (None, 2),
            r"rows of 3, but the model and the loss need one label, or 2 one-hot values",
        ),
        (
            Target.VALUES,
            [[1, 2, 3]],
            (None, 2),
            r"rows of 3, but the model and the loss need 2, the shape of the model's output",
        ),
        (
            Target.BINARY,
            [[0, 1]],
            (None, 1),
            r"rows of 2, but the model and the loss need 1, the shape of the model's output",
        ),
        (Target.CLASSES, [[0, 5]], (None, 2, 3), r"Y/part-2.csv, row 1: the label is 5"),
    ],
)
def test_what_is_wrong_with_a_label_is_named_with_file_and_row(target, y, output, message):
    with pytest.raises(InputError, match=message) as caught:
        check_labels(target, np.array(y), output, "Y/part-2.csv")
    assert caught.value.hint


def test_labels_need_a_number_of_outputs():
    with pytest.raises(InputError, match="number of outputs is not fixed") as caught:
        make_target(Target.ONE_HOT, np.array([0, 1]), np.zeros((2, 1), np.float32), (None, None))
    assert caught.value.code == "labels.open-outputs"


@pytest.mark.parametrize("target", [Target.CLASSES, Target.ONE_HOT, Target.BINARY])
def test_the_largest_label_of_any_integer_type_is_compared_rightly(target):
    output = (None, 1) if target is Target.BINARY else (None, 200)
    for dtype in (np.int8, np.uint8, np.uint64):
        y = np.array([1, np.iinfo(dtype).max], dtype)
        if dtype is np.int8 and target is not Target.BINARY:
            check_labels(target, y, output, "y")
        else:
            with pytest.raises(InputError, match=f"y, row 2: the label (is )?{y[1]}"):
                check_labels(target, y, output, "y")


def test_arranging_does_not_copy():
    y = np.arange(4)[:, None]
    assert np.shares_memory(arrange(Target.CLASSES, y, (None, 4)), y)


@pytest.mark.keras
@pytest.mark.parametrize(
    ("loss", "output", "y"),
    [
        ("sparse_categorical_crossentropy", 3, [0, 2, 1, 1]),
        ("categorical_crossentropy", 3, [0, 2, 1, 1]),
        ("categorical_focal_crossentropy", 3, [0, 2, 1, 1]),
        ("binary_crossentropy", 1, [0, 1, 1, 0]),
        ("binary_focal_crossentropy", 1, [0, 1, 1, 0]),
        ("binary_crossentropy", 2, [[0, 1], [1, 1], [0, 0], [1, 0]]),
        ("mean_squared_error", 1, [0.5, 1, 2, 3]),
    ],
)
def test_keras_takes_every_target_that_is_made_and_knows_every_name(loss, output, y):
    import keras

    shape = (None, output)
    target = target_of(loss, "XY", shape)
    assert target_of(type(keras.losses.get(keras.losses.get(loss).__name__)).__name__, "XX", shape) is Target.INPUT
    made = make_target(target, np.array(y), NO_X, shape)
    predicted = np.full((4, output), 1 / output / 1.5, np.float32)
    values = keras.ops.convert_to_numpy(keras.losses.get(loss)(made, predicted))
    assert values.shape == (4,)
    assert np.isfinite(values).all()


def test_a_softmax_over_two_outputs_decides_between_classes_even_with_a_binary_loss():
    two = (None, 2)
    assert target_of("binary_crossentropy", "XY", two) is Target.VALUES
    assert target_of("binary_crossentropy", "XY", two, is_softmax=True) is Target.ONE_HOT
    assert target_of("binary_crossentropy", "XY", (None, 1), is_softmax=True) is Target.BINARY
    assert target_of("mean_squared_error", "XY", two, is_softmax=True) is Target.VALUES


@pytest.mark.parametrize("ignored", [-1, 255])
def test_a_label_that_the_loss_ignores_may_be_any_number_and_no_other_may(ignored):
    y = np.array([0, 1, ignored, 2])
    check_labels(Target.CLASSES, y, (None, 3), "y.csv", ignored=ignored)
    with pytest.raises(InputError):
        check_labels(Target.CLASSES, y, (None, 3), "y.csv")
    with pytest.raises(InputError, match=r"row 1"):
        check_labels(Target.CLASSES, y + 7, (None, 3), "y.csv", ignored=ignored + 7)


def test_a_label_that_the_loss_leaves_out_is_no_class():
    assert class_ids(Target.CLASSES, np.array([2, 255, 1]), 255).tolist() == [2, NO_CLASS, 1]
    assert class_ids(Target.CLASSES, np.array([[2], [-1], [1]]), -1).tolist() == [2, NO_CLASS, 1]
    assert class_ids(Target.CLASSES, np.array([2, 255, 1])).tolist() == [2, 255, 1]
