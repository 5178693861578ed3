"""The errors of blocks on disk; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, LanfitError

ERRORS: Mapping[str, ErrorText] = {
    "disk.full": ErrorText(
        LanfitError,
        "the disk is full: {file} needs {size:,byte}",
        "Free some disk space, then start again.",
    ),
}
