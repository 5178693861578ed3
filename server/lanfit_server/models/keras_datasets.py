"""The datasets that come with Keras, loaded by Keras itself, in the one process that has it.

Names are known without Keras, and everything behind `load_dataset` works without it.
"""

from __future__ import annotations

import inspect
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module
from math import prod
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.chunks import AnyArray
from lanfit.data.labels import Target
from lanfit.data.shapes import fit_row, shown
from lanfit.data.sources import Source, arrays_source
from lanfit.errors import LanfitError, lanfit_error
from lanfit.settings.fields import did_you_mean

_GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_IDX = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("labels-idx1", "images-idx3"))
TIMEOUT = 30.0


@dataclass(frozen=True)
class _File:
    """A file that Keras caches: its path under `datasets`, and its source."""

    path: str
    url: str


#: The sets, and what a machine without internet needs of each.
DATASETS: Mapping[str, tuple[_File, ...]] = {
    "mnist": (_File("mnist.npz", f"{_GOOGLE}mnist.npz"),),
    "fashion_mnist": tuple(_File(f"fashion-mnist/{name}", f"{_GOOGLE}{name}") for name in _IDX),
    "cifar10": (_File("cifar-10-batches-py-target_archive", f"{_TORONTO}cifar-10-python.tar.gz"),),
    "cifar100": (_File("cifar-100-python-target_archive", f"{_TORONTO}cifar-100-python.tar.gz"),),
    "imdb": (_File("imdb.npz", f"{_GOOGLE}imdb.npz"),),
    "reuters": (_File("reuters.npz", f"{_GOOGLE}reuters.npz"),),
    "california_housing": (_File("california_housing.npz", f"{_GOOGLE}california_housing.npz"),),
    "boston_housing": (_File("boston_housing.npz", f"{_GOOGLE}boston_housing.npz"),),
}


@dataclass(frozen=True)
class KerasDataset:
    """A set as Keras gives it, rows first. Sequences of unequal length are arrays of objects until `padded`."""

    name: str
    x_train: AnyArray
    y_train: AnyArray
    x_test: AnyArray
    y_test: AnyArray


def check_dataset(name: str) -> str:
    """Return the name of a set, if there is one of that name.

    Raises:
        InputError: there is none; the nearest is named.
    """
    wanted = name.strip().lower().replace("-", "_")
    if wanted in DATASETS:
        return wanted
    raise lanfit_error("set.unknown", name=name, guess=did_you_mean(wanted, DATASETS), known=", ".join(DATASETS))


def load_dataset(name: str, args: str = "") -> KerasDataset:
    """Load a set with Keras' own loader, from its cache or the internet. Imports Keras.

    Args:
        args: arguments of the loader: "num_words=10000,skip_top=20".

    Raises:
        InputError: no such dataset or argument, or the download failed: the hint names the file and its place.
    """
    name = check_dataset(name)
    load: Callable[..., Any] = import_module(f"keras.datasets.{name}").load_data
    given = parse_args(name, args, inspect.signature(load))
    try:
        with _bounded_in_time(), redirect_stdout(sys.stderr):
            (x_train, y_train), (x_test, y_test) = load(**given)
    except (LanfitError, MemoryError):
        raise
    except Exception as error:  # Keras raises bare exceptions, and what its files' readers do
        if given and isinstance(error, ValueError):
            raise lanfit_error("set.refused-arguments", name=name, arguments=args, reason=_first_line(error)) from error
        raise lanfit_error(
            "set.not-loaded", name=name, reason=_first_line(error), files=_what_goes_where(name)
        ) from error
    return KerasDataset(name, x_train, y_train, x_test, y_test)


def parse_args(name: str, args: str, signature: inspect.Signature) -> dict[str, int | float | str | None]:
    """Read "num_words=10000,skip_top=20" as arguments of a loader, typed by its defaults (None: integers).

    Raises:
        InputError: no such argument, or no value of its type.
    """
    known = {
        key: parameter.default
        for key, parameter in signature.parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and key != "path"
    }
    given: dict[str, int | float | str | None] = {}
    for item in filter(None, re.split(r"[,\s]+", args.strip())):
        key, equals, value = item.partition("=")
        if not equals or key not in known or not value:
            raise lanfit_error(
                "set.unknown-argument",
                argument=item,
                name=name,
                guess="" if key in known else did_you_mean(key, known),
                known=", ".join(f"{key}={default}" for key, default in known.items()) or "none",
            )
        given[key] = _typed(name, key, value, known[key])
    return given


def padded(found: KerasDataset, input_shape: Sequence[int | None]) -> tuple[KerasDataset, tuple[str, ...]]:
    """Return a dataset in plain arrays, and notes about it; one without sequences stays as it is.

    Sequences are cut and padded to the model's input, as `keras.utils.pad_sequences` does by default: zeros in front,
    the last values kept; to the longest one if the model takes any length.

    Raises:
        InputError: the model takes no sequences.
    """
    parts = (found.x_train, found.x_test)
    if all(part.dtype != object for part in parts):
        return found, ()
    lengths = [len(sequence) for part in parts for sequence in part]
    length = _length(found.name, max(lengths, default=0), input_shape[1:])
    cut = sum(size > length for size in lengths)
    note = (
        f"{found.name}: sequences are padded with zeros in front to {length} values, as keras.utils.pad_sequences "
        f"does; {cut:,} of {len(lengths):,} are longer and keep only their last {length} values"
    )
    x_train, x_test = (pad_sequences(part, length) for part in parts)
    return replace(found, x_train=x_train, x_test=x_test), (note,)


def dataset_source(found: KerasDataset, target: Target, notes: tuple[str, ...] = ()) -> Source:
    """Return the rows of a set in plain arrays as a source: training rows, then its own test rows, if it has some.

    Raises:
        InputError: as `arrays_source`.
    """
    parts = [
        (f"{found.name}, training rows", found.x_train, found.y_train),
        (f"{found.name}, test rows", found.x_test, found.y_test),
    ]
    return arrays_source([part for part in parts if len(part[1])], target, test=len(found.x_test), notes=notes)


def pad_sequences(sequences: AnyArray, length: int) -> NDArray[np.int32]:
    """Return rows of `length`, padded and truncated at the front as by `keras.utils.pad_sequences`.

    Args:
        sequences: an array of objects, each a sequence of integers.
    """
    padded = np.zeros((len(sequences), length), np.int32)
    for row, sequence in zip(padded, sequences, strict=True):
        last = sequence[-length:]
        if len(last):
            row[-len(last) :] = last
    return padded


def _length(name: str, longest: int, row: Sequence[int | None]) -> int:
    """Return how many values of a sequence a model takes whose rows have this shape."""
    sizes = [size for size in row if size is not None]
    length = prod(sizes) if len(sizes) == len(row) else longest
    if not length or fit_row((length,), row) is None:
        raise lanfit_error("set.no-sequences", name=name, longest=longest, shape=shown(row))
    return length


def _typed(name: str, key: str, value: str, default: Any) -> int | float | str | None:
    if value.lower() == "none":
        return None
    if isinstance(default, str):
        return value
    try:
        return float(value) if isinstance(default, float) else int(value)
    except ValueError as error:
        kind = "a number" if isinstance(default, float) else "an integer"
        raise lanfit_error(
            "set.wrong-value", argument=key, value=value, name=name, kind=kind, default=default
        ) from error


def _what_goes_where(name: str) -> str:
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    if not os.access(home, os.W_OK):  # as Keras does then
        home = Path("/tmp" if Path("/tmp").is_dir() else gettempdir(), ".keras")
    return "; ".join(f"{file.url} to {home / 'datasets' / file.path}" for file in DATASETS[name])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _bounded_in_time() -> Iterator[None]:
    """Set a timeout for Keras' downloads, which have none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
