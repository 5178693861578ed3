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
        "{rows} could not be dealt so that each of {shards:client} gets {least}, as it needs with this batch size: "
        "none of {draws} draws with alpha {alpha} did",
        "Use a larger --alpha, a smaller --batch-size, fewer clients, or more rows.",
    ),
    "deal.more-pieces-than-rows": Mistake(
        InputError,
        "{rows} can't be cut into {each:piece} for each of {shards:client}",
        "Use fewer --classes-per-client, fewer clients, or more rows.",
    ),
    "deal.more-parts-than-rows": Mistake(
        InputError,
        "{rows} can't be cut into {parts:part}",
        "Use fewer parts, or more rows.",
    ),
    "deal.own-files": Mistake(
        InputError,
        "with --data client each client has its own rows, and none are dealt (--deal {how})",
        "Leave out --deal, use --deal parts for a part of each client's rows, or --data files.",
    ),
    "deal.other-deal": Mistake(
        InputError,
        "{flag} {value} is for --deal {wanted}, and this job has --deal {how}",
        "Leave one of them out.",
    ),
    "parts.no-range": Mistake(
        InputError,
        '"{value}" is not a part or a range of parts, as in 4, 3-5 or 3 5',
        "Give one number, or the first and the last.",
    ),
    "parts.none-such": Mistake(
        InputError,
        "there is no part {part}: parts are counted from {of}",
        "Take parts that there are.",
    ),
    "parts.no-list": Mistake(
        InputError,
        '"{value}" is not a client with its parts, as in lab-1:3-5',
        "Write the name of the client, a colon, and its parts; commas between clients.",
    ),
    "parts.named-twice": Mistake(
        InputError,
        "{client} is named twice (--parts)",
        "Give each client one range of parts.",
    ),
    "parts.more-clients": Mistake(
        InputError,
        "parts are given to {named:client}, more than the {clients} that take part",
        "Use --clients {named}, or name fewer of them (--parts).",
    ),
    "parts.smaller-than-batch": Mistake(
        InputError,
        "a batch of {batch:row} is larger than the {rows:training row} of {parts}",
        "Let the client take more parts, or use --batch-size {most} or less.",
    ),
}
