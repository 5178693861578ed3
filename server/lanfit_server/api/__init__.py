"""The Python interface: `lanfit.Cluster` and `lanfit.attach`. Runs in the user's program, beside Keras.

It decides nothing about runs: the service process does, with what the command line uses.
"""

from lanfit.errors import register
from lanfit_server.api.errors import ERRORS

register(ERRORS)
