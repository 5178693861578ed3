"""Partitions rows among clients: in equal shares, by class, with skewed labels, or in numbered parts. Plain NumPy.

As in `split`, it works on counts and class numbers only, and draws from `RandomState`, whose streams are frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lanfit.core.seeds import derive_seed
from lanfit.core.text import pluralize
from lanfit.data.split import Rows, partition
from lanfit.errors import lanfit_error

#: The most attempts to draw shares in which every client has enough rows.
DRAWS: Final = 100
#: Above this, all shares are equal for any number of rows; far above it, drawing fails numerically.
MOST_ALPHA: Final = 1e6


@dataclass(frozen=True)
class Partitioning:
    """How rows are partitioned."""

    how: str = "stratified"
    """equal, stratified, dirichlet, classes or parts; see `partition_rows`."""
    alpha: float = 0.5
    """The parameter of the Dirichlet distribution."""
    classes_per_client: int = 2
    parts_of: int = 1
    least: int = 1
    """With dirichlet: the fewest rows of a client."""

    @property
    def by_class(self) -> bool:
        """Whether every class is spread evenly, as far as it has enough rows."""
        return self.how in ("stratified", "parts")


STRATIFIED: Final = Partitioning()


def partition_rows(
    partitioning: Partitioning, rows: int, shards: int, seed: int, classes: NDArray[np.generic] | None = None
) -> list[Rows]:
    """Partition all rows; return the ascending row numbers of each shard, with `parts` of each part.

    - `equal`: without regard to classes; sizes differ by at most one.
    - `stratified`: each shard gets its share of every class; sizes differ by at most one.
    - `dirichlet`: see `_by_shares`.
    - `classes`: see `_by_chunks`.
    - `parts`: as stratified, into `parts_of` parts, for any number of clients.

    Args:
        seed: the seed of the run.
        classes: one class per row; None if rows have none, or several.

    Raises:
        InputError: there are too few rows, or rows have no classes but the kind of partition needs them.
    """
    match partitioning.how:
        case "equal":
            return partition(rows, shards, derive_seed(seed, "deal"))
        case "parts":
            if partitioning.parts_of > rows:
                raise lanfit_error(
                    "deal.more-parts-than-rows", rows=pluralize(rows, "row"), parts=partitioning.parts_of
                )
            return partition(rows, partitioning.parts_of, derive_seed(seed, "parts"), classes)
        case "stratified":
            return partition(rows, shards, derive_seed(seed, "deal"), classes)
    if classes is None:
        raise lanfit_error("deal.no-classes", how=partitioning.how)
    codes = np.unique(classes, return_inverse=True)[1].reshape(-1)
    if partitioning.how == "classes":
        return _by_chunks(codes, shards, partitioning.classes_per_client, seed)
    return _by_shares(codes, shards, partitioning.alpha, partitioning.least, seed)


def _by_shares(codes: NDArray[np.intp], shards: int, alpha: float, least: int, seed: int) -> list[Rows]:
    """Skewed labels, as in experiments since Hsu et al. 2019 (arXiv:1909.06335): the smaller alpha, the more skewed.

    Hsu et al. draw a mix of classes for each client, with clients of equal size. Here, as in Yurochkin et al. 2019
    (arXiv:1905.12022) and most experiments since, the shares of the clients are drawn for each class, in ascending
    order: p ~ Dirichlet(alpha, …, alpha), with one value per client. The rows of the class are shuffled and cut at the
    rounded-down cumulative shares. So sizes differ, too.

    If a shard has fewer than `least` rows, everything is drawn again from the next derived seed, up to `DRAWS` times,
    and the first draw with enough rows everywhere is used. So with a small alpha the result depends on `least`.

    Raises:
        InputError: no draw gave every client enough rows.
    """
    if shards * least <= len(codes):
        for draw in range(DRAWS):
            drawn = _draw_shares(codes, shards, min(alpha, MOST_ALPHA), derive_seed(seed, "dirichlet", draw))
            if min(map(len, drawn)) >= least:
                return drawn
    raise lanfit_error(
        "deal.too-skewed", rows=pluralize(len(codes), "row"), draws=DRAWS, alpha=alpha, shards=shards, least=least
    )


def _draw_shares(codes: NDArray[np.intp], shards: int, alpha: float, seed: int) -> list[Rows]:
    random = np.random.RandomState(seed)
    shard_of = np.empty(len(codes), np.int64)
    for code in range(codes.max() + 1):
        shares = random.dirichlet(np.full(shards, alpha))
        if not np.isfinite(shares).all():  # alpha is so small that all shares are 0: one client gets all rows
            shares = np.eye(shards)[random.randint(shards)]
        members = random.permutation(np.flatnonzero(codes == code))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for shard, chunk in enumerate(np.split(members, np.minimum(cuts, len(members)))):
            shard_of[chunk] = shard
    return [np.flatnonzero(shard_of == shard).astype(np.int64) for shard in range(shards)]


def _by_chunks(codes: NDArray[np.intp], shards: int, each: int, seed: int) -> list[Rows]:
    """Give each client a few classes, as McMahan et al. 2017 (arXiv:1602.05629, section 3) with MNIST and two classes.

    The rows are sorted by class and cut into `each` chunks per client, with sizes that differ by at most one; every
    client gets `each` random chunks. A chunk contains one class, or two at the boundary of classes: with classes of
    equal size that are divisible into chunks, a client has at most `each` classes.

    Raises:
        InputError: there are fewer rows than chunks.
    """
    chunks = each * shards
    if chunks > len(codes):
        raise lanfit_error("deal.more-pieces-than-rows", rows=pluralize(len(codes), "row"), each=each, shards=shards)
    cut = np.array_split(np.argsort(codes, kind="stable"), chunks)
    lots = np.random.RandomState(derive_seed(seed, "classes")).permutation(chunks).reshape(shards, each)
    return [np.sort(np.concatenate([cut[chunk] for chunk in lot])).astype(np.int64) for lot in lots]
