"""What can be wrong with rows: labels and targets that do not fit, rows that do not pair, too few to be split."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError
from lanfit.mistakes.entry import Mistake

_ALIKE = "Labels are all words or all numbers; columns of numbers hold numbers only."
_RIGHT_LABEL = "Check that this is the label: classes are told apart by few words, each in many rows."
_REPAIR = "Remove or repair the row."
_FROM_0 = "Labels are counted from 0; the model needs one output for each."
_NO_TARGETS = "Use order XX (--order XX), or give the targets."
_AS_WRITTEN = "Take the file as lanfit wrote it."

MISTAKES: Mapping[str, Mistake] = {
    # --- labels as they are read ---
    "labels.empty": Mistake(
        InputError,
        "{file}, row {row}: the label is empty",
        "Every row needs its label.",
    ),
    "labels.missing": Mistake(
        InputError,
        '{file}, row {row}: "{mark}" marks a missing value among labels that are numbers',
        "Every row needs its label: write it there, or leave the row out, in X as well.",
    ),
    "labels.mixed": Mistake(
        InputError,
        '{file}, row {row}: "{number}" is a number, but "{word}" (row {word_row}) is not',
        _ALIKE,
    ),
    "labels.mixed-files": Mistake(
        InputError,
        "{file}, row 1: {number} is a number, but the labels in {words_file} are words",
        _ALIKE,
    ),
    "labels.too-many": Mistake(
        InputError,
        "{file} has {count:,different label}, more than {most:,}",
        _RIGHT_LABEL,
    ),
    "labels.too-many-in-all": Mistake(
        InputError,
        "the files of Y have {count:,different label}, more than {most:,}",
        _RIGHT_LABEL,
    ),
    "labels.too-long": Mistake(
        InputError,
        '{file}, row {row}: the label "{label}" is longer than {most:character}',
        "Use short names as labels.",
    ),
    "labels.control-characters": Mistake(
        InputError,
        '{file}, row {row}: the label "{label}" holds characters that are not shown',
        "Use short names as labels.",
    ),
    "labels.too-long-array": Mistake(
        InputError,
        "{file} holds text too long for labels",
        "A label has at most {most:character}.",
    ),
    "labels.no-characters": Mistake(
        InputError,
        "{file} holds text that can't be read: four bytes are no character",
        "Save it again.",
    ),
    # --- labels and targets against the loss and the model ---
    "labels.more-than-outputs": Mistake(
        InputError,
        "there are {count:different label} ({labels}), but the model has {outputs:output}",
        "Use a model with one output for each label, or look for labels that are misspelt.",
    ),
    "labels.more-than-two": Mistake(
        InputError,
        "there are {count:different label} ({labels}), but this loss takes two",
        "Use a model with one output for each label, or look for labels that are misspelt.",
    ),
    "labels.not-0-or-1": Mistake(
        InputError,
        "label {value} in {file}, row {row}, but this loss takes 0 and 1",
        "Write the two classes as 0 and 1.",
    ),
    "labels.not-one-hot": Mistake(
        InputError,
        "{value} in {file}, row {row} is no one-hot row: its values must be 0 or more and add up to 1",
        "Write one-hot rows, or integer labels, one a row.",
    ),
    "labels.not-whole": Mistake(
        InputError,
        "label {value} in {file}, row {row} is no integer",
        "For numbers that are no classes choose another --loss.",
    ),
    "labels.negative": Mistake(
        InputError,
        "label {value} in {file}, row {row} is negative",
        _FROM_0,
    ),
    "labels.above-outputs": Mistake(
        InputError,
        "label {value} in {file}, row {row}, but the model has {outputs:output} (0-{last})",
        _FROM_0,
    ),
    "labels.open-outputs": Mistake(
        InputError,
        "labels can't be one-hot encoded for an open number of outputs",
        "Give one-hot rows.",
    ),
    "targets.not-finite": Mistake(
        InputError,
        "the value {value} in {file}, row {row} is no finite number that float32 holds",
        _REPAIR,
    ),
    "targets.wrong-shape": Mistake(
        InputError,
        "{file} has rows of {shape}, but here a row must be {wanted}",
        "Check that the file belongs to this model, and that the loss (--loss) is the right one.",
    ),
    "targets.classes-with-xx": Mistake(
        InputError,
        "with order XX the model learns to put out its input, and the loss {loss} is for classes",
        "Use --order XY, or a loss for numbers, e.g. --loss mean_squared_error.",
    ),
    "targets.no-files": Mistake(
        InputError,
        "there are no files of Y, and this loss needs targets",
        _NO_TARGETS,
    ),
    "targets.none": Mistake(
        InputError,
        "{name} has no targets, and this loss needs some",
        _NO_TARGETS,
    ),
    "targets.not-numbers": Mistake(
        InputError,
        "only targets that are numbers can be normalized, and here they are {targets}",
        "Leave out --normalize-targets, or use a loss for numbers.",
    ),
    # --- rows that belong together ---
    "rows.unequal": Mistake(
        InputError,
        "{x_file} has {x_rows:row}, but {y_file} has {y_rows}",
        "Files pair in natural order, row by row: both need the same number of rows; a line of names is none.",
    ),
    "rows.other-columns": Mistake(
        InputError,
        "{file} has rows of {shape:value}, but {first_file} has rows of {first_shape}",
        "All files of {folder} must have the same columns.",
    ),
    "rows.no-folder": Mistake(
        InputError,
        "there is no folder of inputs",
        "Name one.",
    ),
    "rows.other-input": Mistake(
        InputError,
        "{file} has rows of {shape:value}, but the model takes {wanted}",
        "Check that the files belong to this model; a csv row needs as many columns as the model takes values.",
    ),
    "rows.permuted": Mistake(
        InputError,
        "{file} has rows of {shape:value}, but the model takes {wanted}: the same sizes in another order",
        "A reshape would scramble the values, so transpose them in Python and save them again: `{line}`.",
    ),
    "rows.other-output": Mistake(
        InputError,
        "with order XX the input, rows of {shape:value}, is the target, but the model puts out {output}",
        "Use a model whose output has as many values as its input, or order XY.",
    ),
    "rows.not-finite": Mistake(
        InputError,
        "{file}, row {row}{column}: {value} is not a number that float32 holds",
        "Remove or repair the row; a model that sees one such value learns nothing.",
    ),
    "rows.unknown-id": Mistake(
        InputError,
        "{file}, row {row}{column}: the id {value} is none of the {ids} that the model's Embedding knows (0-{last})",
        "Number the ids from 0 on, or build the model with a larger input_dim: keras.layers.Embedding(n, ...) for ids "
        "up to n - 1.",
    ),
    "rows.larger-than-memory": Mistake(
        InputError,
        "{what} {size}, but {free} of memory are free",
        "Use fewer rows, a smaller dtype (uint8, float16), or a machine with more memory.",
    ),
    # --- too few to be split ---
    "split.share": Mistake(
        InputError,
        "a share of {share} can't be held out",
        "Give a number from 0 up to, not including, 1.",
    ),
    "split.none-left": Mistake(
        InputError,
        "of {rows} {held} would be held out, which leaves none",
        "Give more rows, or hold out a smaller share (--test-split).",
    ),
    "split.none-left-of-shard": Mistake(
        InputError,
        "{shard} has {rows}, of which {held} would be held out: that leaves none to train on",
        "Use fewer clients or parts, more rows, or set --validation-split 0.",
    ),
    "split.samples": Mistake(
        InputError,
        "{samples:row} can't be taken of {rows}",
        "Give a number of samples from 1 to {rows}.",
    ),
    "split.samples-too-few": Mistake(
        InputError,
        "{samples} can't be training and test rows",
        "Use more samples.",
    ),
    "split.more-shards-than-rows": Mistake(
        InputError,
        "{rows} can't be dealt to {shards:client}: each needs at least one",
        "Use fewer clients.",
    ),
    "split.too-few-rows": Mistake(
        InputError,
        "of {rows} {test} are test rows, and the other {rest} are too few for {shards:client}",
        "Use fewer clients, more rows or a smaller --test-split.",
    ),
    "split.folds": Mistake(
        InputError,
        "{rows} can't be cut into {folds:fold}",
        "Use --folds 2 to {most}.",
    ),
    "split.folds-of-a-class": Mistake(
        InputError,
        "{folds:fold} need {folds:row} of every class, but there are fewer of {classes}",
        "Use --folds {least}, or more rows.",
    ),
    "split.class-of-one-row": Mistake(
        InputError,
        "{folds:fold} need {folds:row} of every class, but there are fewer of {classes}",
        "Use more rows, or leave the class out.",
    ),
    "split.batch-of-shard": Mistake(
        InputError,
        "a batch of {batch:row} is larger than the {rows:training row} of shard {shard} of {shards}",
        "Use --batch-size {rows} or less, fewer clients, or more rows.",
    ),
    "split.batch-of-fold": Mistake(
        InputError,
        "a batch of {batch:row} is larger than the {rows:training row} of a fold",
        "Use --batch-size {most} or less, fewer clients, or more rows.",
    ),
    # --- the sets of Keras ---
    "set.unknown": Mistake(
        InputError,
        'there is no data set "{name}" in Keras{guess}',
        "The sets are {known}.",
    ),
    "set.unknown-argument": Mistake(
        InputError,
        '"{argument}" is no argument of {name}{guess}',
        "It takes {known}.",
    ),
    "set.wrong-value": Mistake(
        InputError,
        '{argument}={value}: {name} takes {kind} for {argument}, not "{value}"',
        "E.g. {argument}={default}.",
    ),
    "set.refused-arguments": Mistake(
        InputError,
        "{name} can't be loaded with {arguments}: {reason}",
        "Change --dataset-args.",
    ),
    "set.not-loaded": Mistake(
        InputError,
        "{name} can't be loaded: {reason}",
        "Without internet, or if a file there is cut short, download on another machine and copy: {files}.",
    ),
    "set.no-sequences": Mistake(
        InputError,
        "{name} is made of sequences of up to {longest:value}, but the model takes rows of {shape}",
        "Use a model whose input is one sequence, e.g. Input((200,)).",
    ),
    # --- normalizers ---
    "normalizer.unknown": Mistake(
        InputError,
        'there is no normalizer "{name}"',
        "Choose one of {known}.",
    ),
    "normalizer.not-saved": Mistake(
        InputError,
        "this is no saved normalizer: {reason}",
        _AS_WRITTEN,
    ),
    "normalizer.constants": Mistake(
        InputError,
        "the constants of the saved normalizer do not fit",
        _AS_WRITTEN,
    ),
    "normalizer.other-model": Mistake(
        InputError,
        "the normalizer has {count} constants, but a row of the model's {what} has the shape {shape}",
        "The constants must be those of the data that the model was trained on.",
    ),
}
