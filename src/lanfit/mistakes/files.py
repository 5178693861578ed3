"""What can be wrong with the files of X and Y: that they are there, what kind they are, and what a reader meets."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError
from lanfit.mistakes.entry import Mistake

_CSV = (
    "lanfit reads numbers separated by commas, semicolons or tabs, the same count in every line; decimal commas "
    "only where commas do not separate, thousands separators where --thousands says so."
)
_NPZ = "Keep one array per file, or name the one to read with --npz-key NAME (X_NAME,Y_NAME if they differ)."
_LESS = "Use fewer rows, a smaller dtype (uint8, float16), or a machine with more memory."

MISTAKES: Mapping[str, Mistake] = {
    # --- the folders ---
    "folder.missing": Mistake(
        InputError,
        "there is no folder {folder}",
        "Make it and put {kinds} files into it.",
    ),
    "folder.empty": Mistake(
        InputError,
        "{folder} holds no data",
        "Put {kinds} files into it.",
    ),
    "folder.raw-table": Mistake(
        InputError,
        "{folder} holds no data, but {file} is a table that can be prepared",
        "Run `{line}`: it makes X and Y of it.",
    ),
    "folder.in-folder": Mistake(
        InputError,
        "{path} is a folder",
        "Put the files themselves into {folder}.",
    ),
    "folder.counts-differ": Mistake(
        InputError,
        "{x_folder} has {x_files}, but {y_folder} has {y_files}",
        "Files pair in order, the first of X with the first of Y: both folders need the same number of files.",
    ),
    # --- every file ---
    "file.unknown-kind": Mistake(
        InputError,
        "{file} is of a kind that is not read",
        "{way} lanfit reads {kinds} files.",
    ),
    "file.unreadable": Mistake(
        InputError,
        "{file} can't be read: {reason}",
        "Check that the file is there, and who may read it.",
    ),
    "file.no-file": Mistake(
        InputError,
        "{file} is a pipe or a device, no file",
        "Put a copy of the data there.",
    ),
    "file.reader-died": Mistake(
        InputError,
        "{file} can't be read: what reads it {how}{last}",
        "It is damaged, or made to do that: open it where it comes from and save it again, or save it as CSV UTF-8.",
    ),
    "file.reader-killed": Mistake(
        InputError,
        "{file} can't be read: what reads it was killed, as the system does when memory runs out",
        "End other programs and start again. If it happens again, use fewer rows or a smaller dtype (uint8, float16).",
    ),
    "file.reader-endless": Mistake(
        InputError,
        "{file} can't be read: it takes far more processor time than a good file of its size needs",
        "It is damaged, or made to do that: open it where it comes from and save it again, or save it as CSV UTF-8.",
    ),
    "file.reader-memory": Mistake(
        InputError,
        "{file} can't be read within {limit} of memory",
        "{way}.",
    ),
    "file.rows-differ": Mistake(
        InputError,
        "{file} looks like {expected:row}, but {found} could be read",
        "Look for line breaks inside quotes.",
    ),
    "file.no-rows": Mistake(
        InputError,
        "{file} holds no rows: it has the shape {shape}",
        "The first dimension is the rows.",
    ),
    "file.no-plain-numbers": Mistake(
        InputError,
        "{file} holds values of type {dtype}, not plain numbers",
        "{way}.",
    ),
    "file.larger-than-memory": Mistake(
        InputError,
        "{file} declares an array of shape {shape}, {size}, but {free} of memory are free",
        _LESS,
    ),
    # --- packed files ---
    "packed.damaged": Mistake(
        InputError,
        "{file} can't be read: {reason}",
        "It may be damaged or cut short: copy or pack it again, without password.",
    ),
    "packed.not-one-file": Mistake(
        InputError,
        "{file} holds {count:file}, not one",
        "Pack one csv file into each zip file.",
    ),
    "packed.bomb": Mistake(
        InputError,
        "{file}, {size}, unpacks to more than {ratio:,} times its size",
        "If you trust it, unpack it yourself and put the csv file here.",
    ),
    # --- tables ---
    "columns.not-numbers": Mistake(
        InputError,
        "{file}: {count} of {width:column} do not hold numbers alone: {columns}{names}",
        "Use `{command}`. It proposes: {proposals}; it shows all columns first, and takes corrections.",
    ),
    # --- csv ---
    "csv.no-pandas": Mistake(
        InputError,
        "{file} is a csv file, and reading those needs pandas",
        "Install it: `pip install pandas`.",
    ),
    "csv.no-rows": Mistake(
        InputError,
        "{file} holds no rows",
        "Every line is one row; a first line with names is no row.",
    ),
    "csv.not-text": Mistake(
        InputError,
        "{file} holds zero bytes, so it is no text",
        "Save it as CSV UTF-8: neither UTF-16 without its first mark nor a sheet that was renamed to .csv can be read.",
    ),
    "file.wrong-ending": Mistake(
        InputError,
        "{file} is {what}, not what its ending says",
        "{way}.",
    ),
    "csv.not-utf8": Mistake(
        InputError,
        "{file} is text neither in UTF-8 nor in UTF-16 nor in Windows-1252",
        "Save it as csv in UTF-8.",
    ),
    "csv.endless-line": Mistake(
        InputError,
        "{file} has a line longer than {size}",
        "Every line is one row; check that the line ends were not lost.",
    ),
    "csv.unnamed-column": Mistake(
        InputError,
        "{file}, line {line}: column {column} has no name",
        "The first line names all columns or none. An index that pandas wrote is left out with to_csv(index=False), or "
        "by `lanfit prepare`.",
    ),
    "csv.uneven-line": Mistake(
        InputError,
        "{file}, line {line} has {found:cell}, the first line {expected}",
        _CSV,
    ),
    "csv.many-columns": Mistake(
        InputError,
        "{file}, line {line} has {width:,cell}, and a row of text has {most:,} at most",
        "Is one row meant for each line, and not all in one line? So long rows are read fast from an npz file: "
        "`numpy.savez`.",
    ),
    "csv.not-a-number": Mistake(
        InputError,
        '{file}, line {line}, column {column}: "{cell}" is not a number{names}',
        "{way}.",
    ),
    "csv.ambiguous": Mistake(
        InputError,
        '{file}, line {line}, column {column}: "{cell}" can be {one} or {other}',
        "Say which: --decimal {sign} reads {one}, --thousands {sign} reads {other}.",
    ),
    "csv.thousands": Mistake(
        InputError,
        '{file}, line {line}, column {column}: "{cell}" has thousands separators',
        "Say so with --thousands {sign}, which counts for all files of X and Y, or write the numbers without them.",
    ),
    "csv.missing": Mistake(
        InputError,
        '{file}, line {line}, column {column}: "{cell}" marks a missing value',
        "Every cell needs a value. {way}.",
    ),
    "csv.empty-cell": Mistake(
        InputError,
        "{file}, line {line}, column {column}: the cell is empty",
        "Every cell needs a value. {way}.",
    ),
    "csv.quotes": Mistake(
        InputError,
        "{file} has a quote that does not end, or stands where none may be: {reason}",
        'A cell that begins with " ends with "; a " inside it is written twice.',
    ),
    "csv.unreadable": Mistake(
        InputError,
        "{file} can't be read as a csv file: {reason}",
        _CSV,
    ),
    # --- xlsx ---
    "xlsx.no-reader": Mistake(
        InputError,
        "{file} is an xlsx file, and reading those needs python-calamine",
        "Install it: `pip install python-calamine`.",
    ),
    "xlsx.damaged": Mistake(
        InputError,
        "{file} can't be read as an xlsx file: {reason}",
        "It may be cut short, protected by a password, or of an older kind: open it and save it as .xlsx again.",
    ),
    "xlsx.bomb": Mistake(
        InputError,
        "{file} unpacks to more than {ratio} times its size, which no honest sheet does",
        "If you trust it, save it as csv.",
    ),
    "xlsx.larger-than-memory": Mistake(
        InputError,
        "{file} unpacks to {unpacked} and needs up to {factor} times that, {size}, but {free} of memory are free",
        "Use fewer rows, save it as csv, or use a machine with more memory.",
    ),
    "xlsx.stray-cell": Mistake(
        InputError,
        "{file} ({sheet}) reaches to cell {last}: {cells:,cell} take {size}, but {free} of memory are free",
        "Delete stray cells behind the table, or save the sheet as csv.",
    ),
    "xlsx.empty-sheet": Mistake(
        InputError,
        "{file} holds no rows: its first sheet is empty",
        "Put the data on the first sheet.",
    ),
    "xlsx.only-names": Mistake(
        InputError,
        "{file} holds no rows: its first sheet has names only",
        "Put the rows below the names, on the first sheet.",
    ),
    "xlsx.unnamed-column": Mistake(
        InputError,
        "{cell}: the column has no name",
        "Names stand in one line, in a cell for each column, none of them merged; nothing stands above them. "
        "An index that pandas wrote is left out with to_excel(index=False), or by `lanfit prepare`.",
    ),
    "xlsx.not-a-number": Mistake(
        InputError,
        '{cell}: "{text}" is not a number{names}',
        "{way}.",
    ),
    "xlsx.missing": Mistake(
        InputError,
        '{cell}: "{text}" marks a missing value',
        "Every cell needs a value. {way}.",
    ),
    "xlsx.not-computed": Mistake(
        InputError,
        "{file}, cell {cell}: the formula was never computed",
        "Open the file in Excel or LibreOffice and save it: programs such as XlsxWriter and openpyxl write formulas "
        "without their values.",
    ),
    "xlsx.empty-cell": Mistake(
        InputError,
        "{cell}: the cell is empty",
        "Merged cells have a value in the first only. {way}.",
    ),
    "xlsx.date": Mistake(
        InputError,
        "{cell}: {date} is a date or time, not a number",
        "{way}.",
    ),
    # --- parquet and feather ---
    "frame.no-reader": Mistake(
        InputError,
        "{file} is a {kind} file, and reading those needs pyarrow",
        "Install it, `pip install pyarrow`, or save the table as csv: "
        '`pandas.read_{kind}("x.{kind}").to_csv("x.csv", index=False)`.',
    ),
    "frame.damaged": Mistake(
        InputError,
        "{file} can't be read: {reason}",
        "It may be damaged or cut short: copy or save it again.",
    ),
    "frame.not-numbers": Mistake(
        InputError,
        "{file} has columns that hold no numbers: {columns}",
        "Make numbers of them, e.g. with pandas.get_dummies, or leave them out.",
    ),
    "frame.missing": Mistake(
        InputError,
        '{file}, row {row}, column "{column}": the value is missing; the column has {count} such rows',
        "Every cell needs a value: fill the gaps, or leave the rows out.",
    ),
    # --- npz ---
    "npz.damaged": Mistake(
        InputError,
        "{file} can't be read as an {kind} file: {reason}",
        "It may be damaged or cut short: copy or save it again (numpy.savez).",
    ),
    "npz.no-array": Mistake(
        InputError,
        "{file} holds no array",
        'Save one array into it: numpy.savez("x.npz", x).',
    ),
    "npz.several-arrays": Mistake(
        InputError,
        "{file} holds {count} arrays: {arrays}",
        _NPZ,
    ),
    "npz.no-such-array": Mistake(
        InputError,
        '{file} does not hold one array "{key}", but {arrays}',
        "Give --npz-key one of these names.",
    ),
    "npz.wrong-key": Mistake(
        InputError,
        '"{key}" does not name arrays',
        "Give --npz-key one name, or X_NAME,Y_NAME.",
    ),
    "npz.pickled": Mistake(
        InputError,
        "{file} holds pickled Python objects, which lanfit never loads",
        "In Python, save plain numbers, `numpy.stack(list(x))`, or text, `x.astype(str)`; rows of unequal length have "
        "to be padded first.",
    ),
    "npz.structured": Mistake(
        InputError,
        "{file} holds an array with named fields: {fields}",
        "Save plain numbers: `numpy.lib.recfunctions.structured_to_unstructured(x)`.",
    ),
    "npz.sparse": Mistake(
        InputError,
        "{file} holds a sparse matrix, as scipy.sparse writes it",
        'Save it with all its zeros: `numpy.savez("{name}", scipy.sparse.load_npz("{name}").toarray())`.',
    ),
    "npz.no-rows": Mistake(
        InputError,
        "{file} holds no rows: its array has the shape {shape}",
        "The first dimension is the rows.",
    ),
}
