"""What can be wrong when a table or images are prepared, and when a recipe is applied to new rows."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError
from lanfit.mistakes.entry import Mistake

_SHOWN = "`lanfit prepare TABLE` without --yes shows all columns and asks."

MISTAKES: Mapping[str, Mistake] = {
    # --- what is given ---
    "prepare.not-found": Mistake(
        InputError,
        "there is no file or folder {path}",
        "Give the path of a table (csv, xlsx), or of a folder of images with one subfolder for each class.",
    ),
    "prepare.several-folders": Mistake(
        InputError,
        "{folder} is a folder, and more than it is given",
        "Prepare one folder of images, or tables.",
    ),
    "table.no-table": Mistake(
        InputError,
        "{file} is no table",
        "Give csv or xlsx files to `lanfit prepare`; npz files go into dataset/X and dataset/Y as they are.",
    ),
    "prepare.tables-differ": Mistake(
        InputError,
        "{file} does not have the columns of {first}: {difference}",
        "Tables that are prepared together need the same columns. Prepare one, or give them the same columns.",
    ),
    "prepare.no-sign": Mistake(
        InputError,
        "{flag}: {sign!r} is not one of: {known}",
        "Give one of these words.",
    ),
    # --- columns ---
    "prepare.no-such-column": Mistake(
        InputError,
        "there is no column {name!r}; there are: {names}",
        "Give a name as it stands there, or the number of the column.",
    ),
    "prepare.no-correction": Mistake(
        InputError,
        "{answer!r} is no correction",
        "Write COLUMN = and one of {uses}, as in: age = category.",
    ),
    "prepare.no-category": Mistake(
        InputError,
        "column {column!r} can't be a category: it has {count:,} different values, and {most:,} are the most",
        "Leave it out with --drop, or group its values first.",
    ),
    "prepare.no-date": Mistake(
        InputError,
        "column {column!r} can't be read as dates: {cell!r} can't be told",
        "Write dates as 2026-01-31; where day and month can be exchanged, say --day-first or --month-first.",
    ),
    "prepare.no-number": Mistake(
        InputError,
        "column {column!r} can't be read as numbers: {cell!r}: {doubt}",
        "Say how numbers are written with --decimal and --thousands, which text means no value with --missing, or use "
        "the column as a category.",
    ),
    "prepare.no-inputs": Mistake(
        InputError,
        "no column is left as an input: {columns}",
        "Say what becomes of a column with --number, --category or --date.",
    ),
    # --- the target ---
    "prepare.no-target": Mistake(
        InputError,
        "which column is to be predicted can't be guessed; there are: {names}",
        "Name it with --target; --target none prepares inputs only.",
    ),
    "prepare.constant-target": Mistake(
        InputError,
        "column {column!r} can't be the target: it has {count}, and two are the least",
        "Name another column with --target.",
    ),
    "prepare.doubtful-target": Mistake(
        InputError,
        "column {column!r} can't be the target as it is: {doubt}",
        "Say how numbers are written with --decimal and --thousands.",
    ),
    "prepare.no-number-target": Mistake(
        InputError,
        "column {column!r} can't be the target of a regression: {cell!r} is no number",
        "Use --task classification, or name the text that means no value with --missing.",
    ),
    "prepare.too-many-classes": Mistake(
        InputError,
        "column {column!r} can't be the target of a classification: it has {count:,} different values",
        "Use --task regression if they are numbers, or name another column with --target. " + _SHOWN,
    ),
    # --- what is there already ---
    "prepare.in-the-way": Mistake(
        InputError,
        "there are other files in {folder}: {files}",
        "Move them away, let them be moved to {folder}/replaced-1 with --replace, or work in another folder with "
        "--workspace.",
    ),
    "prepare.model-exists": Mistake(
        InputError,
        "the model would overwrite {files}",
        "Rename them, keep them with --model none, or overwrite them with --replace.",
    ),
    "prepare.model-without-target": Mistake(
        InputError,
        "a model can't be made without a target",
        "Name the column with --target, or use --model none.",
    ),
    "prepare.model-failed": Mistake(
        InputError,
        "the model was not made: {script} ended with: {reason}",
        "Run `python {script}` to see all of it; making a model needs Keras: pip install -e .[server].",
    ),
    # --- the recipe ---
    "recipe.version": Mistake(
        InputError,
        "{file} has version {version}, and this lanfit reads up to {known}",
        "Upgrade lanfit on this machine.",
    ),
    "recipe.no-recipe": Mistake(
        InputError,
        "{file} is no recipe: {reason}",
        "Name the recipe.json that `lanfit prepare` wrote with --recipe.",
    ),
    "recipe.missing-columns": Mistake(
        InputError,
        "{file} lacks columns that the model needs: {names}",
        "Give rows with the columns of the table that was prepared; the target may be missing.",
    ),
    "recipe.other-columns": Mistake(
        InputError,
        "{file} has {found:column} without names, but the recipe takes {wanted}: {names}",
        "Give the columns of the table that was prepared, in their order, or a first line with their names.",
    ),
    "recipe.other-value": Mistake(
        InputError,
        "{file}, row {row}, column {column!r}: {cell!r} is not {wanted}",
        "Mend the cell, or empty it: a missing value is filled as in training.",
    ),
    # --- predictions ---
    "predict.out-exists": Mistake(
        InputError,
        "{file} is there already",
        "Name another file with --out, or overwrite it with --replace.",
    ),
    "predict.no-rows": Mistake(
        InputError,
        "there are no rows to predict in {path}",
        "Give the path of a csv, xlsx or npz file, of an image, or of a folder of images.",
    ),
    "predict.no-model": Mistake(
        InputError,
        "there is no model {name}",
        "Give a model's path or the name of a run: the runs are the folders in {folder}.",
    ),
    "predict.no-keras": Mistake(
        InputError,
        "predicting needs Keras, which is not installed here",
        "Install it: pip install -e .[server].",
    ),
    "predict.not-loaded": Mistake(
        InputError,
        "{file} is no model that Keras can load: {reason}",
        "Use the final.keras of a run.",
    ),
    "predict.several": Mistake(
        InputError,
        "{file} has several inputs or outputs, or none",
        "Predict with it in Python: keras.models.load_model(...).predict(...).",
    ),
    "predict.other-shape": Mistake(
        InputError,
        "{file} has rows of {shape:value}, but the model takes {wanted}",
        "Raw columns need the recipe of the model: it lies beside it, or is named with --recipe.",
    ),
    "predict.no-preprocessing": Mistake(
        InputError,
        "{file} can't be read: {reason}",
        "Copy the file that the run wrote, or remove it: classes are numbers then.",
    ),
    # --- images ---
    "images.no-pillow": Mistake(
        InputError,
        "{file} is an image, and reading those needs Pillow",
        "Install it: `pip install pillow`.",
    ),
    "images.none": Mistake(
        InputError,
        "{folder} holds no images",
        "Put them into one subfolder for each class, such as {folder}/cat/1.jpg.",
    ),
    "images.empty-class": Mistake(
        InputError,
        "{folder} is the folder of a class, and holds no images",
        "Put its images into it, or remove the folder.",
    ),
    "images.one-class": Mistake(
        InputError,
        "all images in {folder} are of one class, {name}",
        "Make one subfolder for each class, at least two.",
    ),
    "images.other-file": Mistake(
        InputError,
        "{file} is no image in the folder of a class",
        "Move it away: {folder} may hold only folders of images (png, jpg, bmp, gif, webp, tif), one for each class.",
    ),
    "images.damaged": Mistake(
        InputError,
        "{file} can't be read as an image: {reason}",
        "It may be damaged, cut short, or another kind of file: save it again, or move it away.",
    ),
    "images.too-large": Mistake(
        InputError,
        "{file} has {width:,}×{height:,} pixels, and {most:,} are the most",
        "Make it smaller.",
    ),
    "images.deep": Mistake(
        InputError,
        "{file} has more than 8 bits a channel (Pillow calls it {mode})",
        "Save it with 8 bits, or save the values as npz.",
    ),
    "images.wrong-size": Mistake(
        InputError,
        "{size!r} is no size of images",
        "Give height and width in pixels, as in 64x64; 2048 is the most.",
    ),
    "images.no-size": Mistake(
        InputError,
        "{folder} holds images, but the model takes rows of {wanted}, which is no size of images",
        "Use a model whose input is (height, width, channels) with 1, 3 or 4 channels last, or prepare the images in a "
        "size of your own: `lanfit prepare FOLDER --size 64x64`.",
    ),
    "images.no-numbers": Mistake(
        InputError,
        "{folder} holds images in folders that name their classes, but the model's loss takes numbers",
        "Use a model with a cross-entropy loss, or save images and numbers as npz files.",
    ),
}
