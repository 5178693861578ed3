"""Deals rows to clients: in equal shares, by class, with skewed labels, or in numbered parts. Plain NumPy.

As in `split`: works on counts and class numbers only, and draws from `RandomState`, whose streams are frozen for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lanfit.data.split import Rows, deal
from lanfit.mistakes import mistake
from lanfit.seeds import derive_seed
from lanfit.text import pluralize

#: How often shares are drawn until every client has rows enough.
DRAWS: Final = 100
#: Above this all shares are equal, as far as any number of rows shows; far above it no shares can be drawn.
MOST_ALPHA: Final = 1e6


@dataclass(frozen=True)
class Dealing:
    """How rows are dealt."""

    how: str = "stratified"
    """equal, stratified, dirichlet, classes or parts; see `deal_rows`."""
    alpha: float = 0.5
    """Of the Dirichlet distribution."""
    classes_per_client: int = 2
    parts_of: int = 1
    least: int = 1
    """With dirichlet: so many rows everybody gets at least."""

    @property
    def by_class(self) -> bool:
        """Whether every class is spread evenly, as far as it has rows enough."""
        return self.how in ("stratified", "parts")


STRATIFIED: Final = Dealing()


def deal_rows(
    dealing: Dealing, rows: int, shards: int, seed: int, classes: NDArray[np.generic] | None = None
) -> list[Rows]:
    """Deal all rows; return the ascending row numbers of each shard, with `parts` of each part.

    - `equal`: without regard to classes; sizes differ by at most one.
    - `stratified`: each shard gets its share of every class; sizes differ by at most one.
    - `dirichlet`: see `_by_shares`.
    - `classes`: see `_by_pieces`.
    - `parts`: as stratified, into `parts_of` parts, however many clients there are.

    Args:
        seed: the run's.
        classes: one class a row; None when rows have none, or several.

    Raises:
        InputError: there are too few rows for that, or rows have no classes to deal by.
    """
    match dealing.how:
        case "equal":
            return deal(rows, shards, derive_seed(seed, "deal"))
        case "parts":
            if dealing.parts_of > rows:
                raise mistake("deal.more-parts-than-rows", rows=pluralize(rows, "row"), parts=dealing.parts_of)
            return deal(rows, dealing.parts_of, derive_seed(seed, "parts"), classes)
        case "stratified":
            return deal(rows, shards, derive_seed(seed, "deal"), classes)
    if classes is None:
        raise mistake("deal.no-classes", how=dealing.how)
    codes = np.unique(classes, return_inverse=True)[1].reshape(-1)
    if dealing.how == "classes":
        return _by_pieces(codes, shards, dealing.classes_per_client, seed)
    return _by_shares(codes, shards, dealing.alpha, dealing.least, seed)


def _by_shares(codes: NDArray[np.intp], shards: int, alpha: float, least: int, seed: int) -> list[Rows]:
    """Skewed labels, as in experiments since Hsu et al. 2019 (arXiv:1909.06335): the smaller alpha, the more skewed.

    Hsu et al. draw for each client a mix of classes, of clients of one size. Here, as in Yurochkin et al. 2019
    (arXiv:1905.12022) and most experiments since, it is drawn for each class, in ascending order, what share of its
    rows every client gets: p ~ Dirichlet(alpha, …, alpha), as long as there are clients; the rows of the class are
    shuffled and cut at the rounded-down cumulative shares. So sizes differ, too.

    When a shard would have fewer than `least` rows, all is drawn anew from the next derived seed, up to `DRAWS` times;
    the first draw that gives everybody enough counts. So a row in `least` changes what a small alpha gives.

    Raises:
        InputError: no draw did.
    """
    if shards * least <= len(codes):
        for draw in range(DRAWS):
            dealt = _draw_shares(codes, shards, min(alpha, MOST_ALPHA), derive_seed(seed, "dirichlet", draw))
            if min(map(len, dealt)) >= least:
                return dealt
    raise mistake(
        "deal.too-skewed", rows=pluralize(len(codes), "row"), draws=DRAWS, alpha=alpha, shards=shards, least=least
    )


def _draw_shares(codes: NDArray[np.intp], shards: int, alpha: float, seed: int) -> list[Rows]:
    random = np.random.RandomState(seed)
    shard_of = np.empty(len(codes), np.int64)
    for code in range(codes.max() + 1):
        shares = random.dirichlet(np.full(shards, alpha))
        if not np.isfinite(shares).all():  # alpha is so small that all shares came out as 0: one client gets it all
            shares = np.eye(shards)[random.randint(shards)]
        members = random.permutation(np.flatnonzero(codes == code))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for shard, piece in enumerate(np.split(members, np.minimum(cuts, len(members)))):
            shard_of[piece] = shard
    return [np.flatnonzero(shard_of == shard).astype(np.int64) for shard in range(shards)]


def _by_pieces(codes: NDArray[np.intp], shards: int, each: int, seed: int) -> list[Rows]:
    """A few classes a client, as McMahan et al. 2017 (arXiv:1602.05629, section 3) deal MNIST, with two.

    The rows are sorted by class, cut into `each` pieces a client, of sizes that differ by at most one, and `each`
    pieces are dealt to every client by lot. A piece holds one class, or where one ends and the next begins both: with
    classes of equal size that the pieces divide, a client has at most `each` classes.

    Raises:
        InputError: there are fewer rows than pieces.
    """
    pieces = each * shards
    if pieces > len(codes):
        raise mistake("deal.more-pieces-than-rows", rows=pluralize(len(codes), "row"), each=each, shards=shards)
    cut = np.array_split(np.argsort(codes, kind="stable"), pieces)
    lots = np.random.RandomState(derive_seed(seed, "classes")).permutation(pieces).reshape(shards, each)
    return [np.sort(np.concatenate([cut[piece] for piece in lot])).astype(np.int64) for lot in lots]
