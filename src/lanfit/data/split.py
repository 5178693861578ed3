"""Draws held-out rows and shards. Plain NumPy, with the same indices as scikit-learn.

It works on counts and class numbers only, never on the data. `RandomState` is used because its streams are frozen, and
because scikit-learn uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lanfit.core.text import pluralize
from lanfit.errors import lanfit_error

Rows = NDArray[np.int64]
#: The class number of rows without a class, which are drawn at random.
NO_CLASS: Final = int(np.iinfo(np.int64).min)


def split_rows(rows: int, fraction: float, seed: int, classes: NDArray[np.generic] | None = None) -> tuple[Rows, Rows]:
    """Draw ceil(fraction * rows) rows to hold out; return the kept and the held-out row numbers, both shuffled.

    Equals scikit-learn's `train_test_split(test_size=fraction, random_state=seed, stratify=classes)`. With classes,
    each gets its proportional share: the integer part of it, and the remaining rows go to the largest fractions, with
    random ties. A class with a single row, for which scikit-learn raises an error, is not stratified: its row is drawn
    at random, as are rows of NO_CLASS.

    Raises:
        InputError: the fraction is not in [0, 1), or no row would be kept.
    """
    held = held_rows(rows, fraction)
    if held >= rows:
        raise lanfit_error("split.none-left", rows=pluralize(rows, "row"), held=held)
    return _draw(rows, held, seed, classes)


def sample_rows(rows: int, samples: int, seed: int, classes: NDArray[np.generic] | None = None) -> Rows:
    """Draw a number of rows, with classes in proportion; return ascending row numbers.

    Raises:
        InputError: there are fewer rows, or the number is 0.
    """
    check_samples(samples, rows)
    return np.arange(rows, dtype=np.int64) if samples == rows else np.sort(_draw(rows, samples, seed, classes)[1])


def held_rows(rows: int, fraction: float) -> int:
    """Return how many rows are held out."""
    if not 0 <= fraction < 1:
        raise lanfit_error("split.share", share=fraction)
    return ceil(fraction * rows)


def _draw(rows: int, held: int, seed: int, classes: NDArray[np.generic] | None) -> tuple[Rows, Rows]:
    """Return the kept and the `held` held-out row numbers, drawn as in `split_rows`."""
    if held == 0:
        return np.arange(rows, dtype=np.int64), np.empty(0, np.int64)
    random = np.random.RandomState(seed)
    lone = None if classes is None else _rows_alone_in_their_class(classes)
    if classes is None or lone is None or lone.all():
        order = random.permutation(rows).astype(np.int64)
        return order[held:], order[:held]
    keep, out = [], []
    if lone.any():  # drawn only in this case, so that the stream otherwise equals scikit-learn's
        order = random.permutation(rows)
        out.append(order[:held][lone[order[:held]]])
        keep.append(order[held:][lone[order[held:]]])
    several = np.flatnonzero(~lone)
    _, codes, sizes = np.unique(classes[several], return_inverse=True, return_counts=True)
    draws = held - sum(map(len, out))
    kept_of = _shares(sizes, len(several) - draws, random)
    held_of = _shares(sizes - kept_of, draws, random)
    members = np.split(several[np.argsort(codes, kind="stable")], np.cumsum(sizes)[:-1])
    for rows_of_class, kept, taken in zip(members, kept_of, held_of, strict=True):
        shuffled = rows_of_class[random.permutation(len(rows_of_class))]
        keep.append(shuffled[:kept])
        out.append(shuffled[kept : kept + taken])
    kept_rows, held_rows = (random.permutation(np.concatenate(part)).astype(np.int64) for part in (keep, out))
    return kept_rows, held_rows


def partition(rows: int, shards: int, seed: int, classes: NDArray[np.generic] | None = None) -> list[Rows]:
    """Partition all rows into shards whose sizes differ by at most one; return ascending row numbers of each.

    Equals the test folds of scikit-learn's `KFold(shards, shuffle=True, random_state=seed)`, with classes those of
    `StratifiedKFold`: the rows, sorted by class, are distributed round-robin to the shards, so that each gets its share
    of every class; the rows of a class are assigned at random. If no class has as many rows as there are shards, for
    which scikit-learn raises an error, classes are ignored.

    Raises:
        InputError: fewer rows than shards, or no shard.
    """
    if shards < 1 or shards > rows:
        raise lanfit_error("split.more-shards-than-rows", rows=pluralize(rows, "row"), shards=shards)
    if shards == 1:
        return [np.arange(rows, dtype=np.int64)]
    random = np.random.RandomState(seed)
    if classes is None or np.unique(classes, return_counts=True)[1].max() < shards:
        order = np.arange(rows)
        random.shuffle(order)
        return [np.sort(part).astype(np.int64) for part in np.array_split(order, shards)]
    _, first, inverse = np.unique(classes, return_index=True, return_inverse=True)
    codes = np.argsort(np.argsort(first))[inverse]  # classes numbered as they first appear
    round_robin = np.arange(rows) % shards
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    shard_of = np.empty(rows, np.int64)
    for code, (start, stop) in enumerate(pairwise(starts)):
        places = np.sort(round_robin[start:stop])
        random.shuffle(places)
        shard_of[codes == code] = places
    return [np.flatnonzero(shard_of == shard).astype(np.int64) for shard in range(shards)]


def folds(
    rows: int,
    k: int,
    seed: int,
    classes: NDArray[np.generic] | None = None,
    words: Sequence[str] | None = None,
    *,
    few: bool = False,
) -> list[tuple[Rows, Rows]]:
    """Return the training and the held-out row numbers of each of k folds, ascending.

    Equal to `KFold(k, shuffle=True, random_state=seed).split`, with classes to `StratifiedKFold`'s.

    Args:
        words: what messages call the classes, if they have names.
        few: a class may have fewer rows than there are folds, so that some folds hold out none of it.

    Raises:
        InputError: k is below 2, above the number of rows, or above the number of rows of a class.
    """
    if not 2 <= k <= rows:
        raise lanfit_error("split.folds", rows=pluralize(rows, "row"), folds=k, most=max(2, rows))
    if classes is not None and not few:
        names, sizes = sizes_of_classes(classes)
        small = [(word_of(name, words), int(size)) for name, size in zip(names, sizes, strict=True) if size < k]
        if small:
            shown = ", ".join(f"{name} ({pluralize(size, 'row')})" for name, size in small[:10])
            least = min(size for _, size in small)
            if least == 1:
                raise lanfit_error("split.class-of-one-row", folds=k, classes=shown)
            raise lanfit_error("split.folds-of-a-class", folds=k, classes=shown, least=least)
    return [
        (np.setdiff1d(np.arange(rows), held, assume_unique=True), held) for held in partition(rows, k, seed, classes)
    ]


def sizes_of_classes(classes: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.intp]]:
    """Return the classes, and how many rows each has; NO_CLASS is not included."""
    return np.unique(classes[classes != NO_CLASS], return_counts=True)


def check_samples(samples: int, rows: int) -> None:
    """Check that a number of rows can be drawn.

    Raises:
        InputError: there are fewer rows, or the number is 0.
    """
    if not 1 <= samples <= rows:
        raise lanfit_error("split.samples", samples=samples, rows=rows)


def _rows_alone_in_their_class(classes: NDArray[np.generic]) -> NDArray[np.bool_]:
    _, codes, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    return np.asarray((sizes[codes] == 1) | (classes == NO_CLASS))


def _shares(sizes: NDArray[np.intp], draws: int, random: np.random.RandomState) -> NDArray[np.intp]:
    """Return how many of `draws` rows come from each class: proportions rounded down, the largest fractions up."""
    if draws == 0:
        return np.zeros_like(sizes)
    exact = sizes / sizes.sum() * draws
    shares = np.floor(exact)
    missing = int(draws - shares.sum())
    fractions = exact - shares
    for fraction in np.unique(fractions)[::-1]:
        if missing <= 0:
            break
        (tied,) = np.nonzero(fractions == fraction)
        chosen = random.choice(tied, size=min(len(tied), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
    return np.asarray(shares, np.intp)


def word_of(name: np.generic, words: Sequence[str] | None) -> str:
    """Return the name of a class in messages: its string label, if it has one, or its number."""
    return str(name) if words is None else words[int(name)]
