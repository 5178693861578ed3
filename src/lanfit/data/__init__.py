"""Steps 1 and 2 of the way of the data: read files, pair and check rows, split, normalize. No network, no Keras."""

from lanfit.data.errors import ERRORS
from lanfit.errors import register

register(ERRORS)
