"""What can be wrong with how rows are dealt to clients."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError
from lanfit.mistakes.entry import Mistake

MISTAKES: Mapping[str, Mistake] = {
    "deal.no-classes": Mistake(
        InputError,
        "rows can't be dealt by their class (--deal {how}): here a row has none, or several",
        "Use --deal equal, or a loss for classes, e.g. --loss sparse_categorical_crossentropy.",
    ),
    "deal.too-skewed": Mistake(
        InputError,
        "{rows} could not be dealt so that each of {shards} clients gets {least}, as it needs with this batch size: "
        "none of {draws} draws with alpha {alpha} did",
        "Use a larger --alpha, a smaller --batch-size, fewer clients, or more rows.",
    ),
    "deal.more-pieces-than-rows": Mistake(
        InputError,
        "{rows} can't be cut into {each} pieces for each of {shards} clients",
        "Use fewer --classes-per-client, fewer clients, or more rows.",
    ),
    "deal.more-parts-than-rows": Mistake(
        InputError,
        "{rows} can't be cut into {parts} parts",
        "Use fewer parts, or more rows.",
    ),
    "deal.own-files": Mistake(
        InputError,
        "with --data client each client has its own rows, and none are dealt (--deal {how})",
        "Leave out --deal, or use --data files.",
    ),
}
