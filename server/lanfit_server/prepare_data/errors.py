"""The errors of `lanfit prepare` and `lanfit predict`; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

_SHOWN = "`lanfit prepare TABLE` without --yes shows all columns and asks."

ERRORS: Mapping[str, ErrorText] = {
    # --- the arguments ---
    "prepare.not-found": ErrorText(
        InputError,
        "the file or folder {path} does not exist",
        "Give the path of a table (csv, xlsx), or of a folder of images with one subfolder per class.",
    ),
    "prepare.several-folders": ErrorText(
        InputError,
        "{folder} is a folder, but several inputs are given",
        "Prepare one folder of images, or one or more tables.",
    ),
    "table.no-table": ErrorText(
        InputError,
        "{file} is not a table",
        "Give csv or xlsx files to `lanfit prepare`; put npz files into dataset/X and dataset/Y as they are.",
    ),
    "prepare.tables-differ": ErrorText(
        InputError,
        "{file} does not have the columns of {first}: {difference}",
        "Tables that are prepared together need the same columns. Prepare a single table, or make the columns equal.",
    ),
    "prepare.no-sign": ErrorText(
        InputError,
        "{flag}: {sign!r} is not one of: {known}",
        "Give one of these names.",
    ),
    # --- columns ---
    "prepare.no-such-column": ErrorText(
        InputError,
        "there is no column {name!r}; the columns are: {names}",
        "Give a name from this list, or the number of the column.",
    ),
    "prepare.no-correction": ErrorText(
        InputError,
        "{answer!r} is not a valid correction",
        "Write COLUMN = USE, where USE is one of {uses}, for example: age = category.",
    ),
    "prepare.no-category": ErrorText(
        InputError,
        "column {column!r} can't be a category: it has {count:,} distinct values; the maximum is {most:,}",
        "Drop it with --drop, or group its values first.",
    ),
    "prepare.no-date": ErrorText(
        InputError,
        "column {column!r} can't be read as dates: {cell!r} is ambiguous or not a date",
        "Write dates as 2026-01-31; if day and month can be confused, use --day-first or --month-first.",
    ),
    "prepare.no-number": ErrorText(
        InputError,
        "column {column!r} can't be read as numbers: {cell!r}: {doubt}",
        "Give the number format with --decimal and --thousands, the text that marks a missing value with --missing, or "
        "use the column as a category.",
    ),
    "prepare.no-inputs": ErrorText(
        InputError,
        "no column is left as an input: {columns}",
        "Assign columns with --number, --category or --date.",
    ),
    # --- the target ---
    "prepare.no-target": ErrorText(
        InputError,
        "the column to predict can't be guessed; the columns are: {names}",
        "Give it with --target; --target none prepares only inputs.",
    ),
    "prepare.constant-target": ErrorText(
        InputError,
        "column {column!r} can't be the target: it has {count}; at least two are needed",
        "Choose another column with --target.",
    ),
    "prepare.doubtful-target": ErrorText(
        InputError,
        "column {column!r} can't be the target as it is: {doubt}",
        "Give the number format with --decimal and --thousands.",
    ),
    "prepare.no-number-target": ErrorText(
        InputError,
        "column {column!r} can't be the target of a regression: {cell!r} is not a number",
        "Use --task classification, or give the text that marks a missing value with --missing.",
    ),
    "prepare.too-many-classes": ErrorText(
        InputError,
        "column {column!r} can't be the target of a classification: it has {count:,} distinct values",
        "Use --task regression if they are numbers, or choose another column with --target. " + _SHOWN,
    ),
    # --- existing files ---
    "prepare.in-the-way": ErrorText(
        InputError,
        "{folder} already contains other files: {files}",
        "Move them away, move them to {folder}/replaced-1 with --replace, or use another folder with --workspace.",
    ),
    "prepare.model-exists": ErrorText(
        InputError,
        "the model would overwrite {files}",
        "Rename them, skip the model with --model none, or overwrite them with --replace.",
    ),
    "prepare.model-without-target": ErrorText(
        InputError,
        "a model can't be created without a target",
        "Give the target column with --target, or use --model none.",
    ),
    "prepare.model-failed": ErrorText(
        InputError,
        "the model could not be created: {script} failed: {reason}",
        "Run `python {script}` to see the full error; creating a model requires Keras: pip install -e .[server].",
    ),
    # --- the recipe ---
    "recipe.version": ErrorText(
        InputError,
        "{file} has version {version}, but this version of lanfit reads at most {known}",
        "Upgrade lanfit on this machine.",
    ),
    "recipe.no-recipe": ErrorText(
        InputError,
        "{file} is not a valid recipe: {reason}",
        "Give the recipe.json that `lanfit prepare` wrote with --recipe.",
    ),
    "recipe.missing-columns": ErrorText(
        InputError,
        "{file} lacks columns that the model needs: {names}",
        "Give rows with the columns of the prepared table; only the target may be missing.",
    ),
    "recipe.other-columns": ErrorText(
        InputError,
        "{file} has {found:column} without names, but the recipe expects {wanted}: {names}",
        "Give the columns of the prepared table in the same order, or add a header line with their names.",
    ),
    "recipe.other-value": ErrorText(
        InputError,
        "{file}, row {row}, column {column!r}: {cell!r} is not {wanted}",
        "Correct the cell, or clear it: a missing value is filled in as in training.",
    ),
    # --- predictions ---
    "predict.out-exists": ErrorText(
        InputError,
        "{file} already exists",
        "Choose another file with --out, or overwrite it with --replace.",
    ),
    "predict.no-rows": ErrorText(
        InputError,
        "there are no rows to predict in {path}",
        "Give the path of a csv, xlsx or npz file, of an image, or of a folder of images.",
    ),
    "predict.no-model": ErrorText(
        InputError,
        "there is no model {name}",
        "Give the path of a model or the name of a run: the runs are the folders in {folder}.",
    ),
    "predict.no-keras": ErrorText(
        InputError,
        "prediction requires Keras, which is not installed here",
        "Install it: pip install -e .[server].",
    ),
    "predict.not-loaded": ErrorText(
        InputError,
        "{file} can't be loaded as a Keras model: {reason}",
        "Use the final.keras of a run.",
    ),
    "predict.several": ErrorText(
        InputError,
        "{file} does not have exactly one input and one output",
        "Use it in Python: keras.models.load_model(...).predict(...).",
    ),
    "predict.other-shape": ErrorText(
        InputError,
        "{file} has rows of {shape:value}, but the model takes {wanted}",
        "Raw columns need the recipe of the model: put recipe.json next to the model, or give it with --recipe.",
    ),
    "predict.no-preprocessing": ErrorText(
        InputError,
        "{file} can't be read: {reason}",
        "Copy the file that the run wrote, or remove it: then classes are shown as numbers.",
    ),
    "images.one-class": ErrorText(
        InputError,
        "all images in {folder} belong to one class, {name}",
        "Create one subfolder per class, at least two.",
    ),
    "images.wrong-size": ErrorText(
        InputError,
        "{size!r} is not a valid image size",
        "Give height and width in pixels, such as 64x64, at most 2048 each.",
    ),
}
