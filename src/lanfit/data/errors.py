"""The errors of data files, rows, labels and their partition; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

_CSV = (
    "lanfit reads numbers separated by commas, semicolons or tabs, with the same number of cells in every line. "
    "Decimal commas are read only where commas do not separate cells, thousands separators only with --thousands."
)
_NPZ = "Save one array per file, or choose one with --npz-key NAME (X_NAME,Y_NAME if they differ)."
_LESS = "Use fewer rows, a smaller dtype (uint8, float16), or a machine with more memory."
_ALIKE = "Labels must be all strings or all numbers; numeric columns must contain only numbers."
_RIGHT_LABEL = "Check that this is the label column: a label should be one of a few names, each used in many rows."
_REPAIR = "Remove or correct the row."
_FROM_0 = "Labels start at 0, and the model needs one output per label."
_NO_TARGETS = "Use order XX (--order XX), or provide targets."

ERRORS: Mapping[str, ErrorText] = {
    # --- the folders ---
    "folder.missing": ErrorText(
        InputError,
        "the folder {folder} does not exist",
        "Create it and put {kinds} files into it.",
    ),
    "folder.empty": ErrorText(
        InputError,
        "{folder} contains no data",
        "Put {kinds} files into it.",
    ),
    "folder.raw-table": ErrorText(
        InputError,
        "{folder} contains no data, but {file} is a table that can be prepared",
        "Run `{line}`: it creates X and Y from the table.",
    ),
    "folder.in-folder": ErrorText(
        InputError,
        "{path} is a folder",
        "Put the files themselves into {folder}.",
    ),
    "folder.counts-differ": ErrorText(
        InputError,
        "{x_folder} has {x_files}, but {y_folder} has {y_files}",
        "Files are paired in order, the first of X with the first of Y: both folders need the same number of files.",
    ),
    # --- every file ---
    "file.unknown-kind": ErrorText(
        InputError,
        "{file} is not a supported file type",
        "{way} lanfit reads {kinds} files.",
    ),
    "file.unreadable": ErrorText(
        InputError,
        "{file} can't be read: {reason}",
        "Check that the file exists, and its permissions.",
    ),
    "file.no-file": ErrorText(
        InputError,
        "{file} is a pipe or a device, not a regular file",
        "Replace it with a copy of the data.",
    ),
    "file.reader-died": ErrorText(
        InputError,
        "{file} can't be read: the process that reads it {how}{last}",
        "The file is damaged or malicious: open it in the program that created it and save it again, or save it as CSV "
        "UTF-8.",
    ),
    "file.reader-killed": ErrorText(
        InputError,
        "{file} can't be read: the process that reads it was killed, probably because memory ran out",
        "Close other programs and start again. If that is not enough, use fewer rows or a smaller dtype (uint8, "
        "float16).",
    ),
    "file.reader-endless": ErrorText(
        InputError,
        "{file} can't be read: reading takes far more processor time than a valid file of its size needs",
        "The file is damaged or malicious: open it in the program that created it and save it again, or save it as CSV "
        "UTF-8.",
    ),
    "file.reader-memory": ErrorText(
        InputError,
        "{file} can't be read within {limit} of memory",
        "{way}.",
    ),
    "file.rows-differ": ErrorText(
        InputError,
        "{file} appears to have {expected:row}, but {found} could be read",
        "Look for line breaks inside quotes.",
    ),
    "file.no-rows": ErrorText(
        InputError,
        "{file} contains no rows: it has shape {shape}",
        "The first dimension must be the rows.",
    ),
    "file.no-plain-numbers": ErrorText(
        InputError,
        "{file} contains values of type {dtype}, not plain numbers",
        "{way}.",
    ),
    "file.larger-than-memory": ErrorText(
        InputError,
        "{file} declares an array of shape {shape} ({size}), but only {free} of memory is free",
        _LESS,
    ),
    # --- packed files ---
    "packed.damaged": ErrorText(
        InputError,
        "{file} can't be read: {reason}",
        "It may be damaged or truncated: copy or compress it again, without a password.",
    ),
    "packed.not-one-file": ErrorText(
        InputError,
        "{file} contains {count:file}, not one",
        "Put one csv file into each zip file.",
    ),
    "packed.bomb": ErrorText(
        InputError,
        "{file} ({size}) unpacks to more than {ratio:,} times its size",
        "If you trust it, unpack it yourself and put the csv file here.",
    ),
    # --- tables ---
    "columns.not-numbers": ErrorText(
        InputError,
        "{file}: {count} of {width:column} are not purely numeric: {columns}{names}",
        "Use `{command}`. It proposes: {proposals}. It shows all columns first and accepts corrections.",
    ),
    # --- csv ---
    "csv.no-pandas": ErrorText(
        InputError,
        "{file} is a csv file, which requires pandas",
        "Install it: `pip install pandas`.",
    ),
    "csv.no-rows": ErrorText(
        InputError,
        "{file} contains no rows",
        "Each line is one row; a header line does not count as a row.",
    ),
    "csv.not-text": ErrorText(
        InputError,
        "{file} contains zero bytes, so it is not a text file",
        "Save it as CSV UTF-8: UTF-16 without a byte order mark and spreadsheets renamed to .csv can't be read.",
    ),
    "file.wrong-ending": ErrorText(
        InputError,
        "{file} is {what}, which does not match its extension",
        "{way}.",
    ),
    "csv.not-utf8": ErrorText(
        InputError,
        "{file} is not encoded in UTF-8, UTF-16 or Windows-1252",
        "Save it as csv in UTF-8.",
    ),
    "csv.endless-line": ErrorText(
        InputError,
        "{file} has a line longer than {size}",
        "Each line is one row; check that the line breaks were not lost.",
    ),
    "csv.unnamed-column": ErrorText(
        InputError,
        "{file}, line {line}: column {column} has no name",
        "The header must name all columns. To leave out an index that pandas wrote, use to_csv(index=False) or `lanfit "
        "prepare`.",
    ),
    "csv.uneven-line": ErrorText(
        InputError,
        "{file}, line {line} has {found:cell}, but the first line has {expected}",
        _CSV,
    ),
    "csv.many-columns": ErrorText(
        InputError,
        "{file}, line {line} has {width:,cell}, but a row in a text file can have at most {most:,}",
        "Check that each row is on its own line. Long rows are read much faster from an npz file: `numpy.savez`.",
    ),
    "csv.not-a-number": ErrorText(
        InputError,
        '{file}, line {line}, column {column}: "{cell}" is not a number{names}',
        "{way}.",
    ),
    "csv.ambiguous": ErrorText(
        InputError,
        '{file}, line {line}, column {column}: "{cell}" can be {one} or {other}',
        "Choose one: --decimal {sign} reads {one}, --thousands {sign} reads {other}.",
    ),
    "csv.thousands": ErrorText(
        InputError,
        '{file}, line {line}, column {column}: "{cell}" has thousands separators',
        "Use --thousands {sign}, which applies to all files of X and Y, or write the numbers without separators.",
    ),
    "csv.missing": ErrorText(
        InputError,
        '{file}, line {line}, column {column}: "{cell}" marks a missing value',
        "Every cell needs a value. {way}.",
    ),
    "csv.empty-cell": ErrorText(
        InputError,
        "{file}, line {line}, column {column}: the cell is empty",
        "Every cell needs a value. {way}.",
    ),
    "csv.quotes": ErrorText(
        InputError,
        "{file} has an unterminated or misplaced quote: {reason}",
        'A cell that starts with " must end with "; write a " inside it twice.',
    ),
    "csv.unreadable": ErrorText(
        InputError,
        "{file} can't be read as a csv file: {reason}",
        _CSV,
    ),
    # --- xlsx ---
    "xlsx.no-reader": ErrorText(
        InputError,
        "{file} is an xlsx file, which requires python-calamine",
        "Install it: `pip install python-calamine`.",
    ),
    "xlsx.damaged": ErrorText(
        InputError,
        "{file} can't be read as an xlsx file: {reason}",
        "It may be truncated, password-protected, or in an older format: open it and save it as .xlsx again.",
    ),
    "xlsx.bomb": ErrorText(
        InputError,
        "{file} unpacks to more than {ratio} times its size, which no ordinary spreadsheet does",
        "If you trust it, save it as csv.",
    ),
    "xlsx.larger-than-memory": ErrorText(
        InputError,
        "{file} unpacks to {unpacked} and needs up to {factor} times that ({size}), but only {free} of memory is free",
        "Use fewer rows, save it as csv, or use a machine with more memory.",
    ),
    "xlsx.stray-cell": ErrorText(
        InputError,
        "{file} ({sheet}) extends to cell {last}: {cells:,cell} take {size}, but only {free} of memory is free",
        "Delete stray cells outside the table, or save the sheet as csv.",
    ),
    "xlsx.empty-sheet": ErrorText(
        InputError,
        "{file} contains no rows: its first sheet is empty",
        "Put the data on the first sheet.",
    ),
    "xlsx.only-names": ErrorText(
        InputError,
        "{file} contains no rows: its first sheet has only a header",
        "Put the rows below the header, on the first sheet.",
    ),
    "xlsx.unnamed-column": ErrorText(
        InputError,
        "{cell}: the column has no name",
        "The header must be a single line at the top, with one unmerged cell per column. To leave out an index that "
        "pandas wrote, use to_excel(index=False) or `lanfit prepare`.",
    ),
    "xlsx.not-a-number": ErrorText(
        InputError,
        '{cell}: "{text}" is not a number{names}',
        "{way}.",
    ),
    "xlsx.missing": ErrorText(
        InputError,
        '{cell}: "{text}" marks a missing value',
        "Every cell needs a value. {way}.",
    ),
    "xlsx.not-computed": ErrorText(
        InputError,
        "{file}, cell {cell}: the formula was never computed",
        "Open the file in Excel or LibreOffice and save it: programs such as XlsxWriter and openpyxl write formulas "
        "without their values.",
    ),
    "xlsx.empty-cell": ErrorText(
        InputError,
        "{cell}: the cell is empty",
        "In merged cells only the first has a value. {way}.",
    ),
    "xlsx.date": ErrorText(
        InputError,
        "{cell}: {date} is a date or time, not a number",
        "{way}.",
    ),
    # --- parquet and feather ---
    "frame.no-reader": ErrorText(
        InputError,
        "{file} is a {kind} file, which requires pyarrow",
        "Install it, `pip install pyarrow`, or save the table as csv: "
        '`pandas.read_{kind}("x.{kind}").to_csv("x.csv", index=False)`.',
    ),
    "frame.damaged": ErrorText(
        InputError,
        "{file} can't be read: {reason}",
        "It may be damaged or truncated: copy or save it again.",
    ),
    "frame.not-numbers": ErrorText(
        InputError,
        "{file} has columns that are not numeric: {columns}",
        "Convert them to numbers, e.g. with pandas.get_dummies, or leave them out.",
    ),
    "frame.missing": ErrorText(
        InputError,
        '{file}, row {row}, column "{column}": the value is missing; the column has {count} such rows',
        "Every cell needs a value: fill in the missing values, or remove the rows.",
    ),
    # --- npz ---
    "npz.damaged": ErrorText(
        InputError,
        "{file} can't be read as an {kind} file: {reason}",
        "It may be damaged or truncated: copy or save it again (numpy.savez).",
    ),
    "npz.no-array": ErrorText(
        InputError,
        "{file} contains no array",
        'Save one array into it: numpy.savez("x.npz", x).',
    ),
    "npz.several-arrays": ErrorText(
        InputError,
        "{file} contains {count} arrays: {arrays}",
        _NPZ,
    ),
    "npz.no-such-array": ErrorText(
        InputError,
        '{file} does not contain an array "{key}"; it contains {arrays}',
        "Give --npz-key one of these names.",
    ),
    "named.no-file": ErrorText(
        InputError,
        "{folder} has no npz file with the arrays for the model",
        "Save all arrays in one npz file there, e.g. numpy.savez('{folder}/data.npz', left=..., right=..., y=...), "
        "and name them with --inputs left,right --targets y. Tables (csv, xlsx) work for models with one input only.",
    ),
    "named.several-files": ErrorText(
        InputError,
        "{folder} has more than one npz file: {files}",
        "Keep only the one that contains all inputs and targets.",
    ),
    "named.count": ErrorText(
        InputError,
        "{flag} {given} does not name one array for each of the model's {count}: {names}",
        "List one array for each, in this order, separated by commas.",
    ),
    "named.unnamed": ErrorText(
        InputError,
        "{file} has the arrays {arrays}, but the model's {count} are called {names}",
        "List the arrays in this order, e.g. {flag}.",
    ),
    "named.no-such-array": ErrorText(
        InputError,
        '{file} does not contain an array "{key}"; it contains {arrays}',
        "Set {flag} to names from this list.",
    ),
    "npz.wrong-key": ErrorText(
        InputError,
        '"{key}" is not a valid array name',
        "Give --npz-key one name, or X_NAME,Y_NAME.",
    ),
    "npz.pickled": ErrorText(
        InputError,
        "{file} contains pickled Python objects, which lanfit never loads",
        "In Python, save plain numbers, `numpy.stack(list(x))`, or text, `x.astype(str)`. Rows of unequal length must "
        "be padded first.",
    ),
    "npz.structured": ErrorText(
        InputError,
        "{file} contains a structured array with the fields {fields}",
        "Save plain numbers: `numpy.lib.recfunctions.structured_to_unstructured(x)`.",
    ),
    "npz.sparse": ErrorText(
        InputError,
        "{file} contains a sparse matrix of scipy.sparse",
        'Save it as a dense array: `numpy.savez("{name}", scipy.sparse.load_npz("{name}").toarray())`.',
    ),
    "npz.no-rows": ErrorText(
        InputError,
        "{file} contains no rows: its array has shape {shape}",
        "The first dimension must be the rows.",
    ),
    # --- labels as they are read ---
    "labels.empty": ErrorText(
        InputError,
        "{file}, row {row}: the label is empty",
        "Every row needs a label.",
    ),
    "labels.missing": ErrorText(
        InputError,
        '{file}, row {row}: "{mark}" marks a missing value among numeric labels',
        "Every row needs a label: fill it in, or remove the row from both X and Y.",
    ),
    "labels.mixed": ErrorText(
        InputError,
        '{file}, row {row}: "{number}" is a number, but "{word}" (row {word_row}) is not',
        _ALIKE,
    ),
    "labels.mixed-files": ErrorText(
        InputError,
        "{file}, row 1: {number} is a number, but the labels in {words_file} are strings",
        _ALIKE,
    ),
    "labels.too-many": ErrorText(
        InputError,
        "{file} has {count:,different label}, more than {most:,}",
        _RIGHT_LABEL,
    ),
    "labels.too-many-in-all": ErrorText(
        InputError,
        "the files of Y have {count:,different label}, more than {most:,}",
        _RIGHT_LABEL,
    ),
    "labels.too-long": ErrorText(
        InputError,
        '{file}, row {row}: the label "{label}" is longer than {most:character}',
        "Use short names for labels.",
    ),
    "labels.control-characters": ErrorText(
        InputError,
        '{file}, row {row}: the label "{label}" contains invisible characters',
        "Use short names for labels.",
    ),
    "labels.too-long-array": ErrorText(
        InputError,
        "{file} contains text that is too long for labels",
        "Use labels of at most {most:character}.",
    ),
    "labels.no-characters": ErrorText(
        InputError,
        "{file} contains text that can't be decoded: four bytes are not a valid character",
        "Save the file again.",
    ),
    # --- labels and targets against the loss and the model ---
    "labels.more-than-outputs": ErrorText(
        InputError,
        "there are {count:different label} ({labels}), but the model has {outputs:output}",
        "Use a model with one output per label, or look for misspelled labels.",
    ),
    "labels.more-than-two": ErrorText(
        InputError,
        "there are {count:different label} ({labels}), but this loss is for two classes",
        "Use a model with one output per label, or look for misspelled labels.",
    ),
    "labels.not-0-or-1": ErrorText(
        InputError,
        "{file}, row {row}: the label is {value}, but this loss takes only 0 and 1",
        "Encode the two classes as 0 and 1.",
    ),
    "labels.not-one-hot": ErrorText(
        InputError,
        "{file}, row {row}: {value} is not one-hot: the values must be at least 0 and sum to 1",
        "Use one-hot rows, or one integer label per row.",
    ),
    "labels.not-whole": ErrorText(
        InputError,
        "{file}, row {row}: the label {value} is not an integer",
        "If the targets are numbers and not classes, choose another --loss.",
    ),
    "labels.negative": ErrorText(
        InputError,
        "{file}, row {row}: the label {value} is negative",
        _FROM_0,
    ),
    "labels.above-outputs": ErrorText(
        InputError,
        "{file}, row {row}: the label is {value}, but the model has {outputs:output} (0-{last})",
        _FROM_0,
    ),
    "labels.open-outputs": ErrorText(
        InputError,
        "labels can't be one-hot encoded because the model's number of outputs is not fixed",
        "Provide one-hot rows.",
    ),
    "targets.not-finite": ErrorText(
        InputError,
        "{file}, row {row}: {value} is not a finite float32 number",
        _REPAIR,
    ),
    "targets.wrong-shape": ErrorText(
        InputError,
        "{file} has rows of {shape}, but the model and the loss need {wanted}",
        "Check that the file belongs to this model, and that the loss (--loss) is right.",
    ),
    "targets.classes-with-xx": ErrorText(
        InputError,
        "with order XX the model learns to reproduce its input, but the loss {loss} is for classes",
        "Use --order XY, or a loss for numbers, e.g. --loss mean_squared_error.",
    ),
    "targets.no-files": ErrorText(
        InputError,
        "there are no files in Y, but this loss needs targets",
        _NO_TARGETS,
    ),
    "targets.none": ErrorText(
        InputError,
        "{name} has no targets, but this loss needs them",
        _NO_TARGETS,
    ),
    "targets.not-numbers": ErrorText(
        InputError,
        "only numeric targets can be normalized, but these are {targets}",
        "Leave out --normalize-targets, or use a regression loss.",
    ),
    # --- rows that belong together ---
    "rows.unequal": ErrorText(
        InputError,
        "{x_file} has {x_rows:row}, but {y_file} has {y_rows}",
        "Files are paired in natural order, row by row: both need the same number of rows, not counting a header line.",
    ),
    "rows.other-columns": ErrorText(
        InputError,
        "{file} has rows of {shape:value}, but {first_file} has rows of {first_shape}",
        "All files of {folder} must have the same columns.",
    ),
    "rows.no-folder": ErrorText(
        InputError,
        "no folder of inputs is given",
        "Give one.",
    ),
    "rows.other-input": ErrorText(
        InputError,
        "{file} has rows of {shape:value}, but the model takes {wanted}",
        "Check that the files belong to this model; a csv row needs as many columns as the model has input values.",
    ),
    "rows.permuted": ErrorText(
        InputError,
        "{file} has rows of {shape:value}, but the model takes {wanted}: the same sizes in another order",
        "Reshaping would scramble the values: transpose them in Python and save them again: `{line}`.",
    ),
    "rows.other-output": ErrorText(
        InputError,
        "with order XX the input (rows of {shape:value}) is the target, but the model's output is {output}",
        "Use a model whose output has as many values as its input, or use --order XY.",
    ),
    "rows.not-finite": ErrorText(
        InputError,
        "{file}, row {row}{column}: {value} is not a finite float32 number",
        "Remove or correct the row; a single such value makes training fail.",
    ),
    "rows.unknown-id": ErrorText(
        InputError,
        "{file}, row {row}{column}: the id {value} is outside the {ids} ids of the model's Embedding (0-{last})",
        "Number the ids from 0, or build the model with a larger input_dim: keras.layers.Embedding(n, ...) for ids up "
        "to n - 1.",
    ),
    "rows.larger-than-memory": ErrorText(
        InputError,
        "{what} {size}, but only {free} of memory is free",
        "Use fewer rows, a smaller dtype (uint8, float16), or a machine with more memory.",
    ),
    # --- too few to be split ---
    "split.share": ErrorText(
        InputError,
        "a fraction of {share} can't be held out",
        "Give a number of at least 0 and less than 1.",
    ),
    "split.none-left": ErrorText(
        InputError,
        "{held} of {rows} would be held out, which leaves none to train on",
        "Add rows, or hold out fewer (--test-split).",
    ),
    "split.none-left-of-shard": ErrorText(
        InputError,
        "{shard} has {rows}, of which {held} would be held out: that leaves none to train on",
        "Use fewer clients or parts, more rows, or set --validation-split 0.",
    ),
    "split.samples": ErrorText(
        InputError,
        "{samples:row} can't be selected from {rows}",
        "Give a number of rows from 1 to {rows}.",
    ),
    "split.samples-too-few": ErrorText(
        InputError,
        "{samples} can't be divided into training and test rows",
        "Use more samples.",
    ),
    "split.more-shards-than-rows": ErrorText(
        InputError,
        "{rows} can't be distributed to {shards:client}: each needs at least one",
        "Use fewer clients.",
    ),
    "split.too-few-rows": ErrorText(
        InputError,
        "{test} of {rows} are test rows, and the remaining {rest} are too few for {shards:client}",
        "Use fewer clients, more rows or a smaller --test-split.",
    ),
    "split.folds": ErrorText(
        InputError,
        "{rows} can't be divided into {folds:fold}",
        "Use --folds 2 to {most}.",
    ),
    "split.folds-of-a-class": ErrorText(
        InputError,
        "{folds:fold} need {folds:row} of every class, but there are fewer of {classes}",
        "Use --folds {least}, or more rows.",
    ),
    "split.class-of-one-row": ErrorText(
        InputError,
        "{folds:fold} need {folds:row} of every class, but there are fewer of {classes}",
        "Use more rows, or leave the class out.",
    ),
    "split.batch-of-shard": ErrorText(
        InputError,
        "a batch of {batch:row} is larger than the {rows:training row} of shard {shard} of {shards}",
        "Use --batch-size {rows} or less, fewer clients, or more rows.",
    ),
    # --- normalizers ---
    "normalizer.unknown": ErrorText(
        InputError,
        'there is no normalizer "{name}"',
        "Choose one of {known}.",
    ),
    "deal.no-classes": ErrorText(
        InputError,
        "rows can't be partitioned by class (--deal {how}): here a row has no class, or several",
        "Use --deal equal, or a loss for classes, e.g. --loss sparse_categorical_crossentropy.",
    ),
    "deal.too-skewed": ErrorText(
        InputError,
        "{rows} could not be partitioned so that each of {shards:client} gets {least}, the minimum for this batch "
        "size: none of {draws} random draws with alpha {alpha} succeeded",
        "Use a larger --alpha, a smaller --batch-size, fewer clients, or more rows.",
    ),
    "deal.more-pieces-than-rows": ErrorText(
        InputError,
        "{rows} can't be divided into {each:chunk} for each of {shards:client}",
        "Use fewer --classes-per-client, fewer clients, or more rows.",
    ),
    "deal.more-parts-than-rows": ErrorText(
        InputError,
        "{rows} can't be divided into {parts:part}",
        "Use fewer parts, or more rows.",
    ),
    "parts.smaller-than-batch": ErrorText(
        InputError,
        "a batch of {batch:row} is larger than the {rows:training row} of {parts}",
        "Choose more parts on the client, or use --batch-size {most} or less.",
    ),
    "own-data.labels-changed": ErrorText(
        InputError,
        "the labels in Y are not those that this client reported when the run started",
        "Restore the files, or start a new run; do not change them during a run.",
    ),
    # --- images ---
    "images.no-pillow": ErrorText(
        InputError,
        "{file} is an image, which requires Pillow",
        "Install it: `pip install pillow`.",
    ),
    "images.none": ErrorText(
        InputError,
        "{folder} contains no images",
        "Put the images into one subfolder per class, such as {folder}/cat/1.jpg.",
    ),
    "images.empty-class": ErrorText(
        InputError,
        "{folder} is a class folder, but contains no images",
        "Put the images of the class into it, or remove the folder.",
    ),
    "images.other-file": ErrorText(
        InputError,
        "{file} is in a class folder, but is not an image",
        "Move it away: {folder} may contain only one folder of images (png, jpg, bmp, gif, webp, tif) per class.",
    ),
    "images.damaged": ErrorText(
        InputError,
        "{file} can't be read as an image: {reason}",
        "It may be damaged, truncated, or another type of file: save it again, or move it away.",
    ),
    "images.too-large": ErrorText(
        InputError,
        "{file} has {width:,}×{height:,} pixels; the maximum is {most:,}",
        "Resize the image.",
    ),
    "images.deep": ErrorText(
        InputError,
        "{file} has more than 8 bits per channel (Pillow mode {mode})",
        "Save it with 8 bits per channel, or save the values as npz.",
    ),
    "images.no-size": ErrorText(
        InputError,
        "{folder} contains images, but the model takes rows of {wanted}, which is not an image shape",
        "Use a model with an input of (height, width, channels) with 1, 3 or 4 channels, or prepare the images in a "
        "chosen size: `lanfit prepare FOLDER --size 64x64`.",
    ),
    "images.no-numbers": ErrorText(
        InputError,
        "{folder} contains images in one folder per class, but the model's loss takes numbers",
        "Use a model with a cross-entropy loss, or save images and numbers as npz files.",
    ),
}
