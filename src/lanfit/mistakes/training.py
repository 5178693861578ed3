"""What can be wrong when a model meets data: how it is compiled, what it computes on, the first batch, the training."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError, TrainingError
from lanfit.mistakes.entry import Mistake

_NUMBER_FROM_0 = "Number the classes from 0 on, or give the model as many outputs as there are classes."
_REMOVE = "Remove these rows or fill the gaps."
_LOWER_RATE = "Lower the learning rate, e.g. --learning-rate {lower:g}, or choose a normalizer."
_SPARSE_SHAPE = (
    "the loss {loss} takes one whole number a row, but a row of the targets has the shape {shape} "
    "(the model's output is {output})"
)
_OTHER_SHAPE = "the model's output is {output}, the targets are {shape}; the loss {loss} compares them value by value"

MISTAKES: Mapping[str, Mistake] = {
    # --- optimizer, loss and metrics ---
    "compile.unreadable": Mistake(
        InputError,
        "the compile options can't be read: {reason}",
        "Compile and save the model again.",
    ),
    "compile.several-losses": Mistake(
        InputError,
        "the model was compiled with {count} losses and the loss weights {weights!r}",
        "A model has one output here: compile it with one loss, and metrics=... by keyword.",
    ),
    "compile.other-kind": Mistake(
        InputError,
        "{name!r} is none of {module}",
        "Use one of Keras' own, by name or with its options: what a file or a peer gives is never run as code.",
    ),
    "compile.unknown-name": Mistake(
        InputError,
        "{name!r} is no {what} of Keras",
        "{known} Give it as {flag} or compile the model with it.",
    ),
    "compile.in-file": Mistake(
        InputError,
        "the {part} that the model was compiled with can't be used: {reason}",
        "Give another, which replaces it: {flag}, e.g. {example}.",
    ),
    "compile.learning-rate": Mistake(
        InputError,
        "the learning rate is {rate}",
        "Give a positive number, e.g. --learning-rate 0.001.",
    ),
    "compile.incomplete": Mistake(
        InputError,
        "the model is not compiled: nothing says its {missing}",
        "Give {flags}, or save the model after model.compile(...).",
    ),
    "compile.refused": Mistake(
        InputError,
        "the model can't be compiled by Keras {version}: {reason}",
        "Check the options of optimizer, loss and metrics, or give others: --optimizer, --loss, --metrics.",
    ),
    # --- what it computes on ---
    "backend.unknown": Mistake(
        InputError,
        "{name!r} is no backend",
        "Use one of {known}.",
    ),
    "backend.not-installed": Mistake(
        InputError,
        "the backend {name} is not installed here",
        'In the clone, with the Python of its .venv: python -m pip install -e ".[{name}]"{others}.',
    ),
    "backend.illegal-instruction": Mistake(
        InputError,
        "{name} can't run on this machine: the processor lacks an instruction set that it needs, AVX in most cases",
        "{way_out}, or use a machine with a newer processor.",
    ),
    "backend.no-dll": Mistake(
        InputError,
        "{name} can't be imported on this machine: {reason}",
        "Install the Visual C++ runtime (the Microsoft Visual C++ Redistributable, x64), then start again.",
    ),
    "backend.no-gpu": Mistake(
        InputError,
        "a GPU was asked for (--device gpu), but {backend} finds only the {found} of this machine",
        "Use --device cpu or auto; or install the GPU's driver and the build of {backend} that is made for it.",
    ),
    # --- the first batch ---
    "batch.row-shape": Mistake(
        InputError,
        "a row of the data has the shape {shape}, the model's input is {wanted}",
        "Use a model with this input shape, or data of that shape.",
    ),
    "batch.not-finite": Mistake(
        InputError,
        "the first batch holds NaN or infinity",
        _REMOVE,
    ),
    "batch.fractions": Mistake(
        InputError,
        "the model takes whole numbers ({dtype}), but the first batch holds fractions",
        "Leave the normalizer at none: numbers that stand for words or classes are not scaled.",
    ),
    "batch.targets-not-finite": Mistake(
        InputError,
        "the targets of the first batch hold NaN or infinity",
        _REMOVE,
    ),
    "batch.one-hot-targets": Mistake(
        InputError,
        _SPARSE_SHAPE,
        "These look like one-hot rows: use --loss categorical_crossentropy.",
    ),
    "batch.no-labels": Mistake(
        InputError,
        _SPARSE_SHAPE,
        "Give labels from 0 on, one for each row.",
    ),
    "batch.one-output": Mistake(
        InputError,
        "the model has 1 output, and the loss {loss} needs one for each class",
        'For two classes use --loss binary_crossentropy with activation="sigmoid", or 2 outputs.',
    ),
    "batch.labels-outside": Mistake(
        InputError,
        "labels go from {least} to {most}, but the model has {outputs:output}: 0 to {last}",
        _NUMBER_FROM_0,
    ),
    "batch.class-numbers": Mistake(
        InputError,
        _OTHER_SHAPE,
        "Are these class numbers? Use --loss sparse_categorical_crossentropy.",
    ),
    "batch.target-shape": Mistake(
        InputError,
        _OTHER_SHAPE,
        "The model must end in as many units as the targets have values.",
    ),
    "batch.broken-weight": Mistake(
        InputError,
        "the model's weight {name!r} holds NaN or infinity",
        "Use a model saved before that.",
    ),
    "batch.refused": Mistake(
        InputError,
        "a batch of {rows} with targets of {targets} does not go through the model, its loss {loss} and the metrics "
        "{metrics}: {reason}",
        "Check that model, loss, metrics and data belong together.",
    ),
    "batch.metric-name": Mistake(
        InputError,
        "the model is compiled with a metric called {name!r}: {why}",
        'Compile it with another name of the metric, e.g. keras.metrics.AUC(name="area"); spaces are fine. For a file, '
        "--metrics gives other metrics.",
    ),
    "batch.many-metrics": Mistake(
        InputError,
        "the model is compiled with {count:metric}, whose names have {size:,byte}; a result has room for {most}, "
        "with {bytes:,byte}",
        "Compile it with fewer metrics, or with shorter names; for a file, --metrics gives other metrics.",
    ),
    "batch.metric-array": Mistake(
        InputError,
        "the metric {name!r} gives {count:number}, and a history holds one number for each metric",
        'Compile the model with one that gives a single number: of F1Score and FBetaScore average="macro" (or "micro", '
        '"weighted"), of R2Score class_aggregation="uniform_average". For a file, --metrics gives other metrics.',
    ),
    "batch.output-not-finite": Mistake(
        InputError,
        "the model's output holds NaN or infinity on the first batch",
        "Are the values of the rows very large? Choose a normalizer, e.g. --normalizer minmax.",
    ),
    "batch.no-probabilities": Mistake(
        InputError,
        "the loss {loss} takes probabilities, but the model's output goes from {least:.3g} to {most:.3g} (its last "
        "activation is {activation})",
        'End the model with activation="softmax" (one unit: "sigmoid"), or compile it with from_logits=True.',
    ),
    "batch.loss-not-finite": Mistake(
        InputError,
        "the loss {loss} of the first batch is {value}",
        "Do the targets suit the loss? A logarithm, for one, takes no negative targets.",
    ),
    "rounds.no-evaluation": Mistake(
        InputError,
        "{given} compares rounds, and there are no rows to evaluate them on",
        "Set some aside: --validation-split 0.1 of each client's rows, or --test-split 0.2 of all (in Python "
        "validation_split=0.1 or validation_data=). Or leave {given} out.",
    ),
    # --- the training ---
    "training.loss-not-finite": Mistake(
        TrainingError,
        "the {what} became {value} in epoch {epoch} of {epochs} (learning rate {rate:g})",
        _LOWER_RATE,
    ),
    "training.weight-not-finite": Mistake(
        TrainingError,
        "the weight {name!r} holds NaN or infinity in epoch {epoch} of {epochs} (learning rate {rate:g})",
        _LOWER_RATE,
    ),
}
