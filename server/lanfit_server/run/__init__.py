"""A run: the engine decides (pure), the shell acts."""

from lanfit.errors import register
from lanfit_server.run.errors import ERRORS

register(ERRORS)
