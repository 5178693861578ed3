"""What pyarrow reads: parquet and feather files, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lanfit.data.chunks import unreadable
from lanfit.errors import lanfit_error


def convert(path: Path, into: Path) -> None:
    """Write the columns as an Arrow file, which needs no decompressing and no decoding.

    Raises:
        InputError: pyarrow is missing, or the file can't be read.
    """
    pyarrow, _, _ = readers(path)
    table = read_table(path)
    with pyarrow.OSFile(str(into), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def readers(path: Path) -> tuple[Any, Any, Any]:
    try:
        import pyarrow
        from pyarrow import feather, parquet
    except ImportError as error:
        raise lanfit_error("frame.no-reader", file=path, kind=path.suffix.lower().removeprefix(".")) from error
    return pyarrow, feather, parquet


def read_table(path: Path) -> Any:
    pyarrow, feather, parquet = readers(path)
    read = parquet.read_table if path.suffix.lower() == ".parquet" else feather.read_table
    try:
        return read(str(path))
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise unreadable(path, error) from error
    except MemoryError:  # as some of theirs are
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise lanfit_error("frame.damaged", file=path, reason=reason) from error
