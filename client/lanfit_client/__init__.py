"""A client machine: joins, trains, returns the model."""

from lanfit.errors import register
from lanfit_client.errors import ERRORS

register(ERRORS)
