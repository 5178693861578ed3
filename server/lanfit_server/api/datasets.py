"""Reads datasets once into arrays, and detects randomness in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lanfit.core.memory import free_memory, readable_size
from lanfit.core.text import pluralize
from lanfit.errors import lanfit_error
from lanfit.wire.tasks import X, Y

AnyArray = NDArray[Any]
#: Elements are concatenated at the end, so that both copies exist for a moment.
_COPIES = 2
#: The default of Keras.
_BATCH = 32
_INFINITE, _UNKNOWN = -1, -2
_PARTS = ("inputs", "targets", "sample weights")


@dataclass(frozen=True)
class Names:
    """The names of a model's inputs and outputs; empty: unknown, and there is one."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    takes_dict: bool = False
    """Whether the model was built on a dict of inputs, which have no order; likewise `gives_dict`."""
    gives_dict: bool = False

    @property
    def several(self) -> bool:
        """Return whether arrays need names."""
        return len(self.inputs) > 1 or len(self.outputs) > 1

    @property
    def of_inputs(self) -> tuple[str, ...]:
        """The names of inputs in shards; likewise `of_outputs`."""
        return self.inputs if self.several else (X,)

    @property
    def of_outputs(self) -> tuple[str, ...]:
        return self.outputs if self.several else (Y,)


NO_NAMES = Names()


@dataclass(frozen=True)
class Read:
    """The content of a dataset."""

    inputs: Mapping[str, AnyArray]
    targets: Mapping[str, AnyArray]
    weights: AnyArray | None
    batch: int | None
    """The batch size; None if it is not batched."""
    notes: tuple[str, ...]
    """A description for people."""
    frozen: str
    """The random part of it when it was read; "" if there is none."""


def dataset_kind(x: Any) -> str | None:
    """Return the kind of a dataset; "" if it is none. Imports nothing: its module is imported if it exists."""
    tensorflow, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    if tensorflow is not None and isinstance(x, tensorflow.data.Dataset):
        return "tf.data.Dataset"
    if keras is not None and isinstance(x, keras.utils.PyDataset):
        return "PyDataset"
    return None


def is_dataset(x: Any) -> bool:
    """Return whether it is a dataset, which includes its targets."""
    return dataset_kind(x) is not None


def only_one(value: Any, names: Sequence[str]) -> Any:
    """Return the single element of a list, or of a dict with the model's own name; other values unchanged."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, part),) = value.items()
        return part if not names or name in names else value
    if isinstance(value, list | tuple) and len(value) == 1 and hasattr(value[0], "shape") and len(value[0].shape):
        return value[0]
    return value


def parts_of(value: Any, names: Names, kind: Literal["inputs", "outputs"], what: str) -> dict[str, Any]:
    """Return the value for each input or output: by name from a dict, in their order from a list.

    Args:
        what: how messages call it.

    Raises:
        InputError: the arrays are not named.
    """
    own, called, is_dict = (
        (names.inputs, names.of_inputs, names.takes_dict)
        if kind == "inputs"
        else (names.outputs, names.of_outputs, names.gives_dict)
    )
    if len(called) == 1:
        if names.several and isinstance(value, Mapping) and own[0] in value:
            return {called[0]: value[own[0]]}
        return {called[0]: only_one(value, own)}
    listed = ", ".join(own)
    if isinstance(value, Mapping):
        if missing := [name for name in own if name not in value]:
            raise lanfit_error("fit.array-missing", name=what, missing=", ".join(missing), names=listed)
        return {name: value[name] for name in own}
    if not isinstance(value, list | tuple) or len(value) != len(own) or is_dict:
        given = f"{len(value)} arrays in a list" if isinstance(value, list | tuple) else "one array"
        how = "a dict with these names" if is_dict else "a list in this order, or a dict with these names"
        raise lanfit_error("fit.several-arrays", name=what, given=given, count=len(own), names=listed, how=how)
    return dict(zip(own, value, strict=True))


def read_dataset(
    dataset: Any,
    kind: str,
    rank: int,
    *,
    names: Names = NO_NAMES,
    batch: int | None = None,
    steps: int | None = None,
) -> Read:
    """Read a dataset once.

    Args:
        rank: dimensions of the model's first input, rows included: determines whether a dataset is batched.
        names: what the model calls its inputs and its outputs.
        batch: the size of batches that the user wants, for a dataset that has none.
        steps: how many batches to read; None: all.

    Raises:
        InputError: elements that are no rows, a dataset without an end, or one that memory has no room for.
    """
    columns: dict[tuple[str, str], list[AnyArray]] = {}
    batched, size, taken = True, 0, 0
    free = free_memory()
    for number, element in enumerate(_elements(dataset, kind, endless=steps is not None), 1):
        arrays = _arrays(element, kind, names)
        first = next(iter(arrays.values()))
        if not columns:
            columns = {key: [] for key in arrays}
            # A PyDataset returns batches by definition.
            batched = kind == "PyDataset" or first.ndim >= rank
            size = len(first) if batched else 0
        if arrays.keys() != columns.keys():
            what = f"made of {pluralize(len(arrays), 'part')}, but others have more or fewer"
            raise lanfit_error("fit.elements", kind=kind, what=what)
        for key, array in arrays.items():
            columns[key].append(array)
        taken += sum(array.nbytes for array in arrays.values())
        if free and _COPIES * taken > free:
            so_far = sum(map(len, next(iter(columns.values())))) if batched else number
            raise lanfit_error(
                "fit.too-large", kind=kind, rows=so_far, size=readable_size(taken), free=readable_size(free)
            )
        if steps is not None and number >= (steps if batched else steps * (batch or _BATCH)):
            break
    if not columns:
        raise lanfit_error(
            "fit.not-rows", name="x", kind=f"a {kind} without elements", instead="Give one that has rows"
        )
    whole = {key: np.concatenate(column) if batched else np.stack(column) for key, column in columns.items()}
    inputs, targets, weights = (
        {name: array for (part, name), array in whole.items() if part == wanted} for wanted in _PARTS
    )
    rows = len(next(iter(inputs.values())))
    notes = []
    read = f"{pluralize(rows, 'row', grouped=True)} of the {kind} {'was' if rows == 1 else 'were'} read"
    if steps is not None:
        notes.append(f"{read} (steps_per_epoch={steps}); every epoch uses them.")
    elif _length(dataset, kind) == _UNKNOWN:
        notes.append(f"{read} (its length was unknown).")
    return Read(inputs, targets, weights.get(""), size or None, tuple(notes), random_parts(dataset, kind))


def _arrays(element: Any, kind: str, names: Names) -> dict[tuple[str, str], AnyArray]:
    """Return inputs, targets and weights of an element, if it has them, by part and name."""
    parts = list(element) if isinstance(element, tuple | list) else [element]
    if len(parts) > len(_PARTS):
        raise lanfit_error("fit.elements", kind=kind, what=f"made of {pluralize(len(parts), 'part')}")
    x, y, weights = (*parts, None, None)[:3]
    inputs, targets, of_weights = _PARTS
    given: dict[tuple[str, str], Any] = {}
    for name, array in parts_of(x, names, "inputs", f"the {inputs} of an element").items():
        given[inputs, name] = array
    if y is not None:
        for name, array in parts_of(y, names, "outputs", f"the {targets} of an element").items():
            given[targets, name] = array
    if weights is not None:
        given[of_weights, ""] = weights if names.several else only_one(weights, names.outputs)
    for (what, _), array in given.items():
        if isinstance(array, Mapping):
            listed = ", ".join(repr(key) for key in array)
            raise lanfit_error("fit.elements", kind=kind, what=f"a dict of {what}: {listed}")
        if isinstance(array, tuple | list):
            raise lanfit_error("fit.elements", kind=kind, what=f"made of {len(array)} {what}")
    return {key: np.asarray(array) for key, array in given.items()}


def _length(dataset: Any, kind: str) -> int:
    if kind == "PyDataset":
        return _INFINITE if dataset.num_batches is None else int(dataset.num_batches)
    return int(dataset.cardinality())


def _elements(dataset: Any, kind: str, *, endless: bool) -> Iterator[Any]:
    """Yield all elements.

    Args:
        endless: whether the dataset may have no end.
    """
    length = _length(dataset, kind)
    if length == _INFINITE and not endless:
        raise lanfit_error("fit.endless", kind=kind)
    if kind == "PyDataset":
        numbers = iter(range(sys.maxsize)) if length == _INFINITE else iter(range(length))
        return (dataset[index] for index in numbers)
    elements: Iterator[Any] = dataset.as_numpy_iterator()
    return elements


# --- randomness in a dataset --------------------------------------------------------------------------------


def random_parts(dataset: Any, kind: str) -> str:
    """Return a description of the randomness in a dataset; "" if there is none.

    It looks at the functions that a tf.data.Dataset maps; code in Python, also that of a PyDataset, can't be seen into.
    """
    if kind == "PyDataset":
        return _of_generator(dataset)
    try:
        found = sorted({name for each in _upstream(dataset) for name in _random_operations(each)})
    except Exception:  # noqa: BLE001 - internals of TensorFlow, which may change: then nothing is reported
        return ""
    return ", ".join(found[:3])


#: The options of Keras 2's ImageDataGenerator, which some programs include, that change images at random.
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
