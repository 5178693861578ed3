"""What everything else is built on: text, files, processes, the terminal, the clock."""

from lanfit.core.errors import ERRORS
from lanfit.errors import register

register(ERRORS)
