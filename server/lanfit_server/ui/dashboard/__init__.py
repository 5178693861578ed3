"""The live page: a web server inside the server process that shows runs and takes requests. See its `app.py`."""

from lanfit.errors import register
from lanfit_server.ui.dashboard.errors import ERRORS

register(ERRORS)
