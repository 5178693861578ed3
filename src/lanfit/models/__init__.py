"""Steps 1 and 6: load a model without executing its code, take it apart, write it so that plain Keras can load it."""

from lanfit.errors import register
from lanfit.models.errors import ERRORS

register(ERRORS)
