"""The data of a run: read in a process of its own, surveyed at clients, partitioned."""

from lanfit.errors import register
from lanfit_server.data.errors import ERRORS

register(ERRORS)
