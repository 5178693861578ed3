"""The errors of the data of a run; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

_SAME_VERSION = "Install the same version of lanfit on the client and the server."

ERRORS: Mapping[str, ErrorText] = {
    "targets.several-with-xx": ErrorText(
        InputError,
        "with order XX the input is the target, but the model has {inputs:input} and {outputs:output}",
        "Use --order XY; the targets of an output may be a copy of an input.",
    ),
    "set.several-arrays": ErrorText(
        InputError,
        "a Keras dataset has one input and one target array, but the model has several",
        "Save the arrays in one npz file in dataset/ and use --data files --inputs A,B --targets C.",
    ),
    # --- the demo ---
    "demo.other-files": ErrorText(
        InputError,
        "{folder} already contains other files than the digits",
        "Start the demo in another workspace: --workspace FOLDER.",
    ),
    "digits.other-files": ErrorText(
        InputError,
        "{folder}/ contains other files than the digits",
        "Move them to another folder, or train on them: choose files in dataset/ as the data.",
    ),
    "demo.no-sample": ErrorText(
        InputError,
        "the demo file {name} is missing from this installation",
        "Reinstall lanfit.",
    ),
    "survey.other-targets": ErrorText(
        InputError,
        "{client} reported targets that do not match this model",
        _SAME_VERSION,
    ),
    "survey.impossible-labels": ErrorText(
        InputError,
        "{client} reported invalid labels: {reason}",
        _SAME_VERSION,
    ),
    "survey.no-numbers": ErrorText(
        InputError,
        "{client} reported statistics of its rows that are not finite numbers",
        _SAME_VERSION,
    ),
    "survey.other-shape": ErrorText(
        InputError,
        "{client} reported statistics whose shape does not match the model's input",
        _SAME_VERSION,
    ),
    "survey.impossible-statistics": ErrorText(
        InputError,
        "{client} reported statistics that no data can have",
        _SAME_VERSION,
    ),
    "survey.too-large": ErrorText(
        InputError,
        "{client} reported a value of magnitude {value:.1e} in its rows, which is too large to compute with",
        "Such a number often marks a missing value: correct it in dataset/ of that client, or remove its rows.",
    ),
    "survey.other-columns": ErrorText(
        InputError,
        "{client} has rows of {columns:column}, but {first} has rows of {first_columns}",
        "All clients need the same columns in dataset/X.",
    ),
    "survey.other-target-columns": ErrorText(
        InputError,
        "the targets of {client} have a different shape than those of {first}",
        "All clients need the same columns in dataset/Y.",
    ),
    "survey.words-and-numbers": ErrorText(
        InputError,
        "the labels of {words} are strings, but those of {numbers} are numbers",
        "All clients need the same kind of labels in dataset/Y.",
    ),
}
