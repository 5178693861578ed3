"""Datasets, read once into arrays: what is in an element, how many are read, and what is random in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.memory import free_memory, readable_size
from lanfit.mistakes import mistake
from lanfit.text import pluralize

AnyArray = NDArray[Any]
#: Elements become one array in the end, and then there are both for a moment.
_COPIES = 2
#: As Keras has it where nothing is said.
_BATCH = 32
_INFINITE, _UNKNOWN = -1, -2
_PARTS = ("inputs", "targets", "sample weights")


@dataclass(frozen=True)
class Read:
    """What was in a dataset."""

    x: AnyArray
    y: AnyArray | None
    weights: AnyArray | None
    batch: int | None
    """The size of its batches; None if it has none."""
    notes: tuple[str, ...]
    """For people."""
    frozen: str
    """What was drawn at random when it was read; "" if nothing was."""


def dataset_kind(x: Any) -> str | None:
    """What kind of dataset it is, if it is one. Imports nothing: who has made one has imported its module."""
    tensorflow, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    if tensorflow is not None and isinstance(x, tensorflow.data.Dataset):
        return "tf.data.Dataset"
    if keras is not None and isinstance(x, keras.utils.PyDataset):
        return "PyDataset"
    return None


def is_dataset(x: Any) -> bool:
    """Whether it is a dataset, which has its targets in it."""
    return dataset_kind(x) is not None


def only_one(value: Any, names: Sequence[str]) -> Any:
    """What stands alone in a list, or in a dict under the model's own name for it; other values as they are."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, part),) = value.items()
        return part if not names or name in names else value
    if isinstance(value, list | tuple) and len(value) == 1 and hasattr(value[0], "shape") and len(value[0].shape):
        return value[0]
    return value


def read_dataset(
    dataset: Any,
    kind: str,
    rank: int,
    *,
    names: Sequence[Sequence[str]] = ((), (), ()),
    batch: int | None = None,
    steps: int | None = None,
) -> Read:
    """Read a dataset once.

    Args:
        rank: dimensions of the model's input, rows included: tells whether a dataset is batched.
        names: what the model calls its input, its output and what weighs that.
        batch: the size of batches that the user wants, for a dataset that has none.
        steps: how many batches to read; None: all.

    Raises:
        InputError: elements that are no rows, a dataset without an end, or one that memory has no room for.
    """
    columns: list[list[AnyArray]] = []
    batched, size, taken = True, 0, 0
    free = free_memory()
    for number, element in enumerate(_elements(dataset, kind, endless=steps is not None), 1):
        arrays = _arrays(element, kind, names)
        if not columns:
            columns = [[] for _ in arrays]
            # A PyDataset gives batches by its definition.
            batched = kind == "PyDataset" or arrays[0].ndim >= rank
            size = len(arrays[0]) if batched else 0
        if len(arrays) != len(columns):
            what = f"made of {pluralize(len(arrays), 'part')}, and others are of more or fewer"
            raise mistake("fit.elements", kind=kind, what=what)
        for column, array in zip(columns, arrays, strict=True):
            column.append(array)
        taken += sum(array.nbytes for array in arrays)
        if free and _COPIES * taken > free:
            rows = sum(map(len, columns[0])) if batched else number
            raise mistake("fit.too-large", kind=kind, rows=rows, size=readable_size(taken), free=readable_size(free))
        if steps is not None and number >= (steps if batched else steps * (batch or _BATCH)):
            break
    if not columns:
        raise mistake("fit.not-rows", name="x", kind=f"a {kind} without elements", instead="Give one that has rows")
    whole = [np.concatenate(column) if batched else np.stack(column) for column in columns]
    x, y, weights = (*whole, None, None, None)[:3]
    assert x is not None
    notes = []
    read = f"{pluralize(len(x), 'row', grouped=True)} of the {kind} {'was' if len(x) == 1 else 'were'} read"
    if steps is not None:
        notes.append(f"{read} (steps_per_epoch={steps}); every epoch has these.")
    elif _length(dataset, kind) == _UNKNOWN:
        notes.append(f"{read}, whose length was not known.")
    return Read(x, y, weights, size or None, tuple(notes), random_parts(dataset, kind))


def _arrays(element: Any, kind: str, names: Sequence[Sequence[str]]) -> list[AnyArray]:
    """Inputs, targets and weights of an element, as far as it has them."""
    parts = list(element) if isinstance(element, tuple | list) else [element]
    if len(parts) > len(_PARTS):
        raise mistake("fit.elements", kind=kind, what=f"made of {pluralize(len(parts), 'part')}")
    parts = [only_one(part, own) for part, own in zip(parts, names, strict=False)]
    for part, what in zip(parts, _PARTS, strict=False):
        if isinstance(part, Mapping):
            listed = ", ".join(repr(name) for name in part)
            raise mistake("fit.elements", kind=kind, what=f"a dict of {what}: {listed}")
        if isinstance(part, tuple | list):
            raise mistake("fit.elements", kind=kind, what=f"made of {len(part)} {what}")
    return [np.asarray(part) for part in parts if part is not None]


def _length(dataset: Any, kind: str) -> int:
    if kind == "PyDataset":
        return _INFINITE if dataset.num_batches is None else int(dataset.num_batches)
    return int(dataset.cardinality())


def _elements(dataset: Any, kind: str, *, endless: bool) -> Iterator[Any]:
    """All elements.

    Args:
        endless: whether the dataset may have no end.
    """
    length = _length(dataset, kind)
    if length == _INFINITE and not endless:
        raise mistake("fit.endless", kind=kind)
    if kind == "PyDataset":
        numbers = iter(range(sys.maxsize)) if length == _INFINITE else iter(range(length))
        return (dataset[index] for index in numbers)
    elements: Iterator[Any] = dataset.as_numpy_iterator()
    return elements


# --- what is random in a dataset --------------------------------------------------------------------------------


def random_parts(dataset: Any, kind: str) -> str:
    """What draws at random in a dataset, in words; "" where nothing does.

    It looks at the functions that a tf.data.Dataset maps; code in Python, also that of a PyDataset, can't be seen into.
    """
    if kind == "PyDataset":
        return _of_generator(dataset)
    try:
        found = sorted({name for each in _upstream(dataset) for name in _random_operations(each)})
    except Exception:  # noqa: BLE001 - the insides of TensorFlow, which may change: then nothing is said
        return ""
    return ", ".join(found[:3])


#: Of ImageDataGenerator of Keras 2, which some programs bring along: what each image is changed by.
_CHANGES = ("rotation_range", "width_shift_range", "height_shift_range", "zoom_range", "shear_range", "horizontal_flip")


def _of_generator(dataset: Any) -> str:
    made_by = getattr(dataset, "image_data_generator", None)
    changed = [name for name in _CHANGES if np.any(np.asarray(getattr(made_by, name, False)) != _unchanged(name))]
    return ", ".join(changed) if made_by is not None else ""


def _unchanged(name: str) -> Any:
    return [1, 1] if name == "zoom_range" else False


def _upstream(dataset: Any) -> Iterator[Any]:
    waiting, seen = [dataset], 0
    while waiting and seen < 1000:
        each = waiting.pop()
        seen += 1
        yield each
        waiting += each._inputs()


def _random_operations(dataset: Any) -> Iterator[str]:
    for function in dataset._functions():
        graph = function.function.graph.as_graph_def()
        nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
        for node in nodes:
            if "Random" in node.op and not node.op.startswith("RandomDataset") and "Shuffle" not in node.op:
                yield node.op
