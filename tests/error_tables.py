"""The tables of all errors, as the documents have them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from error_texts import ERRORS, TABLES

__all__ = ["ERRORS", "TABLES"]
