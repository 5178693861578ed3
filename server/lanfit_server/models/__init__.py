"""The models of a workspace, and the process that loads and evaluates them."""

from lanfit.errors import register
from lanfit_server.models.errors import ERRORS

register(ERRORS)
