"""From the command line to a run: flags, prompts, job files, demo and simulation."""

from lanfit.errors import register
from lanfit_server.start.errors import ERRORS

register(ERRORS)
