"""String labels: they are encoded as integers in sorted order, in the same way in every file of a job.

A label that is readable as a number is a number, in every format; a job has either string labels or numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lanfit.core.decoding import decode_json
from lanfit.core.text import sanitize
from lanfit.data.chunks import AnyArray, check_plain
from lanfit.data.tables import is_missing, is_number, to_number
from lanfit.errors import lanfit_error

#: The name of the array with the names of classes in transfers.
LABELS = "labels"
MAX_LENGTH = 200
MAX_LABELS = 10_000
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Labels:
    """The labels of one file or array, exactly as written, rows first."""

    name: str
    values: AnyArray
    """Numbers; with string labels int32, the index of each label in `words`."""
    words: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    numbering: str = ""
    """How a first line 0, 1, … was read: as "names" of columns or as a "row"; empty if there is none."""

    def __len__(self) -> int:
        return len(self.values)


def labels_of_array(name: str, array: AnyArray) -> Labels:
    """Return the labels in an array; numbers are not converted.

    Raises:
        InputError: neither numbers nor text, or as `labels_of_texts`.
    """
    if array.dtype.kind == "U":
        if array.dtype.itemsize > 4 * MAX_LENGTH:
            raise lanfit_error("labels.too-long-array", file=name, most=MAX_LENGTH)
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        if (array.view(np.uint32) > sys.maxunicode).any():
            raise lanfit_error("labels.no-characters", file=name)
        texts, codes = np.unique(array, return_inverse=True)
        return labels_of_texts(name, codes.reshape(array.shape), texts.tolist())
    check_plain(name, array.dtype)
    return Labels(name, array)


def labels_of_texts(
    name: str, codes: NDArray[Any], texts: Sequence[str], decimal: str = ".", thousands: str = ""
) -> Labels:
    """Return labels from text cells: numbers (int64, float64, or booleans) if all are readable as such, else strings.

    Args:
        codes: for each cell its index in `texts`, rows first.
        texts: the distinct cells; surrounding blanks are removed, with a note.

    Raises:
        InputError: strings and numbers are mixed, a label is empty or unreadable, or there are too many. The message
            names the row, from 1.
    """

    def row(place: int) -> int:
        return int((codes == place).reshape(len(codes), -1).any(axis=1).argmax()) + 1

    stripped = [text.strip() for text in texts]
    for place, text in enumerate(stripped):
        if not text:
            raise lanfit_error("labels.empty", file=name, row=row(place))
    if all(text.lower() in _BOOLEANS for text in stripped):
        return Labels(name, np.array([_BOOLEANS[text.lower()] for text in stripped], np.bool_)[codes])
    numbers = [is_number(text, decimal, thousands) for text in stripped]
    if all(numbers):
        exact = [to_number(text, decimal, thousands) for text in stripped]
        return Labels(name, np.array(exact, np.int64 if all(type(n) is int for n in exact) else np.float64)[codes])
    marks = [text for text, number in zip(stripped, numbers, strict=True) if not number and is_missing(text)]
    if any(numbers) and len(marks) == numbers.count(False):
        raise lanfit_error("labels.missing", file=name, row=row(stripped.index(marks[0])), mark=marks[0])
    if any(numbers):
        number, word = numbers.index(True), numbers.index(False)
        raise lanfit_error(
            "labels.mixed",
            file=name,
            row=row(number),
            number=_short(stripped[number]),
            word=_short(stripped[word]),
            word_row=row(word),
        )
    words = sorted(set(stripped))
    if len(words) > MAX_LABELS:
        raise lanfit_error("labels.too-many", file=name, count=len(words), most=MAX_LABELS)
    for place, text in enumerate(stripped):
        if len(text) > MAX_LENGTH:
            raise lanfit_error("labels.too-long", file=name, row=row(place), label=_short(text), most=MAX_LENGTH)
        if not _is_plain(text):
            raise lanfit_error("labels.control-characters", file=name, row=row(place), label=_short(text))
    places = {word: np.int32(place) for place, word in enumerate(words)}
    notes = [] if stripped == list(texts) else ["spaces around labels are removed"]
    if marks:
        named = " and ".join(f'"{mark}"' for mark in sorted(set(marks)))
        notes.append(f"{named} is used as a label; if it marks a missing value, remove those rows")
    return Labels(name, np.array([places[text] for text in stripped], np.int32)[codes], tuple(words), tuple(notes))


def unite(files: Sequence[Labels]) -> tuple[list[AnyArray], tuple[str, ...] | None]:
    """Encode the labels of all files by the sorted strings of all; numbers do not change, and the names are None.

    Raises:
        InputError: some files have strings, some numbers; or there are too many strings.
    """
    worded = next((labels for labels in files if labels.words), None)
    if worded is None:
        return [labels.values for labels in files], None
    for labels in files:
        if labels.words is None:
            number = labels.values.flat[0]
            raise lanfit_error("labels.mixed-files", file=labels.name, number=number, words_file=worded.name)
    names = tuple(sorted({word for labels in files for word in labels.words or ()}))
    if len(names) > MAX_LABELS:
        raise lanfit_error("labels.too-many-in-all", count=len(names), most=MAX_LABELS)
    place = {name: np.int32(number) for number, name in enumerate(names)}
    return [np.array([place[w] for w in labels.words or ()], np.int32)[labels.values] for labels in files], names


def words_to_array(words: Sequence[str]) -> NDArray[np.uint8]:
    """Return names of classes as an array for transfer: JSON as bytes."""
    return np.frombuffer(msgspec.json.encode(list(words)), np.uint8)


def words_from_array(array: AnyArray) -> tuple[str, ...]:
    """Return the names in an array of `words_to_array`, checked, because it may come from a peer.

    Raises:
        ValueError: the array is not valid.
    """
    words = decode_json(array.tobytes(), tuple[str, ...])
    if not 1 <= len(words) <= MAX_LABELS or list(words) != sorted(set(words)):
        raise ValueError(f"{len(words)} class names are not sorted, or too many or too few")
    if not all(len(word) <= MAX_LENGTH and _is_plain(word) for word in words):
        raise ValueError("a class name is too long, or contains invisible characters")
    if not all(0 < len(word) <= MAX_LENGTH and _is_plain(word) for word in words):
        raise ValueError("a class name is not a valid label")
    return words


def _is_plain(text: str) -> bool:
    """Return whether a text is printable in one line."""
    return sanitize(text) == text


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"
