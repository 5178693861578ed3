"""Convert a user's table or images to `dataset/`, and back: `lanfit prepare` and `lanfit predict`."""

from lanfit.errors import register
from lanfit_server.prepare_data.errors import ERRORS

register(ERRORS)
