"""The errors of training and data on the clients; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError, TrainingError

_LOWER_RATE = "Lower the learning rate, e.g. --learning-rate {lower:g}, or choose a normalizer."

ERRORS: Mapping[str, ErrorText] = {
    "split.batch-of-fold": ErrorText(
        InputError,
        "a batch of {batch:row} is larger than the {rows:training row} of a fold",
        "Use --batch-size {most} or less, fewer clients, or more rows.",
    ),
    "model.other-keras": ErrorText(
        InputError,
        "this client (Keras {here}) can't build the model of the server (Keras {there}): {reason}",
        "Use the same version on both. On the client: python -m pip install keras=={there}.",
    ),
    "task.no-such-row": ErrorText(
        TrainingError,
        "the server sent an invalid task: it uses the rows {least} to {most} of a shard with {rows:row}",
        "Install the same version of lanfit on both machines, and start the run again.",
    ),
    # --- the training ---
    "training.loss-not-finite": ErrorText(
        TrainingError,
        "the {what} became {value} in epoch {epoch} of {epochs} (learning rate {rate:g})",
        _LOWER_RATE,
    ),
    "training.weight-not-finite": ErrorText(
        TrainingError,
        "the weight {name!r} contains NaN or infinity in epoch {epoch} of {epochs} (learning rate {rate:g})",
        _LOWER_RATE,
    ),
    "training.out-of-memory": ErrorText(
        TrainingError,
        "the trainer ran out of memory",
        "Use smaller batches (--batch-size), more clients, or a smaller model.",
    ),
    "training.failed": ErrorText(
        TrainingError,
        "the backend reports {kind}: {reason}",
        "Try another backend (--backend), or smaller batches (--batch-size).",
    ),
    "own-data.several-arrays": ErrorText(
        InputError,
        "data on the clients works for models with one input and one output only, and this model has several",
        "Let the server partition the rows (--data files), or join the inputs into one array that the model splits.",
    ),
    "own-data.few-rows": ErrorText(
        InputError,
        "there are {rows:row} to train on, but this client shares no results of fewer than {least} (--min-rows)",
        "Add rows, hold out fewer rows for tests and folds on the server, or start this client with --min-rows {rows}: "
        "note that weights trained on so few rows can reveal them.",
    ),
    "own-data.few-to-score": ErrorText(
        InputError,
        "there are {rows:row} to evaluate a model on, but this client shares no metrics of fewer than {least}, a tenth "
        "of --min-rows",
        "Add rows, use larger values of --test-split and --validation-split on the server, or 0, or start this client "
        "with a smaller --min-rows.",
    ),
    "own-data.small-batch": ErrorText(
        InputError,
        "the batch size is {batch:row}, but this client takes no steps on fewer than {least}: such a step can reveal "
        "its rows",
        "Raise --batch-size on the server.",
    ),
}
