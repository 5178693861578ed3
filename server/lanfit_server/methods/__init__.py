"""Methods: how a model is trained on many machines. `registry.METHODS` has all of them."""

from lanfit.errors import register
from lanfit_server.methods.errors import ERRORS

register(ERRORS)
